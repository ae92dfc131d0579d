// Strided copies with conversion: the data movement below recipes.
#include "convert.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>

#include "recipe.h"

namespace toroid::runtime {
namespace {

struct Row {
  int32_t dtype;
  std::string_view name;
  int64_t bytes;
};
// Types that models only hand in and out, by c10's numbers.
constexpr int32_t wide_u16 = 27, wide_u32 = 28, wide_u64 = 29;
constexpr Row rows[] = {
    {TD_U8, "u8", 1},         {TD_I8, "i8", 1},         {TD_I16, "i16", 2},   {TD_I32, "i32", 4},
    {TD_I64, "i64", 8},       {TD_F16, "f16", 2},       {TD_F32, "f32", 4},   {TD_F64, "f64", 8},
    {TD_C64, "c64", 8},       {TD_C128, "c128", 16},    {TD_BOOL, "bool", 1}, {TD_BF16, "bf16", 2},
    {TD_F8E5M2, "f8e5m2", 1}, {TD_F8E4M3, "f8e4m3", 1}, {TD_C32, "c32", 4},   {wide_u16, "u16", 2},
    {wide_u32, "u32", 4},     {wide_u64, "u64", 8},
};

float f16_to_float(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) {
    const float tiny = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -tiny : tiny;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

// Rounds a double to the nearest value with `mantissa` stored bits, exponents down to `lowest` (ties to even), so that
// a value is rounded once even where the target is narrower than float.
double rounded(double x, int mantissa, int lowest) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), lowest) - mantissa;
  return std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
}

uint16_t double_to_f16(double x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(x)) return sign | 0x7e00;
  const double a = std::fabs(rounded(x, 10, -14));
  if (a >= 65536) return sign | 0x7c00;
  if (a < 0x1p-14) return sign | static_cast<uint16_t>(a * 0x1p24);
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(a));
  return sign | static_cast<uint16_t>(((bits >> 23) - 112) << 10 | ((bits >> 13) & 1023));
}

uint16_t double_to_bf16(double x) {
  if (std::isnan(x)) return std::signbit(x) ? 0xffc0 : 0x7fc0;
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(rounded(x, 7, -126))) >> 16);
}

// Floats of 8 bits: those with 2 bits of fraction have infinities; the others end at 448, and what is greater becomes
// that.
struct Small {
  int mantissa, lowest;
  double greatest;
  uint8_t beyond;  // the code of what is greater
};
constexpr Small f8e5m2 = {2, -14, 57344, 0x7c}, f8e4m3 = {3, -6, 448, 0x7e};

uint8_t double_to_f8(double x, const Small& f) {
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  if (std::isnan(x)) return sign | 0x7f;
  const double a = std::fabs(rounded(x, f.mantissa, f.lowest));
  if (a > f.greatest) return sign | f.beyond;
  if (a < std::ldexp(1.0, f.lowest)) return sign | static_cast<uint8_t>(std::ldexp(a, f.mantissa - f.lowest));
  const int exponent = std::ilogb(a), steps = 1 << f.mantissa;
  const int fraction = static_cast<int>(std::ldexp(a, f.mantissa - exponent)) - steps;
  return sign | static_cast<uint8_t>((exponent - f.lowest + 1) * steps + fraction);
}

double f8_to_double(uint8_t code, const Small& f) {
  const int a = code & 0x7f, steps = 1 << f.mantissa;
  double value = a < steps ? std::ldexp(a, f.lowest - f.mantissa)
                           : std::ldexp(a % steps + steps, a / steps - 1 + f.lowest - f.mantissa);
  if (a == 0x7f || (f.beyond == 0x7c && a > 0x7c)) value = NAN;
  if (f.beyond == 0x7c && a == 0x7c) value = INFINITY;
  return code & 0x80 ? -value : value;
}

// To nearest, ties to even, on the bits.
uint16_t float_to_bf16(const char* at) {
  uint32_t bits;
  std::memcpy(&bits, at, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16 & 0x8000) | 0x7fc0);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <class T>
T read(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <class T>
void write(char* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

double load_double(const char* at, int32_t dtype) {
  switch (dtype) {
    case TD_U8: return read<uint8_t>(at);
    case TD_I8: return read<int8_t>(at);
    case TD_I16: return read<int16_t>(at);
    case TD_I32: return read<int32_t>(at);
    case TD_I64: return static_cast<double>(read<int64_t>(at));
    case TD_F16: return f16_to_float(read<uint16_t>(at));
    case TD_F32: return read<float>(at);
    case TD_F64: return read<double>(at);
    case TD_BOOL: return read<uint8_t>(at) != 0;
    case TD_BF16: return std::bit_cast<float>(static_cast<uint32_t>(read<uint16_t>(at)) << 16);
    case TD_F8E5M2: return f8_to_double(read<uint8_t>(at), f8e5m2);
    case TD_F8E4M3: return f8_to_double(read<uint8_t>(at), f8e4m3);
    default: return 0;
  }
}

// Towards zero, wrapping within the type; NaN and what int64 cannot hold become its minimum, as x86 converts.
int64_t to_integer(double x) { return x >= -0x1p63 && x < 0x1p63 ? static_cast<int64_t>(x) : INT64_MIN; }

void store_double(char* at, int32_t dtype, double x) {
  switch (dtype) {
    case TD_U8: write(at, static_cast<uint8_t>(to_integer(x))); break;
    case TD_I8: write(at, static_cast<int8_t>(to_integer(x))); break;
    case TD_I16: write(at, static_cast<int16_t>(to_integer(x))); break;
    case TD_I32: write(at, static_cast<int32_t>(to_integer(x))); break;
    case TD_I64: write(at, to_integer(x)); break;
    case TD_F16: write(at, double_to_f16(x)); break;
    case TD_F32: write(at, static_cast<float>(x)); break;
    case TD_F64: write(at, x); break;
    case TD_BOOL: write(at, static_cast<uint8_t>(x != 0)); break;
    case TD_BF16: write(at, double_to_bf16(x)); break;
    case TD_F8E5M2: write(at, double_to_f8(x, f8e5m2)); break;
    case TD_F8E4M3: write(at, double_to_f8(x, f8e4m3)); break;
    default: break;
  }
}

template <class T>
void move_row(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t n) {
  if (from_step == 1 && to_step == 1) {
    std::memcpy(to, from, n * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(to + i * to_step * sizeof(T), from + i * from_step * sizeof(T), sizeof(T));
}

struct Wide {
  char bytes[16];
};

void copy_row(const char* from, int32_t from_dtype, int64_t from_step, char* to, int32_t to_dtype, int64_t to_step,
              int64_t n) {
  const int64_t from_bytes = recipe_dtype_bytes(from_dtype), to_bytes = recipe_dtype_bytes(to_dtype);
  if (from_dtype == to_dtype) {
    switch (from_bytes) {
      case 1: return move_row<uint8_t>(from, from_step, to, to_step, n);
      case 2: return move_row<uint16_t>(from, from_step, to, to_step, n);
      case 4: return move_row<uint32_t>(from, from_step, to, to_step, n);
      case 8: return move_row<uint64_t>(from, from_step, to, to_step, n);
      default: return move_row<Wide>(from, from_step, to, to_step, n);
    }
  }
  // The pair that folding meets most, without the switches.
  if (from_dtype == TD_F32 && to_dtype == TD_F64) {
    for (int64_t i = 0; i < n; ++i) write<double>(to + i * to_step * 8, read<float>(from + i * from_step * 4));
    return;
  }
  if (from_dtype == TD_F64 && to_dtype == TD_F32) {
    for (int64_t i = 0; i < n; ++i)
      write<float>(to + i * to_step * 4, static_cast<float>(read<double>(from + i * from_step * 8)));
    return;
  }
  if (from_dtype == TD_F32 && to_dtype == TD_BF16) {
    for (int64_t i = 0; i < n; ++i) write<uint16_t>(to + i * to_step * 2, float_to_bf16(from + i * from_step * 4));
    return;
  }
  for (int64_t i = 0; i < n; ++i)
    store_double(to + i * to_step * to_bytes, to_dtype, load_double(from + i * from_step * from_bytes, from_dtype));
}

}  // namespace

std::string_view recipe_dtype_name(int32_t dtype) {
  for (const Row& row : rows)
    if (row.dtype == dtype) return row.name;
  return {};
}
int32_t recipe_dtype_from_name(std::string_view name) {
  for (const Row& row : rows)
    if (row.name == name) return row.dtype;
  return -1;
}
int64_t recipe_dtype_bytes(int32_t dtype) {
  for (const Row& row : rows)
    if (row.dtype == dtype) return row.bytes;
  return 0;
}

void copy_converted(const std::vector<int64_t>& sizes, const char* from, int32_t from_dtype,
                    const std::vector<int64_t>& from_strides, char* to, int32_t to_dtype,
                    const std::vector<int64_t>& to_strides) {
  // Dims that lie together on both sides become one, so that a contiguous copy is one row.
  std::vector<int64_t> n, a, b;
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] == 0) return;
    if (sizes[d] == 1) continue;
    if (!n.empty() && a.back() == sizes[d] * from_strides[d] && b.back() == sizes[d] * to_strides[d]) {
      n.back() *= sizes[d], a.back() = from_strides[d], b.back() = to_strides[d];
    } else {
      n.push_back(sizes[d]), a.push_back(from_strides[d]), b.push_back(to_strides[d]);
    }
  }
  if (n.empty()) n = {1}, a = {1}, b = {1};
  const int64_t from_bytes = recipe_dtype_bytes(from_dtype), to_bytes = recipe_dtype_bytes(to_dtype);
  const size_t last = n.size() - 1;
  std::vector<int64_t> at(last);
  for (int64_t from_at = 0, to_at = 0;;) {
    copy_row(from + from_at * from_bytes, from_dtype, a[last], to + to_at * to_bytes, to_dtype, b[last], n[last]);
    size_t d = last;
    for (;;) {
      if (d == 0) return;
      --d;
      from_at += a[d], to_at += b[d];
      if (++at[d] < n[d]) break;
      from_at -= n[d] * a[d], to_at -= n[d] * b[d];
      at[d] = 0;
    }
  }
}

bool holds_exactly(int32_t narrow, int32_t wide) {
  if (narrow == wide) return true;
  if (narrow == TD_F8E5M2 && wide == TD_F16) return true;
  if (narrow == TD_F8E5M2 || narrow == TD_F8E4M3) return wide == TD_F32 || wide == TD_F64 || wide == TD_BF16;
  switch (wide) {
    case TD_F64:
      return narrow == TD_F32 || narrow == TD_F16 || narrow == TD_BF16 || narrow == TD_I32 || narrow == TD_I16 ||
             narrow == TD_I8 || narrow == TD_U8 || narrow == TD_BOOL;
    case TD_F32:
      return narrow == TD_F16 || narrow == TD_BF16 || narrow == TD_I16 || narrow == TD_I8 || narrow == TD_U8 ||
             narrow == TD_BOOL;
    case TD_I64: return narrow == TD_I32 || narrow == TD_I16 || narrow == TD_I8 || narrow == TD_U8 || narrow == TD_BOOL;
    case TD_I32: return narrow == TD_I16 || narrow == TD_I8 || narrow == TD_U8 || narrow == TD_BOOL;
    default: return false;
  }
}

}  // namespace toroid::runtime
