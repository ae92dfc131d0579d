// The shaping of nest_shape.h. Works on addresses: a substitution of variables is taken when every address stays free
// of divisions and no other expression sees the variables.
#include "fuse/nest_shape.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "fuse/program.h"
#include "loop/repeat.h"

namespace toroid::fuse {
namespace {

struct Access {
  Sym address = 0;
  bool is_store = false;
};

class Shaper {
 public:
  Shaper(ExprPool& pool, const Schedule& schedule, LoopKernel& nest, const std::function<int64_t(const Sym&)>& at_hints)
      : pool_(pool), schedule_(schedule), nest_(nest), at_hints_(at_hints) {}

  void run() {
    for (int round = 0; round < 4 && split_divided(); ++round) {
    }
    finish();
    const bool pure = nest_.blocks == 0 &&
                      std::all_of(nest_.phases.begin(), nest_.phases.end(),
                                  [](const Phase& phase) { return phase.vars.empty() && phase.reductions.empty(); });
    if (pure) {
      order_by_stores(nest_.outer);
      merge_outer();
      if (!nest_.outer.empty()) move_last(nest_.outer, best_variable(nest_.outer, all_accesses()));
      if (!nest_.outer.empty()) nest_.vector_outer = nest_.outer.back().symbol_name();
      return;
    }
    for (size_t p = 0; p < nest_.phases.size(); ++p) merge_phase(p);
    merge_outer();
    choose_vector();
  }

 private:
  // What follows once all outer points are done is a nest of its own, without outer loops.
  void finish() {
    if (nest_.finish.empty()) return;
    LoopKernel rest;
    rest.phases = std::move(nest_.finish);
    Shaper(pool_, schedule_, rest, at_hints_).run();
    nest_.finish = std::move(rest.phases);
  }

  void each_expr(const Phase& phase, const std::function<void(ExprId)>& f) const {
    for (const Reduction& reduction : phase.reductions) f(reduction.value);
    for (const StoreTo& store : phase.stores) f(store.value);
  }

  void accesses_of(const Phase& phase, std::vector<Access>& out) const {
    std::set<int32_t> seen;
    each_expr(phase, [&](ExprId value) {
      std::vector<ExprId> loads;
      collect_loads(pool_, value, loads);
      for (ExprId load : loads) {
        if (!seen.insert(load.index).second) continue;
        if (auto a = element_address(pool_, schedule_.place(pool_[load].tensor), pool_[load].args))
          out.push_back({*a, false});
      }
    });
    for (const StoreTo& store : phase.stores)
      if (auto a = element_address(pool_, schedule_.place(store.tensor), store.index)) out.push_back({*a, true});
  }
  std::vector<Access> all_accesses() const {
    std::vector<Access> all;
    for (const Phase& phase : nest_.phases) accesses_of(phase, all);
    return all;
  }

  static bool has_division(const Sym& sym, const std::set<std::string>& names) {
    if (sym.is_constant() || sym.is_symbol()) return false;
    if (sym.kind() != SymKind::sum) {
      for (const std::string& name : names)
        if (depends_on(sym, name)) return true;
      return false;
    }
    for (const Sym::Term& term : sym.node()->terms)
      for (const Sym& atom : term.atoms)
        if (has_division(atom, names)) return true;
    return false;
  }

  // Index expressions that are values or guards, not addresses, that see one of the names.
  bool seen_elsewhere(ExprId id, const std::set<std::string>& names, std::set<int32_t>& visited) const {
    if (!visited.insert(id.index).second) return false;
    const Expr& expr = pool_[id];
    if (expr.kind == ExprKind::index) {
      for (const std::string& name : names)
        if (depends_on(expr.sym, name)) return true;
      return false;
    }
    for (ExprId arg : expr.args) {
      if (expr.kind == ExprKind::load && pool_.as_index(arg)) continue;
      if (seen_elsewhere(arg, names, visited)) return true;
    }
    return false;
  }

  Phase substituted(const Phase& phase, const std::map<std::string, Sym>& values) {
    Phase result = phase;
    for (Reduction& reduction : result.reductions) reduction.value = pool_.rewrite(reduction.value, values, nullptr);
    for (StoreTo& store : result.stores) {
      store.value = pool_.rewrite(store.value, values, nullptr);
      for (ExprId& index : store.index) index = pool_.rewrite(index, values, nullptr);
    }
    return result;
  }

  // Every address in the phases is free of divisions of `names`.
  bool clean(const std::vector<Phase>& phases, const std::set<std::string>& names) const {
    for (const Phase& phase : phases) {
      std::vector<Access> accesses;
      accesses_of(phase, accesses);
      for (const Access& access : accesses)
        if (has_division(access.address, names)) return false;
    }
    return true;
  }

  // Merges neighbouring vars a (outer) and b of `vars` into one where all addresses allow; `scope` are the phases that
  // see them.
  bool merge_pair(SymList& vars, size_t at, std::vector<size_t> scope) {
    const Sym a = vars[at], b = vars[at + 1];
    const Sym b_extent = b.node()->extent;
    // A loop over nothing: no division by its extent.
    if (b_extent == Sym(0)) return false;
    const std::set<std::string> names = {a.symbol_name(), b.symbol_name()};
    for (size_t p : scope) {
      bool seen = false;
      std::set<int32_t> visited;
      each_expr(nest_.phases[p], [&](ExprId value) { seen |= seen_elsewhere(value, names, visited); });
      if (seen) return false;
    }
    const std::string name = fresh(a.symbol_name());
    const Sym merged = Sym::index(name, a.node()->extent * b_extent);
    const std::map<std::string, Sym> values = {{a.symbol_name(), floor_div(merged, b_extent)},
                                               {b.symbol_name(), mod(merged, b_extent)}};
    std::vector<Phase> changed;
    for (size_t p : scope) changed.push_back(substituted(nest_.phases[p], values));
    if (!clean(changed, {name})) return false;
    for (size_t i = 0; i < scope.size(); ++i) nest_.phases[scope[i]] = std::move(changed[i]);
    vars[at] = merged;
    vars.erase(vars.begin() + static_cast<ptrdiff_t>(at) + 1);
    return true;
  }

  std::string fresh(const std::string& base) { return format("{}_{}", base.substr(0, base.find('_')), counter_++); }

  void merge_phase(size_t p) {
    // Phases that share rows keep their own variables: the rows' addresses are linear in any merged one.
    for (size_t at = 0; at + 1 < nest_.phases[p].vars.size();) {
      SymList vars = nest_.phases[p].vars;
      if (merge_pair(vars, at, {p}))
        nest_.phases[p].vars = vars;
      else
        ++at;
    }
  }
  void merge_outer() {
    std::vector<size_t> all;
    for (size_t p = 0; p < nest_.phases.size(); ++p) all.push_back(p);
    for (size_t at = 0; at + 1 < nest_.outer.size();) {
      if (!merge_pair(nest_.outer, at, all)) ++at;
    }
  }

  // v = hi * d + lo where an address divides v by d and d divides its extent.
  bool split_divided() {
    for (size_t p = 0; p < nest_.phases.size(); ++p) {
      std::vector<Access> accesses;
      accesses_of(nest_.phases[p], accesses);
      for (const Access& access : accesses) {
        if (split_for(nest_.outer, access.address, true, p)) return true;
        if (split_for(nest_.phases[p].vars, access.address, false, p)) return true;
      }
    }
    return false;
  }
  bool split_for(SymList& vars, const Sym& address, bool outer, size_t p) {
    for (size_t at = 0; at < vars.size(); ++at) {
      const Sym var = vars[at];
      std::optional<Sym> divisor = divisor_of(address, var);
      if (!divisor || stays_whole(var, outer, p)) continue;
      const Sym extent = var.node()->extent;
      if (mod(extent, *divisor) != Sym(0)) continue;
      const std::string high = fresh(var.symbol_name()), low = fresh(var.symbol_name());
      const Sym h = Sym::index(high, floor_div(extent, *divisor)), l = Sym::index(low, *divisor);
      const std::map<std::string, Sym> values = {{var.symbol_name(), h * *divisor + l}};
      if (outer) {
        for (Phase& phase : nest_.phases) phase = substituted(phase, values);
      } else {
        nest_.phases[p] = substituted(nest_.phases[p], values);
      }
      SymList& target = outer ? nest_.outer : nest_.phases[p].vars;
      target[at] = h;
      target.insert(target.begin() + static_cast<ptrdiff_t>(at) + 1, l);
      return true;
    }
    return false;
  }
  // A variable that stores walk element by element, while all loads walk it so, repeat each element or stand still,
  // makes full vectors as it is; in two it would make vectors of d elements.
  bool stays_whole(const Sym& var, bool outer, size_t phase) const {
    std::vector<Access> accesses;
    if (outer)
      accesses = all_accesses();
    else
      accesses_of(nest_.phases[phase], accesses);
    const std::string& name = var.symbol_name();
    bool stored = false;
    for (const Access& access : accesses) {
      if (auto line = linear_in(access.address, name)) {
        if (line->coefficient != Sym(0) && line->coefficient != Sym(1)) return false;
        stored |= access.is_store && line->coefficient == Sym(1);
      } else if (access.is_store || !repeat_in(access.address, name)) {
        return false;
      }
    }
    return stored;
  }
  // d of an atom `var // d` or `var % d` in the address.
  std::optional<Sym> divisor_of(const Sym& sym, const Sym& var) {
    if (sym.is_constant() || sym.is_symbol()) return std::nullopt;
    if ((sym.kind() == SymKind::floordiv || sym.kind() == SymKind::mod) && sym.args()[0] == var &&
        !depends_on(sym.args()[1], var.symbol_name()) && proves_lt(1, sym.args()[1]))
      return sym.args()[1];
    for (const Sym& arg : sym.args())
      if (auto found = divisor_of(arg, var)) return found;
    if (sym.kind() == SymKind::sum)
      for (const Sym::Term& term : sym.node()->terms)
        for (const Sym& atom : term.atoms)
          if (auto found = divisor_of(atom, var)) return found;
    return std::nullopt;
  }

  // 2 for each access that the variable walks element by element, 0 where it does not move, -2 for each that it strides
  // over; stores count twice. Too few elements to fill a vector count against it.
  int score(const Sym& var, const std::vector<Access>& accesses) const {
    int total = 0;
    for (const Access& access : accesses) {
      const int weight = access.is_store ? 2 : 1;
      auto line = linear_in(access.address, var.symbol_name());
      if (!line)
        total += repeat_in(access.address, var.symbol_name()) && !access.is_store ? 1 : -3 * weight;
      else if (line->coefficient == Sym(1))
        total += 2 * weight;
      else if (line->coefficient != Sym(0))
        total -= 2 * weight;
    }
    const int64_t extent = at_hints_(var.node()->extent);
    if (extent < 8) total -= 8;
    return total;
  }
  size_t best_variable(const SymList& vars, const std::vector<Access>& accesses) const {
    size_t best = vars.size() - 1;
    int best_score = score(vars[best], accesses);
    for (size_t i = vars.size() - 1; i-- > 0;) {
      int s = score(vars[i], accesses);
      if (s > best_score) best = i, best_score = s;
    }
    return best;
  }
  static void move_last(SymList& vars, size_t at) {
    std::rotate(vars.begin() + static_cast<ptrdiff_t>(at), vars.begin() + static_cast<ptrdiff_t>(at) + 1, vars.end());
  }

  // Outermost the variable with the largest stride in the first store.
  void order_by_stores(SymList& vars) {
    if (nest_.phases.empty() || nest_.phases[0].stores.empty()) return;
    const StoreTo& store = nest_.phases[0].stores[0];
    auto a = element_address(pool_, schedule_.place(store.tensor), store.index);
    if (!a) return;
    std::stable_sort(vars.begin(), vars.end(),
                     [&](const Sym& x, const Sym& y) { return stride_at_hints(*a, x) > stride_at_hints(*a, y); });
  }
  int64_t stride_at_hints(const Sym& address, const Sym& var) const {
    auto line = linear_in(address, var.symbol_name());
    return line ? at_hints_(line->coefficient) : 0;
  }

  void choose_vector() {
    int inner = 0, outer_best = -1000;
    size_t outer_at = 0;
    for (Phase& phase : nest_.phases) {
      if (phase.vars.empty()) continue;
      std::vector<Access> accesses;
      accesses_of(phase, accesses);
      move_last(phase.vars, best_variable(phase.vars, accesses));
      inner += score(phase.vars.back(), accesses);
    }
    const std::vector<Access> all = all_accesses();
    for (size_t i = 0; i < nest_.outer.size(); ++i) {
      int s = score(nest_.outer[i], all);
      if (s > outer_best) outer_best = s, outer_at = i;
    }
    if (nest_.outer.empty() || outer_best <= inner || !nest_.rows.empty() || nest_.blocks) return;
    for (const Phase& phase : nest_.phases) {
      if (phase.running) return;
      // The place of the greatest is kept for one row at a time.
      for (const Reduction& reduction : phase.reductions)
        if (reduction.op == ReduceOp::argmin || reduction.op == ReduceOp::argmax) return;
    }
    move_last(nest_.outer, outer_at);
    nest_.vector_outer = nest_.outer.back().symbol_name();
  }

  ExprPool& pool_;
  const Schedule& schedule_;
  LoopKernel& nest_;
  const std::function<int64_t(const Sym&)>& at_hints_;
  int counter_ = 0;
};

}  // namespace

void shape_nest(ExprPool& pool, const Schedule& schedule, LoopKernel& nest,
                const std::function<int64_t(const Sym&)>& at_hints) {
  Shaper(pool, schedule, nest, at_hints).run();
}

}  // namespace toroid::fuse
