// Prints GF/s of generated kernels beside the FMA peak of one core, measured in the same run. Pin it: taskset -c 0.
// Arguments: what (matmul, conv, depthwise, attention), target (avx512, avx2), compiler, part of a label.
// Needs a quiet core: a run longer than a time slice shares it, and what comes from L3 moves with the neighbours.
#include <time.h>

#include <cstdlib>

#include "emit/cpu/attention.h"
#include "emit/cpu/conv.h"
#include "emit/cpu/depthwise.h"
#include "emit/cpu/kernel_testing.h"
#include "emit/cpu/matmul.h"

namespace {
using namespace toroid;
using namespace toroid::emit;
using namespace toroid::emit::testing;

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// Best time of run() in ns, within a budget.
template <class Run>
double best_ns(Run run, double budget = 60e6) {
  run();
  double start = now();
  run();
  const double once = now() - start;
  const int inner = once < 5000 ? static_cast<int>(5000 / (once + 1)) + 1 : 1;
  double best = 1e30;
  const double end = now() + budget;
  for (int n = 0; now() < end || n < 5; ++n) {
    start = now();
    for (int i = 0; i < inner; ++i) run();
    best = std::min(best, (now() - start) / inner);
  }
  return best;
}

double measure_peak(const TestTarget& target, const std::string& compiler) {
  const KernelLibrary library(R"(
extern "C" void peak(char* const* p, const i64*, i64, i64) {
  const vf32 m = load_f32((f32*)p[0]), d = load_f32((f32*)p[1]);
vf32 a0 = m * 1.0f, a1 = m * 2.0f, a2 = m * 3.0f, a3 = m * 4.0f, a4 = m * 5.0f, a5 = m * 6.0f, a6 = m * 7.0f, a7 = m * 8.0f, a8 = m * 9.0f, a9 = m * 10.0f, a10 = m * 11.0f, a11 = m * 12.0f;
  for (i64 i = 0; i < 20000; ++i) {
    a0 = fma(a0, m, d); a1 = fma(a1, m, d); a2 = fma(a2, m, d); a3 = fma(a3, m, d); a4 = fma(a4, m, d); a5 = fma(a5, m, d);
    a6 = fma(a6, m, d); a7 = fma(a7, m, d); a8 = fma(a8, m, d); a9 = fma(a9, m, d); a10 = fma(a10, m, d); a11 = fma(a11, m, d);
  }
  store_f32((f32*)p[2], a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11);
}
)",
                              target, compiler, "-O2");
  std::vector<float> m(16, 0.999f), d(16, 0.5f), o(16);
  char* p[] = {reinterpret_cast<char*>(m.data()), reinterpret_cast<char*>(d.data()), reinterpret_cast<char*>(o.data())};
  const auto kernel = library.kernel("peak");
  return 20000.0 * 12 * 2 * target.isa.lanes / best_ns([&] { kernel(p, nullptr, 0, 1); });
}

std::string only;  // rows whose label has this in it

struct Row {
  std::string label, name;
  KernelText kernel;
  double flops;
  std::vector<int64_t> s;
  std::vector<std::vector<float>> buffers;
};

// Compiles all rows at once, runs each alone.
void report(std::vector<Row> rows, const TestTarget& target, const std::string& compiler, double scale = 1) {
  std::erase_if(rows, [](const Row& row) { return row.label.find(only) == std::string::npos; });
  if (rows.empty()) return;
  std::string source;
  for (const Row& row : rows) source += with_units(row.kernel, row.name);
  const KernelLibrary library(source, target, compiler, "-O2");
  std::printf("%zu kernels, %zu KB of text, compiled in %.2f s\n", rows.size(), source.size() >> 10, library.seconds());
  for (Row& row : rows) {
    const double peak = measure_peak(target, compiler) * scale;
    std::vector<char*> p;
    for (auto& b : row.buffers) p.push_back(reinterpret_cast<char*>(b.data()));
    const auto kernel = library.kernel(row.name);
    const int64_t units = library.units(row.name, row.s.data());
    const double gf = row.flops / best_ns([&] { kernel(p.data(), row.s.data(), 0, units); });
    std::printf("%-44s %7.1f GF/s  %5.1f%% of %.1f  (%ld units of grain %ld)\n", row.label.c_str(), gf, 100 * gf / peak,
                peak, static_cast<long>(units), static_cast<long>(row.kernel.grain));
    std::fflush(stdout);
  }
}

std::vector<float> filled(size_t n, uint64_t seed) {
  std::vector<float> out(n + 64);
  Values values(seed);
  for (float& x : out) x = values.next() * 0.1f;
  return out;
}
// The same storage, each 32-bit word holding two small bf16.
std::vector<float> filled_halves(size_t n, uint64_t seed) {
  std::vector<float> out(n / 2 + 64);
  Values values(seed);
  for (float& x : out) {
    const uint32_t bits = static_cast<uint32_t>(to_bf16(values.next())) << 16 | to_bf16(values.next());
    std::memcpy(&x, &bits, 4);
  }
  return out;
}

Row matmul_row(const TestTarget& target, int64_t m, int64_t n, int64_t k, BLayout layout, bool dynamic, DType dtype,
               bool long_epilogue) {
  MatmulSpec spec;
  spec.isa = target.isa;
  spec.dtype = dtype;
  spec.m = dynamic ? Size::dynamic("s[0]") : Size::of(m);
  spec.n = Size::of(n);
  spec.k = Size::of(k);
  spec.a = "p[0]";
  spec.b = "p[1]";
  spec.a_stride = spec.k;
  spec.b_stride = layout == BLayout::row_major ? spec.n : spec.k;
  spec.b_layout = layout;
  spec.panel = target.isa.wide() ? 64 : 16;
  spec.preamble = "f32* const out = (f32*)p[2]; const f32* const bias = (const f32*)p[3];\n";
  spec.epilogue = [n, long_epilogue](const std::string& acc, const std::vector<std::string>& i,
                                     const std::string& count) {
    const std::string comma = count.empty() ? "" : ", " + count,
                      extra = long_epilogue ? "/*" + std::string(1000, '.') + "*/" : "";
    return extra +
           format("store_f32(out + {0} * {1} + {2}, {3} + load_f32(bias + {2}{4}){4});\n", i[1], n, i[2], acc, comma);
  };
  const std::string label = format("{} {}x{}x{} {}{}{}", dtype_name(dtype), m, n, k,
                                   layout == BLayout::packed      ? "packed"
                                   : layout == BLayout::row_major ? "row_major"
                                                                  : "transposed",
                                   dynamic ? " dynamic" : "", long_epilogue ? " stored" : "");
  std::string name = "k_" + label;
  std::replace(name.begin(), name.end(), ' ', '_');
  const auto fill = dtype == DType::bf16 ? filled_halves : filled;
  return {label,
          name,
          emit_matmul(spec, name),
          2.0 * static_cast<double>(m * n * k),
          {m},
          {fill(static_cast<size_t>(m * k), 1), fill(static_cast<size_t>((n + 63) / 64 * 64 * (k + 1)), 2),
           filled(static_cast<size_t>(m * n), 3), filled(static_cast<size_t>(n), 4)}};
}

void bench_matmul(const TestTarget& target, const std::string& compiler) {
  struct Shape {
    int64_t m, n, k;
  };
  std::vector<Row> rows;
  const Shape shapes[] = {{64, 64, 64},    {128, 128, 128},  {256, 256, 256},  {512, 512, 512}, {1024, 1024, 1024},
                          {128, 768, 768}, {128, 3072, 768}, {128, 768, 3072}, {512, 768, 768}, {197, 768, 3072},
                          {13, 768, 768},  {7, 768, 768},    {4, 768, 768},    {2, 768, 768},   {1, 768, 768},
                          {1, 3072, 768},  {1, 768, 3072},   {100, 1000, 512}, {128, 50, 512},  {64, 3072, 3072}};
  for (const Shape& x : shapes)
    rows.push_back(matmul_row(target, x.m, x.n, x.k, BLayout::packed, false, DType::f32, false));
  for (const Shape& x : {Shape{64, 64, 64}, Shape{128, 768, 768}, Shape{128, 768, 3072}})
    rows.push_back(matmul_row(target, x.m, x.n, x.k, BLayout::packed, false, DType::f32, true));
  for (const Shape& x : {Shape{64, 64, 64}, Shape{128, 768, 768}, Shape{1, 768, 768}, Shape{4, 768, 768},
                         Shape{1, 768, 3072}, Shape{128, 768, 3072}, Shape{13, 768, 768}})
    rows.push_back(matmul_row(target, x.m, x.n, x.k, BLayout::packed, true, DType::f32, false));
  for (const Shape& x : {Shape{64, 64, 64}, Shape{512, 512, 512}, Shape{128, 768, 3072}, Shape{1, 768, 768}}) {
    rows.push_back(matmul_row(target, x.m, x.n, x.k, BLayout::row_major, false, DType::f32, false));
    rows.push_back(matmul_row(target, x.m, x.n, x.k, BLayout::transposed, false, DType::f32, false));
  }
  report(std::move(rows), target, compiler);
  std::vector<Row> halves;
  for (const Shape& x :
       {Shape{64, 64, 64}, Shape{128, 768, 768}, Shape{128, 768, 3072}, Shape{512, 3072, 768}, Shape{1, 768, 768}}) {
    halves.push_back(matmul_row(target, x.m, x.n, x.k, BLayout::packed, false, DType::bf16, false));
  }
  halves.push_back(matmul_row(target, 512, 512, 512, BLayout::row_major, false, DType::bf16, false));
  halves.push_back(matmul_row(target, 512, 512, 512, BLayout::transposed, false, DType::bf16, false));
  report(std::move(halves), target, compiler, target.isa.bf16_dot ? 2 : 1);
}

Row conv_row(const TestTarget& target, int64_t ic, int64_t oc, int64_t size, int64_t kernel, int64_t stride,
             bool dynamic, DType dtype) {
  const int64_t pad = kernel / 2, out = (size + 2 * pad - kernel) / stride + 1;
  ConvSpec spec;
  spec.isa = target.isa;
  spec.dtype = dtype;
  auto extent = [&](int64_t value, const char* text) { return dynamic ? Size::dynamic(text) : Size::of(value); };
  spec.batch = Size::of(1);
  spec.height = extent(size, "s[0]");
  spec.width = extent(size, "s[0]");
  spec.out_height = extent(out, "s[1]");
  spec.out_width = extent(out, "s[1]");
  spec.panel = target.isa.wide() ? 64 : 16;
  spec.in_channels = ic;
  spec.out_channels = oc;
  spec.kernel_h = spec.kernel_w = kernel;
  spec.stride_h = spec.stride_w = stride;
  spec.pad_top = spec.pad_left = pad;
  spec.input = "p[0]";
  spec.weight = "p[1]";
  spec.pixel_stride = Size::of(ic);
  spec.row_stride = dynamic ? Size::dynamic(format("s[0] * {}", ic)) : Size::of(size * ic);
  spec.batch_stride = Size::of(0);
  spec.dense_rows = true;
  spec.preamble =
      "f32* const out = (f32*)p[2]; const f32* const bias = (const f32*)p[3]; const vf32 zero_ = splat_f32(0.0f);\n";
  spec.epilogue = [=](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    const std::string comma = count.empty() ? "" : ", " + count;
    return format("store_f32(out + ({1} * {4} + {2}) * {5} + {3}, max({6} + load_f32(bias + {3}{7}), zero_){7});\n",
                  i[0], i[1], i[2], i[3], spec.out_width.text, oc, acc, comma);
  };
  const std::string label = format("{} {}->{} {}px {}x{}/{}{}", dtype_name(dtype), ic, oc, size, kernel, kernel, stride,
                                   dynamic ? " dynamic" : "");
  const std::string name = format("k_{}_{}_{}_{}_{}_{}_{}", dtype_name(dtype), ic, oc, size, kernel, stride, dynamic);
  const auto fill = dtype == DType::bf16 ? filled_halves : filled;
  return {label,
          name,
          emit_conv(spec, name),
          2.0 * static_cast<double>(out * out * ic * oc * kernel * kernel),
          {size, out},
          {fill(static_cast<size_t>(size * size * ic), 1), fill(static_cast<size_t>(conv_packed_elements(spec)), 2),
           filled(static_cast<size_t>(out * out * oc), 3), filled(static_cast<size_t>(oc), 4)}};
}

void bench_conv(const TestTarget& target, const std::string& compiler) {
  struct Layer {
    int64_t ic, oc, size, kernel, stride, count;
  };
  // ResNet-50 at 224 pixels and how often each layer occurs.
  const Layer layers[] = {
      {3, 64, 224, 7, 2, 1},    {64, 64, 56, 1, 1, 1},    {64, 64, 56, 3, 1, 3},   {64, 256, 56, 1, 1, 4},
      {256, 64, 56, 1, 1, 2},   {256, 128, 56, 1, 1, 1},  {128, 128, 56, 3, 2, 1}, {256, 512, 56, 1, 2, 1},
      {128, 128, 28, 3, 1, 3},  {128, 512, 28, 1, 1, 4},  {512, 128, 28, 1, 1, 3}, {512, 256, 28, 1, 1, 1},
      {256, 256, 28, 3, 2, 1},  {512, 1024, 28, 1, 2, 1}, {256, 256, 14, 3, 1, 5}, {256, 1024, 14, 1, 1, 6},
      {1024, 256, 14, 1, 1, 5}, {1024, 512, 14, 1, 1, 1}, {512, 512, 14, 3, 2, 1}, {1024, 2048, 14, 1, 2, 1},
      {512, 512, 7, 3, 1, 2},   {512, 2048, 7, 1, 1, 3},  {2048, 512, 7, 1, 1, 2}};
  std::vector<Row> rows, dynamic, halves;
  for (const Layer& l : layers) {
    rows.push_back(conv_row(target, l.ic, l.oc, l.size, l.kernel, l.stride, false, DType::f32));
    if (l.kernel > 1) dynamic.push_back(conv_row(target, l.ic, l.oc, l.size, l.kernel, l.stride, true, DType::f32));
    if (l.kernel > 1 && l.stride == 1)
      halves.push_back(conv_row(target, l.ic, l.oc, l.size, l.kernel, l.stride, false, DType::bf16));
  }
  report(std::move(rows), target, compiler);
  report(std::move(dynamic), target, compiler);
  report(std::move(halves), target, compiler, target.isa.bf16_dot ? 2 : 1);
}

Row depthwise_row(const TestTarget& target, int64_t c, int64_t size, int64_t kernel, int64_t stride, bool dynamic) {
  const int64_t pad = kernel / 2, out = (size + 2 * pad - kernel) / stride + 1;
  DepthwiseSpec spec;
  spec.isa = target.isa;
  auto extent = [&](int64_t value, const char* text) { return dynamic ? Size::dynamic(text) : Size::of(value); };
  spec.batch = Size::of(1);
  spec.height = extent(size, "s[0]");
  spec.width = extent(size, "s[0]");
  spec.out_height = extent(out, "s[1]");
  spec.out_width = extent(out, "s[1]");
  spec.channels = c;
  spec.kernel_h = spec.kernel_w = kernel;
  spec.stride_h = spec.stride_w = stride;
  spec.pad_top = spec.pad_left = pad;
  spec.input = "p[0]";
  spec.weight = "p[1]";
  spec.pixel_stride = Size::of(c);
  spec.row_stride = dynamic ? Size::dynamic(format("s[0] * {}", c)) : Size::of(size * c);
  spec.batch_stride = Size::of(0);
  spec.preamble =
      "f32* const out = (f32*)p[2]; const f32* const bias = (const f32*)p[3]; const vf32 zero_ = splat_f32(0.0f);\n";
  spec.epilogue = [=](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    const std::string comma = count.empty() ? "" : ", " + count;
    return format("store_f32(out + ({1} * {4} + {2}) * {5} + {3}, max({6} + load_f32(bias + {3}{7}), zero_){7});\n",
                  i[0], i[1], i[2], i[3], spec.out_width.text, c, acc, comma);
  };
  const std::string label =
      format("f32 {} {}px {}x{}/{}{}", c, size, kernel, kernel, stride, dynamic ? " dynamic" : "");
  const std::string name = format("d_{}_{}_{}_{}_{}", c, size, kernel, stride, dynamic);
  return {label,
          name,
          emit_depthwise(spec, name),
          2.0 * static_cast<double>(out * out * c * kernel * kernel),
          {size, out},
          {filled(static_cast<size_t>(size * size * c), 1), filled(static_cast<size_t>(kernel * kernel * c), 2),
           filled(static_cast<size_t>(out * out * c), 3), filled(static_cast<size_t>(c), 4)}};
}

void bench_depthwise(const TestTarget& target, const std::string& compiler) {
  struct Layer {
    int64_t c, size, kernel, stride;
  };
  std::vector<Row> rows;
  for (const Layer& l : {Layer{32, 112, 3, 1}, Layer{96, 112, 3, 2}, Layer{144, 56, 3, 1}, Layer{192, 28, 3, 1},
                         Layer{576, 14, 3, 1}, Layer{576, 14, 3, 2}, Layer{960, 7, 3, 1}, Layer{240, 28, 5, 1},
                         Layer{672, 14, 5, 1}, Layer{672, 14, 5, 2}, Layer{1152, 7, 5, 1}, Layer{128, 56, 7, 1}})
    for (bool dynamic : {false, true}) rows.push_back(depthwise_row(target, l.c, l.size, l.kernel, l.stride, dynamic));
  report(std::move(rows), target, compiler);
}

Row attention_row(const TestTarget& target, int64_t heads, int64_t kv_heads, int64_t m, int64_t t, int64_t d,
                  bool causal, bool mask, bool dynamic) {
  AttentionSpec spec;
  spec.isa = target.isa;
  spec.batch = Size::of(1);
  spec.rows = dynamic ? Size::dynamic("s[0]") : Size::of(m);
  spec.keys = dynamic ? Size::dynamic("s[1]") : Size::of(t);
  spec.heads = heads;
  spec.kv_heads = kv_heads;
  spec.dim = spec.value_dim = d;
  spec.q = "p[0]";
  spec.k = "p[1]";
  spec.v = "p[2]";
  spec.q_row = spec.k_row = spec.v_row = Size::of(d);
  spec.q_batch = spec.k_batch = spec.v_batch = Size::of(0);
  spec.q_head = Size::of(m * d);
  spec.k_head = spec.v_head = Size::of(t * d);
  spec.scale = 1 / std::sqrt(static_cast<double>(d));
  spec.causal = causal;
  spec.preamble = "f32* const out = (f32*)p[3]; const f32* const mask = (const f32*)p[4]; (void)out, (void)mask;\n";
  if (mask)
    spec.modify_score = [t](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
      return format("{0} = {0} + load_f32(mask + {1} * {2} + {3}{4});\n", acc, i[2], t, i[3],
                    count.empty() ? "" : ", " + count);
    };
  spec.epilogue = [=](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    return format("store_f32(out + ({0} * {1} + {2}) * {3} + {4}, {5}{6});\n", i[1], m, i[2], d, i[3], acc,
                  count.empty() ? "" : ", " + count);
  };
  const std::string label = format("f32 {}/{} heads {}x{} d{}{}{}{}", heads, kv_heads, m, t, d, causal ? " causal" : "",
                                   mask ? " mask" : "", dynamic ? " dynamic" : "");
  const std::string name = format("a_{}_{}_{}_{}_{}_{}{}{}", heads, kv_heads, m, t, d, causal, mask, dynamic);
  return {label,
          name,
          emit_attention(spec, name),
          (causal ? 2.0 : 4.0) * static_cast<double>(heads * m * t * d),
          {m, t},
          {filled(static_cast<size_t>(heads * m * d), 1), filled(static_cast<size_t>(kv_heads * t * d), 2),
           filled(static_cast<size_t>(kv_heads * t * d), 3), filled(static_cast<size_t>(heads * m * d), 4),
           filled(static_cast<size_t>(m * t), 5)}};
}

void bench_attention(const TestTarget& target, const std::string& compiler) {
  std::vector<Row> rows;
  for (bool causal : {false, true})
    for (int64_t size : {128, 512, 2048})
      rows.push_back(
          attention_row(target, size == 2048 ? 4 : 12, size == 2048 ? 4 : 12, size, size, 64, causal, false, false));
  rows.push_back(attention_row(target, 12, 12, 128, 128, 64, false, true, false));
  rows.push_back(attention_row(target, 12, 12, 512, 512, 64, false, true, false));
  rows.push_back(attention_row(target, 12, 12, 512, 512, 64, true, false, true));
  rows.push_back(attention_row(target, 12, 12, 197, 197, 64, false, false, false));
  rows.push_back(attention_row(target, 8, 8, 512, 512, 128, true, false, false));
  for (int64_t t : {512, 4096})
    for (int64_t group : {1, 4, 8}) rows.push_back(attention_row(target, 8 * group, 8, 1, t, 64, false, false, false));
  report(std::move(rows), target, compiler);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "matmul", compiler = argc > 3 ? argv[3] : "g++";
  const TestTarget target = argc > 2 && std::string(argv[2]) == "avx2" ? avx2_target() : avx512_target();
  if (argc > 4) only = argv[4];
  if (what == "matmul") bench_matmul(target, compiler);
  if (what == "conv") bench_conv(target, compiler);
  if (what == "depthwise") bench_depthwise(target, compiler);
  if (what == "attention") bench_attention(target, compiler);
  return 0;
}
