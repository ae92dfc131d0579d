// Orthogonal factorisations and spectra: qr, singular values with pseudo-inverses and ranks, eigenvalues of symmetric
// matrices, the exponential. f32 and f64.
#include <algorithm>

#include "base/check.h"
#include "ops/linalg.h"

namespace toroid {
namespace {

using namespace linalg;

struct Svd {
  LoopValue u, s, vh;
};
Svd factor_svd(LoopBuilder& b, const LoopValue& a, bool full) {
  const SymList batch = batch_of(a.sizes);
  const Sym m = rows_of(a.sizes), n = columns_of(a.sizes), k = rank_of(a.sizes);
  auto r = library(b, "svd", {a}, {full ? 1 : 0, 1},
                   {{a.dtype, with(batch, {m, full ? m : k})},
                    {part_type(a.dtype), with(batch, {k})},
                    {a.dtype, with(batch, {full ? n : k, n})}});
  return {r[0], r[1], r[2]};
}
LoopValue singular_values(LoopBuilder& b, const LoopValue& a) {
  return library(b, "svd", {a}, {0, 0}, {{part_type(a.dtype), with(batch_of(a.sizes), {rank_of(a.sizes)})}})[0];
}

// -------------------------------------------------------------------------------------------------------------- qr

struct Qr {
  LoopValue packed, tau;
};
Qr factor_qr(LoopBuilder& b, const LoopValue& a) {
  auto r = library(b, "geqrf", {a}, {}, {{a.dtype, a.sizes}, {a.dtype, with(batch_of(a.sizes), {rank_of(a.sizes)})}});
  return {r[0], r[1]};
}
LoopValue reflections(LoopBuilder& b, const LoopValue& packed, const LoopValue& tau, const Sym& columns) {
  return library(b, "householder_product", {packed, tau}, {},
                 {{packed.dtype, with(batch_of(packed.sizes), {rows_of(packed.sizes), columns})}})[0];
}

void add_qr(OpTable& ops) {
  auto mode_of = [](const Call& call) -> std::string {
    if (call.schema().find_arg("mode") >= 0) return call.text("mode");
    return call.flag("some") ? "reduced" : "complete";
  };
  for (const char* name : {"linalg_qr.default", "qr.default"})
    add(
        ops, name,
        [mode_of](const Call& call) -> Types {
          const TensorType& a = first(call);
          const SymList batch = batch_of(a.sizes);
          const Sym m = rows_of(a.sizes), n = columns_of(a.sizes), k = rank_of(a.sizes);
          const std::string mode = mode_of(call);
          TensorType q = typed(call, a.dtype, with(batch, {m, mode == "complete" ? m : k}));
          if (mode == "r") q = contiguous_type(call, a.dtype, {0});
          return std::vector<TensorType>{q, typed(call, a.dtype, with(batch, {mode == "complete" ? m : k, n}))};
        },
        [mode_of](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          const std::string mode = mode_of(call);
          const SymList batch = batch_of(a.sizes);
          const Sym m = rows_of(a.sizes), n = columns_of(a.sizes), k = mode == "complete" ? m : rank_of(a.sizes);
          Qr f = factor_qr(b, a);
          LoopValue q = mode == "r" ? b.full({0}, b.number(0, a.dtype), a.dtype) : reflections(b, f.packed, f.tau, k);
          return std::vector<LoopValue>{q, triangle(b, f.packed, true, with(batch, {k, n}), false)};
        });
  add(
      ops, "geqrf.default",
      [](const Call& call) -> Types {
        const TensorType& a = first(call);
        return std::vector<TensorType>{typed(call, a.dtype, a.sizes),
                                       typed(call, a.dtype, with(batch_of(a.sizes), {rank_of(a.sizes)}))};
      },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue a, matrix(call, "self"));
        Qr f = factor_qr(b, a);
        return std::vector<LoopValue>{f.packed, f.tau};
      },
      {"(f32[2,4,3])"});
  add(
      ops, "linalg_householder_product.default",
      [](const Call& call) -> Types { return one(typed(call, first(call).dtype, first(call).sizes)); },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue a, matrix(call, "input"));
        return std::vector<LoopValue>{reflections(b, a, call.tensor("tau"), columns_of(a.sizes))};
      },
      {"(f32[2,4,3], f32[2,3])", "(f32[4,3], f32[2])"});
  add(
      ops, "ormqr.default",
      [](const Call& call) -> Types { return one(typed(call, first(call).dtype, call.type("input3").sizes)); },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue a, matrix(call, "self"));
        TD_TRY(LoopValue c, matrix(call, "input3"));
        LoopValue q = b.materialize(reflections(b, a, call.tensor("input2"), rows_of(a.sizes)), ".q");
        if (call.flag("transpose")) q = adjoint(b, q);
        return std::vector<LoopValue>{call.flag("left") ? matmul(b, q, c, a.dtype) : matmul(b, c, q, a.dtype)};
      });
}

// ------------------------------------------------------------------------------------------------- singular values

// With `hermitian`, the lower triangle alone is read.
LoopValue whole_of_hermitian(LoopBuilder& b, const LowerCall& call, const LoopValue& a) {
  if (call.schema().find_arg("hermitian") < 0 || !call.flag("hermitian")) return a;
  LoopBuilder* p = &b;
  LoopValue other = adjoint(b, a);
  return b.from(a.dtype, a.sizes, [=](const Index& i) {
    const ExprId row = i[i.size() - 2], x = a.at(i);
    // The diagonal counts as real.
    const ExprId middle = p->where(p->op(ScalarOp::eq, {i.back(), row}), p->cvt(p->pool().real(x), a.dtype), x);
    return p->where(p->op(ScalarOp::le, {i.back(), row}), middle, other.at(i));
  });
}

// What of the singular values counts: above max(atol, rtol * the greatest).
LoopValue above_tolerance(LoopBuilder& b, const LowerCall& call, const LoopValue& s, const LoopValue& a) {
  LoopBuilder* p = &b;
  const DType t = part_type(a.dtype);
  const double eps = t == DType::f64 ? 0x1p-52 : 0x1p-23;
  auto tolerance = [&](const char* name) -> std::optional<LoopValue> {
    if (!call.has(name)) return std::nullopt;
    if (is_tensor(call, name)) return b.convert(call.tensor(name), t);
    return b.full({}, call.scalar(b, name, t), t);
  };
  const bool single = call.schema().find_arg("rcond") >= 0;
  std::optional<LoopValue> atol = single ? std::nullopt : tolerance("atol"),
                           rtol = tolerance(single ? "rcond" : "rtol");
  const SymList batch(s.sizes.begin(), s.sizes.end() - 1);
  const Sym longest = sym_max(rows_of(a.sizes), columns_of(a.sizes));
  return b.from(DType::b8, s.sizes, [=](const Index& i) {
    Index outer(i.begin(), i.end() - 1), top = outer;
    top.push_back(p->index(0));
    auto at = [&](const LoopValue& x) { return p->broadcast(x, batch).at(outer); };
    const ExprId zero = p->number(0, t);
    const ExprId absolute = atol ? at(*atol) : zero;
    const ExprId standard = p->mul(p->cvt(p->index(longest), t), p->number(eps, t));
    ExprId relative = standard;
    if (rtol)
      relative = at(*rtol);
    else if (atol)
      relative = p->where(p->op(ScalarOp::lt, {zero, absolute}), zero, standard);
    const ExprId scaled = p->mul(relative, s.at(top));
    return p->op(ScalarOp::lt, {p->op(ScalarOp::max, {absolute, scaled}), s.at(i)});
  });
}

void add_svd(OpTable& ops) {
  for (const char* name : {"linalg_svd.default", "_linalg_svd.default", "svd.default"}) {
    const bool old = std::string_view(name) == "svd.default";
    auto full_of = [old](const Call& call) { return old ? !call.flag("some") : call.flag("full_matrices"); };
    auto all_of_them = [](const Call& call) {
      return call.schema().find_arg("compute_uv") < 0 || call.flag("compute_uv");
    };
    add(
        ops, name,
        [=](const Call& call) -> Types {
          const TensorType& a = first(call);
          const SymList batch = batch_of(a.sizes);
          const Sym m = rows_of(a.sizes), n = columns_of(a.sizes), k = rank_of(a.sizes);
          const bool full = full_of(call);
          TensorType u = typed(call, a.dtype, with(batch, {m, full ? m : k}));
          TensorType v = typed(call, a.dtype, with(batch, {full ? n : k, n}));
          if (old) v = typed(call, a.dtype, with(batch, {n, full ? n : k}));
          if (!all_of_them(call)) {
            if (old) return fail(Kind::unsupported_op, "`{}` without vectors", call.op());
            u = v = contiguous_type(call, a.dtype, {0});
          }
          return std::vector<TensorType>{u, typed(call, part_type(a.dtype), with(batch, {k})), v};
        },
        [=](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          if (!all_of_them(call)) {
            LoopValue nothing = b.full({0}, b.number(0, a.dtype), a.dtype);
            return std::vector<LoopValue>{nothing, singular_values(b, a), nothing};
          }
          Svd f = factor_svd(b, a, full_of(call));
          return std::vector<LoopValue>{f.u, f.s, old ? adjoint(b, f.vh) : f.vh};
        });
  }
  add(
      ops, "linalg_svdvals.default",
      [](const Call& call) -> Types {
        return one(
            typed(call, part_type(first(call).dtype), with(batch_of(first(call).sizes), {rank_of(first(call).sizes)})));
      },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue a, matrix(call, "A"));
        return std::vector<LoopValue>{singular_values(b, a)};
      },
      {"(f32[2,4,3])"});
  for (const char* name : {"linalg_pinv.atol_rtol_tensor", "linalg_pinv.atol_rtol_float", "linalg_pinv.default",
                           "linalg_pinv.rcond_tensor", "pinverse.default"})
    add(
        ops, name,
        [](const Call& call) -> Types {
          const TensorType& a = first(call);
          return one(typed(call, a.dtype, with(batch_of(a.sizes), {columns_of(a.sizes), rows_of(a.sizes)})));
        },
        [](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          a = whole_of_hermitian(b, call, a);
          Svd f = factor_svd(b, a, false);
          LoopValue counts = above_tolerance(b, call, f.s, a);
          LoopBuilder* p = &b;
          const DType t = a.dtype;
          // Columns of v over the singular values.
          LoopValue v = adjoint(b, f.vh);
          LoopValue scaled = b.from(t, v.sizes, [=](const Index& i) {
            Index at(i.begin(), i.end() - 2);
            at.push_back(i.back());
            return p->where(counts.at(at), p->div(v.at(i), p->cvt(f.s.at(at), t)),
                            p->cvt(p->number(0, part_type(t)), t));
          });
          return std::vector<LoopValue>{matmul(b, b.materialize(scaled, ".v"), adjoint(b, f.u), t)};
        },
        {});
  for (const char* name : {"linalg_matrix_rank.atol_rtol_tensor", "linalg_matrix_rank.atol_rtol_float"})
    add(
        ops, name,
        [](const Call& call) -> Types { return one(contiguous_type(call, DType::i64, batch_of(first(call).sizes))); },
        [](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          a = whole_of_hermitian(b, call, a);
          LoopValue s = singular_values(b, a), counts = above_tolerance(b, call, s, a);
          LoopBuilder* p = &b;
          LoopValue flags =
              b.from(DType::i64, counts.sizes, [=](const Index& i) { return p->cvt(counts.at(i), DType::i64); });
          return std::vector<LoopValue>{
              b.reduce(ReduceOp::sum, flags, {s.rank() - 1}, false, DType::i64, DType::i64, "")};
        });
}

// ----------------------------------------------------------------------------------------------------- eigenvalues

void add_eigen(OpTable& ops) {
  for (const char* name : {"linalg_eigh.default", "_linalg_eigh.default", "linalg_eigvalsh.default"}) {
    const bool vectors = std::string_view(name) != "linalg_eigvalsh.default";
    add(
        ops, name,
        [vectors](const Call& call) -> Types {
          const TensorType& a = first(call);
          std::vector<TensorType> out{typed(call, part_type(a.dtype), with(batch_of(a.sizes), {rows_of(a.sizes)}))};
          const bool wanted = call.schema().find_arg("compute_v") < 0 || call.flag("compute_v");
          if (vectors) out.push_back(wanted ? typed(call, a.dtype, a.sizes) : contiguous_type(call, a.dtype, {0}));
          return out;
        },
        [](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          const std::string side = call.text("UPLO");
          auto r = library(b, "eigh", {a}, {side == "U" || side == "u" ? 1 : 0},
                           {{part_type(a.dtype), with(batch_of(a.sizes), {rows_of(a.sizes)})}, {a.dtype, a.sizes}});
          if (call.schema().find_arg("compute_v") >= 0 && !call.flag("compute_v"))
            r[1] = b.full({0}, b.number(0, a.dtype), a.dtype);
          return r;
        });
  }
  for (const char* name : {"linalg_eig.default", "linalg_eigvals.default", "_linalg_eigvals.default"}) {
    const bool vectors = std::string_view(name) == "linalg_eig.default";
    add(
        ops, name,
        [vectors](const Call& call) -> Types {
          const TensorType& a = first(call);
          const DType dtype = complex_of_parts(part_type(a.dtype));
          std::vector<TensorType> out{typed(call, dtype, with(batch_of(a.sizes), {rows_of(a.sizes)}))};
          if (vectors) out.push_back(typed(call, dtype, a.sizes));
          return out;
        },
        [vectors](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, "self"));
          const DType dtype = complex_of_parts(part_type(a.dtype));
          std::vector<LoopBuilder::CallResult> results{{dtype, with(batch_of(a.sizes), {rows_of(a.sizes)})}};
          if (vectors) results.push_back({dtype, a.sizes});
          return library(b, "eig", {a}, {vectors ? 1 : 0}, results);
        });
  }
  for (const char* name : {"matrix_exp.default", "linalg_matrix_exp.default"})
    add(
        ops, name, [](const Call& call) -> Types { return one(typed(call, first(call).dtype, first(call).sizes)); },
        [](LoopBuilder& b, const LowerCall& call) -> Values {
          LoopValue a = call.tensor(call.schema().args[0].name);
          // The only one of these that takes low precision.
          if (is_low_precision(a.dtype)) {
            LoopValue wide = b.convert(a, DType::f32);
            return std::vector<LoopValue>{
                b.convert(library(b, "matrix_exp", {wide}, {}, {{DType::f32, a.sizes}})[0], a.dtype)};
          }
          TD_TRY(a, matrix(call, call.schema().args[0].name.c_str()));
          return library(b, "matrix_exp", {a}, {}, {{a.dtype, a.sizes}});
        },
        {"(f32[2,3,3])"});
}

}  // namespace

void add_spectral_ops(OpTable& ops) {
  add_qr(ops);
  add_svd(ops);
  add_eigen(ops);
}

}  // namespace toroid
