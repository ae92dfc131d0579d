// Pooling: a reduction over the taps of a window. Padding counts as -inf for the maximum; for the average it counts or
// not by count_include_pad.
#include <algorithm>

#include "base/check.h"
#include "ops/pool.h"

namespace toroid {

namespace {

std::vector<int64_t> known(const SymList& list) {
  std::vector<int64_t> out;
  for (const Sym& s : list) out.push_back(s.value());
  return out;
}

}  // namespace

Windows windows_of(const Call& call, size_t dims) {
  Windows w;
  w.dims = dims;
  w.kernel = known(call.integers("kernel_size", dims));
  w.stride = call.integers("stride").empty() ? w.kernel : known(call.integers("stride", dims));
  w.padding = known(call.integers("padding", dims));
  w.dilation.assign(dims, 1);
  if (call.schema().find_arg("dilation") >= 0) w.dilation = known(call.integers("dilation", dims));
  w.ceil_mode = call.flag("ceil_mode");
  return w;
}

namespace {

Sym pooled_size(const Windows& w, const Sym& size, size_t d) {
  Sym room = size + 2 * w.padding[d] - w.dilation[d] * (w.kernel[d] - 1) - 1;
  if (!w.ceil_mode) return floor_div(room, w.stride[d]) + 1;
  Sym out = ceil_div(room, w.stride[d]) + 1;
  // The last window must start inside the input or the padding before it.
  return out - sym_le(size + w.padding[d], (out - 1) * w.stride[d]);
}

SymList pooled_sizes(const Windows& w, const SymList& x) {
  SymList out = x;
  for (size_t d = 0; d < w.dims; ++d) {
    Sym& size = out[x.size() - w.dims + d];
    size = pooled_size(w, size, d);
  }
  return out;
}

// Contiguous, or channels last where the input is.
TensorType pooled_type(const Call& call, DType dtype, const SymList& sizes) {
  const TensorType& x = call.type("self");
  TensorType out = contiguous_type(call, dtype, sizes);
  if (is_contiguous(x)) return out;
  bool planes = call.op().find("2d") != std::string::npos && x.rank() == 4;
  out.strides = planes && is_channels_last(x) ? channels_last_strides(sizes) : SymList{};
  return out;
}

// x at every tap: sizes [lead…, out…, taps…]; outside the input, `fill`.
LoopValue taps_of(LoopBuilder& b, const LoopValue& x, const Windows& w, ExprId fill) {
  SymList sizes = pooled_sizes(w, x.sizes);
  for (int64_t k : w.kernel) sizes.push_back(k);
  LoopBuilder* p = &b;
  size_t lead = x.sizes.size() - w.dims;
  return b.from(x.dtype, sizes, [p, x, w, fill, lead](const Index& i) {
    Index xi(i.begin(), i.begin() + static_cast<ptrdiff_t>(lead));
    std::vector<ExprId> bounds;
    for (size_t d = 0; d < w.dims; ++d) {
      ExprId tap = p->mul(i[lead + w.dims + d], int_expr(*p, w.dilation[d]));
      ExprId at = p->add(p->mul(i[lead + d], int_expr(*p, w.stride[d])), tap);
      at = p->sub(at, int_expr(*p, w.padding[d]));
      if (w.padding[d]) bounds.push_back(p->op(ScalarOp::le, {int_expr(*p, 0), at}));
      if (w.padding[d] || w.ceil_mode) bounds.push_back(p->op(ScalarOp::lt, {at, p->index(x.sizes[lead + d])}));
      xi.push_back(at);
    }
    ExprId value = x.at(xi);
    return bounds.empty() ? value : p->where(all_of(*p, bounds), value, fill);
  });
}

}  // namespace

std::vector<int64_t> last_dims(int64_t rank, size_t count) {
  std::vector<int64_t> dims;
  for (int64_t d = rank - static_cast<int64_t>(count); d < rank; ++d) dims.push_back(d);
  return dims;
}

namespace {

// ------------------------------------------------------------------------------------------------------ maximum

LoopValue max_pool(LoopBuilder& b, const LoopValue& x, const Windows& w) {
  LoopValue taps = taps_of(b, x, w, lowest(b, x.dtype));
  return b.reduce(ReduceOp::max, taps, last_dims(taps.rank(), w.dims), false, x.dtype, x.dtype, "");
}

// Where the maximum lies, flat in the input's plane.
LoopValue max_pool_indices(LoopBuilder& b, const LoopValue& x, const Windows& w) {
  LoopValue taps = taps_of(b, x, w, lowest(b, x.dtype));
  LoopValue tap = b.reduce(ReduceOp::argmax, taps, last_dims(taps.rank(), w.dims), false, x.dtype, DType::i64, ".tap");
  LoopBuilder* p = &b;
  size_t lead = x.sizes.size() - w.dims;
  SymList kernel(w.kernel.begin(), w.kernel.end()),
      plane(x.sizes.begin() + static_cast<ptrdiff_t>(lead), x.sizes.end());
  return b.from(DType::i64, tap.sizes, [p, tap, w, lead, kernel, plane](const Index& i) {
    Index in_window = p->unflatten(tap.at(i), kernel), at;
    for (size_t d = 0; d < w.dims; ++d) {
      ExprId start = p->sub(p->mul(i[lead + d], int_expr(*p, w.stride[d])), int_expr(*p, w.padding[d]));
      at.push_back(p->add(start, p->mul(in_window[d], int_expr(*p, w.dilation[d]))));
    }
    return p->linear(at, plane);
  });
}

void add_max_pools(OpTable& ops) {
  for (size_t dims : {1u, 2u, 3u})
    for (bool with_indices : {false, true}) {
      std::string name = format("aten.max_pool{}d{}.default", dims, with_indices ? "_with_indices" : "");
      std::string plane = dims == 1 ? "9" : dims == 2 ? "9,7" : "5,6,7";
      OpRow& row = ops.add(name);
      row.infer([dims, with_indices](const Call& call) -> Types {
           const TensorType& x = call.type("self");
           SymList sizes = pooled_sizes(windows_of(call, dims), x.sizes);
           std::vector<TensorType> out{pooled_type(call, x.dtype, sizes)};
           if (with_indices) out.push_back(pooled_type(call, DType::i64, sizes));
           return out;
         })
          .lower_many([dims, with_indices](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
            LoopValue x = call.tensor("self");
            Windows w = windows_of(call, dims);
            std::vector<LoopValue> out{max_pool(b, x, w)};
            bool asked = with_indices && call.node().outputs.size() > 1;
            if (asked) out.push_back(max_pool_indices(b, x, w));
            return out;
          });
      row.sample(format("{}(f32[2,3,{}], 3, 2, 1)", name, plane)).sample(format("{}(f32[3,{}], 2)", name, plane));
      row.sample(format("{}(f32[2,3,{}], 2, 2, 0, 1, True)", name, plane));
    }
}

// ------------------------------------------------------------------------------------------------------ average

}  // namespace

// The window is clipped to the padded extent, or to the input where padding does not count.
ExprId average_divisor(LoopBuilder& b, const Call& call, const Windows& w, const SymList& in, const Index& o) {
  bool clipped = w.ceil_mode || std::any_of(w.padding.begin(), w.padding.end(), [](int64_t n) { return n > 0; });
  bool has_override = call.schema().find_arg("divisor_override") >= 0 && call.has("divisor_override");
  if (has_override) return int_expr(b, call.constant("divisor_override"));
  bool padding_counts = call.flag("count_include_pad");
  ExprId count = int_expr(b, 1);
  for (size_t d = 0; d < w.dims; ++d) {
    ExprId taps = int_expr(b, w.kernel[d]);
    if (clipped) {
      ExprId start = b.sub(b.mul(o[d], int_expr(b, w.stride[d])), int_expr(b, w.padding[d]));
      ExprId end = b.add(start, int_expr(b, w.kernel[d]));
      end = b.op(ScalarOp::min, {end, b.index(padding_counts ? in[d] + w.padding[d] : in[d])});
      if (!padding_counts) start = b.op(ScalarOp::max, {start, int_expr(b, 0)});
      taps = b.sub(end, start);
    }
    count = b.mul(count, taps);
  }
  return count;
}

namespace {

LoopValue avg_pool(LoopBuilder& b, const LowerCall& call, const Windows& w) {
  LoopValue x = call.tensor("self");
  DType compute = accumulate_type(x.dtype);
  LoopValue taps = taps_of(b, x, w, number_expr(b, 0, x.dtype));
  LoopValue sum = b.reduce(ReduceOp::sum, taps, last_dims(taps.rank(), w.dims), false, compute, compute, "");
  LoopBuilder* p = &b;
  const auto lead = static_cast<ptrdiff_t>(x.sizes.size() - w.dims);
  auto kept = std::make_shared<LowerCall>(call);
  return b.from(x.dtype, sum.sizes, [=](const Index& i) {
    const SymList in(x.sizes.begin() + lead, x.sizes.end());
    ExprId count = p->cvt(average_divisor(*p, *kept, w, in, Index(i.begin() + lead, i.end())), compute);
    ExprId total = p->cvt(sum.at(i), compute);
    return p->cvt(is_float(compute) ? p->div(total, count) : p->op(ScalarOp::truncdiv, {total, count}), x.dtype);
  });
}

void add_avg_pools(OpTable& ops) {
  for (size_t dims : {1u, 2u, 3u}) {
    std::string name = format("aten.avg_pool{}d.default", dims);
    std::string plane = dims == 1 ? "9" : dims == 2 ? "9,7" : "5,6,7";
    ops.add(name)
        .infer([dims](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          return one(pooled_type(call, x.dtype, pooled_sizes(windows_of(call, dims), x.sizes)));
        })
        .lower([dims](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          return avg_pool(b, call, windows_of(call, dims));
        })
        .sample(format("{}(f32[2,3,{}], 2)", name, plane))
        .sample(format("{}(f32[2,3,{}], 3, 2, 1, True, False)", name, plane))
        .sample(format("{}(f32[2,3,{}], 3, 2, 1, False, True)", name, plane))
        .sample(format("{}({}[3,{}], 3, 1, 1)", name,
                       dims == 3   ? "f32"
                       : dims == 2 ? "i64"
                                   : "bf16",
                       plane));
  }
}

// ----------------------------------------------------------------------------------------------------- adaptive

}  // namespace

Adaptive adaptive_windows(const SymList& in, const SymList& out) {
  Adaptive a;
  a.dims = in.size();
  a.in = in;
  a.out = out;
  for (size_t d = 0; d < in.size(); ++d) {
    const Sym &n = in[d], &o = out[d];
    bool even = is_one(o) || proves_eq(n, o) || (o.is_constant() && o.value() > 0 && proves_divisible(n, o.value()));
    a.even.push_back(even);
    // Between multiples a window may reach over one element more at each end.
    a.taps.push_back(even ? floor_div(n, o) : floor_div(n + o - 2, o) + 1);
    if (!even && n.is_constant() && o.is_constant()) {
      int64_t most = 0;
      for (int64_t i = 0; i < o.value(); ++i)
        most = std::max(most, ((i + 1) * n.value() + o.value() - 1) / o.value() - i * n.value() / o.value());
      a.taps.back() = most;
    }
  }
  return a;
}

namespace {

Adaptive adaptive_of(const Call& call, size_t dims) {
  const SymList& x = call.type("self").sizes;
  return adaptive_windows(SymList(x.end() - static_cast<ptrdiff_t>(dims), x.end()), call.integers("output_size", dims));
}

SymList adaptive_sizes(const Call& call, const Adaptive& a) {
  SymList sizes = call.type("self").sizes;
  std::copy(a.out.begin(), a.out.end(), sizes.end() - static_cast<ptrdiff_t>(a.dims));
  return sizes;
}

}  // namespace

ExprId window_start(LoopBuilder& b, const Adaptive& a, ExprId o, size_t d) {
  if (is_one(a.out[d])) return int_expr(b, 0);
  if (a.even[d]) return b.mul(o, b.index(a.taps[d]));
  return b.op(ScalarOp::floordiv, {b.mul(o, b.index(a.in[d])), b.index(a.out[d])});
}

ExprId window_end(LoopBuilder& b, const Adaptive& a, ExprId o, size_t d) {
  ExprId top = b.add(b.mul(b.add(o, int_expr(b, 1)), b.index(a.in[d])), b.index(a.out[d] - 1));
  return b.op(ScalarOp::floordiv, {top, b.index(a.out[d])});
}

LoopValue adaptive_taps(LoopBuilder& b, const LoopValue& x, const Adaptive& a, ExprId fill) {
  size_t lead = x.sizes.size() - a.dims;
  SymList sizes(x.sizes.begin(), x.sizes.begin() + static_cast<ptrdiff_t>(lead));
  sizes.insert(sizes.end(), a.out.begin(), a.out.end());
  sizes.insert(sizes.end(), a.taps.begin(), a.taps.end());
  LoopBuilder* p = &b;
  return b.from(x.dtype, sizes, [p, x, a, fill, lead](const Index& i) {
    Index xi(i.begin(), i.begin() + static_cast<ptrdiff_t>(lead));
    std::vector<ExprId> bounds;
    for (size_t d = 0; d < a.dims; ++d) {
      ExprId at = p->add(window_start(*p, a, i[lead + d], d), i[lead + a.dims + d]);
      if (!a.even[d]) bounds.push_back(p->op(ScalarOp::lt, {at, window_end(*p, a, i[lead + d], d)}));
      xi.push_back(at);
    }
    ExprId value = x.at(xi);
    return bounds.empty() ? value : p->where(all_of(*p, bounds), value, fill);
  });
}

namespace {

LoopValue adaptive_avg_pool(LoopBuilder& b, const LowerCall& call, const Adaptive& a) {
  LoopValue x = call.tensor("self");
  DType compute = accumulate_type(x.dtype);
  LoopValue taps = adaptive_taps(b, x, a, number_expr(b, 0, x.dtype));
  LoopValue sum = b.reduce(ReduceOp::sum, taps, last_dims(taps.rank(), a.dims), false, compute, compute, "");
  LoopBuilder* p = &b;
  size_t lead = x.sizes.size() - a.dims;
  return b.from(x.dtype, sum.sizes, [p, a, sum, lead, compute, dtype = x.dtype](const Index& i) {
    ExprId count = int_expr(*p, 1);
    for (size_t d = 0; d < a.dims; ++d)
      count = p->mul(count, a.even[d] ? p->index(a.taps[d])
                                      : p->sub(window_end(*p, a, i[lead + d], d), window_start(*p, a, i[lead + d], d)));
    return p->cvt(p->div(sum.at(i), p->cvt(count, compute)), dtype);
  });
}

void add_adaptive_pools(OpTable& ops) {
  for (size_t dims : {1u, 2u, 3u})
    for (const char* prefix : {"", "_"}) {
      if (dims == 1 && *prefix) continue;
      std::string name = format("aten.{}adaptive_avg_pool{}d.default", prefix, dims);
      std::string plane = dims == 1   ? "9"
                          : dims == 2 ? "8,9"
                                      : "4,6,7",
                  size = dims == 1   ? "4"
                         : dims == 2 ? "4, 2"
                                     : "2, 3, 2";
      std::string ones = dims == 1 ? "1" : dims == 2 ? "1, 1" : "1, 1, 1";
      ops.add(name)
          .infer([dims](const Call& call) -> Types {
            return one(pooled_type(call, call.type("self").dtype, adaptive_sizes(call, adaptive_of(call, dims))));
          })
          .lower([dims](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
            return adaptive_avg_pool(b, call, adaptive_of(call, dims));
          })
          .sample(format("{}(f32[2,3,{}], [{}])", name, plane, size))
          .sample(format("{}(f32[2,3,{}], [{}])", name, plane, ones));
    }
  for (size_t dims : {1u, 2u, 3u}) {
    std::string name = format("aten.adaptive_max_pool{}d.default", dims);
    std::string plane = dims == 1   ? "9"
                        : dims == 2 ? "8,9"
                                    : "4,6,7",
                size = dims == 1   ? "4"
                       : dims == 2 ? "4, 2"
                                   : "2, 3, 2";
    ops.add(name)
        .infer([dims](const Call& call) -> Types {
          SymList sizes = adaptive_sizes(call, adaptive_of(call, dims));
          return std::vector<TensorType>{pooled_type(call, call.type("self").dtype, sizes),
                                         pooled_type(call, DType::i64, sizes)};
        })
        .lower_many([dims](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          LoopValue x = call.tensor("self");
          Adaptive a = adaptive_of(call, dims);
          LoopValue taps = adaptive_taps(b, x, a, lowest(b, x.dtype));
          auto over = last_dims(taps.rank(), dims);
          LoopValue high = b.reduce(ReduceOp::max, taps, over, false, x.dtype, x.dtype, "");
          LoopValue tap = b.reduce(ReduceOp::argmax, taps, over, false, x.dtype, DType::i64, ".tap");
          LoopBuilder* p = &b;
          size_t lead = x.sizes.size() - dims;
          LoopValue place = b.from(DType::i64, tap.sizes, [p, a, tap, lead](const Index& i) {
            Index at = p->unflatten(tap.at(i), a.taps);
            for (size_t d = 0; d < a.dims; ++d) at[d] = p->add(at[d], window_start(*p, a, i[lead + d], d));
            return p->linear(at, a.in);
          });
          return std::vector<LoopValue>{high, place};
        })
        .sample(format("{}(f32[2,3,{}], [{}])", name, plane, size));
  }
}

}  // namespace

void add_pool_ops(OpTable& ops) {
  add_max_pools(ops);
  add_avg_pools(ops);
  add_adaptive_pools(ops);
}

}  // namespace toroid
