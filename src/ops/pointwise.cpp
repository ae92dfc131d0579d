// Arithmetic element by element: unary math, add to pow, min and max, rounding. Comparisons and logic are in
// compare.cpp.
#include <cmath>

#include "ops/rules.h"

namespace toroid {

namespace {

using Args = std::vector<ExprId>;

// The greater real part goes in front, as with real numbers. Where both are -inf the first stays; where both are +inf,
// the logarithm of the plain sum.
ExprId complex_logaddexp(LoopBuilder& b, ExprId x, ExprId y) {
  const ExprId re_x = b.pool().real(x), re_y = b.pool().real(y), zero = number_expr(b, 0, b.type(re_x));
  ExprId first = b.op(ScalarOp::ge, {re_x, re_y}), high = b.where(first, x, y), low = b.where(first, y, x);
  ExprId plain = b.op(ScalarOp::log, {b.add(b.op(ScalarOp::exp, {x}), b.op(ScalarOp::exp, {y}))});
  ExprId same = b.op(ScalarOp::land, {b.op(ScalarOp::isinf, {re_x}), b.op(ScalarOp::eq, {re_x, re_y})});
  ExprId ends = b.where(b.op(ScalarOp::lt, {re_x, zero}), low, plain);
  ExprId sum = b.where(same, ends, b.add(high, b.op(ScalarOp::log1p, {b.op(ScalarOp::exp, {b.sub(low, high)})})));
  ExprId nan = b.op(ScalarOp::lor, {b.op(ScalarOp::isnan, {x}), b.op(ScalarOp::isnan, {y})});
  return b.where(nan, b.pool().pair(number_expr(b, NAN, b.type(re_x)), number_expr(b, NAN, b.type(re_x))), sum);
}

// Unary math whose integers become f32.
void add_unary_math(OpTable& ops) {
  struct Row {
    const char* name;
    ScalarOp op;
  };
  constexpr Row rows[] = {
      {"sqrt", ScalarOp::sqrt},
      {"rsqrt", ScalarOp::rsqrt},
      {"exp", ScalarOp::exp},
      {"exp2", ScalarOp::exp2},
      {"expm1", ScalarOp::expm1},
      {"log", ScalarOp::log},
      {"log2", ScalarOp::log2},
      {"log10", ScalarOp::log10},
      {"log1p", ScalarOp::log1p},
      {"sin", ScalarOp::sin},
      {"cos", ScalarOp::cos},
      {"tan", ScalarOp::tan},
      {"asin", ScalarOp::asin},
      {"acos", ScalarOp::acos},
      {"atan", ScalarOp::atan},
      {"sinh", ScalarOp::sinh},
      {"cosh", ScalarOp::cosh},
      {"tanh", ScalarOp::tanh},
      {"asinh", ScalarOp::asinh},
      {"acosh", ScalarOp::acosh},
      {"atanh", ScalarOp::atanh},
      {"sigmoid", ScalarOp::sigmoid},
      {"erf", ScalarOp::erf},
      {"erfc", ScalarOp::erfc},
      {"special_expit", ScalarOp::sigmoid},
      {"special_erf", ScalarOp::erf},
      {"special_erfc", ScalarOp::erfc},
      {"special_exp2", ScalarOp::exp2},
      {"special_expm1", ScalarOp::expm1},
      {"special_log1p", ScalarOp::log1p},
  };
  for (const Row& row : rows) {
    std::string name = format("aten.{}.default", row.name);
    add_map(ops, name, {"self"}, Out::floating,
            [op = row.op](const MapCall& m, const Args& x) { return m.b.op(op, {x[0]}); })
        .sample(name + "(f32[4,5])")
        .sample(name + "(bf16[7])")
        .sample(name + "(i64[3])");
  }
  // 1 / x, in the computing type.
  add_map(ops, "aten.reciprocal.default", {"self"}, Out::floating,
          [](const MapCall& m, const Args& x) { return m.b.div(m.number(1), x[0]); })
      .sample("aten.reciprocal.default(f32[4,5])")
      .sample("aten.reciprocal.default(i64[4])");
  // x * pi / 180 and back.
  add_map(ops, "aten.deg2rad.default", {"self"}, Out::floating, [](const MapCall& m, const Args& x) {
    return m.b.mul(x[0], m.number(M_PI / 180));
  }).sample("aten.deg2rad.default(f32[4,5])");
  add_map(ops, "aten.rad2deg.default", {"self"}, Out::floating, [](const MapCall& m, const Args& x) {
    return m.b.mul(x[0], m.number(180 / M_PI));
  }).sample("aten.rad2deg.default(f32[4,5])");
  // log(x / (1 - x)); with eps, x is clamped into [eps, 1 - eps] first.
  add_map(ops, "aten.logit.default", {"self"}, Out::floating,
          [](const MapCall& m, const Args& x) {
            ExprId p = x[0];
            if (m.call.has("eps")) {
              double eps = m.call.number("eps");
              p = m.b.op(ScalarOp::min, {m.b.op(ScalarOp::max, {p, m.number(eps)}), m.number(1 - eps)});
            }
            return m.b.op(ScalarOp::log, {m.b.div(p, m.b.sub(m.number(1), p))});
          })
      .sample("aten.logit.default(f32[4,5], 0.1)")
      .sample("aten.logit.default(f32[3])");
}

// Unary ops that keep the type; rounding is the identity on integers.
void add_unary_same(OpTable& ops) {
  struct Row {
    const char* name;
    ScalarOp op;
    bool rounds;
  };
  constexpr Row rows[] = {{"neg", ScalarOp::neg, false},    {"abs", ScalarOp::abs, false},
                          {"floor", ScalarOp::floor, true}, {"ceil", ScalarOp::ceil, true},
                          {"trunc", ScalarOp::trunc, true}, {"round", ScalarOp::round, true},
                          {"fix", ScalarOp::trunc, true},   {"absolute", ScalarOp::abs, false}};
  for (const Row& row : rows) {
    std::string name = format("aten.{}.default", row.name);
    add_map(ops, name, {"self"}, row.op == ScalarOp::abs ? Out::parts : Out::promoted,
            [op = row.op, rounds = row.rounds](const MapCall& m, const Args& x) -> Result<ExprId> {
              if (is_bool(m.type)) return fail(Kind::bad_graph, "`{}` of a bool tensor", m.call.op());
              if (rounds && !is_float(m.type)) return x[0];
              return m.b.op(op, {x[0]});
            })
        .sample(name + "(f32[4,5])")
        .sample(name + "(i64[3])")
        .sample(name + "(bf16[3])");
  }
  // Rounds to `decimals` places: x * 10^d to even, and back.
  add_map(ops, "aten.round.decimals", {"self"}, Out::promoted, [](const MapCall& m, const Args& x) -> Result<ExprId> {
    if (!is_float(m.type)) return x[0];
    int64_t places = m.call.constant("decimals");
    ExprId scale = m.number(std::pow(10.0, std::abs(static_cast<double>(places))));
    if (places < 0) return m.b.mul(m.b.op(ScalarOp::round, {m.b.div(x[0], scale)}), scale);
    return m.b.div(m.b.op(ScalarOp::round, {m.b.mul(x[0], scale)}), scale);
  }).sample("aten.round.decimals(f32[4,5], decimals=2)");
  add_map(ops, "aten.frac.default", {"self"}, Out::promoted, [](const MapCall& m, const Args& x) {
    return m.b.sub(x[0], m.b.op(ScalarOp::trunc, {x[0]}));
  }).sample("aten.frac.default(f32[4,5])");
  add_map(ops, "aten.square.default", {"self"}, Out::counted,
          [](const MapCall& m, const Args& x) { return product_expr(m.b, x[0], x[0]); })
      .sample("aten.square.default(bool[3])")
      .sample("aten.square.default(f32[4,5])")
      .sample("aten.square.default(i64[3])");
  // sign(NaN) = 0, and 0 of both zeros.
  for (const char* name : {"aten.sign.default", "aten.sgn.default"}) {
    OpRow& added =
        add_map(ops, name, {"self"}, Out::promoted,
                [](const MapCall& m, const Args& x) -> Result<ExprId> {
                  if (is_bool(m.type)) return x[0];
                  if (is_complex(m.type)) {
                    // The direction.
                    const ExprId size = m.b.op(ScalarOp::abs, {x[0]});
                    const ExprId none = m.b.op(ScalarOp::eq, {size, number_expr(m.b, 0, m.b.type(size))});
                    return m.b.where(none, m.number(0), m.b.div(x[0], m.b.cvt(size, m.type)));
                  }
                  ExprId zero = m.number(0), minus = is_unsigned(m.type) ? zero : m.number(-1);
                  ExprId negative = m.b.op(ScalarOp::lt, {x[0], zero}), positive = m.b.op(ScalarOp::gt, {x[0], zero});
                  return m.b.where(positive, m.number(1), m.b.where(negative, minus, zero));
                })
            .sample(std::string(name) + "(f32[4,5])")
            .sample(std::string(name) + "(i64[3])");
    if (added.name == "aten.sgn.default") added.sample("aten.sgn.default(c64[4,5])");
  }
  add_map(ops, "aten.positive.default", {"self"}, Out::promoted, [](const MapCall&, const Args& x) {
    return x[0];
  }).sample("aten.positive.default(f32[4,5])");
  // NaN and the infinities replaced by given numbers, or 0 and the type's extremes.
  add_map(ops, "aten.nan_to_num.default", {"self"}, Out::promoted,
          [](const MapCall& m, const Args& x) -> Result<ExprId> {
            if (!is_float(m.type)) return x[0];
            double most = m.type == DType::f64    ? 1.7976931348623157e308
                          : m.type == DType::f16  ? 65504
                          : m.type == DType::bf16 ? 3.3895313892515355e38
                                                  : 3.4028234663852886e38;
            auto given = [&](const char* arg, double fallback) {
              return m.number(m.call.has(arg) ? m.call.number(arg) : fallback);
            };
            ExprId infinite = m.b.op(ScalarOp::isinf, {x[0]}), negative = m.b.op(ScalarOp::lt, {x[0], m.number(0)});
            ExprId bounded =
                m.b.where(infinite, m.b.where(negative, given("neginf", -most), given("posinf", most)), x[0]);
            return m.b.where(m.b.op(ScalarOp::isnan, {x[0]}), given("nan", 0), bounded);
          })
      .sample("aten.nan_to_num.default(f32[4,5])");
}

// self + alpha * other and self - alpha * other; alpha multiplies in the computing type.
MapRule added(bool minus, bool reversed) {
  return [minus, reversed](const MapCall& m, const Args& x) -> Result<ExprId> {
    ExprId a = reversed ? x[1] : x[0], b = reversed ? x[0] : x[1];
    if (is_bool(m.type)) {
      if (minus) return fail(Kind::bad_graph, "`{}` of bool tensors", m.call.op());
      return m.b.op(ScalarOp::lor, {a, b});
    }
    bool scaled = m.call.schema().find_arg("alpha") >= 0 && m.call.has("alpha");
    if (scaled) {
      auto whole = std::get_if<Sym>(&m.call.arg("alpha"));
      if (!whole || !is_one(*whole)) b = m.b.mul(b, m.scalar("alpha"));
    }
    return minus ? m.b.sub(a, b) : m.b.add(a, b);
  };
}

// For floats the remainder's sign decides, so that 1 // 0.1 is 9; floor(a / b) would be 10.
ExprId floor_divide(const MapCall& m, ExprId a, ExprId b) {
  return m.b.op(ScalarOp::floordiv, {a, checked_divisor(m.b, b)});
}

Result<ExprId> divide(const MapCall& m, const Args& x) {
  if (!m.call.has("rounding_mode")) return m.b.div(x[0], x[1]);
  if (m.call.text("rounding_mode") == "floor") return floor_divide(m, x[0], x[1]);
  if (is_float(m.type)) return m.b.op(ScalarOp::trunc, {m.b.div(x[0], x[1])});
  return m.b.op(ScalarOp::truncdiv, {x[0], checked_divisor(m.b, x[1])});
}

void add_binary(OpTable& ops) {
  struct Sum {
    const char* name;
    bool minus, reversed;
  };
  for (Sum s :
       {Sum{"add", false, false}, Sum{"sub", true, false}, Sum{"subtract", true, false}, Sum{"rsub", true, true}})
    for (const char* form : {"Tensor", "Scalar"}) {
      std::string name = format("aten.{}.{}", s.name, form);
      OpRow& row = add_map(ops, name, {"self", "other"}, Out::promoted, added(s.minus, s.reversed), true);
      if (std::string(form) == "Tensor")
        row.sample(name + "(f32[4,5], f32[5])").sample(name + "(f32[4,1,3], f32[5,1], alpha=2)");
      row.sample(name + "(f32[4,5], 2.5)").sample(name + "(i64[4], 3, alpha=2)").sample(name + "(bf16[4], 1.0039)");
    }
  for (const char* base : {"mul", "multiply"})
    for (const char* form : {"Tensor", "Scalar"}) {
      std::string name = format("aten.{}.{}", base, form);
      OpRow& row = add_map(ops, name, {"self", "other"}, Out::promoted,
                           [](const MapCall& m, const Args& x) { return product_expr(m.b, x[0], x[1]); });
      if (std::string(form) == "Tensor") row.sample(name + "(f32[4,5], f32[5])").sample(name + "(bool[4], i32[4])");
      row.sample(name + "(bf16[4,5], 1.0039)").sample(name + "(i64[4], 2.5)");
    }
  for (const char* base : {"div", "divide", "true_divide"})
    for (const char* form : {"Tensor", "Scalar"}) {
      std::string name = format("aten.{}.{}", base, form);
      OpRow& row = add_map(ops, name, {"self", "other"}, Out::floating,
                           [](const MapCall& m, const Args& x) { return m.b.div(x[0], x[1]); });
      if (std::string(form) == "Tensor") row.sample(name + "(f32[4,5], f32[5])").sample(name + "(i64[4], i64[4])");
      row.sample(name + "(f32[4,5], 3)").sample(name + "(bf16[4], 1.5)");
    }
  for (const char* base : {"div", "divide"})
    for (const char* form : {"Tensor_mode", "Scalar_mode"}) {
      std::string name = format("aten.{}.{}", base, form);
      // Without a mode integers divide in f32, with one in their own type.
      OpRow& row = ops.add(name);
      row.infer([](const Call& call) {
           return pointwise({"self", "other"}, call.has("rounding_mode") ? Out::promoted : Out::floating)(call);
         })
          .lower([](LoopBuilder& b, const LowerCall& call) {
            return mapped({"self", "other"}, call.has("rounding_mode") ? Out::promoted : Out::floating, divide)(b,
                                                                                                                call);
          })
          .sample(name + "(f32[4,5], 0.1, rounding_mode=\"floor\")")
          .sample(name + "(i64[4], 3, rounding_mode=\"trunc\")")
          .sample(name + "(i64[4], 3, rounding_mode=none)");
    }
  for (const char* name : {"aten.floor_divide.default", "aten.floor_divide.Scalar"})
    add_map(ops, name, {"self", "other"}, Out::promoted,
            [](const MapCall& m, const Args& x) { return floor_divide(m, x[0], x[1]); })
        .sample(std::string(name) + "(f32[4,5], 0.5)")
        .sample(std::string(name) + "(i64[4], 3)");
  struct Rest {
    const char* name;
    ScalarOp op;
  };
  for (Rest r : {Rest{"remainder", ScalarOp::remainder}, Rest{"fmod", ScalarOp::fmod}})
    for (const char* form : {"Tensor", "Scalar", "Scalar_Tensor"}) {
      const bool number_first = std::string(form) == "Scalar_Tensor";
      if (number_first && r.op == ScalarOp::fmod) continue;
      std::string name = format("aten.{}.{}", r.name, form);
      add_map(
          ops, name, {"self", "other"}, Out::promoted,
          [op = r.op](const MapCall& m, const Args& x) {
            return m.b.op(op, {x[0], checked_divisor(m.b, x[1])});
          },
          true)
          .sample(name + (number_first ? "(1.5, f32[4,5])" : "(f32[4,5], 1.5)"))
          .sample(name + (number_first ? "(7, i64[4])" : "(i64[4], 3)"));
    }
}

// x^p for a known p: the cases that eager has too.
std::optional<ExprId> known_power(const MapCall& m, ExprId x, double p) {
  if (p == 0) return m.number(1);
  if (p == 1) return x;
  if (p == 2) return m.b.mul(x, x);
  if (p == 3) return m.b.mul(m.b.mul(x, x), x);
  if (!is_float(m.type)) return std::nullopt;
  if (p == 0.5) return m.b.op(ScalarOp::sqrt, {x});
  if (p == -0.5) return m.b.op(ScalarOp::rsqrt, {x});
  if (p == -1) return m.b.div(m.number(1), x);
  if (p == -2) return m.b.div(m.number(1), m.b.mul(x, x));
  return std::nullopt;
}

Result<ExprId> power(const MapCall& m, const Args& x) {
  if (is_bool(m.type)) return fail(Kind::bad_graph, "`{}` of bool tensors", m.call.op());
  if (!is_tensor(m.call, "exponent")) {
    const Arg& arg = m.call.arg("exponent");
    auto whole = std::get_if<Sym>(&arg);
    if (std::holds_alternative<double>(arg) || (whole && whole->is_constant()))
      if (auto known = known_power(m, x[0], m.call.number("exponent"))) return *known;
  }
  return m.b.op(is_float(m.type) || is_complex(m.type) ? ScalarOp::pow : ScalarOp::ipow, {x[0], x[1]});
}

void add_power(OpTable& ops) {
  for (const char* form : {"Tensor_Tensor", "Tensor_Scalar", "Scalar"}) {
    std::string name = format("aten.pow.{}", form);
    OpRow& row = add_map(ops, name, {"self", "exponent"}, Out::promoted, power, true);
    // Eager turns 2^x into exp2 on a copy, so a result that is not row-major is not promised.
    if (std::string(form) == "Scalar")
      row.infer([](const Call& call) -> Types {
        TD_TRY(std::vector<TensorType> types, pointwise({"self", "exponent"})(call));
        if (!is_contiguous(call.type("exponent"))) types[0].strides.clear();
        return types;
      });
    if (std::string(form) == "Tensor_Scalar")
      row.sample(name + "(f32[4,5], 2)")
          .sample(name + "(f32[4,5], 0.7)")
          .sample(name + "(i64[4], 3)")
          .sample(name + "(f32[4], 0.5)")
          .sample(name + "(i64[4], 5)");
    else if (std::string(form) == "Scalar")
      row.sample(name + "(2, f32[4,5])").sample(name + "(10000.0, f32[4])");
    else
      row.sample(name + "(f32[4,5], f32[5])").sample(name + "(i64[4], i64[4])");
  }
}

void add_extremes(OpTable& ops) {
  struct Row {
    const char* name;
    ExprId (*f)(LoopBuilder&, ExprId, ExprId);
  };
  constexpr Row rows[] = {
      {"maximum.default", max_expr}, {"minimum.default", min_expr}, {"max.other", max_expr}, {"min.other", min_expr}};
  for (const Row& row : rows) {
    std::string name = format("aten.{}", row.name);
    add_map(ops, name, {"self", "other"}, Out::promoted,
            [f = row.f](const MapCall& m, const Args& x) { return f(m.b, x[0], x[1]); })
        .sample(name + "(f32[4,5], f32[5])")
        .sample(name + "(i64[4], i32[4])");
  }
  add_map(ops, "aten.fmax.default", {"self", "other"}, Out::promoted, [](const MapCall& m, const Args& x) {
    return is_float(m.type) ? m.b.op(ScalarOp::fmax, {x[0], x[1]}) : max_expr(m.b, x[0], x[1]);
  }).sample("aten.fmax.default(f32[4,5], f32[5])");
  add_map(ops, "aten.fmin.default", {"self", "other"}, Out::promoted, [](const MapCall& m, const Args& x) {
    return is_float(m.type) ? m.b.op(ScalarOp::fmin, {x[0], x[1]}) : min_expr(m.b, x[0], x[1]);
  }).sample("aten.fmin.default(f32[4,5], f32[5])");
  // min(max(x, low), high): a NaN anywhere stays, and low > high gives high. Bounds take part in promotion.
  struct Clamp {
    const char *name, *low, *high;
  };
  for (Clamp c : {Clamp{"clamp.default", "min", "max"}, Clamp{"clamp.Tensor", "min", "max"},
                  Clamp{"clip.default", "min", "max"}, Clamp{"clip.Tensor", "min", "max"},
                  Clamp{"clamp_min.default", "min", nullptr}, Clamp{"clamp_min.Tensor", "min", nullptr},
                  Clamp{"clamp_max.default", nullptr, "max"}, Clamp{"clamp_max.Tensor", nullptr, "max"}}) {
    std::string name = format("aten.{}", c.name);
    auto present = [low = c.low, high = c.high](const Call& call) {
      std::vector<std::string> args{"self"};
      if (low && call.has(low)) args.push_back(low);
      if (high && call.has(high)) args.push_back(high);
      return args;
    };
    OpRow& row = ops.add(name);
    row.infer([present](const Call& call) { return pointwise(present(call))(call); })
        .lower([present, c](LoopBuilder& b, const LowerCall& call) {
          bool has_low = c.low && call.has(c.low);
          bool has_high = c.high && call.has(c.high);
          return mapped(present(call), Out::promoted, [has_low, has_high](const MapCall& m, const Args& x) {
            ExprId y = has_low ? max_expr(m.b, x[0], x[1]) : x[0];
            return has_high ? min_expr(m.b, y, x.back()) : y;
          })(b, call);
        });
    bool tensor = name.ends_with("Tensor");
    if (c.low && c.high)
      row.sample(name + (tensor ? "(f32[4,5], f32[5], f32[4,1])" : "(f32[4,5], -0.5, 0.5)"))
          .sample(name + (tensor ? "(f32[4,5], f32[5])" : "(i64[4], 1.5, 3)"));
    else
      row.sample(name + (tensor ? "(f32[4,5], f32[5])" : "(f32[4,5], 0.5)"));
  }
}

void add_composed(OpTable& ops) {
  for (ScalarOp op : {ScalarOp::atan2, ScalarOp::copysign})
    for (const char* form : {"", ".Scalar"}) {
      bool scalar = *form != 0;
      if (op == ScalarOp::atan2 && scalar) continue;
      std::string name = op == ScalarOp::atan2 ? "aten.atan2.default"
                         : scalar              ? "aten.copysign.Scalar"
                                               : "aten.copysign.Tensor";
      add_map(
          ops, name, {"self", "other"}, Out::floating,
          [op](const MapCall& m, const Args& x) {
            return m.b.op(op, {x[0], checked_divisor(m.b, x[1])});
          },
          true)
          .sample(name + (scalar ? "(f32[4,5], -1.0)" : "(f32[4,5], f32[5])"));
    }
  add_map(ops, "aten.hypot.default", {"self", "other"}, Out::promoted, [](const MapCall& m, const Args& x) {
    return m.b.op(ScalarOp::sqrt, {m.b.add(m.b.mul(x[0], x[0]), m.b.mul(x[1], x[1]))});
  }).sample("aten.hypot.default(f32[4,5], f32[5])");
  // log(exp a + exp b) = max + log1p(exp(-|a - b|)); equal infinities stay.
  add_map(ops, "aten.logaddexp.default", {"self", "other"}, Out::floating,
          [](const MapCall& m, const Args& x) {
            LoopBuilder& b = m.b;
            if (is_complex(m.type)) return complex_logaddexp(b, x[0], x[1]);
            ExprId high = b.op(ScalarOp::max, {x[0], x[1]});
            ExprId gap = b.op(ScalarOp::neg, {b.op(ScalarOp::abs, {b.sub(x[0], x[1])})});
            ExprId same = b.op(ScalarOp::land, {b.op(ScalarOp::isinf, {x[0]}), b.op(ScalarOp::eq, {x[0], x[1]})});
            return b.where(same, x[0], b.add(high, b.op(ScalarOp::log1p, {b.op(ScalarOp::exp, {gap})})));
          })
      .sample("aten.logaddexp.default(f32[4,5], f32[5])")
      .sample("aten.logaddexp.default(c64[4,5], c64[5])");
  // x log y, 0 where x is 0 unless y is NaN.
  auto operands = [](const std::string& name) {
    const bool second = name.ends_with("Other") || name.ends_with("other_scalar");
    const bool first = name.ends_with("Self") || name.ends_with("self_scalar");
    return second ? "f32[4,5], 2.5" : first ? "2.5, f32[4,5]" : "f32[4,5], f32[5]";
  };
  struct Log {
    const char* name;
    ScalarOp op;
  };
  for (Log l :
       {Log{"xlogy.Tensor", ScalarOp::log}, Log{"xlogy.Scalar_Other", ScalarOp::log},
        Log{"xlogy.Scalar_Self", ScalarOp::log}, Log{"special_xlog1py.default", ScalarOp::log1p},
        Log{"special_xlog1py.other_scalar", ScalarOp::log1p}, Log{"special_xlog1py.self_scalar", ScalarOp::log1p}})
    add_map(ops, format("aten.{}", l.name), {"self", "other"}, Out::floating,
            [op = l.op](const MapCall& m, const Args& x) {
              ExprId zero = m.b.op(ScalarOp::eq, {x[0], m.number(0)});
              ExprId product = m.b.where(zero, m.number(0), m.b.mul(x[0], m.b.op(op, {x[1]})));
              return m.b.where(m.b.op(ScalarOp::isnan, {x[1]}), x[1], product);
            })
        .sample(format("aten.{}({})", l.name, operands(l.name)));
  // self + value * a * b, self + value * a / b: one rounding at the end.
  for (bool quotient : {false, true})
    add_map(ops, quotient ? "aten.addcdiv.default" : "aten.addcmul.default", {"self", "tensor1", "tensor2"},
            Out::promoted,
            [quotient](const MapCall& m, const Args& x) {
              ExprId scaled = m.b.mul(m.scalar("value"), x[1]);
              return m.b.add(x[0], quotient ? m.b.div(scaled, x[2]) : m.b.mul(scaled, x[2]));
            })
        .sample(format("aten.{}.default(f32[4,5], f32[5], f32[4,1], value=0.5)", quotient ? "addcdiv" : "addcmul"));
  // a + w (b - a), from the nearer end.
  for (const char* form : {"Scalar", "Tensor"})
    add_map(ops, format("aten.lerp.{}", form), {"self", "end", "weight"}, Out::promoted,
            [](const MapCall& m, const Args& x) {
              LoopBuilder& b = m.b;
              ExprId gap = b.sub(x[1], x[0]);
              const DType part = part_type(b.type(x[2]));
              ExprId near_start = b.op(ScalarOp::lt, {b.op(ScalarOp::abs, {x[2]}), number_expr(b, 0.5, part)});
              return b.where(near_start, b.add(x[0], b.mul(x[2], gap)),
                             b.sub(x[1], b.mul(gap, b.sub(m.number(1), x[2]))));
            })
        .sample(format("aten.lerp.{}(f32[4,5], f32[4,5], {})", form, *form == 'S' ? "0.3" : "f32[4,5]"));
}

}  // namespace

void add_pointwise_ops(OpTable& ops) {
  add_unary_math(ops);
  add_unary_same(ops);
  add_binary(ops);
  add_power(ops);
  add_extremes(ops);
  add_composed(ops);
}

}  // namespace toroid
