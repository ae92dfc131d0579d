// Measures the prelude's functions of one f32: takes a target and a compiler, gives per function the worst error in ulp
// against double libm, wrong special values, and a hash of all results to compare compilers and widths.
#pragma once
#include <dlfcn.h>
#include <unistd.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/text.h"
#include "emit/cpu/prelude.h"

namespace toroid::emit::testing {

struct MathFunction {
  const char* name;
  // In hf64 x, LIBM(f) is the vector form of libm's f.
  const char* reference;
  // docs/math.md: no result is further than this from the exact one. An ulp counts as at least `least_ulp`.
  double bound;
  double least_ulp = 0;
};

inline constexpr MathFunction math_functions[] = {
    {"exp", "LIBM(exp)(x)", 0.9},
    {"exp2", "LIBM(exp2)(x)", 0.9},
    {"expm1", "LIBM(expm1)(x)", 1.001},
    {"log", "LIBM(log)(x)", 0.92},
    {"log2", "LIBM(log2)(x)", 0.501},
    {"log10", "LIBM(log10)(x)", 0.501},
    {"log1p", "LIBM(log1p)(x)", 0.94},
    {"sin", "LIBM(sin)(x)", 0.98},
    {"cos", "LIBM(cos)(x)", 0.98},
    {"tan", "LIBM(tan)(x)", 0.501},
    {"tanh", "LIBM(tanh)(x)", 0.75},
    {"sigmoid", "1. / (1. + LIBM(exp)(-x))", 0.97},
    {"erf", "LIBM(erf)(x)", 0.96},
    {"erfc", "LIBM(erfc)(x)", 0.501},
    {"sinh", "LIBM(sinh)(x)", 0.501},
    {"cosh", "LIBM(cosh)(x)", 0.501},
    {"asin", "LIBM(asin)(x)", 0.501},
    {"acos", "LIBM(acos)(x)", 0.501},
    {"atan", "LIBM(atan)(x)", 0.501},
    {"asinh", "LIBM(asinh)(x)", 0.501},
    {"acosh", "LIBM(acosh)(x)", 0.501},
    {"atanh", "LIBM(atanh)(x)", 0.501},
    {"sqrt", "sqrt({x, x}).lo", 0.501},
    {"rsqrt", "1. / sqrt({x, x}).lo", 1.5},
    // The negative tail is a difference of near-equal numbers: right to 2^-24, not to its own ulp.
    {"gelu", "x * .5 * LIBM(erfc)(x * -0.70710678118654752440)", 2.5, 0x1p-24},
    {"gelu_tanh", "x / (1. + LIBM(exp)(x * -1.59576912160573071176 * (1. + 0.044715 * x * x)))", 1.84, 0x1p-24},
};

struct MathTarget {
  int lanes;
  const char* flags;
  const char* compiler;
};

inline bool has_program(const std::string& name) {
  return std::system(format("command -v {} >/dev/null 2>&1", name).c_str()) == 0;
}

// Targets that this machine runs, for each compiler that it has.
inline std::vector<MathTarget> math_targets() {
  std::vector<MathTarget> out;
  for (const char* compiler : {"g++", "clang++-19"}) {
    if (!has_program(compiler)) continue;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
      out.push_back({16, "-march=x86-64-v4", compiler});
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      out.push_back({8, "-march=x86-64-v3", compiler});
    out.push_back({4, "-march=x86-64", compiler});
  }
  return out;
}

// A kernel text with its prelude, compiled as the build does and loaded.
class PreludeLibrary {
 public:
  PreludeLibrary(const std::string& text, const MathTarget& target) {
    char folder[] = "/tmp/toroid-prelude-XXXXXX";
    if (!mkdtemp(folder)) throw std::runtime_error("mkdtemp");
    const std::string base = folder;
    std::ofstream(base + "/k.cpp") << prelude_for(text, {.lanes = target.lanes}) << text << prelude_end();
    const std::string command = format(
        "{} -std=c++17 -Wall -Wextra -Werror -Wno-psabi -Wno-unused-function -O2 -ffp-contract=off -fno-exceptions "
        "-fno-rtti -fPIC -shared {} {}/k.cpp -o {}/k.so -lmvec -lm",
        target.compiler, target.flags, base, base);
    if (std::system(command.c_str()) == 0) handle_ = dlopen((base + "/k.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) throw std::runtime_error("did not compile or load: " + command);
    if (!std::getenv("TOROID_KEEP_KERNELS")) {
      unlink((base + "/k.cpp").c_str());
      unlink((base + "/k.so").c_str());
      rmdir(base.c_str());
    }
  }
  PreludeLibrary(const PreludeLibrary&) = delete;
  ~PreludeLibrary() { dlclose(handle_); }
  template <class Function>
  Function* function(const std::string& name) const {
    void* found = dlsym(handle_, name.c_str());
    if (!found) throw std::runtime_error("no symbol " + name);
    return reinterpret_cast<Function*>(found);
  }

 private:
  void* handle_ = nullptr;
};

struct MathResult {
  double worst = 0;       // ulp
  uint32_t worst_at = 0;  // bits of the input
  long wrong = 0;         // inf, nan, overflow, zero or its sign
  uint32_t wrong_at = 0;
  uint32_t hash[16] = {};
};

// The text that `measure` runs; count is a multiple of 16.
inline std::string math_text(const MathTarget& target) {
  std::string out = format("#define LIBM(f) _ZGV{}v_##f\n", target.lanes == 16  ? "eN8"
                                                            : target.lanes == 8 ? "dN4"
                                                                                : "bN2");
  for (const char* f : {"exp", "exp2", "expm1", "log",  "log2", "log10", "log1p", "sin",   "cos",   "tan",  "tanh",
                        "erf", "erfc", "sinh",  "cosh", "asin", "acos",  "atan",  "asinh", "acosh", "atanh"})
    append(out, "extern \"C\" hf64 LIBM({})(hf64);\n", f);
  out += R"(
struct Result { f64 worst; u32 worst_at; long wrong; u32 wrong_at; u32 hash[16]; };
INL u32 bits_of(f32 x) { u32 b; __builtin_memcpy(&b, &x, 4); return b; }
static void check(const f32* x, const f32* y, const f64* r, f64 least, Result* out) {
  f64 error[16]; u32 odd[16]; u32 any = 0;
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) {
    const f32 want = (f32)r[j];
    const u32 wb = bits_of(want), yb = bits_of(y[j]), e0 = wb >> 23 & 255, e = e0 ? e0 : 1;
    const u64 ub = (u64)(e + 1023 - 150) << 52;
    f64 u; __builtin_memcpy(&u, &ub, 8);
    u = u > least ? u : least;
    const u32 special = (e0 == 255) | ((yb >> 23 & 255) == 255);
    error[j] = special ? 0 : __builtin_fabs(y[j] - r[j]) / u;
    odd[j] = special | (((wb << 1) == 0) & (wb != yb) & (least == 0));
    any |= odd[j] | (error[j] > out->worst);
    out->hash[j] = out->hash[j] * 31 + ((yb & 0x7fffffff) > 0x7f800000 ? 0x7fc00000u : yb);
  }
  if (!any) return;
  for (int j = 0; j < 16; ++j) {
    const f32 want = (f32)r[j];
    if (odd[j] && !(want != want ? y[j] != y[j] : bits_of(want) == bits_of(y[j])) && !out->wrong++) out->wrong_at = bits_of(x[j]);
    if (error[j] > out->worst) { out->worst = error[j]; out->worst_at = bits_of(x[j]); }
  }
}
)";
  for (const MathFunction& function : math_functions)
    append(out, R"(
extern "C" void measure_{0}(u64 first, u64 step, u64 count, f64 least, Result* out) {{
  for (u64 i = 0; i < count; i += 16) {{
    f32 x[16], y[16]; f64 r[16];
    for (int j = 0; j < 16; ++j) {{ const u32 b = (u32)(first + (i + j) * step); __builtin_memcpy(x + j, &b, 4); }}
    for (int j = 0; j < 16; j += LANES) {{
      const vf32 v = load_f32(x + j);
      store_f32(y + j, {0}(v));
      const vf64 d = cvt_f32_f64(v);
      {{ const hf64 x = d.lo; store_f64(r + j, {{{1}, hf64{{}}}}, LANES / 2); }}
      {{ const hf64 x = d.hi; store_f64(r + j + LANES / 2, {{{1}, hf64{{}}}}, LANES / 2); }}
    }}
    check(x, y, r, least, out);
  }}
}}
)",
           function.name, function.reference);
  return out;
}

// Inputs with the bits first, first + step, ...
inline MathResult measure(const PreludeLibrary& library, const MathFunction& function, uint64_t first, uint64_t step,
                          uint64_t count, MathResult result = {}) {
  library.function<void(uint64_t, uint64_t, uint64_t, double, MathResult*)>(format("measure_{}", function.name))(
      first, step, count, function.least_ulp, &result);
  return result;
}

}  // namespace toroid::emit::testing
