// Gradients that no other file is a place for: of distances, margins, bags of embeddings, weight norms, masked writes.
#include <cmath>

#include "ops/compose.h"
#include "ops/rules.h"
#include "ops/scattered.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;

// How a p-norm moves with one difference: sign(d) (|d| / norm)^(p - 1); 0 where the norm is 0.
ExprId norm_slope(LoopBuilder& b, double order, ExprId d, ExprId norm, DType type) {
  auto num = [&](double v) { return number_expr(b, v, type); };
  ExprId size = b.op(ScalarOp::abs, {d});
  auto when_not_zero = [&](ExprId x, ExprId value) { return b.where(b.op(ScalarOp::eq, {x, num(0)}), num(0), value); };
  ExprId sign =
      b.where(b.op(ScalarOp::gt, {d, num(0)}), num(1), b.where(b.op(ScalarOp::lt, {d, num(0)}), num(-1), num(0)));
  if (order == 0) return num(0);
  if (order == 1) return sign;
  if (order == 2) return when_not_zero(norm, b.div(d, norm));
  if (std::isinf(order)) return b.where(b.op(ScalarOp::eq, {size, norm}), sign, num(0));
  ExprId power = b.op(ScalarOp::pow, {b.div(size, norm), num(order - 1)});
  return when_not_zero(norm, when_not_zero(d, b.mul(sign, power)));
}

void add_distance_gradients(OpTable& ops) {
  lowered(ops, "_cdist_backward.default",
          [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
            LoopValue grad = call.tensor("grad"), x = call.tensor("x1"), y = call.tensor("x2"),
                      norm = call.tensor("cdist");
            const double order = call.number("p");
            const DType type = accumulate_type(x.dtype);
            const SymList lead(grad.sizes.begin(), grad.sizes.end() - 2);
            auto spread = [&](const LoopValue& v) {
              SymList sizes = lead;
              sizes.insert(sizes.end(), v.sizes.end() - 2, v.sizes.end());
              return b.broadcast(v, sizes);
            };
            x = spread(x), y = spread(y), norm = spread(norm);
            SymList sizes = x.sizes;
            sizes.push_back(y.sizes[y.sizes.size() - 2]);
            LoopBuilder* p = &b;
            LoopValue terms = b.from(type, sizes, [=](const Index& i) {
              const size_t row = i.size() - 3;
              Index xi(i.begin(), i.end() - 1), yi = xi, gi = xi;
              yi[row] = i.back();
              gi[row + 1] = i.back();
              ExprId d = p->sub(p->cvt(x.at(xi), type), p->cvt(y.at(yi), type));
              return p->mul(p->cvt(grad.at(gi), type), norm_slope(*p, order, d, p->cvt(norm.at(gi), type), type));
            });
            return Values{b.reduce(ReduceOp::sum, terms, {x.rank()}, false, type, x.dtype, "")};
          })
      .sample("aten._cdist_backward.default(f32[2,4,5], f32[2,4,3], f32[2,5,3], 2.0, f32[2,4,5])")
      .sample("aten._cdist_backward.default(f32[4,5], f32[4,3], f32[5,3], 1.0, f32[4,5])");
  // Row i has the pairs (j, i) with j < i and (i, j) with j > i; those of row i begin at i (2n - i - 1) / 2.
  lowered(ops, "_pdist_backward.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue grad = call.tensor("grad"), x = call.tensor("self"), norm = call.tensor("pdist");
    const double order = call.number("p");
    const DType type = accumulate_type(x.dtype);
    const Sym n = x.sizes[0];
    LoopBuilder* p = &b;
    LoopValue terms = b.from(type, {n, x.sizes[1], n}, [=](const Index& i) {
      ExprId low = p->op(ScalarOp::min, {i[0], i[2]}), high = p->op(ScalarOp::max, {i[0], i[2]});
      ExprId twice = p->mul(low, p->sub(p->index(2 * n - 1), low));
      ExprId begin = p->op(ScalarOp::floordiv, {twice, int_expr(*p, 2)});
      ExprId pair = p->sub(p->add(begin, p->sub(high, low)), int_expr(*p, 1));
      ExprId d = p->sub(p->cvt(x.at({i[0], i[1]}), type), p->cvt(x.at({i[2], i[1]}), type));
      ExprId slope = norm_slope(*p, order, d, p->cvt(norm.at({pair}), type), type);
      ExprId same = p->op(ScalarOp::eq, {i[0], i[2]});
      return p->where(same, number_expr(*p, 0, type), p->mul(p->cvt(grad.at({pair}), type), slope));
    });
    return Values{b.reduce(ReduceOp::sum, terms, {2}, false, type, x.dtype, "")};
  }).sample("aten._pdist_backward.default(f32[6], f32[4,3], 2.0, f32[6])");
}

// ------------------------------------------------------------------------------------------------------------ margins

// A loss's gradient for each row, the mean's share of it where that is what is wanted.
ExprId row_gradient(LoopBuilder& b, const LowerCall& call, const LoopValue& grad, ExprId row, const Sym& rows,
                    DType type) {
  const int64_t reduction = call.constant("reduction");
  ExprId g = b.cvt(grad.at(grad.rank() == 0 ? Index{} : Index{row}), type);
  return reduction == 1 ? b.div(g, b.cvt(b.index(rows), type)) : g;
}

Result<Values> multi_margin_backward(LoopBuilder& b, const LowerCall& call) {
  LoopValue grad = call.tensor("grad_output"), x = call.tensor("self"), target = call.tensor("target");
  const SymList shape = x.sizes;
  while (x.rank() < 2) x = b.unsqueeze(x, 0);
  if (target.rank() == 0) target = b.unsqueeze(target, 0);
  std::optional<LoopValue> weight;
  if (is_tensor(call, "weight")) weight = call.tensor("weight");
  const double power = call.number("p"), margin = call.number("margin");
  const DType type = accumulate_type(x.dtype);
  const Sym rows = x.sizes[0], classes = x.sizes[1];
  LoopBuilder* p = &b;
  auto kept = std::make_shared<LowerCall>(call);
  auto num = [=](double v) { return number_expr(*p, v, type); };
  // By the score of a class that is no target; the target's is minus their sum.
  LoopValue slopes = b.materialize(
      b.from(
          type, x.sizes,
          [=](const Index& i) {
            ExprId t = checked_index(*p, target.at({i[0]}), classes);
            ExprId z = p->add(p->sub(num(margin), p->cvt(x.at({i[0], t}), type)), p->cvt(x.at(i), type));
            ExprId h = power == 2 ? p->mul(z, num(2)) : num(1);
            if (weight) h = p->mul(h, p->cvt(weight->at({t}), type));
            h = p->mul(p->div(h, p->cvt(p->index(classes), type)), row_gradient(*p, *kept, grad, i[0], rows, type));
            ExprId counts = p->op(ScalarOp::land, {p->op(ScalarOp::gt, {z, num(0)}), p->op(ScalarOp::ne, {t, i[1]})});
            return p->where(counts, h, num(0));
          }),
      ".slopes");
  LoopValue sums = b.reduce(ReduceOp::sum, slopes, {1}, true, type, type, ".sum");
  LoopValue y = b.from(x.dtype, x.sizes, [=](const Index& i) {
    ExprId t = checked_index(*p, target.at({i[0]}), classes);
    ExprId other = p->op(ScalarOp::neg, {sums.at({i[0], int_expr(*p, 0)})});
    return p->where(p->op(ScalarOp::eq, {t, i[1]}), other, slopes.at(i));
  });
  return Values{b.reshape(y, shape)};
}

void add_margin_gradients(OpTable& ops) {
  lowered(ops, "multi_margin_loss_backward.default", multi_margin_backward)
      .sample("aten.multi_margin_loss_backward.default(f32[], f32[3,4], i64[3], 1, 1.0, none, 1)")
      .sample("aten.multi_margin_loss_backward.default(f32[3], f32[3,4], i64[3], 2, 0.5, f32[4], 0)");
  // The loss, and which classes are targets.
  compose(ops, "multilabel_margin_loss_forward.default", [](Compose& c) -> Composed {
    LoopValue loss = c("multilabel_margin_loss.default", {c["self"], c["target"], c["reduction"]});
    LoopValue x = c.tensor("self"), target = c.tensor("target");
    const SymList shape = target.sizes;
    while (target.rank() < 2) target = c.b.unsqueeze(target, 0);
    const Sym classes = target.sizes[1];
    LoopBuilder* p = &c.b;
    LoopValue ends = c.b.from(DType::i64, target.sizes, [=](const Index& i) {
      ExprId end = p->op(ScalarOp::lt, {p->cvt(target.at(i), DType::i64), int_expr(*p, 0)});
      return p->where(end, i[1], p->index(classes));
    });
    LoopValue count = c.b.reduce(ReduceOp::min, ends, {1}, false, DType::i64, DType::i64, ".count");
    LoopValue hits = c.b.from(DType::b8, {target.sizes[0], classes, classes}, [=](const Index& i) {
      ExprId valid = p->op(ScalarOp::lt, {i[2], count.at({i[0]})});
      return p->op(ScalarOp::land, {valid, p->op(ScalarOp::eq, {p->cvt(target.at({i[0], i[2]}), DType::i64), i[1]})});
    });
    LoopValue is_target = c.b.reduce(ReduceOp::any, hits, {2}, false, DType::b8, DType::b8, ".targets");
    return Values{loss, c.b.reshape(c.b.convert(is_target, x.dtype), shape)};
  }).sample("aten.multilabel_margin_loss_forward.default(f32[2,4], i64[2,4], 1)");
}

// ------------------------------------------------------------------------------------------------- bags of embeddings

// To the rows that each bag read; for a maximum to those that were greatest.
Result<Values> bags_backward(LoopBuilder& b, const LowerCall& call) {
  LoopValue grad = call.tensor("grad"), indices = call.tensor("indices"), offsets = call.tensor("offsets"),
            sizes = call.tensor("bag_size"), most = call.tensor("maximum_indices");
  if (call.flag("scale_grad_by_freq")) return fail(Kind::unsupported_op, "`{}` scaled by frequency", call.op());
  if (call.flag("sparse")) return fail(Kind::unsupported_op, "`{}` with a sparse gradient", call.op());
  const int64_t mode = call.constant("mode");
  const Sym rows = call.integer("num_weights"), n = indices.sizes[0], width = grad.sizes[1], bags = grad.sizes[0];
  const Sym padding = call.integer("padding_idx");
  const DType type = accumulate_type(grad.dtype);
  std::optional<LoopValue> scales;
  if (is_tensor(call, "per_sample_weights")) scales = call.tensor("per_sample_weights");
  LoopBuilder* p = &b;
  LoopValue begun = b.from(DType::i64, {n, offsets.sizes[0]}, [=](const Index& i) {
    return p->cvt(p->op(ScalarOp::le, {p->cvt(offsets.at({i[1]}), DType::i64), i[0]}), DType::i64);
  });
  LoopValue place = b.reduce(ReduceOp::sum, begun, {1}, false, DType::i64, DType::i64, ".bags");
  auto bag_of = [=](ExprId at) { return p->sub(place.at({at}), int_expr(*p, 1)); };
  LoopValue zero = b.full({width, rows}, number_expr(b, 0, type), type);
  LoopValue y = mode == 2
                    ? scattered(
                          b, zero, {width, bags},
                          [=](const Index& i) {
                            ExprId full = p->op(ScalarOp::gt, {p->cvt(sizes.at({i[1]}), DType::i64), int_expr(*p, 0)});
                            return p->where(full, p->cvt(most.at({i[1], i[0]}), DType::i64), int_expr(*p, -1));
                          },
                          [=](const Index& i) {
                            return p->cvt(grad.at({i[1], i[0]}), type);
                          },
                          Join::add, true)
                    : scattered(
                          b, zero, {width, n},
                          [=](const Index& i) {
                            ExprId row = checked_index(*p, indices.at({i[1]}), rows);
                            return p->where(p->op(ScalarOp::eq, {row, p->index(padding)}), int_expr(*p, -1), row);
                          },
                          [=](const Index& i) {
                            ExprId bag = bag_of(i[1]), v = p->cvt(grad.at({bag, i[0]}), type);
                            if (scales) v = p->mul(v, p->cvt(scales->at({i[1]}), type));
                            return mode == 1 ? p->div(v, p->cvt(sizes.at({bag}), type)) : v;
                          },
                          Join::add, true);
  return Values{b.convert(b.transpose(y, 0, 1), grad.dtype)};
}

void add_bag_gradients(OpTable& ops) {
  lowered(ops, "_embedding_bag_backward.default", bags_backward);
  // By the weight of each sample: its row of the table times its bag's gradient.
  lowered(ops, "_embedding_bag_per_sample_weights_backward.default",
          [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
            LoopValue grad = call.tensor("grad"), weight = call.tensor("weight"), indices = call.tensor("indices"),
                      offsets = call.tensor("offsets");
            const Sym padding = call.integer("padding_idx"), n = indices.sizes[0];
            const DType type = accumulate_type(grad.dtype);
            LoopBuilder* p = &b;
            LoopValue begun = b.from(DType::i64, {n, offsets.sizes[0]}, [=](const Index& i) {
              return p->cvt(p->op(ScalarOp::le, {p->cvt(offsets.at({i[1]}), DType::i64), i[0]}), DType::i64);
            });
            LoopValue place = b.reduce(ReduceOp::sum, begun, {1}, false, DType::i64, DType::i64, ".bags");
            LoopValue terms = b.from(type, {n, grad.sizes[1]}, [=](const Index& i) {
              ExprId row = checked_index(*p, indices.at({i[0]}), weight.sizes[0]);
              ExprId bag = p->sub(place.at({i[0]}), int_expr(*p, 1));
              ExprId v = p->mul(p->cvt(grad.at({bag, i[1]}), type), p->cvt(weight.at({row, i[1]}), type));
              return p->where(p->op(ScalarOp::eq, {row, p->index(padding)}), number_expr(*p, 0, type), v);
            });
            return Values{b.reduce(ReduceOp::sum, terms, {1}, false, type, grad.dtype, "")};
          });
}

// -------------------------------------------------------------------------------------------------- weights and masks

void add_other_gradients(OpTable& ops) {
  // w = v g / |v|: dg = sum(dw v) / |v|, dv = g / |v| (dw - v sum(dw v) / |v|^2); norms over all dims but `dim`.
  compose(ops, "_weight_norm_interface_backward.default", [](Compose& c) -> Composed {
    LoopValue grad = c.tensor("grad_w"), v = c.tensor("saved_v"), g = c.tensor("saved_g"),
              norm = c.tensor("saved_norms");
    const DType type = accumulate_type(v.dtype);
    grad = c.to(grad, type), v = c.to(v, type), g = c.to(g, type), norm = c.to(norm, type);
    const int64_t dim = c.call.dim("dim", v.rank());
    SymList others, shape(static_cast<size_t>(v.rank()), Sym(1));
    for (int64_t d = 0; d < v.rank(); ++d)
      if (d != dim) others.push_back(d);
    shape[static_cast<size_t>(dim)] = v.sizes[static_cast<size_t>(dim)];
    norm = c("reshape.default", {norm, shape});
    LoopValue inner = c("sum.dim_IntList", {c.mul(grad, v), others, true});
    LoopValue across = c.div(inner, c.mul(norm, norm));
    LoopValue dv = c.mul(c.div(g, norm), c.sub(grad, c.mul(v, across)));
    return Values{c.to(dv, c.tensor("saved_v").dtype), c.to(c.div(inner, norm), c.tensor("saved_g").dtype)};
  }).sample("aten._weight_norm_interface_backward.default(f32[4,3,2], f32[4,3,2], f32[4,1,1], f32[4,1,1], 0)");
  // What the mask let through, in order, then zeros.
  lowered(ops, "masked_scatter_backward.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue grad = call.tensor("grad_output"), mask = b.broadcast(call.tensor("mask"), grad.sizes);
    const SymList sizes = call.integers("sizes");
    const Sym n = product(grad.sizes), m = product(sizes);
    LoopBuilder* p = &b;
    LoopValue flat = b.reshape(mask, {n}), values = b.reshape(grad, {n});
    LoopValue ones = b.from(DType::i64, {n}, [=](const Index& i) { return p->cvt(flat.at(i), DType::i64); });
    LoopValue count = b.materialize(b.scan(ReduceOp::sum, ones, 0, DType::i64, DType::i64), ".count");
    LoopValue y = scattered(
        b, b.full({1, m}, number_expr(b, 0, grad.dtype), grad.dtype), {1, n},
        [=](const Index& i) {
          ExprId place = p->sub(count.at({i[1]}), int_expr(*p, 1));
          ExprId fits = p->op(ScalarOp::land, {flat.at({i[1]}), p->op(ScalarOp::lt, {place, p->index(m)})});
          return p->where(fits, place, int_expr(*p, -1));
        },
        [=](const Index& i) { return values.at({i[1]}); }, Join::set, true);
    return Values{b.reshape(y, sizes)};
  }).sample("aten.masked_scatter_backward.default(f32[3,4], bool[3,4], [12])");
}

}  // namespace

void add_composed_gradient_ops(OpTable& ops) {
  add_distance_gradients(ops);
  add_margin_gradients(ops);
  add_bag_gradients(ops);
  add_other_gradients(ops);
}

}  // namespace toroid
