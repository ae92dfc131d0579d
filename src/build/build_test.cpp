// The job graph, with tools in memory: order, sharing, limits, failures, stopping.
#include "build/build.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "base/file.h"

namespace toroid::build {
namespace {

// Objects are the texts in brackets. A text with `wait` takes until it is cancelled or `open` is set.
class FakeTools : public Tools {
 public:
  std::string identity() override { return compiler; }
  std::vector<std::string> flags(const Unit& unit) override { return unit.flags; }
  std::vector<std::string> flags(const LinkUnit& unit) override { return unit.libraries; }
  Result<std::string> compile(const Unit& unit, const CancelToken& cancel) override {
    int now = ++running;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    {
      std::lock_guard lock(mutex);
      order.push_back(unit.name);
    }
    if (unit.text.find("slow") != std::string::npos) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    while (unit.text.find("wait") != std::string::npos && !cancel.cancelled() && !open)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    --running;
    TD_CHECK_OK(cancel.check());
    if (unit.text.find("bad") != std::string::npos)
      return fail(Kind::compiler_failed, "cannot compile `{}`", unit.name);
    TD_CHECK(unit.text.find("broken") == std::string::npos, "a broken invariant in {}", unit.name);
    return "[" + unit.text + "]";
  }
  Result<std::string> link(const LinkUnit& unit, const CancelToken&) override {
    std::string out = unit.version_script;
    for (const auto& object : unit.objects) out += *object;
    return out;
  }

  std::string compiler = "fake 1";
  std::atomic<int> running = 0, most = 0;
  std::atomic<bool> open = false;
  std::mutex mutex;
  std::vector<std::string> order;
};

Unit unit(const std::string& name, const std::string& text) {
  return {.name = name, .text = text, .target = {}, .flags = {}};
}

struct BuildTest : testing::Test {
  FakeTools tools;
  TempFolder folder = *TempFolder::create();
  ObjectCache cache{{.folder = folder.path() + "/cache"}};
};

TEST_F(BuildTest, LinksOutputsInOrder) {
  Build build(tools, nullptr, {.jobs = 3});
  JobId a = build.compile(unit("a", "slow a")), b = build.compile(unit("b", "b"));
  std::atomic<bool> packed = false;
  JobId pack = build.run("pack", [&](const CancelToken&) -> Status {
    packed = true;
    return {};
  });
  LinkUnit link{.name = "m"};
  link.version_script = "v:";
  link.objects = {std::make_shared<const std::string>("abi")};
  JobId m = build.link(link, {a, pack, b});
  ASSERT_TRUE(build.wait());
  EXPECT_TRUE(packed);
  EXPECT_EQ(**build.output(m), "v:abi[slow a][b]");
  EXPECT_EQ(**build.output(b), "[b]");
  std::vector<JobTime> times = build.times();
  ASSERT_EQ(times.size(), 4u);
  EXPECT_EQ(times[0].name, "a");
  EXPECT_STREQ(times[0].how, "compiled");
  EXPECT_GE(times[0].milliseconds, 5);
  EXPECT_STREQ(times[2].how, "ran");
  EXPECT_STREQ(times[3].how, "linked");
}

TEST_F(BuildTest, EqualUnitsAreCompiledOnce) {
  Build build(tools, nullptr, {.jobs = 2});
  JobId a = build.compile(unit("a", "slow x")), b = build.compile(unit("b", "slow x"));
  Unit other = unit("c", "slow x");
  other.flags = {"-O3"};
  JobId c = build.compile(other);
  ASSERT_TRUE(build.wait());
  EXPECT_EQ(*build.output(a), *build.output(b));
  EXPECT_NE(*build.output(a), *build.output(c));
  EXPECT_EQ(tools.order.size(), 2u);
  EXPECT_STREQ(build.times()[1].how, "same");
  EXPECT_EQ(build.cache_lines(), std::vector<std::string>{"same b: as a"});
}

TEST_F(BuildTest, SecondBuildTakesAllFromTheCache) {
  auto lines = [&](const std::string& text, const std::string& version, const Target& target) {
    Build build(tools, &cache, {.jobs = 2, .version = version});
    Unit one = unit("m/k0", text);
    one.target = target;
    JobId k0 = build.compile(one), k1 = build.compile(unit("m/k1", "b"));
    build.link({.name = "m.so"}, {k0, k1});
    EXPECT_TRUE(build.wait());
    EXPECT_EQ(**build.output(k0), "[" + text + "]");
    return build.cache_lines();
  };
  using Lines = std::vector<std::string>;
  Target v2 = *Target::parse("x86-64-v2");
  EXPECT_EQ(lines("a", "1", {}), (Lines{"miss m/k0: nothing under this name", "miss m/k1: nothing under this name",
                                        "miss m.so: nothing under this name"}));
  size_t compiled = tools.order.size();
  EXPECT_EQ(lines("a", "1", {}), (Lines{"hit  m/k0", "hit  m/k1", "hit  m.so"}));
  EXPECT_EQ(tools.order.size(), compiled);
  EXPECT_EQ(lines("c", "1", {}), (Lines{"miss m/k0: text changed", "hit  m/k1", "miss m.so: text changed"}));
  EXPECT_EQ(lines("c", "1", v2), (Lines{"miss m/k0: target changed", "hit  m/k1", "hit  m.so"}));
  EXPECT_EQ(lines("c", "2", v2),
            (Lines{"miss m/k0: version changed", "miss m/k1: version changed", "miss m.so: version changed"}));
  tools.compiler = "fake 2";
  EXPECT_EQ(lines("c", "2", v2),
            (Lines{"miss m/k0: compiler changed", "miss m/k1: compiler changed", "miss m.so: compiler changed"}));
}

TEST_F(BuildTest, NeverMoreAtOnceThanAllowed) {
  for (int jobs : {1, 3}) {
    tools.most = 0;
    Build build(tools, nullptr, {.jobs = jobs});
    for (int i = 0; i < 12; ++i) build.compile(unit(std::to_string(i), "slow " + std::to_string(i)));
    ASSERT_TRUE(build.wait());
    EXPECT_EQ(tools.most, jobs);
  }
}

TEST_F(BuildTest, TheLongestReadyJobStartsFirst) {
  Build build(tools, nullptr, {.jobs = 1});
  JobId gate = build.compile(unit("gate", "wait"));
  while (tools.running == 0) std::this_thread::yield();
  build.compile(unit("short", "s"));
  build.compile(unit("long", std::string(5000, 'l')));
  build.compile(unit("short2", "t"));
  build.compile(unit("middle", std::string(1000, 'm')));
  tools.open = true;
  ASSERT_TRUE(build.wait());
  EXPECT_EQ(tools.order, (std::vector<std::string>{"gate", "long", "middle", "short", "short2"}));
  EXPECT_TRUE(build.output(gate));
}

TEST_F(BuildTest, JobsMayAddJobs) {
  Build build(tools, nullptr, {.jobs = 1});
  JobId inner;
  build.run("outer", [&](const CancelToken&) -> Status {
    inner = build.compile(unit("inner", "x"));
    return {};
  });
  ASSERT_TRUE(build.wait());
  EXPECT_EQ(**build.output(inner), "[x]");
  // And after wait() as well.
  EXPECT_EQ(**build.output(build.compile(unit("late", "y"))), "[y]");
  EXPECT_TRUE(build.wait());
}

TEST_F(BuildTest, FirstFailureStopsTheRest) {
  Build build(tools, nullptr, {.jobs = 2});
  build.compile(unit("hang", "wait"));
  JobId bad = build.compile(unit("bad", "bad"));
  JobId after = build.compile(unit("after", "x"));
  bool ran = false;
  JobId last = build.run("last",
                         [&](const CancelToken&) -> Status {
                           ran = true;
                           return {};
                         },
                         {bad, after});
  Status status = build.wait();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().to_string(), "error: compiler_failed: cannot compile `bad`");
  EXPECT_EQ(build.output(last).error().text, "cannot compile `bad`");
  EXPECT_FALSE(ran);
}

TEST_F(BuildTest, CancelAndDeadline) {
  CancelToken cancel;
  Build build(tools, nullptr, {.jobs = 2, .cancel = &cancel});
  for (int i = 0; i < 4; ++i) build.compile(unit("hang", "wait" + std::to_string(i)));
  while (tools.running == 0) std::this_thread::yield();
  cancel.cancel();
  Status status = build.wait();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().to_string(), "error: cancelled: the caller asked to stop");

  CancelToken limit(nullptr, CancelToken::Clock::now() + std::chrono::milliseconds(20));
  Build late(tools, nullptr, {.jobs = 2, .cancel = &limit});
  late.compile(unit("hang", "wait"));
  EXPECT_EQ(late.wait().error().text, "the deadline passed");
}

TEST_F(BuildTest, ABuildThatIsGivenUpEnds) {
  Build build(tools, nullptr, {.jobs = 2});
  for (int i = 0; i < 4; ++i) build.compile(unit("hang", "wait" + std::to_string(i)));
}

TEST_F(BuildTest, ExceptionsReachTheCaller) {
  Build build(tools, nullptr, {.jobs = 2});
  build.compile(unit("x", "broken"));
  build.compile(unit("hang", "wait"));
  EXPECT_THROW((void)build.wait(), InternalError);
}

TEST_F(BuildTest, ProgressCountsUp) {
  std::vector<int> done;
  int total = 0;
  {
    Build build(tools, nullptr, {.jobs = 3, .progress = [&](int d, int t, const std::string& name) {
                                   done.push_back(d);
                                   total = std::max(total, t);
                                   EXPECT_FALSE(name.empty());
                                 }});
    for (int i = 0; i < 9; ++i) build.compile(unit("k" + std::to_string(i), std::to_string(i)));
    ASSERT_TRUE(build.wait());
  }
  EXPECT_EQ(done, (std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(total, 9);
}

TEST_F(BuildTest, ThrowingProgressReachesTheCaller) {
  Build build(tools, nullptr,
              {.jobs = 2, .progress = [](int, int, const std::string&) { throw std::runtime_error("no"); }});
  build.compile(unit("a", "a"));
  EXPECT_THROW((void)build.wait(), std::runtime_error);
}

TEST_F(BuildTest, SeveralBuildsShareToolsAndCache) {
  std::vector<std::thread> callers;
  std::atomic<int> right = 0;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      Build build(tools, &cache, {.jobs = 2});
      std::vector<JobId> ids;
      for (int i = 0; i < 20; ++i) ids.push_back(build.compile(unit("k" + std::to_string(i), std::to_string(i))));
      bool all = build.wait().has_value();
      for (int i = 0; i < 20; ++i) all = all && **build.output(ids[i]) == "[" + std::to_string(i) + "]";
      right += all;
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(right, 4);
}

}  // namespace
}  // namespace toroid::build
