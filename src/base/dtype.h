// Element types, numbered as PyTorch's c10::ScalarType (and aoti_torch_dtype_*).
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace toroid {

enum class DType : int8_t {
  u8 = 0,
  i8 = 1,
  i16 = 2,
  i32 = 3,
  i64 = 4,
  f16 = 5,
  f32 = 6,
  f64 = 7,
  c32 = 8,
  c64 = 9,
  c128 = 10,
  b8 = 11,
  bf16 = 15,
  f8e5m2 = 23,
  f8e4m3 = 24,
  u16 = 27,
  u32 = 28,
  u64 = 29,
};

// "f32", "bf16", "i64", "bool": the names used in every stage text and message.
std::string_view dtype_name(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);
int64_t dtype_bytes(DType dtype);

constexpr bool is_complex(DType d) { return d == DType::c32 || d == DType::c64 || d == DType::c128; }
constexpr bool is_float(DType d) {
  return d == DType::f16 || d == DType::f32 || d == DType::f64 || d == DType::bf16 || d == DType::f8e5m2 ||
         d == DType::f8e4m3;
}
constexpr bool is_bool(DType d) { return d == DType::b8; }
constexpr bool is_integer(DType d) { return !is_float(d) && !is_complex(d) && !is_bool(d); }
constexpr bool is_unsigned(DType d) {
  return d == DType::u8 || d == DType::u16 || d == DType::u32 || d == DType::u64 || d == DType::b8;
}
// Floats of 16 bits or fewer: computed in f32, rounded where stored.
constexpr bool is_low_precision(DType d) { return is_float(d) && d != DType::f32 && d != DType::f64; }

}  // namespace toroid
