// The f32 functions of the prelude on every 4099th input and all special ones: error, special values, same bits.
#include <gtest/gtest.h>

#include <cstring>

#include "emit/cpu/math_testing.h"

namespace toroid::emit::testing {
namespace {

// 2^20 inputs 4099 apart, then 2048 around each of the places where special values live.
MathResult measure_some(const PreludeLibrary& library, const MathFunction& function) {
  MathResult result = measure(library, function, 7, 4099, 1 << 20);
  for (uint64_t centre : {0x00000000ull, 0x80000000ull, 0x7f800000ull, 0xff800000ull, 0x3f800000ull, 0xbf800000ull,
                          0x00800000ull, 0x42b00000ull, 0xc2b00000ull, 0x49800000ull, 0x41200000ull, 0x40800000ull})
    result = measure(library, function, centre - 1024, 1, 2048, result);
  return result;
}

TEST(PreludeMath, ErrorAndSpecialValues) {
  std::vector<MathResult> first;
  for (const MathTarget& target : math_targets()) {
    const PreludeLibrary library(math_text(target), target);
    for (size_t k = 0; k < std::size(math_functions); ++k) {
      const MathFunction& function = math_functions[k];
      const MathResult result = measure_some(library, function);
      EXPECT_EQ(result.wrong, 0) << function.name << " at " << std::bit_cast<float>(result.wrong_at) << ", "
                                 << target.lanes << " lanes, " << target.compiler;
      EXPECT_LE(result.worst, function.bound)
          << function.name << " at " << std::bit_cast<float>(result.worst_at) << ", " << target.lanes << " lanes";
      EXPECT_GT(result.worst, 0.4) << function.name << ": nothing was compared";
      if (first.size() <= k)
        first.push_back(result);
      else
        EXPECT_EQ(std::memcmp(first[k].hash, result.hash, sizeof result.hash), 0)
            << function.name << " has other bits at " << target.lanes << " lanes with " << target.compiler;
    }
  }
}

}  // namespace
}  // namespace toroid::emit::testing
