// Loops in, the same program without what nothing uses out.
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

void drop_dead(Loops& loops) {
  std::vector<bool> live(loops.tensors.size());
  for (const LoopOutput& output : loops.outputs)
    if (output.tensor.valid()) live[static_cast<size_t>(output.tensor.index)] = true;
  for (const SymbolRead& read : loops.symbol_reads) live[static_cast<size_t>(read.tensor.index)] = true;
  for (size_t i = loops.tensors.size(); i-- > 0;) {
    const LoopTensor& t = loops.tensors[i];
    if (t.kind == TensorKind::input) live[i] = true;
    if (!live[i] || t.kind != TensorKind::computed) continue;
    for (TensorId source : loaded_tensors(loops, t.body)) live[static_cast<size_t>(source.index)] = true;
  }
  std::vector<TensorId> moved(loops.tensors.size());
  std::vector<LoopTensor> kept;
  ExprPool pool;
  std::unordered_map<int32_t, ExprId> copied;
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
    moved[i] = {static_cast<int32_t>(kept.size())};
    kept.push_back(std::move(t));
  }
  auto move = [&](TensorId& id) {
    if (id.valid()) id = moved[static_cast<size_t>(id.index)];
  };
  for (TensorId& id : loops.input_tensors) move(id);
  for (LoopOutput& output : loops.outputs) move(output.tensor);
  for (SymbolRead& read : loops.symbol_reads) move(read.tensor);
  loops.tensors = std::move(kept);
  loops.pool = std::move(pool);
}

}  // namespace toroid
