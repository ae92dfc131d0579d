// Target texts: canonical, readable back, complete; and compilers take the flags.
#include "target/target.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "base/process.h"
#include "target/compiler.h"
#include "target/features.h"

namespace toroid {
namespace {

std::string canonical(std::string_view text) {
  auto target = Target::parse(text);
  return target ? target->text() : target.error().text;
}

TEST(Target, TextsAreCanonical) {
  EXPECT_EQ(canonical("x86-64"), "x86-64");
  EXPECT_EQ(canonical("x86-64-v4+bf16+vnni"), "x86-64-v4+vnni+bf16");
  EXPECT_EQ(canonical("x86-64-v4+avx2+vnni+vnni"), "x86-64-v4+vnni");
  EXPECT_EQ(canonical("x86-64-v3+avx512vl"), "x86-64-v3+avx512f+avx512vl");
  EXPECT_EQ(canonical("x86-64-v3+avx512bw+avx512cd+avx512dq+avx512vl"), "x86-64-v4");
  EXPECT_EQ(canonical("x86-64+avx2"), "x86-64+sse3+ssse3+sse4.1+sse4.2+avx+avx2");
  EXPECT_EQ(canonical("x86-64-v4+amx-int8"), "x86-64-v4+amx-tile+amx-int8");
  for (const FeatureRow& row : feature_table) {
    std::string text = canonical("x86-64-v2+" + std::string(row.name));
    EXPECT_EQ(canonical(text), text);
    EXPECT_TRUE(Target::parse(text)->has(row.name)) << text;
  }
}

TEST(Target, WrongTextsSayWhatIsKnown) {
  auto base = Target::parse("znver4");
  ASSERT_FALSE(base);
  EXPECT_EQ(base.error().to_string(),
            "error: bad_option: unknown target `znver4`\n"
            "  a target is `native`, or BASE[+feature...], such as x86-64-v4+vnni+bf16\n"
            "  BASE is one of: x86-64 x86-64-v2 x86-64-v3 x86-64-v4");
  EXPECT_EQ(canonical("x86-64-v3+avx9"), "unknown feature `avx9` in target `x86-64-v3+avx9`");
  EXPECT_EQ(canonical("x86-64-v3+"), "unknown feature `` in target `x86-64-v3+`");
  EXPECT_EQ(canonical(""), "unknown target ``");
}

TEST(Target, LanesAndFeatures) {
  EXPECT_EQ(Target::parse("x86-64-v2")->lanes(), 4);
  EXPECT_EQ(Target::parse("x86-64-v3")->lanes(), 8);
  EXPECT_EQ(Target::parse("x86-64-v4")->lanes(), 16);
  // Vectors of a length need more than the one feature that has their registers.
  EXPECT_EQ(Target::parse("x86-64-v2+avx2")->lanes(), 4);
  EXPECT_EQ(Target::parse("x86-64-v2+avx2+fma+f16c")->lanes(), 8);
  EXPECT_EQ(Target::parse("x86-64-v3+avx512f+avx512bw")->lanes(), 8);
  Target v3 = *Target::parse("x86-64-v3");
  EXPECT_TRUE(v3.has("fma") && v3.has("f16c") && !v3.has("avx512f") && !v3.has("nonsense"));
  std::vector<std::string> names = v3.cpuid_features();
  EXPECT_EQ(names.size(), 16u);
  EXPECT_TRUE(std::ranges::count(names, "movbe"));
  EXPECT_EQ(v3.microarchitecture(), "generic");
}

TEST(Target, HostReadsBackAndRunsHere) {
  Target host = Target::host();
  EXPECT_TRUE(host.runs_here());
  EXPECT_EQ(*Target::parse("native"), host);
  EXPECT_EQ(*Target::parse(host.text()), host);
  EXPECT_GE(host.caches().l1d, 8 << 10);
  EXPECT_GE(host.caches().l2, 64 << 10);
  // The kernel's own reading of CPUID.
  std::string info = *read_file("/proc/cpuinfo");
  EXPECT_EQ(host.has("avx512f"), info.find(" avx512f") != std::string::npos);
  EXPECT_EQ(host.has("vnni"), info.find(" avx512_vnni") != std::string::npos);
  EXPECT_EQ(host.has("bf16"), info.find(" avx512_bf16") != std::string::npos);
  EXPECT_EQ(host.has("amx-tile"), info.find(" amx_tile") != std::string::npos);
  EXPECT_EQ(host.has("fma"), info.find(" fma ") != std::string::npos);
}

// Both compilers must know every flag, and mean the same features by it.
TEST(Target, CompilersTakeTheFlags) {
  std::string all = "x86-64-v4";
  for (const FeatureRow& row : feature_table) {
    if (row.level == 0) all += "+" + std::string(row.name);
  }
  for (const char* name : {"g++", "clang++-19"}) {
    auto compiler = find_compiler(name, "/usr/local/bin:/usr/bin:/bin");
    if (!compiler) continue;
    for (const std::string& text :
         {std::string("x86-64"), std::string("x86-64-v2+f16c"), std::string("x86-64-v3"), all}) {
      Target target = *Target::parse(text);
      Fd out = *scratch_file("macros");
      std::vector<std::string> args = {compiler->path};
      for (const std::string& flag : target.compiler_flags(compiler->kind)) args.push_back(flag);
      args.insert(args.end(), {"-Werror", "-x", "c++", "-dM", "-E", "-"});
      auto end = run_process({.args = args, .stdout_fd = out.get()}, tool_environment(), CancelToken());
      ASSERT_EQ(end->exit_code, 0) << name << " " << text << ": " << end->error_text;
      std::string macros = *read_fd(out.get(), "macros");
      auto defined = [&](const char* macro) { return macros.find(macro) != std::string::npos; };
      EXPECT_EQ(defined("__AVX2__ 1"), target.has("avx2")) << name << " " << text;
      EXPECT_EQ(defined("__FMA__ 1"), target.has("fma")) << name << " " << text;
      EXPECT_EQ(defined("__F16C__ 1"), target.has("f16c")) << name << " " << text;
      EXPECT_EQ(defined("__AVX512VL__ 1"), target.has("avx512vl")) << name << " " << text;
      EXPECT_EQ(defined("__AVX512VNNI__ 1"), target.has("vnni")) << name << " " << text;
      EXPECT_EQ(defined("__AMX_BF16__ 1"), target.has("amx-bf16")) << name << " " << text;
    }
  }
}

}  // namespace
}  // namespace toroid
