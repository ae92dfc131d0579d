// The meaning of each scalar operation, conversion and storage type.
#include "loop/scalar.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace toroid {
namespace special {

using f64 = double;
using i64 = long long;
using i32 = int;
using u32 = unsigned;
using u64 = unsigned long long;
#include "loop/special.inc"

}  // namespace special

namespace {

constexpr int bits_of(DType dtype) {
  switch (dtype) {
    case DType::u8:
    case DType::i8: return 8;
    case DType::i16:
    case DType::u16: return 16;
    case DType::i32:
    case DType::u32: return 32;
    default: return 64;
  }
}

// Python's floor division and remainder on floats, as PyTorch rounds them: each step in T.
template <class T>
T floor_divide(T a, T b) {
  if (b == 0) return a / b;
  T rest = std::fmod(a, b);
  T quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(T(0), a / b);
  T whole = std::floor(quotient);
  return quotient - whole > T(0.5) ? whole + 1 : whole;
}

template <class T>
T float_op(ScalarOp op, T a, T b, T c) {
  const double x = a, y = b;
  switch (op) {
    case ScalarOp::add: return a + b;
    case ScalarOp::sub: return a - b;
    case ScalarOp::mul: return a * b;
    case ScalarOp::div: return a / b;
    case ScalarOp::floordiv: return floor_divide(a, b);
    case ScalarOp::fmod: return std::fmod(a, b);
    case ScalarOp::remainder: {
      T rest = std::fmod(a, b);
      return rest != 0 && (b < 0) != (rest < 0) ? rest + b : rest;
    }
    case ScalarOp::fma: return std::fma(a, b, c);
    case ScalarOp::neg: return -a;
    case ScalarOp::abs: return std::fabs(a);
    // On equal values the first operand stays, so min(-0.0, 0.0) is -0.0.
    case ScalarOp::min: return std::isnan(a) || a <= b ? a : b;
    case ScalarOp::max: return std::isnan(a) || a >= b ? a : b;
    case ScalarOp::fmin: return std::isnan(b) || a <= b ? a : b;
    case ScalarOp::fmax: return std::isnan(b) || a >= b ? a : b;
    case ScalarOp::sqrt: return std::sqrt(a);
    case ScalarOp::rsqrt: return T(1) / std::sqrt(a);
    case ScalarOp::floor: return std::floor(a);
    case ScalarOp::ceil: return std::ceil(a);
    case ScalarOp::trunc: return std::trunc(a);
    case ScalarOp::round: return std::nearbyint(a);
    case ScalarOp::exp: return T(std::exp(x));
    case ScalarOp::exp2: return T(std::exp2(x));
    case ScalarOp::expm1: return T(std::expm1(x));
    case ScalarOp::log: return T(std::log(x));
    case ScalarOp::log2: return T(std::log2(x));
    case ScalarOp::log10: return T(std::log10(x));
    case ScalarOp::log1p: return T(std::log1p(x));
    case ScalarOp::sin: return T(std::sin(x));
    case ScalarOp::cos: return T(std::cos(x));
    case ScalarOp::tan: return T(std::tan(x));
    case ScalarOp::asin: return T(std::asin(x));
    case ScalarOp::acos: return T(std::acos(x));
    case ScalarOp::atan: return T(std::atan(x));
    case ScalarOp::atan2: return T(std::atan2(x, y));
    case ScalarOp::sinh: return T(std::sinh(x));
    case ScalarOp::cosh: return T(std::cosh(x));
    case ScalarOp::tanh: return T(std::tanh(x));
    case ScalarOp::asinh: return T(std::asinh(x));
    case ScalarOp::acosh: return T(std::acosh(x));
    case ScalarOp::atanh: return T(std::atanh(x));
    case ScalarOp::sigmoid: return T(1 / (1 + std::exp(-x)));
    case ScalarOp::erf: return T(std::erf(x));
    case ScalarOp::erfc: return T(std::erfc(x));
    // x/2 * (1 + erf(x / sqrt 2)), written with erfc so that large negative x keeps its digits.
    case ScalarOp::gelu: return std::isinf(x) ? T(x > 0 ? x : -0.0) : T(0.5 * x * std::erfc(-x * M_SQRT1_2));
    case ScalarOp::gelu_tanh: {
      if (std::isinf(x)) return T(x > 0 ? x : -0.0);
      return T(0.5 * x * (1 + std::tanh(M_SQRT2 * M_2_SQRTPI * 0.5 * (x + 0.044715 * x * x * x))));
    }
    case ScalarOp::pow: return T(std::pow(x, y));
    case ScalarOp::copysign: return std::copysign(a, b);
    case ScalarOp::nextafter: return std::nextafter(a, b);
    case ScalarOp::trigamma:
      return sizeof(T) == 4 ? T(special::td_trigamma32(float(a))) : T(special::td_trigamma(x));
// clang-format off
#define TD_SPECIAL_1(name) case ScalarOp::name: return T(special::td_##name(x));
#define TD_SPECIAL_2(name) case ScalarOp::name: return T(special::td_##name(x, y));
// clang-format on
#include "loop/special_ops.def"
#undef TD_SPECIAL_1
#undef TD_SPECIAL_2
    default: TD_CHECK(false, "`{}` is not an operation on floats", scalar_op_name(op));
  }
  return a;
}

template <class T>
bool compare_op(ScalarOp op, T a, T b) {
  switch (op) {
    case ScalarOp::eq: return a == b;
    case ScalarOp::ne: return a != b;
    case ScalarOp::lt: return a < b;
    case ScalarOp::le: return a <= b;
    case ScalarOp::gt: return a > b;
    case ScalarOp::ge: return a >= b;
    default: TD_CHECK(false, "`{}` is not a comparison", scalar_op_name(op));
  }
  return false;
}

uint64_t power(uint64_t base, uint64_t exponent) {
  uint64_t result = 1;
  for (; exponent; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}

// Before wrapping. Arithmetic runs on uint64, where overflow wraps and the low bits are those of any width.
int64_t integer_op(ScalarOp op, DType type, int64_t a, int64_t b) {
  const uint64_t ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
  const bool wide_unsigned = type == DType::u64;
  auto less = [&] { return wide_unsigned ? ua < ub : a < b; };
  auto signed_value = [](uint64_t v) { return static_cast<int64_t>(v); };
  switch (op) {
    case ScalarOp::add: return signed_value(ua + ub);
    case ScalarOp::sub: return signed_value(ua - ub);
    case ScalarOp::mul: return signed_value(ua * ub);
    case ScalarOp::truncdiv:
    case ScalarOp::floordiv: {
      if (b == 0) return 0;
      if (wide_unsigned) return signed_value(ua / ub);
      if (b == -1) return signed_value(0 - ua);  // INT_MIN / -1 wraps
      int64_t quotient = a / b;
      return op == ScalarOp::floordiv && a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
    }
    case ScalarOp::fmod:
    case ScalarOp::remainder: {
      if (b == 0 || (!wide_unsigned && b == -1)) return 0;
      if (wide_unsigned) return signed_value(ua % ub);
      int64_t rest = a % b;
      return op == ScalarOp::remainder && rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
    }
    case ScalarOp::neg: return signed_value(0 - ua);
    case ScalarOp::abs: return is_unsigned(type) || a >= 0 ? a : signed_value(0 - ua);
    case ScalarOp::min:
    case ScalarOp::fmin: return less() ? a : b;
    case ScalarOp::max:
    case ScalarOp::fmax: return less() ? b : a;
    case ScalarOp::ipow: {
      if (b < 0 && !wide_unsigned) return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
      return signed_value(power(ua, ub));
    }
    case ScalarOp::check_divisor: return a;
    case ScalarOp::gcd: return signed_value(special::td_gcd(a, b));
    case ScalarOp::random_bits: return signed_value(special::td_random_bits(ua, ub));
    case ScalarOp::band: return a & b;
    case ScalarOp::bor: return a | b;
    case ScalarOp::bxor: return a ^ b;
    case ScalarOp::bnot: return ~a;
    case ScalarOp::shl: return b < 0 || b >= bits_of(type) ? 0 : signed_value(ua << b);
    case ScalarOp::shr: {
      bool out = b < 0 || b >= bits_of(type);
      if (wide_unsigned) return out ? 0 : signed_value(ua >> b);
      return a >> (out ? 63 : b);
    }
    default: TD_CHECK(false, "`{}` is not an operation on integers", scalar_op_name(op));
  }
  return 0;
}

// A float format with `precision` bits of significand (the hidden one counted) and exponents from `least`.
struct Format {
  int precision, least;
  double greatest;
  int exponent_bits, total_bits;
};
constexpr Format format_of(DType storage) {
  switch (storage) {
    case DType::bf16: return {8, -126, 3.3895313892515355e38, 8, 16};
    case DType::f16: return {11, -14, 65504, 5, 16};
    case DType::f8e5m2: return {3, -14, 57344, 5, 8};
    default: return {4, -6, 448, 4, 8};  // f8e4m3: no infinity
  }
}

double decode(uint32_t bits, DType storage) {
  const Format f = format_of(storage);
  const int fraction_bits = f.precision - 1;
  const uint32_t fraction = bits & ((1u << fraction_bits) - 1);
  const uint32_t exponent = (bits >> fraction_bits) & ((1u << f.exponent_bits) - 1);
  const double sign = bits >> (f.total_bits - 1) ? -1 : 1;
  const uint32_t top = (1u << f.exponent_bits) - 1;
  if (storage == DType::f8e4m3) {
    if (exponent == top && fraction == 7) return std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == top) {
    return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, f.least - fraction_bits);
  return sign * std::ldexp(fraction + (1u << fraction_bits), static_cast<int>(exponent) - 1 + f.least - fraction_bits);
}

uint32_t encode(double value, DType storage) {
  const Format f = format_of(storage);
  const int fraction_bits = f.precision - 1;
  const uint32_t sign = std::signbit(value) ? 1u << (f.total_bits - 1) : 0;
  const uint32_t top = ((1u << f.exponent_bits) - 1) << fraction_bits;
  if (std::isnan(value)) return f.total_bits == 8 ? sign | 0x7f : top | 1u << (fraction_bits - 1);
  value = round_float(value, storage);
  if (std::isinf(value)) return sign | top;
  if (value == 0) return sign;
  const int exponent = std::max(std::ilogb(value), f.least);
  const auto significand = static_cast<uint32_t>(std::ldexp(std::fabs(value), fraction_bits - exponent));
  // A subnormal has no hidden bit, so its exponent field comes out as 0.
  return sign | ((static_cast<uint32_t>(exponent - f.least) << fraction_bits) + significand);
}

template <class T>
T read(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <class T>
void write(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace

int64_t wrap_integer(int64_t value, DType dtype) {
  switch (dtype) {
    case DType::u8: return static_cast<uint8_t>(value);
    case DType::i8: return static_cast<int8_t>(value);
    case DType::u16: return static_cast<uint16_t>(value);
    case DType::i16: return static_cast<int16_t>(value);
    case DType::u32: return static_cast<uint32_t>(value);
    case DType::i32: return static_cast<int32_t>(value);
    case DType::b8: return value != 0;
    default: return value;
  }
}

double round_float(double value, DType storage) {
  if (storage == DType::f64) return value;
  if (storage == DType::f32) return static_cast<float>(value);
  if (value == 0 || std::isnan(value)) return value;
  const Format f = format_of(storage);
  const double limit = storage == DType::f8e4m3 ? f.greatest : std::numeric_limits<double>::infinity();
  if (std::isinf(value)) return std::copysign(limit, value);
  const int unit = std::max(std::ilogb(value), f.least) - (f.precision - 1);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  return std::fabs(rounded) > f.greatest ? std::copysign(limit, value) : rounded;
}

Scalar eval_scalar(ScalarOp op, DType type, const Scalar* args, bool exact) {
  Scalar result{.i = 0};
  const int count = scalar_op_args(op);
  const Scalar a = args[0], b = count > 1 ? args[1] : a, c = count > 2 ? args[2] : a;
  switch (op) {
    case ScalarOp::where: return a.i ? b : c;
    case ScalarOp::land: return {.i = a.i & b.i};
    case ScalarOp::lor: return {.i = a.i | b.i};
    case ScalarOp::lxor: return {.i = a.i ^ b.i};
    case ScalarOp::lnot: return {.i = !a.i};
    case ScalarOp::isnan: return {.i = is_float(type) && std::isnan(a.f)};
    case ScalarOp::isinf: return {.i = is_float(type) && std::isinf(a.f)};
    case ScalarOp::signbit: return {.i = is_float(type) ? std::signbit(a.f) : type != DType::u64 && a.i < 0};
    case ScalarOp::eq:
    case ScalarOp::ne:
    case ScalarOp::lt:
    case ScalarOp::le:
    case ScalarOp::gt:
    case ScalarOp::ge:
      if (is_float(type)) return {.i = compare_op(op, a.f, b.f)};
      if (type == DType::u64) return {.i = compare_op(op, static_cast<uint64_t>(a.i), static_cast<uint64_t>(b.i))};
      return {.i = compare_op(op, a.i, b.i)};
    default: break;
  }
  if (type == DType::f32 && !exact) {
    result.f = float_op<float>(op, static_cast<float>(a.f), static_cast<float>(b.f), static_cast<float>(c.f));
  } else if (is_float(type)) {
    result.f = float_op<double>(op, a.f, b.f, c.f);
  } else {
    result.i = wrap_integer(integer_op(op, type, a.i, b.i), type);
  }
  return result;
}

Scalar convert_scalar(Scalar value, DType from, DType to) {
  if (is_float(from)) {
    const double x = value.f;
    if (is_float(to)) return {.f = round_float(x, to)};
    if (is_bool(to)) return {.i = x != 0};
    if (to == DType::u64 && x >= 0x1p63) return {.i = x < 0x1p64 ? static_cast<int64_t>(static_cast<uint64_t>(x)) : 0};
    const bool narrow = to == DType::i32 || to == DType::i16 || to == DType::i8 || to == DType::u8;
    const double limit = narrow ? 0x1p31 : 0x1p63;
    const double whole = std::trunc(x);
    if (!(whole >= -limit && whole < limit)) return {.i = wrap_integer(narrow ? INT32_MIN : INT64_MIN, to)};
    return {.i = wrap_integer(static_cast<int64_t>(whole), to)};
  }
  if (is_float(to)) {
    const bool wide = from == DType::u64;
    if (to == DType::f32)
      return {.f = wide ? static_cast<float>(static_cast<uint64_t>(value.i)) : static_cast<float>(value.i)};
    const double x = wide ? static_cast<double>(static_cast<uint64_t>(value.i)) : static_cast<double>(value.i);
    return {.f = round_float(x, to)};
  }
  return {.i = wrap_integer(value.i, to)};
}

Scalar bitcast_scalar(Scalar value, DType from, DType to) {
  std::byte bytes[8];
  store_scalar(bytes, from, value);
  return load_scalar(bytes, to);
}

Scalar load_scalar(const std::byte* at, DType storage) {
  switch (storage) {
    case DType::f32: return {.f = read<float>(at)};
    case DType::f64: return {.f = read<double>(at)};
    case DType::i64:
    case DType::u64: return {.i = read<int64_t>(at)};
    case DType::i32: return {.i = read<int32_t>(at)};
    case DType::u32: return {.i = read<uint32_t>(at)};
    case DType::i16: return {.i = read<int16_t>(at)};
    case DType::u16: return {.i = read<uint16_t>(at)};
    case DType::i8: return {.i = read<int8_t>(at)};
    case DType::u8: return {.i = read<uint8_t>(at)};
    case DType::b8: return {.i = read<uint8_t>(at) != 0};
    case DType::bf16: return {.f = std::bit_cast<float>(static_cast<uint32_t>(read<uint16_t>(at)) << 16)};
    case DType::f16: return {.f = decode(read<uint16_t>(at), storage)};
    case DType::f8e5m2:
    case DType::f8e4m3: return {.f = decode(read<uint8_t>(at), storage)};
    default: TD_CHECK(false, "no register holds {}", dtype_name(storage));
  }
  return {.i = 0};
}

void store_scalar(std::byte* at, DType storage, Scalar value) {
  switch (storage) {
    case DType::f32: return write(at, static_cast<float>(value.f));
    case DType::f64: return write(at, value.f);
    case DType::bf16:
    case DType::f16: return write(at, static_cast<uint16_t>(encode(value.f, storage)));
    case DType::f8e5m2:
    case DType::f8e4m3: return write(at, static_cast<uint8_t>(encode(value.f, storage)));
    case DType::i64:
    case DType::u64: return write(at, value.i);
    case DType::i32:
    case DType::u32: return write(at, static_cast<int32_t>(value.i));
    case DType::i16:
    case DType::u16: return write(at, static_cast<int16_t>(value.i));
    case DType::i8:
    case DType::u8:
    case DType::b8: return write(at, static_cast<int8_t>(value.i));
    default: TD_CHECK(false, "no register holds {}", dtype_name(storage));
  }
}

}  // namespace toroid
