// Normalisations: layer, rms, group, batch and instance norm. Statistics run in f32 (f64 for doubles), variance in two
// passes; the result rounds once.
#include <limits>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

struct Moments {
  LoopValue mean, rstd;  // kept dims
};

Moments moments_over(LoopBuilder& b, const LoopValue& x, const std::vector<int64_t>& dims, double eps, DType compute) {
  LoopBuilder* p = &b;
  LoopValue mean = mean_over(b, x, dims, true, compute, ".mean");
  LoopValue squares = squared_deviations(b, x, mean, dims, true, compute, ".squares");
  ExprId n = b.cvt(b.index(count_of(x.sizes, dims)), compute);
  LoopValue rstd = map1(b, squares, compute, compute, [p, n, eps, compute](ExprId s) {
    return p->op(ScalarOp::rsqrt, {p->add(p->div(s, n), number_expr(*p, eps, compute))});
  });
  return {mean, b.materialize(rstd, ".rstd")};
}

// (x - mean) * rstd * weight + bias; weight and bias broadcast already.
LoopValue normalised(LoopBuilder& b, const LoopValue& x, const Moments& m, const LoopValue* weight,
                     const LoopValue* bias, DType compute, DType result) {
  std::vector<LoopValue> inputs{x, m.mean, m.rstd};
  if (weight) inputs.push_back(*weight);
  if (bias) inputs.push_back(*bias);
  LoopBuilder* p = &b;
  bool scales = weight, shifts = bias;
  return b.map(inputs, x.sizes, compute, result, [p, scales, shifts, result](const std::vector<ExprId>& v) {
    ExprId y = p->mul(p->sub(v[0], v[1]), v[2]);
    if (scales) y = p->mul(y, v[3]);
    if (shifts) y = p->add(y, v.back());
    return p->cvt(y, result);
  });
}

std::vector<int64_t> trailing(int64_t rank, size_t count) {
  std::vector<int64_t> dims;
  for (int64_t d = rank - static_cast<int64_t>(count); d < rank; ++d) dims.push_back(d);
  return dims;
}

std::optional<LoopValue> optional_tensor(const LowerCall& call, const char* name) {
  if (!is_tensor(call, name)) return std::nullopt;
  return call.tensor(name);
}

const LoopValue* pointer(const std::optional<LoopValue>& value) { return value ? &*value : nullptr; }

// Contiguous for a contiguous input; what eager does with others differs by path, so nothing is claimed then.
TensorType norm_type(const TensorType& x) {
  TensorType out{x.dtype, x.sizes, {}, x.device};
  if (is_contiguous(x)) out.strides = contiguous_strides(x.sizes);
  return out;
}

// -------------------------------------------------------------------------------------------- layer and rms norm

void add_layer_norms(OpTable& ops) {
  ops.add("aten.layer_norm.default")
      .infer([](const Call& call) -> Types { return one(norm_type(call.type("input"))); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("input");
        DType compute = accumulate_type(x.dtype);
        auto dims = trailing(x.rank(), call.integers("normalized_shape").size());
        Moments m = moments_over(b, x, dims, call.number("eps"), compute);
        auto weight = optional_tensor(call, "weight"), bias = optional_tensor(call, "bias");
        return normalised(b, x, m, pointer(weight), pointer(bias), compute, x.dtype);
      })
      .sample("aten.layer_norm.default(f32[2,3,8], [8], f32[8], f32[8])")
      .sample("aten.layer_norm.default(f32[2,3,8], [3, 8])")
      .sample("aten.layer_norm.default(bf16[4,8], [8], bf16[8], bf16[8], 1e-06)");
  ops.add("aten.native_layer_norm.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("input");
        auto dims = trailing(x.rank(), call.integers("normalized_shape").size());
        // Statistics follow the weights where those are wider than the input.
        DType stat = x.dtype;
        if (is_tensor(call, "weight")) stat = promote(stat, call.type("weight").dtype);
        TensorType kept = contiguous_type(call, stat, reduced_sizes(x.sizes, dims, true));
        return std::vector<TensorType>{norm_type(x), kept, kept};
      })
      .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
        LoopValue x = call.tensor("input");
        DType compute = accumulate_type(x.dtype), stat = x.dtype;
        auto dims = trailing(x.rank(), call.integers("normalized_shape").size());
        Moments m = moments_over(b, x, dims, call.number("eps"), compute);
        auto weight = optional_tensor(call, "weight"), bias = optional_tensor(call, "bias");
        if (weight) stat = promote(stat, weight->dtype);
        return std::vector<LoopValue>{normalised(b, x, m, pointer(weight), pointer(bias), compute, x.dtype),
                                      b.convert(m.mean, stat), b.convert(m.rstd, stat)};
      })
      .sample("aten.native_layer_norm.default(f32[2,3,8], [8], f32[8], f32[8], 1e-05)");
  // x * rsqrt(mean(x^2) + eps) * weight; without eps, the epsilon of the type that computes.
  ops.add("aten.rms_norm.default")
      .infer([](const Call& call) -> Types { return one(norm_type(call.type("input"))); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("input");
        DType compute = accumulate_type(x.dtype);
        auto dims = trailing(x.rank(), call.integers("normalized_shape").size());
        double eps = call.has("eps")         ? call.number("eps")
                     : compute == DType::f64 ? std::numeric_limits<double>::epsilon()
                                             : std::numeric_limits<float>::epsilon();
        LoopBuilder* p = &b;
        LoopValue squares = map1(b, x, compute, compute, [p](ExprId v) { return p->mul(v, v); });
        LoopValue mean = mean_over(b, squares, dims, true, compute, ".mean");
        LoopValue rstd = map1(b, mean, compute, compute, [p, eps, compute](ExprId v) {
          return p->op(ScalarOp::rsqrt, {p->add(v, number_expr(*p, eps, compute))});
        });
        std::vector<LoopValue> inputs{x, b.materialize(rstd, ".rstd")};
        if (auto weight = optional_tensor(call, "weight")) inputs.push_back(*weight);
        return b.map(inputs, x.sizes, compute, x.dtype, [p](const std::vector<ExprId>& v) {
          ExprId y = p->mul(v[0], v[1]);
          return v.size() > 2 ? p->mul(y, v[2]) : y;
        });
      })
      .sample("aten.rms_norm.default(f32[2,3,8], [8], f32[8], 1e-05)")
      .sample("aten.rms_norm.default(f32[2,8], [8])");
}

// ---------------------------------------------------------------------------------------------------- group norm

// x [n, c, …] seen as [n, groups, c / groups, …]; statistics over all but the first two.
std::vector<LoopValue> group_norm(LoopBuilder& b, const LowerCall& call, const LoopValue& x, const Sym& groups,
                                  double eps) {
  DType compute = accumulate_type(x.dtype);
  SymList split{x.sizes[0], groups, floor_div(x.sizes[1], groups)};
  split.insert(split.end(), x.sizes.begin() + 2, x.sizes.end());
  LoopValue grouped = b.reshape(x, split);
  Moments m = moments_over(b, grouped, trailing(grouped.rank(), split.size() - 2), eps, compute);
  auto per_group = [&](const LoopValue& stat) {
    // [n, groups, 1, …] as [n, c, 1, …]: the group of a channel is channel // (c / groups).
    SymList sizes{x.sizes[0], x.sizes[1]};
    sizes.resize(x.sizes.size(), 1);
    LoopBuilder* p = &b;
    Sym channels = split[2];
    size_t rank = split.size();
    return b.from(stat.dtype, sizes, [p, stat, channels, rank](const Index& i) {
      Index at(rank, int_expr(*p, 0));
      at[0] = i[0];
      at[1] = p->op(ScalarOp::floordiv, {i[1], p->index(channels)});
      return stat.at(at);
    });
  };
  std::optional<LoopValue> weight, bias;
  if (is_tensor(call, "weight")) weight = per_channel(b, call.tensor("weight"), x.rank());
  if (is_tensor(call, "bias")) bias = per_channel(b, call.tensor("bias"), x.rank());
  LoopValue y =
      normalised(b, x, {per_group(m.mean), per_group(m.rstd)}, pointer(weight), pointer(bias), compute, x.dtype);
  SymList stat_sizes{x.sizes[0], groups};
  auto stat = [&](const LoopValue& s) { return b.convert(b.reshape(s, stat_sizes), x.dtype); };
  return {y, stat(m.mean), stat(m.rstd)};
}

void add_group_norms(OpTable& ops) {
  ops.add("aten.group_norm.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("input");
        TensorType out = norm_type(x);
        // The statistics loop keeps channels last.
        if (is_channels_last(x) && !is_contiguous(x)) out.strides.clear();
        return one(std::move(out));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        return group_norm(b, call, call.tensor("input"), call.integer("num_groups"), call.number("eps"))[0];
      })
      .sample("aten.group_norm.default(f32[2,6,3,3], 3, f32[6], f32[6])")
      .sample("aten.group_norm.default(bf16[2,6,5], 2)");
  ops.add("aten.native_group_norm.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("input");
        TensorType stat = contiguous_type(call, x.dtype, {call.integer("N"), call.integer("group")});
        return std::vector<TensorType>{norm_type(x), stat, stat};
      })
      .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
        return group_norm(b, call, call.tensor("input"), call.integer("group"), call.number("eps"));
      })
      .sample("aten.native_group_norm.default(f32[2,6,3,3], f32[6], f32[6], 2, 6, 9, 3, 1e-05)");
}

// ---------------------------------------------------------------------------------------------------- batch norm

// Evaluation: y = x * scale + shift per channel, with scale = weight / sqrt(var + eps) and shift = bias - mean * scale.
// Both are tensors of their own (….scale, ….shift) made from weights alone: a pass can fold them, or the whole norm
// into the weights of a convolution before it.
LoopValue batch_norm_eval(LoopBuilder& b, const LowerCall& call, double eps) {
  LoopValue x = call.tensor("input"), mean = call.tensor("running_mean"), var = call.tensor("running_var");
  DType compute = accumulate_type(x.dtype);
  LoopBuilder* p = &b;
  std::vector<LoopValue> of_scale{var};
  if (is_tensor(call, "weight")) of_scale.push_back(call.tensor("weight"));
  LoopValue scale = b.map(of_scale, var.sizes, compute, compute, [p, eps, compute](const std::vector<ExprId>& v) {
    ExprId r = p->op(ScalarOp::rsqrt, {p->add(v[0], number_expr(*p, eps, compute))});
    return v.size() > 1 ? p->mul(v[1], r) : r;
  });
  scale = b.materialize(scale, ".scale");
  std::vector<LoopValue> of_shift{mean, scale};
  if (is_tensor(call, "bias")) of_shift.push_back(call.tensor("bias"));
  LoopValue shift = b.map(of_shift, mean.sizes, compute, compute, [p, compute](const std::vector<ExprId>& v) {
    ExprId bias = v.size() > 2 ? v[2] : number_expr(*p, 0, compute);
    return p->sub(bias, p->mul(v[0], v[1]));
  });
  shift = b.materialize(shift, ".shift");
  return b.map({x, per_channel(b, scale, x.rank()), per_channel(b, shift, x.rank())}, x.sizes, compute, x.dtype,
               [p](const std::vector<ExprId>& v) { return p->add(p->mul(v[0], v[1]), v[2]); });
}

// All dims but the channels.
std::vector<int64_t> batch_dims(int64_t rank) {
  std::vector<int64_t> dims{0};
  for (int64_t d = 2; d < rank; ++d) dims.push_back(d);
  return dims;
}

// Training: the batch's own statistics, kept [1, c, 1, …].
LoopValue batch_norm_train(LoopBuilder& b, const LowerCall& call, double eps, Moments* moments) {
  LoopValue x = call.tensor("input");
  DType compute = accumulate_type(x.dtype);
  *moments = moments_over(b, x, batch_dims(x.rank()), eps, compute);
  std::optional<LoopValue> weight, bias;
  if (is_tensor(call, "weight")) weight = per_channel(b, call.tensor("weight"), x.rank());
  if (is_tensor(call, "bias")) bias = per_channel(b, call.tensor("bias"), x.rank());
  return normalised(b, x, *moments, pointer(weight), pointer(bias), compute, x.dtype);
}

TensorType batch_norm_type(const Call& call) {
  const TensorType& x = call.type("input");
  TensorType out{x.dtype, x.sizes, {}, x.device};
  if (is_contiguous(x))
    out.strides = contiguous_strides(x.sizes);
  else if (is_channels_last(x))
    out.strides = channels_last_strides(x.sizes);
  return out;
}

Status refuse_training_update(const Call& call) {
  return fail(Kind::unsupported_op,
              "`{}` in training updates its running statistics; export with decompositions, or model.eval()",
              call.op());
}

void add_batch_norms(OpTable& ops) {
  ops.add("aten.batch_norm.default")
      .infer([](const Call& call) -> Types {
        if (call.flag("training") && is_tensor(call, "running_mean")) TD_CHECK_OK(refuse_training_update(call));
        return one(batch_norm_type(call));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        Moments unused;
        if (is_tensor(call, "running_mean")) return batch_norm_eval(b, call, call.number("eps"));
        return batch_norm_train(b, call, call.number("eps"), &unused);
      })
      .sample("aten.batch_norm.default(f32[2,3,4,4], f32[3], f32[3], f32[3], f32[3], False, 0.1, 1e-05, False)")
      .sample("aten.batch_norm.default(f32[4,3], none, none, f32[3], f32[3], False, 0.1, 0.001, False)")
      .sample("aten.batch_norm.default(f32[4,3], f32[3], f32[3], none, none, True, 0.1, 0.001, False)");
  for (const char* form : {"_native_batch_norm_legit_no_training.default", "native_batch_norm.default"}) {
    std::string name = format("aten.{}", form);
    bool flagged = std::string(form) == "native_batch_norm.default";
    ops.add(name)
        .infer([flagged](const Call& call) -> Types {
          if (flagged && call.flag("training")) TD_CHECK_OK(refuse_training_update(call));
          TensorType none = contiguous_type(call, accumulate_type(call.type("input").dtype), {0});
          none.dtype = call.type("input").dtype;
          return std::vector<TensorType>{batch_norm_type(call), none, none};
        })
        .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          DType dtype = call.type("input").dtype;
          LoopValue none = b.full({0}, number_expr(b, 0, dtype), dtype);
          return std::vector<LoopValue>{batch_norm_eval(b, call, call.number("eps")), none, none};
        })
        .sample(name + "(f32[2,3,4,4], f32[3], f32[3], f32[3], f32[3], " + (flagged ? "False, " : "") + "0.1, 1e-05)");
  }
  // Training, functional: the new running statistics are results; the variance there is the unbiased one.
  ops.add("aten._native_batch_norm_legit_functional.default")
      .infer([](const Call& call) -> Types {
        const TensorType &x = call.type("input"), &mean = call.type("running_mean");
        // What is saved for the backward is of the input's type, whatever the weights are; nothing in evaluation.
        TensorType stat = contiguous_type(call, x.dtype, {call.flag("training") ? x.sizes[1] : Sym(0)});
        TensorType new_mean = mean, new_var = call.type("running_var");
        // New statistics are not rounded to the type of the old ones.
        for (TensorType* type : {&new_mean, &new_var}) type->dtype = accumulate_type(type->dtype);
        return std::vector<TensorType>{batch_norm_type(call), stat, stat, new_mean, new_var};
      })
      .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
        LoopValue x = call.tensor("input");
        double eps = call.number("eps"), momentum = call.number("momentum");
        if (!call.flag("training")) {
          LoopValue none = b.full({0}, number_expr(b, 0, x.dtype), x.dtype);
          auto wide = [&](const char* name) {
            LoopValue old = call.tensor(name);
            return b.convert(old, accumulate_type(old.dtype));
          };
          return std::vector<LoopValue>{batch_norm_eval(b, call, eps), none, none, wide("running_mean"),
                                        wide("running_var")};
        }
        DType compute = accumulate_type(x.dtype);
        Moments m;
        LoopValue y = batch_norm_train(b, call, eps, &m);
        LoopBuilder* p = &b;
        LoopValue mean = b.reshape(m.mean, {x.sizes[1]}), rstd = b.reshape(m.rstd, {x.sizes[1]});
        auto squares = squared_deviations(b, x, m.mean, batch_dims(x.rank()), false, compute, ".spread");
        ExprId n = b.cvt(b.index(count_of(x.sizes, batch_dims(x.rank()))), compute);
        LoopValue variance = map1(b, squares, compute, compute, [p, n, compute](ExprId s) {
          return p->div(s, p->sub(n, number_expr(*p, 1, compute)));
        });
        auto blend = [&](const char* name, const LoopValue& fresh) {
          LoopValue old = call.tensor(name);
          return b.map({old, fresh}, old.sizes, compute, accumulate_type(old.dtype),
                       [p, momentum, compute](const std::vector<ExprId>& v) {
                         return p->add(p->mul(v[0], number_expr(*p, 1 - momentum, compute)),
                                       p->mul(v[1], number_expr(*p, momentum, compute)));
                       });
        };
        return std::vector<LoopValue>{y, b.convert(mean, x.dtype), b.convert(rstd, x.dtype),
                                      blend("running_mean", mean), blend("running_var", variance)};
      })
      .sample(
          "aten._native_batch_norm_legit_functional.default(f32[4,3,5], f32[3], f32[3], f32[3], f32[3], False, 0.1, "
          "1e-05)")
      .sample(
          "aten._native_batch_norm_legit_functional.default(f32[4,3,5], f32[3], f32[3], f32[3], f32[3], True, 0.1, "
          "1e-05)");
  // Statistics per sample and channel.
  ops.add("aten.instance_norm.default")
      .infer([](const Call& call) -> Types {
        if (is_tensor(call, "running_mean"))
          return fail(Kind::unsupported_op, "`{}` with running statistics", call.op());
        return one(norm_type(call.type("input")));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("input");
        DType compute = accumulate_type(x.dtype);
        Moments m = moments_over(b, x, trailing(x.rank(), x.sizes.size() - 2), call.number("eps"), compute);
        std::optional<LoopValue> weight, bias;
        if (is_tensor(call, "weight")) weight = per_channel(b, call.tensor("weight"), x.rank());
        if (is_tensor(call, "bias")) bias = per_channel(b, call.tensor("bias"), x.rank());
        return normalised(b, x, m, pointer(weight), pointer(bias), compute, x.dtype);
      })
      .sample("aten.instance_norm.default(f32[2,3,4,4], f32[3], f32[3], none, none, True, 0.1, 1e-05, False)");
}

}  // namespace

void add_norm_ops(OpTable& ops) {
  add_layer_norms(ops);
  add_group_norms(ops);
  add_batch_norms(ops);
}

}  // namespace toroid
