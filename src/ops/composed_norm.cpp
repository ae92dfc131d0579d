// Normalisations made of others, and the gradients that stand in exported training graphs.
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"
#include "ops/scattered.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;
using Args = std::vector<ExprId>;

void add_batch_norms(OpTable& ops) {
  // Training, with the buffer of a library that is not there: an empty reserve.
  compose(ops, "_batch_norm_with_update_functional.default", [](Compose& c) -> Composed {
    Values r =
        c.all("_native_batch_norm_legit_functional.default",
              {c["input"], c["weight"], c["bias"], c["running_mean"], c["running_var"], true, c["momentum"], c["eps"]});
    LoopValue reserve = c.b.full({0}, number_expr(c.b, 0, DType::u8), DType::u8);
    return Values{r[0], r[1], r[2], reserve, r[3], r[4]};
  }).sample("aten._batch_norm_with_update_functional.default(f32[4,3,5], f32[3], f32[3], f32[3], f32[3], 0.1, 1e-05)");
  // The batch's own statistics, and nothing kept.
  compose(ops, "_native_batch_norm_legit.no_stats", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("input");
    const DType type = accumulate_type(x.dtype);
    LoopValue zero = c.b.full({x.sizes[1]}, number_expr(c.b, 0, type), type);
    Values r = c.all("_native_batch_norm_legit_functional.default",
                     {c["input"], c["weight"], c["bias"], zero, zero, true, 0.1, c["eps"]});
    return Values{r[0], r[1], r[2]};
  }).sample("aten._native_batch_norm_legit.no_stats(f32[4,3,5], f32[3], f32[3], True, 0.1, 1e-05)");
}

// grad times a factor of x, computed in f32 (f64) and rounded once.
using Factor = std::function<ExprId(const Call&, LoopBuilder&, DType, ExprId)>;
void add_slope(OpTable& ops, const std::string& name, const char* grad, const char* input, const std::string& sample,
               Factor factor) {
  lowered(ops, name + ".default", [=](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue g = call.tensor(grad), x = call.tensor(input);
    const DType result = float_dtype(promote(g.dtype, x.dtype)), type = register_type(result);
    TD_TRY(SymList sizes, broadcast_sizes(g.sizes, x.sizes));
    LoopBuilder* p = &b;
    auto kept = std::make_shared<LowerCall>(call);
    return Values{
        b.map({g, x}, sizes, type, result, [=](const Args& v) { return p->mul(v[0], factor(*kept, *p, type, v[1])); })};
  }).sample("aten." + name + ".default" + sample);
}

void add_slopes(OpTable& ops) {
  auto num = [](LoopBuilder& b, double v, DType t) { return number_expr(b, v, t); };
  // Phi(x) + x phi(x), or the derivative of the tanh form.
  add_slope(ops, "gelu_backward", "grad_output", "self", "(f32[4,5], f32[4,5])",
            [=](const Call& call, LoopBuilder& b, DType t, ExprId x) {
              if (call.text("approximate") == "tanh") {
                const double k = M_SQRT2 * M_2_SQRTPI * 0.5, c = 0.044715;
                ExprId cube = b.mul(b.mul(x, x), x);
                ExprId h = b.op(ScalarOp::tanh, {b.mul(num(b, k, t), b.add(x, b.mul(num(b, c, t), cube)))});
                ExprId inner = b.mul(num(b, k, t), b.add(num(b, 1, t), b.mul(num(b, 3 * c, t), b.mul(x, x))));
                ExprId left = b.mul(num(b, 0.5, t), b.add(num(b, 1, t), h));
                ExprId right = b.mul(b.mul(num(b, 0.5, t), x), b.mul(b.sub(num(b, 1, t), b.mul(h, h)), inner));
                return b.add(left, right);
              }
              ExprId phi = b.mul(b.op(ScalarOp::exp, {b.mul(b.mul(x, x), num(b, -0.5, t))}),
                                 num(b, M_2_SQRTPI * M_SQRT1_2 * 0.5, t));
              ExprId whole = b.mul(num(b, 0.5, t), b.op(ScalarOp::erfc, {b.mul(x, num(b, -M_SQRT1_2, t))}));
              return b.add(whole, b.mul(x, phi));
            });
  add_slope(ops, "softplus_backward", "grad_output", "self", "(f32[4,5], f32[4,5], 1.0, 20.0)",
            [=](const Call& call, LoopBuilder& b, DType t, ExprId x) {
              ExprId scaled = b.mul(x, num(b, call.number("beta"), t));
              return b.where(b.op(ScalarOp::gt, {scaled, num(b, call.number("threshold"), t)}), num(b, 1, t),
                             b.op(ScalarOp::sigmoid, {scaled}));
            });
  add_slope(ops, "hardtanh_backward", "grad_output", "self", "(f32[4,5], f32[4,5], -1.0, 1.0)",
            [=](const Call& call, LoopBuilder& b, DType t, ExprId x) {
              ExprId inside = b.op(ScalarOp::land, {b.op(ScalarOp::gt, {x, num(b, call.number("min_val"), t)}),
                                                    b.op(ScalarOp::lt, {x, num(b, call.number("max_val"), t)})});
              return b.where(inside, num(b, 1, t), num(b, 0, t));
            });
  add_slope(
      ops, "leaky_relu_backward", "grad_output", "self", "(f32[4,5], f32[4,5], 0.1, False)",
      [=](const Call& call, LoopBuilder& b, DType t, ExprId x) {
        return b.where(b.op(ScalarOp::gt, {x, num(b, 0, t)}), num(b, 1, t), num(b, call.number("negative_slope"), t));
      });
  add_slope(
      ops, "elu_backward", "grad_output", "self_or_result", "(f32[4,5], 1.0, 1.0, 1.0, False, f32[4,5])",
      [=](const Call& call, LoopBuilder& b, DType t, ExprId x) {
        const double alpha = call.number("alpha"), scale = call.number("scale"), input = call.number("input_scale");
        ExprId low = call.flag("is_result")
                         ? b.mul(num(b, input, t), b.add(x, num(b, alpha * scale, t)))
                         : b.mul(num(b, input * alpha * scale, t), b.op(ScalarOp::exp, {b.mul(x, num(b, input, t))}));
        return b.where(b.op(ScalarOp::le, {x, num(b, 0, t)}), low, num(b, scale, t));
      });
  add_slope(ops, "hardsigmoid_backward", "grad_output", "self", "(f32[4,5], f32[4,5])",
            [=](const Call&, LoopBuilder& b, DType t, ExprId x) {
              ExprId inside =
                  b.op(ScalarOp::land, {b.op(ScalarOp::gt, {x, num(b, -3, t)}), b.op(ScalarOp::lt, {x, num(b, 3, t)})});
              return b.where(inside, num(b, 1.0 / 6, t), num(b, 0, t));
            });
  add_slope(ops, "hardswish_backward", "grad_output", "self", "(f32[4,5], f32[4,5])",
            [=](const Call&, LoopBuilder& b, DType t, ExprId x) {
              ExprId middle = b.add(b.div(x, num(b, 3, t)), num(b, 0.5, t));
              ExprId high = b.where(b.op(ScalarOp::le, {x, num(b, 3, t)}), middle, num(b, 1, t));
              return b.where(b.op(ScalarOp::lt, {x, num(b, -3, t)}), num(b, 0, t), high);
            });
  for (bool hard : {true, false})
    add_slope(ops, hard ? "hardshrink_backward" : "softshrink_backward", hard ? "grad_out" : "grad_output", "self",
              "(f32[4,5], f32[4,5], 0.5)", [=](const Call& call, LoopBuilder& b, DType t, ExprId x) {
                const double limit = call.number("lambd");
                ExprId inside = b.op(ScalarOp::land, {b.op(ScalarOp::ge, {x, num(b, -limit, t)}),
                                                      b.op(ScalarOp::le, {x, num(b, limit, t)})});
                return b.where(inside, num(b, 0, t), num(b, 1, t));
              });
  add_slope(ops, "mish_backward", "grad_output", "self", "(f32[4,5], f32[4,5])",
            [=](const Call&, LoopBuilder& b, DType t, ExprId x) {
              ExprId s = b.op(ScalarOp::sigmoid, {x});
              ExprId soft = b.add(
                  b.op(ScalarOp::max, {x, num(b, 0, t)}),
                  b.op(ScalarOp::log1p, {b.op(ScalarOp::exp, {b.op(ScalarOp::neg, {b.op(ScalarOp::abs, {x})})})}));
              ExprId h = b.op(ScalarOp::tanh, {soft});
              return b.add(h, b.mul(b.mul(x, s), b.sub(num(b, 1, t), b.mul(h, h))));
            });
  add_slope(ops, "native_dropout_backward", "grad_output", "mask", "(i64[4,5], bool[4,5], 2.0)",
            [=](const Call& call, LoopBuilder& b, DType t, ExprId mask) {
              return b.mul(mask, num(b, call.number("scale"), t));
            });
}

void add_softmaxes(OpTable& ops) {
  for (bool log : {false, true})
    lowered(ops, log ? "_log_softmax_backward_data.default" : "_softmax_backward_data.default",
            [log](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue g = call.tensor("grad_output"), y = call.tensor("output");
              const DType result = call.dtype("input_dtype").value_or(g.dtype), type = register_type(g.dtype);
              LoopBuilder* p = &b;
              if (g.rank() == 0) {
                LoopValue zero =
                    b.map({g}, {}, type, result, [=](const Args& v) { return p->mul(v[0], number_expr(*p, 0, type)); });
                return Values{zero};
              }
              const int64_t dim = call.dim("dim", g.rank());
              LoopValue terms =
                  log ? g : b.map({g, y}, g.sizes, type, type, [p](const Args& v) { return p->mul(v[0], v[1]); });
              LoopValue sum = b.reduce(ReduceOp::sum, terms, {dim}, true, type, type, ".sum");
              return Values{b.map({g, y, sum}, g.sizes, type, result, [=](const Args& v) {
                if (log) return p->sub(v[0], p->mul(p->op(ScalarOp::exp, {v[1]}), v[2]));
                return p->mul(v[1], p->sub(v[0], v[2]));
              })};
            })
        .sample(log ? "aten._log_softmax_backward_data.default(f32[4,5], f32[4,5], 1, f32)"
                    : "aten._softmax_backward_data.default(f32[4,5], f32[4,5], 1, f32)");
}

void add_losses(OpTable& ops) {
  // -grad * weight at the target's class, over the total weight for the mean; nothing where ignored.
  for (const char* name : {"nll_loss_backward", "nll_loss2d_backward"})
    lowered(ops, std::string(name) + ".default",
            [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue g = call.tensor("grad_output"), x = call.tensor("self"), target = call.tensor("target");
              const int64_t reduction = call.constant("reduction");
              const Sym ignored = call.integer("ignore_index");
              std::optional<LoopValue> weight;
              if (is_tensor(call, "weight")) weight = call.tensor("weight");
              LoopValue total = call.tensor("total_weight");
              LoopBuilder* p = &b;
              const DType type = register_type(x.dtype);
              const size_t classes = x.rank() == 1 ? 0 : 1;
              return Values{b.from(x.dtype, x.sizes, [=](const Index& i) {
                Index ti;
                for (size_t d = 0; d < i.size(); ++d)
                  if (d != classes) ti.push_back(i[d]);
                if (target.sizes.empty()) ti.clear();
                if (x.sizes.size() == 1 && target.sizes.size() == 1) ti = {int_expr(*p, 0)};
                ExprId t = p->cvt(target.at(ti), DType::i64);
                ExprId hit = p->op(ScalarOp::land,
                                   {p->op(ScalarOp::eq, {t, i[classes]}), p->op(ScalarOp::ne, {t, p->index(ignored)})});
                ExprId grad = p->cvt(g.at(reduction == 0 ? ti : Index(g.sizes.size(), int_expr(*p, 0))), type);
                if (reduction == 1)
                  grad = p->div(grad, p->cvt(total.at(Index(total.sizes.size(), int_expr(*p, 0))), type));
                if (weight) grad = p->mul(grad, p->cvt(weight->at({i[classes]}), type));
                return p->where(hit, p->op(ScalarOp::neg, {grad}), number_expr(*p, 0, type));
              })};
            })
        .sample(std::string("aten.") + name +
                (std::string(name).find("2d") == std::string::npos
                     ? ".default(f32[], f32[4,5], i64[4], none, 1, -100, f32[])"
                     : ".default(f32[], f32[2,5,3,3], i64[2,3,3], none, 1, -100, f32[])"));
  compose(ops, "mse_loss_backward.default", [](Compose& c) -> Composed {
    LoopValue gap = c.sub(c["self"], c["target"]);
    LoopBuilder* p = &c.b;
    const DType type = register_type(gap.dtype);
    ExprId scale = number_expr(c.b, 2, type);
    if (c.call.constant("reduction") == 1) scale = p->div(scale, p->cvt(p->index(product(gap.sizes)), type));
    LoopValue slope = map1(c.b, gap, type, gap.dtype, [=](ExprId v) { return p->mul(v, scale); });
    return c.mul(slope, c["grad_output"]);
  }).sample("aten.mse_loss_backward.default(f32[], f32[4,5], f32[4,5], 1)");
}

void add_norms(OpTable& ops) {
  lowered(
      ops, "native_layer_norm_backward.default",
      [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
        LoopValue g = call.tensor("grad_out"), x = call.tensor("input");
        const int64_t inner = static_cast<int64_t>(call.integers("normalized_shape").size()), rank = x.rank();
        const DType type = accumulate_type(x.dtype);
        std::vector<int64_t> last, first;
        for (int64_t d = 0; d < rank; ++d) (d < rank - inner ? first : last).push_back(d);
        LoopBuilder* p = &b;
        SymList kept(x.sizes.begin(), x.sizes.begin() + (rank - inner));
        kept.resize(x.sizes.size(), 1);
        LoopValue mean = b.reshape(call.tensor("mean"), kept), rstd = b.reshape(call.tensor("rstd"), kept);
        LoopValue scaled = b.map({x, mean, rstd}, x.sizes, type, type,
                                 [p](const Args& v) { return p->mul(p->sub(v[0], v[1]), v[2]); });
        Values inputs{g, scaled};
        if (is_tensor(call, "weight")) inputs.push_back(call.tensor("weight"));
        LoopValue gw =
            b.map(inputs, x.sizes, type, type, [p](const Args& v) { return v.size() > 2 ? p->mul(v[0], v[2]) : v[0]; });
        LoopValue gx = b.map({gw, scaled}, x.sizes, type, type, [p](const Args& v) { return p->mul(v[0], v[1]); });
        LoopValue sum = b.reduce(ReduceOp::sum, gw, last, true, type, type, ".sum");
        LoopValue dot = b.reduce(ReduceOp::sum, gx, last, true, type, type, ".dot");
        ExprId n = b.cvt(b.index(count_of(x.sizes, last)), type);
        Values results{b.map({gw, scaled, sum, dot, rstd}, x.sizes, type, x.dtype, [=](const Args& v) {
          return p->mul(p->sub(v[0], p->div(p->add(v[2], p->mul(v[1], v[3])), n)), v[4]);
        })};
        LoopValue gs = b.map({g, scaled}, x.sizes, type, type, [p](const Args& v) { return p->mul(v[0], v[1]); });
        const SymList tail(x.sizes.end() - inner, x.sizes.end());
        // Each gradient has the type of what it is of.
        auto over_rows = [&](const LoopValue& v, const char* of, const char* suffix) {
          const DType dtype = is_tensor(call, of) ? call.type(of).dtype : x.dtype;
          return first.empty() ? b.convert(v, dtype) : b.reduce(ReduceOp::sum, v, first, false, type, dtype, suffix);
        };
        results.push_back(over_rows(gs, "weight", ".weight"));
        results.push_back(over_rows(g, "bias", ".bias"));
        return results;
      })
      .sample(
          "aten.native_layer_norm_backward.default(f32[4,5], f32[4,5], [5], f32[4,1], f32[4,1], f32[5], f32[5], [1, 1, "
          "1])");
  // Rows of grad added up at the rows that were looked up.
  lowered(ops, "embedding_dense_backward.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue g = call.tensor("grad_output"), indices = call.tensor("indices");
    if (call.flag("scale_grad_by_freq")) return fail(Kind::unsupported_op, "`{}` by frequency", call.op());
    const Sym rows = call.integer("num_weights"), n = product(indices.sizes), width = g.sizes.back();
    const Sym padding = call.integer("padding_idx");
    const DType type = register_type(g.dtype);
    LoopBuilder* p = &b;
    LoopValue flat = b.reshape(indices, {n}), values = b.reshape(b.convert(g, type), {1, n * width});
    LoopValue y = scattered(
        b, b.full({1, rows * width}, number_expr(b, 0, type), type), {1, n * width},
        [=](const Index& i) {
          Index place = p->unflatten(i[1], {n, width});
          ExprId row = checked_index(*p, flat.at({place[0]}), rows);
          ExprId skipped = p->op(ScalarOp::eq, {row, p->index(padding)});
          return p->where(skipped, int_expr(*p, -1), p->add(p->mul(row, p->index(width)), place[1]));
        },
        [=](const Index& i) { return values.at(i); }, Join::add, true);
    return Values{b.convert(b.reshape(y, {rows, width}), g.dtype)};
  }).sample("aten.embedding_dense_backward.default(f32[3,4], i64[3], 5, -1, False)");
  // The norm over all dims but one, kept as dims of one; over all of them for -1.
  auto norm_except = [](Compose& c, const LoopValue& v, Passed power, int64_t dim) -> LoopValue {
    SymList dims;
    for (int64_t d = 0; d < v.rank(); ++d)
      if (d != dim) dims.push_back(d);
    return c("norm.ScalarOpt_dim", {v, power, dims, dim != -1});
  };
  compose(ops, "norm_except_dim.default", [=](Compose& c) -> Composed {
    return norm_except(c, c.tensor("v"), c["pow"], c.call.constant("dim"));
  }).sample("aten.norm_except_dim.default(f32[3,4,5], 2, 1)");
  compose(ops, "_weight_norm.default",
          [=](Compose& c) -> Composed {
            return c.mul(c["v"], c.div(c["g"], norm_except(c, c.tensor("v"), 2, c.call.constant("dim"))));
          })
      .sample("aten._weight_norm.default(f32[3,4,5], f32[3,1,1], 0)")
      .sample("aten._weight_norm.default(f32[3,4,5], f32[1,1,5], 2)");
  // Eager reads v as if it were contiguous: the sample has no other order.
  compose(ops, "_weight_norm_interface.default", [=](Compose& c) -> Composed {
    LoopValue norm = norm_except(c, c.tensor("v"), 2, c.call.constant("dim"));
    return Values{c.mul(c["v"], c.div(c["g"], norm)), norm};
  }).sample("aten._weight_norm_interface.default(f32[3,1,1], f32[3,1,1], 0)");
  compose(ops, "select_backward.default", [](Compose& c) -> Composed {
    LoopValue g = c.tensor("grad_output");
    LoopValue zero = c.b.full(c.call.integers("input_sizes"), number_expr(c.b, 0, g.dtype), g.dtype);
    return c("select_scatter.default", {zero, g, c["dim"], c["index"]});
  }).sample("aten.select_backward.default(f32[4], [3, 4], 0, 1)");
  compose(ops, "slice_backward.default", [](Compose& c) -> Composed {
    LoopValue g = c.tensor("grad_output");
    LoopValue zero = c.b.full(c.call.integers("input_sizes"), number_expr(c.b, 0, g.dtype), g.dtype);
    return c("slice_scatter.default", {zero, g, c["dim"], c["start"], c["end"], c["step"]});
  }).sample("aten.slice_backward.default(f32[2,4], [5, 4], 0, 1, 3, 1)");
}

}  // namespace

void add_composed_norm_ops(OpTable& ops) {
  add_batch_norms(ops);
  add_slopes(ops);
  add_softmaxes(ops);
  add_losses(ops);
  add_norms(ops);
}

}  // namespace toroid
