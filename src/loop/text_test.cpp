// The text form: reading a print gives the same thing; what is wrong is refused with its place.
#include <gtest/gtest.h>

#include "base/check.h"
#include "loop/loops.h"

namespace toroid {
namespace {

void expect_round_trip(const std::string& text) {
  auto loops = parse_loops(text);
  ASSERT_TRUE(loops) << loops.error().to_string();
  verify_loops(*loops);
  EXPECT_EQ(print_loops(*loops), text);
  auto again = parse_loops(print_loops(*loops));
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(again->pool.size(), loops->pool.size());
}

TEST(LoopsText, ReadsBackAFeedForwardBlock) {
  expect_round_trip(R"(loops @block(%x: f32[s0, 64]) where 1 <= s0 <= 4096 hint 8 {
  %fc.weight = weight "fc.weight" : f32[256, 64]
  %fc.bias = weight "fc.bias" : f32[256]
  %h[i0, i1] = sum(j0 in 64: %x[i0, j0] * %fc.weight[i1, j0]) + %fc.bias[i1] : f32[s0, 256]  @ fc, block.py:6
  %0[i0, i1] = gelu(%h[i0, i1]) : f32[s0, 256]  @ block.py:6
  %m[i0] = sum(j0 in 256: %0[i0, j0]) / 256.0 : f32[s0]
  %v[i0] = sum(j0 in 256: let t0 = %0[i0, j0] - %m[i0]; t0 * t0) / 256.0 : f32[s0]
  %4[i0, i1] = (%0[i0, i1] - %m[i0]) * rsqrt(%v[i0] + 1e-05) : f32[s0, 256] strides [1, s0]  @ norm, block.py:7
  guard 0 == s0 % 2 "batch must be even"
  return %4 strides [256, 1]
  in_spec "a"
  out_spec "b"
}
)");
}

TEST(LoopsText, ReadsBackEveryForm) {
  expect_round_trip(
      R"(loops @forms(%x "user x": f32[2*s0, 8] strides [1, 2*s0], %n: i64[s0], int "k" = s1, constant "flag" = true, )"
      R"(constant "sizes" = [1, s0], constant "scale" = 0.5, constant "mode" = "tanh", constant "to" = bf16, %h: bf16[4], )"
      R"(%z: f64[], %g: i32[4] on "cuda:1") where 1 <= s0, 0 <= s1 <= 9, 0 <= u0 <= 100 unbacked {
  %w = buffer "stat" : f32[8] in storage 0 at 0
  _ = buffer "count" transient : i64[] in storage 0 at 8
  _ = constant "lifted" : f32[4, 2] strides [1, 4]
  %c = data {1.0, -0.5, inf, nan} : f32[4]
  %d = data {3, -1} : i32[2]
  %e = data {} : f32[0, 3]
  %a[i0, i1] = where(i0 < s0, %x[i0, i1], -1.5) : f32[2*s0, 8]
  %b[i0] = scan_sum(j0 in s0 at i0: %n[j0]) : i64[s0]
  %f[] = max(j0 in s0, j1 in 8: %x[j0, j1]) : f32[]
  %g1[] = argmax(j0 in 4: bf16_round(%h[j0])) : i64[]
  u0 = item %g1
  %i[i0] = f64(%n[i0]) * f64(0.1) + -%z[] : f64[s0]
  %j[i0] = i32(7) - %g[i0] // i32(2) % i32(3) : i32[4]
  %k[i0] = %n[i0] + (i0 + 1) * %n[0] - (2*i0 - %n[0]) : i64[s0]
  %l[i0] = (%n[i0] < 3 or not(%n[i0] == 2)) and true : bool[s0]
  return %a
}
)");
}

}  // namespace
}  // namespace toroid
