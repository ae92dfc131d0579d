// Works on whole subexpressions, which are equal when their ids are: softmax computes exp(x - max) for its sum and
// again for its result.
#include "fuse/share_rows.h"

namespace toroid::fuse {
namespace {

constexpr int64_t elements_limit = 8192;  // of a row, so that it stays in the nearest caches
constexpr int64_t cost_limit = 8;         // work that is cheaper than a trip through scratch
constexpr size_t rows_limit = 2;

// Subexpressions that are computed for every element: not what only one side of a choice needs.
void collect_certain(const ExprPool& pool, ExprId id, std::set<ExprId>& found) {
  if (!found.insert(id).second) return;
  const Expr& expr = pool[id];
  const bool choice = expr.kind == ExprKind::op && expr.op == ScalarOp::where;
  for (size_t a = 0; a < (choice ? 1 : expr.args.size()); ++a) collect_certain(pool, expr.args[a], found);
}

class Sharer {
 public:
  Sharer(Program& program, Schedule& schedule, LoopKernel& nest, const std::string& name)
      : program_(program), pool_(program.pool()), schedule_(schedule), nest_(nest), name_(name) {}

  void run() {
    for (size_t first = 0; first < nest_.phases.size(); ++first) {
      const Phase& phase = nest_.phases[first];
      if (phase.running || !walks_row(phase)) continue;
      std::set<ExprId> computed;
      for (const Reduction& reduction : phase.reductions) collect_certain(pool_, reduction.value, computed);
      for (const StoreTo& store : phase.stores) collect_certain(pool_, store.value, computed);
      for (size_t second = first + 1; second < nest_.phases.size(); ++second)
        if (nest_.phases[second].vars == phase.vars && !nest_.phases[second].running) share(first, second, computed);
    }
  }

 private:
  bool walks_row(const Phase& phase) const {
    if (phase.vars.empty()) return false;
    Sym elements = 1;
    for (const Sym& var : phase.vars) elements *= extent_of(var);
    return range_of(elements).high <= elements_limit;
  }

  void share(size_t first, size_t second, const std::set<ExprId>& computed) {
    std::vector<ExprId> wanted;
    std::set<ExprId> seen;
    const Phase& phase = nest_.phases[second];
    for (const Reduction& reduction : phase.reductions) find(reduction.value, phase, computed, seen, wanted);
    for (const StoreTo& store : phase.stores) find(store.value, phase, computed, seen, wanted);
    for (ExprId expr : wanted) {
      if (rows_ == rows_limit) return;
      keep(first, expr);
    }
  }

  // The largest subexpressions that the first phase has, too, and that are worth it.
  void find(ExprId id, const Phase& phase, const std::set<ExprId>& computed, std::set<ExprId>& seen,
            std::vector<ExprId>& wanted) const {
    if (!seen.insert(id).second) return;
    const Expr& expr = pool_[id];
    if (expr.kind == ExprKind::op && computed.contains(id) && pool_.depends_on(id, phase.vars.back().symbol_name()) &&
        expression_cost(pool_, id) > cost_limit)
      return wanted.push_back(id);
    for (ExprId arg : expr.args) find(arg, phase, computed, seen, wanted);
  }

  void keep(size_t first, ExprId expr) {
    const SymList vars = nest_.phases[first].vars;
    LoopTensor row;
    row.name = name_ + (rows_ ? format(".row{}", rows_) : ".row");
    row.dtype = pool_[expr].dtype;
    std::vector<ExprId> index;
    for (const Sym& var : vars) {
      row.sizes.push_back(extent_of(var));
      row.vars.push_back(Sym::index(format("i{}", row.vars.size()), extent_of(var)));
      index.push_back(pool_.index(var));
    }
    Place place;
    place.strides = row.strides = contiguous_strides(row.sizes);
    const DType dtype = row.dtype;
    const TensorId id = program_.loops.add(std::move(row));
    program_.items.emplace_back();
    program_.items.back().inlined = true;
    schedule_.places.push_back(std::move(place));
    nest_.rows.push_back(id);
    ++rows_;
    const std::map<ExprId, ExprId> loads = {{expr, pool_.load(id, dtype, index)}};
    for (size_t p = first + 1; p < nest_.phases.size(); ++p) {
      Phase& phase = nest_.phases[p];
      if (phase.vars != vars || phase.running) continue;
      for (Reduction& reduction : phase.reductions) reduction.value = replace_exprs(pool_, reduction.value, loads);
      for (StoreTo& store : phase.stores) store.value = replace_exprs(pool_, store.value, loads);
    }
    nest_.phases[first].stores.push_back({id, std::move(index), expr});
  }

  Program& program_;
  ExprPool& pool_;
  Schedule& schedule_;
  LoopKernel& nest_;
  const std::string& name_;
  size_t rows_ = 0;
};

}  // namespace

void share_rows(Program& program, Schedule& schedule, LoopKernel& nest, const std::string& name) {
  if (nest.vector_outer.empty() && nest.outer.size() > 0 && !nest.scalar) Sharer(program, schedule, nest, name).run();
}

}  // namespace toroid::fuse
