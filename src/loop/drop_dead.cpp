// Loops in, the same program without what nothing uses out.
#include <map>
#include <set>

#include "loop/loops.h"

namespace toroid {

std::vector<TensorId> loaded_tensors(const Loops& loops, ExprId id) {
  std::vector<TensorId> tensors;
  std::set<TensorId> seen;
  for (ExprId at : loops.pool.postorder({id}))
    if (const Expr& e = loops.pool[at]; e.kind == ExprKind::load && seen.insert(e.tensor).second)
      tensors.push_back(e.tensor);
  return tensors;
}

void collect_call_symbols(const LoopCall& call, std::set<std::string>& names) {
  for (const Sym& attribute : call.attributes) collect_symbols(attribute, names);
  for (const Loops& body : call.bodies) {
    std::set<std::string> inside, own;
    for (const LoopTensor& t : body.tensors) {
      for (const Sym& size : t.sizes) collect_symbols(size, inside);
      if (t.kind == TensorKind::computed)
        for (std::string& name : body.pool.free_symbols(t.body)) inside.insert(std::move(name));
    }
    for (const LoopCall& inner : body.calls) collect_call_symbols(inner, inside);
    for (const Guard& guard : body.guards) collect_symbols(guard.condition, inside);
    for (const SymbolRead& read : body.symbol_reads) own.insert(read.symbol);
    for (const std::string& name : inside)
      if (!own.contains(name)) names.insert(name);
  }
}

std::vector<TensorId> sources_of(const Loops& loops, TensorId id) {
  const LoopTensor& t = loops[id];
  if (t.kind == TensorKind::called) return loops[t.call].operands;
  return t.kind == TensorKind::computed ? loaded_tensors(loops, t.body) : std::vector<TensorId>();
}

void drop_dead(Loops& loops) {
  std::vector<bool> live(loops.tensors.size());
  for (const LoopOutput& output : loops.outputs)
    if (output.tensor.valid()) live[static_cast<size_t>(output.tensor.index)] = true;
  for (const SymbolRead& read : loops.symbol_reads) live[static_cast<size_t>(read.tensor.index)] = true;
  for (size_t i = loops.tensors.size(); i-- > 0;) {
    const LoopTensor& t = loops.tensors[i];
    if (t.kind == TensorKind::input) live[i] = true;
    if (!live[i]) continue;
    for (TensorId source : sources_of(loops, {static_cast<int32_t>(i)})) live[static_cast<size_t>(source.index)] = true;
    // A call gives all its results or none.
    if (t.kind == TensorKind::called)
      for (TensorId result : loops[t.call].results) live[static_cast<size_t>(result.index)] = true;
  }
  std::vector<TensorId> moved(loops.tensors.size());
  std::vector<LoopTensor> kept;
  ExprPool pool;
  std::unordered_map<int32_t, ExprId> copied;
  std::vector<LoopCall> calls;
  std::map<CallId, CallId> moved_calls;
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    if (!live[i]) continue;
    LoopTensor& t = loops.tensors[i];
    if (t.kind == TensorKind::computed) {
      for (ExprId id : loops.pool.postorder({t.body})) {
        if (copied.contains(id.index)) continue;
        Expr e = loops.pool[id];
        for (ExprId& arg : e.args) arg = copied.at(arg.index);
        if (e.tensor.valid()) e.tensor = moved[static_cast<size_t>(e.tensor.index)];
        copied.emplace(id.index, pool.add(std::move(e)));
      }
      t.body = copied.at(t.body.index);
    }
    if (t.kind == TensorKind::called) {
      auto [found, first] = moved_calls.emplace(t.call, CallId{static_cast<int32_t>(calls.size())});
      if (first) calls.push_back(std::move(loops[t.call]));
      t.call = found->second;
    }
    moved[i] = {static_cast<int32_t>(kept.size())};
    kept.push_back(std::move(t));
  }
  auto move = [&](TensorId& id) {
    if (id.valid()) id = moved[static_cast<size_t>(id.index)];
  };
  for (TensorId& id : loops.input_tensors) move(id);
  for (LoopOutput& output : loops.outputs) move(output.tensor);
  for (SymbolRead& read : loops.symbol_reads) move(read.tensor);
  for (LoopCall& call : calls) {
    for (TensorId& id : call.operands) move(id);
    for (TensorId& id : call.results) move(id);
  }
  loops.calls = std::move(calls);
  loops.tensors = std::move(kept);
  loops.pool = std::move(pool);
}

}  // namespace toroid
