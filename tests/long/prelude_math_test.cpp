// Every f32 function of the prelude on all 2^32 inputs: error against double libm, special values, and the same bits
// from every compiler and width that this machine has. TOROID_MATH_ONLY=exp,log limits it to some functions,
// TOROID_MATH_ONE=1 to the first target. About 40 seconds per function and target.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "emit/cpu/math_testing.h"

namespace toroid::emit::testing {
namespace {

TEST(PreludeMath, AllInputs) {
  const char* only = std::getenv("TOROID_MATH_ONLY");
  const std::vector<std::string> names = only ? split(only, ',') : std::vector<std::string>{};
  std::vector<MathTarget> targets = math_targets();
  if (std::getenv("TOROID_MATH_ONE")) targets.resize(1);
  std::vector<MathResult> first(std::size(math_functions));
  for (const MathTarget& target : targets) {
    const PreludeLibrary library(math_text(target), target);
    for (size_t k = 0; k < std::size(math_functions); ++k) {
      const MathFunction& function = math_functions[k];
      if (only && std::find(names.begin(), names.end(), function.name) == names.end()) continue;
      const MathResult result = measure(library, function, 0, 1, 1ull << 32);
      std::printf("%-10s %2d lanes %-10s worst %.3f ulp at %.9g, %ld special values wrong\n", function.name,
                  target.lanes, target.compiler, result.worst,
                  static_cast<double>(std::bit_cast<float>(result.worst_at)), result.wrong);
      std::fflush(stdout);
      EXPECT_EQ(result.wrong, 0) << function.name << " at " << std::bit_cast<float>(result.wrong_at);
      EXPECT_LE(result.worst, function.bound) << function.name;
      if (&target == &targets[0])
        first[k] = result;
      else
        EXPECT_EQ(std::memcmp(first[k].hash, result.hash, sizeof result.hash), 0)
            << function.name << " has other bits at " << target.lanes << " lanes with " << target.compiler;
    }
  }
}

}  // namespace
}  // namespace toroid::emit::testing
