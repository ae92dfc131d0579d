// A graph over two devices, from its text to the wrapper's: kernels and arenas of one device each, copies explicit.
#include <gtest/gtest.h>

#include "emit/wrapper/wrapper.h"
#include "fuse/fuse.h"
#include "lower/lower.h"
#include "plan/plan.h"

namespace toroid {
namespace {

constexpr const char* model = R"(
graph @two(%x: f32[s0, 64], %y: f32[s0, 64]) where 1 <= s0 <= 64 hint 8 {
  %w = weight "w" : f32[64, 64] on "fake"
  %0 = aten.exp.default(%x) : f32[s0, 64]
  %1 = aten.to.device(%0, device "fake", f32, false, false, none) : f32[s0, 64] on "fake"
  %2 = aten.linear.default(%1, %w, none) : f32[s0, 64] on "fake"
  %3 = aten.softmax.int(%2, -1, none) : f32[s0, 64] on "fake"
  %4 = aten.to.device(%3, device "cpu", f32, false, false, none) : f32[s0, 64]
  %5 = aten.add.Tensor(%4, %0, 1) : f32[s0, 64]
  %6 = aten.mul.Tensor(%5, %y) : f32[s0, 64]
  return %6
})";

Plan plan_of(const std::string& text) {
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph) << graph.error().to_string();
  auto loops = lower_graph(*graph);
  EXPECT_TRUE(loops) << loops.error().to_string();
  auto schedule = fuse::fuse_loops(*loops, *Target::parse("x86-64-v4"), {});
  EXPECT_TRUE(schedule);
  auto plan = plan::plan_memory(*schedule);
  EXPECT_TRUE(plan);
  return *plan;
}

TEST(TwoDevices, KernelsAndArenasBelongToOneDevice) {
  const Plan plan = plan_of(model);
  const Schedule& schedule = plan.schedule;
  std::set<std::string> devices;
  for (const Kernel& kernel : schedule.kernels) {
    devices.insert(to_string(kernel.device));
    for (BufferId id : plan::buffers_of(schedule, kernel))
      EXPECT_EQ(schedule[id].device, kernel.device) << kernel.name << " " << schedule[id].name;
  }
  EXPECT_EQ(devices, (std::set<std::string>{"cpu", "fake"}));
  ASSERT_EQ(plan.arenas.size(), 2u);
  EXPECT_EQ(plan.arenas[0].device, Device{});
  EXPECT_EQ(plan.arenas[1].device.type, "fake");
}

TEST(TwoDevices, CopiesAndWaitsAreOperations) {
  const Plan plan = plan_of(model);
  ASSERT_EQ(plan.schedule.copies.size(), 2u) << print_plan(plan);
  for (const Copy& copy : plan.schedule.copies) {
    EXPECT_NE(plan.schedule.loops[copy.from].device, plan.schedule.loops[copy.to].device);
    EXPECT_EQ(plan.schedule.place(copy.from).strides, plan.schedule.place(copy.to).strides);
  }
  ASSERT_EQ(plan.streams.size(), 2u);
  std::string order;
  for (const Operation& operation : plan.operations)
    order += operation.kind == Operation::Kind::copy ? 'c' : operation.kind == Operation::Kind::wait ? 'w' : 'l';
  EXPECT_TRUE(order.starts_with("lwcl")) << order;
  EXPECT_TRUE(order.ends_with("cwl")) << order;
  const std::string text = print_plan(plan);
  auto again = parse_plan(text);
  ASSERT_TRUE(again) << again.error().to_string() << text;
  EXPECT_EQ(print_plan(*again), text);
}

TEST(TwoDevices, TheWrapperLaunchesByName) {
  const Plan plan = plan_of(model);
  std::vector<emit::KernelSource> kernels;
  for (const Kernel& kernel : plan.schedule.kernels)
    kernels.push_back(emit::emit_kernel(plan.schedule, kernel, *Target::parse("x86-64-v4")));
  auto text = emit::emit_wrapper(plan, kernels, {});
  ASSERT_TRUE(text) << text.error().to_string();
  size_t position = 0;
  for (const char* part :
       {"arena = (char*)table->alloc(host, ", "arena_fake = td_fake_alloc(host, ", "table->parallel(host, td_",
        "td_fake_wait(host, 1, 0)", "td_fake_copy(host, 1, arena_fake + ", "td_fake_launch(host, 1, \"td_",
        "td_fake_copy(host, 1, arena + ", "td_fake_wait(host, 0, 1)", "table->parallel(host, td_"}) {
    const size_t at = text->find(part, position);
    ASSERT_NE(at, std::string::npos) << part << " is not behind what precedes it in\n" << *text;
    position = at;
  }
}

TEST(TwoDevices, OneDeviceHasNoTraceOfStreams) {
  const Plan plan = plan_of(replace_all(replace_all(model, " on \"fake\"", ""), "\"fake\"", "\"cpu\""));
  EXPECT_TRUE(plan.schedule.copies.empty());
  EXPECT_EQ(plan.streams.size(), 1u);
  EXPECT_EQ(plan.operations.size(), plan.schedule.kernels.size());
}

}  // namespace
}  // namespace toroid
