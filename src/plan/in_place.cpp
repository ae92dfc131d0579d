// Whether a kernel may write one tensor over another that it reads.
#include "plan/in_place.h"

#include <algorithm>

namespace toroid::plan {
namespace {

// Element address of a load or store, its loops' variables by their place in the nest.
std::optional<Sym> address(const Schedule& schedule, TensorId tensor, const std::vector<ExprId>& index,
                           const SymList& vars) {
  const std::optional<Sym> at = element_address(schedule.loops.pool, schedule.place(tensor), index);
  if (!at) return std::nullopt;
  std::map<std::string, Sym> names;
  for (size_t v = 0; v < vars.size(); ++v)
    if (vars[v].is_symbol()) names[vars[v].symbol_name()] = Sym::index(format("loop{}", v), extent_of(vars[v]));
  return substitute(*at, names);
}

std::vector<const Expr*> loads_of(const Schedule& schedule, ExprId value, TensorId tensor) {
  std::vector<const Expr*> loads;
  const ExprPool& pool = schedule.loops.pool;
  for (ExprId id : pool.postorder({value}))
    if (pool[id].kind == ExprKind::load && pool[id].tensor == tensor) loads.push_back(&pool[id]);
  return loads;
}

}  // namespace

bool writes_in_place(const Schedule& schedule, const Kernel& kernel, TensorId from, TensorId to) {
  // Of these no order is known in which elements are read and written.
  if (std::holds_alternative<CallKernel>(kernel.work) || std::holds_alternative<RoutineKernel>(kernel.work))
    return false;
  // Compilers may take pointers of two types for two places.
  if (schedule.loops[from].dtype != schedule.loops[to].dtype) return false;
  // Where `to` is written; one store alone, or an element might be read after it was written.
  std::optional<Sym> written;
  // Reads at the elements that the store writes at the same point, and not after it.
  auto read = [&](ExprId value, const SymList& vars) {
    for (const Expr* load : loads_of(schedule, value, from))
      if (address(schedule, from, load->args, vars) != written) return false;
    return true;
  };
  auto reads = [&](ExprId value) { return !loads_of(schedule, value, from).empty(); };

  auto* nest = std::get_if<LoopKernel>(&kernel.work);
  if (!nest) {
    // The operands of a template are read by every tile.
    if (auto* work = std::get_if<MatmulKernel>(&kernel.work)) {
      if (work->a == from) return false;
      for (const MatmulKernel::Columns& columns : work->columns)
        for (const MatmulKernel::Right& b : columns.right)
          if (b.tensor == from) return false;
    } else if (auto* work = std::get_if<ConvKernel>(&kernel.work)) {
      if (work->x == from) return false;
    } else if (auto* work = std::get_if<AttentionKernel>(&kernel.work)) {
      if (work->q == from || work->k == from || work->v == from || (work->score && reads(work->score))) return false;
    }
    for (const StoreTo& store : kernel.epilogue) {
      if (store.tensor != to) {
        if (reads(store.value)) return false;
        continue;
      }
      if (written) return false;
      written = address(schedule, to, store.index, {});
      if (!written || !read(store.value, {})) return false;
    }
    return written.has_value();
  }

  // Blocks of outer points end at different times; what comes at the end reads them all.
  if (nest->blocks) return false;
  size_t at = nest->phases.size();
  SymList vars;
  for (size_t p = 0; p < nest->phases.size(); ++p)
    for (const StoreTo& store : nest->phases[p].stores) {
      if (store.tensor != to) continue;
      if (written) return false;
      at = p;
      vars = nest->phases[p].vars;
      written = address(schedule, to, store.index, vars);
      if (!written) return false;
    }
  if (!written) return false;
  // One outer point reads what it writes itself, and all points write different elements.
  for (size_t p = 0; p < nest->phases.size(); ++p) {
    const Phase& phase = nest->phases[p];
    auto fits = [&](ExprId value) {
      if (!reads(value)) return true;
      if (p > at || phase.running || phase.vars.size() != vars.size()) return false;
      for (size_t v = 0; v < vars.size(); ++v)
        if (extent_of(phase.vars[v]) != extent_of(vars[v])) return false;
      return read(value, phase.vars);
    };
    for (const Reduction& reduction : phase.reductions)
      if (!fits(reduction.value)) return false;
    for (const StoreTo& store : phase.stores) {
      if (p == at && store.tensor != to && reads(store.value)) return false;
      if (!fits(store.value)) return false;
    }
  }
  return true;
}

}  // namespace toroid::plan
