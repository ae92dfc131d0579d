// A group as a nest of loops: its outer dims, and inside them one phase after another, each a loop over the row. What a
// later phase needs of an earlier one is a local (a reduction's result), an expression computed again, or a row kept in
// scratch.
#include <algorithm>
#include <set>

#include "base/check.h"
#include "fuse/nest_shape.h"
#include "fuse/program.h"
#include "fuse/share_rows.h"

namespace toroid::fuse {
namespace {

constexpr int64_t row_elements_limit = 32 << 10;  // of scratch on the stack
constexpr int64_t recompute_limit = 8;            // work that is cheaper than a trip through scratch

void collect_locals(const ExprPool& pool, ExprId id, std::set<int32_t>& locals, std::set<int32_t>& seen) {
  if (!seen.insert(id.index).second) return;
  if (pool[id].kind == ExprKind::local) locals.insert(pool[id].local);
  const std::vector<ExprId> args = pool[id].args;
  for (ExprId arg : args) collect_locals(pool, arg, locals, seen);
}

class NestBuilder {
 public:
  NestBuilder(Program& program, Schedule& schedule, const Group& group)
      : program_(program), loops_(program.loops), pool_(program.pool()), schedule_(schedule), group_(group) {}

  Kernel build() {
    for (size_t p = 0; p < group_.outer.size(); ++p)
      work_.outer.push_back(Sym::index(format("o{}", p), group_.outer[p]));
    std::vector<TensorId> order = group_.members;
    for (const auto& [member, names] : group_.across) order.push_back(member);
    std::sort(order.begin(), order.end());
    for (TensorId member : order) {
      if (auto across = group_.across.find(member); across != group_.across.end())
        add_total(member, across->second);
      else
        add(member);
    }
    Kernel kernel;
    if (!group_.finish.empty()) finish();
    const std::vector<TensorId> all = group_.all();
    kernel.where = loops_[all.back()].where;
    kernel.device = loops_[all.back()].device;
    std::vector<std::string> note;
    for (TensorId member : all) {
      note.push_back(loops_[member].name);
      if (program_[member].stored) kernel.writes.push_back(member);
    }
    kernel.note = join(note, " + ");
    shape_nest(pool_, schedule_, work_, [this](const Sym& s) { return program_.at_hints(s); });
    share_rows(program_, schedule_, work_, loops_[all.back()].name);
    kernel.work = std::move(work_);
    return kernel;
  }

 private:
  // A reduction over the outer points: each adds its part to a total, from which `finish` goes on.
  void add_total(TensorId id, const std::vector<std::string>& walks) {
    std::vector<ExprId> reductions;
    collect_reductions(pool_, program_[id].body, reductions);
    TD_CHECK(reductions.size() == 1, "`{}` is not one reduction", loops_[id].name);
    const Expr sum = pool_[reductions[0]];
    std::map<std::string, Sym> renamed;
    for (size_t p = 0; p < walks.size(); ++p) renamed[walks[p]] = work_.outer[p];
    SymList vars, inner;
    LoopTensor total;
    for (const Sym& var : loops_[id].vars) {
      if (var.is_symbol() && extent_of(var) != Sym(1)) {
        vars.push_back(Sym::index(format("v{}", vars.size()), extent_of(var)));
        renamed[var.symbol_name()] = vars.back();
      } else if (var.is_symbol()) {
        renamed[var.symbol_name()] = 0;
      }
    }
    for (const Sym& var : sum.vars)
      if (!renamed.contains(var.symbol_name())) inner.push_back(var);
    TD_CHECK(vars.empty() || inner.empty(), "`{}` reduces over a row and keeps one", loops_[id].name);
    // What is left to reduce inside one outer point comes first.
    ExprId value = sum.args[0];
    if (!inner.empty()) value = add_reduction(pool_.reduce(sum.reduce, inner, value), renamed);
    int target = -1;
    ExprId joined;
    if (!vars.empty() && !work_.phases.empty() && same_vars(work_.phases.back().vars, vars)) {
      target = static_cast<int>(work_.phases.size()) - 1;
      joined = rename(value, renamed, target);
      if (!joined || uses_locals_of(joined, target)) target = -1;
    }
    // What reads nothing of this kernel's own may join any walk over the row.
    for (size_t p = work_.phases.size(); p-- > 0 && target < 0 && !reads_members(value);) {
      if (!same_vars(work_.phases[p].vars, vars)) continue;
      target = static_cast<int>(p);
      joined = rename(value, renamed, target);
    }
    if (target < 0) {
      joined = rename(value, renamed, -1);
      target = static_cast<int>(work_.phases.size()) - 1;
      if (!vars.empty() || target < 0 || !work_.phases.back().vars.empty() || uses_locals_of(joined, target)) {
        work_.phases.push_back({vars, {}, {}});
        ++target;
      }
    }

    total.name = loops_[id].name + ".blocks";
    total.dtype = sum.dtype;
    total.sizes = loops_[id].sizes;
    total.vars = loops_[id].vars;
    total.device = loops_[id].device;
    Place place;
    place.strides = total.strides = contiguous_strides(total.sizes);
    StoreTo store{{}, {}, joined, sum.reduce};
    std::vector<ExprId> own;
    for (const Sym& var : total.vars) {
      store.index.push_back(pool_.index(substitute(var, renamed)));
      own.push_back(pool_.index(var));
    }
    store.tensor = loops_.add(std::move(total));
    program_.items.emplace_back();
    program_.items.back().inlined = true;
    schedule_.places.push_back(std::move(place));
    work_.totals.push_back(store.tensor);
    // In `finish` the reduction is the total.
    program_[id].body =
        replace_exprs(pool_, program_[id].body, {{reductions[0], pool_.load(store.tensor, sum.dtype, std::move(own))}});
    work_.phases[static_cast<size_t>(target)].stores.push_back(std::move(store));
  }

  bool reads_members(ExprId value) const {
    if (pool_.has_kind(value, ExprKind::local)) return true;
    std::vector<ExprId> loads;
    collect_loads(pool_, value, loads);
    return std::any_of(loads.begin(), loads.end(), [&](ExprId load) { return members_.contains(pool_[load].tensor); });
  }

  // What follows from the totals, as a nest without outer loops.
  void finish() {
    Group rest;
    rest.members = group_.finish;
    for (TensorId member : rest.members) rest.outer_dims[member] = {};
    NestBuilder builder(program_, schedule_, rest);
    for (TensorId member : rest.members) builder.add(member);
    TD_CHECK(builder.work_.locals.empty() && builder.work_.rows.empty(), "a finish that is not made of maps");
    work_.finish = std::move(builder.work_.phases);
    int64_t bytes = 1;
    for (TensorId total : work_.totals)
      bytes += program_.at_hints(product(loops_[total].sizes)) * dtype_bytes(loops_[total].dtype);
    work_.blocks = across_blocks(program_.at_hints(product(group_.outer)), bytes);
  }

  struct Member {
    std::vector<int> row_vars;  // positions in Item::vars
    ExprId value;               // over outer variables and row variables v0, v1, … (maps)
    int phase = -1;             // where it is stored, if it is
    bool whole_row = false;     // value depends on row variables
    int64_t cost = 0;
  };

  bool is_outer(TensorId id, int dim) const {
    const std::vector<int>& dims = group_.outer_dims.at(id);
    return std::find(dims.begin(), dims.end(), dim) != dims.end();
  }

  void add(TensorId id) {
    const Item& item = program_[id];
    Member& member = members_[id];
    std::map<std::string, Sym> renamed;
    SymList row_vars;
    const std::vector<int>& outer_dims = group_.outer_dims.at(id);
    for (size_t p = 0; p < outer_dims.size(); ++p) {
      const Sym& var = item.vars[static_cast<size_t>(outer_dims[p])];
      if (var.is_symbol()) renamed[var.symbol_name()] = work_.outer[p];
    }
    for (int v = 0; v < static_cast<int>(item.vars.size()); ++v) {
      const Sym& var = item.vars[static_cast<size_t>(v)];
      if (!var.is_symbol() || renamed.contains(var.symbol_name())) continue;
      const Sym extent = program_.extent(id, v);
      if (extent == Sym(1)) {
        renamed[var.symbol_name()] = 0;
        continue;
      }
      member.row_vars.push_back(v);
      row_vars.push_back(Sym::index(format("v{}", row_vars.size()), extent));
      renamed[var.symbol_name()] = row_vars.back();
    }
    member.whole_row = !member.row_vars.empty();

    ExprId body = item.body;
    std::vector<ExprId> reductions;
    collect_reductions(pool_, body, reductions);
    if (std::any_of(reductions.begin(), reductions.end(), [&](ExprId r) { return pool_[r].kind == ExprKind::scan; }))
      return add_scan(id, reductions, renamed, row_vars);
    std::map<ExprId, ExprId> results;
    for (ExprId reduction : reductions) results[reduction] = add_reduction(reduction, renamed);
    if (!results.empty()) body = replace_exprs(pool_, body, results);

    // Which phase may hold it: the last one, when it walks the same row.
    int target = -1;
    ExprId value;
    if (member.whole_row && !work_.phases.empty() && same_vars(work_.phases.back().vars, row_vars)) {
      target = static_cast<int>(work_.phases.size()) - 1;
      value = rename(body, renamed, target);
      if (!value || uses_locals_of(value, target)) target = -1;
    }
    if (target < 0) value = rename(body, renamed, -1);
    member.value = value;
    member.cost = expression_cost(pool_, value);
    const bool kept = item.stored || (member.whole_row && needed_as_row(id));
    if (!kept) return;
    if (!item.stored) give_row(id);
    if (target < 0) {
      // Stores without a row go where the last such stores are.
      if (!member.whole_row && !work_.phases.empty() && work_.phases.back().vars.empty() &&
          !uses_locals_of(value, static_cast<int>(work_.phases.size()) - 1)) {
        target = static_cast<int>(work_.phases.size()) - 1;
      } else {
        work_.phases.push_back({row_vars, {}, {}});
        target = static_cast<int>(work_.phases.size()) - 1;
      }
    }
    StoreTo store{id, {}, value};
    for (const Sym& index : item.index) store.index.push_back(pool_.index(substitute(index, renamed)));
    work_.phases[static_cast<size_t>(target)].stores.push_back(std::move(store));
    member.phase = target;
  }

  // The reduction as a phase of its own, or part of the last one; returns its result.
  ExprId add_reduction(ExprId reduction, const std::map<std::string, Sym>& renamed) {
    const Expr expr = pool_[reduction];
    TD_CHECK(expr.kind == ExprKind::reduce, "a scan cannot share a kernel");
    std::map<std::string, Sym> names = renamed;
    SymList vars;
    for (const Sym& var : expr.vars) {
      if (!var.is_symbol()) continue;
      vars.push_back(Sym::index(format("v{}", vars.size()), substitute(var.node()->extent, renamed)));
      names[var.symbol_name()] = vars.back();
    }
    int target = -1;
    ExprId value;
    if (!work_.phases.empty() && same_vars(work_.phases.back().vars, vars)) {
      target = static_cast<int>(work_.phases.size()) - 1;
      value = rename(expr.args[0], names, target);
      if (!value || uses_locals_of(value, target)) target = -1;
    }
    if (target < 0) {
      value = rename(expr.args[0], names, -1);
      work_.phases.push_back({vars, {}, {}});
      target = static_cast<int>(work_.phases.size()) - 1;
    }
    Reduction result;
    result.local = static_cast<int32_t>(work_.locals.size());
    result.op = expr.reduce;
    result.value = value;
    result.dtype = expr.dtype;
    work_.locals.push_back(expr.dtype);
    local_phase_.push_back(target);
    work_.phases[static_cast<size_t>(target)].reductions.push_back(result);
    Expr local;
    local.kind = ExprKind::local;
    local.local = result.local;
    local.dtype = expr.dtype;
    return pool_.add(local);
  }

  // Running reductions along the tensor's one row variable, stored as they go.
  void add_scan(TensorId id, const std::vector<ExprId>& scans, const std::map<std::string, Sym>& renamed,
                const SymList& row_vars) {
    TD_CHECK(row_vars.size() == 1, "a scan runs along one dim");
    Phase phase;
    phase.vars = row_vars;
    phase.running = true;
    std::map<ExprId, ExprId> results;
    for (ExprId scan : scans) {
      const Expr expr = pool_[scan];
      TD_CHECK(expr.kind == ExprKind::scan, "a scan and a reduction in one tensor");
      std::map<std::string, Sym> names = renamed;
      if (expr.vars[0].is_symbol()) names[expr.vars[0].symbol_name()] = row_vars[0];
      Reduction reduction;
      reduction.local = static_cast<int32_t>(work_.locals.size());
      reduction.op = expr.reduce;
      reduction.value = rename(expr.args[0], names, -1);
      reduction.dtype = expr.dtype;
      work_.locals.push_back(expr.dtype);
      local_phase_.push_back(static_cast<int>(work_.phases.size()));
      phase.reductions.push_back(reduction);
      Expr local;
      local.kind = ExprKind::local;
      local.local = reduction.local;
      local.dtype = expr.dtype;
      results[scan] = pool_.add(local);
    }
    StoreTo store{id, {}, rename(replace_exprs(pool_, program_[id].body, results), renamed, -1)};
    for (const Sym& index : program_[id].index) store.index.push_back(pool_.index(substitute(index, renamed)));
    phase.stores.push_back(std::move(store));
    work_.phases.push_back(std::move(phase));
  }

  bool same_vars(const SymList& a, const SymList& b) const {
    if (a.size() != b.size() || a.empty()) return false;
    for (size_t i = 0; i < a.size(); ++i)
      if (!a[i].is_symbol() || !b[i].is_symbol() || !proves_eq(a[i].node()->extent, b[i].node()->extent)) return false;
    return true;
  }

  bool uses_locals_of(ExprId value, int phase) const {
    std::set<int32_t> locals, seen;
    collect_locals(pool_, value, locals, seen);
    for (int32_t local : locals)
      if (local_phase_[static_cast<size_t>(local)] == phase) return true;
    return false;
  }

  // The body over kernel variables, with what earlier members computed put in. For a body that joins phase `target`,
  // members stored in that phase must be read at the same element: an invalid id when they are not.
  ExprId rename(ExprId body, const std::map<std::string, Sym>& names, int target) {
    bool possible = true;
    ExprId result = pool_.rewrite(body, names, [&](const Expr& load, const std::vector<ExprId>& index) -> ExprId {
      auto found = members_.find(load.tensor);
      if (found == members_.end() || !found->second.value) return {};
      const Member& member = found->second;
      if (!member.whole_row) return member.value;
      std::map<std::string, Sym> at;
      bool identity = true;
      for (size_t r = 0; r < member.row_vars.size(); ++r) {
        std::optional<Sym> sym = program_.var_at(load.tensor, member.row_vars[r], index);
        if (!sym) {  // at a computed place
          possible &= target < 0 || member.phase != target;
          return {};
        }
        const std::string name = format("v{}", r);
        identity &= sym->is_symbol() && sym->symbol_name() == name;
        at[name] = *sym;
      }
      const bool same_phase = target >= 0 && member.phase == target;
      if (same_phase && !identity) possible = false;
      if (same_phase || member.cost <= recompute_limit) {
        if (!same_phase && member.phase >= 0) return {};  // it is in memory: read it
        return identity ? member.value : pool_.rewrite(member.value, at, nullptr);
      }
      return {};
    });
    return possible ? result : ExprId{};
  }

  // Later members read it, and it costs more than a trip through scratch.
  bool needed_as_row(TensorId id) const {
    const Member& member = members_.at(id);
    for (TensorId reader : program_[id].readers) {
      if (program_[reader].group != program_[id].group) continue;
      if (member.cost > recompute_limit) return true;
      for (const Use& use : program_[reader].uses) {
        if (use.tensor != id) continue;
        for (int v : member.row_vars)
          if (!program_.var_at(id, v, use.index)) return true;  // read at computed indices
      }
    }
    return false;
  }

  // Scratch for one row on the stack where it is surely small, else memory of its own.
  void give_row(TensorId id) {
    const LoopTensor& tensor = loops_[id];
    Member& member = members_[id];
    Sym elements = 1;
    Place place;
    place.strides.assign(tensor.sizes.size(), 0);
    bool split = false;  // part of a dim cannot be a row of its own
    for (size_t r = member.row_vars.size(); r-- > 0;) {
      const Item::Part& part = program_[id].parts[static_cast<size_t>(member.row_vars[r])];
      const size_t d = static_cast<size_t>(part.dim);
      split |= part.divisor != 1 || !part.outermost;
      place.strides[d] = elements;
      elements *= tensor.sizes[d];
    }
    if (!split && range_of(elements).high <= row_elements_limit) {
      work_.rows.push_back(id);
    } else {
      Buffer buffer;
      buffer.name = tensor.name;
      buffer.dtype = tensor.dtype;
      buffer.device = tensor.device;
      buffer.elements = product(tensor.sizes);
      place.strides = contiguous_strides(tensor.sizes);
      place.buffer = schedule_.add(std::move(buffer));
      program_[id].stored = true;
    }
    schedule_.place(id) = std::move(place);
  }

  Program& program_;
  Loops& loops_;
  ExprPool& pool_;
  Schedule& schedule_;
  const Group& group_;
  LoopKernel work_;
  std::map<TensorId, Member> members_;
  std::vector<int> local_phase_;
};

// A contraction whose operands fit no template, as a plain nest: its outputs are the outer dims.
Group as_nest(Program& program, const Group& group) {
  Group nest = group;
  nest.is_template = false;
  nest.flexible = false;
  const TensorId first = group.members[0];
  for (size_t m = 1; m < group.members.size(); ++m) {
    const TensorId member = group.members[m], before = group.members[m - 1];
    std::vector<int> dims;
    for (int d : nest.outer_dims[before]) {
      int found = -1;
      for (const Use& use : program[member].uses) {
        if (use.tensor != before) continue;
        std::string name;
        if (!is_index_symbol(program.pool(), use.index[static_cast<size_t>(d)], &name)) continue;
        const SymList& vars = program.loops[member].vars;
        for (size_t v = 0; v < vars.size(); ++v)
          if (vars[v].is_symbol() && vars[v].symbol_name() == name) found = static_cast<int>(v);
      }
      TD_CHECK(found >= 0, "epilogue `{}` does not follow its product", program.loops[member].name);
      dims.push_back(found);
    }
    nest.outer_dims[member] = dims;
  }
  nest.outer.clear();
  for (int d : nest.outer_dims[first]) nest.outer.push_back(program.loops[first].sizes[static_cast<size_t>(d)]);
  return nest;
}

}  // namespace

Kernel build_nest(Program& program, Schedule& schedule, const Group& group) {
  if (!group.is_template) return NestBuilder(program, schedule, group).build();
  program.say(format("%{} is a plain loop: its operands fit no template", program.loops[group.members[0]].name));
  const Group nest = as_nest(program, group);
  return NestBuilder(program, schedule, nest).build();
}

}  // namespace toroid::fuse
