// Loops in, Loops out with what depends on no input, symbol or weight computed now.
#include "base/check.h"
#include "interp/evaluator.h"
#include "interp/interp.h"

namespace toroid {
namespace {

constexpr int64_t most_bytes = 1 << 20;

// Looking a value up costs less than computing it again in each user.
bool worth_storing(const Loops& loops, ExprId body) {
  int cheap = 0;
  for (ExprId id : loops.pool.postorder({body})) {
    const Expr& e = loops.pool[id];
    if (e.kind == ExprKind::load || e.kind == ExprKind::reduce || e.kind == ExprKind::scan ||
        e.kind == ExprKind::routine)
      return true;
    if (e.kind != ExprKind::op) continue;
    const bool simple = e.op == ScalarOp::cvt || e.op == ScalarOp::where || e.op == ScalarOp::add ||
                        e.op == ScalarOp::sub || e.op == ScalarOp::mul || e.op == ScalarOp::neg ||
                        scalar_op_type(e.op) == ScalarType::logical || scalar_op_type(e.op) == ScalarType::compare;
    if (!simple || ++cheap > 12) return true;
  }
  return false;
}

std::optional<int64_t> constant_bytes(const LoopTensor& t) {
  int64_t bytes = dtype_bytes(t.dtype);
  for (const Sym& size : t.sizes) {
    if (!size.is_constant() || size.value() < 0 || bytes > most_bytes) return std::nullopt;
    bytes *= size.value();
  }
  return bytes;
}

Status fold(Loops& loops) {
  Evaluator evaluator(loops, false);
  std::vector<bool> known(loops.tensors.size());
  std::vector<ExprId> number(loops.tensors.size());  // of known tensors with one element
  auto use_numbers = [&](const Expr& load, const std::vector<ExprId>&) {
    return number[static_cast<size_t>(load.tensor.index)];
  };
  // Computes t and what it needs. Only tensors that some wanted one needs are computed at all.
  auto compute = [&](const auto& self, TensorId id) -> void {
    if (evaluator.has(id)) return;
    if (loops[id].kind == TensorKind::constant) return evaluator.set_constant(id);
    for (TensorId source : loaded_tensors(loops, loops[id].body)) self(self, source);
    evaluator.compute(id);
  };
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    LoopTensor& t = loops.tensors[i];
    const TensorId id{static_cast<int32_t>(i)};
    std::optional<int64_t> bytes = constant_bytes(t);
    if (t.kind == TensorKind::constant) {
      known[i] = true;
    } else if (t.kind == TensorKind::computed) {
      t.body = loops.pool.rewrite(t.body, {}, use_numbers);
      bool constant = bytes && *bytes <= most_bytes;
      for (const std::string& name : loops.pool.free_symbols(t.body)) {
        bool own = false;
        for (const Sym& var : t.vars) own = own || var.symbol_name() == name;
        constant = constant && own;
      }
      for (TensorId source : loaded_tensors(loops, t.body))
        constant = constant && known[static_cast<size_t>(source.index)];
      known[i] = constant;
    }
    if (!known[i]) continue;
    const int64_t element = dtype_bytes(t.dtype);
    const bool single = *bytes == element;
    if (t.kind == TensorKind::computed && *bytes > 0 && !single && !worth_storing(loops, t.body)) continue;
    if (t.kind == TensorKind::computed || single) compute(compute, id);
    const Memory& memory = evaluator.memory(id);
    if (single) {
      const Scalar value = load_scalar(memory.base, t.dtype);
      const DType type = register_type(t.dtype);
      number[i] = is_integer(type) ? loops.pool.integer(value.i, type)
                                   : loops.pool.constant(is_bool(type) ? static_cast<double>(value.i) : value.f, type);
    }
    if (t.kind == TensorKind::constant) continue;
    t.kind = TensorKind::constant;
    t.data.assign(memory.base, memory.base + *bytes);
    t.vars.clear();
    t.body = {};
  }
  drop_dead(loops);
  for (LoopCall& call : loops.calls)
    for (Loops& body : call.bodies) TD_CHECK_OK(fold(body));
  return {};
}

}  // namespace

Status fold_constants(Loops& loops) {
  try {
    return fold(loops);
  } catch (const EvaluationFailure& failure) {
    return fail(failure.diagnostic);
  }
}

}  // namespace toroid
