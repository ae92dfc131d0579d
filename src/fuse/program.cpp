// Helpers over expressions and tensors that the steps of fusion share.
#include "fuse/program.h"

#include <functional>
#include <unordered_map>
#include <unordered_set>

#include "base/check.h"

namespace toroid::fuse {

int64_t Program::at_hints(const Sym& sym) const {
  if (sym.is_constant()) return sym.value();
  std::map<std::string, int64_t> values = hint_values;
  std::set<std::string> names;
  collect_symbols(sym, names);
  for (const std::string& name : names) values.emplace(name, 1);
  return std::max<int64_t>(evaluate(sym, values), 0);
}

int64_t Program::elements_at_hints(TensorId id) const { return at_hints(product(loops[id].sizes)); }

Sym Program::extent(TensorId id, int var) const {
  const Sym& symbol = (*this)[id].vars[static_cast<size_t>(var)];
  return symbol.is_symbol() ? extent_of(symbol) : Sym(1);
}

std::optional<Sym> Program::var_at(TensorId id, int var, const std::vector<ExprId>& index) const {
  const Item::Part& part = (*this)[id].parts[static_cast<size_t>(var)];
  std::optional<Sym> at = loops.pool.as_index(index[static_cast<size_t>(part.dim)]);
  if (!at) return std::nullopt;
  const Sym value = floor_div(*at, part.divisor);
  return part.outermost ? value : mod(value, extent(id, var));
}

void Program::split_var(TensorId id, int var, int64_t divisor) {
  Item& item = (*this)[id];
  const size_t at = static_cast<size_t>(var);
  const Sym old = item.vars[at], whole = extent_of(old);
  TD_CHECK(mod(whole, divisor) == Sym(0), "`{}` is split by {}", loops[id].name, divisor);
  const std::string name = old.symbol_name();
  const Sym high = Sym::index(name + "h", floor_div(whole, divisor)), low = Sym::index(name + "l", divisor);
  const std::map<std::string, Sym> values = {{name, high * Sym(divisor) + low}};
  item.body = loops.pool.rewrite(item.body, values, nullptr);
  for (Sym& index : item.index) index = substitute(index, values);
  item.vars[at] = high;
  item.vars.insert(item.vars.begin() + var + 1, low);
  Item::Part low_part = item.parts[at];
  low_part.outermost = false;
  item.parts[at].divisor *= divisor;
  item.parts.insert(item.parts.begin() + var + 1, low_part);
  item.uses.clear();
  std::vector<ExprId> loads;
  collect_loads(loops.pool, item.body, loads);
  for (ExprId load : loads) item.uses.push_back({loops.pool[load].tensor, loops.pool[load].args});
  for (TensorId read : symbol_sources[static_cast<size_t>(id.index)]) item.uses.push_back({read, {}});
}

// Of its sizes, of its body as inlining left it, of its call.
void Program::find_symbol_sources() {
  symbol_sources.assign(loops.tensors.size(), {});
  if (loops.symbol_reads.empty()) return;
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    const LoopTensor& tensor = loops.tensors[i];
    std::set<std::string> names;
    for (const Sym& size : tensor.sizes) collect_symbols(size, names);
    if (items[i].body)
      for (std::string& name : loops.pool.free_symbols(items[i].body)) names.insert(std::move(name));
    if (items[i].kind == Kind::call) collect_call_symbols(loops[tensor.call], names);
    for (const SymbolRead& read : loops.symbol_reads)
      if (names.contains(read.symbol)) symbol_sources[i].push_back(read.tensor);
  }
}

void Program::find_uses() {
  find_symbol_sources();
  for (Item& item : items) item.readers.clear();
  for (size_t i = 0; i < items.size(); ++i) {
    Item& item = items[i];
    item.uses.clear();
    if (item.kind == Kind::source || item.inlined) continue;
    const TensorId own{static_cast<int32_t>(i)};
    std::vector<ExprId> loads;
    if (item.body) collect_loads(loops.pool, item.body, loads);
    for (ExprId load : loads) item.uses.push_back({loops.pool[load].tensor, loops.pool[load].args});
    // Whole tensors, without indices: what a call takes, and what must be there before a size is known.
    if (item.kind == Kind::call)
      for (TensorId operand : loops[loops[own].call].operands) item.uses.push_back({operand, {}});
    for (TensorId read : symbol_sources[i]) item.uses.push_back({read, {}});
    std::set<TensorId> seen;
    for (const Use& use : item.uses)
      if (seen.insert(use.tensor).second) (*this)[use.tensor].readers.push_back(own);
  }
}

namespace {
template <class F>
void visit(const ExprPool& pool, ExprId root, F&& f) {
  std::unordered_set<int32_t> seen;
  std::function<void(ExprId)> walk = [&](ExprId id) {
    if (!seen.insert(id.index).second) return;
    f(id);
    const std::vector<ExprId> args = pool[id].args;
    for (ExprId arg : args) walk(arg);
  };
  walk(root);
}
}  // namespace

void collect_loads(const ExprPool& pool, ExprId root, std::vector<ExprId>& loads) {
  visit(pool, root, [&](ExprId id) {
    if (pool[id].kind == ExprKind::load) loads.push_back(id);
  });
}

void collect_reductions(const ExprPool& pool, ExprId root, std::vector<ExprId>& reductions) {
  visit(pool, root, [&](ExprId id) {
    if (pool[id].kind == ExprKind::reduce || pool[id].kind == ExprKind::scan) reductions.push_back(id);
  });
}

ExprId replace_exprs(ExprPool& pool, ExprId root, const std::map<ExprId, ExprId>& replacements) {
  std::unordered_map<int32_t, ExprId> done;
  std::function<ExprId(ExprId)> walk = [&](ExprId id) -> ExprId {
    if (auto found = replacements.find(id); found != replacements.end()) return found->second;
    if (auto found = done.find(id.index); found != done.end()) return found->second;
    Expr expr = pool[id];
    bool changed = false;
    for (ExprId& arg : expr.args) {
      ExprId replaced = walk(arg);
      changed |= replaced != arg;
      arg = replaced;
    }
    ExprId result = changed ? pool.add(std::move(expr)) : id;
    done.emplace(id.index, result);
    return result;
  };
  return walk(root);
}

int64_t expression_cost(const ExprPool& pool, ExprId root) {
  int64_t cost = 0;
  visit(pool, root, [&](ExprId id) {
    const Expr& expr = pool[id];
    if (expr.kind == ExprKind::reduce || expr.kind == ExprKind::scan) cost += 100;
    if (expr.kind != ExprKind::op) return;
    switch (expr.op) {
      case ScalarOp::add:
      case ScalarOp::sub:
      case ScalarOp::mul:
      case ScalarOp::neg:
      case ScalarOp::abs:
      case ScalarOp::min:
      case ScalarOp::max:
      case ScalarOp::fmin:
      case ScalarOp::fmax:
      case ScalarOp::fma:
      case ScalarOp::eq:
      case ScalarOp::ne:
      case ScalarOp::lt:
      case ScalarOp::le:
      case ScalarOp::gt:
      case ScalarOp::ge:
      case ScalarOp::land:
      case ScalarOp::lor:
      case ScalarOp::lxor:
      case ScalarOp::lnot:
      case ScalarOp::band:
      case ScalarOp::bor:
      case ScalarOp::bxor:
      case ScalarOp::bnot:
      case ScalarOp::shl:
      case ScalarOp::shr:
      case ScalarOp::where:
      case ScalarOp::cvt:
      case ScalarOp::round_to:
      case ScalarOp::floor:
      case ScalarOp::ceil:
      case ScalarOp::trunc:
      case ScalarOp::round:
      case ScalarOp::check_index:
      case ScalarOp::check_divisor:
      case ScalarOp::isnan: cost += 1; break;
      case ScalarOp::div:
      case ScalarOp::sqrt:
      case ScalarOp::rsqrt: cost += 4; break;
      default: cost += 10; break;
    }
  });
  return cost;
}

int64_t across_blocks(int64_t points, int64_t bytes) {
  // A row of totals is cleared and combined for each block, so that a block should have points enough.
  int64_t blocks = std::clamp<int64_t>(bytes <= 256 ? points / 4 : points / 16, 1, 32);
  while (blocks > 4 && blocks * bytes > (1 << 20)) blocks /= 2;
  return blocks;
}

bool is_index_symbol(const ExprPool& pool, ExprId id, std::string* name) {
  const Expr& expr = pool[id];
  if (expr.kind != ExprKind::index || !expr.sym.is_symbol()) return false;
  if (name) *name = expr.sym.symbol_name();
  return true;
}

std::vector<int> real_dims(const Program& program, TensorId id) {
  std::vector<int> dims;
  for (int v = 0; v < static_cast<int>(program[id].vars.size()); ++v)
    if (program.extent(id, v) != Sym(1)) dims.push_back(v);
  return dims;
}

}  // namespace toroid::fuse
