// view.dtype: the same bytes read as another type, of the same or another size.
#include <cmath>

#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

// A float that 8 or 16 bits store: how many bits its fraction has, and the bias of its exponent.
struct Small {
  int fraction, bias, bits;
  bool has_infinity;
};
Small small_float(DType dtype) {
  switch (dtype) {
    case DType::f16: return {10, 15, 16, true};
    case DType::f8e5m2: return {2, 15, 8, true};
    default: return {3, 7, 8, false};  // f8e4m3
  }
}
bool is_small(DType dtype) { return dtype == DType::f16 || dtype == DType::f8e5m2 || dtype == DType::f8e4m3; }

class Bits {
 public:
  explicit Bits(LoopBuilder& b) : b_(b) {}

  // The stored bits of a value of this dtype, as u64 where it has 8 bytes, else u32.
  ExprId of(ExprId x, DType dtype) {
    switch (dtype) {
      case DType::f64: return b_.pool().bitcast(x, DType::u64);
      case DType::f32: return b_.pool().bitcast(x, DType::u32);
      case DType::bf16: return shr(b_.pool().bitcast(x, DType::u32), 16);
      case DType::i64:
      case DType::u64: return b_.cvt(x, DType::u64);
      case DType::b8: return b_.cvt(x, DType::u32);
      default: break;
    }
    if (is_small(dtype)) return of_small(x, small_float(dtype));
    // Without its sign, so that no ones go before it.
    return band(b_.cvt(x, DType::u32), (int64_t{1} << (8 * dtype_bytes(dtype))) - 1);
  }

  // A value of this dtype from the low bits of a u64 or u32. A NaN keeps no more of its bits than a store of its dtype.
  ExprId to(ExprId bits, DType dtype) {
    switch (dtype) {
      case DType::f64: return b_.pool().bitcast(b_.cvt(bits, DType::u64), DType::f64);
      case DType::f32: return b_.pool().bitcast(b_.cvt(bits, DType::u32), DType::f32);
      case DType::bf16: return b_.pool().bitcast(shl(b_.cvt(bits, DType::u32), 16), DType::f32);
      case DType::b8: return b_.op(ScalarOp::ne, {band(bits, 255), word(0, b_.type(bits))});
      default: break;
    }
    if (is_small(dtype)) return to_small(b_.cvt(bits, DType::u32), small_float(dtype));
    return b_.cvt(bits, dtype);
  }

  ExprId shr(ExprId x, int64_t by) { return b_.op(ScalarOp::shr, {x, word(by, b_.type(x))}); }
  ExprId shl(ExprId x, int64_t by) { return b_.op(ScalarOp::shl, {x, word(by, b_.type(x))}); }

 private:
  ExprId word(int64_t value, DType type) { return b_.cvt(b_.index(value), type); }
  ExprId band(ExprId x, int64_t mask) { return b_.op(ScalarOp::band, {x, word(mask, b_.type(x))}); }
  ExprId u32(int64_t value) { return word(value, DType::u32); }
  ExprId compare(ScalarOp op, ExprId x, int64_t value) { return b_.op(op, {x, u32(value)}); }

  // x holds such a number exactly: its f32 exponent is moved, and what lies below the least normal one is counted.
  ExprId of_small(ExprId x, const Small& f) {
    const ExprId bits = b_.pool().bitcast(x, DType::u32), a = band(bits, 0x7fffffff);
    const int64_t least = int64_t{128 - f.bias} << 23, top = f.has_infinity ? 0x7f800000 : 0x7f800001;
    const int64_t ones = (int64_t{1} << (f.bits - 1)) - 1;
    const ExprId normal = shr(b_.sub(a, u32(least - 0x800000)), 23 - f.fraction);
    const ExprId size = b_.op(ScalarOp::abs, {x});
    const double unit = std::ldexp(1.0, f.bias - 1 + f.fraction);
    const ExprId below = b_.cvt(b_.mul(size, b_.number(unit, DType::f32)), DType::u32);
    // Infinity, and NaNs with what fits of their fraction.
    const ExprId fraction = band(shr(a, 23 - f.fraction), (int64_t{1} << f.fraction) - 1);
    const ExprId special =
        !f.has_infinity ? u32(ones)
        : f.bits == 8 ? b_.where(compare(ScalarOp::gt, a, 0x7f800000), u32(ones), u32(ones >> f.fraction << f.fraction))
                      : b_.op(ScalarOp::bor, {fraction, u32(ones >> f.fraction << f.fraction)});
    const ExprId value =
        b_.where(compare(ScalarOp::ge, a, top), special, b_.where(compare(ScalarOp::lt, a, least), below, normal));
    return b_.op(ScalarOp::bor, {value, shl(shr(bits, 31), f.bits - 1)});
  }

  ExprId to_small(ExprId bits, const Small& f) {
    const int64_t ones = (int64_t{1} << (f.bits - 1)) - 1, top = ones >> f.fraction << f.fraction;
    const ExprId a = band(bits, ones), moved = shl(a, 23 - f.fraction);
    const ExprId normal = b_.add(moved, u32(int64_t{127 - f.bias} << 23));
    const double unit = std::ldexp(1.0, 1 - f.bias - f.fraction);
    const ExprId small = b_.mul(b_.cvt(a, DType::f32), b_.number(unit, DType::f32));
    const ExprId below = b_.pool().bitcast(small, DType::u32);
    const ExprId special = f.has_infinity ? b_.op(ScalarOp::bor, {moved, u32(0x7f800000)}) : u32(0x7fc00000);
    const ExprId value = b_.where(compare(ScalarOp::ge, a, f.has_infinity ? top : ones), special,
                                  b_.where(compare(ScalarOp::lt, a, int64_t{1} << f.fraction), below, normal));
    const ExprId sign = shl(band(shr(bits, f.bits - 1), 1), 31);
    return b_.pool().bitcast(b_.op(ScalarOp::bor, {value, sign}), DType::f32);
  }

  LoopBuilder& b_;
};

LoopValue same_bytes(Compose& c, const LoopValue& x, DType to) {
  if (is_complex(x.dtype) || is_complex(to)) c.refuse("complex numbers seen as another type");
  LoopBuilder* p = &c.b;
  const DType from = x.dtype;
  if (from == to) return x;
  const int64_t old_bytes = dtype_bytes(from), bytes = dtype_bytes(to);
  if (old_bytes == bytes)
    return p->from(to, x.sizes, [=](const Index& i) { return Bits(*p).to(Bits(*p).of(x.at(i), from), to); });
  if (x.sizes.empty()) c.refuse("one number seen as a type of another size");
  SymList sizes = x.sizes;
  if (old_bytes > bytes) {
    // One element gives several, its low bytes first.
    const int64_t parts = old_bytes / bytes;
    sizes.back() = sizes.back() * Sym(parts);
    return p->from(to, sizes, [=](const Index& i) {
      Index whole = i;
      whole.back() = p->op(ScalarOp::floordiv, {i.back(), int_expr(*p, parts)});
      const ExprId bits = Bits(*p).of(x.at(whole), from);
      const ExprId part = p->op(ScalarOp::remainder, {i.back(), int_expr(*p, parts)});
      const ExprId by = p->cvt(p->mul(part, int_expr(*p, 8 * bytes)), p->type(bits));
      return Bits(*p).to(p->op(ScalarOp::shr, {bits, by}), to);
    });
  }
  const int64_t parts = bytes / old_bytes;
  sizes.back() = floor_div(sizes.back(), parts);
  return p->from(to, sizes, [=](const Index& i) {
    ExprId all;
    for (int64_t k = 0; k < parts; ++k) {
      Index part = i;
      part.back() = p->add(p->mul(i.back(), int_expr(*p, parts)), int_expr(*p, k));
      ExprId bits = p->cvt(Bits(*p).of(x.at(part), from), bytes == 8 ? DType::u64 : DType::u32);
      if (k) bits = Bits(*p).shl(bits, 8 * old_bytes * k);
      all = k ? p->op(ScalarOp::bor, {all, bits}) : bits;
    }
    return Bits(*p).to(all, to);
  });
}

}  // namespace

void add_bit_ops(OpTable& ops) {
  OpRow& row = compose(ops, "view.dtype",
                       [](Compose& c) -> Composed { return same_bytes(c, c.tensor("self"), *c.call.dtype("dtype")); });
  row.view();
  for (const char* sample : {"f32[4,6], i32", "i32[4,6], f32", "f16[3,8], i16", "bf16[3,8], i16", "f64[2,3], i64",
                             "f32[2,3], u8", "i64[2,3], i32", "f32[2,4], f64", "u8[3,8], f32", "i8[3,8], f16",
                             "bool[3,8], u8", "i8[3,4], u8", "f16[2,4], f32", "f32[2,4], f16", "i16[4], bf16"})
    row.sample(format("aten.view.dtype({})", std::string(sample)));
}

}  // namespace toroid
