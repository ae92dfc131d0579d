// Convolutions as contractions. The form that the matcher of convolutions knows, for kernel taps k and channel c of a
// group:
//   y[n, oc, o…] = sum(c, k…: x[n, group * C + c, o*stride + k*dilation - padding, …] * w[oc, c, k…])
// with group = oc // (out channels / groups); where there is padding, x is guarded as where(inside, x[…], 0). The bias
// is a map around the sum. A transposed convolution is a forward one that computes each residue of its stride as
// channels of their own.
#include <algorithm>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

struct ConvArgs {
  size_t dims = 2;
  SymList stride, before, after, dilation, output_padding;  // padding before and after
  Sym groups = 1;
  bool transposed = false;
};

Sym kernel_span(const ConvArgs& a, const SymList& weight, size_t d) { return a.dilation[d] * (weight[d + 2] - 1) + 1; }

Result<ConvArgs> conv_args(const Call& call) {
  ConvArgs a;
  const TensorType &x = call.type("input"), &w = call.type("weight");
  a.dims = w.sizes.size() - 2;
  if (x.sizes.size() != a.dims + 2 && x.sizes.size() != a.dims + 1)
    return fail(Kind::bad_graph, "`{}`: input of rank {}, weight of rank {}", call.op(), x.sizes.size(),
                w.sizes.size());
  a.stride = call.integers("stride", a.dims);
  a.dilation = call.integers("dilation", a.dims);
  a.groups = call.integer("groups");
  a.output_padding.assign(a.dims, 0);
  bool general = call.schema().find_arg("transposed") >= 0;
  a.transposed = general ? call.flag("transposed") : call.op().find("conv_transpose") != std::string::npos;
  if (a.transposed) a.output_padding = call.integers("output_padding", a.dims);
  if (std::holds_alternative<std::string>(call.arg("padding"))) {
    bool same = call.text("padding") == "same";
    for (size_t d = 0; d < a.dims; ++d) {
      // An odd element goes behind.
      Sym total = same ? kernel_span(a, w.sizes, d) - 1 : Sym(0);
      a.before.push_back(floor_div(total, 2));
      a.after.push_back(total - a.before.back());
    }
  } else {
    a.before = a.after = call.integers("padding", a.dims);
  }
  return a;
}

SymList conv_sizes(const ConvArgs& a, const SymList& x, const SymList& w) {
  bool batched = x.size() == a.dims + 2;
  SymList out;
  if (batched) out.push_back(x[0]);
  out.push_back(a.transposed ? w[1] * a.groups : w[0]);
  for (size_t d = 0; d < a.dims; ++d) {
    const Sym& size = x[d + (batched ? 2 : 1)];
    Sym span = kernel_span(a, w, d);
    out.push_back(a.transposed ? (size - 1) * a.stride[d] - a.before[d] - a.after[d] + span + a.output_padding[d]
                               : floor_div(size + a.before[d] + a.after[d] - span, a.stride[d]) + 1);
  }
  return out;
}

Types infer_conv(const Call& call) {
  const TensorType &x = call.type("input"), &w = call.type("weight");
  if (x.dtype != w.dtype)
    return fail(Kind::bad_graph, "`{}` of {} and {}", call.op(), dtype_name(x.dtype), dtype_name(w.dtype));
  TD_TRY(ConvArgs a, conv_args(call));
  TensorType out = contiguous_type(call, x.dtype, conv_sizes(a, x.sizes, w.sizes));
  auto last = [](const TensorType& t) { return is_channels_last(t) && !is_contiguous(t); };
  if (last(x) || last(w))
    out.strides = x.rank() == w.rank() ? channels_last_strides(out.sizes) : SymList{};
  else if (!is_contiguous(x) && a.dims != 2)
    out.strides.clear();
  return one(std::move(out));
}

// The condition that position is inside [0, size).
ExprId inside(LoopBuilder& b, ExprId position, const Sym& size) {
  return b.op(ScalarOp::land,
              {b.op(ScalarOp::le, {int_expr(b, 0), position}), b.op(ScalarOp::lt, {position, b.index(size)})});
}

ExprId forward_term(LoopBuilder& b, const ConvArgs& a, const LoopValue& x, const LoopValue& w, const Index& o,
                    const Index& k) {
  const Sym &channels = w.sizes[1], &out_channels = w.sizes[0];
  ExprId channel = k[0];
  if (!is_one(a.groups)) {
    ExprId group = b.op(ScalarOp::floordiv, {o[1], b.index(floor_div(out_channels, a.groups))});
    channel = b.add(b.mul(group, b.index(channels)), k[0]);
  }
  Index xi{o[0], channel}, wi{o[1], k[0]};
  std::vector<ExprId> bounds;
  for (size_t d = 0; d < a.dims; ++d) {
    ExprId at = b.add(b.mul(o[d + 2], b.index(a.stride[d])), b.mul(k[d + 1], b.index(a.dilation[d])));
    at = b.sub(at, b.index(a.before[d]));
    if (!is_zero(a.before[d]) || !is_zero(a.after[d])) bounds.push_back(inside(b, at, x.sizes[d + 2]));
    xi.push_back(at);
    wi.push_back(k[d + 1]);
  }
  ExprId value = x.at(xi);
  if (!bounds.empty()) value = b.where(all_of(b, bounds), value, number_expr(b, 0, x.dtype));
  return b.mul(value, w.at(wi));
}

// Output o gets x[q] * w[k] for all q, k with q * stride + k * dilation - padding == o.
ExprId transposed_term(LoopBuilder& b, const ConvArgs& a, const LoopValue& x, const LoopValue& w, const Index& o,
                       const Index& k) {
  const Sym& out_per_group = w.sizes[1];
  ExprId group = b.op(ScalarOp::floordiv, {o[1], b.index(out_per_group)});
  ExprId channel = b.add(b.mul(group, b.index(floor_div(w.sizes[0], a.groups))), k[0]);
  Index xi{o[0], channel}, wi{channel, b.op(ScalarOp::remainder, {o[1], b.index(out_per_group)})};
  std::vector<ExprId> bounds;
  for (size_t d = 0; d < a.dims; ++d) {
    ExprId at = b.sub(b.add(o[d + 2], b.index(a.before[d])), b.mul(k[d + 1], b.index(a.dilation[d])));
    if (!is_one(a.stride[d])) {
      ExprId stride = b.index(a.stride[d]);
      bounds.push_back(b.op(ScalarOp::eq, {b.op(ScalarOp::remainder, {at, stride}), int_expr(b, 0)}));
      at = b.op(ScalarOp::floordiv, {at, stride});
    }
    bounds.push_back(inside(b, at, x.sizes[d + 2]));
    xi.push_back(at);
    wi.push_back(k[d + 1]);
  }
  return b.mul(b.where(all_of(b, bounds), x.at(xi), number_expr(b, 0, x.dtype)), w.at(wi));
}

// A transposed convolution as a forward one of stride 1. Output o gets x[i] * w[k] for k + stride * i == o + padding:
// the taps are those of o + padding's residue r, k = r + stride * j, and i = (o + padding) / stride - j. So the
// residues are output channels (oc, r…), their taps run backwards, and the results are interleaved behind; with stride
// 1 a tap steps by the dilation instead. None where the taps step unlike the outputs, or padding cuts more than the
// taps reach.
std::optional<LoopValue> transposed_as_forward(LoopBuilder& b, const ConvArgs& a, const LoopValue& x,
                                               const LoopValue& w, const SymList& sizes, DType acc,
                                               const std::string& suffix) {
  const Sym& out_per_group = w.sizes[1];
  ConvArgs f;
  f.dims = a.dims;
  f.groups = a.groups;
  f.stride.assign(a.dims, 1);
  SymList cut, whole, taps;  // per dim: what is left off in front, outputs of one residue, taps of one residue
  Sym residues = 1;
  for (size_t d = 0; d < a.dims; ++d) {
    const Sym &stride = a.stride[d], &kernel = w.sizes[d + 2];
    if (!is_one(stride) && !is_one(a.dilation[d])) return std::nullopt;
    residues = residues * stride;
    f.dilation.push_back(a.dilation[d]);
    cut.push_back(mod(a.before[d], stride));
    whole.push_back(floor_div(sizes[d + 2] + cut.back() + stride - 1, stride));
    taps.push_back(floor_div(kernel + stride - 1, stride));
    f.before.push_back(a.dilation[d] * (taps.back() - 1) - floor_div(a.before[d], stride));
    f.after.push_back(whole.back() + a.dilation[d] * (taps.back() - 1) - x.sizes[d + 2] - f.before.back());
    std::optional<int64_t> before = f.before.back().constant();
    if (!before || *before < 0) return std::nullopt;
  }
  LoopBuilder* p = &b;
  // w[(group, c), oc, k…] as [(group, oc, r…), c, j…].
  SymList weight_sizes{w.sizes[1] * a.groups * residues, floor_div(w.sizes[0], a.groups)};
  weight_sizes.insert(weight_sizes.end(), taps.begin(), taps.end());
  SymList split{w.sizes[1] * a.groups};
  split.insert(split.end(), a.stride.begin(), a.stride.end());
  LoopValue turned = b.from(w.dtype, weight_sizes, [=](const Index& i) {
    Index out = p->unflatten(i[0], split);  // oc, r…
    ExprId group = p->op(ScalarOp::floordiv, {out[0], p->index(out_per_group)});
    Index wi{p->add(p->mul(group, p->index(weight_sizes[1])), i[1]),
             p->op(ScalarOp::remainder, {out[0], p->index(out_per_group)})};
    std::vector<ExprId> bounds;
    for (size_t d = 0; d < a.dims; ++d) {
      ExprId j = p->sub(p->index(taps[d] - 1), i[d + 2]);
      wi.push_back(p->add(out[d + 1], p->mul(j, p->index(a.stride[d]))));
      if (!is_zero(mod(w.sizes[d + 2], a.stride[d]))) bounds.push_back(inside(*p, wi.back(), w.sizes[d + 2]));
    }
    return bounds.empty() ? w.at(wi) : p->where(all_of(*p, bounds), w.at(wi), number_expr(*p, 0, w.dtype));
  });
  turned = b.materialize(turned, suffix + ".taps");
  SymList inner{sizes[0], weight_sizes[0]};
  inner.insert(inner.end(), whole.begin(), whole.end());
  SymList k(weight_sizes.begin() + 1, weight_sizes.end());
  LoopValue y = b.contract(
      acc, inner, k, [=](const Index& o, const Index& t) { return forward_term(*p, f, x, turned, o, t); }, suffix);
  // [n, (oc, r…), q…] as [n, oc, (q, r)…], cut.
  SymList apart{sizes[0], sizes[1]}, joined{sizes[0], sizes[1]};
  apart.insert(apart.end(), a.stride.begin(), a.stride.end());
  apart.insert(apart.end(), whole.begin(), whole.end());
  std::vector<int> order{0, 1};
  for (size_t d = 0; d < a.dims; ++d) {
    order.push_back(static_cast<int>(2 + a.dims + d));
    order.push_back(static_cast<int>(2 + d));
    joined.push_back(whole[d] * a.stride[d]);
  }
  y = b.reshape(b.permute(b.reshape(y, apart), order), joined);
  for (size_t d = 0; d < a.dims; ++d) y = b.slice(y, static_cast<int64_t>(d) + 2, cut[d], sizes[d + 2]);
  return y;
}

// A convolution in three dims as one in two: the taps along depth stand side by side as channels (kd, c) of a copy of
// the input, whose images are (n, d). What a template of two dims then repeats is its work on pixels; the copy is small
// beside the products of each of its elements.
LoopValue in_two_dims(LoopBuilder& b, const ConvArgs& a, const LoopValue& x, const LoopValue& w, const SymList& sizes,
                      DType acc, const std::string& suffix) {
  const Sym &channels = w.sizes[1], &depth = w.sizes[2], &out_depth = sizes[2];
  LoopBuilder* p = &b;
  SymList slab_sizes{sizes[0] * out_depth, a.groups * depth * channels, x.sizes[3], x.sizes[4]};
  LoopValue slabs = b.from(x.dtype, slab_sizes, [=](const Index& i) {
    Index image = p->unflatten(i[0], {sizes[0], out_depth}), place = p->unflatten(i[1], {a.groups, depth, channels});
    ExprId at = p->add(p->mul(image[1], p->index(a.stride[0])), p->mul(place[1], p->index(a.dilation[0])));
    at = p->sub(at, p->index(a.before[0]));
    ExprId value = x.at({image[0], p->add(p->mul(place[0], p->index(channels)), place[2]), at, i[2], i[3]});
    if (is_zero(a.before[0]) && is_zero(a.after[0])) return value;
    return p->where(inside(*p, at, x.sizes[2]), value, number_expr(*p, 0, x.dtype));
  });
  slabs = b.materialize(slabs, suffix + ".slabs");
  LoopValue y = b.contract(
      acc, {slab_sizes[0], sizes[1], sizes[3], sizes[4]}, {depth, channels, w.sizes[3], w.sizes[4]},
      [=](const Index& o, const Index& k) {
        ExprId channel = p->add(p->mul(k[0], p->index(channels)), k[1]);
        if (!is_one(a.groups)) {
          ExprId group = p->op(ScalarOp::floordiv, {o[1], p->index(floor_div(w.sizes[0], a.groups))});
          channel = p->add(p->mul(group, p->index(depth * channels)), channel);
        }
        Index xi{o[0], channel};
        std::vector<ExprId> bounds;
        for (size_t d = 1; d < 3; ++d) {
          ExprId at = p->add(p->mul(o[d + 1], p->index(a.stride[d])), p->mul(k[d + 1], p->index(a.dilation[d])));
          at = p->sub(at, p->index(a.before[d]));
          if (!is_zero(a.before[d]) || !is_zero(a.after[d])) bounds.push_back(inside(*p, at, x.sizes[d + 2]));
          xi.push_back(at);
        }
        ExprId value = slabs.at(xi);
        if (!bounds.empty()) value = p->where(all_of(*p, bounds), value, number_expr(*p, 0, x.dtype));
        return p->mul(value, w.at({o[1], k[1], k[0], k[2], k[3]}));
      },
      suffix);
  y = b.reshape(y, {sizes[0], out_depth, sizes[1], sizes[3], sizes[4]});
  return b.permute(y, {0, 2, 1, 3, 4});
}

// The sum of a convolution, without bias and in `acc`.
LoopValue conv_sum(LoopBuilder& b, const ConvArgs& a, const LoopValue& x, const LoopValue& w, const SymList& sizes,
                   DType acc, const std::string& suffix) {
  LoopBuilder* p = &b;
  if (a.transposed)
    if (std::optional<LoopValue> y = transposed_as_forward(b, a, x, w, sizes, acc, suffix)) return *y;
  if (!a.transposed && a.dims == 3 && is_float(x.dtype)) return in_two_dims(b, a, x, w, sizes, acc, suffix);
  SymList k{a.transposed ? floor_div(w.sizes[0], a.groups) : w.sizes[1]};
  k.insert(k.end(), w.sizes.begin() + 2, w.sizes.end());
  return b.contract(
      acc, sizes, k,
      [p, a, x, w](const Index& o, const Index& taps) {
        return a.transposed ? transposed_term(*p, a, x, w, o, taps) : forward_term(*p, a, x, w, o, taps);
      },
      suffix);
}

Result<LoopValue> lower_conv(LoopBuilder& b, const LowerCall& call) {
  TD_TRY(ConvArgs a, conv_args(call));
  LoopValue x = call.tensor("input"), w = call.tensor("weight");
  bool batched = x.sizes.size() == a.dims + 2;
  if (!batched) x = b.unsqueeze(x, 0);
  SymList sizes = conv_sizes(a, x.sizes, w.sizes);
  DType acc = is_float(x.dtype) ? accumulate_type(x.dtype) : x.dtype;
  LoopBuilder* p = &b;
  LoopValue y = conv_sum(b, a, x, w, sizes, acc, "");
  DType result = x.dtype;
  if (is_tensor(call, "bias")) {
    LoopValue bias = per_channel(b, call.tensor("bias"), y.rank());
    y = b.map({y, bias}, sizes, acc, result,
              [p, result](const std::vector<ExprId>& v) { return p->cvt(p->add(v[0], v[1]), result); });
  } else {
    y = map1(b, y, acc, result, [](ExprId v) { return v; });
  }
  return batched ? y : b.squeeze(y, 0);
}

// The gradient of the weight. For y = conv(x, w): gw[oc, c, k…] = sum(n, o…: gy[n, oc, o…] * x[n, group*C + c,
// o*stride + k*dilation - padding…]). A transposed convolution reads x where this one reads gy, and the other way
// round.
LoopValue weight_gradient(LoopBuilder& b, const ConvArgs& a, const LoopValue& dense, const LoopValue& walked,
                          const SymList& weight, DType acc) {
  SymList terms{dense.sizes[0]};
  terms.insert(terms.end(), dense.sizes.begin() + 2, dense.sizes.end());
  LoopBuilder* p = &b;
  return b.contract(
      acc, weight, terms,
      [=](const Index& k, const Index& o) {
        ExprId channel = k[1];
        if (!is_one(a.groups)) {
          ExprId group = p->op(ScalarOp::floordiv, {k[0], p->index(floor_div(weight[0], a.groups))});
          channel = p->add(p->mul(group, p->index(weight[1])), k[1]);
        }
        Index di{o[0], k[0]}, wi{o[0], channel};
        std::vector<ExprId> bounds;
        for (size_t d = 0; d < a.dims; ++d) {
          ExprId at = p->add(p->mul(o[d + 1], p->index(a.stride[d])), p->mul(k[d + 2], p->index(a.dilation[d])));
          at = p->sub(at, p->index(a.before[d]));
          bounds.push_back(inside(*p, at, walked.sizes[d + 2]));
          di.push_back(o[d + 1]);
          wi.push_back(at);
        }
        ExprId value = p->where(all_of(*p, bounds), walked.at(wi), number_expr(*p, 0, walked.dtype));
        return p->mul(dense.at(di), value);
      },
      ".weight");
}

Result<std::vector<LoopValue>> lower_conv_backward(LoopBuilder& b, const LowerCall& call) {
  TD_TRY(ConvArgs a, conv_args(call));
  LoopValue gy = call.tensor("grad_output"), x = call.tensor("input"), w = call.tensor("weight");
  const bool batched = x.sizes.size() == a.dims + 2;
  if (!batched) x = b.unsqueeze(x, 0), gy = b.unsqueeze(gy, 0);
  const DType acc = is_float(x.dtype) ? accumulate_type(x.dtype) : x.dtype, result = x.dtype;
  auto rounded = [&](const LoopValue& v) { return map1(b, v, acc, result, [](ExprId e) { return e; }); };
  // The gradient of the input is the other kind of convolution, over the channels of y.
  ConvArgs other = a;
  other.transposed = !a.transposed;
  LoopValue gx = conv_sum(b, other, gy, w, x.sizes, acc, ".input");
  LoopValue gw = weight_gradient(b, a, a.transposed ? x : gy, a.transposed ? gy : x, w.sizes, acc);
  std::vector<int64_t> all{0};
  for (size_t d = 0; d < a.dims; ++d) all.push_back(static_cast<int64_t>(d) + 2);
  LoopValue gb = b.reduce(ReduceOp::sum, gy, all, false, acc, result, ".bias");
  return std::vector<LoopValue>{batched ? rounded(gx) : b.squeeze(rounded(gx), 0), rounded(gw), gb};
}

// Convolutions under the names of ways to compute them, and over time: [time, batch, channels].
void add_other_names(OpTable& ops) {
  for (const char* form : {"default", "deprecated"})
    compose(ops, format("_convolution.{}", form),
            [](Compose& c) -> Composed {
              std::vector<Passed> args;
              for (const char* name : {"input", "weight", "bias", "stride", "padding", "dilation", "transposed",
                                       "output_padding", "groups"})
                args.push_back(c[name]);
              return c("convolution.default", std::move(args));
            })
        .sample(
            format("aten._convolution.{}(f32[2,4,7,6], f32[6,4,3,3], f32[6], [1, 1], [1, 1], [1, 1], False, [0, 0], "
                   "1, False, False, True{})",
                   form, std::string(form) == "default" ? ", True" : ""));
  compose(ops, "thnn_conv2d.default", [](Compose& c) -> Composed {
    return c("conv2d.default", {c["self"], c["weight"], c["bias"], c["stride"], c["padding"]});
  }).sample("aten.thnn_conv2d.default(f32[2,3,5,4], f32[6,3,3,2], [3, 2], f32[6], [2, 1], [1, 0])");
  compose(ops, "slow_conv3d.default", [](Compose& c) -> Composed {
    return c("conv3d.default", {c["self"], c["weight"], c["bias"], c["stride"], c["padding"]});
  }).sample("aten.slow_conv3d.default(f32[1,2,3,4,4], f32[3,2,2,3,2], [2, 3, 2], f32[3])");
  compose(ops, "conv_tbc.default", [](Compose& c) -> Composed {
    LoopValue x = c("permute.default", {c["self"], SymList{1, 2, 0}});
    LoopValue weight = c("permute.default", {c["weight"], SymList{2, 1, 0}});
    LoopValue y = c("conv1d.default", {x, weight, c["bias"], SymList{1}, SymList{c.call.integer("pad")}});
    return c("permute.default", {y, SymList{2, 0, 1}});
  }).sample("aten.conv_tbc.default(f32[6,2,3], f32[3,3,4], f32[4], 1)");
}

}  // namespace

void add_conv_ops(OpTable& ops) {
  auto add = [&](const std::string& name, std::vector<std::string> samples) {
    OpRow& row = ops.add("aten." + name);
    row.infer(infer_conv).lower(lower_conv);
    for (const std::string& sample : samples) row.sample("aten." + name + sample);
  };
  add("conv1d.default", {"(f32[2,4,9], f32[6,4,3], f32[6], 1, 1)", "(f32[4,9], f32[6,2,3], none, 2, 0, 1, 2)"});
  add("conv2d.default",
      {"(f32[2,4,7,6], f32[6,4,3,3], f32[6], [2, 1], [1, 1])", "(f32[2,4,7,6], f32[6,4,1,1])",
       "(f32[2,4,7,6], f32[4,1,3,3], f32[4], 1, 1, 1, 4)", "(bf16[2,4,7,6], bf16[6,2,3,3], bf16[6], 1, 2, 2, 2)"});
  add("conv3d.default", {"(f32[1,2,4,5,5], f32[3,2,2,3,3], f32[3], 1, 1)"});
  for (const char* n : {"1d", "2d", "3d"}) {
    std::string spatial = *n == '1'   ? "7"
                          : *n == '2' ? "7,6"
                                      : "4,5,5",
                taps = *n == '1'   ? "4"
                       : *n == '2' ? "4,3"
                                   : "2,3,3";
    add(format("conv{}.padding", n), {format("(f32[2,2,{}], f32[3,2,{}], f32[3], 1, \"same\")", spatial, taps),
                                      format("(f32[2,2,{}], f32[3,2,{}], none, 2, \"valid\")", spatial, taps)});
  }
  add("conv_transpose1d.default", {"(f32[2,4,5], f32[4,3,3], f32[3], 2, 1, 1)"});
  add("conv_transpose2d.input", {"(f32[2,4,5,4], f32[4,3,3,2], f32[3], [2, 1], [1, 0], [1, 0])",
                                 "(f32[2,4,5,4], f32[4,1,3,3], none, 2, 1, 1, 2, 2)"});
  add("conv_transpose3d.input", {"(f32[1,2,3,3,3], f32[2,3,2,2,2], f32[3], 2)"});
  add("convolution.default", {"(f32[2,4,7,6], f32[6,4,3,3], f32[6], [1, 1], [1, 1], [1, 1], False, [0, 0], 1)",
                              "(f32[2,4,5,4], f32[4,3,3,2], f32[3], [2, 2], [1, 0], [1, 1], True, [1, 0], 1)"});
  add_other_names(ops);
  ops.add("aten.convolution_backward.default")
      .infer([](const Call& call) -> Types {
        const TensorType &gy = call.type("grad_output"), &x = call.type("input"), &w = call.type("weight");
        return std::vector<TensorType>{
            unclaimed_type(call, x.dtype, x.sizes), unclaimed_type(call, w.dtype, w.sizes),
            contiguous_type(call, gy.dtype, {gy.sizes[gy.sizes.size() - w.sizes.size() + 1]})};
      })
      .lower_many(lower_conv_backward)
      .sample(
          "aten.convolution_backward.default(f32[2,6,4,3], f32[2,4,7,6], f32[6,2,3,3], [6], [2, 2], [1, 1], [1, 1], "
          "False, [0, 0], 2, [True, True, True])")
      .sample(
          "aten.convolution_backward.default(f32[2,3,10,8], f32[2,4,5,4], f32[4,3,3,2], [3], [2, 2], [1, 0], [1, 1], "
          "True, [1, 0], 1, [True, True, True])")
      .sample(
          "aten.convolution_backward.default(f32[2,6,5], f32[2,4,9], f32[6,4,3], [6], [1], [0], [2], False, [0], 1, "
          "[True, True, True])");
}

}  // namespace toroid
