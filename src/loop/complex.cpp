// Complex numbers while bodies are built: each is a pair of expressions, every op on it an expression on its parts.
#include <cmath>

#include "base/check.h"
#include "loop/loops.h"

namespace toroid {

DType part_type(DType dtype) {
  switch (dtype) {
    case DType::c32: return DType::f16;
    case DType::c64: return DType::f32;
    case DType::c128: return DType::f64;
    default: return dtype;
  }
}
DType complex_of_parts(DType part) {
  return part == DType::f64 ? DType::c128 : part == DType::f16 ? DType::c32 : DType::c64;
}

void refuse(std::string text) { throw Refused{{Kind::unsupported_op, std::move(text), {}}}; }

SymList pair_sizes(SymList sizes) {
  sizes.push_back(2);
  return sizes;
}
SymList pair_strides(const SymList& strides) {
  SymList out;
  for (const Sym& stride : strides) out.push_back(stride * 2);
  out.push_back(1);
  return out;
}
TensorType outer_type(const LoopTensor& tensor) {
  TensorType type{tensor.dtype, tensor.sizes, outer_strides(tensor, tensor.strides), tensor.device};
  if (!tensor.pairs) return type;
  type.dtype = complex_of_parts(tensor.dtype);
  type.sizes.pop_back();
  return type;
}
SymList outer_strides(const LoopTensor& tensor, const SymList& strides) {
  if (!tensor.pairs || strides.empty()) return strides;
  SymList out;
  for (size_t d = 0; d + 1 < strides.size(); ++d) out.push_back(floor_div(strides[d], 2));
  return out;
}

ExprId ExprPool::pair(ExprId re, ExprId im) {
  const DType part = (*this)[re].dtype;
  TD_CHECK(part == (*this)[im].dtype && (part == DType::f32 || part == DType::f64), "a complex number of {} and {}",
           dtype_name(part), dtype_name((*this)[im].dtype));
  Expr e{.kind = ExprKind::op, .dtype = complex_of_parts(part)};
  e.op = ScalarOp::complex;
  e.args = {re, im};
  return add(std::move(e));
}
ExprId ExprPool::real(ExprId x) { return is_complex((*this)[x].dtype) ? (*this)[x].args[0] : x; }
ExprId ExprPool::imag(ExprId x) {
  const Expr& e = (*this)[x];
  return is_complex(e.dtype) ? e.args[1] : constant(0, e.dtype);
}

ExprId ExprPool::complex_cvt(ExprId x, DType to) {
  const DType from = (*this)[x].dtype;
  if (is_complex(to)) {
    const DType part = register_type(part_type(to));
    return pair(cvt(real(x), part), is_complex(from) ? cvt(imag(x), part) : constant(0, part));
  }
  if (is_bool(to)) return op(ScalarOp::lor, {cvt(real(x), to), cvt(imag(x), to)});
  return cvt(real(x), to);
}

ExprId ExprPool::complex_op(ScalarOp op, const std::vector<ExprId>& args) {
  const size_t first = op == ScalarOp::where ? 1 : 0;
  std::vector<ExprId> re, im;
  for (size_t i = first; i < args.size(); ++i) re.push_back(real(args[i])), im.push_back(imag(args[i]));
  const DType part = (*this)[re[0]].dtype;
  auto num = [&](double v) { return constant(v, part); };
  auto on = [&](ScalarOp o, ExprId x, ExprId y) { return this->op(o, {x, y}); };
  auto of = [&](ScalarOp o, ExprId x) { return this->op(o, {x}); };
  auto add = [&](ExprId x, ExprId y) { return on(ScalarOp::add, x, y); };
  auto sub = [&](ExprId x, ExprId y) { return on(ScalarOp::sub, x, y); };
  auto mul = [&](ExprId x, ExprId y) { return on(ScalarOp::mul, x, y); };
  auto div = [&](ExprId x, ExprId y) { return on(ScalarOp::div, x, y); };
  auto neg = [&](ExprId x) { return of(ScalarOp::neg, x); };
  auto pick = [&](ExprId c, ExprId x, ExprId y) { return this->op(ScalarOp::where, {c, x, y}); };
  // |x + iy| without overflow: the greater part times sqrt(1 + (less / greater)^2).
  auto size = [&](ExprId x, ExprId y) {
    ExprId a = of(ScalarOp::abs, x), b = of(ScalarOp::abs, y);
    ExprId big = on(ScalarOp::max, a, b), low = on(ScalarOp::min, a, b);
    ExprId ratio = div(low, big), plain = mul(big, of(ScalarOp::sqrt, add(num(1), mul(ratio, ratio))));
    ExprId infinite = on(ScalarOp::lor, of(ScalarOp::isinf, a), of(ScalarOp::isinf, b));
    return pick(infinite, num(INFINITY), pick(on(ScalarOp::eq, big, num(0)), num(0), plain));
  };
  auto product = [&](ExprId z, ExprId w) {
    return pair(sub(mul(real(z), real(w)), mul(imag(z), imag(w))), add(mul(real(z), imag(w)), mul(imag(z), real(w))));
  };
  // Scaled by the divisor's greater part.
  auto quotient = [&](ExprId z, ExprId w) {
    ExprId scale = on(ScalarOp::max, of(ScalarOp::abs, real(w)), of(ScalarOp::abs, imag(w)));
    ExprId c = div(real(w), scale), d = div(imag(w), scale), n = add(mul(c, c), mul(d, d));
    ExprId a = div(real(z), scale), b = div(imag(z), scale);
    return pair(div(add(mul(a, c), mul(b, d)), n), div(sub(mul(b, c), mul(a, d)), n));
  };
  auto exp = [&](ExprId z) {
    ExprId scale = of(ScalarOp::exp, real(z));
    ExprId sine = pick(on(ScalarOp::eq, imag(z), num(0)), imag(z), mul(scale, of(ScalarOp::sin, imag(z))));
    return pair(mul(scale, of(ScalarOp::cos, imag(z))), sine);
  };
  auto log = [&](ExprId z) {
    return pair(of(ScalarOp::log, size(real(z), imag(z))), on(ScalarOp::atan2, imag(z), real(z)));
  };
  auto root = [&](ExprId z) {
    ExprId a = of(ScalarOp::sqrt, mul(num(0.5), add(size(real(z), imag(z)), of(ScalarOp::abs, real(z)))));
    ExprId b = div(of(ScalarOp::abs, imag(z)), mul(num(2), a));
    ExprId zero = on(ScalarOp::eq, a, num(0)), right = on(ScalarOp::ge, real(z), num(0));
    b = pick(zero, num(0), b);
    return pair(pick(right, a, b), on(ScalarOp::copysign, pick(right, b, a), imag(z)));
  };
  auto times_i = [&](ExprId z) { return pair(neg(imag(z)), real(z)); };
  auto over_i = [&](ExprId z) { return pair(imag(z), neg(real(z))); };
  auto plus = [&](ExprId z, ExprId w) { return pair(add(real(z), real(w)), add(imag(z), imag(w))); };
  auto minus = [&](ExprId z, ExprId w) { return pair(sub(real(z), real(w)), sub(imag(z), imag(w))); };
  auto scaled = [&](ExprId z, double by) { return pair(mul(real(z), num(by)), mul(imag(z), num(by))); };
  const ExprId one = pair(num(1), num(0));
  // exp(x + iy) - 1, its real part expm1(x) cos y - 2 sin(y/2)^2.
  auto expm1 = [&](ExprId z) {
    ExprId half = of(ScalarOp::sin, mul(num(0.5), imag(z)));
    ExprId re = sub(mul(of(ScalarOp::expm1, real(z)), of(ScalarOp::cos, imag(z))), mul(num(2), mul(half, half)));
    return pair(re, imag(exp(z)));
  };
  // Near 0, |1 + z|^2 - 1 = x (2 + x) + y^2.
  auto log1p = [&](ExprId z) {
    ExprId near = on(ScalarOp::lt, size(real(z), imag(z)), num(0.5)), x = real(z), far = log(plus(one, z));
    ExprId square = add(mul(x, add(num(2), x)), mul(imag(z), imag(z)));
    return pair(pick(near, mul(num(0.5), of(ScalarOp::log1p, square)), real(far)), imag(far));
  };
  auto sinh = [&](ExprId z) {
    return pair(mul(of(ScalarOp::sinh, real(z)), of(ScalarOp::cos, imag(z))),
                mul(of(ScalarOp::cosh, real(z)), of(ScalarOp::sin, imag(z))));
  };
  auto cosh = [&](ExprId z) {
    return pair(mul(of(ScalarOp::cosh, real(z)), of(ScalarOp::cos, imag(z))),
                mul(of(ScalarOp::sinh, real(z)), of(ScalarOp::sin, imag(z))));
  };
  // (sinh 2x + i sin 2y) / (cosh 2x + cos 2y); far out the sign of x.
  auto tanh = [&](ExprId z) {
    ExprId t = of(ScalarOp::tanh, real(z)), c = of(ScalarOp::cosh, real(z));
    ExprId y = of(ScalarOp::tan, imag(z)), far = on(ScalarOp::gt, of(ScalarOp::abs, real(z)), num(20));
    ExprId tt = mul(t, t), yy = mul(y, y), n = add(num(1), mul(tt, yy));
    ExprId re = div(mul(t, add(num(1), yy)), n), im = div(mul(y, div(num(1), mul(c, c))), n);
    return pair(pick(far, on(ScalarOp::copysign, num(1), real(z)), re), pick(far, num(0), im));
  };
  // log(z + sqrt(z^2 + 1)) for the half plane that does not cancel.
  auto asinh = [&](ExprId z) {
    ExprId left = on(ScalarOp::lor, on(ScalarOp::lt, real(z), num(0)),
                     on(ScalarOp::land, on(ScalarOp::eq, real(z), num(0)), of(ScalarOp::signbit, real(z))));
    ExprId w = pair(pick(left, neg(real(z)), real(z)), pick(left, neg(imag(z)), imag(z)));
    ExprId y = log(plus(w, root(plus(product(w, w), one))));
    return pair(pick(left, neg(real(y)), real(y)), pick(left, neg(imag(y)), imag(y)));
  };
  auto atanh = [&](ExprId z) { return scaled(minus(log(plus(one, z)), log(minus(one, z))), 0.5); };
  const ExprId z = pair(re[0], im[0]), w = re.size() > 1 ? pair(re[1], im[1]) : z;
  switch (op) {
    case ScalarOp::add: return plus(z, w);
    case ScalarOp::sub: return minus(z, w);
    case ScalarOp::mul: return product(z, w);
    case ScalarOp::div: return quotient(z, w);
    case ScalarOp::neg: return pair(neg(re[0]), neg(im[0]));
    case ScalarOp::where: return pair(pick(args[0], re[0], re[1]), pick(args[0], im[0], im[1]));
    case ScalarOp::eq: return on(ScalarOp::land, on(ScalarOp::eq, re[0], re[1]), on(ScalarOp::eq, im[0], im[1]));
    case ScalarOp::ne: return on(ScalarOp::lor, on(ScalarOp::ne, re[0], re[1]), on(ScalarOp::ne, im[0], im[1]));
    case ScalarOp::isnan: return on(ScalarOp::lor, of(ScalarOp::isnan, re[0]), of(ScalarOp::isnan, im[0]));
    case ScalarOp::isinf: return on(ScalarOp::lor, of(ScalarOp::isinf, re[0]), of(ScalarOp::isinf, im[0]));
    case ScalarOp::abs: return size(re[0], im[0]);
    case ScalarOp::exp: return exp(z);
    case ScalarOp::exp2: return exp(scaled(z, M_LN2));
    case ScalarOp::expm1: return expm1(z);
    case ScalarOp::log: return log(z);
    case ScalarOp::log2: return scaled(log(z), 1 / M_LN2);
    case ScalarOp::log10: return scaled(log(z), 1 / M_LN10);
    case ScalarOp::log1p: return log1p(z);
    case ScalarOp::sqrt: return root(z);
    case ScalarOp::rsqrt: return quotient(one, root(z));
    case ScalarOp::sinh: return sinh(z);
    case ScalarOp::cosh: return cosh(z);
    case ScalarOp::tanh: return tanh(z);
    case ScalarOp::sin: return over_i(sinh(times_i(z)));
    case ScalarOp::cos: return cosh(times_i(z));
    case ScalarOp::tan: return over_i(tanh(times_i(z)));
    case ScalarOp::asinh: return asinh(z);
    case ScalarOp::asin: return over_i(asinh(times_i(z)));
    case ScalarOp::acos: {
      ExprId y = over_i(asinh(times_i(z)));
      return pair(sub(num(M_PI_2), real(y)), neg(imag(y)));
    }
    case ScalarOp::acosh: {
      ExprId y = log(plus(z, product(root(plus(z, one)), root(minus(z, one)))));
      return y;
    }
    case ScalarOp::atanh: return atanh(z);
    case ScalarOp::atan: return over_i(atanh(times_i(z)));
    case ScalarOp::sigmoid: return quotient(one, plus(one, exp(pair(neg(re[0]), neg(im[0])))));
    case ScalarOp::pow: {
      // 0 to a power with a positive real part is 0, to the power 0 it is 1.
      ExprId y = exp(product(w, log(z)));
      ExprId zero = on(ScalarOp::land, on(ScalarOp::eq, re[0], num(0)), on(ScalarOp::eq, im[0], num(0)));
      ExprId none = on(ScalarOp::land, on(ScalarOp::eq, re[1], num(0)), on(ScalarOp::eq, im[1], num(0)));
      ExprId of_zero = pick(on(ScalarOp::gt, re[1], num(0)), num(0), num(NAN));
      ExprId x = pick(none, num(1), pick(zero, of_zero, real(y)));
      return pair(x, pick(none, num(0), pick(zero, of_zero, imag(y))));
    }
    case ScalarOp::fma: return plus(product(z, w), pair(re[2], im[2]));
    default: refuse(format("`{}` of complex numbers", scalar_op_name(op)));
  }
}

}  // namespace toroid
