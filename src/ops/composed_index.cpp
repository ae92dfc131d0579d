// Accumulation at computed places, histograms, ragged segments, and windows whose position is data.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"
#include "ops/scattered.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;
using Args = std::vector<ExprId>;
void add_flat_writes(OpTable& ops) {
  lowered(ops, "put.default",
          [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
            LoopValue x = call.tensor("self"), index = call.tensor("index");
            const Sym n = product(x.sizes), m = product(index.sizes);
            LoopValue flat = b.reshape(index, {m}), source = b.reshape(b.convert(call.tensor("source"), x.dtype), {m});
            LoopBuilder* p = &b;
            LoopValue y = scattered(
                b, b.reshape(x, {1, n}), {1, m}, [=](const Index& i) { return wrapped_index(*p, flat.at({i[1]}), n); },
                [=](const Index& i) { return source.at({i[1]}); }, call.flag("accumulate") ? Join::add : Join::set,
                true);
            return Values{b.reshape(y, x.sizes)};
          })
      .sample("aten.put.default(f32[3,4], i64[5], f32[5])")
      .sample("aten.put.default(f32[3,4], i64[5], f32[5], True)");
  // Rows that are looked up and longer than max_norm become as long.
  compose(ops, "embedding_renorm.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self");
    LoopValue rows = c("reshape.default", {c.tensor("indices"), SymList{product(c.tensor("indices").sizes)}});
    LoopValue used = c("index_fill.int_Scalar", {c("new_zeros.default", {x, SymList{x.sizes[0], 1}}), 0, rows, 1});
    LoopValue norm = c("linalg_vector_norm.default", {x, c["norm_type"], SymList{1}, true});
    LoopValue scale = c.mul(c("reciprocal.default", {c.add(norm, 1e-7)}), c["max_norm"]);
    LoopValue longer = c("logical_and.default", {used, c("gt.Scalar", {norm, c["max_norm"]})});
    return c.mul(x, c("where.ScalarOther", {longer, scale, 1.0}));
  }).sample("aten.embedding_renorm.default(f32[5,4], i64[3], 0.5, 2.0)");
  // The k-th place that the mask has takes source's k-th element.
  compose(ops, "masked_scatter.default", [](Compose& c) -> Composed {
    Values both = c.all("broadcast_tensors.default", {Values{c.tensor("self"), c.tensor("mask")}});
    LoopValue x = both[0], mask = both[1], source = c.tensor("source");
    const Sym n = product(x.sizes), m = product(source.sizes);
    if (is_zero(n)) return c("clone.default", {x});
    LoopValue flat = c("reshape.default", {mask, SymList{n}});
    LoopValue count = c("cumsum.default", {flat, 0});
    LoopValue values = c("reshape.default", {source, SymList{m}});
    LoopBuilder* p = &c.b;
    return c.b.from(x.dtype, x.sizes, [=](const Index& i) {
      ExprId place = p->sub(count.at({p->linear(i, x.sizes)}), int_expr(*p, 1));
      return p->where(mask.at(i), p->cvt(values.at({checked_index(*p, place, m)}), x.dtype), x.at(i));
    });
  }).sample("aten.masked_scatter.default(f32[3,4], bool[3,4], f32[12])");
  // The indices stay in range even where the mask hides them.
  auto clamped = [](Compose& c, const LoopValue& x) {
    std::vector<ValueId> ids = c.call.values("indices");
    std::vector<std::optional<LoopValue>> list;
    for (size_t d = 0; d < ids.size(); ++d) {
      if (!ids[d].valid()) {
        list.emplace_back();
        continue;
      }
      LoopValue low = c("clamp_min.Tensor",
                        {c.call.tensor(ids[d]), c("scalar_tensor.default", {-x.sizes[d]}, {{"dtype", DType::i64}})});
      list.push_back(
          c("clamp_max.Tensor", {low, c("scalar_tensor.default", {x.sizes[d] - 1}, {{"dtype", DType::i64}})}));
    }
    return list;
  };
  compose(ops, "_unsafe_masked_index.default", [clamped](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), mask = c.tensor("mask");
    LoopValue picked = c("index.Tensor", {x, Passed::optional(clamped(c, x))});
    LoopBuilder* p = &c.b;
    ExprId fill = c.call.scalar(c.b, "fill", x.dtype);
    LoopValue wide = c.b.broadcast(mask, picked.sizes);
    return c.b.from(x.dtype, picked.sizes, [=](const Index& i) { return p->where(wide.at(i), picked.at(i), fill); });
  }).sample("aten._unsafe_masked_index.default(f32[4,5], bool[3], [i64[3], i64[3]], 2.5)");
  compose(ops, "_unsafe_masked_index_put_accumulate.default", [clamped](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), mask = c.tensor("mask"), values = c.tensor("values");
    LoopBuilder* p = &c.b;
    LoopValue wide = c.b.broadcast(mask, values.sizes);
    LoopValue kept = c.b.from(x.dtype, values.sizes, [=](const Index& i) {
      return p->where(wide.at(i), p->cvt(values.at(i), x.dtype), number_expr(*p, 0, x.dtype));
    });
    return c("index_put.default", {x, Passed::optional(clamped(c, x)), kept, true});
  }).sample("aten._unsafe_masked_index_put_accumulate.default(f32[4,5], bool[3], [i64[3], i64[3]], f32[3])");
}

// ------------------------------------------------------------------------------------------------------- histograms

// Counts (or weights) of each place, those below 0 left out.
LoopValue counted(LoopBuilder& b, const Sym& bins, const Sym& n, DType dtype,
                  const std::function<ExprId(ExprId)>& place, const std::function<ExprId(ExprId)>& weight) {
  LoopValue zero = b.full({1, bins}, number_expr(b, 0, dtype), dtype);
  LoopValue y = scattered(
      b, zero, {1, n}, [place](const Index& i) { return place(i[1]); },
      [weight](const Index& i) { return weight(i[1]); }, Join::add, true);
  return b.reshape(y, {bins});
}

// The range of a histogram: as given, or the data's; equal ends move apart.
std::pair<ExprId, ExprId> bounds(LoopBuilder& b, const LoopValue& flat, std::optional<std::pair<double, double>> given,
                                 double apart) {
  const DType type = register_type(flat.dtype);
  LoopBuilder* p = &b;
  ExprId low, high;
  if (given) {
    low = number_expr(b, given->first, type), high = number_expr(b, given->second, type);
  } else if (is_zero(flat.sizes[0])) {
    low = number_expr(b, 0, type), high = low;
  } else {
    low = b.reduce(ReduceOp::min, flat, {0}, false, type, type, ".low").at({});
    high = b.reduce(ReduceOp::max, flat, {0}, false, type, type, ".high").at({});
  }
  ExprId equal = p->op(ScalarOp::eq, {low, high}), step = number_expr(b, apart, type);
  return {p->where(equal, p->sub(low, step), low), p->where(equal, p->add(high, step), high)};
}

// How often each number occurs, or the sums of their weights: as many as the greatest number asks for.
void add_bincount(OpTable& ops) {
  ops.add("aten.bincount.default")
      .infer([](const Call& call) -> Types {
        DType dtype = DType::i64;
        if (is_tensor(call, "weights")) dtype = call.type("weights").dtype == DType::f32 ? DType::f32 : DType::f64;
        return one(contiguous_type(call, dtype, {unknown_size()}));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = b.convert(call.tensor("self"), DType::i64);
        const Sym n = x.sizes[0], least = call.integer("minlength"), bins = call.result().sizes[0];
        const DType dtype = call.result().dtype;
        LoopBuilder* p = &b;
        LoopValue shown = b.from(DType::i64, x.sizes, [=](const Index& i) {
          return p->op(ScalarOp::max, {p->add(x.at(i), int_expr(*p, 1)), p->index(least)});
        });
        if (is_zero(n)) {
          b.define_size(bins, b.full({}, b.index(least), DType::i64));
        } else {
          b.define_size(bins, b.reduce(ReduceOp::max, shown, {0}, false, DType::i64, DType::i64, ".bins"));
        }
        std::optional<LoopValue> weights;
        if (is_tensor(call, "weights")) weights = b.convert(call.tensor("weights"), dtype);
        auto place = [=](ExprId i) { return checked_index(*p, x.at({i}), bins); };
        return counted(b, bins, n, dtype, place,
                       [=](ExprId i) { return weights ? weights->at({i}) : number_expr(*p, 1, dtype); });
      })
      .sample("aten.bincount.default(u8[9])")
      .sample("aten.bincount.default(u8[9], f32[9], 4)");
}

void add_histograms(OpTable& ops) {
  lowered(ops, "histc.default",
          [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
            LoopValue x = call.tensor("self");
            const Sym n = product(x.sizes), bins = call.integer("bins");
            LoopValue flat = b.convert(b.reshape(x, {n}), register_type(x.dtype));
            const DType type = flat.dtype;
            if (!is_float(type)) return fail(Kind::unsupported_op, "`{}` of integers", call.op());
            std::optional<std::pair<double, double>> given;
            if (call.number("min") != call.number("max") || call.number("min") != 0)
              given = {call.number("min"), call.number("max")};
            if (given && given->first == given->second) given.reset();
            auto [low, high] = bounds(b, flat, given, 1);
            LoopBuilder* p = &b;
            auto place = [=, low = low, high = high](ExprId i) {
              ExprId v = flat.at({i}), zero = int_expr(*p, 0);
              ExprId inside = p->op(ScalarOp::land, {p->op(ScalarOp::ge, {v, low}), p->op(ScalarOp::le, {v, high})});
              ExprId scaled = p->mul(p->div(p->sub(v, low), p->sub(high, low)), p->cvt(p->index(bins), type));
              ExprId at = p->op(ScalarOp::min, {p->cvt(scaled, DType::i64), p->index(bins - 1)});
              return p->where(inside, p->op(ScalarOp::max, {at, zero}), int_expr(*p, -1));
            };
            LoopValue y = counted(b, bins, n, type, place, [=](ExprId) { return number_expr(*p, 1, type); });
            return Values{b.convert(y, x.dtype)};
          })
      .sample("aten.histc.default(f32[20], 5)")
      .sample("aten.histc.default(f32[20], 5, -1, 1)");
}

// Points x[n, d] in a grid of bins whose edges are e[0] … of each dim: the count of edges not above the point, the last
// edge belonging to the last bin.
struct Grid {
  std::vector<LoopValue> edges;  // of type f32 or f64
};

LoopValue grid_counts(LoopBuilder& b, const LoopValue& points, const Grid& grid, const std::optional<LoopValue>& weight,
                      bool density) {
  const Sym n = points.sizes[0];
  const DType type = points.dtype;
  LoopBuilder* p = &b;
  SymList bins;
  Values found;
  for (size_t d = 0; d < grid.edges.size(); ++d) {
    const Sym edges = grid.edges[d].sizes[0];
    bins.push_back(edges - 1);
    LoopValue column = b.from(type, {n}, [=](const Index& i) {
      return points.at({i[0], int_expr(*p, static_cast<int64_t>(d))});
    });
    found.push_back(b.routine("search", DType::i64, {n}, {grid.edges[d], column}, {n, edges, sym_max(n, 1), 1, 1}, {},
                              format(".bin{}", d)));
  }
  auto place = [=](ExprId i) {
    ExprId linear = int_expr(*p, 0), inside = p->pool().constant(1, DType::b8);
    for (size_t d = 0; d < bins.size(); ++d) {
      ExprId v = points.at({i, int_expr(*p, static_cast<int64_t>(d))});
      ExprId last = grid.edges[d].at({p->index(bins[d])}), first = grid.edges[d].at({int_expr(*p, 0)});
      ExprId bin = p->op(ScalarOp::min, {p->sub(found[d].at({i}), int_expr(*p, 1)), p->index(bins[d] - 1)});
      inside =
          p->op(ScalarOp::land,
                {inside, p->op(ScalarOp::land, {p->op(ScalarOp::ge, {v, first}), p->op(ScalarOp::le, {v, last})})});
      linear = p->add(p->mul(linear, p->index(bins[d])), bin);
    }
    return p->where(inside, linear, int_expr(*p, -1));
  };
  auto weigh = [=](ExprId i) { return weight ? p->cvt(weight->at({i}), type) : number_expr(*p, 1, type); };
  LoopValue counts = b.reshape(counted(b, product(bins), n, type, place, weigh), bins);
  if (!density) return counts;
  std::vector<int64_t> all;
  for (int64_t d = 0; d < counts.rank(); ++d) all.push_back(d);
  LoopValue total = b.reduce(ReduceOp::sum, counts, all, false, type, type, ".total");
  return b.from(type, bins, [=](const Index& i) {
    ExprId volume = total.at({});
    for (size_t d = 0; d < bins.size(); ++d)
      volume = p->mul(volume, p->sub(grid.edges[d].at({p->add(i[d], int_expr(*p, 1))}), grid.edges[d].at({i[d]})));
    return p->div(counts.at(i), volume);
  });
}

// bins + 1 edges at equal distances over the data's range or the given one.
LoopValue even_edges(LoopBuilder& b, const LoopValue& points, size_t d, int64_t bins,
                     std::optional<std::pair<double, double>> given) {
  LoopBuilder* p = &b;
  const DType type = points.dtype;
  LoopValue column = b.from(type, {points.sizes[0]}, [=](const Index& i) {
    return points.at({i[0], int_expr(*p, static_cast<int64_t>(d))});
  });
  auto [low, high] = bounds(b, column, given, 0.5);
  ExprId step = b.div(b.sub(high, low), number_expr(b, static_cast<double>(bins), type));
  return b.materialize(b.from(type, {bins + 1},
                              [=, low = low, high = high](const Index& i) {
                                ExprId up = p->add(low, p->mul(p->cvt(i[0], type), step));
                                ExprId down =
                                    p->sub(high, p->mul(p->cvt(p->sub(int_expr(*p, bins), i[0]), type), step));
                                return p->where(p->op(ScalarOp::lt, {i[0], int_expr(*p, (bins + 1) / 2)}), up, down);
                              }),
                       format(".edges{}", d));
}

std::vector<double> range_argument(const Call& call) {
  if (!call.has("range")) return {};
  const Arg& arg = call.arg("range");
  if (auto list = std::get_if<std::vector<double>>(&arg)) return *list;
  std::vector<double> out;
  if (auto list = std::get_if<SymList>(&arg))
    for (const Sym& s : *list) out.push_back(static_cast<double>(s.value()));
  return out;
}

void add_grids(OpTable& ops) {
  struct Row {
    const char *name, *sample;
    bool many, by_tensor;
  };
  for (Row row : {Row{"histogram.bin_ct", "(f32[20], 5)", false, false},
                  Row{"histogram.bins_tensor", "(f32[20], f32[5])", false, true},
                  Row{"histogramdd.default", "(f32[20,2], [3, 4])", true, false},
                  Row{"histogramdd.int_bins", "(f32[20,2], 3)", true, false},
                  Row{"histogramdd.TensorList_bins", "(f32[20,2], [f32[3], f32[4]])", true, true}})
    lowered(ops, row.name, [row](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      LoopValue x = call.tensor("self");
      if (!is_float(x.dtype) || is_low_precision(x.dtype))
        return fail(Kind::unsupported_op, "`{}` of {}", call.op(), dtype_name(x.dtype));
      LoopValue points = row.many ? b.reshape(x, {product(SymList(x.sizes.begin(), x.sizes.end() - 1)), x.sizes.back()})
                                  : b.reshape(x, {product(x.sizes), 1});
      std::optional<LoopValue> weight;
      if (is_tensor(call, "weight")) weight = b.reshape(call.tensor("weight"), {points.sizes[0]});
      Grid grid;
      if (row.by_tensor) {
        for (ValueId id : call.values("bins")) grid.edges.push_back(b.convert(call.tensor(id), x.dtype));
      } else {
        const std::vector<double> given = range_argument(call);
        const SymList bins = call.integers("bins");
        const size_t dims = row.many ? static_cast<size_t>(x.sizes.back().value()) : 1;
        for (size_t d = 0; d < dims; ++d) {
          std::optional<std::pair<double, double>> span;
          if (!given.empty()) span = {given.at(2 * d), given.at(2 * d + 1)};
          grid.edges.push_back(even_edges(b, points, d, bins[std::min(d, bins.size() - 1)].value(), span));
        }
      }
      Values results{grid_counts(b, points, grid, weight, call.flag("density"))};
      results.insert(results.end(), grid.edges.begin(), grid.edges.end());
      return results;
    }).sample(std::string("aten.") + row.name + row.sample);
}

// ---------------------------------------------------------------------------------------------------------- segments

// Runs of rows along `axis`, as long as `lengths` says: each position's segment is found among the ends.
void add_segments(OpTable& ops) {
  compose(ops, "segment_reduce.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("data");
    const int64_t axis = c.call.dim("axis", x.rank());
    LoopBuilder* p = &c.b;
    std::optional<LoopValue> ends;
    Sym count = 0;
    // Lengths or offsets may have leading dims, those before axis.
    if (is_tensor(c.call, "lengths")) {
      LoopValue lengths = c.tensor("lengths");
      ends = c("cumsum.default", {c.to(lengths, DType::i64), -1});
      count = lengths.sizes.back();
    } else if (is_tensor(c.call, "offsets")) {
      LoopValue offsets = c.tensor("offsets");
      count = offsets.sizes.back() - 1;
      ends = c.to(c("slice.Tensor", {offsets, -1, 1, INT64_MAX}), DType::i64);
    } else {
      c.refuse("neither lengths nor offsets");
    }
    LoopValue rows = c.b.materialize(*ends, ".ends");
    const Sym n = x.sizes[at(axis)];
    const SymList lead(x.sizes.begin(), x.sizes.begin() + axis);
    SymList wanted = lead;
    wanted.push_back(n);
    LoopValue positions = c.b.from(DType::i64, wanted, [](const Index& i) { return i.back(); });
    LoopValue segment = c.b.routine("search", DType::i64, wanted, {rows, positions},
                                    {product(wanted), count, n, rows.rank() == 1 ? 1 : 0, 1}, {}, ".segment");
    const std::string how = c.call.text("reduce");
    const DType type = register_type(x.dtype);
    SymList sizes = x.sizes;
    sizes[at(axis)] = count;
    const Sym outer = product(lead), inner = product(SymList(x.sizes.begin() + axis + 1, x.sizes.end()));
    const double start = c.call.has("initial") ? c.call.number("initial")
                         : how == "prod"       ? 1
                         : how == "max"        ? -INFINITY
                         : how == "min"        ? INFINITY
                                               : 0;
    auto joined = [&](Join join, double first, const std::function<ExprId(const Index&)>& value) {
      LoopValue base = c.b.full({outer, count * inner}, number_expr(c.b, first, type), type);
      LoopValue y = scattered(
          c.b, base, {outer, n * inner},
          [=](const Index& i) {
            Index place = p->unflatten(i[1], {n, inner});
            Index li = p->unflatten(i[0], lead);
            li.push_back(place[0]);
            ExprId s = segment.at(li);
            ExprId linear = p->add(p->mul(s, p->index(inner)), place[1]);
            return p->where(p->op(ScalarOp::lt, {s, p->index(count)}), linear, int_expr(*p, -1));
          },
          value, join, true);
      return c.b.reshape(y, sizes);
    };
    LoopValue flat = c.b.reshape(x, {outer, n * inner});
    auto element = [=](const Index& i) { return p->cvt(flat.at(i), type); };
    const Join join = how == "prod"  ? Join::multiply
                      : how == "max" ? Join::most
                      : how == "min" ? Join::least
                                     : Join::add;
    LoopValue y = joined(join, start, element);
    if (how == "mean") {
      LoopValue each = joined(Join::add, 0, [=](const Index&) { return number_expr(*p, 1, type); });
      const bool initial = c.call.has("initial");
      y = c.b.map({y, each}, sizes, type, type, [=](const Args& v) {
        ExprId none = p->op(ScalarOp::eq, {v[1], number_expr(*p, 0, type)});
        ExprId empty = number_expr(*p, initial ? start : NAN, type);
        return p->where(none, empty, p->div(v[0], v[1]));
      });
    }
    return c.b.convert(y, x.dtype);
  }).sample("aten.segment_reduce.default(f32[6,2], \"max\", offsets=i64[3])");
}

// ---------------------------------------------------------------------------------------------------------- windows

void add_windows(OpTable& ops) {
  // Each value at its place in an empty plane; of several values for one place the last.
  for (int64_t dims : {2, 3})
    lowered(ops, format("max_unpool{}d.default", dims),
            [dims](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue x = call.tensor("self"), indices = call.tensor("indices");
              SymList lead(x.sizes.begin(), x.sizes.end() - dims), out = call.integers("output_size", at(dims));
              const Sym planes = product(lead), n = product(SymList(x.sizes.end() - dims, x.sizes.end())),
                        m = product(out);
              LoopBuilder* p = &b;
              LoopValue places = b.reshape(indices, {planes, n}), values = b.reshape(x, {planes, n});
              LoopValue y = scattered(
                  b, b.full({planes, m}, number_expr(b, 0, x.dtype), x.dtype), {planes, n},
                  [=](const Index& i) { return checked_index(*p, places.at(i), m); },
                  [=](const Index& i) { return values.at(i); }, Join::set, true);
              lead.insert(lead.end(), out.begin(), out.end());
              return Values{b.reshape(y, lead)};
            })
        .sample(dims == 2
                    ? "aten.max_unpool2d.default(f32[1,2,2,2], i64[1,2,2,2], [4, 4])"
                    : "aten.max_unpool3d.default(f32[1,2,2,2,2], i64[1,2,2,2,2], [4, 4, 4], [2, 2, 2], [0, 0, 0])");
  // Windows as columns: out[n, c kh kw, l] = x[n, c, l's window at (kh, kw)], 0 outside; and the sum that undoes it.
  auto counts = [](const Call& call, const SymList& in, SymList& out) {
    const SymList k = call.integers("kernel_size", 2), d = call.integers("dilation", 2),
                  p = call.integers("padding", 2), s = call.integers("stride", 2);
    for (size_t i = 0; i < 2; ++i) out.push_back(floor_div(in[i] + 2 * p[i] - d[i] * (k[i] - 1) - 1, s[i]) + 1);
  };
  lowered(ops, "im2col.default", [counts](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue x = call.tensor("self");
    const bool single = x.rank() == 3;
    if (single) x = b.unsqueeze(x, 0);
    const SymList k = call.integers("kernel_size", 2), d = call.integers("dilation", 2),
                  pad = call.integers("padding", 2), s = call.integers("stride", 2);
    SymList grid;
    counts(call, {x.sizes[2], x.sizes[3]}, grid);
    LoopBuilder* p = &b;
    LoopValue y = b.from(x.dtype, {x.sizes[0], x.sizes[1], k[0], k[1], grid[0], grid[1]}, [=](const Index& i) {
      Index xi{i[0], i[1]};
      std::vector<ExprId> inside;
      for (size_t e = 0; e < 2; ++e) {
        ExprId place =
            p->sub(p->add(p->mul(i[4 + e], p->index(s[e])), p->mul(i[2 + e], p->index(d[e]))), p->index(pad[e]));
        inside.push_back(p->op(ScalarOp::le, {int_expr(*p, 0), place}));
        inside.push_back(p->op(ScalarOp::lt, {place, p->index(x.sizes[2 + e])}));
        xi.push_back(place);
      }
      return p->where(all_of(*p, inside), x.at(xi), number_expr(*p, 0, x.dtype));
    });
    y = b.reshape(y, {x.sizes[0], x.sizes[1] * k[0] * k[1], grid[0] * grid[1]});
    return Values{single ? b.squeeze(y, 0) : y};
  }).sample("aten.im2col.default(f32[2,3,5,6], [2, 3], [1, 1], [1, 0], [1, 2])");
  lowered(ops, "col2im.default", [counts](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue x = call.tensor("self");
    const bool single = x.rank() == 2;
    if (single) x = b.unsqueeze(x, 0);
    const SymList out = call.integers("output_size", 2), k = call.integers("kernel_size", 2),
                  d = call.integers("dilation", 2), pad = call.integers("padding", 2), s = call.integers("stride", 2);
    SymList grid;
    counts(call, out, grid);
    const Sym channels = floor_div(x.sizes[1], k[0] * k[1]);
    LoopValue windows = b.reshape(x, {x.sizes[0], channels, k[0], k[1], grid[0], grid[1]});
    LoopBuilder* p = &b;
    const DType type = register_type(x.dtype);
    LoopValue terms = b.from(type, {x.sizes[0], channels, out[0], out[1], k[0], k[1]}, [=](const Index& i) {
      Index wi{i[0], i[1], i[4], i[5]};
      std::vector<ExprId> inside;
      for (size_t e = 0; e < 2; ++e) {
        ExprId from = p->sub(p->add(i[2 + e], p->index(pad[e])), p->mul(i[4 + e], p->index(d[e])));
        ExprId window = p->op(ScalarOp::floordiv, {from, p->index(s[e])});
        inside.push_back(p->op(ScalarOp::le, {int_expr(*p, 0), from}));
        inside.push_back(p->op(ScalarOp::lt, {window, p->index(grid[e])}));
        inside.push_back(p->op(ScalarOp::eq, {p->op(ScalarOp::remainder, {from, p->index(s[e])}), int_expr(*p, 0)}));
        wi.push_back(window);
      }
      return p->where(all_of(*p, inside), p->cvt(windows.at(wi), type), number_expr(*p, 0, type));
    });
    LoopValue y = b.reduce(ReduceOp::sum, terms, {4, 5}, false, type, x.dtype, ".sum");
    return Values{single ? b.squeeze(y, 0) : y};
  }).sample("aten.col2im.default(f32[2,12,8], [4, 5], [2, 2], [1, 1], [0, 0], [2, 1])");
  // Windows that begin at floor((i + u) a) - floor(u a) with a = (in - k) / (out - 1), the last one at in - k.
  for (int64_t dims : {2, 3})
    lowered(
        ops, format("fractional_max_pool{}d.default", dims),
        [dims](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
          LoopValue x = call.tensor("self"), samples = call.tensor("random_samples");
          const bool single = x.rank() == dims + 1;
          if (single) x = b.unsqueeze(x, 0);
          const size_t n = at(dims);
          const SymList k = call.integers("kernel_size", n), out = call.integers("output_size", n);
          const SymList in(x.sizes.begin() + 2, x.sizes.end());
          LoopBuilder* p = &b;
          const DType type = register_type(x.dtype);
          std::vector<LoopValue> starts;
          for (size_t d = 0; d < n; ++d) {
            // In two dims the samples stand as (width, height).
            const int64_t column = dims == 2 ? static_cast<int64_t>(1 - d) : static_cast<int64_t>(d);
            starts.push_back(b.materialize(
                b.from(DType::i64, {x.sizes[0], x.sizes[1], out[d]},
                       [=](const Index& i) {
                         ExprId u = p->cvt(samples.at({i[0], i[1], int_expr(*p, column)}), type);
                         ExprId a = p->div(p->cvt(p->index(in[d] - k[d]), type),
                                           p->cvt(p->index(sym_max(out[d] - 1, 1)), type));
                         auto whole = [&](ExprId v) { return p->cvt(v, DType::i64); };
                         ExprId place = p->sub(whole(p->mul(p->add(p->cvt(i[2], type), u), a)), whole(p->mul(u, a)));
                         ExprId last = p->op(ScalarOp::eq, {i[2], p->index(out[d] - 1)});
                         return p->where(last, p->index(in[d] - k[d]), place);
                       }),
                format(".start{}", d)));
          }
          SymList sizes{x.sizes[0], x.sizes[1]}, windows;
          sizes.insert(sizes.end(), out.begin(), out.end());
          windows = sizes;
          windows.insert(windows.end(), k.begin(), k.end());
          auto source = [=](const Index& i, const Index& offset) {
            Index xi{i[0], i[1]};
            for (size_t d = 0; d < n; ++d) xi.push_back(p->add(starts[d].at({i[0], i[1], i[2 + d]}), offset[d]));
            return xi;
          };
          LoopValue elements = b.from(
              x.dtype, windows, [=](const Index& i) { return x.at(source(i, Index(i.begin() + 2 + dims, i.end()))); });
          std::vector<int64_t> reduced;
          for (int64_t d = 0; d < dims; ++d) reduced.push_back(2 + dims + d);
          LoopValue best = b.reduce(ReduceOp::argmax, elements, reduced, false, type, DType::i64, ".best");
          auto chosen = [=](const Index& i) { return source(i, p->unflatten(best.at(i), k)); };
          Values results{b.from(x.dtype, sizes, [=](const Index& i) { return x.at(chosen(i)); }),
                         b.from(DType::i64, sizes, [=](const Index& i) {
                           Index xi = chosen(i);
                           return p->linear(Index(xi.begin() + 2, xi.end()), in);
                         })};
          if (single)
            for (LoopValue& r : results) r = b.squeeze(r, 0);
          return results;
        })
        .sample(dims == 2 ? "aten.fractional_max_pool2d.default(f32[1,2,6,7], [2, 3], [3, 2], f32[1,2,2])"
                          : "aten.fractional_max_pool3d.default(f32[1,2,4,5,6], [2, 2, 2], [2, 3, 2], f32[1,2,3])");
}

}  // namespace

void add_composed_index_ops(OpTable& ops) {
  add_flat_writes(ops);
  add_bincount(ops);
  add_histograms(ops);
  add_grids(ops);
  add_segments(ops);
  add_windows(ops);
}

}  // namespace toroid
