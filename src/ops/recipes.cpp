// Recipes that several rows share: softmax and matrix products as loops.
//
// The form that the matcher of matrix products knows: one `contract` whose body is the product of two values, each read
// at indices of the output and of k, and nothing else. Bias, scale and activation are maps around it inside the same
// tensor, so that a low-precision result rounds once.
#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

LoopValue softmax(LoopBuilder& b, const LoopValue& x, int64_t dim, DType result, bool log) {
  if (x.rank() == 0) return b.squeeze(softmax(b, b.unsqueeze(x, 0), 0, result, log), 0);
  DType compute = accumulate_type(result);
  LoopBuilder* p = &b;
  LoopValue high = b.materialize(b.reduce(ReduceOp::max, x, {dim}, true, compute, compute, ""), ".max");
  LoopValue terms = b.map({x, high}, x.sizes, compute, compute,
                          [p](const std::vector<ExprId>& v) { return p->op(ScalarOp::exp, {p->sub(v[0], v[1])}); });
  LoopValue total = b.materialize(b.reduce(ReduceOp::sum, terms, {dim}, true, compute, compute, ""), ".sum");
  return b.map({x, high, total}, x.sizes, compute, result, [p, log](const std::vector<ExprId>& v) {
    ExprId shifted = p->sub(v[0], v[1]);
    if (log) return p->sub(shifted, p->op(ScalarOp::log, {v[2]}));
    return p->div(p->op(ScalarOp::exp, {shifted}), v[2]);
  });
}

namespace {

// a[..., m, k] * b[..., k, n] summed over k, the leading dims broadcast already on read.
ExprId product_at(LoopBuilder& b, const LoopValue& x, const Index& xi, const LoopValue& w, const Index& wi) {
  return product_expr(b, x.at(xi), w.at(wi));
}

DType contract_type(DType d) { return is_float(d) ? accumulate_type(d) : d; }

}  // namespace

LoopValue matmul_nt(LoopBuilder& b, const LoopValue& x, const LoopValue& weight, const LoopValue* bias, DType result) {
  LoopBuilder* p = &b;
  DType acc = contract_type(result);
  SymList sizes(x.sizes.begin(), x.sizes.end() - 1);
  sizes.push_back(weight.sizes[0]);
  LoopValue y = b.contract(
      acc, sizes, {weight.sizes[1]},
      [p, x, weight](const Index& out, const Index& k) {
        Index xi = out;
        xi.back() = k[0];
        return product_at(*p, x, xi, weight, {out.back(), k[0]});
      },
      "");
  if (bias)
    return b.map({y, *bias}, sizes, acc, result,
                 [p, result](const std::vector<ExprId>& v) { return p->cvt(p->add(v[0], v[1]), result); });
  return map1(b, y, acc, result, [](ExprId v) { return v; });
}

LoopValue matmul(LoopBuilder& b, const LoopValue& a, const LoopValue& w, DType result) {
  LoopBuilder* p = &b;
  if (a.rank() == 1) return b.squeeze(matmul(b, b.unsqueeze(a, 0), w, result), w.rank() == 1 ? 0 : w.rank() - 2);
  if (w.rank() == 1) return b.squeeze(matmul(b, a, b.unsqueeze(w, 1), result), a.rank() - 1);
  SymList a_lead(a.sizes.begin(), a.sizes.end() - 2), w_lead(w.sizes.begin(), w.sizes.end() - 2);
  auto lead = broadcast_sizes(a_lead, w_lead);
  TD_CHECK(lead.has_value(), "matmul: {}", lead.error().text);
  SymList sizes = *lead, a_sizes = *lead, w_sizes = *lead;
  const Sym &m = a.sizes[a.sizes.size() - 2], &n = w.sizes.back(), &k = w.sizes[w.sizes.size() - 2];
  sizes.insert(sizes.end(), {m, n});
  a_sizes.insert(a_sizes.end(), {m, k});
  w_sizes.insert(w_sizes.end(), {k, n});
  // A weight without leading dims stays a matrix: it is read at [k, n] alone.
  LoopValue x = b.broadcast(a, a_sizes), y = w_lead.empty() ? w : b.broadcast(w, w_sizes);
  bool flat = w_lead.empty();
  DType acc = contract_type(result);
  LoopValue product = b.contract(
      acc, sizes, {k},
      [p, x, y, flat](const Index& out, const Index& ks) {
        Index xi = out, wi = out;
        xi.back() = ks[0];
        wi[wi.size() - 2] = ks[0];
        if (flat) wi.erase(wi.begin(), wi.end() - 2);
        return product_at(*p, x, xi, y, wi);
      },
      "");
  return map1(b, product, acc, result, [](ExprId v) { return v; });
}

}  // namespace toroid
