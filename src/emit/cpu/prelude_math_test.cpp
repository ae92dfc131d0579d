// The f32 functions of the prelude on every 4099th input and all special ones: error, special values, same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "emit/cpu/math_testing.h"

namespace toroid::emit::testing {
namespace {

// 2^20 inputs 4099 apart, then 2048 around each of the places where special values live.
MathResult measure_some(const PreludeLibrary& library, const MathFunction& function) {
  MathResult result = measure(library, function, 7, 4099, 1 << 20);
  for (uint64_t centre : {0x00000000ull, 0x80000000ull, 0x7f800000ull, 0xff800000ull, 0x3f800000ull, 0xbf800000ull,
                          0x00800000ull, 0x42b00000ull, 0xc2b00000ull, 0x49800000ull, 0x41200000ull, 0x40800000ull})
    result = measure(library, function, centre - 1024, 1, 2048, result);
  return result;
}

TEST(PreludeMath, ErrorAndSpecialValues) {
  std::vector<MathResult> first;
  for (const MathTarget& target : math_targets()) {
    const PreludeLibrary library(math_text(target), target);
    for (size_t k = 0; k < std::size(math_functions); ++k) {
      const MathFunction& function = math_functions[k];
      const MathResult result = measure_some(library, function);
      EXPECT_EQ(result.wrong, 0) << function.name << " at " << std::bit_cast<float>(result.wrong_at) << ", "
                                 << target.lanes << " lanes, " << target.compiler;
      EXPECT_LE(result.worst, function.bound)
          << function.name << " at " << std::bit_cast<float>(result.worst_at) << ", " << target.lanes << " lanes";
      EXPECT_GT(result.worst, 0.4) << function.name << ": nothing was compared";
      if (first.size() <= k)
        first.push_back(result);
      else
        EXPECT_EQ(std::memcmp(first[k].hash, result.hash, sizeof result.hash), 0)
            << function.name << " has other bits at " << target.lanes << " lanes with " << target.compiler;
    }
  }
}

using PairFunction = void(const float*, const float*, float*, int64_t);

TEST(PreludeMath, Pairs) {
  std::string text;
  for (const char* name : {"pow", "atan2"})
    append(text, R"(
extern "C" void vector_{0}(const f32* x, const f32* y, f32* z, i64 n) {{ for (i64 i = 0; i < n; i += LANES) store_f32(z + i, {0}(load_f32(x + i), load_f32(y + i))); }}
extern "C" void single_{0}(const f32* x, const f32* y, f32* z, i64 n) {{ for (i64 i = 0; i < n; ++i) z[i] = {0}(x[i], y[i]); }}
)",
           name);
  std::vector<float> x, y;
  const std::vector<float> special = {0.f,        -0.f,        1.f,         -1.f,         .5f,      -.5f,   2.f,
                                      -2.f,       3.f,         -3.f,        1e-40f,       -1e-40f,  3e38f,  -3e38f,
                                      16777215.f, -16777215.f, 33554432.f,  INFINITY,     NAN,      1e-30f, -7.5f,
                                      -INFINITY,  .99999994f,  1.00000012f, -1.00000012f, 8388609.f};
  for (float a : special)
    for (float b : special) x.push_back(a), y.push_back(b);
  uint64_t state = 88172645463325252u;
  for (int i = 0; i < 1 << 17; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    uint32_t a = static_cast<uint32_t>(state >> 32), b = static_cast<uint32_t>(state * 0x9e3779b97f4a7c15u >> 32);
    // Any bits; bases near 1 with large exponents; moderate pairs.
    if (i % 3 == 1) a = 0x3f000000 + (a & 0xffffff), b = (b & 0x83ffffff) + 0x41000000;
    if (i % 3 == 2) a = 0x3e000000 + (a & 0x3ffffff), b = (b & 0x83ffffff) + 0x3f000000;
    x.push_back(std::bit_cast<float>(a)), y.push_back(std::bit_cast<float>(b));
  }
  while (x.size() % 16) x.push_back(1), y.push_back(1);
  const int64_t n = static_cast<int64_t>(x.size());
  std::vector<float> first[2];
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    for (int k = 0; k < 2; ++k) {
      const std::string name = k == 0 ? "pow" : "atan2";
      std::vector<float> z(x.size()), one(x.size());
      library.function<PairFunction>("vector_" + name)(x.data(), y.data(), z.data(), n);
      library.function<PairFunction>("single_" + name)(x.data(), y.data(), one.data(), n);
      double worst = 0;
      for (size_t i = 0; i < z.size(); ++i) {
        const double want = k == 0 ? std::pow(double{x[i]}, double{y[i]}) : std::atan2(double{x[i]}, double{y[i]});
        const float rounded = static_cast<float>(want);
        if (std::isnan(rounded)) {
          EXPECT_TRUE(std::isnan(z[i])) << name << " " << x[i] << " " << y[i];
          z[i] = one[i] = 0;
        } else if (std::isinf(rounded) || rounded == 0 || std::isinf(z[i])) {
          EXPECT_EQ(std::bit_cast<uint32_t>(z[i]), std::bit_cast<uint32_t>(rounded))
              << name << " " << x[i] << " " << y[i];
        } else {
          int e;
          std::frexp(rounded, &e);
          const double error = std::abs(z[i] - want) / std::ldexp(1., std::max(e, -125) - 24);
          EXPECT_LE(error, k == 0 ? 0.915 : 0.501) << name << " " << x[i] << " " << y[i] << " gave " << z[i];
          worst = std::max(worst, error);
        }
      }
      EXPECT_GT(worst, 0.4) << name << ": nothing was compared";
      EXPECT_EQ(std::memcmp(z.data(), one.data(), z.size() * 4), 0) << name << ": single values differ";
      if (first[k].empty()) first[k] = z;
      EXPECT_EQ(std::memcmp(z.data(), first[k].data(), z.size() * 4), 0) << name << " has other bits";
    }
  }
}

// f64 goes to libm lane by lane: what is checked is that each name reaches its function, in both halves of a vector.
TEST(PreludeMath, DoublesReachLibm) {
  const std::pair<const char*, double (*)(double)> functions[] = {
      {"exp", std::exp},
      {"exp2", std::exp2},
      {"expm1", std::expm1},
      {"log", std::log},
      {"log2", std::log2},
      {"log10", std::log10},
      {"log1p", std::log1p},
      {"sin", std::sin},
      {"cos", std::cos},
      {"tan", std::tan},
      {"tanh", std::tanh},
      {"erf", std::erf},
      {"erfc", std::erfc},
      {"sinh", std::sinh},
      {"cosh", std::cosh},
      {"asin", std::asin},
      {"acos", std::acos},
      {"atan", std::atan},
      {"asinh", std::asinh},
      {"acosh", std::acosh},
      {"atanh", std::atanh},
      {"sqrt", std::sqrt},
      {"abs", std::abs},
      {"rsqrt", [](double x) { return 1 / std::sqrt(x); }},
      {"recip", [](double x) { return 1 / x; }},
      {"sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"gelu", [](double x) { return x * .5 * std::erfc(-x * std::sqrt(.5)); }},
      {"gelu_tanh",
       [](double x) { return x * .5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }}};
  std::string text;
  for (const auto& [name, function] : functions)
    append(text, R"(
extern "C" void vector_{0}(const f64* x, f64* y) {{ store_f64(y, {0}(load_f64(x))); }}
extern "C" void single_{0}(const f64* x, f64* y) {{ for (int i = 0; i < LANES; ++i) y[i] = {0}(x[i]); }}
)",
           name);
  for (const MathTarget& target : math_targets()) {
    const PreludeLibrary library(text, target);
    for (const auto& [name, function] : functions) {
      double x[16], y[16], z[16];
      for (int i = 0; i < 16; ++i) x[i] = (i + 0.5) / 8 + (std::string_view(name) == "acosh" ? 1 : 0);
      library.function<void(const double*, double*)>(format("vector_{}", name))(x, y);
      library.function<void(const double*, double*)>(format("single_{}", name))(x, z);
      for (int i = 0; i < target.lanes; ++i) {
        const double want = function(x[i]);
        if (std::isnan(want)) {
          EXPECT_TRUE(std::isnan(y[i]) && std::isnan(z[i])) << name << " " << x[i];
          continue;
        }
        EXPECT_NEAR(y[i], want, std::abs(want) * 1e-14) << name << " " << x[i];
        EXPECT_EQ(y[i], z[i]) << name << " " << x[i];
      }
    }
  }
}

}  // namespace
}  // namespace toroid::emit::testing
