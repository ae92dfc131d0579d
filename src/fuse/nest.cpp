// A group as a nest of loops: its outer dims, and inside them one phase after another, each a loop over the row. What a
// later phase needs of an earlier one is a local (a reduction's result), an expression computed again, or a row kept in
// scratch.
#include <algorithm>
#include <set>

#include "base/check.h"
#include "fuse/nest_shape.h"
#include "fuse/program.h"

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
    for (TensorId member : group_.members) add(member);
    Kernel kernel;
    kernel.where = loops_[group_.members.back()].where;
    kernel.device = loops_[group_.members.back()].device;
    std::vector<std::string> note;
    for (TensorId member : group_.members) {
      note.push_back(loops_[member].name);
      if (program_[member].stored) kernel.writes.push_back(member);
    }
    kernel.note = join(note, " + ");
    shape_nest(pool_, schedule_, work_, [this](const Sym& s) { return program_.at_hints(s); });
    kernel.work = std::move(work_);
    return kernel;
  }

 private:
  struct Member {
    std::vector<int> row_dims;
    ExprId value;            // over outer variables and row variables v0, v1, … (maps)
    int phase = -1;          // where it is stored, if it is
    bool whole_row = false;  // value depends on row variables
    int64_t cost = 0;
  };

  bool is_outer(TensorId id, int dim) const {
    const std::vector<int>& dims = group_.outer_dims.at(id);
    return std::find(dims.begin(), dims.end(), dim) != dims.end();
  }

  void add(TensorId id) {
    const LoopTensor& tensor = loops_[id];
    const Item& item = program_[id];
    Member& member = members_[id];
    std::map<std::string, Sym> renamed;
    SymList row_vars;
    const std::vector<int>& outer_dims = group_.outer_dims.at(id);
    for (size_t p = 0; p < outer_dims.size(); ++p) {
      const Sym& var = tensor.vars[static_cast<size_t>(outer_dims[p])];
      if (var.is_symbol()) renamed[var.symbol_name()] = work_.outer[p];
    }
    for (size_t d = 0; d < tensor.vars.size(); ++d) {
      const Sym& var = tensor.vars[d];
      if (!var.is_symbol() || renamed.contains(var.symbol_name())) continue;
      if (tensor.sizes[d] == Sym(1)) {
        renamed[var.symbol_name()] = 0;
        continue;
      }
      member.row_dims.push_back(static_cast<int>(d));
      row_vars.push_back(Sym::index(format("v{}", row_vars.size()), tensor.sizes[d]));
      renamed[var.symbol_name()] = row_vars.back();
    }
    member.whole_row = !member.row_dims.empty();

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
    for (const Sym& var : tensor.vars)
      store.index.push_back(pool_.index(var.is_symbol() ? renamed.at(var.symbol_name()) : var));
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
    const LoopTensor& tensor = loops_[id];
    StoreTo store{id, {}, rename(replace_exprs(pool_, program_[id].body, results), renamed, -1)};
    for (const Sym& var : tensor.vars)
      store.index.push_back(pool_.index(var.is_symbol() ? renamed.at(var.symbol_name()) : var));
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
      for (size_t r = 0; r < member.row_dims.size(); ++r) {
        std::optional<Sym> sym = pool_.as_index(index[static_cast<size_t>(member.row_dims[r])]);
        if (!sym) return {};
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
        for (int d : member.row_dims)
          if (!pool_.as_index(use.index[static_cast<size_t>(d)])) return true;  // read at computed indices
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
    for (size_t r = member.row_dims.size(); r-- > 0;) {
      const size_t d = static_cast<size_t>(member.row_dims[r]);
      place.strides[d] = elements;
      elements *= tensor.sizes[d];
    }
    if (range_of(elements).high <= row_elements_limit) {
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
