// Matrix products of every layout against a double reference, over odd sizes, strides, dynamic sizes and splits.
#include "emit/cpu/matmul.h"

#include <gtest/gtest.h>

#include "emit/cpu/kernel_testing.h"

namespace toroid::emit {
namespace {
using namespace testing;

struct Case {
  DType dtype;
  BLayout layout;
  bool a_transposed;
  int64_t batch, m, n, k;
  bool dynamic;  // m, and n and k unless packed
  bool long_epilogue;
  std::string name() const {
    return format("{}_{}_{}_{}x{}x{}x{}{}{}", dtype_name(dtype),
                  layout == BLayout::packed      ? "packed"
                  : layout == BLayout::row_major ? "rows"
                                                 : "cols",
                  a_transposed ? "at" : "a", batch, m, n, k, dynamic ? "_dyn" : "", long_epilogue ? "_long" : "");
  }
  int64_t lda() const { return (a_transposed ? m : k) + 3; }
  int64_t ldb() const { return (layout == BLayout::row_major ? n : k) + 5; }
  int64_t a_size() const { return lda() * (a_transposed ? k : m); }
  int64_t b_size() const {
    return layout == BLayout::packed ? packed_elements(n, k, dtype) : ldb() * (layout == BLayout::row_major ? k : n);
  }
  int64_t panel() const { return n % 2 ? 16 : 64; }
  int64_t ldc() const { return n + 2; }
};

// p: A, B, C, bias [n]; s: m, n, k, batch.
MatmulSpec spec_of(const Case& c, const Isa& isa) {
  MatmulSpec spec;
  spec.isa = isa;
  spec.dtype = c.dtype;
  spec.batch = c.dynamic && c.batch > 1 ? Size::dynamic("s[3]") : Size::of(c.batch);
  spec.m = c.dynamic ? Size::dynamic("s[0]") : Size::of(c.m);
  const bool free = c.dynamic && c.layout != BLayout::packed;
  spec.n = free ? Size::dynamic("s[1]") : Size::of(c.n);
  spec.k = free ? Size::dynamic("s[2]") : Size::of(c.k);
  spec.a = "p[0]";
  spec.b = "p[1]";
  spec.a_stride = Size::of(c.lda());
  spec.b_stride = Size::of(c.ldb());
  spec.a_transposed = c.a_transposed;
  spec.a_offset = [c](const std::string& b) { return format("{} * {}", b, c.a_size()); };
  spec.b_offset = [c](const std::string& b) { return format("{} * {}", b, c.b_size()); };
  spec.b_layout = c.layout;
  spec.panel = c.panel();
  spec.preamble = "f32* const out = (f32*)p[2]; const f32* const bias = (const f32*)p[3];\n";
  spec.epilogue = [c](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    const std::string to = format("out + ({} * {} + {}) * {} + {}", i[0], c.m, i[1], c.ldc(), i[2]);
    const std::string extra = c.long_epilogue ? "/*" + std::string(4000, '.') + "*/" : "";
    if (count.empty()) return extra + format("store_f32({}, {} + load_f32(bias + {}));\n", to, acc, i[2]);
    return format("store_f32({0}, {1} + load_f32(bias + {2}, {3}), {3});\n", to, acc, i[2], count);
  };
  return spec;
}

void check(const Case& c, const KernelLibrary& library) {
  Values values(static_cast<uint64_t>(c.m * 10007 + c.n * 101 + c.k));
  Operand a = values.operand(static_cast<size_t>(c.batch * c.a_size()), c.dtype);
  Operand b = values.operand(static_cast<size_t>(c.batch * c.b_size()), c.dtype),
          bias = values.operand(static_cast<size_t>(c.n), DType::f32);
  std::vector<float> out(static_cast<size_t>(c.batch * c.m * c.ldc()), 0);
  // Padding of a packed weight is zero.
  if (c.layout == BLayout::packed) {
    std::vector<float> packed(b.values.size(), 0);
    for (int64_t i = 0; i < c.batch; ++i)
      for (int64_t n = 0; n < c.n; ++n)
        for (int64_t k = 0; k < c.k; ++k) {
          const size_t at = static_cast<size_t>(i * c.b_size() + packed_index(n, k, c.n, c.k, c.dtype, c.panel()));
          packed[at] = b.values[at];
        }
    b.values = packed;
    Values::store(b, c.dtype);
  }
  std::vector<double> want(out.size(), -77.0);
  for (int64_t i = 0; i < c.batch; ++i)
    for (int64_t m = 0; m < c.m; ++m)
      for (int64_t n = 0; n < c.n; ++n) {
        double sum = bias.values[static_cast<size_t>(n)];
        for (int64_t k = 0; k < c.k; ++k) {
          const int64_t at_a = i * c.a_size() + (c.a_transposed ? k * c.lda() + m : m * c.lda() + k);
          const int64_t at_b =
              i * c.b_size() + (c.layout == BLayout::packed      ? packed_index(n, k, c.n, c.k, c.dtype, c.panel())
                                : c.layout == BLayout::row_major ? k * c.ldb() + n
                                                                 : n * c.ldb() + k);
          sum += static_cast<double>(a.values[static_cast<size_t>(at_a)]) * b.values[static_cast<size_t>(at_b)];
        }
        want[static_cast<size_t>((i * c.m + m) * c.ldc() + n)] = sum;
      }
  char* p[] = {a.data(), b.data(), reinterpret_cast<char*>(out.data()), bias.data()};
  const int64_t s[] = {c.m, c.n, c.k, c.batch};
  const KernelFunction kernel = library.kernel(c.name());
  auto run = [&](int64_t begin, int64_t end) { kernel(p, s, begin, end); };
  EXPECT_EQ(differs_in_pieces(run, library.units(c.name(), s), out), "") << c.name();
  EXPECT_LT(relative_error(out, want), c.k > 2000 ? 6e-6 : 2e-6) << c.name();
}

std::vector<Case> cases() {
  const int64_t sizes[] = {1, 3, 7, 13, 50, 64, 65, 100};
  std::vector<Case> out;
  int64_t turn = 0;
  for (DType dtype : {DType::f32, DType::bf16})
    for (BLayout layout : {BLayout::packed, BLayout::row_major, BLayout::transposed})
      for (int64_t m : sizes) {
        // Every m, with n and k walking through the sizes at different speeds.
        for (int round = 0; round < (dtype == DType::f32 ? 2 : 1); ++round, ++turn)
          out.push_back({dtype, layout, turn % 5 == 4, turn % 7 == 3 ? 3 : 1, m, sizes[(turn * 7919 / 11 + round) % 8],
                         sizes[(turn * 104729 / 13 + 2) % 8], turn % 3 == 1, turn % 4 == 2});
      }
  // Long k: blocks of k.
  for (DType dtype : {DType::f32, DType::bf16}) {
    out.push_back({dtype, BLayout::packed, false, 1, 29, 80, 6501, false, false});
    out.push_back({dtype, BLayout::row_major, false, 1, 29, 70, 6500, true, false});
    out.push_back({dtype, BLayout::transposed, false, 1, 29, 70, 4501, false, false});
    out.push_back({dtype, BLayout::transposed, false, 1, 4, 70, 2501, false, false});
    out.push_back({dtype, BLayout::packed, false, 1, 400, 30, 40, true, false});
  }
  std::vector<Case> unique;
  for (const Case& c : out)
    if (std::none_of(unique.begin(), unique.end(), [&](const Case& u) { return u.name() == c.name(); }))
      unique.push_back(c);
  return unique;
}

TEST(Matmul, AgreesWithReference) {
  for (const TestTarget& target : host_targets()) {
    SCOPED_TRACE(target.label);
    std::string source;
    std::vector<Case> all = cases();
    // Without vdpbf16ps only bf16 differs from the first target.
    if (target.isa.wide() && !target.isa.bf16_dot)
      std::erase_if(all, [](const Case& c) { return c.dtype == DType::f32 || c.dynamic; });
    // The narrow targets share their text: every second case, every fourth.
    std::erase_if(all, [&, i = 0](const Case&) mutable { return i++ % (16 / target.isa.lanes) != 0; });
    for (const Case& c : all) source += with_units(emit_matmul(spec_of(c, target.isa), c.name()), c.name());
    const KernelLibrary library(source, target);
    std::printf("%s: %zu kernels, %zu KB of text, %.1f s\n", target.label.c_str(), all.size(), source.size() >> 10,
                library.seconds());
    for (const Case& c : all) check(c, library);
  }
}

// Root of the mean square of the error of a kernel on normal data, over that of running f32 sums.
double error_over_sequential(const Case& c, const KernelLibrary& library) {
  Values values(static_cast<uint64_t>(c.k));
  auto normal = [&](int64_t count) {
    Operand out;
    for (int64_t i = 0; i < count; ++i) {
      const double r = std::sqrt(-2 * std::log(0.5 * (1.0000001 + static_cast<double>(values.next()))));
      const float x = static_cast<float>(r * std::cos(M_PI * static_cast<double>(values.next())));
      out.values.push_back(c.dtype == DType::bf16 ? from_bf16(to_bf16(x)) : x);
    }
    Values::store(out, c.dtype);
    return out;
  };
  Operand a = normal(c.a_size()), b = normal(c.b_size()), bias;
  bias.values.assign(static_cast<size_t>(c.n), 0);
  Values::store(bias, DType::f32);
  std::vector<float> out(static_cast<size_t>(c.m * c.ldc()));
  char* p[] = {a.data(), b.data(), reinterpret_cast<char*>(out.data()), bias.data()};
  const int64_t s[] = {c.m, c.n, c.k, 1};
  library.kernel(c.name())(p, s, 0, library.units(c.name(), s));
  double cut_error = 0, running_error = 0;
  for (int64_t m = 0; m < c.m; ++m)
    for (int64_t n = 0; n < c.n; ++n) {
      double exact = 0;
      float running = 0;
      for (int64_t k = 0; k < c.k; ++k) {
        const float x = a.values[static_cast<size_t>(m * c.lda() + k)];
        const float y =
            b.values[static_cast<size_t>(c.layout == BLayout::packed ? packed_index(n, k, c.n, c.k, c.dtype, c.panel())
                                         : c.layout == BLayout::row_major ? k * c.ldb() + n
                                                                          : n * c.ldb() + k)];
        exact += static_cast<double>(x) * y;
        running = std::fma(x, y, running);
      }
      cut_error += std::pow(out[static_cast<size_t>(m * c.ldc() + n)] - exact, 2);
      running_error += std::pow(running - exact, 2);
    }
  return std::sqrt(cut_error / running_error);
}

// Sums in blocks of k: the expected ratio is about 0.3 for 12 blocks, 0.4 for 6, 0.6 for 3.
TEST(Matmul, LongSumsAreCut) {
  for (const TestTarget& target : host_targets()) {
    SCOPED_TRACE(target.label);
    if (target.isa.wide() && !target.isa.bf16_dot) continue;
    std::vector<Case> all;
    for (DType dtype : {DType::f32, DType::bf16})
      for (BLayout layout : {BLayout::packed, BLayout::row_major, BLayout::transposed})
        for (int64_t m : {13, 29}) all.push_back({dtype, layout, false, 1, m, 64, 3072, m == 29, false});
    all.push_back({DType::f32, BLayout::packed, false, 1, 13, 64, 768, false, false});
    std::string source;
    for (const Case& c : all) source += with_units(emit_matmul(spec_of(c, target.isa), c.name()), c.name());
    const KernelLibrary library(source, target);
    for (const Case& c : all) {
      const double ratio = error_over_sequential(c, library);
      EXPECT_LT(ratio, c.k > 1000 ? 0.5 : 0.7) << c.name();
    }
  }
}

// Equal kernels differ by their name alone.
TEST(Matmul, TextIsCanonical) {
  const Case c{DType::f32, BLayout::packed, false, 1, 13, 100, 64, false, false};
  const Isa isa;
  EXPECT_EQ(replace_all(emit_matmul(spec_of(c, isa), "first").text, "first", "x"),
            replace_all(emit_matmul(spec_of(c, isa), "other").text, "other", "x"));
}

}  // namespace
}  // namespace toroid::emit
