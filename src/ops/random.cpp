// Random numbers: 64 bits of Philox for each element from the model's state (seed and count of calls), the op's number
// in the program and the element's place; the same for every number of threads. PyTorch's own stream is not met.
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;
using Args = std::vector<ExprId>;
using Draw = std::function<ExprId(LoopBuilder&, ExprId bits, DType type, const Index&)>;

// In [0, 1), with as many bits as the type has digits.
ExprId uniform(LoopBuilder& b, ExprId bits, DType dtype) {
  const int digits = dtype == DType::f64 ? 53 : dtype == DType::f32 ? 24 : dtype == DType::f16 ? 11 : 8;
  const DType type = register_type(dtype);
  ExprId top = b.op(ScalarOp::band,
                    {b.op(ScalarOp::shr, {bits, int_expr(b, 64 - digits)}), int_expr(b, (int64_t{1} << digits) - 1)});
  return b.mul(b.cvt(top, type), number_expr(b, std::ldexp(1.0, -digits), type));
}

// Box and Muller: 24 bits of each half, the first never 0.
ExprId normal(LoopBuilder& b, ExprId bits, DType type) {
  const DType t = register_type(type);
  auto part = [&](int shift, int64_t plus) {
    ExprId v = b.op(ScalarOp::band, {b.op(ScalarOp::shr, {bits, int_expr(b, shift)}), int_expr(b, 0xffffff)});
    return b.mul(b.cvt(b.add(v, int_expr(b, plus)), t), number_expr(b, 0x1p-24, t));
  };
  ExprId radius = b.op(ScalarOp::sqrt, {b.mul(b.op(ScalarOp::log, {part(8, 1)}), number_expr(b, -2, t))});
  return b.mul(radius, b.op(ScalarOp::cos, {b.mul(part(36, 0), number_expr(b, 2 * M_PI, t))}));
}

// A tensor of f(bits); rows are drawn once and kept, since every look must see the same.
LoopValue drawn(LoopBuilder& b, const SymList& sizes, DType dtype, const Draw& f) {
  const LoopValue key = b.random_key();
  LoopBuilder* p = &b;
  const DType type = register_type(dtype);
  return b.materialize(b.from(dtype, sizes,
                              [=](const Index& i) {
                                ExprId bits = p->op(ScalarOp::random_bits, {key.at({}), p->linear(i, sizes)});
                                return p->cvt(f(*p, bits, type, i), dtype);
                              }),
                       ".drawn");
}

// Of complex numbers both parts are drawn, with half the variance each, and the mean is real.
LoopValue drawn_normal(LoopBuilder& b, const SymList& sizes, DType dtype, double mean, double spread) {
  const bool complex = is_complex(dtype);
  LoopValue x =
      drawn(b, complex ? pair_sizes(sizes) : sizes, part_type(dtype),
            [=](LoopBuilder& p, ExprId bits, DType type, const Index& i) {
              ExprId y = normal(p, bits, type);
              y = p.mul(y, number_expr(p, complex ? spread * M_SQRT1_2 : spread, type));
              if (mean == 0) return y;
              ExprId shift = number_expr(p, mean, type);
              if (complex)
                shift = p.where(p.op(ScalarOp::eq, {i.back(), int_expr(p, 0)}), shift, number_expr(p, 0, type));
              return p.add(y, shift);
            });
  return complex ? b.complex_of(x) : x;
}

DType drawn_dtype(const Call& call, DType fallback) { return call.dtype("dtype").value_or(fallback); }

void add_fills(OpTable& ops) {
  for (bool is_normal : {false, true})
    for (const char* form : {".default", ".generator", "_like.default", "_like.generator"}) {
      const std::string name = std::string(is_normal ? "randn" : "rand") + form;
      const bool like = std::string(form).starts_with("_like");
      lowered(ops, name, [=](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
        const SymList sizes = like ? call.type("self").sizes : call.integers("size");
        const DType dtype = drawn_dtype(call, like ? call.type("self").dtype : DType::f32);
        if (is_normal) return Values{drawn_normal(b, sizes, dtype, 0, 1)};
        const bool complex = is_complex(dtype);
        LoopValue x =
            drawn(b, complex ? pair_sizes(sizes) : sizes, part_type(dtype),
                  [=](LoopBuilder& p, ExprId bits, DType, const Index&) { return uniform(p, bits, part_type(dtype)); });
        return Values{complex ? b.complex_of(x) : x};
      }).random();
    }
  for (const char* name :
       {"randint.default", "randint.low", "randint.generator", "randint.low_generator", "randint_like.default",
        "randint_like.low_dtype", "randint_like.generator", "randint_like.low_generator_dtype"}) {
    const bool like = std::string(name).find("_like") != std::string::npos;
    lowered(ops, name, [=](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      const SymList sizes = like ? call.type("self").sizes : call.integers("size");
      const DType dtype = drawn_dtype(call, like ? call.type("self").dtype : DType::i64);
      const Sym low = call.schema().find_arg("low") >= 0 ? call.integer("low") : Sym(0), high = call.integer("high");
      return Values{drawn(b, sizes, dtype, [=](LoopBuilder& p, ExprId bits, DType type, const Index&) {
        ExprId positive = p.op(ScalarOp::band, {bits, int_expr(p, INT64_MAX)});
        ExprId rest = p.op(ScalarOp::remainder, {positive, p.index(sym_max(high - low, 1))});
        return p.cvt(p.add(rest, p.index(low)), type);
      })};
    }).random();
  }
  for (const char* name : {"randperm.default", "randperm.generator"})
    compose(ops, name, [](Compose& c) -> Composed {
      LoopValue keys = drawn(c.b, {c.call.integer("n")}, DType::i64,
                             [](LoopBuilder&, ExprId bits, DType, const Index&) { return bits; });
      return c.to(c("argsort.default", {keys}), drawn_dtype(c.call, DType::i64));
    }).random();
}

// New values for a tensor's elements.
void add_refills(OpTable& ops) {
  struct Row {
    const char* name;
    std::function<ExprId(const Call&, LoopBuilder&, ExprId, DType, DType)> draw;
  };
  const Row rows[] = {
      {"uniform.default",
       [](const Call& call, LoopBuilder& b, ExprId bits, DType type, DType dtype) {
         const double low = call.number("from"), high = call.number("to");
         return b.add(b.mul(uniform(b, bits, dtype), number_expr(b, high - low, type)), number_expr(b, low, type));
       }},
      {"log_normal.default",
       [](const Call& call, LoopBuilder& b, ExprId bits, DType type, DType) {
         ExprId v = b.add(b.mul(normal(b, bits, type), number_expr(b, call.number("std"), type)),
                          number_expr(b, call.number("mean"), type));
         return b.op(ScalarOp::exp, {v});
       }},
      {"exponential.default",
       [](const Call& call, LoopBuilder& b, ExprId bits, DType type, DType) {
         ExprId u = uniform(b, bits, type);
         return b.mul(b.op(ScalarOp::log1p, {b.op(ScalarOp::neg, {u})}),
                      number_expr(b, -1 / call.number("lambd"), type));
       }},
      {"cauchy.default",
       [](const Call& call, LoopBuilder& b, ExprId bits, DType type, DType) {
         ExprId turn = b.mul(b.sub(uniform(b, bits, type), number_expr(b, 0.5, type)), number_expr(b, M_PI, type));
         return b.add(b.mul(b.op(ScalarOp::tan, {turn}), number_expr(b, call.number("sigma"), type)),
                      number_expr(b, call.number("median"), type));
       }},
      {"geometric.default",
       [](const Call& call, LoopBuilder& b, ExprId bits, DType, DType dtype) {
         const double p = call.number("p");
         ExprId u = b.sub(number_expr(b, 1, DType::f32), uniform(b, bits, DType::f32));
         ExprId k =
             b.op(ScalarOp::ceil, {b.mul(b.op(ScalarOp::log, {u}), number_expr(b, 1 / std::log1p(-p), DType::f32))});
         return b.cvt(b.op(ScalarOp::max, {k, number_expr(b, 1, DType::f32)}), register_type(dtype));
       }},
      {"bernoulli.p",
       [](const Call& call, LoopBuilder& b, ExprId bits, DType type, DType) {
         ExprId hit = b.op(ScalarOp::lt, {uniform(b, bits, DType::f64), number_expr(b, call.number("p"), DType::f64)});
         return b.cvt(hit, type);
       }},
  };
  for (const Row& row : rows)
    lowered(ops, row.name, [draw = row.draw](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      const TensorType& x = call.type("self");
      auto kept = std::make_shared<LowerCall>(call);
      const DType part = part_type(x.dtype);
      auto one = [=](LoopBuilder& p, ExprId bits, DType type, const Index&) {
        return draw(*kept, p, bits, type, part);
      };
      if (!is_complex(x.dtype)) return Values{drawn(b, x.sizes, x.dtype, one)};
      // Only uniform numbers are drawn part by part.
      if (call.op() != "aten.uniform.default") return fail(Kind::unsupported_op, "`{}` of complex numbers", call.op());
      return Values{b.complex_of(drawn(b, pair_sizes(x.sizes), part, one))};
    }).random();
  lowered(ops, "normal_functional.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    const TensorType& x = call.type("self");
    return Values{drawn_normal(b, x.sizes, x.dtype, call.number("mean"), call.number("std"))};
  }).random();
  for (const char* form : {"default", "Tensor"})
    lowered(ops, format("bernoulli.{}", form),
            [form = std::string(form)](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue chance = call.tensor(form == "Tensor" ? "p" : "self");
              const TensorType& x = call.type("self");
              LoopValue wide = b.broadcast(chance, x.sizes);
              return Values{drawn(b, x.sizes, x.dtype, [=](LoopBuilder& p, ExprId bits, DType type, const Index& i) {
                ExprId hit = p.op(ScalarOp::lt, {uniform(p, bits, DType::f64), p.cvt(wide.at(i), DType::f64)});
                return p.cvt(hit, type);
              })};
            })
        .random();
  for (const char* form : {"Tensor_Tensor", "Tensor_float", "float_Tensor", "float_float"})
    lowered(ops, format("normal.{}", form), [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      DType dtype = DType::f32;
      SymList sizes;
      for (const char* arg : {"mean", "std"})
        if (is_tensor(call, arg)) {
          dtype = call.type(arg).dtype;
          TD_TRY(sizes, broadcast_sizes(sizes, call.type(arg).sizes));
        }
      if (call.schema().find_arg("size") >= 0) sizes = call.integers("size");
      if (call.schema().find_arg("dtype") >= 0) dtype = drawn_dtype(call, dtype);
      LoopValue mean = b.broadcast(operand(b, call, "mean", dtype), sizes),
                spread = b.broadcast(operand(b, call, "std", dtype), sizes);
      return Values{drawn(b, sizes, dtype, [=](LoopBuilder& p, ExprId bits, DType type, const Index& i) {
        return p.add(p.mul(normal(p, bits, type), p.cvt(spread.at(i), type)), p.cvt(mean.at(i), type));
      })};
    }).random();
}

// Distributions that take rejection: routines, which draw as often as an element needs.
void add_rejections(OpTable& ops) {
  auto routine = [](LoopBuilder& b, const char* name, const Values& parameters, std::vector<double> numbers) {
    const LoopValue &x = parameters[0], key = b.random_key();
    const DType type = register_type(x.dtype);
    Values inputs;
    for (const LoopValue& v : parameters) inputs.push_back(b.convert(b.broadcast(v, x.sizes), type));
    inputs.push_back(key);
    return b.convert(b.routine(name, type, x.sizes, inputs, {product(x.sizes)}, numbers, ".drawn"), x.dtype);
  };
  auto gamma = [routine](LoopBuilder& b, const LoopValue& x) {
    const bool wide = x.dtype == DType::f64;
    // A draw too small for the type is its least normal number: logarithms of draws are taken.
    const double least = wide ? 0x1p-1022 : x.dtype == DType::f16 ? 0x1p-14 : 0x1p-126;
    return routine(b, "random_gamma", {x}, {least});
  };
  lowered(ops, "_standard_gamma.default", [gamma](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    return Values{gamma(b, call.tensor("self"))};
  }).random();
  compose(ops, "_sample_dirichlet.default", [gamma](Compose& c) -> Composed {
    LoopValue x = gamma(c.b, c.tensor("self"));
    return c.div(x, c("sum.dim_IntList", {x, SymList{-1}, true}));
  }).random();
  lowered(ops, "poisson.default", [routine](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    return Values{routine(b, "random_poisson", {call.tensor("self")}, {})};
  }).random();
  lowered(ops, "binomial.default", [routine](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue count = call.tensor("count"), chance = call.tensor("prob");
    TD_TRY(SymList sizes, broadcast_sizes(count.sizes, chance.sizes));
    return Values{routine(b, "random_binomial", {b.broadcast(count, sizes), chance}, {})};
  }).random();
}

// Without replacement the greatest of p / exponential noise, with it a search in the running sum.
void add_choices(OpTable& ops) {
  compose(ops, "multinomial.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self");
    const DType type = x.dtype == DType::f64 ? DType::f64 : DType::f32;
    const Sym count = c.call.integer("num_samples");
    LoopBuilder* p = &c.b;
    if (!c.call.flag("replacement")) {
      LoopValue noise = drawn(c.b, x.sizes, type, [](LoopBuilder& q, ExprId bits, DType t, const Index&) {
        ExprId u = q.sub(number_expr(q, 1, t), uniform(q, bits, t));
        return q.op(ScalarOp::neg, {q.op(ScalarOp::log, {u})});
      });
      LoopValue race = c.b.map({x, noise}, x.sizes, type, type, [p](const Args& v) { return p->div(v[0], v[1]); });
      return c.all("topk.default", {race, count}).at(1);
    }
    LoopValue sums = c("cumsum.default", {c.to(x, type), -1});
    SymList sizes = x.sizes;
    sizes.back() = count;
    const Sym n = x.sizes.back();
    LoopValue places = drawn(c.b, sizes, type, [=](LoopBuilder& q, ExprId bits, DType t, const Index& i) {
      Index last = i;
      last.back() = q.index(n - 1);
      return q.mul(uniform(q, bits, t), sums.at(last));
    });
    return c("clamp_max.default", {c("searchsorted.Tensor", {sums, places}, {{"right", true}}), n - 1});
  }).random();
}

// Kept elements scaled by 1 / (1 - p); `features`: whole channels, `alpha`: what is dropped becomes the activation's
// lowest value, and an affine map restores mean and variance.
void add_dropouts(OpTable& ops) {
  auto keep_mask = [](LoopBuilder& b, const SymList& sizes, double p) {
    return drawn(b, sizes, DType::b8, [p](LoopBuilder& q, ExprId bits, DType, const Index&) {
      return q.op(ScalarOp::ge, {uniform(q, bits, DType::f64), number_expr(q, p, DType::f64)});
    });
  };
  for (bool features : {false, true})
    for (bool alpha : {false, true}) {
      const std::string name = format("{}{}dropout.default", features ? "feature_" : "", alpha ? "alpha_" : "");
      auto idle = [](const Call& call) { return !call.flag("train") || call.number("p") == 0; };
      lowered(
          ops, name,
          [=](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
            LoopValue x = call.tensor("input");
            if (idle(call)) return Values{x};
            const double p = call.number("p");
            const DType type = register_type(x.dtype);
            LoopBuilder* q = &b;
            if (p == 1)
              return Values{map1(b, x, type, x.dtype, [=](ExprId v) { return q->mul(v, number_expr(*q, 0, type)); })};
            SymList sizes = x.sizes;
            if (features)
              for (size_t d = 2; d < sizes.size(); ++d) sizes[d] = 1;
            LoopValue keep = b.broadcast(keep_mask(b, sizes, p), x.sizes);
            const double lowest = -1.7580993408473766, a = 1 / std::sqrt((1 - p) * (1 + p * lowest * lowest)),
                         shift = -a * lowest * p;
            return Values{b.from(x.dtype, x.sizes, [=](const Index& i) {
              ExprId v = q->cvt(x.at(i), type), kept = q->cvt(keep.at(i), type);
              if (!alpha) return q->mul(q->mul(v, kept), number_expr(*q, 1 / (1 - p), type));
              ExprId held = q->where(keep.at(i), v, number_expr(*q, lowest, type));
              return q->add(q->mul(held, number_expr(*q, a, type)), number_expr(*q, shift, type));
            })};
          })
          .random()
          .view_when(idle)
          .sample("aten." + name + "(f32[4,5], 0.5, False)");
    }
  lowered(ops, "native_dropout.default", [=](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue x = call.tensor("input");
    const double p = call.number("p");
    const DType type = register_type(x.dtype);
    LoopBuilder* q = &b;
    const bool train = !call.has("train") || call.flag("train");
    if (!train || p == 0) return Values{x, b.full(x.sizes, b.pool().constant(1, DType::b8), DType::b8)};
    LoopValue keep = p == 1 ? b.full(x.sizes, b.pool().constant(0, DType::b8), DType::b8) : keep_mask(b, x.sizes, p);
    const double scale = p == 1 ? 0 : 1 / (1 - p);
    return Values{b.map({x, keep}, x.sizes, type, x.dtype,
                        [=](const Args& v) { return q->mul(q->mul(v[0], v[1]), number_expr(*q, scale, type)); }),
                  keep};
  }).random();
  // A slope for each negative element, drawn in training.
  for (bool noise : {false, true})
    lowered(ops, noise ? "rrelu_with_noise_functional.default" : "rrelu.default",
            [noise](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue x = call.tensor("self");
              const double low = call.number("lower"), high = call.number("upper");
              const DType type = register_type(x.dtype);
              LoopBuilder* q = &b;
              const bool training = call.flag("training");
              LoopValue slopes =
                  training ? drawn(b, x.sizes, x.dtype,
                                   [=](LoopBuilder& p, ExprId bits, DType t, const Index& i) {
                                     ExprId u = p.add(p.mul(uniform(p, bits, x.dtype), number_expr(p, high - low, t)),
                                                      number_expr(p, low, t));
                                     ExprId positive = p.op(ScalarOp::gt, {p.cvt(x.at(i), t), number_expr(p, 0, t)});
                                     return p.where(positive, number_expr(p, 1, t), u);
                                   })
                           : b.full(x.sizes, number_expr(b, (low + high) / 2, type), x.dtype);
              LoopValue y = b.map({x, slopes}, x.sizes, type, x.dtype, [=](const Args& v) {
                ExprId positive = q->op(ScalarOp::ge, {v[0], number_expr(*q, 0, type)});
                return q->where(positive, v[0], q->mul(v[0], v[1]));
              });
              if (!noise) return Values{y};
              return Values{y, training ? slopes : call.tensor("noise")};
            })
        .random();
}

}  // namespace

void add_random_ops(OpTable& ops) {
  add_fills(ops);
  add_refills(ops);
  add_choices(ops);
  add_rejections(ops);
  add_dropouts(ops);
}

}  // namespace toroid
