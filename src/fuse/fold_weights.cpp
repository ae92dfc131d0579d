// Tensors that follow from weights alone by simple arithmetic (a batch norm's scale and shift) become constants of
// weights.bin, with the recipe that makes them, so that they follow when a weight is replaced.
#include "base/check.h"
#include "fuse/program.h"

namespace toroid::fuse {
namespace {

class RecipeWriter {
 public:
  RecipeWriter(const Program& program, const LoopTensor& tensor) : program_(program), tensor_(tensor) {}

  // Appends what pushes the expression's value; false when a recipe cannot say it.
  bool write(ExprId id) {
    const ExprPool& pool = program_.loops.pool;
    const Expr& expr = pool[id];
    if (expr.kind == ExprKind::load) return load(expr);
    if (expr.kind != ExprKind::op || expr.dtype != DType::f32) return false;
    auto step = [&](const char* op, double value = 0) {
      RecipeStep s{op};
      s.value = value;
      steps.push_back(std::move(s));
      return true;
    };
    switch (expr.op) {
      case ScalarOp::rsqrt: return write(expr.args[0]) && step("rsqrt");
      case ScalarOp::neg: return write(expr.args[0]) && step("mul_scalar", -1);
      case ScalarOp::add:
      case ScalarOp::sub:
      case ScalarOp::mul:
      case ScalarOp::div: break;
      default: return false;
    }
    const bool commutes = expr.op == ScalarOp::add || expr.op == ScalarOp::mul;
    for (size_t a = 0; a < 2; ++a) {
      auto constant = pool.as_constant(expr.args[a]);
      if (!constant) continue;
      const ExprId other = expr.args[1 - a];
      if (commutes) return write(other) && step(expr.op == ScalarOp::add ? "add_scalar" : "mul_scalar", *constant);
      if (a == 1 && expr.op == ScalarOp::sub) return write(other) && step("add_scalar", -*constant);
      return false;
    }
    if (!write(expr.args[0]) || !write(expr.args[1])) return false;
    const char* names[] = {"add", "sub", "mul", "div"};
    return step(names[static_cast<int>(expr.op)]);
  }

  std::vector<RecipeStep> steps;

 private:
  // A weight of the same shape, element by element.
  bool load(const Expr& expr) {
    const LoopTensor& source = program_.loops[expr.tensor];
    if (source.dtype != DType::f32 || source.sizes != tensor_.sizes) return false;
    for (size_t d = 0; d < expr.args.size(); ++d) {
      auto sym = program_.loops.pool.as_index(expr.args[d]);
      if (!sym || (*sym != tensor_.vars[d] && source.sizes[d] != Sym(1))) return false;
    }
    if (const std::vector<RecipeStep>& earlier = program_[expr.tensor].recipe; !earlier.empty()) {
      // Rounded as where it is stored: a shift made with the exact scale would not cancel the rounding of the scale.
      steps.insert(steps.end(), earlier.begin(), earlier.end());
      RecipeStep cast{"cast"};
      cast.dtype = DType::f32;
      steps.push_back(std::move(cast));
      return true;
    }
    if (source.kind != TensorKind::weight) return false;
    for (const LoopOutput& output : program_.loops.outputs)
      if (output.target.mutates == GraphOutput::Mutates::weight && output.target.weight == source.weight) return false;
    RecipeStep s{"load"};
    s.weight = source.weight.index;
    steps.push_back(std::move(s));
    return true;
  }

  const Program& program_;
  const LoopTensor& tensor_;
};

}  // namespace

void fold_weights(Program& program) {
  static_assert(static_cast<int>(ScalarOp::add) == 0 && static_cast<int>(ScalarOp::div) == 3);
  for (size_t i = 0; i < program.items.size(); ++i) {
    Item& item = program.items[i];
    const LoopTensor& tensor = program.loops.tensors[i];
    if (item.kind != Kind::map || item.inlined || item.is_output || tensor.dtype != DType::f32) continue;
    if (item.uses.empty() || program.pool()[item.body].kind == ExprKind::load) continue;
    bool constant = true;
    for (const Sym& size : tensor.sizes) constant &= size.is_constant();
    RecipeWriter writer(program, tensor);
    if (!constant || !writer.write(item.body)) continue;
    item.kind = Kind::source;
    item.stored = true;
    item.recipe = std::move(writer.steps);
  }
  program.find_uses();
}

}  // namespace toroid::fuse
