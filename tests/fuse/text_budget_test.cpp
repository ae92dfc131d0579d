// Long chains of maps become several kernels, cut where a small tensor passes from one to the next.
#include <gtest/gtest.h>

#include "fuse/fuse.h"
#include "target/target.h"

namespace toroid {
namespace {

// Tensors of sixteen exponentials each, more than a reader takes in; the fifth is of this dtype.
std::string chain(int tensors, const char* fifth) {
  std::string text = "loops @chain(%x: f32[s0]) where 1 <= s0 <= 4096 {\n", last = "x";
  for (int t = 1; t <= tensors; ++t) {
    const std::string name = t == tensors ? "y" : "t" + std::to_string(t), dtype = t == 5 ? fifth : "f32";
    std::string value = "%" + last + "[i0]";
    for (int k = 0; k < 16; ++k) value = "exp(" + value + ")";
    text += "  %" + name + "[i0] = " + value + " : " + dtype + "[s0]\n";
    last = name;
  }
  return text + "  return %y\n}\n";
}

std::vector<std::string> written(const std::string& text) {
  auto loops = parse_loops(text);
  EXPECT_TRUE(loops) << loops.error().to_string();
  auto schedule = fuse::fuse_loops(std::move(*loops), *Target::parse("x86-64-v4"), {});
  EXPECT_TRUE(schedule) << schedule.error().to_string();
  std::vector<std::string> names;
  for (const Kernel& kernel : schedule->kernels)
    for (TensorId id : kernel.writes) names.push_back(schedule->loops[id].name);
  return names;
}

TEST(TextBudget, AChainIsCut) {
  EXPECT_EQ(written(chain(6, "f32")), (std::vector<std::string>{"y"}));
  EXPECT_EQ(written(chain(15, "f32")), (std::vector<std::string>{"t7", "t14", "y"}));
}

TEST(TextBudget, WhereTheFewestBytesPass) {
  EXPECT_EQ(written(chain(9, "bf16")), (std::vector<std::string>{"t5", "y"}));
}

}  // namespace
}  // namespace toroid
