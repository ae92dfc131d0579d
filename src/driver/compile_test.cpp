// The public entry: packages in memory, many threads, cancelling, deadlines, steps by name.
#include "toroid/compiler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <thread>

#include "base/file.h"

namespace toroid {
namespace {

const char* const text =
    "graph @double(%x: f32[s0]) where 1 <= s0 <= 64 {\n"
    "  %0 = aten.add.Tensor(%x, %x, 1) : f32[s0]\n"
    "  return %0\n"
    "}\n";

struct CompileTest : testing::Test {
  void SetUp() override {
    std::ofstream(path) << text;
    options.target = "x86-64";
    options.temporary_folder = folder.path();
  }
  TempFolder folder = *TempFolder::create();
  std::string path = folder.path() + "/double.graph";
  CompileOptions options;
};

TEST_F(CompileTest, GivesAPackageThatIsTheSameEveryTime) {
  auto first = compile(path, options), second = compile(path, options);
  ASSERT_TRUE(first) << first.error().to_string();
  ASSERT_TRUE(second) << second.error().to_string();
  ASSERT_EQ(first->size(), second->size());
  EXPECT_EQ(std::memcmp(first->data(), second->data(), first->size()), 0);
  EXPECT_EQ(first->target(), "x86-64");
  std::string saved = folder.path() + "/m.pt2";
  ASSERT_TRUE(first->save(saved));
  EXPECT_EQ(std::filesystem::file_size(saved), first->size());
  auto refused = first->save(folder.path() + "/nowhere/m.pt2");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, "io");
}

TEST_F(CompileTest, RunsOnManyThreadsAtOnce) {
  std::vector<std::string> wrong(4);
  std::vector<std::thread> threads;
  for (std::string& out : wrong) {
    threads.emplace_back([&] {
      auto package = compile(path, options);
      if (!package) out = package.error().to_string();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& out : wrong) EXPECT_EQ(out, "");
}

TEST_F(CompileTest, StopsWhenAskedTo) {
  options.cancel.cancel();
  auto package = compile(path, options);
  ASSERT_FALSE(package);
  EXPECT_EQ(package.error().kind, "cancelled");
}

TEST_F(CompileTest, StopsInTheMiddle) {
  Cancellation cancel;
  options.cancel = cancel;
  options.progress = [&](const Progress& progress) {
    if (progress.step == "fuse") cancel.cancel();
  };
  auto package = compile(path, options);
  ASSERT_FALSE(package);
  EXPECT_EQ(package.error().kind, "cancelled");
}

TEST_F(CompileTest, KeepsItsDeadline) {
  options.deadline_seconds = 1e-6;
  auto package = compile(path, options);
  ASSERT_FALSE(package);
  EXPECT_EQ(package.error().kind, "cancelled");
}

TEST_F(CompileTest, TellsTimesAndDumpsEveryStage) {
  std::vector<std::string> steps;
  options.time = [&](const StepTime& time) {
    if (time.detail.empty()) steps.push_back(time.step);
  };
  options.dump_folder = folder.path() + "/dump";
  ASSERT_TRUE(compile(path, options));
  std::vector<std::string> expected = step_names();
  expected.erase(expected.begin());  // a graph's text needs no import
  EXPECT_EQ(steps, expected);
  for (const char* file :
       {"02-lower.loops", "04-fuse.schedule", "05-plan.plan", "06-emit/wrapper.cpp", "06-emit/k0.cpp"}) {
    EXPECT_TRUE(std::filesystem::exists(options.dump_folder + "/" + file)) << file;
  }
}

TEST_F(CompileTest, StagesByName) {
  auto loops = compile_stages(path, "", "loops", options);
  ASSERT_TRUE(loops) << loops.error().to_string();
  EXPECT_NE(loops->text.find("loops @double"), std::string::npos);
  std::string file = folder.path() + "/double.loops";
  std::ofstream(file) << loops->text;
  auto schedule = compile_stages(file, "lower", "fuse", options);
  ASSERT_TRUE(schedule) << schedule.error().to_string();
  EXPECT_NE(schedule->text.find("kernel @k0"), std::string::npos);
  auto backwards = compile_stages(file, "loops", "graph", options);
  ASSERT_FALSE(backwards);
  EXPECT_EQ(backwards.error().kind, "bad_option");
  options.skip = {"lower"};
  auto needed = compile_stages(path, "", "", options);
  ASSERT_FALSE(needed);
  EXPECT_EQ(needed.error().kind, "bad_option");
}

TEST(EvaluateSize, ReadsWhatSignaturesSay) {
  EXPECT_EQ(*evaluate_size("2*s0 + 1", {{"s0", 5}}), 11);
  EXPECT_EQ(*evaluate_size("min(s0, 8)//3", {{"s0", 20}}), 2);
  EXPECT_FALSE(evaluate_size("s1", {{"s0", 5}}));
  EXPECT_FALSE(evaluate_size("2*", {}));
  EXPECT_FALSE(evaluate_size("1 // 0", {}));
}

TEST_F(CompileTest, WhatACallbackThrowsIsAnError) {
  struct Odd {};
  const std::function<void()> throwing[] = {[] { throw std::runtime_error("enough"); }, [] { throw Odd(); }};
  for (const auto& thrower : throwing) {
    for (const std::string name : {"import", "lower", "build"}) {
      options.progress = [&](const Progress& progress) {
        if (progress.step == name || name == "import") thrower();
      };
      auto package = compile(path, options);
      ASSERT_FALSE(package) << name;
      EXPECT_EQ(package.error().kind, "cancelled");
      EXPECT_TRUE(package.error().text.starts_with("the function for `progress` threw")) << package.error().text;
    }
    options.progress = nullptr;
    options.time = [&](const StepTime&) { thrower(); };
    EXPECT_EQ(compile(path, options).error().kind, "cancelled");
    options.time = nullptr;
  }
}

TEST_F(CompileTest, NonsenseIsRefusedBeforeAnythingIsDone) {
  const std::function<void(CompileOptions&)> changes[] = {
      [](CompileOptions& o) {
        o.explain = {"fuse", "bogus"};
      },
      [](CompileOptions& o) { o.deadline_seconds = -1; },
      [](CompileOptions& o) { o.deadline_seconds = std::nan(""); },
      [](CompileOptions& o) { o.stop_after = -1; },
      [](CompileOptions& o) { o.threads = -1; },
      [](CompileOptions& o) { o.jobs = -1; },
      [](CompileOptions& o) { o.cache_bytes = 0; },
  };
  for (const auto& change : changes) {
    CompileOptions changed = options;
    change(changed);
    auto package = compile("/nowhere/m.pt2", changed);
    ASSERT_FALSE(package);
    EXPECT_EQ(package.error().kind, "bad_option") << package.error().text;
  }
}

TEST_F(CompileTest, ACacheThatCannotBeWrittenToIsSaid) {
  options.cache_folder = path + "/below/a/file";
  std::vector<std::string> warnings;
  options.warning = [&](std::string_view line) { warnings.emplace_back(line); };
  auto package = compile(path, options);
  ASSERT_TRUE(package) << package.error().to_string();
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_TRUE(warnings[0].starts_with("no cache: ")) << warnings[0];
  EXPECT_NE(package->summary().find(warnings[0]), std::string::npos) << package->summary();
}

TEST(Printable, TextStaysAndTheRestIsEscaped) {
  for (const char* text : {"", "plain `text`", "caf\u00e9 \u20ac \U0001f600", "a\tb"}) EXPECT_EQ(printable(text), text);
  EXPECT_EQ(printable("a\n\x1b[31m\x7f"), "a\\x0a\\x1b[31m\\x7f");
  // Cut, overlong, a surrogate, beyond Unicode, a control character of two bytes.
  EXPECT_EQ(printable("\xc3"), "\\xc3");
  EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");
}

}  // namespace
}  // namespace toroid
