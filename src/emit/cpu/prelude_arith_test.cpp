// Conversions and arithmetic of the prelude against plain scalar C++, vector and single form, on every target here.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>

#include "emit/cpu/math_testing.h"

namespace toroid::emit::testing {
namespace {

template <class T>
constexpr const char* name_of() {
  if constexpr (std::is_same_v<T, bool>) return "b8";
  if constexpr (std::is_same_v<T, float>) return "f32";
  if constexpr (std::is_same_v<T, double>) return "f64";
  constexpr const char* names[2][4] = {{"u8", "u16", "u32", "u64"}, {"i8", "i16", "i32", "i64"}};
  return names[std::is_signed_v<T>][sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3];
}

// Calls visit.operator()<T>() for each dtype of the list.
template <class... T, class Visit>
void each_type(Visit visit) {
  (visit.template operator()<T>(), ...);
}
#define TD_INTEGERS int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

template <class T>
std::vector<T> edge_values() {
  std::vector<T> out;
  if constexpr (std::is_same_v<T, bool>) {
    out = {false, true};
  } else if constexpr (std::is_integral_v<T>) {
    using L = std::numeric_limits<T>;
    out = {0,     1,     2,     3,    7, 8, 31, 32, 63, 64, 100, L::max(), T(L::max() - 1), L::min(), T(L::min() + 1),
           T(-1), T(-2), T(-3), T(-7)};
    for (uint64_t i = 1; i < 40; ++i) out.push_back(static_cast<T>(i * 0x9e3779b97f4a7c15u >> (i % 40)));
  } else {
    using L = std::numeric_limits<T>;
    for (T x : {T(0),           T(0.3),
                T(0.5),         T(0.7),
                T(1),           T(1.5),
                T(2),           T(2.5),
                T(3.7),         T(44),
                T(127),         T(128),
                T(255),         T(256),
                T(300),         T(32768),
                T(65504),       T(65519.9),
                T(65520),       T(8388607.5),
                T(16777217),    T(2147483520),
                T(2147483648.), T(4294967040.),
                T(4294967296.), T(3e9),
                T(9.2e18),      T(9223372036854775808.),
                T(1.8e19),      T(18446744073709551616.),
                T(1e30),        L::max(),
                L::min(),       L::denorm_min(),
                L::infinity(),  L::quiet_NaN(),
                T(1e-3),        T(6e-8),
                T(5.96e-8)}) {
      out.push_back(x);
      out.push_back(-x);
    }
    for (int i = 0; i < 200; ++i) out.push_back(static_cast<T>(std::sin(i * 12.9) * std::exp2(i % 90 - 30)));
  }
  while (out.size() % 16) out.push_back(out[out.size() % 7]);
  return out;
}

// PyTorch's conversion on x86, from its definition.
template <class S, class T>
T reference_cvt(S x) {
  if constexpr (std::is_same_v<T, bool>) {
    return x != 0;
  } else if constexpr (std::is_floating_point_v<S> && std::is_integral_v<T>) {
    const auto fits = [&](double low, double high) { return x >= low && x < high; };
    if constexpr (sizeof(T) <= 2 || std::is_same_v<T, int32_t>) {
      const bool in = static_cast<double>(x) > -2147483649. && static_cast<double>(x) < 2147483648.;
      return static_cast<T>(in ? static_cast<int32_t>(x) : INT32_MIN);
    } else if constexpr (std::is_same_v<T, uint64_t>) {
      if (fits(9223372036854775808., 18446744073709551616.)) return static_cast<uint64_t>(x);
      if (x >= S(18446744073709551616.)) return 0;
      return static_cast<uint64_t>(fits(-9223372036854775808., 9223372036854775808.) ? static_cast<int64_t>(x)
                                                                                     : INT64_MIN);
    } else {
      return static_cast<T>(fits(-9223372036854775808., 9223372036854775808.) ? static_cast<int64_t>(x) : INT64_MIN);
    }
  } else {
    return static_cast<T>(x);
  }
}

template <class T>
bool same(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::memcmp(&a, &b, sizeof a) == 0;
}

TEST(PreludeArith, Conversions) {
  std::string text;
  const auto pair_text = [&](std::string s, std::string t) {
    text += replace_all(replace_all(R"(
extern "C" void vector_FROM_INTO(const FROM* x, INTO* y, i64 n) { for (i64 i = 0; i < n; i += LANES) store_INTO(y + i, cvt_FROM_INTO(load_FROM(x + i))); }
extern "C" void single_FROM_INTO(const FROM* x, INTO* y, i64 n) { for (i64 i = 0; i < n; ++i) store1_INTO(y + i, cvt_FROM_INTO(load1_FROM(x + i))); }
)",
                                    "FROM", s),
                        "INTO", t);
  };
  each_type<bool, float, double, TD_INTEGERS>([&]<class S>() {
    each_type<bool, float, double, TD_INTEGERS>([&]<class T>() { pair_text(name_of<S>(), name_of<T>()); });
  });
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    each_type<bool, float, double, TD_INTEGERS>([&]<class S>() {
      const std::vector<S> xs = edge_values<S>();
      const int64_t n = static_cast<int64_t>(xs.size());
      std::unique_ptr<S[]> x(new S[xs.size()]);
      std::copy(xs.begin(), xs.end(), x.get());
      each_type<bool, float, double, TD_INTEGERS>([&]<class T>() {
        std::unique_ptr<T[]> y(new T[xs.size()]);
        for (const char* form : {"vector", "single"}) {
          library.function<void(const S*, T*, int64_t)>(format("{}_{}_{}", form, name_of<S>(), name_of<T>()))(
              x.get(), y.get(), n);
          for (size_t i = 0; i < xs.size(); ++i) {
            const T want = reference_cvt<S, T>(x[i]);
            EXPECT_TRUE(same(y[i], want)) << form << " " << name_of<S>() << " to " << name_of<T>() << ": " << +x[i]
                                          << " gave " << +y[i] << ", not " << +want;
          }
        }
      });
    });
  }
}

// x to `bits` of mantissa with exponents from `least` on, half to even, in double; overflow beyond `most` to infinity.
double reference_round(float x, int bits, int least, double most) {
  if (std::isnan(x) || std::isinf(x) || x == 0) return x;
  int e;
  std::frexp(x, &e);
  const double unit = std::ldexp(1., std::max(e, least) - bits);
  const double y = std::nearbyint(x / unit) * unit;
  return std::abs(y) > most ? std::copysign(INFINITY, x) : std::copysign(y, x);
}

TEST(PreludeArith, SixteenBitFloats) {
  std::string text;
  for (const char* type : {"bf16", "f16"})
    text += replace_all(R"(
extern "C" void round_T_(const f32* x, f32* y, i64 n) { for (i64 i = 0; i < n; i += LANES) store_f32(y + i, round_T(load_f32(x + i))); }
extern "C" void round1_T(const f32* x, f32* y, i64 n) { for (i64 i = 0; i < n; ++i) y[i] = round_T(x[i]); }
extern "C" void there_T(const f32* x, u16* y, i64 n) { for (i64 i = 0; i < n; i += LANES) store_T(y + i, load_f32(x + i)); }
extern "C" void back_T(const u16* x, f32* y, i64 n) { for (i64 i = 0; i < n; i += LANES) store_f32(y + i, load_T(x + i)); }
extern "C" void back1_T(const u16* x, f32* y, i64 n) { for (i64 i = 0; i < n; ++i) y[i] = load1_T(x + i); }
)",
                        "T", type);
  std::vector<float> x = edge_values<float>();
  for (uint32_t i = 0; i < 1 << 17; ++i) x.push_back(std::bit_cast<float>(i * 32749u + 5));
  for (uint32_t i = 0; i < 1 << 16; ++i) x.push_back(std::bit_cast<float>(i << 16 | 0x8000u));
  for (uint32_t i = 0; i < 1 << 16; ++i) x.push_back(std::bit_cast<float>(0x33000000u + i * 0x1000u));
  const int64_t n = static_cast<int64_t>(x.size());
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    for (const bool half : {false, true}) {
      const std::string type = half ? "f16" : "bf16";
      std::vector<float> want(x.size()), got(x.size());
      for (size_t i = 0; i < x.size(); ++i)
        want[i] = static_cast<float>(half ? reference_round(x[i], 11, -13, 65504.)
                                          : reference_round(x[i], 8, -125, 3.3895314e38));
      for (const std::string& name : {"round_" + type + "_", "round1_" + type}) {
        library.function<void(const float*, float*, int64_t)>(name)(x.data(), got.data(), n);
        for (size_t i = 0; i < x.size(); ++i)
          ASSERT_TRUE(same(got[i], want[i])) << name << " " << x[i] << " gave " << got[i];
      }
      std::vector<uint16_t> bits(x.size());
      library.function<void(const float*, uint16_t*, int64_t)>("there_" + type)(x.data(), bits.data(), n);
      for (const std::string& name : {"back_" + type, "back1_" + type}) {
        library.function<void(const uint16_t*, float*, int64_t)>(name)(bits.data(), got.data(), n);
        for (size_t i = 0; i < x.size(); ++i)
          ASSERT_TRUE(same(got[i], want[i])) << name << " " << x[i] << " gave " << got[i];
      }
    }
  }
}

// All pairs of edge values through `name_T`, vector and single form.
template <class T, class R, class Reference>
void check_pairs(const PreludeLibrary& library, const std::string& name, Reference reference) {
  const std::vector<T> values = edge_values<T>();
  std::vector<T> a, b;
  for (T x : values)
    for (T y : values) a.push_back(x), b.push_back(y);
  std::unique_ptr<R[]> got(new R[a.size()]);
  for (const char* form : {"vector", "single"}) {
    library.function<void(const T*, const T*, R*, int64_t)>(format("{}_{}_{}", form, name, name_of<T>()))(
        a.data(), b.data(), got.get(), static_cast<int64_t>(a.size()));
    for (size_t i = 0; i < a.size(); ++i) {
      const R want = reference(a[i], b[i]);
      ASSERT_TRUE(same(got[i], want)) << form << " " << name << " " << name_of<T>() << "(" << +a[i] << ", " << +b[i]
                                      << ") gave " << +got[i] << ", not " << +want;
    }
  }
}

std::string pairs_text(const std::string& name, const std::string& type, const std::string& result) {
  return replace_all(replace_all(replace_all(R"(
extern "C" void vector_NAME_T(const T* x, const T* y, R* z, i64 n) { for (i64 i = 0; i < n; i += LANES) store_R(z + i, NAME(load_T(x + i), load_T(y + i))); }
extern "C" void single_NAME_T(const T* x, const T* y, R* z, i64 n) { for (i64 i = 0; i < n; ++i) store1_R(z + i, NAME(load1_T(x + i), load1_T(y + i))); }
)",
                                             "NAME", name),
                                 "T", type),
                     "R", result);
}

template <class T>
T floored_remainder(T a, T b) {
  const T r = std::fmod(a, b);
  return r != 0 && (b < 0) != (r < 0) ? r + b : r;
}

TEST(PreludeArith, IntegerPairs) {
  std::string text;
  const char* arithmetic[] = {"min", "max", "truncdiv", "floordiv", "fmod", "remainder",
                              "shl", "shr", "ipow",     "band",     "bor",  "bxor"};
  const char* comparisons[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  each_type<TD_INTEGERS>([&]<class T>() {
    for (const char* name : arithmetic) text += pairs_text(name, name_of<T>(), name_of<T>());
    for (const char* name : comparisons) text += pairs_text(name, name_of<T>(), "b8");
    text += replace_all(R"(
INL vT plus(vT a, vT b) { return sel(lt(a, b), a + b * a, neg(abs(a - b))); }
INL T plus(T a, T b) { return sel(lt(a, b), (T)((u64)a + (u64)b * (u64)a), neg(abs((T)((u64)a - (u64)b)))); }
)",
                        "T", name_of<T>());
    text += pairs_text("plus", name_of<T>(), name_of<T>());
  });
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    each_type<TD_INTEGERS>([&]<class T>() {
      constexpr T least = std::numeric_limits<T>::min();
      constexpr unsigned width = 8 * sizeof(T);
      const auto quotient = [](T a, T b) -> T {
        if (b == 0) return 0;
        return std::is_signed_v<T> && a == least && b == T(-1) ? least : static_cast<T>(a / b);
      };
      const auto rest = [](T a, T b) -> T {
        if (b == 0 || (std::is_signed_v<T> && b == T(-1))) return 0;
        return static_cast<T>(a % b);
      };
      check_pairs<T, T>(library, "min", [](T a, T b) { return std::min(a, b); });
      check_pairs<T, T>(library, "max", [](T a, T b) { return std::max(a, b); });
      check_pairs<T, T>(library, "truncdiv", quotient);
      check_pairs<T, T>(library, "fmod", rest);
      check_pairs<T, T>(library, "remainder", [&](T a, T b) -> T {
        const T r = rest(a, b);
        return static_cast<T>(r != 0 && (r < 0) != (b < 0) ? r + b : r);
      });
      check_pairs<T, T>(library, "floordiv", [&](T a, T b) -> T {
        return static_cast<T>(quotient(a, b) - (rest(a, b) != 0 && (a < 0) != (b < 0)));
      });
      check_pairs<T, T>(library, "shl", [&](T a, T b) -> T {
        return b < 0 || static_cast<uint64_t>(b) >= width ? T(0) : static_cast<T>(static_cast<uint64_t>(a) << b);
      });
      check_pairs<T, T>(library, "shr", [&](T a, T b) -> T {
        return b < 0 || static_cast<uint64_t>(b) >= width ? static_cast<T>(a < 0 ? -1 : 0) : static_cast<T>(a >> b);
      });
      check_pairs<T, T>(library, "ipow", [&](T a, T b) -> T {
        if (b < 0) return a == 1 ? T(1) : a == T(-1) ? static_cast<T>(b & 1 ? -1 : 1) : T(0);
        uint64_t r = 1, x = static_cast<uint64_t>(a);
        for (uint64_t k = static_cast<uint64_t>(b); k; k >>= 1, x *= x) r *= k & 1 ? x : 1;
        return static_cast<T>(r);
      });
      check_pairs<T, T>(library, "band", [](T a, T b) -> T { return a & b; });
      check_pairs<T, T>(library, "bor", [](T a, T b) -> T { return a | b; });
      check_pairs<T, T>(library, "bxor", [](T a, T b) -> T { return a ^ b; });
      check_pairs<T, bool>(library, "eq", [](T a, T b) { return a == b; });
      check_pairs<T, bool>(library, "ne", [](T a, T b) { return a != b; });
      check_pairs<T, bool>(library, "lt", [](T a, T b) { return a < b; });
      check_pairs<T, bool>(library, "le", [](T a, T b) { return a <= b; });
      check_pairs<T, bool>(library, "gt", [](T a, T b) { return a > b; });
      check_pairs<T, bool>(library, "ge", [](T a, T b) { return a >= b; });
      check_pairs<T, T>(library, "plus", [](T a, T b) -> T {
        const uint64_t x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
        const T d = static_cast<T>(x - y);
        return static_cast<T>(a < b ? x + y * x
                                    : 0 - (d < 0 ? 0 - static_cast<uint64_t>(d) : static_cast<uint64_t>(d)));
      });
    });
  }
}

// One rounding where the CPU fuses, two where it does not; single values as vectors.
TEST(PreludeArith, MultiplyAdd) {
  const std::string text = R"(
INL vf32 mad_of(vf32 a, vf32 b) { return mad(a, b, neg(a)); }
INL f32 mad_of(f32 a, f32 b) { return mad(a, b, neg(a)); }
)" + pairs_text("mad_of", "f32", "f32");
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    check_pairs<float, float>(library, "mad_of", [&](float a, float b) {
      const volatile float product = a * b;
      return target.lanes > 4 ? std::fma(a, b, -a) : product - a;
    });
  }
}

TEST(PreludeArith, FloatPairs) {
  std::string text;
  for (const char* type : {"f32", "f64"}) {
    for (const char* name : {"min", "max", "fmin", "fmax", "fmod", "remainder", "floordiv", "truncdiv", "copysign"})
      text += pairs_text(name, type, type);
    for (const char* name : {"eq", "ne", "lt", "le", "gt", "ge"}) text += pairs_text(name, type, "b8");
    text += replace_all(R"(
INL vT fma_of(vT a, vT b) { return fma(a, b, neg(a)); }
INL T fma_of(T a, T b) { return fma(a, b, neg(a)); }
INL vm class_of(vT a, vT b) { return lor(land(isnan(a), lnot(isinf(b))), lxor(isinf(a), signbit(b))); }
INL bool class_of(T a, T b) { return lor(land(isnan(a), lnot(isinf(b))), lxor(isinf(a), signbit(b))); }
INL vT whole(vT a, vT b) { return sel(lt(b, splat_T(1)), sel(lt(b, splat_T(0)), floor(a), ceil(a)), sel(lt(b, splat_T(100)), trunc(a), round(a))); }
INL T whole(T a, T b) { return sel(lt(b, (T)1), sel(lt(b, (T)0), floor(a), ceil(a)), sel(lt(b, (T)100), trunc(a), round(a))); }
INL vT roots(vT a, vT b) { return sqrt(abs(a)) + rsqrt(abs(b)); }
INL T roots(T a, T b) { return sqrt(abs(a)) + rsqrt(abs(b)); }
)",
                        "T", type);
    for (const char* name : {"fma_of", "whole", "roots"}) text += pairs_text(name, type, type);
    text += pairs_text("class_of", type, "b8");
  }
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    each_type<float, double>([&]<class T>() {
      check_pairs<T, T>(library, "min", [](T a, T b) { return std::isnan(b) || b < a ? b : a; });
      check_pairs<T, T>(library, "max", [](T a, T b) { return std::isnan(b) || b > a ? b : a; });
      check_pairs<T, T>(library, "fmin", [](T a, T b) { return std::isnan(a) || b < a ? b : a; });
      check_pairs<T, T>(library, "fmax", [](T a, T b) { return std::isnan(a) || b > a ? b : a; });
      check_pairs<T, T>(library, "fmod", [](T a, T b) { return std::fmod(a, b); });
      check_pairs<T, T>(library, "remainder", floored_remainder<T>);
      check_pairs<T, T>(library, "floordiv", [](T a, T b) {
        if (b == 0) return a / b;
        const T r = std::fmod(a, b);
        T q = (a - r) / b;
        if (r != 0 && (b < 0) != (r < 0)) q -= 1;
        if (q == 0) return std::copysign(T(0), a / b);
        return std::floor(q) + (q - std::floor(q) > T(0.5) ? 1 : 0);
      });
      check_pairs<T, T>(library, "truncdiv", [](T a, T b) { return std::trunc(a / b); });
      check_pairs<T, T>(library, "copysign", [](T a, T b) { return std::copysign(a, b); });
      check_pairs<T, T>(library, "fma_of", [](T a, T b) { return std::fma(a, b, -a); });
      check_pairs<T, T>(library, "whole", [](T a, T b) {
        return b < 0 ? std::floor(a) : b < 1 ? std::ceil(a) : b < 100 ? std::trunc(a) : std::nearbyint(a);
      });
      check_pairs<T, T>(library, "roots", [](T a, T b) { return std::sqrt(std::abs(a)) + 1 / std::sqrt(std::abs(b)); });
      check_pairs<T, bool>(library, "class_of", [](T a, T b) {
        return (std::isnan(a) && !std::isinf(b)) || (std::isinf(a) != std::signbit(b));
      });
      check_pairs<T, bool>(library, "eq", [](T a, T b) { return a == b; });
      check_pairs<T, bool>(library, "ne", [](T a, T b) { return a != b; });
      check_pairs<T, bool>(library, "lt", [](T a, T b) { return a < b; });
      check_pairs<T, bool>(library, "le", [](T a, T b) { return a <= b; });
      check_pairs<T, bool>(library, "gt", [](T a, T b) { return a > b; });
      check_pairs<T, bool>(library, "ge", [](T a, T b) { return a >= b; });
    });
  }
}

}  // namespace
}  // namespace toroid::emit::testing
