// Solutions of linear systems and what follows from them (inverses, determinants): the library factorises, the rest is
// loops over its results. f32 and f64.
#include "ops/linalg.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace toroid {
namespace linalg {

SymList batch_of(const SymList& sizes) { return {sizes.begin(), sizes.end() - 2}; }
SymList with(SymList batch, std::initializer_list<Sym> dims) {
  batch.insert(batch.end(), dims);
  return batch;
}

Result<LoopValue> matrix(const LowerCall& call, const char* name) {
  LoopValue a = call.tensor(name);
  if (part_type(a.dtype) != DType::f32 && part_type(a.dtype) != DType::f64)
    return fail(Kind::unsupported_op, "`{}` of {}", call.op(), dtype_name(a.dtype));
  if (a.rank() < 2) return fail(Kind::bad_graph, "`{}` of a tensor of rank {}", call.op(), a.rank());
  return a;
}

LoopValue transposed(LoopBuilder& b, const LoopValue& a) { return b.transpose(a, a.rank() - 2, a.rank() - 1); }

LoopValue adjoint(LoopBuilder& b, const LoopValue& a) { return transposed(b, b.conjugate(a)); }

std::vector<LoopValue> library(LoopBuilder& b, const std::string& function, const std::vector<LoopValue>& operands,
                               SymList attributes, const std::vector<LoopBuilder::CallResult>& results) {
  return b.call(function, operands, std::move(attributes), results, {}, true);
}

LoopValue triangle(LoopBuilder& b, const LoopValue& a, bool upper, const SymList& sizes, bool unit) {
  LoopBuilder* p = &b;
  return b.from(a.dtype, sizes, [=](const Index& i) {
    const ExprId row = i[i.size() - 2], column = i.back();
    const ExprId inside = upper ? p->op(ScalarOp::le, {row, column}) : p->op(ScalarOp::le, {column, row});
    ExprId value = p->where(inside, a.at(i), p->number(0, a.dtype));
    if (unit) value = p->where(p->op(ScalarOp::eq, {row, column}), p->number(1, a.dtype), value);
    return value;
  });
}

TensorType typed(const Call& call, DType dtype, SymList sizes) { return unclaimed_type(call, dtype, std::move(sizes)); }
const TensorType& first(const Call& call) { return call.type(call.schema().args[0].name); }

void add(OpTable& ops, const char* name, std::function<Types(const Call&)> infer,
         std::function<Values(LoopBuilder&, const LowerCall&)> lower, std::initializer_list<const char*> samples) {
  OpRow& row = ops.add(format("aten.{}", name)).infer(std::move(infer)).lower_many(std::move(lower));
  for (const char* sample : samples) row.sample(format("aten.{}{}", name, sample));
}

}  // namespace linalg

namespace {

using namespace linalg;

LoopValue batched(LoopBuilder& b, const LoopValue& a, const SymList& batch) {
  SymList sizes = batch;
  sizes.insert(sizes.end(), {rows_of(a.sizes), columns_of(a.sizes)});
  return b.broadcast(a, sizes);
}

LoopValue identity(LoopBuilder& b, const SymList& batch, const Sym& n, DType dtype) {
  LoopBuilder* p = &b;
  return b.from(dtype, with(batch, {n, n}), [p, dtype](const Index& i) {
    const ExprId same = p->op(ScalarOp::eq, {i[i.size() - 2], i.back()});
    return p->where(same, p->number(1, dtype), p->number(0, dtype));
  });
}

LoopValue diagonal(LoopBuilder& b, const LoopValue& a) {
  return b.from(a.dtype, with(batch_of(a.sizes), {rank_of(a.sizes)}), [a](const Index& i) {
    Index at = i;
    at.push_back(i.back());
    return a.at(at);
  });
}

// When the program runs: every info is 0.
void check_info(LoopBuilder& b, const LoopValue& info, const std::string& text) {
  LoopBuilder* p = &b;
  LoopValue bad =
      b.from(DType::i64, info.sizes, [p, info](const Index& i) { return p->cvt(truth(*p, info.at(i)), DType::i64); });
  if (info.rank() > 0) bad = b.reduce(ReduceOp::sum, bad, {}, false, DType::i64, DType::i64, ".info");
  b.loops().guards.push_back({sym_eq(b.read_size(bad), 0), text});
}

struct Lu {
  LoopValue lu, pivots, info;
};
Lu factor_lu(LoopBuilder& b, const LoopValue& a) {
  const SymList batch = batch_of(a.sizes);
  auto r = library(b, "lu", {a}, {},
                   {{a.dtype, a.sizes}, {DType::i32, with(batch, {rank_of(a.sizes)})}, {DType::i32, batch}});
  return {r[0], r[1], r[2]};
}
LoopValue lu_solve(LoopBuilder& b, const LoopValue& lu, const LoopValue& pivots, const LoopValue& right, bool adjoint) {
  return library(b, "lu_solve", {lu, pivots, right}, {adjoint ? 1 : 0}, {{right.dtype, right.sizes}})[0];
}
LoopValue solve_triangle(LoopBuilder& b, const LoopValue& a, const LoopValue& right, bool upper, bool unit,
                         bool adjoint) {
  return library(b, "solve_triangular", {a, right}, {upper ? 1 : 0, unit ? 1 : 0, adjoint ? 1 : 0},
                 {{right.dtype, right.sizes}})[0];
}
// Rows of the permutation matrix p with a = p l u.
LoopValue permutation(LoopBuilder& b, const LoopValue& pivots, const SymList& batch, const Sym& m) {
  return library(b, "lu_permutation", {pivots}, {}, {{DType::i64, with(batch, {m})}})[0];
}
LoopValue permutation_matrix(LoopBuilder& b, const LoopValue& order, const Sym& m, DType dtype) {
  LoopBuilder* p = &b;
  return b.from(dtype, with({order.sizes.begin(), order.sizes.end() - 1}, {m, m}), [=](const Index& i) {
    Index at(i.begin(), i.end() - 2);
    at.push_back(i.back());
    return p->where(p->op(ScalarOp::eq, {order.at(at), i[i.size() - 2]}), p->number(1, dtype), p->number(0, dtype));
  });
}

// The unknowns of stacked systems whose right-hand sides are columns, their stacks broadcast.
Types solved_type(const Call& call, const char* matrix, const char* right) {
  const TensorType &a = call.type(matrix), &y = call.type(right);
  TD_TRY(SymList batch, broadcast_sizes(batch_of(a.sizes), batch_of(y.sizes)));
  return one(typed(call, a.dtype, with(batch, {rows_of(y.sizes), columns_of(y.sizes)})));
}
LoopValue batched_vector(LoopBuilder& b, const LoopValue& v, const SymList& batch) {
  return b.broadcast(v, with(batch, {v.sizes.back()}));
}

// A right-hand side that is a vector for each matrix.
bool is_vector(const TensorType& a, const TensorType& right) {
  if (right.rank() == 1) return true;
  if (right.rank() != a.rank() - 1) return false;
  return same_list(right.sizes, SymList(a.sizes.begin(), a.sizes.end() - 1));
}

// ------------------------------------------------------------------------------------------------------- cholesky

void add_cholesky(OpTable& ops) {
  for (const char* name : {"linalg_cholesky_ex.default", "linalg_cholesky.default", "cholesky.default"}) {
    const bool ex = std::string_view(name).find("_ex") != std::string_view::npos;
    add(
        ops, name,
        [ex](const Call& call) -> Types {
          std::vector<TensorType> out{typed(call, first(call).dtype, first(call).sizes)};
          if (ex) out.push_back(contiguous_type(call, DType::i32, batch_of(first(call).sizes)));
          return out;
        },
        [ex](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, "self"));
          auto r = library(b, "cholesky", {a}, {call.flag("upper") ? 1 : 0},
                           {{a.dtype, a.sizes}, {DType::i32, batch_of(a.sizes)}});
          if (!ex || call.flag("check_errors"))
            check_info(b, r[1], format("`{}`: the matrix is not positive-definite", call.op()));
          return r;
        });
  }
  ops.add("aten._linalg_check_errors.default")
      .infer([](const Call&) -> Types { return std::vector<TensorType>(); })
      .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
        check_info(b, call.tensor("info"), format("`{}`: the matrix is singular", call.text("api_name")));
        return std::vector<LoopValue>();
      });
  add(
      ops, "cholesky_solve.default", [](const Call& call) { return solved_type(call, "input2", "self"); },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue x, matrix(call, "self"));
        TD_TRY(LoopValue l, matrix(call, "input2"));
        const SymList batch = batch_of(call.result().sizes);
        x = batched(b, x, batch), l = batched(b, l, batch);
        const bool upper = call.flag("upper");
        LoopValue half = solve_triangle(b, l, x, upper, false, upper);
        return std::vector<LoopValue>{solve_triangle(b, l, half, upper, false, !upper)};
      });
  add(
      ops, "cholesky_inverse.default",
      [](const Call& call) -> Types { return one(typed(call, first(call).dtype, first(call).sizes)); },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue l, matrix(call, "self"));
        const bool upper = call.flag("upper");
        LoopValue unit = identity(b, batch_of(l.sizes), rows_of(l.sizes), l.dtype);
        LoopValue half = solve_triangle(b, l, unit, upper, false, upper);
        return std::vector<LoopValue>{solve_triangle(b, l, half, upper, false, !upper)};
      });
}

// ------------------------------------------------------------------------------------------------------------- lu

Status needs_pivots(const LowerCall& call) {
  if (call.schema().find_arg("pivot") >= 0 && !call.flag("pivot"))
    return fail(Kind::unsupported_op, "`{}` without pivoting", call.op());
  return {};
}

void add_lu(OpTable& ops) {
  for (const char* name : {"linalg_lu_factor.default", "linalg_lu_factor_ex.default", "_lu_with_info.default"}) {
    const bool info = std::string_view(name) != "linalg_lu_factor.default";
    add(
        ops, name,
        [info](const Call& call) -> Types {
          const TensorType& a = first(call);
          std::vector<TensorType> out{typed(call, a.dtype, a.sizes),
                                      contiguous_type(call, DType::i32, with(batch_of(a.sizes), {rank_of(a.sizes)}))};
          if (info) out.push_back(contiguous_type(call, DType::i32, batch_of(a.sizes)));
          return out;
        },
        [info](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_CHECK_OK(needs_pivots(call));
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          Lu f = factor_lu(b, a);
          if (!info || call.flag("check_errors"))
            check_info(b, f.info, format("`{}`: the matrix is singular", call.op()));
          return std::vector<LoopValue>{f.lu, f.pivots, f.info};
        },
        {"(f32[2,4,3])"});
  }
  auto unpacked = [](LoopBuilder& b, const LoopValue& lu, const LoopValue& pivots) {
    const SymList batch = batch_of(lu.sizes);
    const Sym m = rows_of(lu.sizes), n = columns_of(lu.sizes), k = rank_of(lu.sizes);
    return std::vector<LoopValue>{permutation_matrix(b, permutation(b, pivots, batch, m), m, lu.dtype),
                                  triangle(b, lu, false, with(batch, {m, k}), true),
                                  triangle(b, lu, true, with(batch, {k, n}), false)};
  };
  auto three = [](const Call& call) -> Types {
    const TensorType& a = first(call);
    const SymList batch = batch_of(a.sizes);
    const Sym m = rows_of(a.sizes), n = columns_of(a.sizes), k = rank_of(a.sizes);
    return std::vector<TensorType>{typed(call, a.dtype, with(batch, {m, m})), typed(call, a.dtype, with(batch, {m, k})),
                                   typed(call, a.dtype, with(batch, {k, n}))};
  };
  add(ops, "linalg_lu.default", three,
      [unpacked](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_CHECK_OK(needs_pivots(call));
        TD_TRY(LoopValue a, matrix(call, "A"));
        Lu f = factor_lu(b, a);
        return unpacked(b, f.lu, f.pivots);
      },
      {"(f32[2,4,3])", "(f32[3,5])"});
  add(
      ops, "lu_unpack.default",
      [three](const Call& call) -> Types {
        TD_TRY(std::vector<TensorType> out, three(call));
        if (!call.flag("unpack_pivots")) out[0] = contiguous_type(call, first(call).dtype, {0});
        if (!call.flag("unpack_data")) out[1] = out[2] = contiguous_type(call, first(call).dtype, {0});
        return out;
      },
      [unpacked](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue lu, matrix(call, "LU_data"));
        std::vector<LoopValue> out = unpacked(b, lu, call.tensor("LU_pivots"));
        LoopValue nothing = b.full({0}, b.number(0, lu.dtype), lu.dtype);
        if (!call.flag("unpack_pivots")) out[0] = nothing;
        if (!call.flag("unpack_data")) out[1] = out[2] = nothing;
        return out;
      });
  add(
      ops, "linalg_lu_solve.default", [](const Call& call) { return solved_type(call, "LU", "B"); },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue lu, matrix(call, "LU"));
        TD_TRY(LoopValue right, matrix(call, "B"));
        const SymList batch = batch_of(call.result().sizes);
        LoopValue pivots = batched_vector(b, call.tensor("pivots"), batch);
        lu = batched(b, lu, batch), right = batched(b, right, batch);
        const bool left = call.flag("left"), adjoint = call.flag("adjoint");
        if (left) return std::vector<LoopValue>{lu_solve(b, lu, pivots, right, adjoint)};
        return std::vector<LoopValue>{linalg::adjoint(b, lu_solve(b, lu, pivots, linalg::adjoint(b, right), !adjoint))};
      });
  add(
      ops, "lu_solve.default", [](const Call& call) { return solved_type(call, "LU_data", "self"); },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue lu, matrix(call, "LU_data"));
        TD_TRY(LoopValue right, matrix(call, "self"));
        const SymList batch = batch_of(call.result().sizes);
        LoopValue pivots = batched_vector(b, call.tensor("LU_pivots"), batch);
        return std::vector<LoopValue>{lu_solve(b, batched(b, lu, batch), pivots, batched(b, right, batch), false)};
      });
}

// ------------------------------------------------------------------------------------------------------------ ldl

// Hermitian factorisations are those of symmetric matrices where numbers are real.
Status needs_symmetric(const LowerCall& call, DType dtype) {
  if (is_complex(dtype) && call.flag("hermitian"))
    return fail(Kind::unsupported_op, "`{}` of a complex matrix with hermitian=True", call.op());
  return {};
}

void add_ldl(OpTable& ops) {
  for (const char* name : {"linalg_ldl_factor.default", "linalg_ldl_factor_ex.default"}) {
    const bool ex = std::string_view(name).find("_ex") != std::string_view::npos;
    add(
        ops, name,
        [ex](const Call& call) -> Types {
          const TensorType& a = first(call);
          const SymList batch = batch_of(a.sizes);
          std::vector<TensorType> out{typed(call, a.dtype, a.sizes),
                                      contiguous_type(call, DType::i32, with(batch, {rows_of(a.sizes)}))};
          if (ex) out.push_back(contiguous_type(call, DType::i32, batch));
          return out;
        },
        [ex](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, "self"));
          TD_CHECK_OK(needs_symmetric(call, a.dtype));
          const SymList batch = batch_of(a.sizes);
          auto r = library(b, "ldl", {a}, {},
                           {{a.dtype, a.sizes}, {DType::i32, with(batch, {rows_of(a.sizes)})}, {DType::i32, batch}});
          if (!ex || call.flag("check_errors")) check_info(b, r[2], format("`{}`: the matrix is singular", call.op()));
          if (!ex) r.pop_back();
          return r;
        },
        {"(f32[2,4,4])"});
  }
  add(
      ops, "linalg_ldl_solve.default", [](const Call& call) { return solved_type(call, "LD", "B"); },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue ld, matrix(call, "LD"));
        TD_TRY(LoopValue right, matrix(call, "B"));
        TD_CHECK_OK(needs_symmetric(call, ld.dtype));
        const SymList batch = batch_of(call.result().sizes);
        LoopValue pivots = batched_vector(b, call.tensor("pivots"), batch);
        right = batched(b, right, batch);
        return library(b, "ldl_solve", {batched(b, ld, batch), pivots, right}, {}, {{right.dtype, right.sizes}});
      });
}

// ------------------------------------------------------------------------------------- what follows from a solution

struct Solution {
  LoopValue result;
  Lu factors;
};
Result<Solution> solve(LoopBuilder& b, const LowerCall& call, const TensorType& result) {
  TD_TRY(LoopValue a, matrix(call, "A"));
  LoopValue right = call.tensor("B");
  const bool vector = is_vector(call.type("A"), call.type("B"));
  if (vector) right = b.unsqueeze(right, right.rank());
  SymList batch = result.sizes;
  batch.resize(result.sizes.size() - (vector ? 1 : 2));
  Solution s;
  s.factors = factor_lu(b, a);
  LoopValue lu = batched(b, s.factors.lu, batch);
  LoopValue pivots = batched_vector(b, s.factors.pivots, batch);
  right = batched(b, right, batch);
  const bool left = call.flag("left") || vector;
  s.result =
      left ? lu_solve(b, lu, pivots, right, false) : adjoint(b, lu_solve(b, lu, pivots, adjoint(b, right), true));
  if (vector) s.result = b.squeeze(s.result, s.result.rank() - 1);
  return s;
}
Result<TensorType> solve_type(const Call& call) {
  const TensorType &a = call.type("A"), &right = call.type("B");
  if (is_vector(a, right)) {
    TD_TRY(SymList batch, broadcast_sizes(batch_of(a.sizes), SymList(right.sizes.begin(), right.sizes.end() - 1)));
    return typed(call, a.dtype, with(batch, {columns_of(a.sizes)}));
  }
  TD_TRY(std::vector<TensorType> columns, solved_type(call, "A", "B"));
  return columns[0];
}

void add_solve(OpTable& ops) {
  for (const char* name : {"linalg_solve.default", "linalg_solve_ex.default", "_linalg_solve_ex.default"}) {
    const std::string_view text = name;
    const bool ex = text.find("_ex") != text.npos, factors = text.starts_with("_");
    add(
        ops, name,
        [ex, factors](const Call& call) -> Types {
          TD_TRY(TensorType x, solve_type(call));
          const TensorType& a = call.type("A");
          std::vector<TensorType> out{x};
          if (factors) {
            out.push_back(typed(call, a.dtype, a.sizes));
            out.push_back(contiguous_type(call, DType::i32, with(batch_of(a.sizes), {rank_of(a.sizes)})));
          }
          if (ex) out.push_back(contiguous_type(call, DType::i32, batch_of(a.sizes)));
          return out;
        },
        [ex, factors](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(TensorType type, solve_type(call));
          TD_TRY(Solution s, solve(b, call, type));
          if (!ex || call.flag("check_errors"))
            check_info(b, s.factors.info, format("`{}`: the matrix is singular", call.op()));
          std::vector<LoopValue> out{s.result};
          if (factors) out.push_back(s.factors.lu), out.push_back(s.factors.pivots);
          if (ex) out.push_back(s.factors.info);
          return out;
        });
  }
  for (const char* name : {"linalg_inv.default", "inverse.default", "linalg_inv_ex.default"}) {
    const bool ex = std::string_view(name).find("_ex") != std::string_view::npos;
    add(
        ops, name,
        [ex](const Call& call) -> Types {
          std::vector<TensorType> out{typed(call, first(call).dtype, first(call).sizes)};
          if (ex) out.push_back(contiguous_type(call, DType::i32, batch_of(first(call).sizes)));
          return out;
        },
        [ex](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          Lu f = factor_lu(b, a);
          if (!ex || call.flag("check_errors"))
            check_info(b, f.info, format("`{}`: the matrix is singular", call.op()));
          LoopValue unit = identity(b, batch_of(a.sizes), rows_of(a.sizes), a.dtype);
          return std::vector<LoopValue>{lu_solve(b, f.lu, f.pivots, unit, false), f.info};
        });
  }
  add(
      ops, "linalg_solve_triangular.default", [](const Call& call) { return solved_type(call, "self", "B"); },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue a, matrix(call, "self"));
        TD_TRY(LoopValue right, matrix(call, "B"));
        const SymList batch = batch_of(call.result().sizes);
        a = batched(b, a, batch), right = batched(b, right, batch);
        const bool upper = call.flag("upper"), unit = call.flag("unitriangular");
        if (call.flag("left")) return std::vector<LoopValue>{solve_triangle(b, a, right, upper, unit, false)};
        return std::vector<LoopValue>{adjoint(b, solve_triangle(b, a, adjoint(b, right), upper, unit, true))};
      });
  add(
      ops, "triangular_solve.default",
      [](const Call& call) -> Types {
        const TensorType &right = call.type("self"), &a = call.type("A");
        TD_TRY(SymList batch, broadcast_sizes(batch_of(a.sizes), batch_of(right.sizes)));
        return std::vector<TensorType>{
            typed(call, a.dtype, with(batch, {rows_of(right.sizes), columns_of(right.sizes)})),
            typed(call, a.dtype, with(batch, {rows_of(a.sizes), columns_of(a.sizes)}))};
      },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue a, matrix(call, "A"));
        TD_TRY(LoopValue right, matrix(call, "self"));
        const SymList batch = batch_of(call.result().sizes);
        a = batched(b, a, batch), right = batched(b, right, batch);
        // Transposed alone: the library's adjoint of the conjugated matrix.
        const bool turned = call.flag("transpose");
        LoopValue used = turned ? b.conjugate(a) : a;
        return std::vector<LoopValue>{
            solve_triangle(b, used, right, call.flag("upper"), call.flag("unitriangular"), turned), a};
      });
}

// ---------------------------------------------------------------------------------------------------- determinants

// Of the permutation that pivots make: 1 or -1.
LoopValue parity(LoopBuilder& b, const LoopValue& pivots, DType dtype) {
  LoopBuilder* p = &b;
  LoopValue moved = b.from(DType::i64, pivots.sizes, [=](const Index& i) {
    const ExprId at = p->cvt(pivots.at(i), DType::i64);
    return p->cvt(p->op(ScalarOp::ne, {at, p->add(i.back(), int_expr(*p, 1))}), DType::i64);
  });
  LoopValue count = b.reduce(ReduceOp::sum, moved, {pivots.rank() - 1}, false, DType::i64, DType::i64, ".moved");
  return b.from(dtype, count.sizes, [=](const Index& i) {
    const ExprId odd = p->op(ScalarOp::remainder, {count.at(i), int_expr(*p, 2)});
    return p->where(p->op(ScalarOp::eq, {odd, int_expr(*p, 0)}), p->number(1, dtype), p->number(-1, dtype));
  });
}

struct Determinant {
  LoopValue sign, log;
  Lu factors;
};
Determinant log_determinant(LoopBuilder& b, const LoopValue& a) {
  LoopBuilder* p = &b;
  Determinant d;
  d.factors = factor_lu(b, a);
  const DType t = a.dtype, real = part_type(t);
  LoopValue diag = diagonal(b, d.factors.lu);
  LoopValue signs = map1(b, diag, t, t, [=](ExprId x) {
    const ExprId zero = p->number(0, t);
    if (is_complex(t))
      return p->where(p->op(ScalarOp::eq, {x, zero}), x, p->div(x, p->cvt(p->op(ScalarOp::abs, {x}), t)));
    return p->where(p->op(ScalarOp::lt, {x, zero}), p->number(-1, t),
                    p->where(p->op(ScalarOp::lt, {zero, x}), p->number(1, t), x));
  });
  LoopValue sign = b.reduce(ReduceOp::prod, signs, {diag.rank() - 1}, false, t, t, ".signs");
  LoopValue logs = b.from(real, diag.sizes,
                          [=](const Index& i) { return p->op(ScalarOp::log, {p->op(ScalarOp::abs, {diag.at(i)})}); });
  d.log = b.reduce(ReduceOp::sum, logs, {diag.rank() - 1}, false, real, real, ".logs");
  LoopValue even = parity(b, d.factors.pivots, t);
  d.sign = b.map({sign, even}, sign.sizes, t, t, [p](const std::vector<ExprId>& v) { return p->mul(v[0], v[1]); });
  return d;
}

void add_determinants(OpTable& ops) {
  for (const char* name : {"linalg_det.default", "det.default", "_linalg_det.default"}) {
    const bool factors = std::string_view(name).starts_with("_");
    add(
        ops, name,
        [factors](const Call& call) -> Types {
          const TensorType& a = first(call);
          std::vector<TensorType> out{contiguous_type(call, a.dtype, batch_of(a.sizes))};
          if (factors) {
            out.push_back(typed(call, a.dtype, a.sizes));
            out.push_back(contiguous_type(call, DType::i32, with(batch_of(a.sizes), {rank_of(a.sizes)})));
          }
          return out;
        },
        [](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          Lu f = factor_lu(b, a);
          LoopBuilder* p = &b;
          LoopValue diag = diagonal(b, f.lu);
          LoopValue value = b.reduce(ReduceOp::prod, diag, {diag.rank() - 1}, false, a.dtype, a.dtype, ".diagonal");
          LoopValue even = parity(b, f.pivots, a.dtype);
          value = b.map({value, even}, value.sizes, a.dtype, a.dtype,
                        [p](const std::vector<ExprId>& v) { return p->mul(v[0], v[1]); });
          return std::vector<LoopValue>{value, f.lu, f.pivots};
        },
        {"(f32[2,3,3])", "(c64[2,3,3])"});
  }
  for (const char* name : {"linalg_slogdet.default", "slogdet.default", "_linalg_slogdet.default"}) {
    const bool factors = std::string_view(name).starts_with("_");
    add(
        ops, name,
        [factors](const Call& call) -> Types {
          const TensorType& a = first(call);
          TensorType each = contiguous_type(call, a.dtype, batch_of(a.sizes));
          std::vector<TensorType> out{each, each};
          out[1].dtype = part_type(a.dtype);
          if (factors) {
            out.push_back(typed(call, a.dtype, a.sizes));
            out.push_back(contiguous_type(call, DType::i32, with(batch_of(a.sizes), {rank_of(a.sizes)})));
          }
          return out;
        },
        [](LoopBuilder& b, const LowerCall& call) -> Values {
          TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
          Determinant d = log_determinant(b, a);
          return std::vector<LoopValue>{d.sign, d.log, d.factors.lu, d.factors.pivots};
        },
        {"(f32[2,3,3])", "(c64[2,3,3])"});
  }
  add(
      ops, "logdet.default",
      [](const Call& call) -> Types {
        return one(contiguous_type(call, first(call).dtype, batch_of(first(call).sizes)));
      },
      [](LoopBuilder& b, const LowerCall& call) -> Values {
        TD_TRY(LoopValue a, matrix(call, call.schema().args[0].name.c_str()));
        Determinant d = log_determinant(b, a);
        LoopBuilder* p = &b;
        // A complex logarithm's imaginary part is the sign's angle.
        if (is_complex(a.dtype))
          return std::vector<LoopValue>{b.from(a.dtype, d.log.sizes, [p, d](const Index& i) {
            const ExprId sign = d.sign.at(i);
            return p->pool().pair(d.log.at(i), p->op(ScalarOp::atan2, {p->pool().imag(sign), p->pool().real(sign)}));
          })};
        return std::vector<LoopValue>{
            b.map({d.sign, d.log}, d.log.sizes, a.dtype, a.dtype, [p, t = a.dtype](const std::vector<ExprId>& v) {
              const ExprId negative = p->op(ScalarOp::lt, {v[0], p->number(0, t)});
              return p->where(negative, p->number(std::numeric_limits<double>::quiet_NaN(), t), v[1]);
            })};
      },
      {"(f32[2,3,3])", "(c64[2,3,3])"});
}

}  // namespace

void add_linalg_ops(OpTable& ops) {
  add_cholesky(ops);
  add_lu(ops);
  add_ldl(ops);
  add_solve(ops);
  add_determinants(ops);
}

}  // namespace toroid
