// Running reductions beyond sums and products: maxima with their places, log-sum-exp, and what sums of neighbours give.
#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;
// Runs a routine along dim; what it gives stands where the line stood.
LoopValue along(LoopBuilder& b, const LoopValue& x, int64_t dim, const char* routine, DType result,
                std::optional<Sym> extra = std::nullopt) {
  const std::vector<int> order = dim_last(x.rank(), dim);
  LoopValue moved = b.permute(is_low_precision(x.dtype) ? b.convert(x, DType::f32) : x, order);
  SymList integers{product(SymList(moved.sizes.begin(), moved.sizes.end() - 1)), moved.sizes.back()};
  if (extra) integers.push_back(*extra);
  return b.permute(b.routine(routine, result, moved.sizes, {moved}, integers, {}, ".run"), inverse_order(order));
}

void add_running(OpTable& ops) {
  for (bool least : {false, true})
    lowered(ops, least ? "cummin.default" : "cummax.default",
            [least](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue x = call.tensor("self");
              if (x.rank() == 0) return Values{x, b.full({}, int_expr(b, 0), DType::i64)};
              const int64_t dim = call.dim("dim", x.rank());
              LoopValue places = along(b, x, dim, "running_best", DType::i64, least ? 1 : 0);
              LoopValue values = b.from(x.dtype, x.sizes, [=](const Index& i) {
                Index xi = i;
                xi[at(dim)] = places.at(i);
                return x.at(xi);
              });
              return Values{values, places};
            })
        .sample(least ? "aten.cummin.default(i64[4,5], 0)" : "aten.cummax.default(f32[4,5], 1)");
  lowered(ops, "logcumsumexp.default",
          [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
            LoopValue x = call.tensor("self");
            if (x.rank() == 0) return Values{x};
            const DType type = register_type(x.dtype);
            const int64_t dim = call.dim("dim", x.rank());
            if (!is_complex(x.dtype)) return Values{b.convert(along(b, x, dim, "running_lse", type), x.dtype)};
            const std::vector<int> order = dim_last(x.rank(), dim);
            LoopValue pairs = b.parts_of(b.permute(b.convert(x, type), order));
            const Sym n = x.sizes[at(dim)], rows = product(SymList(pairs.sizes.begin(), pairs.sizes.end() - 2));
            LoopValue y = b.routine("running_complex_lse", pairs.dtype, pairs.sizes, {pairs}, {rows, n}, {}, ".run");
            return Values{b.convert(b.permute(b.complex_of(y), inverse_order(order)), x.dtype)};
          })
      .sample("aten.logcumsumexp.default(f32[4,5], 1)")
      .sample("aten.logcumsumexp.default(c64[4,5], 0)");
}

// Means of neighbours times their distance, summed or running.
void add_trapezoids(OpTable& ops) {
  for (const char* name : {"trapezoid", "trapz", "cumulative_trapezoid"})
    for (bool by_x : {false, true}) {
      const bool running = std::string(name).starts_with("cumulative");
      compose(ops, format("{}.{}", name, by_x ? "x" : "dx"), [=](Compose& c) -> Composed {
        LoopValue y = c.tensor("y");
        const int64_t dim = c.call.dim("dim", y.rank());
        const Sym n = y.sizes[at(dim)];
        LoopValue after = c("slice.Tensor", {y, dim, 1, n}), before = c("slice.Tensor", {y, dim, 0, n - 1});
        LoopValue sum = c.add(after, before);
        if (by_x) {
          LoopValue x = c.tensor("x");
          // Points of one line serve all.
          if (x.rank() == 1 && y.rank() != 1) {
            SymList sizes(at(y.rank()), Sym(1));
            sizes[at(dim)] = x.sizes[0];
            x = c("reshape.default", {x, sizes});
          } else {
            while (x.rank() < y.rank()) x = c("unsqueeze.default", {x, 0});
          }
          const Sym m = x.sizes[at(dim)];
          LoopValue gap = c.sub(c("slice.Tensor", {x, dim, 1, m}), c("slice.Tensor", {x, dim, 0, m - 1}));
          sum = c.mul(sum, gap);
        }
        if (running) {
          LoopValue total = by_x ? sum : c.mul(sum, c["dx"]);
          return c.div(c("cumsum.default", {total, dim}), 2.0);
        }
        LoopValue total = c("sum.dim_IntList", {sum, SymList{dim}});
        if (!by_x) total = c.mul(total, c["dx"]);
        return c.div(total, 2.0);
      }).sample(format("aten.{}.{}(f32[3,5]{})", name, by_x ? "x" : "dx", by_x ? ", f32[5]" : ", dx=0.5"));
    }
  // Differences of neighbours two apart; at the ends by one-sided formulas of order 1 or 2.
  auto gradients = [](Compose& c, const std::vector<int64_t>& dims, const std::function<double(size_t)>& spacing) {
    LoopValue x = c.tensor("self");
    const int64_t order = c.call.constant("edge_order");
    std::vector<LoopValue> results;
    for (size_t k = 0; k < dims.size(); ++k) {
      const int64_t dim = dims[k];
      const Sym n = x.sizes[at(dim)];
      const double h = spacing(k);
      auto element = [&](const Sym& place) { return c("slice.Tensor", {x, dim, place, place + 1}); };
      LoopValue inner = c.div(c.sub(c("slice.Tensor", {x, dim, 2, n}), c("slice.Tensor", {x, dim, 0, n - 2})), 2 * h);
      LoopValue first = c.div(c.sub(element(1), element(0)), h), last = c.div(c.sub(element(n - 1), element(n - 2)), h);
      if (order == 2) {
        auto edge = [&](LoopValue a, LoopValue b, LoopValue d, double sign) {
          LoopValue sum = c.add(c.sub(c.mul(b, 4.0), c.mul(a, 3.0)), c.mul(d, -1.0));
          return c.div(sum, 2 * h * sign);
        };
        first = edge(element(0), element(1), element(2), 1);
        last = edge(element(n - 1), element(n - 2), element(n - 3), -1);
      }
      results.push_back(c("cat.default", {std::vector<LoopValue>{first, inner, last}, dim}));
    }
    return results;
  };
  auto all_dims = [](Compose& c) {
    std::vector<int64_t> dims;
    const int64_t rank = c.tensor("self").rank();
    if (c.call.has("dim"))
      for (const Sym& d : c.call.integers("dim")) dims.push_back(d.value() < 0 ? d.value() + rank : d.value());
    else
      for (int64_t d = 0; d < rank; ++d) dims.push_back(d);
    return dims;
  };
  for (const char* form : {"scalarint", "array", "scalararray"})
    compose(ops, format("gradient.{}", form),
            [=](Compose& c) -> Composed {
              const double h = c.call.has("spacing") ? c.call.number("spacing") : 1;
              return gradients(c, all_dims(c), [h](size_t) { return h; });
            })
        .sample(format("aten.gradient.{}(f32[4,5]{})", form,
                       *form == 'a'                         ? ", dim=[0]"
                       : std::string(form) == "scalararray" ? ", spacing=2.0, dim=[1]"
                                                            : ""));
  // A distance for each dim.
  for (const char* form : {"scalarrayint", "scalarrayarray"})
    compose(ops, format("gradient.{}", form),
            [=](Compose& c) -> Composed {
              std::vector<double> distances;
              const Arg& arg = c.call.arg("spacing");
              if (auto list = std::get_if<std::vector<double>>(&arg)) distances = *list;
              if (auto list = std::get_if<SymList>(&arg))
                for (const Sym& s : *list) distances.push_back(static_cast<double>(s.value()));
              const std::vector<int64_t> dims = all_dims(c);
              if (distances.size() != dims.size()) c.refuse("as many distances as dims are needed");
              return gradients(c, dims, [=](size_t k) { return distances[k]; });
            })
        .sample(format("aten.gradient.{}(f32[4,5], spacing=[0.5, 2.0]{})", form,
                       std::string(form) == "scalarrayarray" ? ", dim=[1, 0]" : ""));
  // Coordinates for each dim: the parabola through three neighbours, with distances l and r between them.
  auto uneven = [](Compose& c, const LoopValue& t, int64_t dim, int64_t order) {
    LoopValue x = c.tensor("self");
    const Sym n = x.sizes[at(dim)];
    SymList sizes(x.sizes.size(), 1);
    sizes[at(dim)] = n;
    LoopValue place = c("reshape.default", {c.to(t, promote(t.dtype, x.dtype)), sizes});
    auto part = [&](const LoopValue& v, const Sym& begin, const Sym& end) {
      return c("slice.Tensor", {v, dim, begin, end});
    };
    auto gap = [&](const Sym& begin, const Sym& end) {
      return c.sub(part(place, begin + 1, end + 1), part(place, begin, end));
    };
    auto sum = [&](const Sym& at0, const Sym& at1, LoopValue a, LoopValue b, LoopValue d) {
      LoopValue first = c.mul(a, part(x, at0, at1)), second = c.mul(b, part(x, at0 + 1, at1 + 1));
      return c.add(c.add(first, second), c.mul(d, part(x, at0 + 2, at1 + 2)));
    };
    auto minus = [&](LoopValue v) { return c("neg.default", {v}); };
    LoopValue l = gap(0, n - 2), r = gap(1, n - 1), both = c.add(l, r);
    LoopValue inner =
        sum(0, n - 2, minus(c.div(r, c.mul(l, both))), c.div(c.sub(r, l), c.mul(l, r)), c.div(l, c.mul(r, both)));
    LoopValue first = c.div(c.sub(part(x, 1, 2), part(x, 0, 1)), gap(0, 1));
    LoopValue last = c.div(c.sub(part(x, n - 1, n), part(x, n - 2, n - 1)), gap(n - 2, n - 1));
    if (order == 2) {
      LoopValue l0 = gap(0, 1), r0 = gap(1, 2), b0 = c.add(l0, r0);
      first = sum(0, 1, minus(c.div(c.add(l0, b0), c.mul(l0, b0))), c.div(b0, c.mul(l0, r0)),
                  minus(c.div(l0, c.mul(r0, b0))));
      LoopValue l1 = gap(n - 3, n - 2), r1 = gap(n - 2, n - 1), b1 = c.add(l1, r1);
      last = sum(n - 3, n - 2, c.div(r1, c.mul(l1, b1)), minus(c.div(b1, c.mul(l1, r1))),
                 c.div(c.add(r1, b1), c.mul(r1, b1)));
    }
    return c("cat.default", {std::vector<LoopValue>{first, inner, last}, dim});
  };
  for (const char* form : {"tensorarrayint", "tensorarray"})
    compose(ops, format("gradient.{}", form),
            [=](Compose& c) -> Composed {
              const std::vector<LoopValue> coordinates = c.tensors("spacing");
              const std::vector<int64_t> dims = all_dims(c);
              if (coordinates.size() != dims.size()) c.refuse("as many coordinates as dims are needed");
              std::vector<LoopValue> results;
              for (size_t k = 0; k < dims.size(); ++k)
                results.push_back(uneven(c, coordinates[k], dims[k], c.call.constant("edge_order")));
              return results;
            })
        .sample(format("aten.gradient.{}(f32[4,5], spacing={}, edge_order=2)", form,
                       std::string(form) == "tensorarray" ? "[f32[5]], dim=[1]" : "[f32[4], f32[5]]"));
}

}  // namespace

void add_scan_ops(OpTable& ops) {
  add_running(ops);
  add_trapezoids(ops);
}

}  // namespace toroid
