// Of all outer variables the one that turns most loads is taken; loads behind a choice stay as they are, since a block
// would read what the choice keeps out.
#include "emit/cpu/turned.h"

#include <set>

namespace toroid::emit {
namespace {

void unguarded_loads(const ExprPool& pool, ExprId id, std::set<ExprId>& seen, std::vector<ExprId>& loads) {
  if (!seen.insert(id).second) return;
  const Expr& expr = pool[id];
  if (expr.kind == ExprKind::load) loads.push_back(id);
  const bool choice = expr.kind == ExprKind::op && expr.op == ScalarOp::where;
  for (size_t a = 0; a < (choice ? 1 : expr.args.size()); ++a) unguarded_loads(pool, expr.args[a], seen, loads);
}

}  // namespace

TurnedLoads find_turned(const Schedule& schedule, const LoopKernel& nest, int lanes,
                        const std::function<int64_t(const Sym&)>& at_hints) {
  TurnedLoads best;
  if (nest.vector_outer.empty() || nest.scalar || !nest.rows.empty() || nest.phases.size() != 1) return best;
  const Phase& phase = nest.phases[0];
  if (!phase.vars.empty() || !phase.reductions.empty() || nest.outer.size() < 2) return best;
  const Sym& vector = nest.outer.back();
  if (at_hints(extent_of(vector)) < lanes) return best;
  const ExprPool& pool = schedule.loops.pool;
  std::set<ExprId> seen;
  std::vector<ExprId> loads;
  for (const StoreTo& store : phase.stores) {
    auto along = linear_in(store_address(schedule, store), vector.symbol_name());
    if (!along || along->coefficient != Sym(1)) return best;
    unguarded_loads(pool, store.value, seen, loads);
  }
  for (size_t v = 0; v + 1 < nest.outer.size(); ++v) {
    const Sym& other = nest.outer[v];
    if (at_hints(extent_of(other)) < lanes) continue;
    TurnedLoads found;
    found.along = v;
    for (ExprId load : loads) {
      const Expr& expr = pool[load];
      if (schedule.loops[expr.tensor].dtype != DType::f32) continue;
      auto at = element_address(pool, schedule.place(expr.tensor), expr.args);
      if (!at) continue;
      auto strides = linear_in(*at, vector.symbol_name()), walks = linear_in(*at, other.symbol_name());
      if (!strides || !walks || walks->coefficient != Sym(1)) continue;
      if (strides->coefficient == Sym(0) || strides->coefficient == Sym(1)) continue;
      found.loads.push_back({load, *at, strides->coefficient});
    }
    if (found.loads.size() > best.loads.size()) best = std::move(found);
  }
  return best;
}

}  // namespace toroid::emit
