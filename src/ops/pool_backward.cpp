// Gradients of pools and of padding: what each element of the input gets from the windows that hold it.
#include "ops/compose.h"
#include "ops/pool.h"
#include "ops/scattered.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;

// Element i is in the windows i // stride, and those before it that still reach it.
Result<Values> avg_pool_backward(LoopBuilder& b, const LowerCall& call, size_t dims) {
  LoopValue grad = call.tensor("grad_output"), x = call.tensor("self");
  const Windows w = windows_of(call, dims);
  const DType type = accumulate_type(x.dtype);
  const auto lead = static_cast<ptrdiff_t>(x.sizes.size() - dims);
  const SymList in(x.sizes.begin() + lead, x.sizes.end());
  SymList sizes = x.sizes;
  for (size_t d = 0; d < dims; ++d) sizes.push_back((w.kernel[d] + w.stride[d] - 1) / w.stride[d]);
  LoopBuilder* p = &b;
  auto kept = std::make_shared<LowerCall>(call);
  LoopValue terms = b.from(type, sizes, [=](const Index& i) {
    Index windows;
    std::vector<ExprId> inside;
    for (size_t d = 0; d < dims; ++d) {
      const auto at = static_cast<size_t>(lead) + d;
      ExprId from = p->add(i[at], int_expr(*p, w.padding[d])), stride = int_expr(*p, w.stride[d]);
      ExprId o = p->sub(p->op(ScalarOp::floordiv, {from, stride}), i[at + dims]);
      inside.push_back(p->op(ScalarOp::le, {int_expr(*p, 0), o}));
      inside.push_back(p->op(ScalarOp::lt, {o, p->index(grad.sizes[at])}));
      inside.push_back(p->op(ScalarOp::lt, {p->sub(from, p->mul(o, stride)), int_expr(*p, w.kernel[d])}));
      windows.push_back(o);
    }
    Index gi(i.begin(), i.begin() + lead);
    gi.insert(gi.end(), windows.begin(), windows.end());
    ExprId share = p->div(p->cvt(grad.at(gi), type), p->cvt(average_divisor(*p, *kept, w, in, windows), type));
    return p->where(all_of(*p, inside), share, number_expr(*p, 0, type));
  });
  return Values{b.reduce(ReduceOp::sum, terms, last_dims(terms.rank(), dims), false, type, x.dtype, "")};
}

// The windows that hold an element are those of a pool with sizes exchanged: o n / out < i + 1 and (o + 1) n / out > i.
Result<Values> adaptive_avg_pool_backward(LoopBuilder& b, const LowerCall& call, size_t dims) {
  LoopValue grad = call.tensor("grad_output"), x = call.tensor("self");
  const DType type = accumulate_type(x.dtype);
  const auto lead = static_cast<ptrdiff_t>(x.sizes.size() - dims);
  const SymList in(x.sizes.begin() + lead, x.sizes.end()), out(grad.sizes.begin() + lead, grad.sizes.end());
  const Adaptive forward = adaptive_windows(in, out), back = adaptive_windows(out, in);
  LoopBuilder* p = &b;
  LoopValue shares = b.from(type, grad.sizes, [=](const Index& i) {
    ExprId count = int_expr(*p, 1);
    for (size_t d = 0; d < dims; ++d) {
      ExprId o = i[static_cast<size_t>(lead) + d];
      count = p->mul(count, p->sub(window_end(*p, forward, o, d), window_start(*p, forward, o, d)));
    }
    return p->div(p->cvt(grad.at(i), type), p->cvt(count, type));
  });
  LoopValue terms = adaptive_taps(b, shares, back, number_expr(b, 0, type));
  return Values{b.reduce(ReduceOp::sum, terms, last_dims(terms.rank(), dims), false, type, x.dtype, "")};
}

void add_average_gradients(OpTable& ops) {
  for (size_t dims : {2u, 3u}) {
    const bool flat = dims == 2;
    const std::string avg = format("avg_pool{}d_backward.default", dims);
    lowered(ops, avg, [dims](LoopBuilder& b, const LowerCall& call) { return avg_pool_backward(b, call, dims); })
        .sample("aten." + avg +
                (flat ? "(f32[1,2,2,3], f32[1,2,4,6], [2], [], [0], False, True, none)"
                      : "(f32[1,2,2,2,2], f32[1,2,4,4,5], [2], [], [0], False, True, none)"))
        .sample("aten." + avg +
                (flat ? "(f32[2,4,4], f32[2,6,7], [3], [2], [1], True, False, none)"
                      : "(f32[2,3,2,3], f32[2,5,4,6], [3], [2], [1], False, False, none)"))
        .sample("aten." + avg +
                (flat ? "(f32[2,3,4], f32[2,4,5], [2], [1], [0], False, True, 3)"
                      : "(f32[2,3,2,2], f32[2,4,3,3], [2], [1], [0], False, True, 3)"));
    const std::string adaptive = format("_adaptive_avg_pool{}d_backward.default", dims);
    lowered(ops, adaptive,
            [dims](LoopBuilder& b, const LowerCall& call) { return adaptive_avg_pool_backward(b, call, dims); })
        .sample("aten." + adaptive + (flat ? "(f32[1,2,3,5], f32[1,2,7,5])" : "(f32[1,2,3,2,5], f32[1,2,7,4,5])"))
        .sample("aten." + adaptive + (flat ? "(f32[2,5,1], f32[2,3,4])" : "(f32[2,5,1,2], f32[2,3,4,4])"));
  }
}

// To the place where each window's maximum was.
Result<Values> max_pool_backward(LoopBuilder& b, const LowerCall& call, int64_t dims) {
  LoopValue grad = call.tensor("grad_output"), x = call.tensor("self"), indices = call.tensor("indices");
  const SymList lead(x.sizes.begin(), x.sizes.end() - dims);
  const Sym planes = product(lead), n = product(SymList(grad.sizes.end() - dims, grad.sizes.end()));
  const Sym m = product(SymList(x.sizes.end() - dims, x.sizes.end()));
  LoopBuilder* p = &b;
  const DType type = register_type(x.dtype);
  LoopValue places = b.reshape(indices, {planes, n}), values = b.reshape(b.convert(grad, type), {planes, n});
  LoopValue y = scattered(
      b, b.full({planes, m}, number_expr(b, 0, type), type), {planes, n},
      [=](const Index& i) { return checked_index(*p, places.at(i), m); }, [=](const Index& i) { return values.at(i); },
      Join::add, true);
  return Values{b.convert(b.reshape(y, x.sizes), x.dtype)};
}

void add_maximum_gradients(OpTable& ops) {
  struct Row {
    const char* name;
    int64_t dims;
    const char* sample;
  };
  for (const Row& row : {
           Row{"max_pool2d_with_indices", 2,
               "(f32[1,2,2,2], f32[1,2,4,4], [2, 2], [2, 2], [0, 0], [1, 1], False, i64[1,2,2,2])"},
           Row{"max_pool3d_with_indices", 3,
               "(f32[1,2,2,2,1], f32[1,2,4,4,2], [2], [2], [0], [1], False, i64[1,2,2,2,1])"},
           Row{"adaptive_max_pool2d", 2, "(f32[2,2,2], f32[2,3,4], i64[2,2,2])"},
           Row{"adaptive_max_pool3d", 3, "(f32[1,2,2,2,1], f32[1,2,4,4,2], i64[1,2,2,2,1])"},
           Row{"fractional_max_pool2d", 2, "(f32[1,2,2,2], f32[1,2,4,5], [2, 2], [2, 2], i64[1,2,2,2])"},
           Row{"fractional_max_pool3d", 3, "(f32[2,2,2,1], f32[2,4,4,2], [2, 2, 2], [2, 2, 1], i64[2,2,2,1])"},
       }) {
    const std::string name = format("{}_backward.default", row.name);
    lowered(ops, name, [dims = row.dims](LoopBuilder& b, const LowerCall& call) {
      return max_pool_backward(b, call, dims);
    }).sample("aten." + name + row.sample);
  }
}

// The first and the last element also get what the padding before and behind them got.
void add_padding_gradients(OpTable& ops) {
  for (int64_t dims : {1, 2, 3})
    compose(ops, format("replication_pad{}d_backward.default", dims),
            [](Compose& c) -> Composed {
              LoopValue g = c.tensor("grad_output");
              const SymList padding = c.call.integers("padding"), in = c.tensor("self").sizes;
              for (size_t k = 0; 2 * k < padding.size(); ++k) {
                const size_t d = in.size() - 1 - k;
                const int64_t before = padding[2 * k].value(), behind = padding[2 * k + 1].value();
                const int64_t dim = static_cast<int64_t>(d);
                // What was cut off got nothing.
                if (before < 0 || behind < 0) {
                  SymList zeros(2 * k);
                  zeros.insert(zeros.end(), {std::max<int64_t>(-before, 0), std::max<int64_t>(-behind, 0)});
                  g = c("constant_pad_nd.default", {g, zeros});
                }
                const int64_t first = std::max<int64_t>(before, 0), last = std::max<int64_t>(behind, 0);
                const Sym n = in[d];
                auto part = [&](const Sym& from, const Sym& to) { return c("slice.Tensor", {g, dim, from, to}); };
                auto sum = [&](const LoopValue& x) { return c("sum.dim_IntList", {x, SymList{dim}, true}); };
                if (first == 0 && last == 0) continue;
                if (is_one(n)) {
                  g = sum(g);
                  continue;
                }
                g = c("cat.default", {Values{sum(part(0, first + 1)), part(first + 1, n + (first - 1)),
                                             sum(part(n + (first - 1), n + (first + last)))},
                                      dim});
              }
              return c.to(g, c.tensor("self").dtype);
            })
        .sample(dims == 1 ? "aten.replication_pad1d_backward.default(f32[2,7], f32[2,4], [1, 2])"
                : dims == 2
                    ? "aten.replication_pad2d_backward.default(f32[1,2,6,4], f32[1,2,4,5], [2, -3, 1, 1])"
                    : "aten.replication_pad3d_backward.default(f32[1,2,3,6,4], f32[1,2,1,4,4], [0, 0, 1, 1, 0, 2])");
}

}  // namespace

void add_pool_gradient_ops(OpTable& ops) {
  add_average_gradients(ops);
  add_maximum_gradients(ops);
  add_padding_gradients(ops);
}

}  // namespace toroid
