// The expression pool: finds equal expressions, builds reduces with canonical variable names, rewrites.
#include <algorithm>
#include <bit>

#include "base/check.h"
#include "loop/loops.h"

namespace toroid {
namespace {

struct ScalarRow {
  const char* name;
  int args;
  ScalarType type;
};
constexpr ScalarRow scalar_rows[] = {
#define SCALAR_OP(name, args, type) {#name, args, ScalarType::type},
#include "loop/scalar_ops.def"
#undef SCALAR_OP
};
constexpr const char* reduce_names[] = {"sum", "prod", "min", "max", "any", "all", "argmin", "argmax"};

void mix(size_t& hash, size_t value) { hash = (hash ^ value) * 0x9e3779b97f4a7c15u + (hash >> 29); }

size_t hash_of(const Expr& e) {
  size_t hash = static_cast<size_t>(e.kind);
  mix(hash, static_cast<size_t>(e.dtype));
  mix(hash, std::bit_cast<uint64_t>(e.number));
  mix(hash, e.sym.hash());
  mix(hash, static_cast<size_t>(e.op) << 16 | static_cast<size_t>(e.rounding) << 8 | static_cast<size_t>(e.reduce));
  mix(hash, static_cast<size_t>(e.tensor.index));
  mix(hash, static_cast<size_t>(e.local));
  for (ExprId arg : e.args) mix(hash, static_cast<size_t>(arg.index));
  for (const Sym& var : e.vars) mix(hash, var.hash());
  return hash;
}

// Numbers by their bits, so that 0.0 and -0.0 differ and NaN equals itself.
bool same(const Expr& a, const Expr& b) {
  return a.kind == b.kind && a.dtype == b.dtype &&
         std::bit_cast<uint64_t>(a.number) == std::bit_cast<uint64_t>(b.number) && a.op == b.op &&
         a.rounding == b.rounding && a.reduce == b.reduce && a.tensor == b.tensor && a.local == b.local &&
         a.args == b.args && a.sym == b.sym && a.vars == b.vars;
}

std::string bound_name(int32_t number) { return format("j{}", number); }

}  // namespace

const char* scalar_op_name(ScalarOp op) { return scalar_rows[static_cast<size_t>(op)].name; }
int scalar_op_args(ScalarOp op) { return scalar_rows[static_cast<size_t>(op)].args; }
ScalarType scalar_op_type(ScalarOp op) { return scalar_rows[static_cast<size_t>(op)].type; }
std::optional<ScalarOp> scalar_op_from_name(std::string_view name) {
  for (size_t i = 0; i < std::size(scalar_rows); ++i)
    if (name == scalar_rows[i].name) return static_cast<ScalarOp>(i);
  return std::nullopt;
}
const char* reduce_op_name(ReduceOp op) { return reduce_names[static_cast<size_t>(op)]; }
std::optional<ReduceOp> reduce_op_from_name(std::string_view name) {
  for (size_t i = 0; i < std::size(reduce_names); ++i)
    if (name == reduce_names[i]) return static_cast<ReduceOp>(i);
  return std::nullopt;
}
DType register_type(DType dtype) {
  return is_low_precision(dtype) ? DType::f32 : dtype == DType::c32 ? DType::c64 : dtype;
}
Sym extent_of(const Sym& var) {
  TD_CHECK(var.is_symbol(), "`{}` is not an index variable", to_string(var));
  return var.node()->extent;
}

ExprId ExprPool::add(Expr expr) {
  size_t hash = hash_of(expr);
  auto [first, last] = by_hash_.equal_range(hash);
  for (auto it = first; it != last; ++it)
    if (same(exprs_[static_cast<size_t>(it->second)], expr)) return {it->second};
  const ExprId id{static_cast<int32_t>(exprs_.size())};
  info_.push_back(describe(expr));
  exprs_.push_back(std::move(expr));
  by_hash_.emplace(hash, id.index);
  return id;
}

ExprPool::Info ExprPool::describe(const Expr& e) {
  Info info;
  info.kinds = static_cast<uint8_t>(1u << static_cast<unsigned>(e.kind));
  std::set<std::string> names;
  if (e.kind == ExprKind::index) collect_symbols(e.sym, names);
  for (size_t i = 0; i < e.args.size(); ++i) {
    const Info& arg = info_[static_cast<size_t>(e.args[i].index)];
    info.kinds |= arg.kinds;
    info.height = std::max(info.height, arg.height);
    std::vector<int32_t> free = arg.free;
    // A scan's second argument stands outside the binder.
    if (i == 0)
      for (const Sym& var : e.vars) std::erase(free, name_id(var.symbol_name()));
    std::vector<int32_t> both;
    std::set_union(info.free.begin(), info.free.end(), free.begin(), free.end(), std::back_inserter(both));
    info.free = std::move(both);
  }
  for (const Sym& var : e.vars) {
    collect_symbols(extent_of(var), names);
    const std::string& name = var.symbol_name();
    TD_CHECK(name[0] == 'j', "a binder of `{}`, not made by reduce or scan", name);
    info.height = std::max(info.height, static_cast<int32_t>(std::stoi(name.substr(1))) + 1);
  }
  for (const std::string& name : names) {
    int32_t id = name_id(name);
    auto at = std::lower_bound(info.free.begin(), info.free.end(), id);
    if (at == info.free.end() || *at != id) info.free.insert(at, id);
  }
  return info;
}

int32_t ExprPool::name_id(const std::string& name) {
  auto [it, added] = name_ids_.emplace(name, static_cast<int32_t>(names_.size()));
  if (added) names_.push_back(name);
  return it->second;
}

bool ExprPool::is_free(int32_t name, ExprId id) const {
  const std::vector<int32_t>& free = info_[static_cast<size_t>(id.index)].free;
  return std::binary_search(free.begin(), free.end(), name);
}

std::vector<std::string> ExprPool::free_symbols(ExprId id) const {
  std::vector<std::string> names;
  for (int32_t name : info_[static_cast<size_t>(id.index)].free) names.push_back(names_[static_cast<size_t>(name)]);
  std::sort(names.begin(), names.end());
  return names;
}

bool ExprPool::depends_on(ExprId id, const std::string& symbol) const {
  auto it = name_ids_.find(symbol);
  return it != name_ids_.end() && is_free(it->second, id);
}

bool ExprPool::has_kind(ExprId id, ExprKind kind) const {
  return info_[static_cast<size_t>(id.index)].kinds >> static_cast<unsigned>(kind) & 1;
}

std::vector<ExprId> ExprPool::postorder(const std::vector<ExprId>& roots) const {
  std::vector<ExprId> order;
  std::unordered_map<int32_t, bool> seen;
  std::vector<std::pair<ExprId, size_t>> stack;
  for (ExprId root : roots) {
    if (!seen.emplace(root.index, true).second) continue;
    stack.emplace_back(root, 0);
    while (!stack.empty()) {
      auto& [id, next] = stack.back();
      const std::vector<ExprId>& args = (*this)[id].args;
      if (next == args.size()) {
        order.push_back(id);
        stack.pop_back();
      } else if (ExprId arg = args[next++]; seen.emplace(arg.index, true).second) {
        stack.emplace_back(arg, 0);
      }
    }
  }
  return order;
}

Sym ExprPool::fresh(const Sym& extent) { return Sym::index(format("${}", fresh_count_++), extent); }

ExprId ExprPool::load(TensorId tensor, DType dtype, std::vector<ExprId> indices) {
  for (ExprId index : indices)
    TD_CHECK((*this)[index].dtype == DType::i64, "an index of type {}", dtype_name((*this)[index].dtype));
  Expr e{.kind = ExprKind::load, .dtype = register_type(dtype)};
  e.tensor = tensor;
  e.args = std::move(indices);
  return add(std::move(e));
}

// Gives the variables their canonical names and renames them in the body. First all get fresh names, so that inner
// binders, rebuilt on the way, settle on the lowest names; then the names above those are free for the outer variables.
SymList ExprPool::bind(SymList vars, ExprId& body) {
  auto named_from = [&](int32_t start) {
    SymList named;
    for (size_t k = 0; k < vars.size(); ++k)
      named.push_back(Sym::index(bound_name(start + static_cast<int32_t>(k)), extent_of(vars[k])));
    return named;
  };
  auto rename = [&](const SymList& to) {
    std::map<std::string, Sym> names;
    for (size_t k = 0; k < vars.size(); ++k) names.emplace(vars[k].symbol_name(), to[k]);
    body = rewrite(body, names);
    vars = to;
  };
  auto height = [&] { return info_[static_cast<size_t>(body.index)].height; };
  if (SymList named = named_from(height()); named == vars) return vars;
  SymList temporary;
  for (const Sym& var : vars) temporary.push_back(fresh(extent_of(var)));
  rename(temporary);
  int32_t start = height();
  for (size_t k = 0; k < vars.size();) {
    if (depends_on(body, bound_name(start + static_cast<int32_t>(k)))) {
      start += static_cast<int32_t>(k) + 1;
      k = 0;
    } else {
      ++k;
    }
  }
  rename(named_from(start));
  return vars;
}

ExprId ExprPool::reduce(ReduceOp op, SymList vars, ExprId body) {
  if (is_complex((*this)[body].dtype)) {
    if (op != ReduceOp::sum) refuse(format("`{}` over complex numbers", reduce_op_name(op)));
    const ExprId re = real(body), im = imag(body);
    const ExprId sum = reduce(op, vars, re);
    return pair(sum, reduce(op, vars, im));
  }
  const bool logical = op == ReduceOp::any || op == ReduceOp::all;
  const bool position = op == ReduceOp::argmin || op == ReduceOp::argmax;
  const DType type = (*this)[body].dtype;
  TD_CHECK(logical == is_bool(type) || position || op == ReduceOp::min || op == ReduceOp::max, "{} over {}",
           reduce_op_name(op), dtype_name(type));
  std::map<std::string, Sym> single;
  for (const Sym& var : vars)
    if (proves_eq(extent_of(var), 1)) single.emplace(var.symbol_name(), 0);
  if (!single.empty()) {
    body = rewrite(body, single);
    std::erase_if(vars, [&](const Sym& var) { return single.contains(var.symbol_name()); });
  }
  if (vars.empty()) return position ? index(0) : body;
  Expr e{.kind = ExprKind::reduce, .dtype = position ? DType::i64 : type};
  e.reduce = op;
  e.vars = bind(std::move(vars), body);
  e.args = {body};
  return add(std::move(e));
}

ExprId ExprPool::scan(ReduceOp op, const Sym& var, ExprId body, ExprId at) {
  TD_CHECK((*this)[at].dtype == DType::i64, "a scan is read at an index of type i64");
  if (is_complex((*this)[body].dtype)) {
    if (op != ReduceOp::sum) refuse(format("a running `{}` of complex numbers", reduce_op_name(op)));
    const ExprId re = real(body), im = imag(body);
    const ExprId sum = scan(op, var, re, at);
    return pair(sum, scan(op, var, im, at));
  }
  const bool position = op == ReduceOp::argmin || op == ReduceOp::argmax;
  Expr e{.kind = ExprKind::scan, .dtype = position ? DType::i64 : (*this)[body].dtype};
  e.reduce = op;
  e.vars = bind({var}, body);
  e.args = {body, at};
  return add(std::move(e));
}

ExprId ExprPool::routine(int32_t number, DType dtype, std::vector<ExprId> args) {
  Expr e{.kind = ExprKind::routine, .dtype = register_type(dtype)};
  e.local = number;
  e.args = std::move(args);
  return add(std::move(e));
}

// One rewrite. A binder opens a scope with its own substitution and memo; what does not depend on its variables is
// rewritten, and remembered, in the scope outside.
struct Rewriter {
  using OnLoad = std::function<ExprId(const Expr&, const std::vector<ExprId>&)>;
  struct Scope {
    const Scope* outer = nullptr;
    std::vector<int32_t> bound;
    std::map<std::string, Sym> symbols;
    std::map<std::string, ExprId> exprs;  // for symbols whose value is no index expression
    std::vector<int32_t> replaced;        // the names of both
    mutable std::unordered_map<int32_t, ExprId> memo;
  };
  ExprPool& pool;
  const OnLoad& on_load;

  void list_names(Scope& scope) {
    for (const auto& [name, value] : scope.symbols) scope.replaced.push_back(pool.name_id(name));
    for (const auto& [name, value] : scope.exprs) scope.replaced.push_back(pool.name_id(name));
  }

  bool touches(ExprId id, const Scope& scope) const {
    auto uses = [&](int32_t name) { return pool.is_free(name, id); };
    return (on_load && pool.has_kind(id, ExprKind::load)) || std::ranges::any_of(scope.replaced, uses);
  }

  ExprId visit(ExprId id, const Scope* scope) {
    auto uses = [&](int32_t name) { return pool.is_free(name, id); };
    while (scope->outer && std::none_of(scope->bound.begin(), scope->bound.end(), uses)) scope = scope->outer;
    if (auto it = scope->memo.find(id.index); it != scope->memo.end()) return it->second;
    const Expr& e = pool[id];
    ExprId result = touches(id, *scope) ? rebuild(id, e, *scope) : id;
    scope->memo.emplace(id.index, result);
    return result;
  }

  ExprId rebuild(ExprId id, const Expr& e, const Scope& scope) {
    if (e.kind == ExprKind::constant) return id;
    if (e.kind == ExprKind::index) return index(e.sym, scope);
    if (e.kind == ExprKind::reduce || e.kind == ExprKind::scan) {
      Scope inner{&scope, {}, scope.symbols, scope.exprs, {}, {}};
      SymList vars;
      for (const Sym& var : e.vars) {
        const std::string& name = var.symbol_name();
        vars.push_back(pool.fresh(toroid::substitute(extent_of(var), scope.symbols)));
        inner.bound.push_back(pool.name_id(name));
        inner.exprs.erase(name);
        inner.symbols.insert_or_assign(name, vars.back());
      }
      list_names(inner);
      ExprId body = visit(e.args[0], &inner);
      if (e.kind == ExprKind::reduce) return pool.reduce(e.reduce, std::move(vars), body);
      return pool.scan(e.reduce, vars[0], body, visit(e.args[1], &scope));
    }
    if (e.kind == ExprKind::routine) return routine(e, scope);
    std::vector<ExprId> args;
    for (ExprId arg : e.args) args.push_back(visit(arg, &scope));
    if (e.kind == ExprKind::load && on_load)
      if (ExprId replaced = on_load(e, args)) return replaced;
    if (args == e.args) return id;
    if (e.kind == ExprKind::op) {
      if (e.op == ScalarOp::cvt) return pool.cvt(args[0], e.dtype);
      if (e.op == ScalarOp::round_to) return pool.round_to(args[0], e.rounding);
      if (e.op == ScalarOp::bitcast) return pool.bitcast(args[0], e.dtype);
      return pool.op(e.op, std::move(args));
    }
    Expr copy = e;
    copy.args = std::move(args);
    return pool.add(std::move(copy));
  }

  // A routine reads whole tensors: a load may become one of another tensor, nothing else.
  ExprId routine(const Expr& e, const Scope& scope) {
    Expr copy = e;
    for (ExprId& arg : copy.args) {
      const Expr& input = pool[arg];
      if (input.kind != ExprKind::load) {
        arg = visit(arg, &scope);
      } else if (on_load) {
        ExprId replaced = on_load(input, input.args);
        if (replaced.valid() && pool[replaced].kind == ExprKind::load && pool[replaced].args == input.args)
          arg = replaced;
      }
    }
    return pool.add(std::move(copy));
  }

  ExprId index(const Sym& a, const Scope& scope) {
    bool plain = true;
    for (const auto& [name, expr] : scope.exprs) plain = plain && !toroid::depends_on(a, name);
    if (plain) return pool.index(toroid::substitute(a, scope.symbols));
    if (a.is_symbol()) return scope.exprs.at(a.symbol_name());
    auto arg = [&](size_t i) { return index(a.args()[i], scope); };
    auto binary = [&](ScalarOp op) { return pool.op(op, {arg(0), arg(1)}); };
    auto number = [&](ExprId truth) { return pool.cvt(truth, DType::i64); };
    auto truth = [&](size_t i) { return pool.cvt(arg(i), DType::b8); };
    switch (a.kind()) {
      case SymKind::sum: {
        ExprId total = pool.index(a.constant_part());
        for (const Sym::Term& term : a.terms()) {
          ExprId product = pool.index(term.coefficient);
          for (const Sym& atom : term.atoms) product = pool.op(ScalarOp::mul, {product, index(atom, scope)});
          total = pool.op(ScalarOp::add, {total, product});
        }
        return total;
      }
      case SymKind::floordiv: return binary(ScalarOp::floordiv);
      case SymKind::mod: return binary(ScalarOp::remainder);
      case SymKind::min: return binary(ScalarOp::min);
      case SymKind::max: return binary(ScalarOp::max);
      case SymKind::eq: return number(binary(ScalarOp::eq));
      case SymKind::lt: return number(binary(ScalarOp::lt));
      case SymKind::le: return number(binary(ScalarOp::le));
      case SymKind::both: return number(pool.op(ScalarOp::land, {truth(0), truth(1)}));
      case SymKind::either: return number(pool.op(ScalarOp::lor, {truth(0), truth(1)}));
      case SymKind::invert: return number(pool.op(ScalarOp::lnot, {truth(0)}));
      case SymKind::choose: return pool.op(ScalarOp::where, {truth(0), arg(1), arg(2)});
      default: TD_CHECK(false, "`{}` cannot depend on data", to_string(a));
    }
    return {};
  }
};

ExprId ExprPool::rewrite(ExprId id, const std::map<std::string, Sym>& symbols,
                         const std::function<ExprId(const Expr& load, const std::vector<ExprId>& indices)>& on_load) {
  Rewriter::Scope scope;
  scope.symbols = symbols;
  Rewriter rewriter{*this, on_load};
  rewriter.list_names(scope);
  return rewriter.visit(id, &scope);
}

ExprId ExprPool::substitute(ExprId id, const std::map<std::string, ExprId>& symbols) {
  Rewriter::Scope scope;
  for (const auto& [name, value] : symbols) {
    TD_CHECK((*this)[value].dtype == DType::i64, "`{}` becomes a {}", name, dtype_name((*this)[value].dtype));
    if (auto sym = as_index(value))
      scope.symbols.emplace(name, *sym);
    else
      scope.exprs.emplace(name, value);
  }
  const Rewriter::OnLoad keep;
  Rewriter rewriter{*this, keep};
  rewriter.list_names(scope);
  return rewriter.visit(id, &scope);
}

TensorId Loops::add(LoopTensor tensor) {
  tensors.push_back(std::move(tensor));
  return {static_cast<int32_t>(tensors.size()) - 1};
}

}  // namespace toroid
