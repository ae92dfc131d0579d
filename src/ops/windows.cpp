// Window functions of signal processing: Hann, Hamming, Blackman, Bartlett, Kaiser. Computed in f64, rounded once.
#include <cmath>

#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;

// Of one element, its place `n` (f64) and the last place `last`, which is at least 1.
using Window = std::function<ExprId(LoopBuilder&, const Call&, ExprId n, double last)>;

ExprId number(LoopBuilder& b, double value) { return b.number(value, DType::f64); }

// weight * cos(2 pi turns n / last).
ExprId wave(LoopBuilder& b, double weight, double turns, ExprId n, double last) {
  const ExprId angle = b.mul(n, number(b, 2 * M_PI * turns / last));
  return b.mul(b.op(ScalarOp::cos, {angle}), number(b, weight));
}

double given(const Call& call, const char* name, double fallback) {
  return call.schema().find_arg(name) >= 0 ? call.number(name) : fallback;
}

ExprId hann(LoopBuilder& b, const Call&, ExprId n, double last) {
  return b.sub(number(b, 0.5), wave(b, 0.5, 1, n, last));
}
ExprId hamming(LoopBuilder& b, const Call& call, ExprId n, double last) {
  return b.sub(number(b, given(call, "alpha", 0.54)), wave(b, given(call, "beta", 0.46), 1, n, last));
}
ExprId blackman(LoopBuilder& b, const Call&, ExprId n, double last) {
  const ExprId rest = b.sub(number(b, 0.42), wave(b, 0.5, 1, n, last));
  return b.add(rest, wave(b, 0.08, 2, n, last));
}
// A triangle.
ExprId bartlett(LoopBuilder& b, const Call&, ExprId n, double last) {
  const ExprId from_middle = b.op(ScalarOp::abs, {b.sub(b.mul(n, number(b, 2 / last)), number(b, 1))});
  return b.sub(number(b, 1), from_middle);
}
// I0(beta sqrt(1 - (2n / last - 1)^2)) / I0(beta).
ExprId kaiser(LoopBuilder& b, const Call& call, ExprId n, double last) {
  const ExprId x = b.sub(b.mul(n, number(b, 2 / last)), number(b, 1)), beta = number(b, given(call, "beta", 12));
  const ExprId inside = b.op(ScalarOp::max, {b.sub(number(b, 1), b.mul(x, x)), number(b, 0)});
  const ExprId top = b.op(ScalarOp::i0, {b.mul(beta, b.op(ScalarOp::sqrt, {inside}))});
  return b.div(top, b.op(ScalarOp::i0, {beta}));
}

}  // namespace

void add_window_ops(OpTable& ops) {
  struct Row {
    const char* name;
    Window at;
    std::vector<const char*> forms;
  };
  const std::vector<const char*> plain{"default", "periodic"};
  const Row rows[] = {
      {"hann_window", hann, plain},
      {"hamming_window", hamming, {"default", "periodic", "periodic_alpha", "periodic_alpha_beta"}},
      {"blackman_window", blackman, plain},
      {"bartlett_window", bartlett, plain},
      {"kaiser_window", kaiser, {"default", "periodic", "beta"}},
  };
  for (const Row& row : rows)
    for (std::string form : row.forms) {
      const std::string name = format("{}.{}", row.name, form);
      const std::string more = form.ends_with("alpha_beta") ? ", 0.5, 0.4"
                               : form.ends_with("alpha")    ? ", 0.6"
                               : form == "beta"             ? ", 7.5"
                                                            : "";
      OpRow& added = lowered(ops, name, [at = row.at](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
        const int64_t length = call.constant("window_length");
        const DType dtype = call.dtype("dtype").value_or(DType::f32);
        if (length < 0 || !is_float(dtype))
          return fail(Kind::bad_graph, "`{}` of length {} and dtype {}", call.op(), length, dtype_name(dtype));
        // A periodic window is one place longer, and leaves out the last.
        const bool periodic = call.schema().find_arg("periodic") < 0 || call.flag("periodic");
        const auto last = static_cast<double>(periodic ? length : length - 1);
        LoopBuilder* p = &b;
        auto kept = std::make_shared<LowerCall>(call);
        return Values{b.from(dtype, {length}, [=](const Index& i) {
          const ExprId value = length <= 1 ? number(*p, 1) : at(*p, *kept, p->cvt(i[0], DType::f64), last);
          return p->cvt(value, dtype);
        })};
      });
      if (form == "default") {
        added.sample(format("aten.{}(8)", name)).sample(format("aten.{}(1)", name));
        added.sample(format("aten.{}(7, dtype=f64)", name));
      } else {
        added.sample(format("aten.{}(9, False{})", name, more)).sample(format("aten.{}(8, True{})", name, more));
      }
    }
}

}  // namespace toroid
