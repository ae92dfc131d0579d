// A weight that one kernel needs packed for a product and another looks rows up in (an embedding tied to the output
// layer) lies in the package once: rows are read out of the panels.
#include "fuse/program.h"

namespace toroid::fuse {
namespace {

// The panels of a matrix [rows, columns]: [rows/64][columns/g][64][g], the last panel as wide as it needs, in steps
// of 16.
struct Panels {
  BufferId buffer;
  int64_t rows, columns, g;
};

class Sharer {
 public:
  Sharer(Program& program, Schedule& schedule, std::vector<Kernel>& kernels)
      : program_(program), pool_(program.pool()), schedule_(schedule), kernels_(kernels) {}

  void run() {
    const size_t count = program_.loops.tensors.size();
    for (size_t i = 0; i < count; ++i) {
      const TensorId id{static_cast<int32_t>(i)};
      if (program_.loops[id].kind != TensorKind::weight || !schedule_.place(id).buffer) continue;
      if (std::optional<Panels> panels = panels_of(id)) read_from(id, *panels);
    }
  }

 private:
  // The packed form of the weight as it stands: no cast, no other strides.
  std::optional<Panels> panels_of(TensorId id) const {
    const LoopTensor& weight = program_.loops[id];
    const Buffer& plain = schedule_[schedule_.place(id).buffer];
    if (weight.sizes.size() != 2 || plain.mutated || plain.recipe.size() != 1 || plain.recipe[0].op != "load")
      return {};
    const int64_t rows = weight.sizes[0].value(), columns = weight.sizes[1].value();
    for (size_t b = 0; b < schedule_.buffers.size(); ++b) {
      const Buffer& buffer = schedule_.buffers[b];
      if (buffer.kind != BufferKind::constant || buffer.dtype != plain.dtype || buffer.device != plain.device) continue;
      if (buffer.recipe.size() != 3 || buffer.recipe[0].op != "load" || buffer.recipe[2].op != "pack") continue;
      const RecipeStep& view = buffer.recipe[1];
      if (buffer.recipe[0].weight != plain.recipe[0].weight || view.op != "as_strided" || view.offset != 0) continue;
      if (view.sizes == std::vector{rows, columns} && view.strides == std::vector<int64_t>{columns, 1})
        return Panels{BufferId{static_cast<int32_t>(b)}, rows, columns, buffer.recipe[2].k_group};
    }
    return {};
  }

  // Read whole, as it lies: by a template, routine, call or copy.
  static bool is_operand(const Kernel& kernel, TensorId id) {
    const std::vector<TensorId> operands = operands_of(kernel);
    if (std::ranges::find(operands, id) != operands.end()) return true;
    auto* nest = std::get_if<LoopKernel>(&kernel.work);
    return nest && nest->phases.empty() && std::ranges::find(kernel.reads, id) != kernel.reads.end();
  }

  void read_from(TensorId id, const Panels& panels) {
    std::map<ExprId, ExprId> replaced;
    bool possible = true;
    for (Kernel& kernel : kernels_) {
      if (is_operand(kernel, id)) return;
      each_expression(kernel, [&](ExprId value) {
        std::vector<ExprId> loads;
        collect_loads(pool_, value, loads);
        for (ExprId load : loads) {
          if (pool_[load].tensor != id) continue;
          // Whole columns or rows in order are quicker as they lie; so is a column that the data choose.
          const std::vector<ExprId> at = pool_[load].args;
          possible &= !pool_.as_index(at[0]) && pool_.as_index(at[1]).has_value();
          if (possible) replaced.emplace(load, ExprId{});
        }
      });
    }
    for (const LoopOutput& output : program_.loops.outputs) possible &= output.tensor != id;
    if (!possible || replaced.empty()) return;

    const TensorId panel = add_view(id, panels);
    for (auto& [load, element] : replaced) element = element_of(pool_[load], panel, panels);
    for (Kernel& kernel : kernels_)
      each_expression(kernel, [&](ExprId& value) { value = replace_exprs(pool_, value, replaced); });
    program_.say(format("%{} is read out of its packed form", program_.loops[id].name));
  }

  // The packed constant as a tensor: where a row begins, and how far a column is from there.
  TensorId add_view(TensorId id, const Panels& panels) {
    LoopTensor view;
    view.name = program_.loops[id].name + ".panels";
    view.dtype = program_.loops[id].dtype;
    view.device = program_.loops[id].device;
    view.sizes = {schedule_[panels.buffer].elements, schedule_[panels.buffer].elements};
    Place place;
    place.buffer = panels.buffer;
    place.strides = view.strides = {1, 1};
    const TensorId added = program_.loops.add(std::move(view));
    program_.items.emplace_back();
    program_.items.back().inlined = true;
    schedule_.places.push_back(std::move(place));
    return added;
  }

  ExprId number(int64_t value) { return pool_.index(Sym(value)); }

  ExprId element_of(const Expr& load, TensorId panel, const Panels& panels) {
    const DType dtype = load.dtype;
    const ExprId row = load.args[0];
    const Sym column = *pool_.as_index(load.args[1]);
    const int64_t g = panels.g, depth = (panels.columns + g - 1) / g * g;
    const int64_t whole = panels.rows / 64 * 64, width = (panels.rows - whole + 15) / 16 * 16;
    auto load_at = [&](ExprId from, int64_t wide) {
      const Sym along = floor_div(column, Sym(g)) * Sym(wide * g) + mod(column, Sym(g));
      return pool_.load(panel, dtype, {from, pool_.index(along)});
    };
    // Row 64 p + r begins at 64 p depth + r g.
    const ExprId within = pool_.op(ScalarOp::remainder, {row, number(64)});
    const ExprId first = pool_.op(ScalarOp::sub, {row, within});
    const ExprId in_whole = pool_.op(
        ScalarOp::add, {pool_.op(ScalarOp::mul, {first, number(depth)}), pool_.op(ScalarOp::mul, {within, number(g)})});
    const ExprId of_whole = load_at(in_whole, 64);
    if (width == 0) return of_whole;
    const ExprId rest = pool_.op(ScalarOp::sub, {row, number(whole)});
    const ExprId in_last = pool_.op(ScalarOp::add, {number(whole * depth), pool_.op(ScalarOp::mul, {rest, number(g)})});
    return pool_.op(ScalarOp::where, {pool_.op(ScalarOp::lt, {row, number(whole)}), of_whole, load_at(in_last, width)});
  }

  Program& program_;
  ExprPool& pool_;
  Schedule& schedule_;
  std::vector<Kernel>& kernels_;
};

}  // namespace

void share_packed(Program& program, Schedule& schedule, std::vector<Kernel>& kernels) {
  Sharer(program, schedule, kernels).run();
}

}  // namespace toroid::fuse
