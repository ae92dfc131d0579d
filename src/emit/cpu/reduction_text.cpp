// The texts of reduction_text.h.
#include "emit/cpu/reduction_text.h"

#include "base/check.h"
#include "emit/cpu/expr.h"

namespace toroid::emit {
namespace {

std::string limit(DType dtype, bool highest) {
  switch (dtype) {
    case DType::f32: return highest ? "__builtin_inff()" : "(-__builtin_inff())";
    case DType::f64: return highest ? "__builtin_inf()" : "(-__builtin_inf())";
    case DType::i8: return highest ? "(i8)127" : "(i8)-128";
    case DType::i16: return highest ? "(i16)32767" : "(i16)-32768";
    case DType::i32: return highest ? "(i32)0x7fffffff" : "(i32)(-0x7fffffff - 1)";
    case DType::i64: return highest ? "(i64)0x7fffffffffffffffLL" : "(i64)(-0x7fffffffffffffffLL - 1)";
    case DType::u8: return highest ? "(u8)255" : "(u8)0";
    case DType::u16: return highest ? "(u16)65535" : "(u16)0";
    case DType::u32: return highest ? "(u32)0xffffffffu" : "(u32)0";
    case DType::u64: return highest ? "(u64)0xffffffffffffffffull" : "(u64)0";
    case DType::b8: return highest ? "true" : "false";
    default: break;
  }
  internal_error(__FILE__, __LINE__, "no limit for this dtype");
}

}  // namespace

std::string identity_text(ReduceOp op, DType dtype) {
  switch (op) {
    case ReduceOp::sum: return format("({})0", is_bool(dtype) ? "bool" : c_type(dtype));
    case ReduceOp::prod: return format("({})1", c_type(dtype));
    case ReduceOp::any: return "false";
    case ReduceOp::all: return "true";
    case ReduceOp::min: return limit(dtype, true);
    case ReduceOp::max: return limit(dtype, false);
    case ReduceOp::argmin:
    case ReduceOp::argmax: break;
  }
  return "0";
}

std::string combine_text(ReduceOp op, const std::string& a, const std::string& b) {
  switch (op) {
    case ReduceOp::sum: return format("{} + {}", a, b);
    case ReduceOp::prod: return format("{} * {}", a, b);
    case ReduceOp::min: return format("min({}, {})", a, b);
    case ReduceOp::max: return format("max({}, {})", a, b);
    case ReduceOp::any: return format("lor({}, {})", a, b);
    case ReduceOp::all: return format("land({}, {})", a, b);
    default: break;
  }
  internal_error(__FILE__, __LINE__, "a reduction without a combination");
}

std::string across_text(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum: return "hsum";
    case ReduceOp::prod: return "hprod";
    case ReduceOp::min: return "hmin";
    case ReduceOp::max: return "hmax";
    case ReduceOp::any: return "hany";
    case ReduceOp::all: return "hall";
    default: break;
  }
  internal_error(__FILE__, __LINE__, "a reduction without a tree");
}

}  // namespace toroid::emit
