// Sorting and what follows from an order: top-k, kth values, medians, modes, quantiles, searches.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;
// As routines take elements: low precision in f32, which keeps every order.
LoopValue wide(LoopBuilder& b, const LoopValue& x) { return is_low_precision(x.dtype) ? b.convert(x, DType::f32) : x; }

Sym rows_of(const SymList& sizes) { return product(SymList(sizes.begin(), sizes.end() - 1)); }

// For each line along dim its places in order; dim stays where it is.
LoopValue places_in_order(LoopBuilder& b, const LoopValue& x, int64_t dim, bool descending,
                          const std::optional<Sym>& first = std::nullopt) {
  const std::vector<int> order = dim_last(x.rank(), dim);
  LoopValue moved = b.permute(wide(b, x), order);
  SymList sizes = moved.sizes, integers{rows_of(sizes), sizes.back()};
  if (first) {
    sizes.back() = *first;
    integers.push_back(*first);
  }
  integers.push_back(descending ? 1 : 0);
  LoopValue places = b.routine(first ? "topk" : "argsort", DType::i64, sizes, {moved}, integers, {}, ".order");
  return b.permute(places, inverse_order(order));
}

// x at computed places along dim: where[i] takes the place of i[dim].
LoopValue picked(LoopBuilder& b, const LoopValue& x, int64_t dim, const LoopValue& where) {
  return b.from(x.dtype, where.sizes, [x, dim, where](const Index& i) {
    Index xi = i;
    xi[at(dim)] = where.at(i);
    return x.at(xi);
  });
}

// A 0-d tensor is a line of one element; results lose the dim again.
struct Line {
  LoopValue x;
  int64_t dim = 0;
  bool scalar = false;
};
Line line_of(LoopBuilder& b, const LowerCall& call, const char* arg = "self") {
  Line line{call.tensor(arg), 0, false};
  if (line.x.rank() == 0) {
    line.x = b.unsqueeze(line.x, 0);
    line.scalar = true;
  } else {
    line.dim = call.dim("dim", line.x.rank());
  }
  return line;
}
LoopValue finished(LoopBuilder& b, const Line& line, LoopValue y, bool keepdim) {
  return line.scalar || !keepdim ? b.squeeze(y, line.dim) : y;
}

void add_sorts(OpTable& ops) {
  auto sorts = [](bool values) {
    return [values](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      Line line = line_of(b, call);
      LoopValue order = places_in_order(b, line.x, line.dim, call.flag("descending"));
      LoopValue places = finished(b, line, order, true);
      if (!values) return Values{places};
      return Values{finished(b, line, picked(b, line.x, line.dim, order), true), places};
    };
  };
  lowered(ops, "sort.default", sorts(true))
      .sample("aten.sort.default(f32[4,5])")
      .sample("aten.sort.default(i64[4,5], 0, True)");
  lowered(ops, "sort.stable", sorts(true)).sample("aten.sort.stable(f32[4,5], stable=True, dim=1)");
  lowered(ops, "argsort.default", sorts(false)).sample("aten.argsort.default(f32[4,5])");
  lowered(ops, "argsort.stable", sorts(false)).sample("aten.argsort.stable(f32[4,5], stable=True, dim=0)");
  compose(ops, "msort.default", [](Compose& c) -> Composed {
    return c("sort.default", {c["self"], 0});
  }).sample("aten.msort.default(f32[4,5])");
  lowered(ops, "topk.default",
          [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
            Line line = line_of(b, call);
            LoopValue order = places_in_order(b, line.x, line.dim, call.flag("largest"), call.integer("k"));
            return Values{finished(b, line, picked(b, line.x, line.dim, order), true), finished(b, line, order, true)};
          })
      .sample("aten.topk.default(f32[4,7], 3)")
      .sample("aten.topk.default(bf16[4,7], 2, 0, False)");
}

// The element at place k of each line's order.
Values kth(LoopBuilder& b, const Line& line, const std::function<ExprId(const Index&)>& k, bool keepdim) {
  LoopValue order = places_in_order(b, line.x, line.dim, false);
  SymList sizes = line.x.sizes;
  sizes[at(line.dim)] = 1;
  LoopValue place = b.materialize(b.from(DType::i64, sizes,
                                         [=](const Index& i) {
                                           Index oi = i;
                                           oi[at(line.dim)] = k(i);
                                           return order.at(oi);
                                         }),
                                  ".place");
  return {finished(b, line, picked(b, line.x, line.dim, place), keepdim), finished(b, line, place, keepdim)};
}

// Where the median stands in order: the lower middle. A line with a NaN gives its first NaN, unless they are left out.
std::function<ExprId(const Index&)> middle(LoopBuilder& b, const Line& line, bool skip_nan) {
  LoopBuilder* p = &b;
  const Sym n = line.x.sizes[at(line.dim)];
  if (!is_float(line.x.dtype)) return [p, n](const Index&) { return p->index(floor_div(n - 1, 2)); };
  LoopValue is_nan = map1(b, wide(b, line.x), register_type(line.x.dtype), DType::i64,
                          [p](ExprId v) { return p->cvt(p->op(ScalarOp::isnan, {v}), DType::i64); });
  LoopValue count = b.reduce(ReduceOp::sum, is_nan, {line.dim}, true, DType::i64, DType::i64, ".nans");
  return [=](const Index& i) {
    ExprId good = p->sub(p->index(n), count.at(i)), zero = int_expr(*p, 0);
    if (skip_nan) {
      ExprId half = p->op(ScalarOp::floordiv, {p->sub(good, int_expr(*p, 1)), int_expr(*p, 2)});
      return p->op(ScalarOp::max, {half, zero});
    }
    return p->where(p->op(ScalarOp::gt, {count.at(i), zero}), good, p->index(floor_div(n - 1, 2)));
  };
}

void add_ranks(OpTable& ops) {
  lowered(ops, "kthvalue.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    Line line = line_of(b, call);
    LoopBuilder* p = &b;
    const Sym k = call.integer("k") - 1;
    return kth(
        b, line, [p, k](const Index&) { return p->index(k); }, call.flag("keepdim"));
  }).sample("aten.kthvalue.default(f32[4,5], 2)");
  for (bool skip_nan : {false, true}) {
    const std::string name = skip_nan ? "nanmedian" : "median";
    lowered(ops, name + ".dim", [skip_nan](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      Line line = line_of(b, call);
      return kth(b, line, middle(b, line, skip_nan), call.flag("keepdim"));
    }).sample("aten." + name + ".dim(f32[4,5], 1)");
    lowered(ops, name + ".default", [skip_nan](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      LoopValue x = call.tensor("self");
      Line line{b.reshape(x, {product(x.sizes)}), 0, true};
      if (is_zero(line.x.sizes[0])) return Values{b.full({}, number_expr(b, NAN, x.dtype), x.dtype)};
      return Values{kth(b, line, middle(b, line, skip_nan), false)[0]};
    }).sample("aten." + name + ".default(f32[4,5])");
  }
  lowered(ops, "mode.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    Line line = line_of(b, call);
    const std::vector<int> moved = dim_last(line.x.rank(), line.dim);
    LoopValue order = places_in_order(b, line.x, line.dim, false);
    LoopValue sorted = b.permute(wide(b, picked(b, line.x, line.dim, order)), moved);
    SymList sizes(sorted.sizes.begin(), sorted.sizes.end() - 1);
    LoopValue best = b.routine("mode_of", DType::i64, sizes, {sorted, b.permute(order, moved)},
                               {rows_of(sorted.sizes), sorted.sizes.back()}, {}, ".best");
    LoopValue place = b.unsqueeze(best, line.dim);
    return Values{finished(b, line, picked(b, line.x, line.dim, place), call.flag("keepdim")),
                  finished(b, line, place, call.flag("keepdim"))};
  }).sample("aten.mode.default(i64[4,6])");
}

// Between the two elements around rank q (n - 1) of the sorted line; a line with a NaN gives NaN, or leaves them out.
void add_quantiles(OpTable& ops) {
  for (bool skip_nan : {false, true})
    for (bool tensor : {false, true}) {
      const std::string name = format("{}.{}", skip_nan ? "nanquantile" : "quantile", tensor ? "default" : "scalar");
      lowered(ops, name, [=](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
        LoopValue x = call.tensor("self");
        LoopBuilder* p = &b;
        const DType dtype = x.dtype;
        const int64_t rank = x.rank();
        const bool flat = !call.has("dim"), keepdim = call.flag("keepdim");
        LoopValue rows = flat ? b.reshape(x, {product(x.sizes)}) : x;
        if (rows.rank() == 0) rows = b.unsqueeze(rows, 0);
        const int64_t dim = flat || rank == 0 ? 0 : call.dim("dim", rank);
        const std::vector<int> moved = dim_last(rows.rank(), dim);
        LoopValue sorted = b.permute(picked(b, rows, dim, places_in_order(b, rows, dim, false)), moved);
        sorted = b.materialize(sorted, ".sorted");
        const Sym n = sorted.sizes.back();
        LoopValue nans = map1(b, sorted, dtype, DType::i64,
                              [p](ExprId v) { return p->cvt(p->op(ScalarOp::isnan, {v}), DType::i64); });
        LoopValue count = b.reduce(ReduceOp::sum, nans, {sorted.rank() - 1}, false, DType::i64, DType::i64, ".nans");
        std::optional<LoopValue> qs;
        if (tensor) qs = call.tensor("q");
        const double q = tensor ? 0 : call.number("q");
        const std::string how = call.text("interpolation");
        const size_t lead = qs ? at(qs->rank()) : 0;
        SymList sizes = qs ? qs->sizes : SymList{};
        sizes.insert(sizes.end(), sorted.sizes.begin(), sorted.sizes.end() - 1);
        LoopValue y = b.from(dtype, sizes, [=](const Index& i) {
          Index row(i.begin() + static_cast<ptrdiff_t>(lead), i.end());
          ExprId fraction =
              qs ? qs->at(Index(i.begin(), i.begin() + static_cast<ptrdiff_t>(lead))) : number_expr(*p, q, dtype);
          ExprId bad = count.at(row), last = p->index(n - 1);
          ExprId good = p->op(ScalarOp::max, {p->sub(last, bad), int_expr(*p, 0)});
          ExprId place = p->mul(fraction, p->cvt(skip_nan ? good : last, dtype));
          if (!skip_nan) place = p->where(p->op(ScalarOp::gt, {bad, int_expr(*p, 0)}), p->cvt(last, dtype), place);
          auto element = [&](ExprId real) {
            Index si = row;
            ExprId whole = p->op(ScalarOp::max, {p->cvt(real, DType::i64), int_expr(*p, 0)});
            si.push_back(p->op(ScalarOp::min, {whole, last}));
            return sorted.at(si);
          };
          ExprId below = p->op(ScalarOp::floor, {place});
          if (how == "lower") return element(below);
          if (how == "higher") return element(p->op(ScalarOp::ceil, {place}));
          if (how == "nearest") return element(p->op(ScalarOp::round, {place}));
          ExprId w = how == "midpoint" ? number_expr(*p, 0.5, dtype) : p->sub(place, below);
          ExprId low = element(below), high = element(p->op(ScalarOp::ceil, {place}));
          ExprId gap = p->sub(high, low), one = number_expr(*p, 1, dtype);
          return p->where(p->op(ScalarOp::lt, {w, number_expr(*p, 0.5, dtype)}), p->add(low, p->mul(w, gap)),
                          p->sub(high, p->mul(gap, p->sub(one, w))));
        });
        if (keepdim) {
          if (!flat && rank > 0) {
            y = b.unsqueeze(y, static_cast<int64_t>(lead) + dim);
          } else {
            for (int64_t d = 0; d < rank; ++d) y = b.unsqueeze(y, y.rank());
          }
        }
        return Values{y};
      }).sample("aten." + name + (tensor ? "(f32[4,5], f32[0], 1)" : "(f32[4,5], 0.3, 1)"));
    }
}

// Places at which values would go into a sorted table.
LoopValue searched(LoopBuilder& b, LoopValue table, LoopValue values, bool right, bool narrow) {
  const DType common = register_type(promote(table.dtype, values.dtype));
  const bool scalar = values.rank() == 0;
  if (scalar) values = b.unsqueeze(values, 0);
  const bool shared = table.rank() == 1;
  const Sym k = values.sizes.back();
  LoopValue found =
      b.routine("search", DType::i64, values.sizes, {b.convert(table, common), b.convert(values, common)},
                {product(values.sizes), table.sizes.back(), k, shared ? 1 : 0, right ? 1 : 0}, {}, ".found");
  if (scalar) found = b.squeeze(found, 0);
  return narrow ? b.convert(found, DType::i32) : found;
}

void add_searches(OpTable& ops) {
  for (bool scalar : {false, true}) {
    lowered(ops, scalar ? "searchsorted.Scalar" : "searchsorted.Tensor",
            [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue table = call.tensor("sorted_sequence");
              if (is_tensor(call, "sorter"))
                table = b.materialize(picked(b, table, table.rank() - 1, call.tensor("sorter")), ".sorted");
              const bool right = call.flag("right") || (call.has("side") && call.text("side") == "right");
              LoopValue values =
                  operand(b, call, "self", is_tensor(call, "self") ? call.type("self").dtype : table.dtype);
              return Values{searched(b, table, values, right, call.flag("out_int32"))};
            })
        .sample(scalar ? "aten.searchsorted.Scalar(f32[5], 0.5)"
                       : "aten.searchsorted.Tensor(f32[2,5], f32[2,3], right=True)");
    lowered(ops, scalar ? "bucketize.Scalar" : "bucketize.Tensor",
            [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue table = call.tensor("boundaries");
              LoopValue values =
                  operand(b, call, "self", is_tensor(call, "self") ? call.type("self").dtype : table.dtype);
              return Values{searched(b, table, values, call.flag("right"), call.flag("out_int32"))};
            })
        .sample(scalar ? "aten.bucketize.Scalar(0.5, f32[5])" : "aten.bucketize.Tensor(f32[2,3], f32[5])");
  }
  // Whether each element is among the others: found in their order.
  for (const char* form : {"Tensor_Tensor", "Tensor_Scalar", "Scalar_Tensor"})
    lowered(ops, format("isin.{}", form),
            [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              const char* e = call.schema().find_arg("elements") >= 0 ? "elements" : "element";
              const char* t = call.schema().find_arg("test_elements") >= 0 ? "test_elements" : "test_element";
              const DType common = promoted(call, {e, t});
              LoopBuilder* p = &b;
              LoopValue x = operand(b, call, e, common), tests = operand(b, call, t, common);
              const bool invert = call.flag("invert");
              LoopValue flat = b.reshape(tests, {product(tests.sizes)});
              const Sym n = flat.sizes[0];
              if (is_zero(n)) return Values{b.full(x.sizes, b.pool().constant(invert, DType::b8), DType::b8)};
              LoopValue sorted = b.materialize(picked(b, flat, 0, places_in_order(b, flat, 0, false)), ".sorted");
              LoopValue place = searched(b, sorted, x, false, false);
              return Values{b.from(DType::b8, x.sizes, [=](const Index& i) {
                ExprId found = sorted.at({p->op(ScalarOp::min, {place.at(i), p->index(n - 1)})});
                return p->op(invert ? ScalarOp::ne : ScalarOp::eq, {found, x.at(i)});
              })};
            })
        .sample(format("aten.isin.{}({}, {})", form, *form == 'T' ? "i64[4]" : "2",
                       std::string(form).ends_with("Tensor") ? "i64[3]" : "2"));
}

}  // namespace

void add_sort_ops(OpTable& ops) {
  add_sorts(ops);
  add_ranks(ops);
  add_quantiles(ops);
  add_searches(ops);
}

}  // namespace toroid
