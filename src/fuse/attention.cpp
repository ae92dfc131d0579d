// The matcher and builder of attention.h.
//   products[b…, i, j] = sum(e: q[b…, i, e] * k[b…, j, e])
//   scores = maps over products (scale, mask)
//   weights = exp(scores - max(scores)) / sum(exp(scores - max(scores))), perhaps 0 where the maximum is -inf
//   result[b…, i, d] = sum(j: weights[b…, i, j] * v[b…, j, d])
// A match is kept as one expression, sum(e, j: (q * k) * v + score), so that later steps see every operand; it is never
// evaluated.
#include "fuse/attention.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/check.h"
#include "fuse/contraction.h"

namespace toroid::fuse {
namespace {

class Matcher {
 public:
  explicit Matcher(Program& program) : program_(program), loops_(program.loops), pool_(program.pool()) {}

  bool match(TensorId id) {
    result_ = id;
    hidden_.clear();
    const Item& item = program_[id];
    if (item.kind != Kind::contract) return false;
    const LoopTensor& out = loops_[id];
    const size_t rank = out.sizes.size();
    if (rank < 3 || rank > 4) return false;
    // Dims of one element (a single query) are at 0 everywhere.
    leading_.clear();
    std::map<std::string, Sym> single;
    for (size_t d = 0; d < rank; ++d) {
      if (!out.vars[d].is_symbol()) return false;
      const bool one = out.sizes[d] == Sym(1);
      if (one && d + 1 == rank) return false;
      if (one) single[out.vars[d].symbol_name()] = 0;
      if (d + 1 < rank) leading_.push_back(one ? Sym(0) : out.vars[d]);
    }
    if (!single.empty()) {
      Item& changed = program_[id];
      changed.body = pool_.rewrite(changed.body, single, nullptr);
      std::vector<ExprId> sums;
      collect_reductions(pool_, changed.body, sums);
      if (sums.size() != 1) return false;
      changed.contraction = sums[0];
    }
    auto factors = factors_of(pool_, item.contraction);
    if (!factors || factors->guarded) return false;
    const Expr sum = pool_[item.contraction];
    if (sum.vars.size() != 1 || !sum.vars[0].is_symbol()) return false;
    j_ = sum.vars[0];

    // weights[b…, i, j] and v.
    const Expr weights = pool_[factors->a], v = pool_[factors->b];
    SymList space = leading_;
    space.push_back(j_);
    if (!at(weights, space) || loops_[weights.tensor].kind != TensorKind::computed) return false;
    if (!hide(weights.tensor)) return false;
    // exp(s - m) / z, or where(m == -inf, 0, that).
    ExprId body = body_at(weights.tensor, space);
    bool zero_masked = false;
    const Expr* expr = &pool_[body];
    if (is_op(*expr, ScalarOp::where) && pool_.as_constant(expr->args[1]) == 0.0) {
      const Expr& test = pool_[expr->args[0]];
      if (!is_op(test, ScalarOp::eq)) return false;
      zero_masked = true;
      expr = &pool_[expr->args[2]];
    }
    if (!is_op(*expr, ScalarOp::div)) return false;
    const ExprId exponential = expr->args[0];
    const Expr total = pool_[expr->args[1]];
    if (total.kind != ExprKind::load) return false;
    const Expr& e = pool_[exponential];
    ExprId difference;
    TensorId stored_exponential;
    if (is_op(e, ScalarOp::exp)) {
      difference = e.args[0];
    } else if (e.kind == ExprKind::load) {
      // The exponentials as a tensor of their own.
      if (!at(e, space) || program_[e.tensor].kind != Kind::map || !hide(e.tensor)) return false;
      stored_exponential = e.tensor;
      const Expr inner = pool_[body_at(e.tensor, space)];
      if (!is_op(inner, ScalarOp::exp)) return false;
      difference = inner.args[0];
    } else {
      return false;
    }
    const Expr minus = pool_[difference];
    if (!is_op(minus, ScalarOp::sub)) return false;
    const Expr score = pool_[minus.args[0]], high = pool_[minus.args[1]];
    if (score.kind != ExprKind::load || high.kind != ExprKind::load || !at(score, space)) return false;
    if (!row_reduction(high, ReduceOp::max, minus.args[0])) return false;
    if (!row_reduction(total, ReduceOp::sum, exponential)) return false;

    // The score down to one product of q and k.
    product_ = {};
    ExprId value = expand(minus.args[0], space);
    if (!product_) return false;
    const LoopTensor& products = loops_[product_];
    auto qk = factors_of(pool_, program_[product_].contraction);
    const Expr dot = pool_[program_[product_].contraction];
    if (!qk || qk->guarded || dot.vars.size() != 1) return false;
    // Only the bare product: what is added to it would be a bias of another shape.
    if (program_[product_].body != program_[product_].contraction) return false;
    const Sym e_var = pool_.fresh(extent_of(dot.vars[0])), j_var = pool_.fresh(extent_of(j_));
    std::map<std::string, Sym> names;
    for (size_t d = 0; d < space.size(); ++d)
      if (products.vars[d].is_symbol()) names[products.vars[d].symbol_name()] = space[d];
    if (dot.vars[0].is_symbol()) names[dot.vars[0].symbol_name()] = e_var;
    const ExprId q = pool_.rewrite(qk->a, names, nullptr), k = pool_.rewrite(qk->b, names, nullptr);
    // The factor that does not walk the keys is q.
    const bool swapped = depends(q, j_);
    const ExprId query = swapped ? k : q, key = swapped ? q : k;
    if (depends(query, j_) || (leading_.back().is_symbol() && depends(key, leading_.back()))) return false;
    if (!hide(product_)) return false;
    for (TensorId hidden : hidden_)
      for (TensorId reader : program_[hidden].readers)
        if (reader != result_ && std::find(hidden_.begin(), hidden_.end(), reader) == hidden_.end()) return false;

    // One expression for all of it.
    Expr whole;
    whole.kind = ExprKind::op;
    whole.dtype = DType::f32;
    whole.op = ScalarOp::mul;
    whole.args = {query, key};
    whole.args = {pool_.add(whole), factors->b};
    const ExprId operands = pool_.add(whole);
    whole.op = ScalarOp::add;
    whole.args = {operands, value};
    // The keys' variable belongs to the old sum: a fresh one for this.
    const ExprId term = pool_.rewrite(pool_.add(whole), {{j_.symbol_name(), j_var}}, nullptr);
    const ExprId node = pool_.reduce(ReduceOp::sum, {e_var, j_var}, term);
    Item& changed = program_[result_];
    changed.body = replace_exprs(pool_, changed.body, {{changed.contraction, node}});
    changed.contraction = node;
    changed.attention = true;
    changed.zero_masked = zero_masked;
    for (TensorId hidden : hidden_) {
      program_[hidden].inlined = true;
      program_[hidden].hidden = true;
    }
    return true;
  }

 private:
  static bool is_op(const Expr& expr, ScalarOp op) { return expr.kind == ExprKind::op && expr.op == op; }
  bool depends(ExprId id, const Sym& var) const { return var.is_symbol() && pool_.depends_on(id, var.symbol_name()); }

  // The load's indices are exactly these variables.
  bool at(const Expr& load, const SymList& vars) const {
    if (load.args.size() != vars.size()) return false;
    for (size_t d = 0; d < vars.size(); ++d) {
      auto sym = pool_.as_index(load.args[d]);
      if (!sym || *sym != vars[d]) return false;
    }
    return true;
  }
  bool hide(TensorId id) {
    if (program_[id].is_output || loops_[id].kind != TensorKind::computed) return false;
    if (std::find(hidden_.begin(), hidden_.end(), id) == hidden_.end()) hidden_.push_back(id);
    return true;
  }
  // The tensor's body with its variables replaced.
  ExprId body_at(TensorId id, const SymList& space) {
    std::map<std::string, Sym> names;
    const LoopTensor& tensor = loops_[id];
    for (size_t d = 0; d < tensor.vars.size(); ++d)
      if (tensor.vars[d].is_symbol()) names[tensor.vars[d].symbol_name()] = space[d];
    return pool_.rewrite(program_[id].body, names, nullptr);
  }

  // `load` reads a tensor that is op(j: term) at the row of space.
  bool row_reduction(const Expr& load, ReduceOp op, ExprId term) {
    const LoopTensor& tensor = loops_[load.tensor];
    if (tensor.kind != TensorKind::computed || !hide(load.tensor)) return false;
    const Expr reduce = pool_[program_[load.tensor].body];
    if (reduce.kind != ExprKind::reduce || reduce.reduce != op || reduce.vars.size() != 1 ||
        !reduce.vars[0].is_symbol())
      return false;
    // Its output variables at this load's indices, its own j at ours.
    std::map<std::string, Sym> names;
    for (size_t d = 0; d < tensor.vars.size(); ++d) {
      auto sym = pool_.as_index(load.args[d]);
      if (!sym) return false;
      if (tensor.vars[d].is_symbol()) names[tensor.vars[d].symbol_name()] = *sym;
    }
    names[reduce.vars[0].symbol_name()] = j_;
    return pool_.rewrite(reduce.args[0], names, nullptr) == term;
  }

  // The load of a map replaced by its body, as long as it leads to the one product of two loads; the product itself
  // becomes local 0.
  ExprId expand(ExprId id, const SymList& space) {
    const Expr load = pool_[id];
    if (load.kind != ExprKind::load || !at(load, space) || !leads_to_product(load.tensor)) return id;
    const TensorId tensor = load.tensor;
    if (program_[tensor].kind == Kind::contract) {
      product_ = tensor;
      Expr local;
      local.kind = ExprKind::local;
      local.local = 0;
      local.dtype = DType::f32;
      return pool_.add(local);
    }
    if (!hide(tensor)) return id;
    const ExprId body = body_at(tensor, space);
    std::vector<ExprId> loads;
    collect_loads(pool_, body, loads);
    std::map<ExprId, ExprId> replaced;
    for (ExprId inner : loads) {
      const ExprId value = expand(inner, space);
      if (value != inner) replaced[inner] = value;
    }
    return replace_exprs(pool_, body, replaced);
  }
  bool leads_to_product(TensorId id) const {
    const Item& item = program_[id];
    if (item.kind == Kind::contract) return true;
    if (item.kind != Kind::map) return false;
    for (const Use& use : item.uses)
      if (leads_to_product(use.tensor)) return true;
    return false;
  }

  Program& program_;
  Loops& loops_;
  ExprPool& pool_;
  TensorId result_, product_;
  Sym j_ = 0;
  SymList leading_;
  std::vector<TensorId> hidden_;
};

}  // namespace

void find_attention(Program& program, const std::set<std::string>& disabled) {
  if (program.target.lanes() < 8) return;
  for (size_t i = 0; i < program.items.size(); ++i) {
    const TensorId id{static_cast<int32_t>(i)};
    if (disabled.contains(program.loops[id].name)) continue;
    Matcher(program).match(id);
  }
  program.find_uses();
}

std::optional<AttentionKernel> build_attention(Program& program, const Schedule& schedule, TensorId id,
                                               std::map<std::string, Sym>& values) {
  ExprPool& pool = program.pool();
  const Loops& loops = program.loops;
  const Item& item = program[id];
  const LoopTensor& out = loops[id];
  const Expr whole = pool[item.contraction];
  const Expr outer = pool[whole.args[0]];
  if (outer.kind != ExprKind::op || outer.op != ScalarOp::add || whole.vars.size() != 2) return std::nullopt;
  const Expr operands = pool[outer.args[0]];
  const Expr qk = pool[operands.args[0]];
  if (qk.kind != ExprKind::op || pool[qk.args[0]].kind != ExprKind::load || pool[qk.args[1]].kind != ExprKind::load ||
      pool[operands.args[1]].kind != ExprKind::load)
    return std::nullopt;
  const Expr q = pool[qk.args[0]], k = pool[qk.args[1]], v = pool[operands.args[1]];
  const DType dtype = loops[q.tensor].dtype;
  if (loops[k.tensor].dtype != dtype || loops[v.tensor].dtype != dtype || (dtype != DType::f32 && dtype != DType::bf16))
    return std::nullopt;
  const Sym e = whole.vars[0], j = whole.vars[1];
  const bool heads = out.vars.size() == 4;
  const Sym none = 0;
  const Sym b = out.vars[0], h = heads ? out.vars[1] : none, i = out.vars[out.vars.size() - 2], d = out.vars.back();

  AttentionKernel work;
  work.dtype = dtype;
  work.batch = out.sizes[0];
  work.heads = heads ? out.sizes[1] : Sym(1);
  work.queries = out.sizes[out.sizes.size() - 2];
  work.keys = extent_of(j);
  const Sym head_size = extent_of(e);
  if (!head_size.is_constant() || !out.sizes.back().is_constant() || !work.heads.is_constant()) return std::nullopt;
  work.head_size = head_size.value();
  work.value_size = out.sizes.back().value();
  if (work.head_size > 256 || work.value_size > 256) return std::nullopt;
  work.q = q.tensor, work.k = k.tensor, work.v = v.tensor;
  work.zero_masked_rows = item.zero_masked;

  // Strides of one operand: its last index walks memory element by element. Grouped heads read at h // group.
  auto strides = [&](const Expr& load, const Sym& row, const Sym& last,
                     bool grouped) -> std::optional<AttentionKernel::Strides> {
    auto where = element_address(pool, schedule.place(load.tensor), load.args);
    if (!where) return std::nullopt;
    AttentionKernel::Strides s;
    Sym rest = *where;
    auto take = [&](const Sym& var) -> std::optional<Sym> {
      if (!var.is_symbol()) return Sym(0);
      auto line = linear_in(rest, var.symbol_name());
      if (!line) return std::nullopt;
      rest = line->rest;
      return line->coefficient;
    };
    auto unit = take(last), step = take(row), batch = take(b);
    if (!unit || !step || !batch || *unit != Sym(1)) return std::nullopt;
    s.row = *step, s.batch = *batch;
    if (heads) {
      auto head = take(h);
      if (!head && grouped) {
        // stride * (h // group)
        for (int64_t group = 2; group <= work.heads.value() && !head; ++group) {
          if (work.heads.value() % group) continue;
          const Sym quotient = floor_div(h, group);
          std::vector<Sym::Term> kept;
          Sym stride = 0, remaining = rest.constant_part();
          for (const Sym::Term& term : rest.terms()) {
            auto found = std::find(term.atoms.begin(), term.atoms.end(), quotient);
            Sym part = term.coefficient;
            for (auto a = term.atoms.begin(); a != term.atoms.end(); ++a)
              if (a != found) part *= *a;
            (found == term.atoms.end() ? remaining : stride) += part;
          }
          if (stride == Sym(0) || depends_on(remaining, h.symbol_name()) || depends_on(stride, h.symbol_name()))
            continue;
          if (work.group != 1 && work.group != group) return std::nullopt;
          work.group = group;
          head = stride;
          rest = remaining;
        }
      }
      if (!head) return std::nullopt;
      s.head = *head;
    }
    std::set<std::string> left;
    collect_symbols(rest, left);
    for (const std::string& name : left)
      if (!loops.symbols.empty() && std::none_of(loops.symbols.begin(), loops.symbols.end(),
                                                 [&](const SymbolInfo& info) { return info.name == name; }))
        return std::nullopt;
      else if (loops.symbols.empty())
        return std::nullopt;
    s.offset = rest;
    return s;
  };
  auto qs = strides(q, i, e, false), ks = strides(k, j, e, true), vs = strides(v, j, d, true);
  if (!qs || !ks || !vs) return std::nullopt;
  work.q_strides = *qs, work.k_strides = *ks, work.v_strides = *vs;

  const Sym b0 = Sym::index("b0", work.batch), h0 = Sym::index("h0", work.heads), m0 = Sym::index("m0", work.queries),
            d0 = Sym::index("d0", work.value_size), t0 = Sym::index("t0", work.keys);
  values[b.symbol_name()] = b0;
  if (heads) values[h.symbol_name()] = h0;
  values[i.symbol_name()] = m0;
  values[d.symbol_name()] = d0;
  std::map<std::string, Sym> score_names = values;
  score_names[j.symbol_name()] = t0;
  ExprId score = outer.args[1];
  // local 0 * constant is the kernel's scale.
  std::set<int32_t> seen;
  std::function<void(ExprId)> find_scale = [&](ExprId id) {
    if (!seen.insert(id.index).second) return;
    const Expr& expr = pool[id];
    if (expr.kind == ExprKind::op && (expr.op == ScalarOp::mul || expr.op == ScalarOp::div) && work.scale == 1) {
      for (size_t a = 0; a < 2; ++a) {
        if (pool[expr.args[a]].kind != ExprKind::local || (a == 1 && expr.op == ScalarOp::div)) continue;
        auto constant = pool.as_constant(expr.args[1 - a]);
        if (!constant || *constant == 0) continue;
        work.scale = expr.op == ScalarOp::mul ? *constant : 1 / *constant;
        score = replace_exprs(pool, score, {{id, expr.args[a]}});
        return;
      }
    }
    const std::vector<ExprId> args = expr.args;
    for (ExprId arg : args) find_scale(arg);
  };
  find_scale(score);
  if (pool[score].kind != ExprKind::local) {
    score = pool.rewrite(score, score_names, nullptr);
    // where(key <= row, score, -inf) alone is the causal form.
    const Expr& expr = pool[score];
    auto lowest = [&](ExprId x) { return pool.as_constant(x) == -INFINITY; };
    if (expr.kind == ExprKind::op && expr.op == ScalarOp::where && pool[expr.args[1]].kind == ExprKind::local &&
        lowest(expr.args[2])) {
      const Expr& test = pool[expr.args[0]];
      if (test.kind == ExprKind::op && test.op == ScalarOp::le && pool.as_index(test.args[0]) == t0 &&
          pool.as_index(test.args[1]) == m0)
        work.causal = true;
    }
    if (!work.causal) work.score = score;
  }
  return work;
}

}  // namespace toroid::fuse
