// Running reductions beyond sums and products: maxima with their places, log-sum-exp, and what sums of neighbours give.
#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;
size_t at(int64_t dim) { return static_cast<size_t>(dim); }

// Runs a routine along dim; what it gives stands where the line stood.
LoopValue along(LoopBuilder& b, const LoopValue& x, int64_t dim, const char* routine, DType result,
                std::optional<Sym> extra = std::nullopt) {
  std::vector<int> order, back(at(x.rank()));
  for (int64_t d = 0; d < x.rank(); ++d)
    if (d != dim) order.push_back(static_cast<int>(d));
  order.push_back(static_cast<int>(dim));
  for (size_t i = 0; i < order.size(); ++i) back[static_cast<size_t>(order[i])] = static_cast<int>(i);
  LoopValue moved = b.permute(is_low_precision(x.dtype) ? b.convert(x, DType::f32) : x, order);
  SymList integers{product(SymList(moved.sizes.begin(), moved.sizes.end() - 1)), moved.sizes.back()};
  if (extra) integers.push_back(*extra);
  return b.permute(b.routine(routine, result, moved.sizes, {moved}, integers, {}, ".run"), back);
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
  lowered(ops, "logcumsumexp.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue x = call.tensor("self");
    if (is_complex(x.dtype)) return fail(Kind::unsupported_op, "`{}` of complex numbers", call.op());
    if (x.rank() == 0) return Values{x};
    LoopValue y = along(b, x, call.dim("dim", x.rank()), "running_lse", register_type(x.dtype));
    return Values{b.convert(y, x.dtype)};
  }).sample("aten.logcumsumexp.default(f32[4,5], 1)");
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
}

}  // namespace

void add_scan_ops(OpTable& ops) {
  add_running(ops);
  add_trapezoids(ops);
}

}  // namespace toroid
