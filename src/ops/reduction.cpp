// Reductions and scans: sum to norm, softmax, argmax, cumsum. Low precision accumulates in f32, integers in i64.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Dims = std::vector<int64_t>;

// The dims a call reduces: its `dim` argument, or all.
Dims reduced_dims(const Call& call) {
  int64_t rank = call.type("self").rank();
  if (call.schema().find_arg("dim") >= 0) return call.dims("dim", rank);
  Dims all;
  for (int64_t d = 0; d < rank; ++d) all.push_back(d);
  return all;
}

bool keeps_dims(const Call& call) { return call.schema().find_arg("keepdim") >= 0 && call.flag("keepdim"); }

TensorType reduced_type(const Call& call, DType dtype) {
  return contiguous_type(call, dtype, reduced_sizes(call.type("self").sizes, reduced_dims(call), keeps_dims(call)));
}

std::optional<DType> dtype_argument(const Call& call) {
  return call.schema().find_arg("dtype") >= 0 ? call.dtype("dtype") : std::nullopt;
}

// One element is its own reduction: a 0-d tensor has no dims to go over.
LoopValue reduce_dims(LoopBuilder& b, ReduceOp op, const LoopValue& x, const Dims& dims, bool keepdim, DType compute,
                      DType result, const std::string& suffix = "") {
  if (dims.empty()) return b.convert(b.convert(x, compute), result);
  return b.reduce(op, x, dims, keepdim, compute, result, suffix);
}

// --------------------------------------------------------------------------------------------------- sums

using Prepare = std::function<LoopValue(LoopBuilder&, const LoopValue&, DType compute)>;

void add_sum(OpTable& ops, const std::string& name, ReduceOp op, bool mean, Prepare prepare,
             const std::string& sample) {
  auto result = [mean](const Call& call) {
    if (auto given = dtype_argument(call)) return *given;
    DType d = call.type("self").dtype;
    return mean ? d : sum_dtype(d);
  };
  ops.add("aten." + name)
      .infer([result, mean](const Call& call) -> Types {
        DType d = result(call);
        if (mean && !is_float(d) && !is_complex(d))
          return fail(Kind::bad_graph, "`{}` of {}", call.op(), dtype_name(d));
        return one(reduced_type(call, d));
      })
      .lower([result, op, mean, prepare](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        DType dtype = result(call), compute = accumulate_type(dtype);
        LoopValue x = call.tensor("self");
        // A dtype argument casts before the sum.
        if (dtype_argument(call)) x = b.convert(x, dtype);
        if (prepare) x = prepare(b, x, compute);
        Dims dims = reduced_dims(call);
        if (!mean) return reduce_dims(b, op, x, dims, keeps_dims(call), compute, dtype);
        LoopValue sum = reduce_dims(b, op, x, dims, keeps_dims(call), compute, compute);
        ExprId n = b.cvt(b.index(count_of(x.sizes, dims)), compute);
        LoopBuilder* p = &b;
        return map1(b, sum, compute, dtype, [p, n](ExprId s) { return p->div(s, n); });
      })
      .sample("aten." + name + sample)
      .sample("aten." + name + replace_all(sample, "f32[", "bf16["));
}

LoopValue without_nan(LoopBuilder& b, const LoopValue& x, DType compute) {
  LoopBuilder* p = &b;
  if (!is_float(x.dtype)) return x;
  return map1(b, x, compute, compute,
              [p, compute](ExprId v) { return p->where(p->op(ScalarOp::isnan, {v}), number_expr(*p, 0, compute), v); });
}

void add_sums(OpTable& ops) {
  add_sum(ops, "sum.default", ReduceOp::sum, false, nullptr, "(f32[3,4])");
  add_sum(ops, "sum.dim_IntList", ReduceOp::sum, false, nullptr, "(f32[3,4,5], [0, -1], True)");
  add_sum(ops, "nansum.default", ReduceOp::sum, false, without_nan, "(f32[3,4])");
  add_sum(ops, "prod.default", ReduceOp::prod, false, nullptr, "(f32[3,4])");
  add_sum(ops, "prod.dim_int", ReduceOp::prod, false, nullptr, "(f32[3,4], 1)");
  add_sum(ops, "mean.default", ReduceOp::sum, true, nullptr, "(f32[3,4])");
  add_sum(ops, "mean.dim", ReduceOp::sum, true, nullptr, "(f32[3,4,5], [1], True)");
  // Elements that are not zero.
  for (const char* form : {"default", "dim_IntList"}) {
    std::string name = format("aten.count_nonzero.{}", form);
    ops.add(name)
        .infer([](const Call& call) -> Types { return one(reduced_type(call, DType::i64)); })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = b.convert(call.tensor("self"), DType::b8);
          return reduce_dims(b, ReduceOp::sum, x, reduced_dims(call), false, DType::i64, DType::i64);
        })
        .sample(name + (*form == 'd' && form[1] == 'e' ? "(f32[3,4])" : "(f32[3,4], [1])"));
  }
}

// ----------------------------------------------------------------------------------------------- extremes

void add_extremes(OpTable& ops) {
  struct Row {
    const char *name, *sample;
    ReduceOp op;
  };
  for (Row row : {Row{"amax.default", "(f32[3,4,5], [1, 2], True)", ReduceOp::max},
                  Row{"amin.default", "(f32[3,4], [0])", ReduceOp::min},
                  Row{"max.default", "(f32[3,4])", ReduceOp::max}, Row{"min.default", "(f32[3,4])", ReduceOp::min}})
    ops.add(format("aten.{}", row.name))
        .infer([](const Call& call) -> Types { return one(reduced_type(call, call.type("self").dtype)); })
        .lower([row](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          return reduce_dims(b, row.op, x, reduced_dims(call), keeps_dims(call), x.dtype, x.dtype);
        })
        .sample(format("aten.{}{}", row.name, row.sample))
        .sample(format("aten.{}{}", row.name, replace_all(row.sample, "f32[", "i64[")))
        .sample(format("aten.{}{}", row.name, replace_all(row.sample, "f32[", "bool[")));
  struct Pair {
    const char* name;
    ReduceOp value, place;
  };
  for (Pair row : {Pair{"max.dim", ReduceOp::max, ReduceOp::argmax}, Pair{"min.dim", ReduceOp::min, ReduceOp::argmin}})
    ops.add(format("aten.{}", row.name))
        .infer([](const Call& call) -> Types {
          return std::vector<TensorType>{reduced_type(call, call.type("self").dtype), reduced_type(call, DType::i64)};
        })
        .lower_many([row](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          LoopValue x = call.tensor("self");
          Dims dims = reduced_dims(call);
          if (dims.empty()) return std::vector<LoopValue>{x, b.full({}, int_expr(b, 0), DType::i64)};
          return std::vector<LoopValue>{b.reduce(row.value, x, dims, keeps_dims(call), x.dtype, x.dtype, ""),
                                        b.reduce(row.place, x, dims, keeps_dims(call), x.dtype, DType::i64, ".place")};
        })
        .sample(format("aten.{}(f32[3,4], 1)", row.name))
        .sample(format("aten.{}(i64[3,4], 0, True)", row.name))
        .sample(format("aten.{}(bool[3,4], 1)", row.name));
  ops.add("aten.aminmax.default")
      .infer([](const Call& call) -> Types {
        TensorType type = reduced_type(call, call.type("self").dtype);
        return std::vector<TensorType>{type, type};
      })
      .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
        LoopValue x = call.tensor("self");
        Dims dims = reduced_dims(call);
        return std::vector<LoopValue>{
            reduce_dims(b, ReduceOp::min, x, dims, keeps_dims(call), x.dtype, x.dtype, ".min"),
            reduce_dims(b, ReduceOp::max, x, dims, keeps_dims(call), x.dtype, x.dtype, ".max")};
      })
      .sample("aten.aminmax.default(f32[3,4], dim=1)");
  // Without dim, the place in the flattened tensor.
  for (bool high : {true, false}) {
    std::string name = high ? "aten.argmax.default" : "aten.argmin.default";
    ops.add(name)
        .infer([](const Call& call) -> Types {
          TensorType type = reduced_type(call, DType::i64);
          return one(std::move(type));
        })
        .lower([high](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          Dims dims = reduced_dims(call);
          if (dims.empty()) return b.full({}, int_expr(b, 0), DType::i64);
          return b.reduce(high ? ReduceOp::argmax : ReduceOp::argmin, x, dims, keeps_dims(call), x.dtype, DType::i64,
                          "");
        })
        .sample(name + "(f32[3,4], -1)")
        .sample(name + "(f32[3,4])")
        .sample(name + "(f32[3,4], 0, True)");
  }
  // uint8 keeps its type, everything else becomes bool.
  struct Truth {
    const char *name, *sample;
    ReduceOp op;
  };
  for (Truth row :
       {Truth{"any.default", "(bool[3,4])", ReduceOp::any}, Truth{"any.dim", "(f32[3,4], 1, True)", ReduceOp::any},
        Truth{"any.dims", "(bool[3,4], [0, 1])", ReduceOp::any}, Truth{"all.default", "(bool[3,4])", ReduceOp::all},
        Truth{"all.dim", "(i64[3,4], 0)", ReduceOp::all}, Truth{"all.dims", "(bool[3,4], [0])", ReduceOp::all}}) {
    auto dtype = [](const Call& call) { return call.type("self").dtype == DType::u8 ? DType::u8 : DType::b8; };
    ops.add(format("aten.{}", row.name))
        .infer([dtype](const Call& call) -> Types { return one(reduced_type(call, dtype(call))); })
        .lower([row, dtype](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = b.convert(call.tensor("self"), DType::b8);
          LoopValue y = reduce_dims(b, row.op, x, reduced_dims(call), keeps_dims(call), DType::b8, DType::b8);
          return b.convert(y, dtype(call));
        })
        .sample(format("aten.{}{}", row.name, row.sample));
  }
}

// ----------------------------------------------------------------------------------- variance, norms, logsumexp

double correction_of(const Call& call) {
  if (call.schema().find_arg("correction") >= 0) return call.has("correction") ? call.number("correction") : 1;
  return call.flag("unbiased") ? 1 : 0;
}

// Two passes. The divisor is max(0, n - correction), so that too few elements give NaN or inf.
void add_variances(OpTable& ops) {
  for (const char* base : {"var", "std", "var_mean", "std_mean"})
    for (const char* form : {"correction", "default", "dim"}) {
      std::string name = format("aten.{}.{}", base, form), kind = base;
      bool with_mean = kind.ends_with("_mean"), root = kind.starts_with("std");
      OpRow& row = ops.add(name);
      row.infer([with_mean](const Call& call) -> Types {
           const DType dtype = call.type("self").dtype;
           TensorType type = reduced_type(call, part_type(dtype)), mean = reduced_type(call, dtype);
           return with_mean ? std::vector<TensorType>{type, mean} : std::vector<TensorType>{type};
         })
          .lower_many([with_mean, root](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
            LoopValue x = call.tensor("self");
            const DType part = part_type(x.dtype), compute = accumulate_type(part);
            Dims dims = reduced_dims(call);
            bool keep = keeps_dims(call);
            LoopBuilder* p = &b;
            LoopValue mean, squares;
            if (is_complex(x.dtype)) {
              // Each part by itself: |x - m|^2 is the sum of theirs.
              LoopValue re = b.from(part, x.sizes, [=](const Index& i) { return p->pool().real(x.at(i)); });
              LoopValue im = b.from(part, x.sizes, [=](const Index& i) { return p->pool().imag(x.at(i)); });
              LoopValue re_mean = mean_over(b, re, dims, true, compute, ".mean_real");
              LoopValue im_mean = mean_over(b, im, dims, true, compute, ".mean_imag");
              mean = b.from(x.dtype, re_mean.sizes,
                            [=](const Index& i) { return p->pool().pair(re_mean.at(i), im_mean.at(i)); });
              LoopValue across = squared_deviations(b, re, re_mean, dims, keep, compute, ".squares_real");
              LoopValue up = squared_deviations(b, im, im_mean, dims, keep, compute, ".squares_imag");
              squares = b.map({across, up}, across.sizes, compute, compute,
                              [p](const std::vector<ExprId>& v) { return p->add(v[0], v[1]); });
            } else {
              mean = mean_over(b, x, dims, true, compute, ".mean");
              squares = squared_deviations(b, x, mean, dims, keep, compute, ".squares");
            }
            ExprId n = b.cvt(b.index(count_of(x.sizes, dims)), compute);
            ExprId divisor = b.op(ScalarOp::max,
                                  {b.sub(n, number_expr(b, correction_of(call), compute)), number_expr(b, 0, compute)});
            LoopValue var = map1(b, squares, compute, part, [p, divisor, root](ExprId s) {
              ExprId v = p->div(s, divisor);
              return root ? p->op(ScalarOp::sqrt, {v}) : v;
            });
            if (!with_mean) return std::vector<LoopValue>{var};
            LoopValue m = keep ? mean : b.reshape(mean, reduced_sizes(x.sizes, dims, false));
            return std::vector<LoopValue>{var, b.convert(m, x.dtype)};
          });
      std::string f = form;
      row.sample(name + (f == "correction" ? "(f32[3,4,5], [1, 2], correction=1, keepdim=True)"
                         : f == "default"  ? "(f32[3,4])"
                                           : "(f32[3,4], [1], False)"));
      if (f == "correction") row.sample(name + "(c64[3,4,5], [1], correction=1)");
    }
}

// (sum |x|^p)^(1/p); p of 0 counts, infinite p takes the extreme of |x|.
LoopValue vector_norm(LoopBuilder& b, const LoopValue& x, double order, const Dims& dims, bool keepdim, DType result) {
  LoopBuilder* p = &b;
  DType compute = accumulate_type(result);
  auto num = [p, compute](double v) { return number_expr(*p, v, compute); };
  if (std::isinf(order)) {
    LoopValue size = map1(b, x, compute, compute, [p](ExprId v) { return p->op(ScalarOp::abs, {v}); });
    return reduce_dims(b, order > 0 ? ReduceOp::max : ReduceOp::min, size, dims, keepdim, compute, result);
  }
  LoopValue powers = map1(b, x, compute, compute, [=](ExprId v) {
    if (order == 0) return p->where(p->op(ScalarOp::ne, {v, num(0)}), num(1), num(0));
    if (order == 2) return p->mul(v, v);
    ExprId size = p->op(ScalarOp::abs, {v});
    return order == 1 ? size : p->op(ScalarOp::pow, {size, num(order)});
  });
  LoopValue sum = reduce_dims(b, ReduceOp::sum, powers, dims, keepdim, compute, compute);
  return map1(b, sum, compute, result, [=](ExprId v) {
    if (order == 0 || order == 1) return v;
    return order == 2 ? p->op(ScalarOp::sqrt, {v}) : p->op(ScalarOp::pow, {v, num(1 / order)});
  });
}

void add_norms(OpTable& ops) {
  struct Row {
    const char *name, *order, *sample;
  };
  for (Row row :
       {Row{"linalg_vector_norm.default", "ord", "(f32[3,4], 2, [1], True)"}, Row{"norm.Scalar", "p", "(f32[3,4])"},
        Row{"norm.ScalarOpt_dim", "p", "(f32[3,4], 3, [0])"}, Row{"linalg_vector_norm.default", "ord", ""},
        Row{"frobenius_norm.dim", nullptr, "(f32[3,4], [0, 1])"}}) {
    std::string name = format("aten.{}", row.name);
    if (ops.find(name)) continue;
    auto dtype = [](const Call& call) { return part_type(dtype_argument(call).value_or(call.type("self").dtype)); };
    ops.add(name)
        .infer([dtype](const Call& call) -> Types { return one(reduced_type(call, dtype(call))); })
        .lower([row, dtype](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          double order = row.order && call.has(row.order) ? call.number(row.order) : 2;
          LoopValue x = call.tensor("self");
          if (is_complex(x.dtype)) {
            LoopBuilder* p = &b;
            x = b.from(part_type(x.dtype), x.sizes, [p, x](const Index& i) { return p->op(ScalarOp::abs, {x.at(i)}); });
          }
          x = b.convert(x, dtype(call));
          return vector_norm(b, x, order, reduced_dims(call), keeps_dims(call), dtype(call));
        })
        .sample(name + row.sample);
  }
  // max + log(sum(exp(x - max))), with an infinite max taken as 0.
  ops.add("aten.logsumexp.default")
      .infer([](const Call& call) -> Types { return one(reduced_type(call, float_dtype(call.type("self").dtype))); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = b.convert(call.tensor("self"), float_dtype(call.type("self").dtype));
        const DType compute = accumulate_type(x.dtype), real = part_type(compute);
        Dims dims = reduced_dims(call);
        LoopBuilder* p = &b;
        // Of complex numbers the real part says how great an exponential is.
        LoopValue level = b.from(real, x.sizes, [p, x](const Index& i) { return p->pool().real(x.at(i)); });
        LoopValue high = reduce_dims(b, ReduceOp::max, is_complex(compute) ? level : x, dims, true, real, real, ".max");
        LoopValue finite = map1(b, high, real, real, [p, real](ExprId v) {
          return p->where(p->op(ScalarOp::isinf, {v}), number_expr(*p, 0, real), v);
        });
        LoopValue terms = b.map({x, finite}, x.sizes, compute, compute, [p](const std::vector<ExprId>& v) {
          return p->op(ScalarOp::exp, {p->sub(v[0], v[1])});
        });
        LoopValue sum = reduce_dims(b, ReduceOp::sum, terms, dims, true, compute, compute, ".sum");
        LoopValue y = b.map({sum, finite}, sum.sizes, compute, x.dtype,
                            [p](const std::vector<ExprId>& v) { return p->add(p->op(ScalarOp::log, {v[0]}), v[1]); });
        return keeps_dims(call) ? y : b.reshape(y, reduced_sizes(x.sizes, dims, false));
      })
      .sample("aten.logsumexp.default(f32[3,4], [1])")
      .sample("aten.logsumexp.default(c64[3,4], [1])")
      .sample("aten.logsumexp.default(f32[3,4,5], [0, 2], True)");
}

// ------------------------------------------------------------------------------------------------------ softmax

void add_softmaxes(OpTable& ops) {
  for (bool log : {false, true})
    for (bool composite : {true, false}) {
      std::string name =
          format("aten.{}{}softmax.{}", composite ? "" : "_", log ? "log_" : "", composite ? "int" : "default");
      auto dtype = [composite](const Call& call) {
        DType d = call.type("self").dtype;
        if (composite) return call.dtype("dtype").value_or(d);
        return call.flag("half_to_float") ? DType::f32 : d;
      };
      ops.add(name)
          .infer([dtype](const Call& call) -> Types {
            const TensorType& x = call.type("self");
            if (!is_float(dtype(call))) return fail(Kind::bad_graph, "`{}` of {}", call.op(), dtype_name(dtype(call)));
            return one(contiguous_type(call, dtype(call), x.sizes));
          })
          .lower([dtype, log](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
            LoopValue x = call.tensor("self");
            if (!is_low_precision(x.dtype)) x = b.convert(x, dtype(call));
            return softmax(b, x, call.dim("dim", x.rank()), dtype(call), log);
          })
          .sample(name + "(f32[3,4], " + (composite ? "-1)" : "-1, False)"))
          .sample(name + "(bf16[3,4,5], " + (composite ? "1)" : "1, False)"));
    }
  // A row of all -inf becomes 0.
  ops.add("aten._safe_softmax.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        return one(contiguous_type(call, call.dtype("dtype").value_or(x.dtype), x.sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        DType dtype = call.dtype("dtype").value_or(x.dtype), compute = accumulate_type(dtype);
        int64_t dim = call.dim("dim", x.rank());
        LoopValue y = softmax(b, x, dim, dtype, false);
        LoopValue high = b.reduce(ReduceOp::max, x, {dim}, true, compute, compute, ".highest");
        LoopBuilder* p = &b;
        return b.map({y, high}, x.sizes, compute, dtype, [p, compute](const std::vector<ExprId>& v) {
          return p->where(p->op(ScalarOp::eq, {v[1], lowest(*p, compute)}), number_expr(*p, 0, compute), v[0]);
        });
      })
      .sample("aten._safe_softmax.default(f32[3,4], -1)");
}

// -------------------------------------------------------------------------------------------------------- scans

void add_scans(OpTable& ops) {
  for (bool product : {false, true}) {
    std::string name = product ? "aten.cumprod.default" : "aten.cumsum.default";
    auto dtype = [](const Call& call) { return call.dtype("dtype").value_or(sum_dtype(call.type("self").dtype)); };
    ops.add(name)
        .infer([dtype](const Call& call) -> Types {
          return one(contiguous_type(call, dtype(call), call.type("self").sizes));
        })
        .lower([dtype, product](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = b.convert(call.tensor("self"), dtype(call));
          return b.scan(product ? ReduceOp::prod : ReduceOp::sum, x, call.dim("dim", x.rank()),
                        accumulate_type(dtype(call)), dtype(call));
        })
        .sample(name + "(f32[3,4], 1)")
        .sample(name + "(i64[3,4], 0)")
        .sample(name + "(c64[3,4], 0)")
        .sample(name + "(bool[4], 0)");
  }
  // Differences of neighbours, n times, after joining prepend and append; bool differs by xor.
  ops.add("aten.diff.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        SymList sizes = x.sizes;
        Sym& size = sizes[static_cast<size_t>(call.dim("dim", x.rank()))];
        for (const char* extra : {"prepend", "append"})
          if (is_tensor(call, extra)) size += call.type(extra).sizes[static_cast<size_t>(call.dim("dim", x.rank()))];
        size = sym_max(size - call.constant("n"), 0);
        return one(unclaimed_type(call, x.dtype, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        int64_t dim = call.dim("dim", x.rank());
        std::vector<LoopValue> parts{x};
        if (is_tensor(call, "prepend")) parts.insert(parts.begin(), b.convert(call.tensor("prepend"), x.dtype));
        if (is_tensor(call, "append")) parts.push_back(b.convert(call.tensor("append"), x.dtype));
        if (parts.size() > 1) x = b.cat(parts, dim);
        LoopBuilder* p = &b;
        for (int64_t i = 0; i < call.constant("n"); ++i) {
          Sym length = x.sizes[static_cast<size_t>(dim)] - 1;
          LoopValue after = b.slice(x, dim, 1, length), before = b.slice(x, dim, 0, length);
          x = b.map({after, before}, after.sizes, x.dtype, x.dtype, [p](const std::vector<ExprId>& v) {
            return is_bool(p->type(v[0])) ? p->op(ScalarOp::lxor, {v[0], v[1]}) : p->sub(v[0], v[1]);
          });
        }
        return x;
      })
      .sample("aten.diff.default(f32[3,5])")
      .sample("aten.diff.default(i64[5], 2, 0, i64[1])")
      .sample("aten.diff.default(bool[3,5])");
  // sum of the diagonal
  ops.add("aten.trace.default")
      .infer(
          [](const Call& call) -> Types { return one(contiguous_type(call, sum_dtype(call.type("self").dtype), {})); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        DType dtype = sum_dtype(x.dtype);
        LoopValue diagonal = b.from(x.dtype, {sym_min(x.sizes[0], x.sizes[1])}, [x](const Index& i) {
          return x.at({i[0], i[0]});
        });
        return b.reduce(ReduceOp::sum, diagonal, {0}, false, accumulate_type(dtype), dtype, "");
      })
      .sample("aten.trace.default(f32[3,4])");
}

}  // namespace

void add_reduction_ops(OpTable& ops) {
  add_sums(ops);
  add_extremes(ops);
  add_variances(ops);
  add_norms(ops);
  add_softmaxes(ops);
  add_scans(ops);
}

}  // namespace toroid
