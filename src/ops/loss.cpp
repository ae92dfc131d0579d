// Losses: elementwise terms, then none, mean or sum (reduction 0, 1, 2).
#include <cmath>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Args = std::vector<ExprId>;

LoopValue reduced(LoopBuilder& b, const LoopValue& terms, int64_t reduction, DType dtype) {
  if (reduction == 0) return b.convert(terms, dtype);
  DType compute = accumulate_type(dtype);
  LoopValue sum = terms.rank() == 0 ? terms : b.reduce(ReduceOp::sum, terms, {}, false, compute, compute, "");
  ExprId n = b.cvt(b.index(product(terms.sizes)), compute);
  LoopBuilder* p = &b;
  return map1(b, sum, compute, dtype, [p, n, reduction](ExprId v) { return reduction == 1 ? p->div(v, n) : v; });
}

void add_elementwise(OpTable& ops) {
  struct Row {
    const char *name, *sample;
    MapRule term;
  };
  auto absolute = [](const MapCall& m, ExprId x) { return m.b.op(ScalarOp::abs, {x}); };
  const Row rows[] = {
      {"mse_loss", "(f32[4,5], f32[4,5])",
       [](const MapCall& m, const Args& x) {
         ExprId d = m.b.sub(x[0], x[1]);
         return m.b.mul(d, d);
       }},
      {"l1_loss", "(c64[4,5], c64[4,5])",
       [absolute](const MapCall& m, const Args& x) { return absolute(m, m.b.sub(x[0], x[1])); }},
      // |d| < beta ? d^2 / (2 beta) : |d| - beta / 2
      {"smooth_l1_loss", "(f32[4,5], f32[4,5], 2, 0.5)",
       [absolute](const MapCall& m, const Args& x) {
         ExprId d = absolute(m, m.b.sub(x[0], x[1]));
         double beta = m.call.number("beta");
         if (beta == 0) return d;
         ExprId near = m.b.div(m.b.mul(m.b.mul(m.number(0.5), d), d), m.number(beta));
         return m.b.where(m.b.op(ScalarOp::lt, {d, m.number(beta)}), near, m.b.sub(d, m.number(0.5 * beta)));
       }},
      // |d| <= delta ? d^2 / 2 : delta (|d| - delta / 2)
      {"huber_loss", "(f32[4,5], f32[4,5], 1, 0.5)",
       [absolute](const MapCall& m, const Args& x) {
         ExprId d = absolute(m, m.b.sub(x[0], x[1]));
         double delta = m.call.number("delta");
         ExprId near = m.b.mul(m.b.mul(m.number(0.5), d), d);
         ExprId far = m.b.mul(m.number(delta), m.b.sub(d, m.number(0.5 * delta)));
         return m.b.where(m.b.op(ScalarOp::le, {d, m.number(delta)}), near, far);
       }},
  };
  for (const Row& row : rows) {
    std::string name = format("aten.{}.default", row.name);
    const Out out = name == "aten.l1_loss.default" ? Out::parts : Out::promoted;
    ops.add(name)
        .infer([out](const Call& call) -> Types {
          DType dtype = promoted(call, {"self", "target"});
          if (out == Out::parts) dtype = part_type(dtype);
          TD_TRY(TensorType type, pointwise_type(call, {"self", "target"}, dtype));
          if (call.constant("reduction") != 0) return one(contiguous_type(call, dtype, {}));
          return one(std::move(type));
        })
        .lower([out, term = row.term](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          TD_TRY(LoopValue terms, mapped({"self", "target"}, out, term)(b, call));
          return reduced(b, terms, call.constant("reduction"), terms.dtype);
        })
        .sample(name + row.sample);
  }
  // -(t log x + (1 - t) log(1 - x)), each log at least -100; and the form for logits, max(-x, 0) + log1p(exp(-|x|)).
  for (bool logits : {false, true}) {
    std::string name = logits ? "aten.binary_cross_entropy_with_logits.default" : "aten.binary_cross_entropy.default";
    ops.add(name)
        .infer([](const Call& call) -> Types {
          TD_TRY(TensorType type, pointwise_type(call, {"self", "target"}, call.type("self").dtype));
          if (call.constant("reduction") != 0) return one(contiguous_type(call, type.dtype, {}));
          return one(std::move(type));
        })
        .lower([logits](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          DType compute = accumulate_type(x.dtype);
          std::vector<LoopValue> inputs{x, call.tensor("target")};
          bool weighted = is_tensor(call, "weight"), positive = logits && is_tensor(call, "pos_weight");
          if (weighted) inputs.push_back(call.tensor("weight"));
          if (positive) inputs.push_back(call.tensor("pos_weight"));
          LoopBuilder* p = &b;
          auto num = [p, compute](double v) { return number_expr(*p, v, compute); };
          LoopValue terms = b.map(inputs, x.sizes, compute, compute, [=](const Args& v) {
            auto log = [&](ExprId a) { return p->op(ScalarOp::max, {p->op(ScalarOp::log, {a}), num(-100)}); };
            ExprId term;
            if (logits) {
              ExprId tail = p->op(ScalarOp::exp, {p->op(ScalarOp::neg, {p->op(ScalarOp::abs, {v[0]})})});
              ExprId soft =
                  p->add(p->op(ScalarOp::log1p, {tail}), p->op(ScalarOp::max, {p->op(ScalarOp::neg, {v[0]}), num(0)}));
              if (positive) soft = p->mul(soft, p->add(p->mul(p->sub(v.back(), num(1)), v[1]), num(1)));
              term = p->add(p->mul(p->sub(num(1), v[1]), v[0]), soft);
            } else {
              term = p->sub(p->mul(p->sub(v[1], num(1)), log(p->sub(num(1), v[0]))), p->mul(v[1], log(v[0])));
            }
            return weighted ? p->mul(term, v[2]) : term;
          });
          return reduced(b, terms, call.constant("reduction"), x.dtype);
        })
        .sample(name + "(f32[4,5], f32[4,5], none, " + (logits ? "none, 2)" : "2)"));
  }
}

// ---------------------------------------------------------------------------------- negative log likelihood

struct Likelihood {
  LoopValue terms, weights;  // per target: weighted -x[target], and the weight; both 0 where ignored
};

// x [n, classes, …] of log probabilities, target [n, …]; or [classes] and a 0-d target.
Likelihood likelihood(LoopBuilder& b, const LowerCall& call, const LoopValue& x) {
  LoopValue target = call.tensor("target");
  DType compute = accumulate_type(x.dtype);
  Sym ignored = call.integer("ignore_index");
  std::optional<LoopValue> weight;
  if (is_tensor(call, "weight")) weight = call.tensor("weight");
  size_t class_dim = x.rank() == 1 ? 0 : 1;
  LoopBuilder* p = &b;
  auto weight_at = [=](const Index& i) {
    ExprId t = p->cvt(target.at(i), DType::i64);
    ExprId keep = p->op(ScalarOp::ne, {t, p->index(ignored)});
    ExprId w =
        weight ? p->cvt(weight->at({checked_index(*p, t, x.sizes[class_dim])}), compute) : number_expr(*p, 1, compute);
    return p->where(keep, w, number_expr(*p, 0, compute));
  };
  LoopValue terms = b.from(compute, target.sizes, [=](const Index& i) {
    ExprId t = p->cvt(target.at(i), DType::i64);
    ExprId keep = p->op(ScalarOp::ne, {t, p->index(ignored)});
    Index xi = i;
    xi.insert(xi.begin() + static_cast<ptrdiff_t>(class_dim), checked_index(*p, t, x.sizes[class_dim]));
    ExprId picked = p->op(ScalarOp::neg, {p->cvt(x.at(xi), compute)});
    return p->where(keep, p->mul(picked, weight_at(i)), number_expr(*p, 0, compute));
  });
  return {terms, b.from(compute, target.sizes, weight_at)};
}

LoopValue total(LoopBuilder& b, const LoopValue& x, const std::string& suffix) {
  return x.rank() == 0 ? b.materialize(x, suffix) : b.reduce(ReduceOp::sum, x, {}, false, x.dtype, x.dtype, suffix);
}

std::vector<LoopValue> nll(LoopBuilder& b, const LowerCall& call, const LoopValue& x, int64_t reduction, DType dtype) {
  Likelihood l = likelihood(b, call, x);
  LoopBuilder* p = &b;
  LoopValue weight = b.convert(total(b, l.weights, ".weight"), dtype);
  if (reduction == 0) return {b.convert(l.terms, dtype), b.full({}, number_expr(b, 0, dtype), dtype)};
  LoopValue sum = total(b, l.terms, ".total");
  DType compute = accumulate_type(dtype);
  LoopValue y = b.map({sum, total(b, l.weights, ".weight")}, {}, compute, dtype,
                      [p, reduction](const Args& v) { return reduction == 1 ? p->div(v[0], v[1]) : v[0]; });
  return {y, weight};
}

TensorType nll_type(const Call& call) {
  DType dtype = call.type("self").dtype;
  return contiguous_type(call, dtype, call.constant("reduction") == 0 ? call.type("target").sizes : SymList{});
}

int64_t class_dim(const SymList& sizes) { return sizes.size() == 1 ? 0 : 1; }
// The target names a share for every class instead of one class.
bool class_shares(const Call& call) {
  const TensorType &x = call.type("self"), &target = call.type("target");
  return is_float(target.dtype) && target.rank() == x.rank();
}

// log softmax, then the likelihood of the target's class, or the mean of all classes' by their shares. Smoothing mixes
// in every class equally.
Result<LoopValue> cross_entropy(LoopBuilder& b, const LowerCall& call) {
  LoopValue x = call.tensor("self"), target = call.tensor("target");
  const DType compute = accumulate_type(x.dtype);
  const int64_t dim = class_dim(x.sizes), reduction = call.constant("reduction");
  const double smoothing = call.number("label_smoothing");
  LoopValue logs = softmax(b, x, dim, compute, true);
  const bool shares = class_shares(call);
  if (!shares && smoothing == 0) return nll(b, call, logs, reduction, x.dtype)[0];
  const Sym classes = x.sizes[static_cast<size_t>(dim)];
  std::optional<LoopValue> weight;
  if (is_tensor(call, "weight")) weight = call.tensor("weight");
  LoopBuilder* p = &b;
  auto num = [p, compute](double v) { return number_expr(*p, v, compute); };
  ExprId count = p->cvt(p->index(classes), compute);
  // Over every class: by its share, which smoothing moves towards 1 / classes; or only that part, for one class.
  LoopValue each = b.from(compute, x.sizes, [=](const Index& i) {
    ExprId part = p->div(num(smoothing), count);
    if (shares) {
      ExprId given = p->cvt(target.at(i), compute);
      part = smoothing == 0 ? given : p->add(p->mul(given, num(1 - smoothing)), part);
    }
    ExprId term = p->op(ScalarOp::neg, {p->mul(logs.at(i), part)});
    if (weight) term = p->mul(term, p->cvt(weight->at({i[static_cast<size_t>(dim)]}), compute));
    return term;
  });
  LoopValue terms = b.reduce(ReduceOp::sum, each, {dim}, false, compute, compute, ".classes");
  if (shares) {
    if (reduction == 0) return b.convert(terms, x.dtype);
    LoopValue sum = total(b, terms, ".total");
    ExprId n = reduction == 1 ? p->cvt(p->index(product(terms.sizes)), compute) : num(1);
    return map1(b, sum, compute, x.dtype, [p, n](ExprId v) { return p->div(v, n); });
  }
  Likelihood l = likelihood(b, call, logs);
  const Sym ignored = call.integer("ignore_index");
  LoopValue mixed = b.from(compute, target.sizes, [=](const Index& i) {
    ExprId keep = p->op(ScalarOp::ne, {p->cvt(target.at(i), DType::i64), p->index(ignored)});
    return p->add(p->mul(l.terms.at(i), num(1 - smoothing)), p->where(keep, terms.at(i), num(0)));
  });
  if (reduction == 0) return b.convert(mixed, x.dtype);
  LoopValue sum = total(b, mixed, ".total");
  if (reduction == 2) return b.convert(sum, x.dtype);
  return b.map({sum, total(b, l.weights, ".weight")}, {}, compute, x.dtype,
               [p](const Args& v) { return p->div(v[0], v[1]); });
}

void add_likelihoods(OpTable& ops) {
  for (const char* form : {"nll_loss_nd.default", "nll_loss.default", "nll_loss2d.default"})
    ops.add(format("aten.{}", form))
        .infer([](const Call& call) -> Types { return one(nll_type(call)); })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          return nll(b, call, x, call.constant("reduction"), x.dtype)[0];
        })
        .sample(std::string(form) == "nll_loss2d.default" ? format("aten.{}(f32[4,5,2,2], i64[4,2,2])", form)
                                                          : format("aten.{}(f32[4,5], i64[4], f32[5])", form));
  for (const char* form : {"nll_loss_forward.default", "nll_loss2d_forward.default"})
    ops.add(format("aten.{}", form))
        .infer([](const Call& call) -> Types {
          return std::vector<TensorType>{nll_type(call), contiguous_type(call, call.type("self").dtype, {})};
        })
        .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          LoopValue x = call.tensor("self");
          return nll(b, call, x, call.constant("reduction"), x.dtype);
        })
        .sample(format("aten.{}(f32[4,5{}], i64[4{}], none, 1, -100)", form, form[8] == '2' ? ",2,2" : "",
                       form[8] == '2' ? ",2,2" : ""));
  ops.add("aten.cross_entropy_loss.default")
      .infer([](const Call& call) -> Types {
        TensorType type = nll_type(call);
        if (class_shares(call) && call.constant("reduction") == 0) {
          const SymList& x = call.type("self").sizes;
          type = contiguous_type(call, type.dtype, reduced_sizes(x, {class_dim(x)}, false));
        }
        return one(std::move(type));
      })
      .lower(cross_entropy)
      .sample("aten.cross_entropy_loss.default(f32[4,5], i64[4])")
      .sample("aten.cross_entropy_loss.default(f32[4,5,3], i64[4,3], f32[5], 2)")
      .sample("aten.cross_entropy_loss.default(f32[4,5,3], i64[4,3], f32[5], 1, -100, 0.2)")
      .sample("aten.cross_entropy_loss.default(f32[4,5,3], i64[4,3], none, 0, -100, 0.2)")
      .sample("aten.cross_entropy_loss.default(f32[4,5,3], f32[4,5,3], f32[5], 0)")
      .sample("aten.cross_entropy_loss.default(f32[4,5], f32[4,5], none, 1, -100, 0.2)")
      .sample("aten.cross_entropy_loss.default(f32[5], f32[5])");
}

}  // namespace

void add_loss_ops(OpTable& ops) {
  add_elementwise(ops);
  add_likelihoods(ops);
}

}  // namespace toroid
