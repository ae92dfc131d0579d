// Fused programs compiled and run, beside the interpreter: within the error of f32 sums, and with the same bits on one
// thread, on two and from one caller that takes every block itself.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "base/file.h"
#include "interp/interp.h"
#include "toroid/compiler.h"
#include "toroid/runtime.h"

namespace toroid {
namespace {

struct Unload {
  void operator()(toroid_model* model) const { toroid_unload(model); }
};

class FusedKernels : public testing::TestWithParam<const char*> {
 protected:
  // Values in [-1, 1) that every run has alike; integers below 4.
  InterpTensor values(const LoopTensor& tensor, const std::map<std::string, int64_t>& sizes) {
    std::vector<int64_t> extents;
    int64_t count = 1;
    for (const Sym& size : tensor.sizes) {
      extents.push_back(evaluate(size, sizes));
      count *= extents.back();
    }
    std::vector<double> numbers;
    for (int64_t i = 0; i < count; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      const auto high = static_cast<double>(state_ >> 33);
      numbers.push_back(is_integer(tensor.dtype) ? std::fmod(high, 4) : high / (1u << 30) - 1);
    }
    return InterpTensor::of(tensor.dtype, extents, numbers);
  }

  static toroid_tensor view(const InterpTensor& tensor, std::vector<std::byte>& data) {
    return {sizeof(toroid_tensor),
            data.data(),
            tensor.sizes.data(),
            nullptr,
            static_cast<int32_t>(tensor.sizes.size()),
            tensor.dtype == DType::i64 ? TOROID_I64 : TOROID_F32,
            0,
            0,
            nullptr};
  }

  uint64_t state_ = 1;
};

TEST_P(FusedKernels, agree_with_the_interpreter) {
  const Loops loops = *parse_loops(GetParam());
  std::map<std::string, int64_t> sizes;
  for (const SymbolInfo& symbol : loops.symbols) sizes[symbol.name] = symbol.hint.value_or(37);
  std::vector<InterpTensor> inputs;
  for (TensorId id : loops.input_tensors) inputs.push_back(values(loops[id], sizes));
  const auto expected = interpret(loops, inputs, {.exact = true});
  ASSERT_TRUE(expected) << expected.error().to_string();

  TempFolder folder = *TempFolder::create();
  const std::string path = folder.path() + "/m.loops";
  std::ofstream(path) << GetParam();
  CompileOptions options;
  options.temporary_folder = folder.path();
  auto compiled = compile_stages(path, "", "", options);
  ASSERT_TRUE(compiled) << compiled.error().to_string();
  toroid_load_options load = {};
  load.size = sizeof load;
  toroid_model* loaded = nullptr;
  ASSERT_EQ(toroid_load_memory(compiled->package->data(), compiled->package->size(), &load, &loaded), 0)
      << toroid_last_error();
  const std::unique_ptr<toroid_model, Unload> model(loaded);

  std::vector<std::vector<std::byte>> first;
  for (int threads : {1, 2}) {
    std::vector<toroid_tensor> in, out;
    for (InterpTensor& input : inputs) in.push_back(view(input, input.data));
    std::vector<InterpTensor> results;
    for (const InterpTensor& want : *expected) {
      results.push_back(want);
      results.back().dtype = DType::f32;
      results.back().data.assign(static_cast<size_t>(want.count()) * 4, std::byte{0x7f});
    }
    for (InterpTensor& result : results) out.push_back(view(result, result.data));
    toroid_run_options run = {};
    run.size = sizeof run;
    run.threads = threads;
    ASSERT_EQ(toroid_run_with(model.get(), in.data(), static_cast<int32_t>(in.size()), out.data(),
                              static_cast<int32_t>(out.size()), &run),
              0)
        << toroid_last_error();
    for (size_t o = 0; o < results.size(); ++o) {
      double worst = 0, largest = 1e-3;
      for (int64_t i = 0; i < results[o].count(); ++i) {
        worst = std::max(worst, std::abs(results[o].number(i) - (*expected)[o].number(i)));
        largest = std::max(largest, std::abs((*expected)[o].number(i)));
        ASSERT_TRUE(std::isfinite(results[o].number(i))) << "output " << o << ", element " << i;
      }
      EXPECT_LT(worst / largest, 1e-6) << "output " << o;
      if (threads == 1)
        first.push_back(results[o].data);
      else
        EXPECT_EQ(first[o], results[o].data) << "output " << o << " has other bits on two threads";
    }
  }
}

constexpr const char* programs[] = {
    // g++ 12.2 crashes on this kernel's loop of three steps, for AVX-512, and is asked again.
    R"(loops @crash(%y: f32[s0, 3]) where 1 <= s0 <= 64 hint 8 {
  %sum[i0] = sum(j0 in 3: f64(%y[i0, j0])) : f64[s0]
  %out[i0] = f32(%sum[i0]) : f32[s0]
  return %out
})",
    // Long sums in lanes: the lanes are shared out, the sums cut into runs (one run errs by 8e-6 here).
    R"(loops @pixels(%x: f32[1, 12544, 72]) {
  %sum[i0, i1] = sum(j0 in 12544: abs(%x[i0, j0, i1])) : f32[1, 72]
  return %sum
})",
    R"(loops @rows_of_pixels(%x: f32[s0, s1, 30, 19]) where 1 <= s0 <= 8 hint 2, 1 <= s1 <= 512 hint 67 {
  %sum[i0, i1] = sum(j0 in s1, j1 in 30: abs(%x[i0, j0, j1, i1])) : f32[s0, 19]
  return %sum
})",
    // Sums of rows and of columns in one pass.
    R"(loops @rows_and_columns(%x: f32[s0, 100]) where 1 <= s0 <= 4096 hint 517 {
  %rows[i0] = sum(j0 in 100: %x[i0, j0]) : f32[s0]
  %columns[i0] = sum(j0 in s0: %x[j0, i0]) : f32[100]
  return %rows, %columns
})",
    // Fewer rows than blocks, at a size that is not the hint of the decision.
    R"(loops @few_rows(%x: f32[s0, 64], %y: f32[s0, 64]) where 1 <= s0 <= 4096 hint 700 {
  %product[i0, i1] = %x[i0, i1] * %y[i0, i1] : f32[s0, 64]
  %most[i0] = max(j0 in s0: %product[j0, i0]) : f32[64]
  return %product, %most
})",
    // The gradient of a layer norm: rows, and columns of the same data.
    R"(loops @layer_norm_backward(%x: f32[300, 96], %dy: f32[300, 96]) {
  %sum[i0, i1] = sum(j0 in 96: %x[i0, j0]) : f32[300, 1]
  %squares[i0, i1] = sum(j0 in 96: let t0 = %x[i0, j0] - %sum[i0, 0] / 96.0; t0 * t0) : f32[300, 1]
  %rstd[i0, i1] = rsqrt(%squares[i0, 0] / 96.0 + 1e-05) : f32[300, 1]
  %xh[i0, i1] = (%x[i0, i1] - %sum[i0, 0] / 96.0) * %rstd[i0, 0] : f32[300, 96]
  %along[i0, i1] = sum(j0 in 96: %dy[i0, j0] * %xh[i0, j0]) : f32[300, 1]
  %dx[i0, i1] = (%dy[i0, i1] - %xh[i0, i1] * %along[i0, 0] / 96.0) * %rstd[i0, 0] : f32[300, 96]
  %dw[i0] = sum(j0 in 300: %dy[j0, i0] * %xh[j0, i0]) : f32[96]
  %db[i0] = sum(j0 in 300: %dy[j0, i0]) : f32[96]
  return %dx, %dw, %db
})",
    // A loss: what rows give is added up, then divided by how many count.
    R"(loops @loss(%x: f32[128, 1000], %t: i64[128]) {
  %most[i0, i1] = max(j0 in 1000: %x[i0, j0]) : f32[128, 1]
  %sum[i0, i1] = sum(j0 in 1000: exp(%x[i0, j0] - %most[i0, 0])) : f32[128, 1]
  %total[] = sum(j0 in 128: where(%t[j0] != 2, %x[j0, check_index(%t[j0], 1000)] - %most[j0, 0] - log(%sum[j0, 0]), 0.0)) : f32[]
  %count[] = sum(j0 in 128: where(%t[j0] != 2, 1.0, 0.0)) : f32[]
  %loss[] = -%total[] / %count[] : f32[]
  return %loss
})",
    // Over everything, and over one long line.
    R"(loops @everything(%x: f32[8, 40, 520], %y: f32[524288]) {
  %mean[] = sum(j0 in 8, j1 in 40, j2 in 520: %x[j0, j1, j2]) / 166400.0 : f32[]
  %least[] = min(j0 in 524288: %y[j0]) : f32[]
  %line[] = sum(j0 in 524288: %y[j0] * %y[j0]) : f32[]
  return %mean, %least, %line
})",
    // Columns alone.
    R"(loops @columns(%x: f32[4, 700, 48]) {
  %mean[i0] = sum(j0 in 4, j1 in 700: %x[j0, j1, i0]) / 2800.0 : f32[48]
  return %mean
})",
    // Statistics of groups of channels, read at c // 4.
    R"(loops @group_norm(%x: f32[2, 16, 9, 9], %w: f32[16]) {
  %sum[i0, i1] = sum(j0 in 4, j1 in 9, j2 in 9: %x[i0, 4*i1 + j0, j1, j2]) : f32[2, 4]
  %squares[i0, i1] = sum(j0 in 4, j1 in 9, j2 in 9: let t0 = %x[i0, 4*i1 + j0, j1, j2] - %sum[i0, i1] / 324.0; t0 * t0) : f32[2, 4]
  %y[i0, i1, i2, i3] = (%x[i0, i1, i2, i3] - %sum[i0, i1//4] / 324.0) * rsqrt(%squares[i0, i1//4] / 324.0) * %w[i1] : f32[2, 16, 9, 9]
  %z[i0, i1, i2, i3] = %y[i0, i1, i2, i3] / (1.0 + exp(-%y[i0, i1, i2, i3])) : f32[2, 16, 9, 9]
  return %z
})",
    // Each element of one map is read four times by another: a row of it stays in scratch.
    R"(loops @upsample(%x: f32[4, 8, 13, 11], %y: f32[4, 8, 26, 22]) {
  %t[i0, i1, i2, i3] = tanh(%x[i0, i1, i2, i3]) : f32[4, 8, 13, 11]
  %z[i0, i1, i2, i3] = max(%t[i0, i1, i2//2, i3//2] + %y[i0, i1, i2, i3], 0.0) : f32[4, 8, 26, 22]
  return %z
})",
    R"(loops @upsample_four_times(%x: f32[64, 9]) {
  %z[i0, i1] = %x[i0, i1//4] * 2.0 : f32[64, 36]
  return %z
})",
    // Parts of a concatenation, one of them dear to compute.
    R"(loops @cat_slice(%a: f32[64, 40], %b: f32[64, 40]) {
  %t[i0, i1] = tanh(%b[i0, i1]) : f32[64, 40]
  %c[i0, i1] = where(i1 < 40, max(%a[i0, i1], 0.0), where(i1 < 80, %t[i0, i1 - 40], %a[i0, i1 - 80] * %b[i0, i1 - 80])) : f32[64, 120]
  %z[i0, i1] = %c[i0, i1 + 20] * 2.0 : f32[64, 90]
  return %z
})",
    // Read across: blocks turned round, with edges that fill none, behind outer dims and beside another layout.
    R"(loops @turned(%x: f32[3, 70, 50], %y: f32[3, 50, 70]) {
  %z[i0, i1, i2] = %x[i0, i2, i1] * %y[i0, i1, i2] + %x[i0, i2, i1] : f32[3, 50, 70]
  return %z
})",
    R"(loops @turned_wide(%x: f32[s0, 1056], %y: f32[1056, s0]) where 1 <= s0 <= 4096 hint 64 {
  %z[i0, i1] = %x[i1, i0] + %y[i0, i1] : f32[1056, s0]
  return %z
})",
    // An output that goes past the cache, read in its own order and across.
    R"(loops @large(%x: f32[2048, 1600], %y: f32[1600, 2048]) {
  %z[i0, i1] = %x[i0, i1] + %y[i1, i0] : f32[2048, 1600]
  %w[i0, i1] = %x[i0, i1] * 2.0 : f32[2048, 1600]
  return %z, %w
})",
    // Padding and parts at odd bounds: vectors on one side, on the other, across.
    R"(loops @padded(%x: f32[9, 61]) {
  %z[i0, i1] = where(i1 >= 3 and i1 < 64, %x[i0, i1 - 3], where(i1 < 70, 1.5, %x[i0, i1 - 70])) : f32[9, 100]
  return %z
})",
};
INSTANTIATE_TEST_SUITE_P(Programs, FusedKernels, testing::ValuesIn(programs), [](const auto& test) {
  const std::string text = test.param;
  const size_t at = text.find('@') + 1;
  return text.substr(at, text.find('(') - at);
});

}  // namespace
}  // namespace toroid
