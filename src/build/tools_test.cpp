// Real compilers: objects, linked models, messages; small sources only.
#include "build/tools.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <filesystem>
#include <thread>

#include "base/file.h"
#include "build/build.h"

namespace toroid::build {
namespace {

const std::string usual_path = "/usr/local/bin:/usr/bin:/bin";

const CancelToken never;
constexpr const char* twice =
    "extern \"C\" __attribute__((visibility(\"default\"))) float twice(float x) { return 2 * x; }\n";

Unit unit(const std::string& name, const std::string& text) {
  return {.name = name, .text = text, .target = {}, .flags = {}};
}

class ToolsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto found = find_compiler(GetParam(), usual_path);
    if (!found) GTEST_SKIP() << found.error().text;
    compiler = *found;
    tools = make_tools(compiler);
  }
  Compiler compiler;
  std::unique_ptr<Tools> tools;
  TempFolder folder = *TempFolder::create();
};

TEST_P(ToolsTest, CompilesLinksAndRuns) {
  auto object = tools->compile(unit("k", twice), never);
  ASSERT_TRUE(object) << object.error().to_string();
  auto boiler =
      tools->compile(unit("b",
                          "extern \"C\" float twice(float); extern \"C\" int getpid();\n"
                          "extern \"C\" __attribute__((visibility(\"default\"))) float model_run(float x) { return "
                          "getpid() > 0 ? twice(x) : 0; }\n"
                          "extern \"C\" __attribute__((visibility(\"default\"))) int hidden_here() { return 1; }\n"),
                     never);
  ASSERT_TRUE(boiler) << boiler.error().to_string();
  LinkUnit link{.name = "m.so"};
  auto kernel = std::make_shared<const std::string>(*object);
  // Twice the same object is no double definition.
  link.objects = {std::make_shared<const std::string>(*boiler), kernel, std::make_shared<const std::string>(*object)};
  link.version_script = "{ global: model_*; local: *; };";
  auto shared = tools->link(link, never);
  ASSERT_TRUE(shared) << shared.error().to_string();
  EXPECT_EQ(*tools->link(link, never), *shared);
  std::string path = folder.path() + "/m.so";
  ASSERT_TRUE(write_file_atomic(path, *shared));
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  auto run = reinterpret_cast<float (*)(float)>(dlsym(handle, "model_run"));
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(run(21), 42);
  EXPECT_EQ(dlsym(handle, "hidden_here"), nullptr);
  dlclose(handle);
}

TEST_P(ToolsTest, BytesDependOnTheTextAlone) {
  std::string first = *tools->compile(unit("one", twice), never);
  EXPECT_EQ(*tools->compile(unit("two", twice), never), first);
  EXPECT_EQ(*make_tools(compiler)->compile(unit("three", twice), never), first);
  // Through the driver or past it.
  EXPECT_EQ(*make_tools(compiler, {.direct = false})->compile(unit("four", twice), never), first);
  setenv("CPLUS_INCLUDE_PATH", "/nonexistent", 1);
  setenv("GCC_COLORS", "error=31", 1);
  EXPECT_EQ(*make_tools(compiler)->compile(unit("five", twice), never), first);
  unsetenv("CPLUS_INCLUDE_PATH");
  for (const char* word : {"/tmp", "GCC: (", "clang version"}) EXPECT_EQ(first.find(word), std::string::npos) << word;
}

TEST_P(ToolsTest, KeepsProductsAndSumsApart) {
  Unit fma = unit("k", "extern \"C\" float f(float a, float b, float c) { return a * b + c; }\n");
  fma.target = *Target::parse("x86-64-v3");
  auto object = tools->compile(fma, never);
  ASSERT_TRUE(object) << object.error().to_string();
  // vmulss: C5 FA 59; no vfmadd, which has C4 E2.
  EXPECT_NE(object->find("\xc5\xfa\x59"), std::string::npos);
  EXPECT_EQ(object->find("\xc4\xe2"), std::string::npos);
}

TEST_P(ToolsTest, SixteenLanesStayOneRegister) {
  Unit wide = unit("k",
                   "typedef float v16 __attribute__((vector_size(64)));\n"
                   "extern \"C\" void f(v16* y, const v16* x) { *y = *x + *x * *x; }\n");
  wide.target = *Target::parse("x86-64-v4");
  auto object = tools->compile(wide, never);
  ASSERT_TRUE(object) << object.error().to_string();
  // EVEX prefix with a length of 512 bits: 62 f1 xx 48.
  size_t evex = 0;
  for (size_t at = 0; (at = object->find("\x62\xf1", at)) != std::string::npos && at + 3 < object->size(); ++at)
    evex += (static_cast<unsigned char>((*object)[at + 3]) & 0x60) == 0x40;
  EXPECT_GE(evex, 3u);
}

TEST_P(ToolsTest, CompilerErrorsAreShown) {
  auto with = make_tools(compiler, {.reproducer_parent = folder.path()});
  auto bad = with->compile(unit("mlp/kernel_3", "int x = 1;\nint y = nowhere;\n"), never);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().kind, Kind::compiler_failed);
  std::string text = bad.error().to_string();
  EXPECT_NE(
      text.find(
          "error: compiler_failed: cannot compile `mlp/kernel_3`: the compiler ended with status 1\n  command: /"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("mlp_kernel_3.cpp:2:9: error: "), std::string::npos) << text;
  EXPECT_NE(text.find("nowhere"), std::string::npos) << text;
  const std::string note = "to run it again: ", last = bad.error().details.back();
  ASSERT_TRUE(last.starts_with(note + folder.path() + "/toroid-failed-compile-")) << text;
  const std::string script = last.substr(note.size());
  ASSERT_TRUE(script.ends_with("/mlp_kernel_3.cpp.sh")) << text;
  EXPECT_EQ(*read_file(script.substr(0, script.size() - 3)), "int x = 1;\nint y = nowhere;\n");
  EXPECT_EQ(WEXITSTATUS(std::system((script + " 2>/dev/null").c_str())), 1);
  // Without a folder nothing is left anywhere, and many lines are cut.
  std::string many;
  for (int i = 0; i < 60; ++i) many += "int y" + std::to_string(i) + " = nowhere;\n";
  bad = tools->compile(unit("k", many), never);
  ASSERT_FALSE(bad);
  EXPECT_LE(bad.error().details.size(), 23u);
  EXPECT_NE(bad.error().to_string().find(" more lines"), std::string::npos);
}

TEST_P(ToolsTest, UnresolvedNamesFailTheLink) {
  auto object = tools->compile(unit("k",
                                    "extern \"C\" int nowhere(); extern \"C\" int f() { return nowhere(); }\n"
                                    "extern \"C\" __attribute__((visibility(\"default\"))) int g() { return f(); }\n"),
                               never);
  ASSERT_TRUE(object) << object.error().to_string();
  LinkUnit link{.name = "m.so"};
  link.objects = {std::make_shared<const std::string>(*object)};
  auto shared = tools->link(link, never);
  ASSERT_FALSE(shared);
  EXPECT_NE(shared.error().to_string().find("nowhere"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Compilers, ToolsTest, testing::Values("g++", "clang++-19"), [](const auto& info) {
  return std::string(info.param).substr(0, 1) == "g" ? "gcc" : "clang";
});

struct ScriptedCompiler : testing::Test {
  TempFolder folder = *TempFolder::create();
  // A compiler that does as it is told after it has answered to --version.
  Compiler compiler(const std::string& script) {
    std::string path = folder.path() + "/g++";
    EXPECT_TRUE(write_file_atomic(
        path, "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'g++ (GCC) 12'; exit; fi\n" + script + "\n", false,
        0755));
    return *find_compiler(path, usual_path);
  }
};

TEST_F(ScriptedCompiler, FallsBackToTheDriver) {
  // -### answers nonsense: the driver itself compiles.
  auto real = find_compiler("g++", usual_path);
  if (!real) GTEST_SKIP() << real.error().text;
  auto tools = make_tools(
      compiler("if [ \"$1\" = -### ]; then echo ' /bin/false -' >&2; exit; fi; exec " + real->path + " \"$@\""));
  auto object = tools->compile(unit("k", twice), never);
  ASSERT_TRUE(object) << object.error().to_string();
  EXPECT_EQ(*object, *make_tools(*real)->compile(unit("k", twice), never));
}

TEST_F(ScriptedCompiler, KilledOrSilentCompilersAreReported) {
  auto killed = make_tools(compiler("kill -11 $$"))->compile(unit("k", twice), never);
  ASSERT_FALSE(killed);
  EXPECT_EQ(killed.error().text, "cannot compile `k`: the compiler was ended by signal 11 (Segmentation fault)");
  auto silent = make_tools(compiler("exit 0"))->compile(unit("k", twice), never);
  ASSERT_FALSE(silent);
  EXPECT_EQ(silent.error().text, "cannot compile `k`: the compiler said nothing and wrote no object");
}

TEST_F(ScriptedCompiler, CancelKillsRunningCompilers) {
  Compiler slow = compiler("[ \"$1\" = -### ] && exit 1; echo $$ >> " + folder.path() + "/pids; sleep 1000; exit 0");
  auto tools = make_tools(slow);
  CancelToken cancel;
  Build build(*tools, nullptr, {.jobs = 2, .cancel = &cancel});
  build.compile(unit("a", "int a;"));
  build.compile(unit("b", "int b;"));
  auto pids = [&] {
    auto text = read_file(folder.path() + "/pids");
    return split(trim(text ? *text : ""), '\n');
  };
  for (int i = 0; i < 500 && pids().size() < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_EQ(pids().size(), 2u);
  cancel.cancel();
  auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(build.wait().error().kind, Kind::cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  for (const std::string& pid : pids()) EXPECT_FALSE(std::filesystem::exists("/proc/" + pid)) << pid;
}

TEST(DriverPlan, ReadsQuotedWords) {
  auto plan = parse_driver_plan(
      "Using built-in specs.\nTarget: x\n /usr/cc1plus -quiet \"-std=c++17\" \"a b\" c\\\\d - |\n as -o x\n");
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0], (std::vector<std::string>{"/usr/cc1plus", "-quiet", "-std=c++17", "a b", "c\\d", "-", "|"}));
  EXPECT_EQ(plan[1], (std::vector<std::string>{"as", "-o", "x"}));
  EXPECT_TRUE(parse_driver_plan("").empty());
}

}  // namespace
}  // namespace toroid::build
