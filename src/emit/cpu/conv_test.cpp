// Convolutions against a double reference: strides, dilation, padding, groups, odd channels, dynamic sizes, splits.
#include "emit/cpu/conv.h"

#include <gtest/gtest.h>

#include "emit/cpu/kernel_testing.h"

namespace toroid::emit {
namespace {
using namespace testing;

struct Case {
  DType dtype;
  int64_t n, h, w, ic, oc, groups, kh, kw, stride, dilation, pad;
  bool dynamic, long_epilogue;
  int64_t gap;  // unused channels behind each pixel of the input
  int64_t oh() const { return (h + 2 * pad - dilation * (kh - 1) - 1) / stride + 1; }
  int64_t ow() const { return (w + 2 * pad - dilation * (kw - 1) - 1) / stride + 1; }
  std::string name() const {
    return format("{}_{}x{}x{}_{}_{}_g{}_k{}x{}_s{}d{}p{}{}{}_{}", dtype_name(dtype), n, h, w, ic, oc, groups, kh, kw,
                  stride, dilation, pad, dynamic ? "_dyn" : "", long_epilogue ? "_long" : "", gap);
  }
};

// p: input, weight, output [n][oh][ow][oc], bias; s: n, h, w, oh, ow.
ConvSpec spec_of(const Case& c, const Isa& isa) {
  ConvSpec spec;
  spec.isa = isa;
  spec.dtype = c.dtype;
  auto size = [&](int64_t value, const char* text) { return c.dynamic ? Size::dynamic(text) : Size::of(value); };
  spec.batch = c.dynamic || c.n > 1 ? Size::dynamic("s[0]") : Size::of(c.n);
  spec.height = size(c.h, "s[1]");
  spec.width = size(c.w, "s[2]");
  spec.out_height = size(c.oh(), "s[3]");
  spec.out_width = size(c.ow(), "s[4]");
  spec.panel = c.kh == 3 && c.w % 2 ? 16 : 64;
  spec.in_channels = c.ic;
  spec.out_channels = c.oc;
  spec.groups = c.groups;
  spec.kernel_h = c.kh;
  spec.kernel_w = c.kw;
  spec.stride_h = spec.stride_w = c.stride;
  spec.dilation_h = spec.dilation_w = c.dilation;
  spec.pad_top = spec.pad_left = c.pad;
  spec.input = "p[0]";
  spec.weight = "p[1]";
  const int64_t pixel = c.ic + c.gap;
  spec.pixel_stride = Size::of(pixel);
  spec.row_stride = c.dynamic ? Size::dynamic(format("s[2] * {}", pixel)) : Size::of(c.w * pixel);
  spec.batch_stride = c.dynamic ? Size::dynamic(format("s[1] * s[2] * {}", pixel)) : Size::of(c.h * c.w * pixel);
  spec.dense_rows = c.dynamic;
  spec.preamble = "f32* const out = (f32*)p[2]; const f32* const bias = (const f32*)p[3];\n";
  spec.epilogue = [c](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    const std::string extra = c.long_epilogue ? "/*" + std::string(4000, '.') + "*/" : "",
                      comma = count.empty() ? "" : ", " + count;
    return extra +
           format("store_f32(out + (({0} * {4} + {1}) * {5} + {2}) * {6} + {3}, {7} + load_f32(bias + {3}{8}){8});\n",
                  i[0], i[1], i[2], i[3], c.oh(), c.ow(), c.oc, acc, comma);
  };
  return spec;
}

void check(const Case& c, const KernelLibrary& library, const Isa& isa) {
  const ConvSpec spec = spec_of(c, isa);
  Values values(static_cast<uint64_t>(c.ic * 131 + c.oc));
  const int64_t pixel = c.ic + c.gap, icg = c.ic / c.groups;
  Operand x = values.operand(static_cast<size_t>(c.n * c.h * c.w * pixel), c.dtype),
          bias = values.operand(static_cast<size_t>(c.oc), DType::f32);
  Operand weight = values.operand(static_cast<size_t>(c.oc * icg * c.kh * c.kw), c.dtype), packed;
  packed.values.assign(static_cast<size_t>(conv_packed_elements(spec)), 0);
  for (int64_t oc = 0; oc < c.oc; ++oc)
    for (int64_t ic = 0; ic < icg; ++ic)
      for (int64_t kh = 0; kh < c.kh; ++kh)
        for (int64_t kw = 0; kw < c.kw; ++kw)
          packed.values[static_cast<size_t>(conv_packed_index(spec, oc, ic, kh, kw))] =
              weight.values[static_cast<size_t>(((oc * icg + ic) * c.kh + kh) * c.kw + kw)];
  Values::store(packed, c.dtype);
  std::vector<float> out(static_cast<size_t>(c.n * c.oh() * c.ow() * c.oc));
  std::vector<double> want(out.size());
  std::vector<float> running(out.size());
  for (int64_t n = 0; n < c.n; ++n)
    for (int64_t oh = 0; oh < c.oh(); ++oh)
      for (int64_t ow = 0; ow < c.ow(); ++ow)
        for (int64_t oc = 0; oc < c.oc; ++oc) {
          double sum = bias.values[static_cast<size_t>(oc)];
          float running_sum = 0;
          for (int64_t kh = 0; kh < c.kh; ++kh)
            for (int64_t kw = 0; kw < c.kw; ++kw) {
              const int64_t ih = oh * c.stride + kh * c.dilation - c.pad, iw = ow * c.stride + kw * c.dilation - c.pad;
              if (ih < 0 || ih >= c.h || iw < 0 || iw >= c.w) continue;
              const float* px =
                  &x.values[static_cast<size_t>(((n * c.h + ih) * c.w + iw) * pixel + oc / (c.oc / c.groups) * icg)];
              const float* pw = &weight.values[static_cast<size_t>((oc * icg * c.kh + kh) * c.kw + kw)];
              for (int64_t ic = 0; ic < icg; ++ic) {
                sum += static_cast<double>(px[ic]) * pw[ic * c.kh * c.kw];
                running_sum = std::fma(px[ic], pw[ic * c.kh * c.kw], running_sum);
              }
            }
          const size_t at = static_cast<size_t>(((n * c.oh() + oh) * c.ow() + ow) * c.oc + oc);
          want[at] = sum;
          running[at] = running_sum + bias.values[static_cast<size_t>(oc)];
        }
  char* p[] = {x.data(), packed.data(), reinterpret_cast<char*>(out.data()), bias.data()};
  const int64_t s[] = {c.n, c.h, c.w, c.oh(), c.ow()};
  const KernelFunction kernel = library.kernel(c.name());
  auto run = [&](int64_t begin, int64_t end) { kernel(p, s, begin, end); };
  EXPECT_EQ(differs_in_pieces(run, library.units(c.name(), s), out), "") << c.name();
  EXPECT_LT(relative_error(out, want), 3e-6) << c.name();
  // Long sums are cut.
  if (icg * c.kh * c.kw < 1300 * (c.dtype == DType::bf16 ? 2 : 1)) return;
  double error = 0, running_error = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    error += std::pow(out[i] - want[i], 2);
    running_error += std::pow(running[i] - want[i], 2);
  }
  EXPECT_LT(std::sqrt(error / running_error), 0.65) << c.name();
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (DType dtype : {DType::f32, DType::bf16})
    for (bool dynamic : {false, true}) {
      const Case list[] = {
          //     n   h   w  ic   oc  g  kh kw s  d  p
          {dtype, 1, 14, 14, 16, 64, 1, 3, 3, 1, 1, 1, dynamic, false, 0},
          {dtype, 2, 7, 7, 32, 80, 1, 3, 3, 1, 1, 1, dynamic, true, 0},
          {dtype, 1, 30, 37, 3, 64, 1, 7, 7, 2, 1, 3, dynamic, false, 0},   // first layer
          {dtype, 1, 9, 13, 8, 10, 1, 3, 5, 1, 2, 2, dynamic, false, 0},    // dilation, few outputs
          {dtype, 1, 11, 10, 12, 24, 3, 3, 3, 2, 1, 1, dynamic, false, 0},  // groups
          {dtype, 2, 9, 8, 10, 65, 1, 1, 1, 1, 1, 0, dynamic, false, 0},    // matrix product
          {dtype, 1, 9, 8, 6, 70, 2, 1, 1, 1, 1, 0, dynamic, false, 0},     // matrix product in groups
          {dtype, 1, 15, 16, 20, 64, 1, 1, 1, 2, 1, 0, dynamic, false, 0},
          {dtype, 1, 3, 2, 5, 7, 1, 5, 5, 1, 1, 2, dynamic, false, 0},     // kernel larger than the image
          {dtype, 1, 8, 19, 7, 128, 1, 3, 3, 1, 1, 0, dynamic, true, 4},   // odd channels, gap
          {dtype, 1, 1, 40, 16, 48, 1, 1, 3, 1, 1, 1, dynamic, false, 0},  // one-dimensional, padded in h too
      };
      out.insert(out.end(), std::begin(list), std::end(list));
    }
  out.push_back({DType::f32, 1, 10, 7, 512, 64, 1, 3, 3, 1, 1, 1, false, false, 0});  // panel cut along kh
  out.push_back({DType::bf16, 1, 10, 9, 1200, 40, 1, 3, 3, 1, 1, 1, false, false, 0});
  // Long sums, cut at rows of taps, at taps, and within taps.
  for (DType dtype : {DType::f32, DType::bf16}) {
    const int64_t f = dtype == DType::bf16 ? 2 : 1;
    const bool dynamic = dtype == DType::f32;
    out.push_back({dtype, 1, 8, 9, 28 * f, 40, 1, 7, 3, 1, 1, 2, !dynamic, false, 0});   // three rows
    out.push_back({dtype, 1, 8, 13, 64 * f, 40, 1, 7, 3, 1, 1, 2, dynamic, false, 0});   // one row
    out.push_back({dtype, 1, 5, 13, 90 * f, 40, 1, 3, 5, 1, 1, 2, !dynamic, false, 0});  // three taps
    out.push_back({dtype, 1, 5, 9, 256 * f, 40, 1, 3, 3, 2, 1, 1, dynamic, true, 0});    // one tap
    out.push_back({dtype, 1, 5, 9, 515 * f + 1, 40, 1, 3, 3, 1, 1, 1, false, false, 0});
    out.push_back({dtype, 1, 5, 9, 512 * f, 40, 1, 2, 2, 1, 1, 0, dynamic, false, 0});
  }
  return out;
}

TEST(Conv, AgreesWithReference) {
  for (const TestTarget& target : host_targets()) {
    SCOPED_TRACE(target.label);
    std::string source;
    std::vector<Case> all = cases();
    if (target.isa.wide() && !target.isa.bf16_dot)
      std::erase_if(all, [](const Case& c) { return c.dtype == DType::f32 || c.dynamic; });
    if (target.isa.lanes == 4) std::erase_if(all, [i = 0](const Case&) mutable { return i++ % 4 != 0; });
    for (const Case& c : all) source += with_units(emit_conv(spec_of(c, target.isa), c.name()), c.name());
    const KernelLibrary library(source, target);
    std::printf("%s: %zu kernels, %zu KB of text, %.1f s\n", target.label.c_str(), all.size(), source.size() >> 10,
                library.seconds());
    for (const Case& c : all) check(c, library, target.isa);
  }
}

}  // namespace
}  // namespace toroid::emit
