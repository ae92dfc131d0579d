// The texts of schedule and plan: reading a print gives the same text, and every kernel's source stays the same.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "emit/cpu/kernel.h"
#include "fuse/fuse.h"
#include "lower/lower.h"
#include "plan/plan.h"

namespace toroid {
namespace {

Target test_target() { return *Target::parse("x86-64-v4"); }

// What stands between the comments and the expectation of a stage-text test.
std::string input_of(const std::filesystem::path& file) {
  std::string text = *read_file(file.string());
  return text.substr(0, text.find("--- expect"));
}

Result<Schedule> schedule_of(const std::string& text) {
  if (text.find("\nloops @") != std::string::npos) {
    TD_TRY(Loops loops, parse_loops(text));
    return fuse::fuse_loops(std::move(loops), test_target(), {});
  }
  TD_TRY(Graph graph, parse_graph(text));
  TD_TRY(Loops loops, lower_graph(graph));
  return fuse::fuse_loops(std::move(loops), test_target(), {});
}

void expect_same_sources(const Schedule& a, const Schedule& b) {
  ASSERT_EQ(a.kernels.size(), b.kernels.size());
  for (size_t k = 0; k < a.kernels.size(); ++k)
    EXPECT_EQ(emit::emit_kernel(a, a.kernels[k], test_target()).text,
              emit::emit_kernel(b, b.kernels[k], test_target()).text)
        << a.kernels[k].name;
}

void expect_round_trip(const std::string& text) {
  auto schedule = schedule_of(text);
  ASSERT_TRUE(schedule) << schedule.error().to_string();
  const std::string printed = print_schedule(*schedule);
  auto again = parse_schedule(printed);
  ASSERT_TRUE(again) << again.error().to_string() << "\n" << printed;
  EXPECT_EQ(print_schedule(*again), printed);
  expect_same_sources(*schedule, *again);

  auto plan = plan::plan_memory(*schedule), plan_again = plan::plan_memory(*again);
  ASSERT_TRUE(plan);
  const std::string plan_text = print_plan(*plan);
  EXPECT_EQ(print_plan(*plan_again), plan_text);
  auto plan_read = parse_plan(plan_text);
  ASSERT_TRUE(plan_read) << plan_read.error().to_string() << "\n" << plan_text;
  EXPECT_EQ(print_plan(*plan_read), plan_text);
  expect_same_sources(*schedule, plan_read->schedule);
}

TEST(ScheduleText, EveryStageTextReadsBack) {
  int files = 0;
  for (const char* folder : {"fuse", "plan"}) {
    for (const auto& entry : std::filesystem::directory_iterator(std::string(TOROID_SOURCE_DIR "/tests/") + folder)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".toroid") || name.starts_with("fail_")) continue;
      // What begins with a schedule or plan is read as such by its own test.
      const std::string text = input_of(entry.path());
      if (text.find("\nschedule @") != std::string::npos || text.find("\nplan @") != std::string::npos) continue;
      SCOPED_TRACE(name);
      expect_round_trip(text);
      ++files;
    }
  }
  EXPECT_GE(files, 10);
}

TEST(ScheduleText, ConstantsScansWritebacksAndSymbols) {
  expect_round_trip(R"(
loops @forms(%x: f32[s0, 8], %n: i64[s0], int "k" = s1) where 1 <= s0 <= 64 hint 3, 0 <= s1 <= 9 {
  %w = buffer "stat" : f32[8]
  %c = data {1.0, -0.5, inf, nan, 0.1, 2.0, 3.0, 4.0} : f32[8]
  %d = data {3, -1} : i32[2]
  %a[i0, i1] = where(i0 < s0 - 1, %x[i0, i1] * %c[i1], -1.5 + %w[i1]) : f32[s0, 8]
  %b[i0] = scan_sum(j0 in s0 at i0: %n[j0]) : i64[s0]
  %g[i0] = argmax(j0 in 8: %x[i0, j0]) : i64[s0]
  %e[i0] = %d[i0 % 2] + i32(s1) : i32[s0]
  %m[i0] = sum(j0 in s0: %x[j0, i0]) : f32[8]
  guard 0 == s0 % 1 "always"
  return %a, "second": %b, %g, %e, %m -> weight "stat", %x alias [8, s0] at 0 strides [1, 8], int 2*s0, constant none
  in_spec "in"
  out_spec "out"
})");
}

TEST(ScheduleText, WrongTextIsRefusedWithItsPlace) {
  const std::string good = print_schedule(*schedule_of(R"(
loops @m(%x: f32[s0, 64]) where 1 <= s0 <= 8 {
  %m[i0] = sum(j0 in 64: %x[i0, j0]) : f32[s0]
  %y[i0, i1] = exp(%x[i0, i1] - %m[i0]) : f32[s0, 64]
  return %y
})"));
  ASSERT_TRUE(parse_schedule(good)) << good;
  auto refusal = [&](const std::string& from, const std::string& to) -> std::string {
    std::string text = good;
    const size_t at = text.find(from);
    if (at == std::string::npos) return "the text has no `" + from + "`\n" + good;
    auto schedule = parse_schedule(text.replace(at, from.size(), to));
    return schedule ? "" : schedule.error().text.substr(schedule.error().text.find(": ") + 2);
  };
  EXPECT_EQ(refusal("= sum(", "= summe("), "`summe` does not reduce, found `(`");
  EXPECT_EQ(refusal("- %l0", "- %l7"), "no local `%l7`, found `)`");
  EXPECT_EQ(refusal("buffer @y = output 0", "buffer @y = output 1"), "no such position, found `:`");
  EXPECT_EQ(refusal("strides [64, 1]", "strides [64]"), "as many strides as sizes wanted, found `place`");
  EXPECT_EQ(refusal("= @y strides", "= @z strides"), "`@z` is not defined, found `strides`");
  EXPECT_EQ(refusal("flops", "flips"), "expected `flops`, found `flips`");
  EXPECT_EQ(refusal("for v0 in 64 vector", "for v0 in s9 vector"), "unknown symbol `s9`, found `vector`");
  // Cut anywhere, the text is refused, never a crash.
  for (size_t cut = 0; cut + 2 < good.size(); cut += 7) {
    auto schedule = parse_schedule(good.substr(0, cut));
    if (schedule) {
      EXPECT_TRUE(schedule->kernels.empty()) << cut;
    }
  }
}

}  // namespace
}  // namespace toroid
