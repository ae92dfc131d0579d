// Totals over outer points pay where they stay near, and where combining them costs less than what is saved.
#include "fuse/across.h"

#include <algorithm>
#include <set>

namespace toroid::fuse {
namespace {

constexpr int64_t spread_limit = 64 << 10;  // elements of a reduction that are worth several threads

// Sets `walk` to the reduction's variable that `at` is, or compares with what it was before.
bool note_walk(std::string& walk, const Expr& sum, const std::optional<Sym>& at) {
  if (!at || !at->is_symbol() || (!walk.empty() && walk != at->symbol_name())) return false;
  walk = at->symbol_name();
  return std::any_of(sum.vars.begin(), sum.vars.end(),
                     [&](const Sym& var) { return var.is_symbol() && var.symbol_name() == walk; });
}

// Where a group reads a tensor at its outer variables, those of the reduction's that stand in the same places. Gives
// the bytes that one pass less over the tensor saves.
int64_t shared_walks(Program& program, const Group& target, const Expr& load, const Expr& sum,
                     std::vector<std::string>& walks) {
  bool shared = false;
  auto compare = [&](const std::vector<ExprId>& index, const std::vector<std::string>& names) {
    shared = true;
    for (size_t p = 0; p < walks.size(); ++p)
      for (size_t k = 0; k < index.size(); ++k) {
        std::string name;
        if (!is_index_symbol(program.pool(), index[k], &name) || name != names[p]) continue;
        if (!is_index_symbol(program.pool(), load.args[k], &name)) continue;
        for (const Sym& var : sum.vars)
          if (var.is_symbol() && var.symbol_name() == name && walks[p].empty()) walks[p] = name;
      }
  };
  for (const auto& [member, dims] : target.outer_dims) {
    std::vector<std::string> names;
    for (int d : dims) names.push_back(program[member].vars[static_cast<size_t>(d)].symbol_name());
    for (const Use& use : program[member].uses)
      if (use.tensor == load.tensor) compare(use.index, names);
  }
  for (const auto& [member, names] : target.across)
    for (const Use& use : program[member].uses)
      if (use.tensor == load.tensor) compare(use.index, names);
  return shared ? program.elements_at_hints(load.tensor) * dtype_bytes(program.loops[load.tensor].dtype) : 0;
}

// The last variable that the tensor keeps walks the elements of its largest operand one by one.
bool walks_rows(Program& program, TensorId id, const Expr& sum) {
  std::vector<ExprId> loads;
  collect_loads(program.pool(), sum.args[0], loads);
  int64_t most = 0;
  bool rows = false;
  for (ExprId load : loads) {
    const Expr& expr = program.pool()[load];
    const LoopTensor& tensor = program.loops[expr.tensor];
    const int64_t elements = program.elements_at_hints(expr.tensor);
    if (elements <= most || tensor.sizes.empty()) continue;
    most = elements;
    std::string name;
    rows = is_index_symbol(program.pool(), expr.args.back(), &name);
    const std::vector<int> own = real_dims(program, id);
    rows = rows && !own.empty() && program[id].vars[static_cast<size_t>(own.back())].symbol_name() == name;
    // As it lies in memory.
    if (tensor.strides.size() == tensor.sizes.size()) rows = rows && tensor.strides.back() == Sym(1);
  }
  return rows;
}

// Totals stay near, combining them costs little beside what is saved, and they are over a row or over nothing.
bool totals_pay(Program& program, TensorId id, const Expr& sum, const std::vector<std::string>& walks, int64_t points,
                int64_t saved) {
  const int64_t bytes = program.elements_at_hints(id) * dtype_bytes(sum.dtype);
  const bool keeps = program.elements_at_hints(id) > 1;
  if (keeps && (sum.vars.size() != walks.size() || !walks_rows(program, id, sum))) return false;
  return points >= 16 && bytes <= row_bytes_limit && 2 * bytes * across_blocks(points, bytes) <= saved;
}

// A sum over one long line becomes a sum over pieces of it.
void split_line(Program& program, TensorId id) {
  std::vector<ExprId> reductions;
  ExprPool& pool = program.pool();
  collect_reductions(pool, program[id].body, reductions);
  if (reductions.size() != 1 || program.elements_at_hints(id) > 1) return;
  const Expr sum = pool[reductions[0]];
  if (sum.kind != ExprKind::reduce || sum.vars.size() != 1 || !sum.vars[0].is_symbol()) return;
  const std::optional<int64_t> extent = extent_of(sum.vars[0]).constant();
  if (!extent || *extent < spread_limit || sum.reduce == ReduceOp::argmin || sum.reduce == ReduceOp::argmax) return;
  int64_t piece = 8192;
  while (piece >= 256 && *extent % piece) --piece;
  if (piece < 256) return;
  const Sym high = pool.fresh(*extent / piece), low = pool.fresh(piece);
  const ExprId body = pool.rewrite(sum.args[0], {{sum.vars[0].symbol_name(), high * Sym(piece) + low}});
  program[id].body =
      replace_exprs(pool, program[id].body, {{reductions[0], pool.reduce(sum.reduce, {high, low}, body)}});
}

}  // namespace

ExprId lone_reduction(Program& program, const Group& g) {
  std::vector<ExprId> reductions;
  collect_reductions(program.pool(), program[g.members[0]].body, reductions);
  if (reductions.size() != 1) return {};
  const Expr& sum = program.pool()[reductions[0]];
  if (sum.kind != ExprKind::reduce || sum.reduce == ReduceOp::argmin || sum.reduce == ReduceOp::argmax) return {};
  if (program[g.members[0]].vars.size() != program.loops[g.members[0]].vars.size()) return {};
  const int32_t own = program[g.members[0]].group;
  for (size_t m = 0; m < g.members.size(); ++m) {
    if (program.elements_at_hints(g.members[m]) > finish_limit) return {};
    if (m > 0 && program[g.members[m]].kind != Kind::map) return {};
    std::vector<ExprId> loads;
    ExprId rest = program[g.members[m]].body;
    if (m == 0) rest = replace_exprs(program.pool(), rest, {{reductions[0], program.pool().constant(0, DType::f32)}});
    collect_loads(program.pool(), rest, loads);
    for (ExprId load : loads)
      if (m == 0 && program[program.pool()[load].tensor].group >= 0 &&
          program[program.pool()[load].tensor].group != own)
        return {};
  }
  return reductions[0];
}

std::optional<std::vector<std::string>> walks_of_outer(Program& program, int32_t to, TensorId id, ExprId reduction) {
  const Group& target = program.groups[static_cast<size_t>(to)];
  const Expr& sum = program.pool()[reduction];
  std::vector<ExprId> loads;
  collect_loads(program.pool(), sum.args[0], loads);
  std::vector<std::string> walks(target.outer.size());
  int64_t saved = 0;
  bool member_read = false;
  for (ExprId load : loads) {
    const Expr& expr = program.pool()[load];
    if (program[expr.tensor].group != to) continue;
    member_read = true;
    const std::vector<int>& outer = target.outer_dims.at(expr.tensor);
    for (size_t p = 0; p < outer.size(); ++p) {
      std::optional<Sym> at = program.var_at(expr.tensor, outer[p], expr.args);
      if (!note_walk(walks[p], sum, at)) return std::nullopt;
    }
    saved += program.elements_at_hints(expr.tensor) * dtype_bytes(program.loops[expr.tensor].dtype);
  }
  if (!member_read)
    for (ExprId load : loads) saved += shared_walks(program, target, program.pool()[load], sum, walks);
  // Any number of leading dims may become the outer ones of a group of maps.
  size_t found = 0;
  while (found < walks.size() && !walks[found].empty()) ++found;
  if (found == 0 || (found < walks.size() && !target.flexible)) return std::nullopt;
  for (size_t p = found; p < walks.size(); ++p)
    if (!walks[p].empty()) return std::nullopt;
  walks.resize(found);
  if (std::set<std::string>(walks.begin(), walks.end()).size() != found) return std::nullopt;
  int64_t points = 1;
  for (size_t p = 0; p < found; ++p) {
    for (const Sym& var : sum.vars)
      if (var.symbol_name() == walks[p] && !proves_eq(extent_of(var), target.outer[p])) return std::nullopt;
    points *= program.at_hints(target.outer[p]);
  }
  if (!totals_pay(program, id, sum, walks, points, saved)) return std::nullopt;
  return walks;
}

void spread(Program& program, Group& g) {
  if (g.members.empty() || g.is_template || g.closed || g.flexible || !g.finish.empty()) return;
  const TensorId id = g.members[0];
  split_line(program, id);
  const ExprId reduction = lone_reduction(program, g);
  if (!reduction || !(program.loops[id].device == Device{})) return;
  const Expr& sum = program.pool()[reduction];
  const int64_t kept = program.elements_at_hints(id);
  int64_t reduced = 1;
  for (const Sym& var : sum.vars) reduced *= program.at_hints(extent_of(var));
  if (kept * reduced < spread_limit) return;
  Group wide;
  std::vector<std::string> walks;
  int64_t points = 1;
  for (const Sym& var : sum.vars) {
    if (kept == 1 && (points >= 64 || &var == &sum.vars.back())) break;
    walks.push_back(var.symbol_name());
    wide.outer.push_back(extent_of(var));
    points *= program.at_hints(extent_of(var));
  }
  // Columns of one row after another; a reduction whose rows lie together is well as it is, when there are enough.
  if (kept >= 4096) return;
  if (!totals_pay(program, id, sum, walks, points, kept * reduced * dtype_bytes(sum.dtype))) return;
  wide.flexible = false;
  wide.finish = g.members;
  wide.across[id] = walks;
  g = std::move(wide);
}

}  // namespace toroid::fuse
