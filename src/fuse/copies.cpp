// Copies that template kernels want: an operand whose memory no template can walk is first brought into one that it
// can.
#include "fuse/copies.h"

#include <algorithm>

#include "base/check.h"
#include "fuse/contraction.h"

namespace toroid::fuse {
namespace {

const std::vector<int> channels_last[] = {{0, 2, 1}, {0, 2, 3, 1}};

// Puts `tensor` before `reader`: every id from there on moves up by one. Bodies are rewritten; `tensor` itself uses old
// ids.
TensorId insert_before(Loops& loops, TensorId reader, LoopTensor tensor) {
  ExprPool& pool = loops.pool;
  auto moved = [&](TensorId id) { return id.valid() && id >= reader ? TensorId{id.index + 1} : id; };
  for (LoopTensor& t : loops.tensors) {
    if (t.kind != TensorKind::computed) continue;
    t.body = pool.rewrite(t.body, {}, [&](const Expr& load, const std::vector<ExprId>& index) -> ExprId {
      return pool.load(moved(load.tensor), load.dtype, index);
    });
  }
  for (TensorId& id : loops.input_tensors) id = moved(id);
  for (LoopOutput& output : loops.outputs) output.tensor = moved(output.tensor);
  for (SymbolRead& read : loops.symbol_reads) read.tensor = moved(read.tensor);
  for (LoopCall& call : loops.calls) {
    for (TensorId& id : call.operands) id = moved(id);
    for (TensorId& id : call.results) id = moved(id);
  }
  loops.tensors.insert(loops.tensors.begin() + reader.index, std::move(tensor));
  return reader;
}

LoopTensor copy_of(const Loops& loops, TensorId reader, const std::string& name) {
  LoopTensor copy;
  copy.name = name;
  for (int n = 1; std::any_of(loops.tensors.begin(), loops.tensors.end(),
                              [&](const LoopTensor& t) { return t.name == copy.name; });
       ++n)
    copy.name = format("{}_{}", name, n);
  copy.device = loops[reader].device;
  copy.where = loops[reader].where;
  return copy;
}

}  // namespace

namespace {

// All of `source`, channels innermost.
void copy_conv_input(Loops& loops, TensorId reader, TensorId source) {
  const LoopTensor& x = loops[source];
  LoopTensor copy = copy_of(loops, reader, x.name + ".channels_last");
  copy.dtype = x.dtype;
  copy.sizes = x.sizes;
  std::vector<ExprId> index;
  for (size_t d = 0; d < x.sizes.size(); ++d) {
    copy.vars.push_back(Sym::index(format("i{}", d), x.sizes[d]));
    index.push_back(loops.pool.index(copy.vars.back()));
  }
  copy.body = loops.pool.load(source, register_type(x.dtype), index);
  copy.strides = strides_in_order(x.sizes, channels_last[x.sizes.size() - 3]);
  const TensorId id = insert_before(loops, reader, std::move(copy));
  LoopTensor& changed = loops[TensorId{reader.index + 1}];
  changed.body = loops.pool.rewrite(changed.body, {}, [&](const Expr& load, const std::vector<ExprId>& at) -> ExprId {
    return load.tensor == source ? loops.pool.load(id, load.dtype, at) : ExprId{};
  });
}

// One factor of a product over the variables that it depends on, those of the sum innermost.
void copy_factor(Loops& loops, TensorId reader, bool second) {
  ExprPool& pool = loops.pool;
  std::vector<ExprId> reductions;
  collect_reductions(pool, loops[reader].body, reductions);
  auto factors = factors_of(pool, reductions.at(0));
  TD_CHECK(factors.has_value(), "`{}` is no product", loops[reader].name);
  const ExprId old = second ? factors->b : factors->a;
  const Expr load = pool[old];
  SymList vars;
  for (const SymList& list : {loops[reader].vars, pool[reductions[0]].vars})
    for (const Sym& var : list)
      if (var.is_symbol() && pool.depends_on(old, var.symbol_name())) vars.push_back(var);
  LoopTensor copy = copy_of(loops, reader, loops[reader].name + (second ? ".right" : ".left"));
  copy.dtype = loops[load.tensor].dtype;
  std::map<std::string, Sym> renamed;
  std::vector<ExprId> at;
  for (size_t d = 0; d < vars.size(); ++d) {
    copy.sizes.push_back(extent_of(vars[d]));
    copy.vars.push_back(Sym::index(format("i{}", d), copy.sizes.back()));
    renamed[vars[d].symbol_name()] = copy.vars.back();
    at.push_back(pool.index(vars[d]));
  }
  copy.body = pool.rewrite(old, renamed, nullptr);
  copy.strides = contiguous_strides(copy.sizes);
  // The reader's body names tensors before it, whose ids stay: its expressions are the same after the insertion.
  const TensorId id = insert_before(loops, reader, std::move(copy));
  LoopTensor& changed = loops[TensorId{reader.index + 1}];
  changed.body = replace_exprs(pool, changed.body, {{old, pool.load(id, load.dtype, at)}});
}

}  // namespace

bool copies_device(const Loops& loops, TensorId id) {
  const LoopTensor& t = loops[id];
  if (t.kind != TensorKind::computed || loops.pool[t.body].kind != ExprKind::load) return false;
  const Expr& load = loops.pool[t.body];
  const LoopTensor& source = loops[load.tensor];
  if (source.device == t.device || source.dtype != t.dtype || source.sizes != t.sizes) return false;
  for (size_t d = 0; d < t.vars.size(); ++d)
    if (loops.pool.as_index(load.args[d]) != t.vars[d]) return false;
  return true;
}

void separate_devices(Loops& loops) {
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    const TensorId reader{static_cast<int32_t>(i)};
    if (loops[reader].kind != TensorKind::computed) continue;
    for (TensorId source : loaded_tensors(loops, loops[reader].body)) {
      const LoopTensor& x = loops[source];
      const LoopTensor& r = loops[reader];
      if (x.device == r.device) continue;
      // An earlier reader on this device may have had the copy made.
      TensorId id;
      for (size_t c = 0; c < i; ++c) {
        const TensorId candidate{static_cast<int32_t>(c)};
        if (loops[candidate].device == r.device && copies_device(loops, candidate) &&
            loops.pool[loops[candidate].body].tensor == source)
          id = candidate;
      }
      const bool made = !id;
      if (made) {
        LoopTensor copy = copy_of(loops, reader, x.name + "." + r.device.type);
        copy.dtype = x.dtype;
        copy.sizes = x.sizes;
        copy.strides = x.strides;
        std::vector<ExprId> index;
        for (size_t d = 0; d < x.sizes.size(); ++d) {
          copy.vars.push_back(Sym::index(format("i{}", d), x.sizes[d]));
          index.push_back(loops.pool.index(copy.vars.back()));
        }
        copy.body = loops.pool.load(source, x.dtype, index);
        id = insert_before(loops, reader, std::move(copy));
      }
      LoopTensor& changed = loops[TensorId{reader.index + made}];
      changed.body =
          loops.pool.rewrite(changed.body, {}, [&](const Expr& load, const std::vector<ExprId>& at) -> ExprId {
            return load.tensor == source ? loops.pool.load(id, loops[id].dtype, at) : ExprId{};
          });
      // The reader, moved up, is looked at again for other sources.
      break;
    }
  }
}

void make_copy(Loops& loops, const CopyWish& wish) {
  if (wish.source)
    copy_conv_input(loops, wish.reader, wish.source);
  else
    copy_factor(loops, wish.reader, wish.second);
}

}  // namespace toroid::fuse
