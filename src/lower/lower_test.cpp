// Graph texts to loops texts: names, views, outputs, mutations, what is refused.
#include "lower/lower.h"

#include <gtest/gtest.h>

#include "base/check.h"

namespace toroid {
namespace {

Result<Loops> lower(const std::string& text) {
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph) << graph.error().to_string();
  if (!graph) return fail(graph.error());
  return lower_graph(*graph);
}
std::string lowered(const std::string& text) {
  auto loops = lower(text);
  if (!loops) return loops.error().to_string();
  verify_loops(*loops);
  return print_loops(*loops);
}

TEST(Lower, NodesBecomeTensorsAndViewsDoNot) {
  EXPECT_EQ(lowered(R"(graph @m(%x: f32[s0, 8]) where 1 <= s0 <= 64 {
  %t = aten.permute.default(%x, [1, 0]) : f32[8, s0] strides [1, 8]  @ act, model.py:3
  %y = aten.relu.default(%t) : f32[8, s0] strides [1, 8]  @ act, model.py:4
  %v = aten.permute.default(%y, [1, 0]) : f32[s0, 8]  @ act, model.py:5
  return %v
})"),
            R"(loops @m(%x: f32[s0, 8]) where 1 <= s0 <= 64 {
  %y[i0, i1] = max(%x[i1, i0], 0.0) : f32[8, s0] strides [1, 8]  @ act, model.py:4
  %v[i0, i1] = %y[i1, i0] : f32[s0, 8]  @ act, model.py:5
  return %v
}
)");
}

TEST(Lower, ViewsOfInputsAreReturnedWithoutACopy) {
  EXPECT_EQ(lowered(R"(graph @m(%x: f32[s0, 8]) where 1 <= s0 <= 64 {
  %t = aten.permute.default(%x, [1, 0]) : f32[8, s0] strides [1, 8]
  %a = aten.slice.Tensor(%t, 0, 2, 6, 2) : f32[2, s0] strides [2, 8]
  %c = aten.clone.default(%x, none) : f32[s0, 8]
  return %x, %a, %c
})"),
            R"(loops @m(%x: f32[s0, 8]) where 1 <= s0 <= 64 {
  %c[i0, i1] = %x[i0, i1] : f32[s0, 8]
  return %x alias [s0, 8] at 0 strides [8, 1], %x alias [2, s0] at 2 strides [2, 8], %c
}
)");
}

TEST(Lower, WrittenInputsAndWeights) {
  EXPECT_EQ(lowered(R"(graph @m(%x: f32[8]) {
  %w = buffer "seen" : f32[8]
  %y = aten.add.Tensor(%w, %x, 1) : f32[8]
  return %y -> weight "seen", %x -> input 0, %x, %w, %y
})"),
            R"(loops @m(%x: f32[8]) {
  %w = buffer "seen" : f32[8]
  %y[i0] = %w[i0] + %x[i0] : f32[8]
  %x_1[i0] = %x[i0] : f32[8]
  %x_2[i0] = %x[i0] : f32[8]
  %w_1[i0] = %w[i0] : f32[8]
  return %y -> weight "seen", %x_1 -> input 0, %x_2, %w_1, %y
}
)");
}

TEST(Lower, UnusedResultsAndWeightsGo) {
  EXPECT_EQ(lowered(R"(graph @m(%x: f32[8]) {
  %w = weight "w" : f32[8]
  %y = aten.mul.Tensor(%x, %w) : f32[8]
  %z = aten.neg.default(%x) : f32[8]
  return %z
})"),
            R"(loops @m(%x: f32[8]) {
  _ = weight "w" : f32[8]
  %z[i0] = -%x[i0] : f32[8]
  return %z
}
)");
}

TEST(Lower, LowPrecisionRoundsWhereStored) {
  EXPECT_EQ(lowered(R"(graph @m(%x: bf16[8]) {
  %y = aten.neg.default(%x) : bf16[8]
  return %y
})"),
            R"(loops @m(%x: bf16[8]) {
  %y[i0] = -%x[i0] : bf16[8]
  return %y
}
)");
}

TEST(Lower, EveryOpWithoutALoweringIsNamed) {
  auto loops = lower(R"(graph @m(%x: f32[8]) {
  %a = custom.first.default(%x) : f32[8]  @ net, model.py:3
  %b = aten.neg.default(%a) : f32[8]
  %c = custom.second.default(%x) : f32[8]
  return %b, %c
})");
  ASSERT_FALSE(loops);
  EXPECT_EQ(loops.error().to_string(),
            R"(error: unsupported_op: no lowering for `custom.first.default`, `custom.second.default`
  `custom.first.default` at net, model.py:3, inputs f32[8]
  `custom.second.default`, inputs f32[8])");
}

TEST(Lower, ANumberReadOnTheHostDefinesItsSymbol) {
  EXPECT_EQ(lowered(R"(graph @m(%n: i64[3]) where 0 <= u0 <= 10 unbacked {
  %s = aten.sum.default(%n, none) : i64[]
  %i = aten.item.default(%s) : i64[] defines u0
  return int u0 + 1
})"),
            R"(loops @m(%n: i64[3]) where 0 <= u0 <= 10 unbacked {
  %s[] = sum(j0 in 3: %n[j0]) : i64[]
  u0 = item %s
  return int u0 + 1
}
)");
}

}  // namespace
}  // namespace toroid
