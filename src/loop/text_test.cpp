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
  %l[i0] = (%n[i0] < 3 or not(%n[i0] == 2)) and %n[i0] > 0 : bool[s0]
  return %a
}
)");
}

TEST(LoopsText, SharedPartsAreWrittenOnce) {
  // 2^40 terms as a tree.
  std::string text = "loops @m(%x: f32[4]) {\n  %y[i0] = let t0 = exp(%x[i0]); ";
  for (int i = 1; i < 40; ++i) text += format("t{} = t{} * t{}; ", i, i - 1, i - 1);
  expect_round_trip(text + "t39 + t39 : f32[4]\n  return %y\n}\n");
}

TEST(LoopsText, OutputsSayWhereTheyGo) {
  expect_round_trip(R"(loops @m(%x: f32[s0, 4]) where 1 <= s0 <= 8 {
  %w = buffer "seen" : f32[4]
  %y[i0] = sum(j0 in s0: %x[j0, i0]) + %w[i0] : f32[4]
  return %y -> weight "seen", "same": %y, %x alias [4, s0] at 0 strides [1, 4], %y -> input 0, int 2*s0, constant none
}
)");
}

TEST(LoopsText, IndexExpressionsOutsideOpsAreMarked) {
  expect_round_trip(R"(loops @m(%x: f32[s0, 4], %n: i64[4]) where 1 <= s0 <= 8 {
  %y[i0] = %x[sym(choose(i0 < 2, 0, s0 - 1)), i0] : f32[4]
  %z[i0] = %x[min(i0, s0 - 1), -i0 + 3] * f32(i0 // %n[0]) : f32[4]
  return %y
}
)");
}

TEST(LoopsText, WrongTextIsRefusedWithItsPlace) {
  auto refusal = [](const std::string& line) {
    auto loops = parse_loops("loops @m(%x: f32[s0, 4], %n: i64[4]) where 1 <= s0 {\n" + line + "\n  return %x\n}");
    return loops ? "" : loops.error().text;
  };
  EXPECT_EQ(refusal("%y[i0] = %z[i0] : f32[4]"), "line 2:12: `%z` is not defined, found `[`");
  EXPECT_EQ(refusal("%y[i0] = %x[i0] : f32[4]"), "line 2:17: 1 indices into `%x` of rank 2, found `:`");
  EXPECT_EQ(refusal("%y[i0] = %x[i0, 0] + 1 : f32[4]"), "line 2:24: `add` of f32, i64, found `:`");
  EXPECT_EQ(refusal("%y[i0] = %x[i0, 1.0] : f32[4]"), "line 2:22: an index of type f32 into `%x`, found `:`");
  EXPECT_EQ(refusal("%y[i0] = i0 : f32[4]"), "line 2:13: `%y` of i64 in a f32 tensor, found `:`");
  EXPECT_EQ(refusal("%y[i0] = f32(k) : f32[4]"), "line 2:15: unknown name `k`, found `)`");
  EXPECT_EQ(refusal("%y[i0, i1] = 1.0 : f32[4]"), "line 3:3: 2 variables for 1 sizes, found `return`");
  EXPECT_EQ(refusal("%y[i0] = expo(1.0) : f32[4]"), "line 2:20: unknown function `expo`, found `:`");
  EXPECT_EQ(refusal("%y[i0] = any(j0 in 4: %x[j0, 0]) : f32[4]"), "line 2:34: `any` over f32, found `:`");
  EXPECT_EQ(refusal("%y[i0] = sqrt(%n[i0]) : f32[4]"), "line 2:23: `sqrt` of i64, found `:`");
  EXPECT_EQ(refusal("%y[i0] = 1.0"), "line 2:10: expected `:` and a type behind this, found `1.0`");
  EXPECT_EQ(refusal("%y = data {1.0} : f32[2]"), "line 3:3: 1 numbers for [2], found `return`");
  EXPECT_EQ(refusal("%x[i0] = 1.0 : f32[4]"), "line 3:3: `%x` defined twice, found `return`");
  EXPECT_EQ(refusal(std::string(100000, '(')).substr(0, 9), "line 2:1:");
  EXPECT_EQ(refusal("%y[i0] = " + std::string(100000, '(')).substr(0, 5), "line ");
}

TEST(LoopsVerify, NamesWhatIsBroken) {
  auto broken = [](const std::function<void(Loops&)>& damage) -> std::string {
    Loops loops = *parse_loops(
        "loops @m(%x: f32[4]) {\n  %y[i0] = exp(%x[i0]) : f32[4]\n  %z[i0] = %y[i0] : f32[4]\n  return %z\n}");
    verify_loops(loops);
    damage(loops);
    try {
      verify_loops(loops);
    } catch (const InternalError& error) {
      const std::string text = error.what();
      return text.substr(0, text.rfind(" ("));
    }
    return "";
  };
  EXPECT_EQ(broken([](Loops& l) { l.tensors[1].sizes = {5}; }), "`%y` runs i0 over 4 but has size 5");
  EXPECT_EQ(broken([](Loops& l) { l.tensors[2].name = "y"; }), "two tensors `%y`");
  EXPECT_EQ(broken([](Loops& l) { std::swap(l.tensors[1], l.tensors[2]); }),
            "`%z` loads from a tensor that is not before it");
  EXPECT_EQ(broken([](Loops& l) { l.tensors[1].dtype = DType::i64; }), "`%y` of i64 has a body of f32");
  EXPECT_EQ(broken([](Loops& l) { l.tensors[1].dtype = DType::bf16; }), "");
  EXPECT_EQ(broken([](Loops& l) { l.tensors[1].dtype = DType::f64; }), "`%y` of f64 has a body of f32");
  EXPECT_EQ(broken([](Loops& l) { l.tensors[1].body = l.pool.load({0}, DType::f32, {}); }),
            "`%y` loads from `%x` with 0 indices");
  EXPECT_EQ(
      broken([](Loops& l) { l.tensors[1].body = l.pool.load({0}, DType::f32, {l.pool.index(Sym::index("k", 4))}); }),
      "`%y` uses `k`, which is not declared");
  EXPECT_EQ(broken([](Loops& l) { l.tensors[1].strides = {}; }), "`%y` has 0 strides for 1 dims");
  EXPECT_EQ(broken([](Loops& l) { l.outputs[0].tensor = {9}; }), "output `` without its tensor");
}

TEST(DropDead, KeepsInputsAndWhatIsNeeded) {
  Loops loops = *parse_loops(R"(loops @m(%x: f32[4], %unused: f32[4]) {
  %w = weight "w" : f32[4]
  %v = weight "v" : f32[4]
  %a[i0] = exp(%x[i0]) : f32[4]
  %b[i0] = %a[i0] + %w[i0] : f32[4]
  %c[i0] = %a[i0] * %v[i0] : f32[4]
  return %c
})");
  drop_dead(loops);
  verify_loops(loops);
  EXPECT_EQ(print_loops(loops), R"(loops @m(%x: f32[4], %unused: f32[4]) {
  _ = weight "w" : f32[4]
  %v = weight "v" : f32[4]
  %a[i0] = exp(%x[i0]) : f32[4]
  %c[i0] = %a[i0] * %v[i0] : f32[4]
  return %c
}
)");
}

}  // namespace
}  // namespace toroid
