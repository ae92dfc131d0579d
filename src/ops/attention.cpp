// scaled_dot_product_attention as contraction, row softmax, contraction. The form that a matcher of attention looks
// for, with leading dims b… (batch and heads), query row i, key row j, all but the result in f32:
//   %r.products[b, i, j] = sum(e: q[b, i, e] * k[b, j, e])
//   %r.scores[b, i, j]   = %r.products[b, i, j] * scale, then `+ mask` or `where(keep, …, -inf)`
//   %r.max[b, i, 0]      = max(j: %r.scores[b, i, j])
//   %r.sum[b, i, 0]      = sum(j: exp(%r.scores[b, i, j] - %r.max[b, i, 0]))
//   %r.weights[b, i, j]  = exp(%r.scores - %r.max) / %r.sum, and 0 in a row where all is masked
//   %r[b, i, d]          = sum(j: %r.weights[b, i, j] * v[b, j, d])
// With grouped heads, k and v are read at head h // (query heads / key heads).
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

// x seen with `heads` heads where it has fewer: each serves a run of them.
LoopValue grouped_heads(LoopBuilder& b, const LoopValue& x, const Sym& heads) {
  size_t at = x.sizes.size() - 3;
  SymList sizes = x.sizes;
  Sym run = floor_div(heads, sizes[at]);
  sizes[at] = heads;
  LoopBuilder* p = &b;
  return b.from(x.dtype, sizes, [p, x, at, run](const Index& i) {
    Index xi = i;
    xi[at] = is_one(run) ? i[at] : p->op(ScalarOp::floordiv, {i[at], p->index(run)});
    return x.at(xi);
  });
}

SymList leading(const SymList& sizes) { return SymList(sizes.begin(), sizes.end() - 2); }

struct Attention {
  LoopValue q, k, v;
  std::optional<LoopValue> mask;
  bool causal = false;
  ExprId scale;  // in the type of the scores
  DType compute = DType::f32;
  DType result = DType::f32;
};

LoopValue attention_scores(LoopBuilder& b, const Attention& a) {
  LoopBuilder* p = &b;
  SymList sizes = leading(a.q.sizes);
  sizes.insert(sizes.end(), {a.q.sizes[a.q.sizes.size() - 2], a.k.sizes[a.k.sizes.size() - 2]});
  LoopValue products = b.contract(
      a.compute, sizes, {a.q.sizes.back()},
      [q = a.q, k = a.k, p](const Index& o, const Index& e) {
        Index qi = o, ki = o;
        qi.back() = e[0];
        ki[ki.size() - 2] = o.back();
        ki.back() = e[0];
        return p->mul(q.at(qi), k.at(ki));
      },
      ".products");
  LoopValue mask = a.mask ? b.broadcast(*a.mask, sizes) : LoopValue{};
  bool masked = a.mask.has_value();
  return b.materialize(
      b.from(a.compute, sizes,
             [p, a, products, mask, masked](const Index& i) {
               ExprId score = p->mul(products.at(i), a.scale);
               if (masked && is_bool(mask.dtype)) score = p->where(mask.at(i), score, lowest(*p, a.compute));
               if (masked && !is_bool(mask.dtype)) score = p->add(score, p->cvt(mask.at(i), a.compute));
               if (a.causal)
                 score = p->where(p->op(ScalarOp::le, {i.back(), i[i.size() - 2]}), score, lowest(*p, a.compute));
               return score;
             }),
      ".scores");
}

struct Attended {
  LoopValue result;
  LoopValue log_sum;  // of each row's exponentials
};

Attended attend(LoopBuilder& b, const LowerCall& call, const Attention& a) {
  LoopBuilder* p = &b;
  LoopValue scores = attention_scores(b, a);
  int64_t last = scores.rank() - 1;
  LoopValue high = b.reduce(ReduceOp::max, scores, {last}, true, a.compute, a.compute, ".max");
  LoopValue terms = b.map({scores, high}, scores.sizes, a.compute, a.compute,
                          [p](const std::vector<ExprId>& v) { return p->op(ScalarOp::exp, {p->sub(v[0], v[1])}); });
  LoopValue total = b.reduce(ReduceOp::sum, terms, {last}, true, a.compute, a.compute, ".sum");
  bool may_be_empty = a.mask.has_value();
  LoopValue weights = b.map({scores, high, total}, scores.sizes, a.compute, a.compute,
                            [p, may_be_empty, c = a.compute](const std::vector<ExprId>& v) {
                              ExprId w = p->div(p->op(ScalarOp::exp, {p->sub(v[0], v[1])}), v[2]);
                              if (!may_be_empty) return w;
                              return p->where(p->op(ScalarOp::eq, {v[1], lowest(*p, c)}), number_expr(*p, 0, c), w);
                            });
  weights = b.materialize(weights, ".weights");
  if (const double dropout = call.number("dropout_p"); dropout != 0)
    weights = Compose(b, call)("native_dropout.default", {weights, dropout, true});
  SymList sizes = leading(scores.sizes);
  sizes.insert(sizes.end(), {scores.sizes[scores.sizes.size() - 2], a.v.sizes.back()});
  LoopValue out = b.contract(
      a.compute, sizes, {scores.sizes.back()},
      [p, weights, v = a.v](const Index& o, const Index& j) {
        Index wi = o, vi = o;
        wi.back() = j[0];
        vi[vi.size() - 2] = j[0];
        return p->mul(weights.at(wi), v.at(vi));
      },
      "");
  SymList rows(scores.sizes.begin(), scores.sizes.end() - 1);
  LoopValue log_sum = b.from(a.compute, rows, [p, high, total](const Index& i) {
    Index at = i;
    at.push_back(int_expr(*p, 0));
    return p->add(high.at(at), p->op(ScalarOp::log, {total.at(at)}));
  });
  return {map1(b, out, a.compute, a.result, [](ExprId x) { return x; }), log_sum};
}

// Each head of keys serves a run of the queries'.
bool grouped(const Call& call) {
  if (call.schema().find_arg("enable_gqa") >= 0) return call.flag("enable_gqa");
  const TensorType &q = call.type("query"), &k = call.type("key");
  return q.rank() == 4 && !proves_eq(q.sizes[1], k.sizes[1]);
}

Result<SymList> attention_sizes(const Call& call) {
  const TensorType &q = call.type("query"), &k = call.type("key"), &v = call.type("value");
  SymList lead = leading(q.sizes);
  if (!grouped(call)) {
    TD_TRY(lead, broadcast_sizes(lead, leading(k.sizes)));
    TD_TRY(lead, broadcast_sizes(lead, leading(v.sizes)));
  }
  lead.insert(lead.end(), {q.sizes[q.sizes.size() - 2], v.sizes.back()});
  return lead;
}

// The call's operands: leading dims broadcast, the scale given or 1 / sqrt(width).
Result<Attention> attention_of(LoopBuilder& b, const LowerCall& call) {
  Attention a{.q = call.tensor("query"), .k = call.tensor("key"), .v = call.tensor("value")};
  a.result = a.q.dtype;
  a.compute = accumulate_type(a.q.dtype);
  a.causal = call.flag("is_causal");
  TD_TRY(SymList lead, attention_sizes(call));
  lead.resize(lead.size() - 2);
  if (grouped(call)) {
    const Sym& heads = a.q.sizes[a.q.sizes.size() - 3];
    a.k = grouped_heads(b, a.k, heads);
    a.v = grouped_heads(b, a.v, heads);
  }
  auto spread = [&](const LoopValue& x) {
    SymList sizes = lead;
    sizes.insert(sizes.end(), x.sizes.end() - 2, x.sizes.end());
    return b.broadcast(x, sizes);
  };
  a.q = spread(a.q), a.k = spread(a.k), a.v = spread(a.v);
  if (is_tensor(call, "attn_mask")) a.mask = call.tensor("attn_mask");
  if (call.has("scale")) {
    a.scale = call.scalar(b, "scale", a.compute);
  } else if (const Sym& width = a.q.sizes.back(); width.is_constant()) {
    a.scale = number_expr(b, 1 / std::sqrt(static_cast<double>(width.value())), a.compute);
  } else {
    a.scale = b.cvt(b.op(ScalarOp::rsqrt, {b.cvt(b.index(width), DType::f64)}), a.compute);
  }
  return a;
}

// With the logarithms of the rows' sums, as the gradient wants them.
void add_flash_attention(OpTable& ops) {
  const std::string name = "aten._scaled_dot_product_flash_attention_for_cpu";
  lowered(ops, "_scaled_dot_product_flash_attention_for_cpu.default",
          [](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
            TD_TRY(Attention a, attention_of(b, call));
            Attended y = attend(b, call, a);
            return std::vector<LoopValue>{y.result, y.log_sum};
          })
      .random_when([](const Call& call) { return call.number("dropout_p") != 0; })
      .sample(name + ".default(f32[2,2,3,4], f32[2,2,5,4], f32[2,2,5,4])")
      .sample(name + ".default(f32[2,2,5,4], f32[2,2,5,4], f32[2,2,5,4], 0.0, True)")
      .sample(name + ".default(f32[2,2,3,4], f32[2,2,5,4], f32[2,2,5,4], attn_mask=f32[2,1,3,5], scale=0.3)");
  // With P the weights: dV = P^T dO, dS = P (dO V^T - sum(dO O)) scale, dQ = dS K, dK = dS^T Q.
  compose(ops, "_scaled_dot_product_flash_attention_for_cpu_backward.default",
          [](Compose& c) -> Composed {
            LoopValue q = c.tensor("query"), k = c.tensor("key"), v = c.tensor("value"), grad = c.tensor("grad_out");
            if (c.call.number("dropout_p") != 0) c.refuse("dropout");
            if (q.rank() != 4 || !proves_eq(q.sizes[1], k.sizes[1])) c.refuse("heads that share keys");
            const DType type = accumulate_type(q.dtype), stored = q.dtype;
            double scale = 0;
            if (c.call.has("scale"))
              scale = c.call.number("scale");
            else if (q.sizes.back().is_constant())
              scale = 1 / std::sqrt(static_cast<double>(q.sizes.back().value()));
            else
              c.refuse("a symbolic width");
            auto wide = [&](const char* name) { return c.to(c.tensor(name), type); };
            q = c.to(q, type), k = c.to(k, type), v = c.to(v, type), grad = c.to(grad, type);
            auto turned = [&](const LoopValue& x) { return c("transpose.int", {x, -2, -1}); };
            auto product = [&](const LoopValue& x, const LoopValue& y) { return c("matmul.default", {x, y}); };
            LoopValue scores = c.mul(product(q, turned(k)), scale);
            LoopBuilder* p = &c.b;
            std::optional<LoopValue> mask;
            if (is_tensor(c.call, "attn_mask")) mask = c.b.broadcast(c.tensor("attn_mask"), scores.sizes);
            const bool causal = c.call.flag("is_causal");
            LoopValue sums = wide("logsumexp");
            LoopValue weights = c.b.materialize(c.b.from(type, scores.sizes,
                                                         [=](const Index& i) {
                                                           ExprId s = scores.at(i), none = lowest(*p, type);
                                                           if (mask && is_bool(mask->dtype))
                                                             s = p->where(mask->at(i), s, none);
                                                           if (mask && !is_bool(mask->dtype))
                                                             s = p->add(s, p->cvt(mask->at(i), type));
                                                           if (causal)
                                                             s = p->where(p->op(ScalarOp::le, {i[3], i[2]}), s, none);
                                                           ExprId sum = sums.at({i[0], i[1], i[2]});
                                                           ExprId w = p->op(ScalarOp::exp, {p->sub(s, sum)});
                                                           ExprId empty = p->op(ScalarOp::eq, {s, none});
                                                           return p->where(empty, number_expr(*p, 0, type), w);
                                                         }),
                                                ".weights");
            LoopValue inner = c("sum.dim_IntList", {c.mul(grad, wide("out")), SymList{-1}, true});
            LoopValue slope = c.mul(c.mul(weights, c.sub(product(grad, turned(v)), inner)), scale);
            return std::vector<LoopValue>{c.to(product(slope, k), stored), c.to(product(turned(slope), q), stored),
                                          c.to(product(turned(weights), grad), stored)};
          })
      .sample(name +
              "_backward.default(f32[2,2,3,4], f32[2,2,3,4], f32[2,2,5,4], f32[2,2,5,4], f32[2,2,3,4], f32[2,2,3], "
              "0.0, False)")
      .sample(name +
              "_backward.default(f32[2,2,5,4], f32[2,2,5,4], f32[2,2,5,4], f32[2,2,5,4], f32[2,2,5,4], f32[2,2,5], "
              "0.0, True, scale=0.3)")
      .sample(name +
              "_backward.default(f32[2,2,3,4], f32[2,2,3,4], f32[2,2,5,4], f32[2,2,5,4], f32[2,2,3,4], f32[2,2,3], "
              "0.0, False, attn_mask=f32[2,1,3,5])");
}

}  // namespace

void add_attention_ops(OpTable& ops) {
  add_flash_attention(ops);
  ops.add("aten.scaled_dot_product_attention.default")
      .infer([](const Call& call) -> Types {
        if (call.type("query").rank() < 2) return fail(Kind::bad_graph, "`{}` of a vector", call.op());
        TD_TRY(SymList sizes, attention_sizes(call));
        // Eager's fast path leaves heads and rows swapped in memory, its plain path does not.
        return one(unclaimed_type(call, call.type("query").dtype, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        TD_TRY(Attention a, attention_of(b, call));
        return attend(b, call, a).result;
      })
      .random_when([](const Call& call) { return call.number("dropout_p") != 0; })
      .sample("aten.scaled_dot_product_attention.default(f32[2,2,3,4], f32[2,2,5,4], f32[2,2,5,6])")
      .sample("aten.scaled_dot_product_attention.default(f32[2,2,5,4], f32[2,2,5,4], f32[2,2,5,4], none, 0.0, True)")
      .sample("aten.scaled_dot_product_attention.default(f32[2,2,3,4], f32[2,2,5,4], f32[2,2,5,4], bool[2,1,3,5])")
      .sample(
          "aten.scaled_dot_product_attention.default(f32[2,2,3,4], f32[2,2,5,4], f32[2,2,5,4], f32[3,5], scale=0.3)")
      .sample("aten.scaled_dot_product_attention.default(f32[2,4,3,4], f32[2,2,5,4], f32[2,2,5,4], enable_gqa=True)")
      .sample("aten.scaled_dot_product_attention.default(bf16[2,2,3,4], bf16[2,2,5,4], bf16[2,2,5,4])");
}

}  // namespace toroid
