// What follows from factorisations by other rows: condition numbers, inverses and solutions of tensors seen as
// matrices.
#include <algorithm>
#include <cmath>

#include "ops/compose.h"
#include "ops/linalg.h"

namespace toroid {
namespace {

SymList part(const SymList& sizes, size_t begin, size_t end) {
  return {sizes.begin() + static_cast<ptrdiff_t>(begin), sizes.begin() + static_cast<ptrdiff_t>(end)};
}

// norm(a) norm(a^-1), which is infinite for a singular matrix; in the 2-norm from singular values.
void add_condition_numbers(OpTable& ops) {
  auto by_inverse = [](Compose& c, const std::string& norm, Passed order) -> Composed {
    std::vector<LoopValue> inverse = c.all("linalg_inv_ex.default", {c["self"]});
    LoopValue size = c(norm, {c["self"], order}), other = c(norm, {inverse[0], order}), info = inverse[1];
    LoopBuilder* p = &c.b;
    return c.b.from(size.dtype, size.sizes, [=](const Index& i) {
      const ExprId x = size.at(i);
      const ExprId singular = truth(*p, info.at(i));
      return p->where(singular, number_expr(*p, INFINITY, p->type(x)), p->mul(x, other.at(i)));
    });
  };
  compose(ops, "linalg_cond.default",
          [by_inverse](Compose& c) -> Composed {
            const double order = c.call.has("p") ? c.call.number("p") : 2;
            if (std::abs(order) != 2) return by_inverse(c, "linalg_matrix_norm.default", order);
            LoopValue s = c("linalg_svdvals.default", {c["self"]});
            LoopValue most = c("select.int", {s, -1, 0}), least = c("select.int", {s, -1, -1});
            LoopValue ratio = order > 0 ? c.div(most, least) : c.div(least, most);
            LoopBuilder* p = &c.b;
            return c.b.from(ratio.dtype, ratio.sizes, [=](const Index& i) {
              // A matrix of zeros is as singular as can be, and 0 / 0 says nothing.
              const ExprId x = ratio.at(i), top = most.at(i);
              const ExprId nothing = p->op(ScalarOp::eq, {top, number_expr(*p, 0, p->type(top))});
              return order > 0 ? p->where(nothing, number_expr(*p, INFINITY, p->type(x)), x) : x;
            });
          })
      .sample("aten.linalg_cond.default(f32[2,3,3])")
      .sample("aten.linalg_cond.default(f32[3,3], 1)")
      .sample("aten.linalg_cond.default(f32[3,4], -2)");
  compose(ops, "linalg_cond.p_str", [by_inverse](Compose& c) -> Composed {
    if (c.call.text("p") != "nuc") return by_inverse(c, "linalg_matrix_norm.str_ord", c["p"]);
    LoopValue inverse = c("linalg_inv.default", {c["self"]});
    return c.mul(c("linalg_matrix_norm.str_ord", {c["self"], "nuc"}),
                 c("linalg_matrix_norm.str_ord", {inverse, "nuc"}));
  }).sample("aten.linalg_cond.p_str(f32[3,3], \"fro\")");
}

// Singular values above one absolute bound.
void add_ranks(OpTable& ops) {
  compose(ops, "linalg_matrix_rank.default", [](Compose& c) -> Composed {
    return c("linalg_matrix_rank.atol_rtol_float", {c["self"]},
             {{"atol", c["tol"]}, {"rtol", 0.0}, {"hermitian", c["hermitian"]}});
  }).sample("aten.linalg_matrix_rank.default(f32[2,4,3], 0.5)");
  compose(ops, "linalg_matrix_rank.tol_tensor", [](Compose& c) -> Composed {
    LoopValue tol = c.tensor("tol");
    LoopValue none = c.b.full({}, c.b.number(0, tol.dtype), tol.dtype);
    return c("linalg_matrix_rank.atol_rtol_tensor", {c["input"]},
             {{"atol", tol}, {"rtol", none}, {"hermitian", c["hermitian"]}});
  }).sample("aten.linalg_matrix_rank.tol_tensor(f32[4,3], f32[])");
}

void add_tensor_systems(OpTable& ops) {
  // The first `ind` dims are rows, the others columns.
  compose(ops, "linalg_tensorinv.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self");
    const auto split = static_cast<size_t>(c.call.constant("ind"));
    if (split == 0 || split > x.sizes.size()) c.refuse("ind is out of range");
    const SymList rows = part(x.sizes, 0, split), columns = part(x.sizes, split, x.sizes.size());
    LoopValue flat = c("reshape.default", {x, SymList{product(rows), product(columns)}});
    SymList sizes = columns;
    sizes.insert(sizes.end(), rows.begin(), rows.end());
    return c("reshape.default", {c("linalg_inv.default", {flat}), sizes});
  }).sample("aten.linalg_tensorinv.default(f32[2,3,6])");
  // x with tensordot(self, x, its rank) = other; `dims` are moved to the end of self first.
  compose(ops, "linalg_tensorsolve.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), y = c.tensor("other");
    if (c.call.has("dims")) {
      SymList order;
      const std::vector<int64_t> moved = [&] {
        std::vector<int64_t> list;
        for (const Sym& d : c.call.integers("dims")) list.push_back(d.value() < 0 ? d.value() + x.rank() : d.value());
        return list;
      }();
      for (int64_t d = 0; d < x.rank(); ++d)
        if (std::find(moved.begin(), moved.end(), d) == moved.end()) order.push_back(d);
      order.insert(order.end(), moved.begin(), moved.end());
      x = c("permute.default", {x, order});
    }
    const SymList sizes = part(x.sizes, y.sizes.size(), x.sizes.size());
    LoopValue matrix = c("reshape.default", {x, SymList{product(y.sizes), product(sizes)}});
    LoopValue right = c("reshape.default", {y, SymList{product(y.sizes)}});
    return c("reshape.default", {c("linalg_solve.default", {matrix, right}), sizes});
  }).sample("aten.linalg_tensorsolve.default(f32[2,3,6], f32[2,3])");
}

}  // namespace

void add_composed_linalg_ops(OpTable& ops) {
  add_ranks(ops);
  add_condition_numbers(ops);
  add_tensor_systems(ops);
}

}  // namespace toroid
