// Promotion, broadcasting, strides; and of every row: its schema exists, it has samples, and each sample infers,
// lowers, verifies and runs.
#include "ops/op_table.h"

#include <gtest/gtest.h>

#include "ops/rules.h"
#include "ops/sample.h"

namespace toroid {
namespace {

TEST(Promotion, OfTwoTypes) {
  EXPECT_EQ(promote(DType::u8, DType::i8), DType::i16);
  EXPECT_EQ(promote(DType::f16, DType::bf16), DType::f32);
  EXPECT_EQ(promote(DType::i64, DType::f16), DType::f16);
  EXPECT_EQ(promote(DType::b8, DType::u8), DType::u8);
  EXPECT_EQ(promote(DType::c64, DType::f64), DType::c128);
}

DType sample_dtype(const char* text) {
  auto graph = graph_of_sample(text);
  EXPECT_TRUE(graph.has_value()) << text << ": " << (graph ? "" : graph.error().text);
  return (*graph)[graph->outputs[0].value].type.dtype;
}

TEST(Promotion, NumbersAndScalarsWidenOnlyByCategory) {
  EXPECT_EQ(sample_dtype("aten.add.Tensor(i32[3], 1099511627776)"), DType::i32);
  EXPECT_EQ(sample_dtype("aten.add.Tensor(i8[3], 1.5)"), DType::f32);
  EXPECT_EQ(sample_dtype("aten.add.Tensor(bf16[3], 1.5)"), DType::bf16);
  EXPECT_EQ(sample_dtype("aten.add.Tensor(bool[3], 1)"), DType::i64);
  EXPECT_EQ(sample_dtype("aten.add.Tensor(f16[3], f32[])"), DType::f16);
  EXPECT_EQ(sample_dtype("aten.add.Tensor(f16[3], f32[1])"), DType::f32);
  EXPECT_EQ(sample_dtype("aten.div.Tensor(i64[3], i64[3])"), DType::f32);
}

TEST(Broadcast, SymbolsAndOnes) {
  Sym s = Sym::symbol("s0", 2, 64);
  auto sizes = broadcast_sizes({s, 1, 4}, {5, 1});
  ASSERT_TRUE(sizes.has_value());
  EXPECT_EQ(to_string(*sizes), "s0, 5, 4");
  EXPECT_FALSE(broadcast_sizes({3}, {4}).has_value());
}

TEST(Strides, PointwiseKeepsACommonOrder) {
  TensorType last{DType::f32, {2, 3, 4, 5}, channels_last_strides({2, 3, 4, 5}), {}};
  TensorType row{DType::f32, {2, 3, 4, 5}, contiguous_strides({2, 3, 4, 5}), {}};
  EXPECT_EQ(to_string(pointwise_strides(last.sizes, {&last, &last})), "60, 1, 15, 3");
  EXPECT_EQ(to_string(pointwise_strides(last.sizes, {&row, &last})), "60, 20, 5, 1");
}

TEST(Strides, ViewsNeedEvenMemory) {
  TensorType x{DType::f32, {4, 6}, {6, 1}, {}}, turned{DType::f32, {4, 6}, {1, 4}, {}};
  EXPECT_EQ(to_string(*view_strides(x, {2, 2, 6})), "12, 6, 1");
  EXPECT_EQ(to_string(*view_strides(turned, {2, 2, 6})), "2, 1, 4");
  EXPECT_FALSE(view_strides(turned, {24}).has_value());
}

// Arguments of these belong together (a matrix that is positive definite, the parts of a factorisation), which samples
// cannot say; tests/models/flow_test.py, tests/models/zoo_small.py and tests/python/gradients_test.py have programs of
// them.
bool tested_in_programs(const std::string& name) {
  for (const char* part :
       {"linalg_", "cholesky", "aten.inverse", "aten.pinverse", "aten.qr", "aten.ormqr", "aten.lu_",
        "aten.triangular_solve", "aten.svd.", "aten._embedding_bag_backward", "_sample_weights_backward",
        "transformers.grouped_mm_fallback", "aten._assert_async", "aten.repeat_interleave.Tensor"})
    if (name.find(part) != std::string::npos) return true;
  return false;
}

TEST(Rows, EachHasASchemaAndEverySampleLowers) {
  size_t samples = 0;
  for (const std::string& name : OpTable::all().names()) {
    EXPECT_TRUE(find_schema(name)) << name;
    const OpRow* row = OpTable::all().find(name);
    EXPECT_TRUE(row->no_result || row->is_random || !row->samples.empty() || tested_in_programs(name)) << name;
    for (const std::string& sample : row->samples) {
      ++samples;
      auto graph = graph_of_sample(sample);
      ASSERT_TRUE(graph.has_value()) << sample << ": " << graph.error().text;
      auto loops = loops_of_sample(*graph);
      ASSERT_TRUE(loops.has_value()) << sample << ": " << loops.error().text;
      EXPECT_NO_THROW(verify_loops(*loops)) << sample;
    }
  }
  EXPECT_GT(samples, 800u);
}

TEST(Rows, RavelOfEvenStepsIsCopied) {
  auto graph = graph_of_sample("aten.ravel.default(f32[2,3] strides [12, 2])");
  ASSERT_TRUE(graph.has_value()) << graph.error().text;
  EXPECT_EQ(to_string((*graph)[graph->nodes[0].outputs[0]].type.strides), "1");
}

TEST(Rows, RefusalsNameTheReason) {
  auto missing = graph_of_sample("aten.sort.Tensor([f32[3]])");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind, Kind::unsupported_op);
}

}  // namespace
}  // namespace toroid
