// Losses and similarities that are made of other ops.
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

LoopValue at_least(Compose& c, const LoopValue& x, double low) { return c("clamp_min.default", {x, low}); }
LoopValue choose(Compose& c, const LoopValue& condition, const LoopValue& x, const LoopValue& y) {
  return c("where.self", {condition, x, y});
}
LoopValue finished(Compose& c, const LoopValue& terms) { return c.reduced(terms, c.call.constant("reduction")); }

void add_similarities(OpTable& ops) {
  compose(ops, "pairwise_distance.default", [](Compose& c) -> Composed {
    LoopValue gap = c("add.Scalar", {c.sub(c["x1"], c["x2"]), c["eps"]});
    return c("linalg_vector_norm.default", {gap, c["p"], SymList{-1}, c["keepdim"]});
  }).sample("aten.pairwise_distance.default(f32[3,4], f32[3,4])");
  // Each vector over its norm, which is at least eps.
  compose(ops, "cosine_similarity.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("x1"), y = c.tensor("x2");
    DType dtype = promote(x.dtype, y.dtype);
    std::vector<LoopValue> both =
        c.all("broadcast_tensors.default", {std::vector<LoopValue>{c.to(x, dtype), c.to(y, dtype)}});
    for (LoopValue& v : both) {
      LoopValue norm = c("linalg_vector_norm.default", {v, 2, SymList{c.call.integer("dim")}, true});
      v = c.div(v, c("clamp_min.default", {norm, c["eps"]}));
    }
    return c("sum.dim_IntList", {c.mul(both[0], both[1]), SymList{c.call.integer("dim")}});
  }).sample("aten.cosine_similarity.default(f32[3,4], f32[3,4])");
  compose(ops, "cosine_embedding_loss.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("input1"), y = c.tensor("input2"), target = c.tensor("target");
    const SymList dim{target.rank()};
    auto dot = [&](const LoopValue& a, const LoopValue& b) { return c("sum.dim_IntList", {c.mul(a, b), dim}); };
    LoopValue scale = c("sqrt.default", {c.mul(c.add(dot(x, x), 1e-12), c.add(dot(y, y), 1e-12))});
    LoopValue cosine = c.div(dot(x, y), scale), zero = c("zeros_like.default", {cosine});
    LoopValue near = c("rsub.Scalar", {cosine, 1}), far = at_least(c, c.sub(cosine, c["margin"]), 0);
    LoopValue terms =
        c.add(choose(c, c("eq.Scalar", {target, 1}), near, zero), choose(c, c("eq.Scalar", {target, -1}), far, zero));
    return finished(c, terms);
  }).sample("aten.cosine_embedding_loss.default(f32[3,4], f32[3,4], i64[3])");
  compose(ops, "triplet_margin_loss.default", [](Compose& c) -> Composed {
    auto distance = [&](const char* a, const char* b) {
      return c("pairwise_distance.default", {c[a], c[b], c["p"], c["eps"], false});
    };
    LoopValue near = distance("anchor", "positive"), far = distance("anchor", "negative");
    if (c.call.flag("swap")) far = c("minimum.default", {far, distance("positive", "negative")});
    return finished(c, at_least(c, c("add.Scalar", {c.sub(near, far), c["margin"]}), 0));
  }).sample("aten.triplet_margin_loss.default(f32[3,4], f32[3,4], f32[3,4], swap=True)");
}

void add_terms(OpTable& ops) {
  compose(ops, "margin_ranking_loss.default", [](Compose& c) -> Composed {
    LoopValue gap = c.mul(c("neg.default", {c["target"]}), c.sub(c["input1"], c["input2"]));
    return finished(c, at_least(c, c("add.Scalar", {gap, c["margin"]}), 0));
  }).sample("aten.margin_ranking_loss.default(f32[4], f32[4], f32[4], 0.5)");
  compose(ops, "hinge_embedding_loss.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), target = c.tensor("target");
    LoopValue zero = c("zeros_like.default", {x});
    LoopValue far = at_least(c, c("rsub.Scalar", {x, c["margin"]}), 0);
    return finished(
        c, c.add(choose(c, c("ne.Scalar", {target, 1}), far, zero), choose(c, c("ne.Scalar", {target, -1}), x, zero)));
  }).sample("aten.hinge_embedding_loss.default(f32[4], f32[4])");
  compose(ops, "soft_margin_loss.default", [](Compose& c) -> Composed {
    LoopValue product = c.mul(c("neg.default", {c["target"]}), c["self"]), power = c("exp.default", {product});
    LoopBuilder* p = &c.b;
    // An exponential that overflows in f16 does so here too, whatever it is computed in.
    LoopValue stored = c.b.from(power.dtype, power.sizes, [=](const Index& i) {
      return is_low_precision(power.dtype) ? p->pool().round_to(power.at(i), power.dtype) : power.at(i);
    });
    return finished(c, c("log1p.default", {stored}));
  }).sample("aten.soft_margin_loss.default(f32[4], f32[4])");
  // exp(x) - t x, or x - t log(x + eps); with `full` Stirling's formula for log t! where t > 1.
  compose(ops, "poisson_nll_loss.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("input"), t = c.tensor("target");
    LoopValue terms = c.call.flag("log_input") ? c.sub(c("exp.default", {x}), c.mul(t, x))
                                               : c.sub(x, c.mul(t, c("log.default", {c("add.Scalar", {x, c["eps"]})})));
    if (c.call.flag("full")) {
      LoopValue log = c("log.default", {t});
      LoopValue tail = c.mul(c("log.default", {c.mul(t, 2 * M_PI)}), 0.5);
      LoopValue stirling = c.add(c.sub(c.mul(t, log), t), tail);
      terms = c.add(terms, c("masked_fill.Scalar", {stirling, c("le.Scalar", {t, 1}), 0}));
    }
    return finished(c, terms);
  }).sample("aten.poisson_nll_loss.default(f32[4], f32[4], True, True, 1e-08, 1)");
  compose(ops, "kl_div.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), t = c.tensor("target");
    LoopValue terms = c.call.flag("log_target") ? c.mul(c("exp.default", {t}), c.sub(t, x))
                                                : c.sub(c("xlogy.Tensor", {t, t}), c.mul(t, x));
    return finished(c, terms);
  }).sample("aten.kl_div.default(f32[3,4], f32[3,4])");
}

// Margins between the target's score and the others'.
void add_margins(OpTable& ops) {
  auto reduced_rows = [](Compose& c, LoopValue rows, const LoopValue& x, bool single) {
    rows = c.to(c.b.materialize(rows, ".rows"), x.dtype);
    const int64_t reduction = c.call.constant("reduction");
    if (single) return c("reshape.default", {rows, SymList{}});
    return c.reduced(rows, reduction);
  };
  compose(ops, "multi_margin_loss.default", [=](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), target = c.tensor("target");
    const bool single = x.rank() < 2 && target.rank() == 0;
    if (x.rank() == 0) x = c.b.unsqueeze(x, 0);
    if (x.rank() == 1) x = c.b.unsqueeze(x, 0);
    if (target.rank() == 0) target = c.b.unsqueeze(target, 0);
    std::optional<LoopValue> weight;
    if (is_tensor(c.call, "weight")) weight = c.tensor("weight");
    const double power = c.call.number("p"), margin = c.call.number("margin");
    LoopBuilder* p = &c.b;
    const DType type = accumulate_type(x.dtype);
    const Sym classes = x.sizes[1];
    LoopValue terms = c.b.from(type, x.sizes, [=](const Index& i) {
      ExprId t = checked_index(*p, target.at({i[0]}), classes);
      ExprId z = p->add(p->sub(number_expr(*p, margin, type), p->cvt(x.at({i[0], t}), type)), p->cvt(x.at(i), type));
      ExprId h = p->op(ScalarOp::max, {z, number_expr(*p, 0, type)});
      if (power == 2) h = p->mul(h, h);
      if (weight) h = p->mul(h, p->cvt(weight->at({t}), type));
      return p->where(p->op(ScalarOp::eq, {t, i[1]}), number_expr(*p, 0, type), h);
    });
    LoopValue sums = c.b.reduce(ReduceOp::sum, terms, {1}, false, type, type, ".sum");
    ExprId n = c.b.cvt(c.b.index(classes), type);
    return reduced_rows(c, map1(c.b, sums, type, type, [p, n](ExprId v) { return p->div(v, n); }), c.tensor("self"),
                        single);
  }).sample("aten.multi_margin_loss.default(f32[3,4], i64[3])");
  // Targets count up to the first -1; each is compared with every class that is no target.
  compose(ops, "multilabel_margin_loss.default", [=](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), target = c.tensor("target");
    const bool single = x.rank() < 2;
    while (x.rank() < 2) x = c.b.unsqueeze(x, 0);
    while (target.rank() < 2) target = c.b.unsqueeze(target, 0);
    LoopBuilder* p = &c.b;
    const DType type = accumulate_type(x.dtype);
    const Sym rows = x.sizes[0], classes = x.sizes[1];
    LoopValue ends = c.b.from(DType::i64, x.sizes, [=](const Index& i) {
      ExprId end = p->op(ScalarOp::lt, {p->cvt(target.at(i), DType::i64), int_expr(*p, 0)});
      return p->where(end, i[1], p->index(classes));
    });
    LoopValue count = c.b.reduce(ReduceOp::min, ends, {1}, false, DType::i64, DType::i64, ".count");
    LoopValue hits = c.b.from(DType::b8, {rows, classes, classes}, [=](const Index& i) {
      ExprId valid = p->op(ScalarOp::lt, {i[2], count.at({i[0]})});
      return p->op(ScalarOp::land, {valid, p->op(ScalarOp::eq, {p->cvt(target.at({i[0], i[2]}), DType::i64), i[1]})});
    });
    LoopValue is_target = c.b.reduce(ReduceOp::any, hits, {2}, false, DType::b8, DType::b8, ".targets");
    LoopValue terms = c.b.from(type, {rows, classes, classes}, [=](const Index& i) {
      ExprId valid = p->op(ScalarOp::land, {p->op(ScalarOp::lt, {i[2], count.at({i[0]})}),
                                            p->op(ScalarOp::lnot, {is_target.at({i[0], i[1]})})});
      ExprId t = p->op(ScalarOp::max, {p->cvt(target.at({i[0], i[2]}), DType::i64), int_expr(*p, 0)});
      ExprId gap = p->sub(p->cvt(x.at({i[0], checked_index(*p, t, classes)}), type), p->cvt(x.at({i[0], i[1]}), type));
      ExprId h = p->op(ScalarOp::max, {p->sub(number_expr(*p, 1, type), gap), number_expr(*p, 0, type)});
      return p->where(valid, h, number_expr(*p, 0, type));
    });
    LoopValue sums = c.b.reduce(ReduceOp::sum, terms, {1, 2}, false, type, type, ".sum");
    ExprId n = c.b.cvt(c.b.index(classes), type);
    return reduced_rows(c, map1(c.b, sums, type, type, [p, n](ExprId v) { return p->div(v, n); }), c.tensor("self"),
                        single);
  }).sample("aten.multilabel_margin_loss.default(f32[2,4], i64[2,4])");
}

}  // namespace

void add_composed_loss_ops(OpTable& ops) {
  add_similarities(ops);
  add_terms(ops);
  add_margins(ops);
}

}  // namespace toroid
