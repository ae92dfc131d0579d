// Attention against a double reference: causal, grouped heads, masks, odd sizes, dynamic sizes, decode, splits.
#include "emit/cpu/attention.h"

#include <gtest/gtest.h>

#include "emit/cpu/kernel_testing.h"

namespace toroid::emit {
namespace {
using namespace testing;

struct Case {
  DType dtype;
  int64_t b, heads, kv_heads, m, t, d, dv;
  bool causal, mask, dynamic;
  std::string name() const {
    return format("{}_{}x{}_{}_{}x{}_d{}_{}{}{}{}", dtype_name(dtype), b, heads, kv_heads, m, t, d, dv,
                  causal ? "_causal" : "", mask ? "_mask" : "", dynamic ? "_dyn" : "");
  }
  int64_t k_row() const { return d + 3; }
  int64_t v_row() const { return kv_heads * dv; }  // [b][t][head][dv]
};

// p: q [b][h][m][d], k [b][hk][t][d + 3], v [b][t][hk][dv], out [b][m][h][dv], mask [m][t]; s: m, t, b.
AttentionSpec spec_of(const Case& c, const Isa& isa) {
  AttentionSpec spec;
  spec.isa = isa;
  spec.dtype = c.dtype;
  auto size = [&](int64_t value, const char* text) { return c.dynamic ? Size::dynamic(text) : Size::of(value); };
  spec.batch = c.b > 1 ? Size::dynamic("s[2]") : Size::of(c.b);
  spec.rows = size(c.m, "s[0]");
  spec.keys = size(c.t, "s[1]");
  spec.heads = c.heads;
  spec.kv_heads = c.kv_heads;
  spec.dim = c.d;
  spec.value_dim = c.dv;
  spec.q = "p[0]";
  spec.k = "p[1]";
  spec.v = "p[2]";
  spec.q_row = Size::of(c.d);
  spec.q_head = size(c.m * c.d, format("s[0] * {}", c.d).c_str());
  spec.q_batch = size(c.heads * c.m * c.d, format("s[0] * {}", c.heads * c.d).c_str());
  spec.k_row = Size::of(c.k_row());
  spec.k_head = size(c.t * c.k_row(), format("s[1] * {}", c.k_row()).c_str());
  spec.k_batch = size(c.kv_heads * c.t * c.k_row(), format("s[1] * {}", c.kv_heads * c.k_row()).c_str());
  spec.v_row = Size::of(c.v_row());
  spec.v_head = Size::of(c.dv);
  spec.v_batch = size(c.t * c.v_row(), format("s[1] * {}", c.v_row()).c_str());
  spec.scale = 1.5 / std::sqrt(static_cast<double>(c.d));
  spec.causal = c.causal;
  spec.zero_masked_rows = true;
  spec.preamble = "f32* const out = (f32*)p[3]; const f32* const mask = (const f32*)p[4]; (void)out, (void)mask;\n";
  if (c.mask)
    spec.modify_score = [c](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
      return format("{0} = {0} + load_f32(mask + {1} * {2} + {3}{4});\n", acc, i[2], c.t, i[3],
                    count.empty() ? "" : ", " + count);
    };
  spec.epilogue = [c](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    return format("store_f32(out + (({0} * {4} + {2}) * {5} + {1}) * {6} + {3}, {7}{8});\n", i[0], i[1], i[2], i[3],
                  c.m, c.heads, c.dv, acc, count.empty() ? "" : ", " + count);
  };
  return spec;
}

void check(const Case& c, const KernelLibrary& library) {
  Values values(static_cast<uint64_t>(c.t * 131 + c.d));
  auto n = [](int64_t x) { return static_cast<size_t>(x); };
  Operand q = values.operand(n(c.b * c.heads * c.m * c.d), c.dtype),
          k = values.operand(n(c.b * c.kv_heads * c.t * c.k_row()), c.dtype);
  Operand v = values.operand(n(c.b * c.t * c.v_row()), c.dtype), mask = values.operand(n(c.m * c.t), DType::f32);
  // Keys hidden at random; row 1 sees nothing; row 2 has the lowest finite number everywhere, hence equal weights.
  for (int64_t i = 0; i < c.m; ++i)
    for (int64_t j = 0; j < c.t; ++j) {
      float& x = mask.values[n(i * c.t + j)];
      x = i == 1 || x > 0.6f ? -INFINITY : i == 2 ? -3.4028234663852886e38f : x;
    }
  Values::store(mask, DType::f32);
  std::vector<float> out(n(c.b * c.m * c.heads * c.dv));
  std::vector<double> want(out.size(), 0);
  for (int64_t b = 0; b < c.b; ++b)
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t i = 0; i < c.m; ++i) {
        const int64_t g = h / (c.heads / c.kv_heads), seen = c.causal ? std::min(c.t, i + 1) : c.t;
        std::vector<double> p(n(seen));
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < seen; ++j) {
          double dot = 0;
          for (int64_t d = 0; d < c.d; ++d)
            dot += static_cast<double>(q.values[n(((b * c.heads + h) * c.m + i) * c.d + d)]) *
                   k.values[n(((b * c.kv_heads + g) * c.t + j) * c.k_row() + d)];
          float score = static_cast<float>(dot * 1.5 / std::sqrt(static_cast<double>(c.d)));
          if (c.mask) score += mask.values[n(i * c.t + j)];  // rounded as the kernel does
          p[n(j)] = score;
          top = std::max(top, p[n(j)]);
        }
        for (double& x : p) sum += x = std::isinf(top) ? 0 : std::exp(x - top);
        for (int64_t d = 0; d < c.dv && sum > 0; ++d) {
          double total = 0;
          for (int64_t j = 0; j < seen; ++j)
            total += p[n(j)] / sum * v.values[n((b * c.t + j) * c.v_row() + g * c.dv + d)];
          want[n(((b * c.m + i) * c.heads + h) * c.dv + d)] = total;
        }
      }
  char* p[] = {q.data(), k.data(), v.data(), reinterpret_cast<char*>(out.data()), mask.data()};
  const int64_t s[] = {c.m, c.t, c.b};
  const KernelFunction kernel = library.kernel(c.name());
  auto run = [&](int64_t begin, int64_t end) { kernel(p, s, begin, end); };
  EXPECT_EQ(differs_in_pieces(run, library.units(c.name(), s), out), "") << c.name();
  EXPECT_LT(relative_error(out, want), 3e-6) << c.name();
}

std::vector<Case> cases() {
  const DType f = DType::f32, h = DType::bf16;
  return {
      //  b  H  Hk   m    t   d  dv causal mask dynamic
      {f, 1, 2, 2, 100, 300, 64, 64, false, false, false}, {f, 2, 2, 1, 65, 65, 64, 64, true, false, false},
      {f, 1, 1, 1, 13, 77, 40, 24, false, true, false},    {f, 1, 2, 2, 70, 70, 33, 50, true, true, true},
      {f, 1, 2, 1, 201, 601, 64, 64, true, false, true},   {h, 1, 2, 1, 50, 90, 64, 72, true, true, false},
      {f, 1, 4, 2, 1, 700, 64, 64, false, false, false},   {f, 1, 6, 1, 1, 77, 40, 40, false, true, false},
      {h, 2, 3, 3, 1, 65, 50, 64, false, false, false},    {f, 1, 2, 1, 3, 130, 64, 20, false, true, false},
      {f, 1, 2, 2, 1, 9, 64, 64, true, false, false},
  };
}

TEST(Attention, AgreesWithReference) {
  for (const TestTarget& target : host_targets()) {
    if (target.isa.wide() && !target.isa.bf16_dot && host_targets().size() == 4) continue;  // as the first target
    SCOPED_TRACE(target.label);
    std::string source;
    std::vector<Case> all = cases();
    if (target.isa.lanes == 4) std::erase_if(all, [i = 0](const Case&) mutable { return i++ % 3 != 0; });
    for (const Case& c : all) source += with_units(emit_attention(spec_of(c, target.isa), c.name()), c.name());
    const KernelLibrary library(source, target);
    std::printf("%s: %zu kernels, %zu KB of text, %.1f s\n", target.label.c_str(), all.size(), source.size() >> 10,
                library.seconds());
    for (const Case& c : all) check(c, library);
  }
}

}  // namespace
}  // namespace toroid::emit
