// Names and sizes of element types.
#include "base/dtype.h"

#include "base/check.h"

namespace toroid {
namespace {
struct Row {
  DType dtype;
  std::string_view name;
  int64_t bytes;
};
constexpr Row rows[] = {
    {DType::u8, "u8", 1},         {DType::i8, "i8", 1},         {DType::i16, "i16", 2},    {DType::i32, "i32", 4},
    {DType::i64, "i64", 8},       {DType::f16, "f16", 2},       {DType::f32, "f32", 4},    {DType::f64, "f64", 8},
    {DType::c32, "c32", 4},       {DType::c64, "c64", 8},       {DType::c128, "c128", 16}, {DType::b8, "bool", 1},
    {DType::bf16, "bf16", 2},     {DType::u16, "u16", 2},       {DType::u32, "u32", 4},    {DType::u64, "u64", 8},
    {DType::f8e5m2, "f8e5m2", 1}, {DType::f8e4m3, "f8e4m3", 1},
};
const Row& row_of(DType dtype) {
  for (const Row& row : rows)
    if (row.dtype == dtype) return row;
  internal_error(__FILE__, __LINE__, format("dtype {} has no row", static_cast<int>(dtype)));
}
}  // namespace

std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }
int64_t dtype_bytes(DType dtype) { return row_of(dtype).bytes; }
std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Row& row : rows)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

}  // namespace toroid
