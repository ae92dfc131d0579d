// How the pool builds leaves and ops: type rules, constant folding, index arithmetic as Sym, identities that hold for
// every value (NaN, infinities and signed zeros included).
#include <algorithm>

#include "base/check.h"
#include "loop/loops.h"
#include "loop/scalar.h"

namespace toroid {
namespace {

std::optional<Scalar> as_scalar(const ExprPool& pool, ExprId id) {
  if (is_integer(pool[id].dtype)) {
    if (auto value = pool.as_integer(id)) return Scalar{.i = *value};
    return std::nullopt;
  }
  const Expr& e = pool[id];
  if (e.kind != ExprKind::constant) return std::nullopt;
  return is_bool(e.dtype) ? Scalar{.i = e.number != 0} : Scalar{.f = e.number};
}

ExprId from_scalar(ExprPool& pool, Scalar value, DType dtype) {
  if (is_integer(dtype)) return pool.integer(value.i, dtype);
  return pool.constant(is_bool(dtype) ? static_cast<double>(value.i) : value.f, dtype);
}

// The type of op(args), having checked the arguments.
DType result_type(const ExprPool& pool, ScalarOp op, const std::vector<ExprId>& args) {
  auto type = [&](size_t i) { return pool[args[i]].dtype; };
  const char* name = scalar_op_name(op);
  TD_CHECK(static_cast<int>(args.size()) == scalar_op_args(op), "`{}` with {} arguments", name, args.size());
  const size_t first = scalar_op_type(op) == ScalarType::choose ? 1 : 0;
  for (size_t i = first + 1; i < args.size(); ++i)
    TD_CHECK(type(i) == type(first), "`{}` of {} and {}", name, dtype_name(type(first)), dtype_name(type(i)));
  const DType t = type(first);
  TD_CHECK(!is_complex(t) && register_type(t) == t, "`{}` of {}", name, dtype_name(t));
  switch (scalar_op_type(op)) {
    case ScalarType::same:
      TD_CHECK(!is_bool(t) || op == ScalarOp::min || op == ScalarOp::max, "`{}` of bool", name);
      return t;
    case ScalarType::floating: TD_CHECK(is_float(t), "`{}` of {}", name, dtype_name(t)); return t;
    case ScalarType::integer: TD_CHECK(is_integer(t), "`{}` of {}", name, dtype_name(t)); return t;
    case ScalarType::logical: TD_CHECK(is_bool(t), "`{}` of {}", name, dtype_name(t)); return t;
    case ScalarType::compare: return DType::b8;
    case ScalarType::choose: TD_CHECK(is_bool(type(0)), "`{}` on {}", name, dtype_name(type(0))); return t;
    case ScalarType::special:
      TD_CHECK(op == ScalarOp::check_index && t == DType::i64, "`{}` of {} through op", name, dtype_name(t));
      return t;
  }
  return t;
}

bool divides(ScalarOp op) {
  return op == ScalarOp::floordiv || op == ScalarOp::truncdiv || op == ScalarOp::fmod || op == ScalarOp::remainder;
}

// Every value of `from` is a value of `to`.
bool holds(DType to, DType from) {
  if (is_bool(from) || to == from) return true;
  if (is_float(from)) return from == DType::f32 && to == DType::f64;
  if (is_float(to)) return false;
  return is_integer(to) && dtype_bytes(from) < dtype_bytes(to) && (is_unsigned(from) || !is_unsigned(to));
}

}  // namespace

ExprId ExprPool::constant(double number, DType dtype) {
  const DType type = register_type(dtype);
  if (is_complex(type)) return pair(constant(number, part_type(type)), constant(0, part_type(type)));
  if (is_integer(type)) return integer(convert_scalar({.f = number}, DType::f64, type).i, type);
  TD_CHECK(!is_complex(type), "no register holds {}", dtype_name(type));
  Expr e{.kind = ExprKind::constant, .dtype = type};
  e.number = is_bool(type) ? static_cast<double>(number != 0) : round_float(number, type);
  return add(std::move(e));
}

ExprId ExprPool::integer(int64_t value, DType dtype) {
  TD_CHECK(is_integer(dtype), "an integer of type {}", dtype_name(dtype));
  const ExprId wide = index(wrap_integer(value, dtype));
  if (dtype == DType::i64) return wide;
  Expr e{.kind = ExprKind::op, .dtype = dtype};
  e.op = ScalarOp::cvt;
  e.args = {wide};
  return add(std::move(e));
}

ExprId ExprPool::index(const Sym& sym) {
  Expr e{.kind = ExprKind::index, .dtype = DType::i64};
  e.sym = sym;
  return add(std::move(e));
}

std::optional<Sym> ExprPool::as_index(ExprId id) const {
  const Expr& e = (*this)[id];
  return e.kind == ExprKind::index ? std::optional(e.sym) : std::nullopt;
}

std::optional<int64_t> ExprPool::as_integer(ExprId id) const {
  const Expr& e = (*this)[id];
  if (e.kind == ExprKind::index) return e.sym.constant();
  if (e.kind == ExprKind::op && e.op == ScalarOp::cvt && is_integer(e.dtype) &&
      (*this)[e.args[0]].kind == ExprKind::index)
    if (auto value = (*this)[e.args[0]].sym.constant()) return wrap_integer(*value, e.dtype);
  return std::nullopt;
}

std::optional<double> ExprPool::as_constant(ExprId id) const {
  const Expr& e = (*this)[id];
  if (e.kind == ExprKind::constant) return e.number;
  if (auto value = as_integer(id))
    return e.dtype == DType::u64 ? static_cast<double>(static_cast<uint64_t>(*value)) : static_cast<double>(*value);
  return std::nullopt;
}

// i64 arithmetic on index expressions. Sizes and positions do not overflow, so that exact arithmetic is wrapping
// arithmetic.
ExprId ExprPool::index_op(ScalarOp op, const std::vector<ExprId>& args) {
  std::vector<Sym> syms;
  for (ExprId arg : args) {
    auto sym = as_index(arg);
    if (!sym) return {};
    syms.push_back(*sym);
  }
  const Sym& a = syms[0];
  const Sym& b = syms.back();
  auto truth = [&](bool yes, bool no) { return yes || no ? constant(yes, DType::b8) : ExprId{}; };
  const SymRange divisor = range_of(b);
  const bool divisor_known = divisor.low > 0 || divisor.high < 0;
  const bool same_as_floor = divisor.low > 0 && proves_le(0, a);
  switch (op) {
    case ScalarOp::add: return index(a + b);
    case ScalarOp::sub: return index(a - b);
    case ScalarOp::mul: return index(a * b);
    case ScalarOp::neg: return index(-a);
    case ScalarOp::abs: return proves_le(0, a) ? args[0] : proves_le(a, 0) ? index(-a) : ExprId{};
    case ScalarOp::floordiv: return divisor_known ? index(floor_div(a, b)) : ExprId{};
    case ScalarOp::remainder: return divisor_known ? index(mod(a, b)) : ExprId{};
    case ScalarOp::truncdiv: return same_as_floor ? index(floor_div(a, b)) : ExprId{};
    case ScalarOp::fmod: return same_as_floor ? index(mod(a, b)) : ExprId{};
    case ScalarOp::min:
    case ScalarOp::fmin: return index(sym_min(a, b));
    case ScalarOp::max:
    case ScalarOp::fmax: return index(sym_max(a, b));
    case ScalarOp::eq: return truth(proves_eq(a, b), proves_ne(a, b));
    case ScalarOp::ne: return truth(proves_ne(a, b), proves_eq(a, b));
    case ScalarOp::lt: return truth(proves_lt(a, b), proves_le(b, a));
    case ScalarOp::le: return truth(proves_le(a, b), proves_lt(b, a));
    case ScalarOp::gt: return truth(proves_lt(b, a), proves_le(a, b));
    case ScalarOp::ge: return truth(proves_le(b, a), proves_lt(a, b));
    case ScalarOp::check_index: return proves_le(0, a) && proves_lt(a, b) ? args[0] : ExprId{};
    case ScalarOp::check_divisor: return divisor_known ? args[0] : ExprId{};
    default: return {};
  }
}

ExprId ExprPool::simplified(ScalarOp op, const std::vector<ExprId>& args) {
  const ExprId a = args[0], b = args.back();
  const DType type = (*this)[b].dtype;
  const bool whole = is_integer(type);
  auto is_op = [&](ExprId id, ScalarOp wanted) { return (*this)[id].kind == ExprKind::op && (*this)[id].op == wanted; };
  auto is = [&](ExprId id, double value) {
    auto number = as_constant(id);
    return number && *number == value;
  };
  auto is_negative_zero = [&](ExprId id) { return !whole && is(id, 0) && std::signbit(*as_constant(id)); };
  auto is_positive_zero = [&](ExprId id) { return is(id, 0) && !is_negative_zero(id); };
  switch (op) {
    case ScalarOp::add:
      if (whole ? is(b, 0) : is_negative_zero(b)) return a;
      if (whole ? is(a, 0) : is_negative_zero(a)) return b;
      return {};
    case ScalarOp::sub:
      if (is_positive_zero(b)) return a;
      return whole && a == b ? integer(0, type) : ExprId{};
    case ScalarOp::mul:
      if (is(b, 1)) return a;
      if (is(a, 1)) return b;
      return whole && (is(a, 0) || is(b, 0)) ? integer(0, type) : ExprId{};
    case ScalarOp::div: return is(b, 1) ? a : ExprId{};
    case ScalarOp::floordiv:
    case ScalarOp::truncdiv: return whole && is(b, 1) ? a : ExprId{};
    case ScalarOp::check_divisor: {
      if (is_op(a, ScalarOp::check_divisor)) return a;
      // max(x, 1) is not 0.
      auto positive = [&](ExprId id) {
        auto number = as_constant(id);
        return number && *number > 0;
      };
      return is_op(a, ScalarOp::max) && (positive((*this)[a].args[0]) || positive((*this)[a].args[1])) ? a : ExprId{};
    }
    case ScalarOp::neg: return is_op(a, ScalarOp::neg) ? (*this)[a].args[0] : ExprId{};
    case ScalarOp::abs: return is_op(a, ScalarOp::abs) || is_unsigned(type) ? a : ExprId{};
    case ScalarOp::min:
    case ScalarOp::max:
    case ScalarOp::fmin:
    case ScalarOp::fmax:
    case ScalarOp::band:
    case ScalarOp::bor: return a == b ? a : ExprId{};
    case ScalarOp::land:
      if (is(a, 0) || is(b, 0)) return constant(0, DType::b8);
      if (is(a, 1)) return b;
      return is(b, 1) || a == b ? a : ExprId{};
    case ScalarOp::lor:
      if (is(a, 1) || is(b, 1)) return constant(1, DType::b8);
      if (is(a, 0)) return b;
      return is(b, 0) || a == b ? a : ExprId{};
    case ScalarOp::lnot: return is_op(a, ScalarOp::lnot) ? (*this)[a].args[0] : ExprId{};
    case ScalarOp::eq:
    case ScalarOp::le:
    case ScalarOp::ge: return !is_float(type) && a == b ? constant(1, DType::b8) : ExprId{};
    case ScalarOp::ne:
    case ScalarOp::lt:
    case ScalarOp::gt: return !is_float(type) && a == b ? constant(0, DType::b8) : ExprId{};
    case ScalarOp::isnan:
    case ScalarOp::isinf: return is_float(type) ? ExprId{} : constant(0, DType::b8);
    case ScalarOp::where:
      if (auto chosen = as_constant(a)) return *chosen != 0 ? args[1] : args[2];
      if (args[1] == args[2]) return args[1];
      return is_op(a, ScalarOp::lnot) ? this->op(ScalarOp::where, {(*this)[a].args[0], args[2], args[1]}) : ExprId{};
    default: return {};
  }
}

ExprId ExprPool::op(ScalarOp op, std::vector<ExprId> args) {
  for (size_t i = op == ScalarOp::where ? 1 : 0; i < args.size(); ++i)
    if (is_complex((*this)[args[i]].dtype)) return op == ScalarOp::complex ? args[i] : complex_op(op, args);
  const DType type = result_type(*this, op, args);
  const DType arg_type = (*this)[args.back()].dtype;
  // Truths have an order only here: in a kernel's vector a truth is a mask of ones, which is less than 0.
  if (is_bool(arg_type) && args.size() == 2) {
    auto negated = [&](size_t i) { return this->op(ScalarOp::lnot, {args[i]}); };
    switch (op) {
      case ScalarOp::lt: return this->op(ScalarOp::land, {negated(0), args[1]});
      case ScalarOp::le: return this->op(ScalarOp::lor, {negated(0), args[1]});
      case ScalarOp::gt: return this->op(ScalarOp::land, {args[0], negated(1)});
      case ScalarOp::ge: return this->op(ScalarOp::lor, {args[0], negated(1)});
      case ScalarOp::min: return this->op(ScalarOp::land, {args[0], args[1]});
      case ScalarOp::max: return this->op(ScalarOp::lor, {args[0], args[1]});
      default: break;
    }
  }
  std::vector<Scalar> values;
  for (ExprId arg : args)
    if (auto value = as_scalar(*this, arg)) values.push_back(*value);
  if (values.size() == args.size() && op != ScalarOp::check_index &&
      !(op == ScalarOp::check_divisor && values[0].i == 0) &&
      !(divides(op) && is_integer(arg_type) && values[1].i == 0))
    return from_scalar(*this, eval_scalar(op, arg_type, values.data()), type);
  if (ExprId folded = index_op(op, args)) return folded;
  if (ExprId simple = simplified(op, args)) return simple;
  Expr e{.kind = ExprKind::op, .dtype = type};
  e.op = op;
  e.args = std::move(args);
  return add(std::move(e));
}

ExprId ExprPool::cvt(ExprId x, DType to) {
  const DType from = (*this)[x].dtype;
  TD_CHECK(register_type(to) == to, "no register holds {}", dtype_name(to));
  if (from == to) return x;
  if (is_complex(from) || is_complex(to)) return complex_cvt(x, to);
  if (auto value = as_scalar(*this, x)) return from_scalar(*this, convert_scalar(*value, from, to), to);
  // Through a type that holds every value, and back out of it.
  if (const Expr& e = (*this)[x];
      e.kind == ExprKind::op && e.op == ScalarOp::cvt && holds(from, (*this)[e.args[0]].dtype))
    return cvt(e.args[0], to);
  Expr e{.kind = ExprKind::op, .dtype = to};
  e.op = ScalarOp::cvt;
  e.args = {x};
  return add(std::move(e));
}

ExprId ExprPool::bitcast(ExprId x, DType to) {
  const DType from = (*this)[x].dtype;
  TD_CHECK(register_type(to) == to && dtype_bytes(from) == dtype_bytes(to) && dtype_bytes(to) >= 4, "bits of {} as {}",
           dtype_name(from), dtype_name(to));
  if (from == to) return x;
  if (auto value = as_scalar(*this, x)) return from_scalar(*this, bitcast_scalar(*value, from, to), to);
  if (const Expr& e = (*this)[x]; e.kind == ExprKind::op && e.op == ScalarOp::bitcast) return bitcast(e.args[0], to);
  Expr e{.kind = ExprKind::op, .dtype = to};
  e.op = ScalarOp::bitcast;
  e.args = {x};
  return add(std::move(e));
}

ExprId ExprPool::round_to(ExprId x, DType storage) {
  if (is_complex((*this)[x].dtype))
    return pair(round_to(real(x), part_type(storage)), round_to(imag(x), part_type(storage)));
  TD_CHECK(is_float(storage) && (*this)[x].dtype == register_type(storage), "round_to({}) of {}", dtype_name(storage),
           dtype_name((*this)[x].dtype));
  if (!is_low_precision(storage)) return x;
  const Expr& inner = (*this)[x];
  if (inner.kind == ExprKind::constant) return constant(round_float(inner.number, storage), DType::f32);
  if (inner.kind == ExprKind::op && inner.op == ScalarOp::round_to && inner.rounding == storage) return x;
  Expr e{.kind = ExprKind::op, .dtype = DType::f32};
  e.op = ScalarOp::round_to;
  e.rounding = storage;
  e.args = {x};
  return add(std::move(e));
}

}  // namespace toroid
