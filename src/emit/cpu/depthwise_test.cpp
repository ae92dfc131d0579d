// Depthwise convolutions against a double reference: strides, dilation, channel tails, dynamic sizes, splits.
#include "emit/cpu/depthwise.h"

#include <gtest/gtest.h>

#include "emit/cpu/kernel_testing.h"

namespace toroid::emit {
namespace {
using namespace testing;

struct Case {
  DType dtype;
  int64_t n, h, w, c, kh, kw, stride, dilation, pad;
  bool dynamic, long_epilogue;
  int64_t oh() const { return (h + 2 * pad - dilation * (kh - 1) - 1) / stride + 1; }
  int64_t ow() const { return (w + 2 * pad - dilation * (kw - 1) - 1) / stride + 1; }
  int64_t pixel() const { return c + 3; }
  std::string name() const {
    return format("{}_{}x{}x{}x{}_k{}x{}_s{}d{}p{}{}{}", dtype_name(dtype), n, h, w, c, kh, kw, stride, dilation, pad,
                  dynamic ? "_dyn" : "", long_epilogue ? "_long" : "");
  }
};

DepthwiseSpec spec_of(const Case& c, const Isa& isa) {
  DepthwiseSpec spec;
  spec.isa = isa;
  spec.dtype = c.dtype;
  auto size = [&](int64_t value, const char* text) { return c.dynamic ? Size::dynamic(text) : Size::of(value); };
  spec.batch = c.dynamic || c.n > 1 ? Size::dynamic("s[0]") : Size::of(c.n);
  spec.height = size(c.h, "s[1]");
  spec.width = size(c.w, "s[2]");
  spec.out_height = size(c.oh(), "s[3]");
  spec.out_width = size(c.ow(), "s[4]");
  spec.channels = c.c;
  spec.kernel_h = c.kh;
  spec.kernel_w = c.kw;
  spec.stride_h = spec.stride_w = c.stride;
  spec.dilation_h = spec.dilation_w = c.dilation;
  spec.pad_top = spec.pad_left = c.pad;
  spec.input = "p[0]";
  spec.weight = "p[1]";
  spec.pixel_stride = Size::of(c.pixel());
  spec.row_stride = c.dynamic ? Size::dynamic(format("s[2] * {}", c.pixel())) : Size::of(c.w * c.pixel());
  spec.batch_stride =
      c.dynamic ? Size::dynamic(format("s[1] * s[2] * {}", c.pixel())) : Size::of(c.h * c.w * c.pixel());
  spec.preamble = "f32* const out = (f32*)p[2]; const f32* const bias = (const f32*)p[3];\n";
  spec.epilogue = [c](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    const std::string extra = c.long_epilogue ? "/*" + std::string(4000, '.') + "*/" : "",
                      comma = count.empty() ? "" : ", " + count;
    return extra +
           format("store_f32(out + (({0} * {4} + {1}) * {5} + {2}) * {6} + {3}, {7} + load_f32(bias + {3}{8}){8});\n",
                  i[0], i[1], i[2], i[3], c.oh(), c.ow(), c.c, acc, comma);
  };
  return spec;
}

void check(const Case& c, const KernelLibrary& library) {
  Values values(static_cast<uint64_t>(c.c * 131 + c.kw));
  Operand x = values.operand(static_cast<size_t>(c.n * c.h * c.w * c.pixel()), c.dtype),
          w = values.operand(static_cast<size_t>(c.kh * c.kw * c.c), c.dtype);
  Operand bias = values.operand(static_cast<size_t>(c.c), DType::f32);
  std::vector<float> out(static_cast<size_t>(c.n * c.oh() * c.ow() * c.c));
  std::vector<double> want(out.size());
  for (int64_t n = 0; n < c.n; ++n)
    for (int64_t oh = 0; oh < c.oh(); ++oh)
      for (int64_t ow = 0; ow < c.ow(); ++ow)
        for (int64_t ch = 0; ch < c.c; ++ch) {
          double sum = bias.values[static_cast<size_t>(ch)];
          for (int64_t kh = 0; kh < c.kh; ++kh)
            for (int64_t kw = 0; kw < c.kw; ++kw) {
              const int64_t ih = oh * c.stride + kh * c.dilation - c.pad, iw = ow * c.stride + kw * c.dilation - c.pad;
              if (ih < 0 || ih >= c.h || iw < 0 || iw >= c.w) continue;
              sum += static_cast<double>(x.values[static_cast<size_t>(((n * c.h + ih) * c.w + iw) * c.pixel() + ch)]) *
                     w.values[static_cast<size_t>((kh * c.kw + kw) * c.c + ch)];
            }
          want[static_cast<size_t>(((n * c.oh() + oh) * c.ow() + ow) * c.c + ch)] = sum;
        }
  char* p[] = {x.data(), w.data(), reinterpret_cast<char*>(out.data()), bias.data()};
  const int64_t s[] = {c.n, c.h, c.w, c.oh(), c.ow()};
  const KernelFunction kernel = library.kernel(c.name());
  auto run = [&](int64_t begin, int64_t end) { kernel(p, s, begin, end); };
  EXPECT_EQ(differs_in_pieces(run, library.units(c.name(), s), out), "") << c.name();
  EXPECT_LT(relative_error(out, want), 2e-6) << c.name();
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (bool dynamic : {false, true}) {
    const Case list[] = {
        {DType::f32, 1, 14, 14, 48, 3, 3, 1, 1, 1, dynamic, false},
        {DType::f32, 2, 15, 16, 24, 3, 3, 2, 1, 1, dynamic, true},
        {DType::f32, 1, 7, 7, 70, 5, 5, 1, 1, 2, dynamic, true},
        {DType::bf16, 1, 14, 15, 40, 3, 3, 1, 1, 1, dynamic, false},
        {DType::f32, 1, 20, 21, 16, 3, 3, 1, 2, 2, dynamic, true},
        {DType::f32, 1, 3, 2, 7, 7, 7, 1, 1, 3, dynamic, false},
        {DType::f32, 1, 12, 12, 16, 13, 13, 1, 1, 6, dynamic, false},
        {DType::f32, 1, 1, 30, 32, 1, 3, 1, 1, 0, dynamic, false},
        {DType::bf16, 1, 9, 29, 33, 3, 3, 2, 1, 0, dynamic, true},
    };
    out.insert(out.end(), std::begin(list), std::end(list));
  }
  return out;
}

TEST(Depthwise, AgreesWithReference) {
  for (const TestTarget& target : host_targets()) {
    if (target.isa.wide() && !target.isa.bf16_dot && host_targets().size() == 4) continue;  // as the first target
    SCOPED_TRACE(target.label);
    std::string source;
    std::vector<Case> all = cases();
    if (target.isa.lanes == 4) std::erase_if(all, [i = 0](const Case&) mutable { return i++ % 3 != 0; });
    for (const Case& c : all) source += with_units(emit_depthwise(spec_of(c, target.isa), c.name()), c.name());
    const KernelLibrary library(source, target);
    std::printf("%s: %zu kernels, %zu KB of text, %.1f s\n", target.label.c_str(), all.size(), source.size() >> 10,
                library.seconds());
    for (const Case& c : all) check(c, library);
  }
}

}  // namespace
}  // namespace toroid::emit
