// Kinds of tensors, and which maps live only inside their readers: substitution, decided by bytes and work.
#include <algorithm>
#include <map>
#include <set>

#include "base/check.h"
#include "fuse/copies.h"
#include "fuse/program.h"
#include "fuse/text_budget.h"

namespace toroid::fuse {
namespace {

// A factor of a contraction: a load, perhaps widened, perhaps guarded by bounds (`where(inside, load, 0)`).
bool is_factor(const ExprPool& pool, ExprId id) {
  const Expr* expr = &pool[id];
  while (expr->kind == ExprKind::op && expr->op == ScalarOp::cvt) expr = &pool[expr->args[0]];
  if (expr->kind == ExprKind::op && expr->op == ScalarOp::where) {
    if (pool.as_constant(expr->args[2]) != 0.0) return false;
    expr = &pool[expr->args[1]];
  }
  return expr->kind == ExprKind::load;
}

// The one sum of a product of two loads in a body, if that is what it computes.
ExprId find_contraction(const ExprPool& pool, ExprId body) {
  std::vector<ExprId> reductions;
  collect_reductions(pool, body, reductions);
  if (reductions.size() != 1) return {};
  const Expr& sum = pool[reductions[0]];
  if (sum.kind != ExprKind::reduce || sum.reduce != ReduceOp::sum || sum.dtype != DType::f32) return {};
  const Expr& term = pool[sum.args[0]];
  if (term.kind != ExprKind::op || term.op != ScalarOp::mul) return {};
  if (!is_factor(pool, term.args[0]) || !is_factor(pool, term.args[1])) return {};
  return reductions[0];
}

// An element of one factor meets several of the other: without that, dot products of rows, there is nothing that a tile
// would read once instead of often.
bool has_reuse(const ExprPool& pool, const SymList& vars, ExprId product) {
  const Expr& term = pool[product];
  return std::any_of(vars.begin(), vars.end(), [&](const Sym& var) {
    return var.is_symbol() && extent_of(var) != Sym(1) &&
           pool.depends_on(term.args[0], var.symbol_name()) != pool.depends_on(term.args[1], var.symbol_name());
  });
}

// How many points index variables have.
Sym elements_of(const SymList& vars) {
  Sym elements = 1;
  for (const Sym& var : vars) elements *= extent_of(var);
  return elements;
}

bool gathers(const ExprPool& pool, const Use& use) {
  for (ExprId index : use.index)
    if (!pool.as_index(index)) return true;
  return false;
}

// Every element is read at most once by a load of a map: its indices walk different variables, and a guard keeps out
// what lies beyond (a part of a concatenation).
bool reads_once(const Program& program, TensorId reader, TensorId producer) {
  const SymList& vars = program.loops[reader].vars;
  for (const Use& use : program[reader].uses) {
    if (use.tensor != producer) continue;
    std::set<std::string> walked;
    for (ExprId index : use.index) {
      std::optional<Sym> sym = program.loops.pool.as_index(index);
      if (!sym) return false;
      for (const Sym& var : vars) {
        if (!var.is_symbol() || !depends_on(*sym, var.symbol_name())) continue;
        auto line = linear_in(*sym, var.symbol_name());
        if (!line || line->coefficient == Sym(0) || !line->coefficient.is_constant()) return false;
        if (!walked.insert(var.symbol_name()).second) return false;
      }
    }
    for (const Sym& var : vars)
      if (var.is_symbol() && extent_of(var) != Sym(1) && !walked.contains(var.symbol_name())) return false;
  }
  return true;
}

int64_t expression_size(const ExprPool& pool, ExprId body) {
  std::vector<ExprId> loads;
  collect_loads(pool, body, loads);
  return expression_cost(pool, body) + static_cast<int64_t>(loads.size());
}

}  // namespace

namespace {

// Tensors with the same expression over the same space become one: later readers read the first.
void merge_equal(Loops& loops) {
  std::map<std::pair<int32_t, DType>, std::vector<TensorId>> known;
  std::map<TensorId, TensorId> replaced;
  std::set<TensorId> outputs;
  for (const LoopOutput& output : loops.outputs) outputs.insert(output.tensor);
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    LoopTensor& tensor = loops.tensors[i];
    if (tensor.kind != TensorKind::computed) continue;
    const TensorId id{static_cast<int32_t>(i)};
    if (!replaced.empty())
      tensor.body =
          loops.pool.rewrite(tensor.body, {}, [&](const Expr& load, const std::vector<ExprId>& index) -> ExprId {
            auto found = replaced.find(load.tensor);
            if (found == replaced.end()) return {};
            return loops.pool.load(found->second, load.dtype, index);
          });
    std::vector<TensorId>& same_body = known[{tensor.body.index, tensor.dtype}];
    auto equal = std::find_if(same_body.begin(), same_body.end(), [&](TensorId other) {
      const SymList &a = loops[other].sizes, &b = tensor.sizes;
      return a == b && loops[other].device == tensor.device;
    });
    if (equal == same_body.end())
      same_body.push_back(id);
    else if (!outputs.contains(id))
      replaced[id] = *equal;
  }
}

}  // namespace

void classify(Program& program) {
  Loops& loops = program.loops;
  merge_equal(loops);
  program.items.resize(loops.tensors.size());
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    const LoopTensor& tensor = loops.tensors[i];
    Item& item = program.items[i];
    if (tensor.kind != TensorKind::computed) {
      item.stored = true;
      if (tensor.kind == TensorKind::called) item.kind = Kind::call;
      continue;
    }
    item.body = tensor.body;
    item.vars = item.index = tensor.vars;
    for (size_t d = 0; d < tensor.vars.size(); ++d) item.parts.push_back({static_cast<int>(d)});
    std::vector<ExprId> reductions;
    collect_reductions(loops.pool, item.body, reductions);
    item.kind = reductions.empty() ? Kind::map : Kind::reduction;
    if (loops.pool[item.body].kind == ExprKind::routine) {
      item.kind = Kind::routine;
      item.stored = true;
      continue;
    }
    if (copies_device(loops, TensorId{static_cast<int32_t>(i)})) {
      item.kind = Kind::copy;
      item.stored = true;
      continue;
    }
    if (ExprId contraction = find_contraction(loops.pool, item.body)) {
      const Expr& sum = loops.pool[contraction];
      // Small products are cheaper as plain loops inside a neighbour.
      int64_t k = program.at_hints(elements_of(sum.vars));
      int64_t work = k * program.elements_at_hints(TensorId{static_cast<int32_t>(i)});
      if (k >= 4 && work >= 4096 && has_reuse(loops.pool, tensor.vars, sum.args[0])) {
        item.kind = Kind::contract;
        item.contraction = contraction;
      }
    }
  }
  for (const LoopOutput& output : loops.outputs) {
    if (!output.tensor) continue;
    program[output.tensor].is_output = true;
    program[output.tensor].stored = true;
  }
  auto store = [&](TensorId id) { program[id].is_output = program[id].stored = true; };
  for (const SymbolRead& read : loops.symbol_reads) store(read.tensor);
  for (const LoopCall& call : loops.calls)
    for (TensorId operand : call.operands) store(operand);
  program.find_uses();
}

void inline_maps(Program& program) {
  Loops& loops = program.loops;
  ExprPool& pool = program.pool();
  auto substitute_body = [&](TensorId producer, const std::vector<ExprId>& index) {
    const LoopTensor& tensor = loops[producer];
    std::map<std::string, Sym> symbols;
    std::map<std::string, ExprId> exprs;
    for (size_t d = 0; d < tensor.vars.size(); ++d) {
      if (!tensor.vars[d].is_symbol()) continue;
      if (auto sym = pool.as_index(index[d]))
        symbols.emplace(tensor.vars[d].symbol_name(), *sym);
      else
        exprs.emplace(tensor.vars[d].symbol_name(), index[d]);
    }
    if (exprs.empty()) return pool.rewrite(program[producer].body, symbols, nullptr);
    for (const auto& [name, sym] : symbols) exprs.emplace(name, pool.index(sym));
    return pool.substitute(program[producer].body, exprs);
  };

  // Work that readers have taken in: a kernel of all that many small tensors compute has no end.
  std::map<TensorId, int64_t> taken;
  // Producers first, so that a body that is inlined has had its own producers inlined.
  for (size_t i = 0; i < program.items.size(); ++i) {
    const TensorId id{static_cast<int32_t>(i)};
    Item& item = program.items[i];
    if (item.kind == Kind::source || item.kind == Kind::call || item.hidden) continue;
    // Replace loads of tensors that were marked inlined.
    item.body = pool.rewrite(item.body, {}, [&](const Expr& load, const std::vector<ExprId>& index) -> ExprId {
      return program[load.tensor].inlined ? substitute_body(load.tensor, index) : ExprId{};
    });
    if (item.attention) {
      std::vector<ExprId> reductions;
      collect_reductions(pool, item.body, reductions);
      item.contraction = reductions.at(0);
    } else if (item.contraction) {
      item.contraction = find_contraction(pool, item.body);
    }
    if (item.kind == Kind::contract && !item.contraction) item.kind = Kind::reduction;
    if (item.kind != Kind::map || item.is_output) continue;

    // What inlining would cost: readers see this body instead of one load.
    bool operand = false, gathered = false;
    int64_t repeats = 1;  // evaluations of one element, were it inlined
    int64_t sites = 0;
    int64_t all_evaluations = 0;  // at all sites together
    const int64_t own = std::max<int64_t>(program.elements_at_hints(id), 1);
    for (TensorId reader : item.readers) {
      const Item& r = program[reader];
      operand |= r.kind == Kind::copy || r.kind == Kind::routine;
      if (r.kind == Kind::contract) {
        std::vector<ExprId> loads;
        // Of attention the operands, but not what the score reads.
        const ExprId term = pool[r.contraction].args[0];
        collect_loads(pool, r.attention ? pool[term].args[0] : term, loads);
        for (ExprId load : loads) operand |= pool[load].tensor == id;
      }
      int64_t evaluations = program.elements_at_hints(reader);
      if (r.kind == Kind::map && reads_once(program, reader, id)) evaluations = std::min(evaluations, own);
      if (r.kind == Kind::reduction || r.kind == Kind::contract) {
        std::vector<ExprId> reductions;
        collect_reductions(pool, r.body, reductions);
        for (ExprId reduction : reductions) {
          std::vector<ExprId> loads;
          collect_loads(pool, pool[reduction].args[0], loads);
          for (ExprId load : loads)
            if (pool[load].tensor == id)
              evaluations *= std::max<int64_t>(program.at_hints(elements_of(pool[reduction].vars)), 1);
        }
      }
      for (const Use& use : r.uses) {
        if (use.tensor != id) continue;
        ++sites;
        all_evaluations += evaluations;
        gathered |= gathers(pool, use);
      }
      repeats = std::max(repeats, evaluations / own);
    }
    const int64_t cost = expression_cost(pool, item.body);
    std::vector<ExprId> loads;
    collect_loads(pool, item.body, loads);
    int64_t input_bytes = 0;
    for (ExprId load : loads) {
      // A broadcast operand is read from cache.
      int64_t elements = std::min(program.elements_at_hints(pool[load].tensor), own);
      if (elements * 8 < own) elements = 0;
      input_bytes += elements * dtype_bytes(loops[pool[load].tensor].dtype);
    }
    const int64_t own_bytes = own * dtype_bytes(loops[id].dtype);
    // Computing it again must cost less than a trip through memory.
    const bool repeated = repeats > 2 && (cost * repeats > 16 || input_bytes > own_bytes);
    bool small = expression_size(pool, item.body) <= 150;
    for (TensorId reader : item.readers) small &= taken[reader] + cost <= text_limit;
    bool inline_it = false;
    if (operand || !small) {
      inline_it = false;
    } else if (loads.empty() && cost <= 16) {
      inline_it = true;  // made of indices and constants
    } else if (sites == 1 && !repeated) {
      inline_it = true;
    } else if (gathered && cost > 4) {
      inline_it = false;
    } else if (all_evaluations <= own) {
      inline_it = true;  // its readers share it out among them (the two halves of a gated unit)
    } else {
      inline_it = cost <= 4 && input_bytes * sites <= own_bytes * (sites + 1);
    }
    if (inline_it) {
      item.inlined = true;
      for (TensorId reader : item.readers) taken[reader] += cost;
    } else if (sites > 1) {
      program.say(format("%{} is not inlined: {} readers, work {} an element, {} against {} bytes read", loops[id].name,
                         sites, cost, input_bytes * sites, own_bytes * (sites + 1)));
    }
  }
  program.find_uses();
}

}  // namespace toroid::fuse
