// Programs whose fusion moves, joins or reorders work: what is compiled gives what the interpreter gives, for any
// number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/file.h"
#include "driver/graph_builder.h"
#include "interp/interp.h"
#include "lower/lower.h"
#include "toroid/compiler.h"
#include "toroid/graph_builder.h"
#include "toroid/runtime.h"

namespace toroid {
namespace {

using Tensor = GraphBuilder::Tensor;
using Sizes = GraphBuilder::Sizes;

class Program {
 public:
  GraphBuilder g{"p"};

  Tensor input(const char* name, const Sizes& sizes) { return *g.input(name, "f32", sizes); }
  // Values in [-scale, scale], as bf16 where said so.
  Tensor weight(const std::string& name, const std::vector<int64_t>& sizes, double scale, const char* dtype = "f32") {
    int64_t count = 1;
    Sizes given;
    for (int64_t size : sizes) count *= size, given.push_back(size);
    const DType type = *dtype_from_name(dtype);
    const InterpTensor values = InterpTensor::of(type, {count}, random(count, scale));
    auto owner = std::make_shared<std::vector<std::byte>>(values.data);
    return *g.weight(name, dtype, given, {owner->data(), static_cast<int64_t>(owner->size()), owner});
  }
  Tensor call(const char* op, const GraphBuilder::Arguments& args) {
    auto results = g.call(op, args);
    EXPECT_TRUE(results) << results.error().to_string();
    return results ? results->at(0) : Tensor{};
  }
  // x W^T + b of so many columns.
  Tensor linear(Tensor x, const std::string& name, int64_t n, int64_t k, const char* dtype = "f32", bool bias = true) {
    const Tensor w = weight(name + ".weight", {n, k}, 1 / std::sqrt(static_cast<double>(k)), dtype);
    if (!bias) return call("aten.linear.default", {x, w, {}});
    return call("aten.linear.default", {x, w, weight(name + ".bias", {n}, 1, dtype)});
  }
  Tensor bf16(Tensor x) { return call("aten.to.dtype", {x, GraphBuilder::Dtype{"bf16"}}); }
  Tensor f32(Tensor x) { return call("aten.to.dtype", {x, GraphBuilder::Dtype{"f32"}}); }
  void output(Tensor x) { ASSERT_TRUE(g.output(x)); }

  std::vector<double> random(int64_t count, double scale) {
    std::vector<double> values;
    for (int64_t i = 0; i < count; ++i) {
      state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
      values.push_back(scale * (static_cast<double>(state_ >> 33) * 0x1p-30 - 1));
    }
    return values;
  }

  // Runs on inputs of these sizes; no element may be further than `tolerance` from the interpreter's f64 value.
  void check(const std::vector<std::vector<int64_t>>& sizes, double tolerance) {
    std::vector<InterpTensor> inputs;
    for (const std::vector<int64_t>& s : sizes) {
      int64_t count = 1;
      for (int64_t size : s) count *= size;
      inputs.push_back(InterpTensor::of(DType::f32, s, random(count, 1)));
    }
    auto graph = build_graph(g);
    ASSERT_TRUE(graph) << graph.error().to_string();
    auto loops = lower_graph(*graph);
    ASSERT_TRUE(loops) << loops.error().to_string();
    auto expected = interpret(*loops, inputs, {.exact = true});
    ASSERT_TRUE(expected) << expected.error().to_string();

    // Vectors of this machine's length, and of half that where it has AVX-512.
    run_on("native", inputs, *expected, tolerance);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      run_on("x86-64-v3", inputs, *expected, tolerance);
  }

 private:
  void run_on(const char* target, std::vector<InterpTensor>& inputs, const std::vector<InterpTensor>& expected,
              double tolerance) {
    CompileOptions options;
    options.target = target;
    options.temporary_folder = folder_.path();
    auto package = compile(g, options);
    ASSERT_TRUE(package) << package.error().to_string();
    toroid_model* model = nullptr;
    ASSERT_EQ(toroid_load_memory(package->data(), package->size(), nullptr, &model), 0) << toroid_last_error();
    std::vector<std::vector<std::byte>> first;
    for (int32_t threads : {1, 2}) {
      std::vector<toroid_tensor> in, out(expected.size());
      for (InterpTensor& t : inputs)
        in.push_back({sizeof(toroid_tensor), t.data.data(), t.sizes.data(), nullptr,
                      static_cast<int32_t>(t.sizes.size()), TOROID_F32, 0, 0, nullptr});
      for (toroid_tensor& t : out) t = {}, t.size = sizeof t;
      toroid_run_options run = {};
      run.size = sizeof run;
      run.threads = threads;
      ASSERT_EQ(toroid_run_alloc(model, in.data(), in.size(), out.data(), out.size(), &run), 0) << toroid_last_error();
      for (size_t o = 0; o < out.size(); ++o) compare(out[o], expected[o], tolerance, threads == 1, first, o);
      toroid_free_outputs(out.data(), out.size());
    }
    toroid_unload(model);
  }

  void compare(const toroid_tensor& out, const InterpTensor& expected, double tolerance, bool is_first,
               std::vector<std::vector<std::byte>>& first, size_t o) {
    ASSERT_EQ(out.dtype, TOROID_F32);
    ASSERT_EQ(std::vector<int64_t>(out.sizes, out.sizes + out.rank), expected.sizes);
    const std::vector<double> wanted = expected.numbers();
    std::vector<float> values;
    for (int64_t i = 0; i < expected.count(); ++i) {
      int64_t rest = i, at = 0;
      for (int32_t d = out.rank; d-- > 0; rest /= out.sizes[d]) at += rest % out.sizes[d] * out.strides[d];
      values.push_back(static_cast<const float*>(out.data)[at]);
    }
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(values[i], wanted[i], tolerance) << "output " << o << ", element " << i;
    std::vector<std::byte> bytes(values.size() * 4);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    if (is_first)
      first.push_back(bytes);
    else
      EXPECT_EQ(first[o], bytes) << "output " << o << " depends on the threads";
  }

  TempFolder folder_ = *TempFolder::create();
  uint64_t state_ = 88172645463325252ull;
};

// [b, s, heads * d] as [b, heads, s, d], scaled.
Tensor split_heads(Program& p, Tensor x, const GraphBuilder::Size& batch, const GraphBuilder::Size& rows, int64_t heads,
                   int64_t d, double scale) {
  Tensor view = p.call("aten.view.default", {x, Sizes{batch, rows, heads, d}});
  return p.call("aten.mul.Tensor", {p.call("aten.transpose.int", {view, 1, 2}), scale});
}

TEST(Compiled, ProductsSideBySideStoreHeads) {
  Program p;
  const Tensor x = p.input("x", {2, 37, 96});
  p.output(split_heads(p, p.linear(x, "q", 128, 96), 2, 37, 4, 32, 0.125));
  p.output(split_heads(p, p.linear(x, "k", 128, 96), 2, 37, 4, 32, 1));
  p.output(split_heads(p, p.linear(x, "v", 80, 96, "f32", false), 2, 37, 5, 16, 2));
  p.output(split_heads(p, p.linear(x, "w", 72, 96), 2, 37, 3, 24, 2));  // a head that no vector fits
  p.output(p.linear(x, "plain", 50, 96));
  p.check({{2, 37, 96}}, 1e-5);
}

TEST(Compiled, ProductsSideBySideOfDynamicRows) {
  Program p;
  ASSERT_TRUE(p.g.symbol("s0", 1, 4096, 8));
  const Tensor x = p.input("x", {3, "s0", 80});
  p.output(split_heads(p, p.linear(x, "q", 96, 80), 3, "s0", 2, 48, 0.5));
  p.output(split_heads(p, p.linear(x, "k", 192, 80), 3, "s0", 4, 48, 1));
  p.output(p.call("aten.gelu.default", {p.linear(x, "v", 192, 80)}));
  p.check({{3, 29, 80}}, 1e-5);
}

// An embedding tied to the output layer is looked up in the packed weight, also in the last panel.
TEST(Compiled, RowsOutOfPanels) {
  for (const char* dtype : {"f32", "bf16"})
    for (int64_t rows : {128, 150})
      for (int64_t columns : {40, 33}) {
        Program p;
        const Tensor x = p.input("x", {19});
        const Tensor scaled =
            p.call("aten.mul.Tensor", {p.call("aten.abs.default", {x}), static_cast<double>(rows) - 0.01});
        const Tensor w = p.weight("w", {rows, columns}, 1, dtype);
        const Tensor at = p.call("aten.to.dtype", {scaled, GraphBuilder::Dtype{"i64"}});
        const Tensor h = p.call("aten.embedding.default", {w, at});
        p.output(p.f32(h));
        p.output(p.f32(p.call("aten.linear.default", {p.call("aten.relu.default", {h}), w, {}})));
        p.check({{19}}, dtype[0] == 'f' ? 1e-5 : 1e-1);
      }
}

// A row that the kernel itself writes, read at other places of it: only when the whole row is there.
TEST(Compiled, RowReadAtComputedPlaces) {
  Program p;
  ASSERT_TRUE(p.g.symbol("s0", 2, 4096, 6));
  const Tensor x = p.call("aten.log_softmax.int", {p.input("x", {"s0"}), 0});
  const Tensor y = p.call("aten.hardswish.default", {x});
  const Tensor rolled = p.call("aten.roll.default", {y, std::vector<int64_t>{-1}, std::vector<int64_t>{0}});
  p.output(p.call("aten.atan.default", {y}));
  p.output(p.call("aten.logsumexp.default", {rolled, std::vector<int64_t>{-1}}));
  p.output(y);
  p.output(rolled);
  p.check({{37}}, 1e-5);
}

// A reader of what a kernel has at its end and of what it has row by row does not join its rows.
TEST(Compiled, SoftmaxOverSums) {
  Program p;
  ASSERT_TRUE(p.g.symbol("s0", 2, 4096, 6));
  const Tensor x = p.call("aten.tile.default", {p.input("x", {17, "s0"}), std::vector<int64_t>{2}});
  const Tensor sums = p.call("aten.sum.dim_IntList", {x, std::vector<int64_t>{-1}});
  const Tensor mixed = p.call("aten.lerp.Scalar", {sums, sums, 0.3});
  p.output(p.call("aten.log_softmax.int", {mixed, 0}));
  p.check({{17, 9}}, 1e-5);
}

TEST(Compiled, ProductsSideBySideInBf16) {
  Program p;
  const Tensor x = p.bf16(p.input("x", {5, 61}));
  for (const char* name : {"q", "k", "v"}) p.output(p.f32(p.linear(x, name, 70, 61, "bf16")));
  p.check({{5, 61}}, 2e-2);
}

// silu(x G^T) * (x U^T)
Tensor gated(Program& p, Tensor x, int64_t n, int64_t k, const char* dtype, Tensor* gate = nullptr) {
  Tensor g = p.call("aten.silu.default", {p.linear(x, "gate", n, k, dtype)});
  if (gate) *gate = g;
  return p.call("aten.mul.Tensor", {g, p.linear(x, "up", n, k, dtype, false)});
}

TEST(Compiled, GatedProductsInOneTile) {
  Program p;
  const Tensor x = p.input("x", {50, 300});
  p.output(gated(p, x, 100, 300, "f32"));
  p.check({{50, 300}}, 1e-5);
}

TEST(Compiled, GatedProductsOfLongSumsAndDynamicRows) {
  Program p;
  ASSERT_TRUE(p.g.symbol("s0", 1, 4096, 8));
  const Tensor x = p.input("x", {"s0", 3500});
  Tensor gate;
  p.output(gated(p, x, 64, 3500, "f32", &gate));
  p.output(gate);  // kept, since it is asked for
  p.check({{15, 3500}}, 2e-5);
}

TEST(Compiled, GatedProductsInBf16) {
  Program p;
  const Tensor x = p.bf16(p.input("x", {9, 129}));
  p.output(p.f32(gated(p, x, 48, 129, "bf16")));
  p.check({{9, 129}}, 3e-2);
}

TEST(Compiled, GatedProductBesideOthers) {
  Program p;
  const Tensor x = p.input("x", {20, 64});
  p.output(gated(p, x, 96, 64, "f32"));
  p.output(p.linear(x, "other", 40, 64));
  p.check({{20, 64}}, 1e-5);
}

TEST(Compiled, PatchesStoreTokens) {
  Program p;
  const Tensor x = p.input("x", {2, 3, 32, 32});
  const Tensor conv = p.call("aten.conv2d.default", {x, p.weight("w", {40, 3, 8, 8}, 0.1), p.weight("b", {40}, 1),
                                                     std::vector<int64_t>{8, 8}});
  const Tensor tokens = p.call("aten.transpose.int", {p.call("aten.flatten.using_ints", {conv, 2, -1}), 1, 2});
  p.output(p.call("aten.add.Tensor", {tokens, p.weight("positions", {1, 16, 40}, 1)}));
  p.check({{2, 3, 32, 32}}, 1e-5);
}

TEST(Compiled, NormOfWindows) {
  Program p;
  const Tensor x = p.input("x", {2, 12, 8, 48});
  const std::vector<int64_t> last = {48};
  const Tensor norm =
      p.call("aten.layer_norm.default", {x, last, p.weight("w", {48}, 1), p.weight("b", {48}, 1), 1e-5});
  const Tensor rolled = p.call("aten.roll.default", {norm, std::vector<int64_t>{-3, -1}, std::vector<int64_t>{1, 2}});
  const Tensor cut = p.call("aten.view.default", {rolled, Sizes{2, 3, 4, 2, 4, 48}});
  const Tensor windows = p.call("aten.permute.default", {cut, std::vector<int64_t>{0, 1, 3, 2, 4, 5}});
  p.output(p.call("aten.reshape.default", {windows, Sizes{12, 16, 48}}));
  p.check({{2, 12, 8, 48}}, 1e-5);
}

TEST(Compiled, SoftmaxReadTransposed) {
  Program p;
  ASSERT_TRUE(p.g.symbol("s0", 1, 64, 8));
  const Tensor x = p.input("x", {"s0", 6, 40});
  const Tensor softmax = p.call("aten.softmax.int", {x, -1});
  const Tensor turned = p.call("aten.transpose.int", {softmax, 0, 1});
  p.output(p.call("aten.reshape.default", {p.call("aten.mul.Tensor", {turned, 3.0}), Sizes{"6*s0", 40}}));
  p.check({{7, 6, 40}}, 1e-5);
}

// groups x in channels x out channels of each group.
void grouped(int64_t groups, int64_t in, int64_t out, const char* dtype, double tolerance) {
  Program p;
  Tensor x = p.input("x", {2, groups * in, 9, 11});
  if (dtype != std::string("f32")) x = p.bf16(x);
  const Tensor w = p.weight("w", {groups * out, in, 3, 3}, 0.3, dtype), b = p.weight("b", {groups * out}, 1, dtype);
  const std::vector<int64_t> stride = {2, 1}, padding = {1, 1}, dilation = {1, 1};
  Tensor y = p.call("aten.conv2d.default", {x, w, b, stride, padding, dilation, groups});
  y = p.call("aten.relu.default", {y});
  p.output(dtype == std::string("f32") ? y : p.f32(y));
  p.check({{2, groups * in, 9, 11}}, tolerance);
}

TEST(Compiled, ConvolutionsInGroupsOfAnySize) {
  grouped(8, 4, 4, "f32", 1e-5);
  grouped(3, 5, 24, "f32", 1e-5);
  grouped(2, 3, 70, "f32", 1e-5);
  grouped(4, 6, 16, "bf16", 5e-2);
  grouped(3, 5, 9, "bf16", 5e-2);
}

TEST(Compiled, LongReductionsInBlocks) {
  Program p;
  ASSERT_TRUE(p.g.symbol("s0", 1, 4096, 600));
  const Tensor x = p.input("x", {"s0", 1031}), y = p.input("y", {620000});
  p.output(p.call("aten.mean.default", {x}));
  p.output(p.call("aten.amax.default", {x}));
  p.output(p.call("aten.mean.default", {p.call("aten.mul.Tensor", {y, y})}));
  p.output(p.call("aten.min.default", {y}));
  p.output(p.call("aten.softmax.int", {y, 0}));
  p.check({{601, 1031}, {620000}}, 1e-5);
}

TEST(Compiled, ResultsTakeThePlaceOfWhatTheyAreMadeOf) {
  Program p;
  ASSERT_TRUE(p.g.symbol("s0", 1, 64, 8));
  Tensor x = p.linear(p.input("x", {"s0", 96}), "in", 96, 96);
  for (int layer = 0; layer < 3; ++layer) {
    const Tensor h = p.call("aten.softmax.int", {x, -1});
    x = p.call("aten.add.Tensor", {p.linear(h, "fc" + std::to_string(layer), 96, 96), x});
    const Tensor most = p.call("aten.amax.default", {x, std::vector<int64_t>{-1}, true});
    x = p.call("aten.mul.Tensor", {p.call("aten.sub.Tensor", {x, most}), 0.5});
  }
  p.output(x);
  p.check({{13, 96}}, 1e-5);
}

TEST(Compiled, HalvesOfARoundedTensor) {
  Program p;
  const Tensor x = p.bf16(p.input("x", {7, 90}));
  const Tensor a = p.call("aten.slice.Tensor", {x, 1, 0, 45}), b = p.call("aten.slice.Tensor", {x, 1, 45, 90});
  p.output(p.f32(p.call("aten.mul.Tensor", {p.call("aten.silu.default", {a}), b})));
  p.check({{7, 90}}, 2e-2);
}

}  // namespace
}  // namespace toroid
