// The routines compiled for the interpreter; see routines.h.
#include "loop/routines.h"

#include "loop/loops.h"

namespace toroid {
namespace routines {

using f32 = float;
using f64 = double;
using i8 = signed char;
using i16 = short;
using i32 = int;
using i64 = long long;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned;
using u64 = unsigned long long;
using b8 = unsigned char;
#include "loop/special.inc"
//
#include "loop/routines.inc"

}  // namespace routines

namespace {

template <template <class> class R>
RoutineFunction instance(DType dtype) {
  using namespace routines;
  switch (dtype) {
    case DType::f32: return R<f32>::run;
    case DType::f64: return R<f64>::run;
    case DType::i8: return R<i8>::run;
    case DType::i16: return R<i16>::run;
    case DType::i32: return R<i32>::run;
    case DType::i64: return R<i64>::run;
    case DType::u8: return R<u8>::run;
    case DType::u16: return R<u16>::run;
    case DType::u32: return R<u32>::run;
    case DType::u64: return R<u64>::run;
    case DType::b8: return R<b8>::run;
    default: return nullptr;
  }
}

struct Row {
  const char* name;
  RoutineFunction (*instance)(DType);
};
constexpr Row rows[] = {
#define ROUTINE(name) {#name, instance<routines::name>},
#include "loop/routines.def"
#undef ROUTINE
};

}  // namespace

int32_t routine_count() { return static_cast<int32_t>(std::size(rows)); }
const char* routine_name(int32_t number) { return rows[static_cast<size_t>(number)].name; }
std::optional<int32_t> routine_from_name(std::string_view name) {
  for (size_t i = 0; i < std::size(rows); ++i)
    if (name == rows[i].name) return static_cast<int32_t>(i);
  return std::nullopt;
}
RoutineFunction routine_function(int32_t number, DType dtype) {
  return rows[static_cast<size_t>(number)].instance(dtype);
}

}  // namespace toroid
