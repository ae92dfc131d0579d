// Arithmetic and reductions that are made of other ops, and small linear algebra by plain products.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Args = std::vector<ExprId>;
using Values = std::vector<LoopValue>;
void add_pointwise(OpTable& ops) {
  // 0 below zero (and for NaN), 1 above, `values` at it.
  add_map(ops, "aten.heaviside.default", {"self", "values"}, Out::promoted, [](const MapCall& m, const Args& x) {
    LoopBuilder& b = m.b;
    ExprId zero = m.number(0), one = m.number(1);
    if (is_bool(m.type)) return b.where(x[0], one, x[1]);
    ExprId side = b.where(b.op(ScalarOp::gt, {x[0], zero}), one, zero);
    return b.where(b.op(ScalarOp::eq, {x[0], zero}), x[1], side);
  }).sample("aten.heaviside.default(f32[4,5], f32[5])");
  for (bool positive : {true, false})
    add_map(ops, positive ? "aten.isposinf.default" : "aten.isneginf.default", {"self"}, Out::boolean,
            [positive](const MapCall& m, const Args& x) {
              if (!is_float(m.type)) return m.b.pool().constant(0, DType::b8);
              return m.b.op(ScalarOp::eq, {x[0], m.number(positive ? INFINITY : -INFINITY)});
            })
        .sample(positive ? "aten.isposinf.default(f32[4])" : "aten.isneginf.default(f32[4])");
  // |a - b| <= atol + rtol |b|, or equal.
  add_map(ops, "aten.isclose.default", {"self", "other"}, Out::boolean,
          [](const MapCall& m, const Args& x) {
            LoopBuilder& b = m.b;
            ExprId equal = b.op(ScalarOp::eq, {x[0], x[1]});
            if (is_bool(m.type)) return equal;
            const DType real = is_float(m.type) ? m.type : DType::f32;
            if (m.call.flag("equal_nan") && is_float(m.type))
              equal =
                  b.op(ScalarOp::lor,
                       {equal, b.op(ScalarOp::land, {b.op(ScalarOp::isnan, {x[0]}), b.op(ScalarOp::isnan, {x[1]})})});
            if (m.call.number("rtol") == 0 && m.call.number("atol") == 0) return equal;
            ExprId p = b.cvt(x[0], real), q = b.cvt(x[1], real);
            ExprId allowed = b.add(number_expr(b, m.call.number("atol"), real),
                                   b.op(ScalarOp::abs, {b.mul(number_expr(b, m.call.number("rtol"), real), q)}));
            ExprId gap = b.op(ScalarOp::abs, {b.sub(p, q)});
            ExprId finite = b.op(ScalarOp::lt, {gap, number_expr(b, INFINITY, real)});
            return b.op(ScalarOp::lor, {equal, b.op(ScalarOp::land, {finite, b.op(ScalarOp::le, {gap, allowed})})});
          })
      .sample("aten.isclose.default(f32[4,5], f32[4,5], 0.5)")
      .sample("aten.isclose.default(i64[4], i64[4])");
  for (const char* form : {"Tensor_Tensor", "Tensor_Scalar", "Scalar"})
    lowered(ops, format("float_power.{}", form),
            [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              auto complex = [&](const char* name) {
                return is_tensor(call, name) ? is_complex(call.type(name).dtype) : call.scalar_category(name) == 3;
              };
              const DType type = complex("self") || complex("exponent") ? DType::c128 : DType::f64;
              LoopValue x = operand(b, call, "self", type), y = operand(b, call, "exponent", type);
              TD_TRY(SymList sizes, broadcast_sizes(x.sizes, y.sizes));
              LoopBuilder* p = &b;
              return Values{b.map({x, y}, sizes, type, type, [p](const Args& v) {
                return p->op(ScalarOp::pow, {v[0], v[1]});
              })};
            })
        .sample(format("aten.float_power.{}({}, {})", form, *form == 'S' ? "2" : "f32[4,5]",
                       std::string(form) == "Tensor_Scalar" ? "3" : "f32[5]"));
  // log2(2^a + 2^b); equal infinities stay.
  add_map(ops, "aten.logaddexp2.default", {"self", "other"}, Out::floating, [](const MapCall& m, const Args& x) {
    LoopBuilder& b = m.b;
    ExprId high = b.op(ScalarOp::max, {x[0], x[1]});
    ExprId gap = b.op(ScalarOp::neg, {b.op(ScalarOp::abs, {b.sub(x[0], x[1])})});
    ExprId same = b.op(ScalarOp::land, {b.op(ScalarOp::isinf, {x[0]}), b.op(ScalarOp::eq, {x[0], x[1]})});
    ExprId tail = b.mul(b.op(ScalarOp::log1p, {b.op(ScalarOp::exp2, {gap})}), m.number(1 / M_LN2));
    return b.where(same, x[0], b.add(high, tail));
  }).sample("aten.logaddexp2.default(f32[4,5], f32[5])");
}

// ------------------------------------------------------------------------------------------------------ reductions

SymList other_dims(int64_t rank, int64_t dim) {
  SymList dims;
  for (int64_t d = 0; d < rank; ++d)
    if (d != dim) dims.push_back(d);
  return dims;
}

// A norm of the matrices on two dims.
LoopValue matrix_norm(Compose& c, const LoopValue& x, double order, int64_t rows, int64_t columns, bool keepdim) {
  if (order == 2 || order == -2) {
    if (!OpTable::all().find("aten.linalg_svdvals.default")) c.refuse("a norm by singular values");
    LoopValue moved = c("movedim.intlist", {x, SymList{rows, columns}, SymList{-2, -1}});
    LoopValue values = c("linalg_svdvals.default", {moved});
    LoopValue y = c(order > 0 ? "amax.default" : "amin.default", {values, SymList{-1}});
    if (!keepdim) return y;
    for (int64_t d : {std::min(rows, columns), std::max(rows, columns)}) y = c("unsqueeze.default", {y, d});
    return y;
  }
  const bool by_rows = std::isinf(order);
  // Sums of absolute values along one dim, then the greatest or least.
  int64_t summed = by_rows ? columns : rows, rest = by_rows ? rows : columns;
  LoopValue sums = c("sum.dim_IntList", {c("abs.default", {x}), SymList{summed}, keepdim});
  if (!keepdim && rest > summed) --rest;
  return c(order > 0 ? "amax.default" : "amin.default", {sums, SymList{rest}, keepdim});
}

LoopValue nuclear_norm(Compose& c, const LoopValue& x, int64_t rows, int64_t columns, bool keepdim) {
  if (!OpTable::all().find("aten.linalg_svdvals.default")) c.refuse("a norm by singular values");
  LoopValue moved = c("movedim.intlist", {x, SymList{rows, columns}, SymList{-2, -1}});
  LoopValue y = c("sum.dim_IntList", {c("linalg_svdvals.default", {moved}), SymList{-1}});
  if (!keepdim) return y;
  for (int64_t d : {std::min(rows, columns), std::max(rows, columns)}) y = c("unsqueeze.default", {y, d});
  return y;
}

void add_nuclear_norms(OpTable& ops) {
  compose(ops, "nuclear_norm.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self");
    if (x.rank() != 2) c.refuse("the norm of what is no matrix");
    return nuclear_norm(c, x, 0, 1, c.call.flag("keepdim"));
  }).sample("aten.nuclear_norm.default(f32[4,3], True)");
  compose(ops, "nuclear_norm.dim", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self");
    std::vector<int64_t> dims;
    for (const Sym& d : c.call.integers("dim")) dims.push_back(d.value() < 0 ? d.value() + x.rank() : d.value());
    if (dims.size() != 2) c.refuse("the norm over other than two dims");
    return nuclear_norm(c, x, dims[0], dims[1], c.call.flag("keepdim"));
  }).sample("aten.nuclear_norm.dim(f32[2,4,3], [0, 2])");
}

std::vector<int64_t> given_dims(const Compose& c, int64_t rank) {
  std::vector<int64_t> dims;
  for (const Sym& d : c.call.integers("dim")) dims.push_back(d.value() < 0 ? d.value() + rank : d.value());
  return dims;
}

void add_norms(OpTable& ops) {
  for (bool text : {false, true}) {
    compose(ops, text ? "linalg_norm.ord_str" : "linalg_norm.default", [text](Compose& c) -> Composed {
      LoopValue x = c.tensor("self");
      if (c.call.has("dtype")) x = c.to(x, *c.call.dtype("dtype"));
      const bool keepdim = c.call.flag("keepdim");
      if (text) {
        std::vector<int64_t> dims = c.call.has("dim") ? given_dims(c, x.rank()) : std::vector<int64_t>{0, 1};
        if (c.call.text("ord") == "nuc") return nuclear_norm(c, x, dims.at(0), dims.at(1), keepdim);
        return c("linalg_vector_norm.default", {x, 2, SymList{dims.at(0), dims.at(1)}, keepdim});
      }
      if (!c.call.has("ord")) {
        if (c.call.has("dim")) return c("linalg_vector_norm.default", {x, 2, c["dim"], keepdim});
        LoopValue y = c("linalg_vector_norm.default", {c("reshape.default", {x, SymList{-1}}), 2, None{}, false});
        return keepdim ? c("reshape.default", {y, SymList(x.sizes.size(), Sym(1))}) : y;
      }
      std::vector<int64_t> dims;
      if (c.call.has("dim"))
        dims = given_dims(c, x.rank());
      else
        for (int64_t d = 0; d < x.rank(); ++d) dims.push_back(d);
      if (dims.size() == 2) return matrix_norm(c, x, c.call.number("ord"), dims[0], dims[1], keepdim);
      return c("linalg_vector_norm.default", {x, c["ord"], SymList(dims.begin(), dims.end()), keepdim});
    }).sample(text ? "aten.linalg_norm.ord_str(f32[3,4], \"fro\")" : "aten.linalg_norm.default(f32[3,4], 1)");
    compose(ops, text ? "linalg_matrix_norm.str_ord" : "linalg_matrix_norm.default", [text](Compose& c) -> Composed {
      LoopValue x = c.tensor("self");
      if (c.call.has("dtype")) x = c.to(x, *c.call.dtype("dtype"));
      const bool keepdim = c.call.flag("keepdim");
      const std::vector<int64_t> dims = given_dims(c, x.rank());
      if (!text) return matrix_norm(c, x, c.call.number("ord"), dims.at(0), dims.at(1), keepdim);
      if (c.call.text("ord") == "nuc") return nuclear_norm(c, x, dims.at(0), dims.at(1), keepdim);
      return c("linalg_vector_norm.default", {x, 2, SymList{dims.at(0), dims.at(1)}, keepdim});
    }).sample(text ? "aten.linalg_matrix_norm.str_ord(f32[2,3,4])" : "aten.linalg_matrix_norm.default(f32[2,3,4], 1)");
  }
  compose(ops, "dist.default", [](Compose& c) -> Composed {
    return c("linalg_vector_norm.default", {c.sub(c["self"], c["other"]), c["p"]});
  }).sample("aten.dist.default(f32[3,4], f32[4], 3)");
  // Slices along dim whose norm is above the limit shrink to it.
  compose(ops, "renorm.default",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("self");
            const SymList dims = other_dims(x.rank(), c.call.dim("dim", x.rank()));
            const double limit = c.call.number("maxnorm");
            const DType type = register_type(x.dtype);
            LoopValue norm = c("linalg_vector_norm.default", {x, c["p"], dims, true}, {{"dtype", type}});
            LoopBuilder* p = &c.b;
            LoopValue factor = map1(c.b, norm, norm.dtype, norm.dtype, [p, limit, t = norm.dtype](ExprId v) {
              ExprId top = number_expr(*p, limit, t);
              return p->where(p->op(ScalarOp::gt, {v, top}), p->div(top, p->add(v, number_expr(*p, 1e-7, t))),
                              number_expr(*p, 1, t));
            });
            return c.b.map({x, factor}, x.sizes, type, x.dtype, [p](const Args& v) { return p->mul(v[0], v[1]); });
          })
      .sample("aten.renorm.default(f32[3,4,5], 2, 1, 1.5)")
      .sample("aten.renorm.default(c64[3,4,5], 2, 1, 1.5)");
  compose(ops, "nanmean.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self");
    LoopValue sum = c("nansum.default", {x, c["dim"], c["keepdim"]}, {{"dtype", c["dtype"]}});
    LoopValue good = c("logical_not.default", {c("isnan.default", {x})});
    LoopValue count = c("sum.dim_IntList", {good, c["dim"], c["keepdim"]});
    return c.div(sum, count);
  }).sample("aten.nanmean.default(f32[3,4], [1])");
}

// ---------------------------------------------------------------------------------------------------------- products

LoopValue cross(Compose& c, LoopValue x, LoopValue y, int64_t dim) {
  auto roll = [&](const LoopValue& v, int64_t by) { return c("roll.default", {v, SymList{by}, SymList{dim}}); };
  // The part 2 before is the one after the next in a circle of three.
  return c.sub(c.mul(roll(x, 2), roll(y, 1)), c.mul(roll(x, 1), roll(y, 2)));
}

void add_products(OpTable& ops) {
  for (bool linalg : {false, true})
    compose(ops, linalg ? "linalg_cross.default" : "cross.default", [linalg](Compose& c) -> Composed {
      std::vector<LoopValue> both = c.all("broadcast_tensors.default", {Values{c.tensor("self"), c.tensor("other")}});
      int64_t dim = -1;
      if (linalg || c.call.has("dim")) {
        dim = c.call.dim("dim", both[0].rank());
      } else {
        for (int64_t d = both[0].rank(); d-- > 0;)
          if (proves_eq(both[0].sizes[at(d)], 3)) dim = d;
        if (dim < 0) c.refuse("no dim of size 3");
      }
      return cross(c, both[0], both[1], dim);
    }).sample(linalg ? "aten.linalg_cross.default(f32[2,3], f32[2,3])" : "aten.cross.default(f32[3,4], f32[3,4])");
  compose(ops, "linalg_vecdot.default", [](Compose& c) -> Composed {
    LoopValue x = c("conj_physical.default", {c["x"]});
    return c("sum.dim_IntList", {c.mul(x, c["y"]), SymList{c.call.integer("dim")}});
  }).sample("aten.linalg_vecdot.default(f32[2,3], f32[2,3])");
  compose(
      ops, "tensordot.default",
      [](Compose& c) -> Composed {
        LoopValue x = c.tensor("self"), y = c.tensor("other");
        // A size of one repeats: the other's dim is summed first.
        const SymList dims_x = c.call.integers("dims_self"), dims_y = c.call.integers("dims_other");
        for (size_t i = 0; i < dims_x.size(); ++i) {
          auto size = [](const LoopValue& v, const Sym& d) {
            return v.sizes[at(d.value() < 0 ? d.value() + v.rank() : d.value())];
          };
          const bool one_x = is_one(size(x, dims_x[i])), one_y = is_one(size(y, dims_y[i]));
          auto summed = [&](const LoopValue& v, const Sym& d) {
            return c("sum.dim_IntList", {v, SymList{d}, true}, {{"dtype", v.dtype}});
          };
          if (one_x && !one_y) y = summed(y, dims_y[i]);
          if (one_y && !one_x) x = summed(x, dims_x[i]);
        }
        auto split = [&](const LoopValue& v, const char* name, bool last, SymList& free) {
          std::vector<bool> summed(at(v.rank()));
          SymList order, inner;
          Sym outer = 1, k = 1;
          for (const Sym& d : c.call.integers(name)) {
            const int64_t dim = d.value() < 0 ? d.value() + v.rank() : d.value();
            summed[at(dim)] = true;
            inner.push_back(dim);
            k *= v.sizes[at(dim)];
          }
          for (int64_t d = 0; d < v.rank(); ++d)
            if (!summed[at(d)]) {
              order.push_back(d);
              free.push_back(v.sizes[at(d)]);
              outer *= v.sizes[at(d)];
            }
          order.insert(last ? order.end() : order.begin(), inner.begin(), inner.end());
          return c("reshape.default", {c("permute.default", {v, order}), last ? SymList{outer, k} : SymList{k, outer}});
        };
        SymList sizes;
        LoopValue a = split(x, "dims_self", true, sizes), b = split(y, "dims_other", false, sizes);
        return c("reshape.default", {c("mm.default", {a, b}), sizes});
      })
      .sample("aten.tensordot.default(f32[2,3,4], f32[4,3,5], [1, 2], [1, 0])")
      .sample("aten.tensordot.default(f32[1,1,1], f32[2,1,2], [0, 1], [2, 0])")
      .sample("aten.tensordot.default(i32[1,1,1], i32[2,1,2], [0, 1], [2, 0])");
  // The sum of products of three tensors, each repeated along dims of its own.
  compose(ops, "_trilinear.default", [](Compose& c) -> Composed {
    const char* names[][2] = {{"i1", "expand1"}, {"i2", "expand2"}, {"i3", "expand3"}};
    Values factors;
    for (const auto& [name, dims] : names) {
      LoopValue x = c.tensor(name);
      for (const Sym& d : c.call.integers(dims)) x = c("unsqueeze.default", {x, d});
      factors.push_back(x);
    }
    LoopValue y = c.mul(c.mul(factors[0], factors[1]), factors[2]);
    const SymList summed = c.call.integers("sumdim");
    return summed.empty() ? y : c("sum.dim_IntList", {y, summed});
  }).sample("aten._trilinear.default(f32[2,3], f32[4,3,5], f32[2,5], [1, 3], [0], [1, 2], [2, 3])");
  // Columns x^0, x^1, …
  compose(ops, "linalg_vander.default",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("x");
            if (!is_float(x.dtype) && !is_complex(x.dtype)) x = c.to(x, DType::i64);
            if (x.rank() == 0) x = c("unsqueeze.default", {x, 0});
            const Sym n = c.call.has("N") ? c.call.integer("N") : x.sizes.back();
            LoopValue column = c("unsqueeze.default", {x, -1});
            SymList sizes = column.sizes;
            LoopValue ones = c("ones_like.default", {column});
            if (is_one(n)) return ones;
            sizes.back() = n - 1;
            LoopValue powers = c("cumprod.default", {c("expand.default", {column, sizes}), -1});
            return c("cat.default", {Values{ones, powers}, -1});
          })
      .sample("aten.linalg_vander.default(f32[2,4], N=3)")
      .sample("aten.linalg_vander.default(f32[], N=2)");
  compose(ops, "vander.default", [](Compose& c) -> Composed {
    LoopValue y = c("linalg_vander.default", {c["x"]}, {{"N", c["N"]}});
    return c.call.flag("increasing") ? y : c("flip.default", {y, SymList{-1}});
  }).sample("aten.vander.default(f32[4])");
  // In the order that needs the fewest multiplications, where sizes are known.
  compose(ops, "linalg_multi_dot.default", [](Compose& c) -> Composed {
    Values list = c.tensors("tensors");
    const bool first = list.front().rank() == 1, last = list.back().rank() == 1;
    if (first) list.front() = c("unsqueeze.default", {list.front(), 0});
    if (last) list.back() = c("unsqueeze.default", {list.back(), 1});
    const size_t n = list.size();
    std::vector<double> sizes;
    for (const LoopValue& x : list)
      sizes.push_back(x.sizes[0].is_constant() ? static_cast<double>(x.sizes[0].value()) : 64);
    sizes.push_back(list.back().sizes[1].is_constant() ? static_cast<double>(list.back().sizes[1].value()) : 64);
    std::vector<std::vector<double>> cost(n, std::vector<double>(n, 0));
    std::vector<std::vector<size_t>> cut(n, std::vector<size_t>(n, 0));
    for (size_t length = 1; length < n; ++length)
      for (size_t i = 0; i + length < n; ++i) {
        const size_t j = i + length;
        cost[i][j] = INFINITY;
        for (size_t k = i; k < j; ++k) {
          const double total = cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1];
          if (total < cost[i][j]) cost[i][j] = total, cut[i][j] = k;
        }
      }
    std::function<LoopValue(size_t, size_t)> chain = [&](size_t i, size_t j) -> LoopValue {
      if (i == j) return list[i];
      LoopValue a = chain(i, cut[i][j]), b = chain(cut[i][j] + 1, j);
      return c("mm.default", {a, b});
    };
    LoopValue y = chain(0, n - 1);
    if (last) y = c("squeeze.dim", {y, 1});
    return first ? c("squeeze.dim", {y, 0}) : y;
  }).sample("aten.linalg_multi_dot.default([f32[2,3], f32[3,4], f32[4,5]])");
  compose(ops, "chain_matmul.default", [](Compose& c) -> Composed {
    std::vector<LoopValue> list = c.tensors("matrices");
    return list.size() == 1 ? list[0] : c("linalg_multi_dot.default", {list});
  }).sample("aten.chain_matmul.default([f32[2,3], f32[3,4], f32[4,5]])");
  compose(ops, "linalg_matrix_power.default",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("self");
            int64_t n = c.call.constant("n");
            if (n < 0) {
              if (!OpTable::all().find("aten.linalg_inv.default")) c.refuse("a negative power");
              x = c("linalg_inv.default", {x});
              n = -n;
            }
            const Sym side = x.sizes.back();
            LoopBuilder* p = &c.b;
            std::optional<LoopValue> result;
            for (; n > 0; n >>= 1) {
              if (n & 1) result = result ? c("matmul.default", {*result, x}) : x;
              if (n > 1) x = c("matmul.default", {x, x});
            }
            if (result) return *result;
            return c.b.from(x.dtype, x.sizes, [=](const Index& i) {
              return p->where(p->op(ScalarOp::eq, {i[i.size() - 2], i.back()}), number_expr(*p, 1, x.dtype),
                              number_expr(*p, 0, x.dtype));
            });
          })
      .sample("aten.linalg_matrix_power.default(f32[3,3], 5)")
      .sample("aten.linalg_matrix_power.default(f32[3,3], 0)");
}

// ------------------------------------------------------------------------------------------------- points on a line

// start + i step from the nearer end; log: base to that power.
void add_lines(OpTable& ops) {
  for (bool log : {false, true})
    for (const char* form : {"default", "Tensor_Tensor", "Tensor_Scalar", "Scalar_Tensor"}) {
      const std::string name = format("{}.{}", log ? "logspace" : "linspace", form);
      if (ops.find("aten." + name)) continue;
      lowered(ops, name,
              [log](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
                const DType dtype = call.dtype("dtype").value_or(DType::f32);
                // Bounds of integers are whole; steps between them need not be.
                const DType type = is_float(dtype) ? register_type(dtype) : DType::f64;
                auto bound = [&](const char* arg) {
                  LoopValue x = operand(b, call, arg, is_tensor(call, arg) ? call.type(arg).dtype : type);
                  ExprId v = b.cvt(x.at(Index(x.sizes.size(), int_expr(b, 0))), type);
                  return is_float(dtype) ? v : b.cvt(b.cvt(v, dtype), type);
                };
                ExprId start = bound("start"), end = bound("end");
                const int64_t n = call.constant("steps");
                ExprId step = n > 1 ? b.div(b.sub(end, start), number_expr(b, static_cast<double>(n - 1), type))
                                    : number_expr(b, 0, type);
                LoopBuilder* p = &b;
                const double base = log ? call.number("base") : 0;
                return Values{b.from(dtype, {n}, [=](const Index& i) {
                  ExprId low = p->add(start, p->mul(p->cvt(i[0], type), step));
                  ExprId high = p->sub(end, p->mul(p->cvt(p->sub(int_expr(*p, n - 1), i[0]), type), step));
                  ExprId v = n == 1 ? start : p->where(p->op(ScalarOp::lt, {i[0], int_expr(*p, n / 2)}), low, high);
                  if (log) v = p->op(ScalarOp::pow, {number_expr(*p, base, type), v});
                  return p->cvt(v, dtype);
                })};
              })
          .sample(format("aten.{}({}, {}, 5)", name, *form == 'T' ? "f32[]" : "0.5",
                         std::string(form).ends_with("Tensor") ? "f32[]" : "3"));
    }
}

// ---------------------------------------------------------------------------------------------------------- distances

// The p-norm of differences along the last dim of `gap`.
LoopValue distance(LoopBuilder& b, const LoopValue& gap, double order, DType result) {
  LoopBuilder* p = &b;
  const DType type = accumulate_type(result);
  const std::vector<int64_t> last{gap.rank() - 1};
  auto num = [=](double v) { return number_expr(*p, v, type); };
  LoopValue terms = map1(b, gap, type, type, [=](ExprId v) {
    ExprId size = p->op(ScalarOp::abs, {v});
    if (order == 0) return p->where(p->op(ScalarOp::ne, {v, num(0)}), num(1), num(0));
    if (order == 1) return size;
    // The greatest difference leaves NaNs out.
    if (std::isinf(order)) return p->where(p->op(ScalarOp::isnan, {v}), num(0), size);
    return order == 2 ? p->mul(v, v) : p->op(ScalarOp::pow, {size, num(order)});
  });
  LoopValue sum = b.reduce(std::isinf(order) ? ReduceOp::max : ReduceOp::sum, terms, last, false, type, type, ".sum");
  return map1(b, sum, type, result, [=](ExprId v) {
    if (std::isinf(order)) return p->op(ScalarOp::max, {v, num(0)});
    if (order == 0 || order == 1) return v;
    return order == 2 ? p->op(ScalarOp::sqrt, {v}) : p->op(ScalarOp::pow, {v, num(1 / order)});
  });
}

void add_distances(OpTable& ops) {
  for (const char* name : {"cdist.default", "_cdist_forward.default"})
    lowered(ops, name, [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      LoopValue x = call.tensor("x1"), y = call.tensor("x2");
      TD_TRY(SymList sizes,
             broadcast_sizes(SymList(x.sizes.begin(), x.sizes.end() - 2), SymList(y.sizes.begin(), y.sizes.end() - 2)));
      const Sym rows = x.sizes[at(x.rank() - 2)], columns = y.sizes[at(y.rank() - 2)];
      sizes.insert(sizes.end(), {rows, columns, x.sizes.back()});
      LoopValue a = b.unsqueeze(x, x.rank() - 1), d = b.unsqueeze(y, y.rank() - 2);
      LoopBuilder* p = &b;
      const DType type = accumulate_type(x.dtype);
      LoopValue gap = b.map({a, d}, sizes, type, type, [p](const Args& v) { return p->sub(v[0], v[1]); });
      return Values{distance(b, gap, call.number("p"), x.dtype)};
    }).sample(format("aten.{}(f32[2,4,3], f32[5,3], 2.0, none)", name));
  // Every pair of rows once: pair k stands in row i of the upper triangle, which begins at i (2n - i - 1) / 2.
  for (const char* name : {"pdist.default", "_pdist_forward.default"})
    lowered(ops, name, [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      LoopValue x = call.tensor("self");
      const Sym n = x.sizes[0], pairs = floor_div(n * (n - 1), 2);
      LoopBuilder* p = &b;
      auto begin = [=](ExprId i) {
        ExprId twice = p->mul(i, p->sub(p->index(2 * n - 1), i));
        return p->op(ScalarOp::floordiv, {twice, int_expr(*p, 2)});
      };
      LoopValue rows = b.materialize(
          b.from(DType::i64, {pairs},
                 [=](const Index& i) {
                   ExprId k = p->cvt(i[0], DType::f64), m = p->cvt(p->index(2 * n - 1), DType::f64);
                   ExprId root =
                       p->op(ScalarOp::sqrt, {p->sub(p->mul(m, m), p->mul(number_expr(*p, 8, DType::f64), k))});
                   ExprId guess = p->cvt(p->mul(p->sub(m, root), number_expr(*p, 0.5, DType::f64)), DType::i64);
                   // The root may have come out a little too small or too great.
                   ExprId one = int_expr(*p, 1);
                   ExprId down = p->where(p->op(ScalarOp::gt, {begin(guess), i[0]}), p->sub(guess, one), guess);
                   return p->where(p->op(ScalarOp::le, {begin(p->add(down, one)), i[0]}), p->add(down, one), down);
                 }),
          ".row");
      LoopValue gap = b.from(accumulate_type(x.dtype), {pairs, x.sizes[1]}, [=](const Index& i) {
        ExprId row = rows.at({i[0]});
        ExprId column = p->add(p->add(p->sub(i[0], begin(row)), row), int_expr(*p, 1));
        return p->cvt(p->sub(x.at({row, i[1]}), x.at({column, i[1]})), accumulate_type(x.dtype));
      });
      return Values{distance(b, gap, call.number("p"), x.dtype)};
    }).sample(format("aten.{}(f32[5,3])", name));
}

}  // namespace

void add_composed_math_ops(OpTable& ops) {
  add_pointwise(ops);
  add_norms(ops);
  add_nuclear_norms(ops);
  add_products(ops);
  add_lines(ops);
  add_distances(ops);
}

}  // namespace toroid
