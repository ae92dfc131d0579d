// Activations: gelu, silu, the piecewise-linear and exponential families, and the pointwise gradients in inference
// graphs.
#include "ops/rules.h"

namespace toroid {

namespace {

using Args = std::vector<ExprId>;

ExprId clamp_expr(const MapCall& m, ExprId x, ExprId low, ExprId high) {
  return m.b.op(ScalarOp::min, {m.b.op(ScalarOp::max, {x, low}), high});
}

// log(1 + exp(beta x)) / beta, linear where beta x > threshold.
ExprId softplus_expr(const MapCall& m, ExprId x, double beta, double threshold) {
  LoopBuilder& b = m.b;
  ExprId scaled = b.mul(x, m.number(beta));
  ExprId bent = b.div(b.op(ScalarOp::log1p, {b.op(ScalarOp::exp, {scaled})}), m.number(beta));
  return b.where(b.op(ScalarOp::gt, {scaled, m.number(threshold)}), x, bent);
}

// x > 0 ? scale x : alpha scale expm1(input_scale x)
ExprId elu_expr(const MapCall& m, ExprId x, double alpha, double scale, double input_scale) {
  LoopBuilder& b = m.b;
  ExprId curve = b.mul(b.op(ScalarOp::expm1, {b.mul(x, m.number(input_scale))}), m.number(alpha * scale));
  return b.where(b.op(ScalarOp::gt, {x, m.number(0)}), b.mul(x, m.number(scale)), curve);
}

OpRow& add_activation(OpTable& ops, const std::string& base, const std::string& arguments, MapRule f) {
  std::string name = "aten." + base + ".default";
  return add_map(ops, name, {"self"}, Out::promoted, std::move(f))
      .sample(name + "(f32[4,5]" + arguments + ")")
      .sample(name + "(bf16[7]" + arguments + ")");
}

void add_linear_pieces(OpTable& ops) {
  // max keeps NaN and, by the order of its operands, -0.
  add_activation(ops, "relu", "", [](const MapCall& m, const Args& x) -> Result<ExprId> {
    if (is_bool(m.type)) return fail(Kind::bad_graph, "relu of a bool tensor");
    return m.b.op(ScalarOp::max, {x[0], m.number(0)});
  }).sample("aten.relu.default(i64[4])");
  add_activation(ops, "relu6", "",
                 [](const MapCall& m, const Args& x) { return clamp_expr(m, x[0], m.number(0), m.number(6)); });
  add_activation(ops, "hardtanh", ", -0.5, 0.5", [](const MapCall& m, const Args& x) {
    return clamp_expr(m, x[0], m.scalar("min_val"), m.scalar("max_val"));
  });
  add_activation(ops, "leaky_relu", ", 0.1", [](const MapCall& m, const Args& x) {
    return m.b.where(m.b.op(ScalarOp::gt, {x[0], m.number(0)}), x[0], m.b.mul(x[0], m.scalar("negative_slope")));
  });
  // x <= threshold ? value : x, so NaN stays.
  add_activation(ops, "threshold", ", 0.1, 0.5", [](const MapCall& m, const Args& x) {
    return m.b.where(m.b.op(ScalarOp::le, {x[0], m.scalar("threshold")}), m.scalar("value"), x[0]);
  });
  add_activation(ops, "hardsigmoid", "", [](const MapCall& m, const Args& x) {
    return m.b.div(clamp_expr(m, m.b.add(x[0], m.number(3)), m.number(0), m.number(6)), m.number(6));
  });
  add_activation(ops, "hardswish", "", [](const MapCall& m, const Args& x) {
    ExprId gate = clamp_expr(m, m.b.add(x[0], m.number(3)), m.number(0), m.number(6));
    return m.b.div(m.b.mul(x[0], gate), m.number(6));
  });
  add_activation(ops, "hardshrink", ", 0.5", [](const MapCall& m, const Args& x) {
    ExprId inside = m.b.op(ScalarOp::land, {m.b.op(ScalarOp::ge, {x[0], m.b.op(ScalarOp::neg, {m.scalar("lambd")})}),
                                            m.b.op(ScalarOp::le, {x[0], m.scalar("lambd")})});
    return m.b.where(inside, m.number(0), x[0]);
  });
  add_activation(ops, "softshrink", ", 0.5", [](const MapCall& m, const Args& x) {
    LoopBuilder& b = m.b;
    ExprId bound = m.scalar("lambd");
    ExprId above = b.op(ScalarOp::gt, {x[0], bound}), below = b.op(ScalarOp::lt, {x[0], b.op(ScalarOp::neg, {bound})});
    // 0 * x keeps NaN.
    return b.where(above, b.sub(x[0], bound), b.where(below, b.add(x[0], bound), b.mul(x[0], m.number(0))));
  });
}

void add_smooth(OpTable& ops) {
  // gelu(x) = x/2 (1 + erf(x / sqrt 2)); the tanh form is the usual approximation. Both are scalar ops.
  add_activation(ops, "gelu", "", [](const MapCall& m, const Args& x) {
    return m.b.op(m.call.text("approximate") == "tanh" ? ScalarOp::gelu_tanh : ScalarOp::gelu, {x[0]});
  }).sample("aten.gelu.default(f32[4,5], approximate=\"tanh\")");
  add_activation(ops, "silu", "", [](const MapCall& m, const Args& x) {
    return m.b.div(x[0], m.b.add(m.number(1), m.b.op(ScalarOp::exp, {m.b.op(ScalarOp::neg, {x[0]})})));
  });
  add_activation(ops, "mish", "", [](const MapCall& m, const Args& x) {
    return m.b.mul(x[0], m.b.op(ScalarOp::tanh, {softplus_expr(m, x[0], 1, 20)}));
  });
  add_activation(ops, "softplus", ", 2.0, 1.0", [](const MapCall& m, const Args& x) {
    return softplus_expr(m, x[0], m.call.number("beta"), m.call.number("threshold"));
  });
  // min(0, x) - log1p(exp(-|x|))
  add_activation(ops, "log_sigmoid", "", [](const MapCall& m, const Args& x) {
    LoopBuilder& b = m.b;
    ExprId tail = b.op(ScalarOp::exp, {b.op(ScalarOp::neg, {b.op(ScalarOp::abs, {x[0]})})});
    return b.sub(b.op(ScalarOp::min, {x[0], m.number(0)}), b.op(ScalarOp::log1p, {tail}));
  }).infer([](const Call& call) -> Types {
    return one(contiguous_type(call, call.type("self").dtype, call.type("self").sizes));
  });
  add_activation(ops, "elu", ", 0.7, 1.1, 0.9", [](const MapCall& m, const Args& x) {
    return elu_expr(m, x[0], m.call.number("alpha"), m.call.number("scale"), m.call.number("input_scale"));
  });
  add_activation(ops, "celu", ", 0.7", [](const MapCall& m, const Args& x) {
    double alpha = m.call.number("alpha");
    return elu_expr(m, x[0], alpha, 1, 1 / alpha);
  });
  add_activation(ops, "selu", "", [](const MapCall& m, const Args& x) {
    return elu_expr(m, x[0], 1.6732632423543772848, 1.0507009873554804934, 1);
  });
  // The weight has one element, or one for each channel (dim 1).
  ops.add("aten.prelu.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        return one({x.dtype, x.sizes, pointwise_strides(x.sizes, {&x}), x.device});
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self"), w = call.tensor("weight");
        if (w.rank() == 1 && x.rank() > 1) w = per_channel(b, w, x.rank());
        LoopBuilder* p = &b;
        return b.map({x, w}, x.sizes, x.dtype, x.dtype, [p, x](const Args& v) {
          return p->where(p->op(ScalarOp::gt, {v[0], number_expr(*p, 0, x.dtype)}), v[0], p->mul(v[0], v[1]));
        });
      })
      .sample("aten.prelu.default(f32[4,5,3], f32[5])")
      .sample("aten.prelu.default(f32[4,5], f32[1])");
  // first half * sigmoid(second half)
  ops.add("aten.glu.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        SymList sizes = x.sizes;
        Sym& size = sizes[static_cast<size_t>(call.dim("dim", x.rank()))];
        size = floor_div(size, 2);
        return one(unclaimed_type(call, x.dtype, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        int64_t dim = call.dim("dim", x.rank());
        Sym half = floor_div(x.sizes[static_cast<size_t>(dim)], 2);
        LoopValue first = b.slice(x, dim, 0, half), second = b.slice(x, dim, half, half);
        LoopBuilder* p = &b;
        return b.map({first, second}, first.sizes, x.dtype, x.dtype,
                     [p](const Args& v) { return p->mul(v[0], p->op(ScalarOp::sigmoid, {v[1]})); });
      })
      .sample("aten.glu.default(f32[4,6])")
      .sample("aten.glu.default(f32[4,6], 0)");
}

// Gradients that appear where a model differentiates inside its forward pass.
void add_gradients(OpTable& ops) {
  add_map(ops, "aten.tanh_backward.default", {"grad_output", "output"}, Out::promoted,
          [](const MapCall& m, const Args& x) { return m.b.mul(x[0], m.b.sub(m.number(1), m.b.mul(x[1], x[1]))); })
      .sample("aten.tanh_backward.default(f32[4,5], f32[4,5])");
  add_map(ops, "aten.sigmoid_backward.default", {"grad_output", "output"}, Out::promoted,
          [](const MapCall& m, const Args& x) { return m.b.mul(x[0], m.b.mul(m.b.sub(m.number(1), x[1]), x[1])); })
      .sample("aten.sigmoid_backward.default(f32[4,5], f32[4,5])");
  add_map(ops, "aten.threshold_backward.default", {"grad_output", "self"}, Out::promoted,
          [](const MapCall& m, const Args& x) {
            return m.b.where(m.b.op(ScalarOp::le, {x[1], m.scalar("threshold")}), m.number(0), x[0]);
          })
      .sample("aten.threshold_backward.default(f32[4,5], f32[4,5], 0)");
  add_map(ops, "aten.silu_backward.default", {"grad_output", "self"}, Out::promoted,
          [](const MapCall& m, const Args& x) {
            ExprId s = m.b.op(ScalarOp::sigmoid, {x[1]}), one = m.number(1);
            return m.b.mul(m.b.mul(x[0], s), m.b.add(one, m.b.mul(x[1], m.b.sub(one, s))));
          })
      .sample("aten.silu_backward.default(f32[4,5], f32[4,5])");
}

}  // namespace

void add_activation_ops(OpTable& ops) {
  add_linear_pieces(ops);
  add_smooth(ops);
  add_gradients(ops);
}

}  // namespace toroid
