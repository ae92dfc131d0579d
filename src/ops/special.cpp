// Special functions element by element, and functions of a float's bits.
#include <cmath>

#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Args = std::vector<ExprId>;

void add_unary(OpTable& ops) {
  struct Row {
    const char* name;
    ScalarOp op;
  };
  constexpr Row rows[] = {
      {"lgamma", ScalarOp::lgamma},
      {"special_gammaln", ScalarOp::lgamma},
      {"digamma", ScalarOp::digamma},
      {"special_digamma", ScalarOp::digamma},
      {"special_psi", ScalarOp::digamma},
      {"erfinv", ScalarOp::erfinv},
      {"special_erfinv", ScalarOp::erfinv},
      {"special_erfcx", ScalarOp::erfcx},
      {"special_ndtri", ScalarOp::ndtri},
      {"special_log_ndtr", ScalarOp::log_ndtr},
      {"i0", ScalarOp::i0},
      {"special_i0", ScalarOp::i0},
      {"special_i0e", ScalarOp::i0e},
      {"special_i1", ScalarOp::i1},
      {"special_i1e", ScalarOp::i1e},
      {"special_modified_bessel_i0", ScalarOp::i0},
      {"special_modified_bessel_i1", ScalarOp::i1},
      {"special_modified_bessel_k0", ScalarOp::bessel_k0},
      {"special_modified_bessel_k1", ScalarOp::bessel_k1},
      {"special_scaled_modified_bessel_k0", ScalarOp::bessel_k0e},
      {"special_scaled_modified_bessel_k1", ScalarOp::bessel_k1e},
      {"special_bessel_j0", ScalarOp::bessel_j0},
      {"special_bessel_j1", ScalarOp::bessel_j1},
      {"special_bessel_y0", ScalarOp::bessel_y0},
      {"special_bessel_y1", ScalarOp::bessel_y1},
      {"special_airy_ai", ScalarOp::airy_ai},
  };
  for (const Row& row : rows) {
    const std::string name = format("aten.{}.default", row.name);
    // These name their argument x.
    const bool scaled = row.op == ScalarOp::bessel_k0e || row.op == ScalarOp::bessel_k1e;
    const char* arg = row.op == ScalarOp::airy_ai || scaled ? "x" : "self";
    add_map(ops, name, {arg}, Out::floating, [op = row.op](const MapCall& m, const Args& x) {
      return m.b.op(op, {x[0]});
    }).sample(name + "(f32[4,5])");
  }
  add_map(ops, "aten.special_ndtr.default", {"self"}, Out::floating, [](const MapCall& m, const Args& x) {
    ExprId t = m.b.mul(x[0], m.number(-M_SQRT1_2));
    return m.b.mul(m.number(0.5), m.b.op(ScalarOp::erfc, {t}));
  }).sample("aten.special_ndtr.default(f32[4,5])");
  // -x log x; 0 at 0, -inf below.
  add_map(ops, "aten.special_entr.default", {"self"}, Out::floating, [](const MapCall& m, const Args& x) {
    LoopBuilder& b = m.b;
    ExprId value = b.op(ScalarOp::neg, {b.mul(x[0], b.op(ScalarOp::log, {x[0]}))});
    ExprId low = b.where(b.op(ScalarOp::eq, {x[0], m.number(0)}), m.number(0), m.number(-INFINITY));
    ExprId chosen = b.where(b.op(ScalarOp::gt, {x[0], m.number(0)}), value, low);
    return b.where(b.op(ScalarOp::isnan, {x[0]}), x[0], chosen);
  }).sample("aten.special_entr.default(f32[4,5])");
  // sin(pi x) / (pi x), 1 at 0.
  for (const char* name : {"aten.sinc.default", "aten.special_sinc.default"})
    add_map(ops, name, {"self"}, Out::floating, [](const MapCall& m, const Args& x) {
      ExprId t = m.b.mul(x[0], m.number(M_PI));
      return m.b.where(m.b.op(ScalarOp::eq, {x[0], m.number(0)}), m.number(1), m.b.div(m.b.op(ScalarOp::sin, {t}), t));
    }).sample(std::string(name) + "(f32[4,5])");
  add_map(ops, "aten.special_spherical_bessel_j0.default", {"x"}, Out::floating, [](const MapCall& m, const Args& x) {
    LoopBuilder& b = m.b;
    ExprId far = b.where(b.op(ScalarOp::isinf, {x[0]}), m.number(0), b.div(b.op(ScalarOp::sin, {x[0]}), x[0]));
    return b.where(b.op(ScalarOp::eq, {x[0], m.number(0)}), m.number(1), far);
  }).sample("aten.special_spherical_bessel_j0.default(f32[4,5])");
}

// The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x).
void add_gammas(OpTable& ops) {
  for (const char* name : {"aten.polygamma.default", "aten.special_polygamma.default"})
    add_map(ops, name, {"self"}, Out::floating,
            [](const MapCall& m, const Args& x) {
              const int64_t n = m.call.constant("n");
              if (n == 0) return m.b.op(ScalarOp::digamma, {x[0]});
              if (n == 1) return m.b.op(ScalarOp::trigamma, {x[0]});
              const double factor = (n % 2 ? 1 : -1) * std::tgamma(static_cast<double>(n) + 1);
              return m.b.mul(m.number(factor), m.b.op(ScalarOp::zeta, {m.number(static_cast<double>(n) + 1), x[0]}));
            })
        .sample(std::string(name) + "(1, f64[4,5])")
        .sample(std::string(name) + "(3, f32[4,5])");
  for (const char* name : {"aten.mvlgamma.default", "aten.special_multigammaln.default"}) {
    OpRow& row = add_map(ops, name, {"self"}, Out::floating, [](const MapCall& m, const Args& x) {
                   const int64_t p = m.call.constant("p");
                   ExprId sum = m.number(static_cast<double>(p * (p - 1)) / 4 * std::log(M_PI));
                   for (int64_t j = 0; j < p; ++j)
                     sum =
                         m.b.add(sum, m.b.op(ScalarOp::lgamma, {m.b.sub(x[0], m.number(static_cast<double>(j) / 2))}));
                   return sum;
                 }).sample(std::string(name) + "(f32[4,5], 2)");
    // Eager sums over a dim of its own, so a result that is not row-major is not promised.
    row.infer([](const Call& call) -> Types {
      TD_TRY(std::vector<TensorType> types, pointwise({"self"}, Out::floating)(call));
      types[0].strides.clear();
      return types;
    });
  }
  struct Row {
    const char* name;
    ScalarOp op;
  };
  for (Row row : {Row{"igamma.default", ScalarOp::igamma}, Row{"igammac.default", ScalarOp::igammac},
                  Row{"special_gammainc.default", ScalarOp::igamma},
                  Row{"special_gammaincc.default", ScalarOp::igammac}, Row{"special_zeta.default", ScalarOp::zeta},
                  Row{"special_zeta.other_scalar", ScalarOp::zeta}, Row{"special_zeta.self_scalar", ScalarOp::zeta}}) {
    const std::string name = format("aten.{}", row.name);
    const char* sample = name.ends_with("other_scalar")  ? "(f32[4,5], 2.0)"
                         : name.ends_with("self_scalar") ? "(2.0, f32[4,5])"
                                                         : "(f32[4,5], f32[5])";
    add_map(ops, name, {"self", "other"}, Out::floating, [op = row.op](const MapCall& m, const Args& x) {
      return m.b.op(op, {x[0], x[1]});
    }).sample(name + sample);
  }
}

void add_polynomials(OpTable& ops) {
  struct Row {
    const char* name;
    ScalarOp op;
  };
  constexpr Row rows[] = {
      {"chebyshev_polynomial_t", ScalarOp::chebyshev_t}, {"chebyshev_polynomial_u", ScalarOp::chebyshev_u},
      {"chebyshev_polynomial_v", ScalarOp::chebyshev_v}, {"chebyshev_polynomial_w", ScalarOp::chebyshev_w},
      {"hermite_polynomial_h", ScalarOp::hermite_h},     {"hermite_polynomial_he", ScalarOp::hermite_he},
      {"laguerre_polynomial_l", ScalarOp::laguerre},     {"legendre_polynomial_p", ScalarOp::legendre}};
  for (const Row& row : rows)
    for (bool shifted : {false, true}) {
      if (shifted && std::string(row.name).find("chebyshev") == std::string::npos) continue;
      for (const char* form : {"default", "x_scalar", "n_scalar"}) {
        const std::string name = format("aten.special_{}{}.{}", shifted ? "shifted_" : "", row.name, form);
        const char* sample = *form == 'd' ? "(f32[4,5], i64[5])" : *form == 'x' ? "(0.5, f32[4])" : "(f32[4,5], 3)";
        add_map(ops, name, {"x", "n"}, Out::floating, [op = row.op, shifted](const MapCall& m, const Args& x) {
          ExprId at = shifted ? m.b.sub(m.b.add(x[0], x[0]), m.number(1)) : x[0];
          return m.b.op(op, {at, x[1]});
        }).sample(name + sample);
      }
    }
}

void add_bits(OpTable& ops) {
  // The next value of the type's own grid towards `other`; bf16's is every 65536th of f32's, f16's every 8192nd but for
  // the steps of 2^-24 below 2^-14 and the end at 65504.
  add_map(
      ops, "aten.nextafter.default", {"self", "other"}, Out::promoted,
      [](const MapCall& m, const Args& x) -> Result<ExprId> {
        LoopBuilder& b = m.b;
        if (m.type == DType::f32 || m.type == DType::f64) return b.op(ScalarOp::nextafter, {x[0], x[1]});
        const bool half = m.type == DType::f16;
        if (m.type != DType::bf16 && !half)
          return fail(Kind::unsupported_op, "`{}` of {}", m.call.op(), dtype_name(m.type));
        auto i32 = [&](int64_t v) { return b.pool().integer(v, DType::i32); };
        ExprId bits = b.pool().bitcast(x[0], DType::i32);
        // Away from zero when `other` lies beyond x as seen from zero.
        ExprId away = b.op(ScalarOp::lxor, {b.op(ScalarOp::gt, {x[1], x[0]}), b.op(ScalarOp::lt, {x[0], m.number(0)})});
        const int64_t step = half ? 0x2000 : 0x10000;
        ExprId moved = b.pool().bitcast(b.add(bits, b.where(away, i32(step), i32(-step))), DType::f32);
        ExprId least = b.op(ScalarOp::copysign, {b.number(half ? 0x1p-24 : 0x1p-133, DType::f32), x[1]});
        if (half) {
          ExprId size = b.op(ScalarOp::abs, {x[0]}), normal = b.number(0x1p-14, DType::f32);
          ExprId low = b.where(away, b.op(ScalarOp::lt, {size, normal}), b.op(ScalarOp::le, {size, normal}));
          ExprId by = b.op(ScalarOp::copysign, {b.number(0x1p-24, DType::f32), b.sub(x[1], x[0])});
          ExprId most = b.number(65504, DType::f32), end = b.number(INFINITY, DType::f32);
          moved = b.where(b.op(ScalarOp::gt, {b.op(ScalarOp::abs, {moved}), most}),
                          b.where(b.op(ScalarOp::isinf, {x[0]}), most, end), moved);
          moved = b.op(ScalarOp::copysign, {b.where(low, b.add(x[0], by), moved), x[0]});
        }
        ExprId y = b.where(b.op(ScalarOp::eq, {x[0], m.number(0)}), least, moved);
        y = b.where(b.op(ScalarOp::eq, {x[0], x[1]}), x[1], y);
        ExprId nan = b.op(ScalarOp::lor, {b.op(ScalarOp::isnan, {x[0]}), b.op(ScalarOp::isnan, {x[1]})});
        return b.where(nan, b.add(x[0], x[1]), y);
      })
      .sample("aten.nextafter.default(f32[4,5], f32[5])")
      .sample("aten.nextafter.default(f16[4,5], f16[5])")
      .sample("aten.nextafter.default(bf16[4,5], bf16[5])");
  // x 2^n: by f64, whose exponents have room for what f32 would lose on the way.
  add_map(ops, "aten.ldexp.Tensor", {"self", "other"}, Out::floating, [](const MapCall& m, const Args& x) {
    LoopBuilder& b = m.b;
    const DType wide = is_complex(m.type) ? DType::c128 : DType::f64;
    ExprId power = b.op(ScalarOp::exp2, {b.cvt(x[1], wide)});
    return b.cvt(b.mul(b.cvt(x[0], wide), power), m.type);
  }).sample("aten.ldexp.Tensor(f32[4,5], i64[5])");
  // x = mantissa * 2^exponent, |mantissa| in [0.5, 1); 0, infinities and NaN keep themselves with exponent 0.
  lowered(ops, "frexp.Tensor",
          [](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
            LoopValue x = call.tensor("self");
            LoopBuilder* p = &b;
            const bool wide = x.dtype == DType::f64;
            const DType type = wide ? DType::f64 : DType::f32, whole = wide ? DType::i64 : DType::i32;
            // Bits of the fraction, the exponent of 1/2 and the greatest one.
            const int64_t fraction = wide ? 52 : 23, half = wide ? 1022 : 126, most = wide ? 2047 : 255;
            auto integer = [p, whole](int64_t v) { return p->pool().integer(v, whole); };
            // A denormal is scaled by 2^64 first.
            auto parts = [=](ExprId v) {
              ExprId least = p->number(std::ldexp(1.0, static_cast<int>(-half)), type);
              ExprId tiny = p->op(ScalarOp::lt, {p->op(ScalarOp::abs, {v}), least});
              ExprId scaled = p->where(tiny, p->mul(v, p->number(0x1p64, type)), v);
              ExprId bits = p->pool().bitcast(scaled, whole);
              ExprId exponent = p->op(ScalarOp::band, {p->op(ScalarOp::shr, {bits, integer(fraction)}), integer(most)});
              ExprId plain = p->op(ScalarOp::land, {p->op(ScalarOp::ne, {exponent, integer(0)}),
                                                    p->op(ScalarOp::ne, {exponent, integer(most)})});
              ExprId rest = p->op(ScalarOp::band, {bits, integer(~(most << fraction))});
              ExprId mantissa = p->pool().bitcast(p->op(ScalarOp::bor, {rest, integer(half << fraction)}), type);
              ExprId e = p->sub(exponent, p->where(tiny, integer(half + 64), integer(half)));
              return std::pair{p->where(plain, mantissa, v), p->where(plain, e, integer(0))};
            };
            return std::vector<LoopValue>{
                map1(b, x, type, x.dtype, [parts](ExprId v) { return parts(v).first; }),
                map1(b, x, type, DType::i32, [p, parts](ExprId v) { return p->cvt(parts(v).second, DType::i32); })};
          })
      .sample("aten.frexp.Tensor(f32[4,5])")
      .sample("aten.frexp.Tensor(f64[4,5])");
  add_map(ops, "aten.gcd.default", {"self", "other"}, Out::promoted, [](const MapCall& m, const Args& x) {
    return m.b.op(ScalarOp::gcd, {x[0], x[1]});
  }).sample("aten.gcd.default(i64[4,5], i64[5])");
  // |a / gcd(a, b) * b|, 0 where both are.
  add_map(ops, "aten.lcm.default", {"self", "other"}, Out::promoted, [](const MapCall& m, const Args& x) {
    LoopBuilder& b = m.b;
    ExprId g = b.op(ScalarOp::gcd, {x[0], x[1]}), none = b.op(ScalarOp::eq, {g, m.number(0)});
    ExprId product = b.mul(b.op(ScalarOp::truncdiv, {x[0], b.where(none, m.number(1), g)}), x[1]);
    return b.where(none, m.number(0), b.op(ScalarOp::abs, {product}));
  }).sample("aten.lcm.default(i64[4,5], i64[5])");
  // The exclusive or of all elements' bits, floats as f64.
  lowered(ops, "hash_tensor.default", [](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
    LoopValue x = call.tensor("self");
    if (call.constant("mode") != 0) return fail(Kind::unsupported_op, "`{}` of another mode", call.op());
    LoopBuilder* p = &b;
    const DType wide = is_float(x.dtype) ? DType::f64 : DType::i64;
    LoopValue bits = b.from(DType::i64, x.sizes,
                            [=](const Index& i) { return p->pool().bitcast(p->cvt(x.at(i), wide), DType::i64); });
    // Each bit's parity, joined again.
    const std::vector<int64_t> dims = call.dims("dim", x.rank());
    const bool keepdim = call.flag("keepdim");
    std::optional<LoopValue> all;
    if (x.rank() == 0) {
      all = bits;
    } else {
      for (int64_t bit = 0; bit < 64; ++bit) {
        LoopValue one = map1(b, bits, DType::i64, DType::i64, [p, bit](ExprId v) {
          return p->op(ScalarOp::band, {p->op(ScalarOp::shr, {v, int_expr(*p, bit)}), int_expr(*p, 1)});
        });
        LoopValue count = b.reduce(ReduceOp::sum, one, dims, keepdim, DType::i64, DType::i64, format(".bit{}", bit));
        LoopValue parity = map1(b, count, DType::i64, DType::i64, [p, bit](ExprId v) {
          return p->op(ScalarOp::shl, {p->op(ScalarOp::band, {v, int_expr(*p, 1)}), int_expr(*p, bit)});
        });
        all = !all ? parity
                   : b.materialize(b.map({*all, parity}, parity.sizes, DType::i64, DType::i64,
                                         [p](const Args& v) {
                                           return p->op(ScalarOp::bor, {v[0], v[1]});
                                         }),
                                   format(".part{}", bit));
      }
    }
    return std::vector<LoopValue>{
        map1(b, *all, DType::i64, DType::u64, [p](ExprId v) { return p->cvt(v, DType::u64); })};
  }).sample("aten.hash_tensor.default(bool[4])");
}

}  // namespace

void add_special_ops(OpTable& ops) {
  add_unary(ops);
  add_gammas(ops);
  add_polynomials(ops);
  add_bits(ops);
}

}  // namespace toroid
