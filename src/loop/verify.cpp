// Checks Loops. The rules:
// - Names of tensors are unique. Tensors stand in the order inputs, weights (as in `weights`, each at most once), the
// rest;
//   a computed tensor loads only from tensors before it.
// - A load has one i64 index per dim and the register type of its tensor; no reduce or scan stands in an index.
// - A body has the register type of its tensor, one variable per dim whose extent is that size, and no other free
// symbol
//   than those and the declared ones.
// - A constant tensor has as many bytes as its sizes say; its sizes are constants.
// - A call has results, which stand together and are row-major; it reads only what stands before them. Its programs are
//   right by themselves, read and give what head of LoopCall in loops.h says, and write nothing back.
// - Strides are as many as sizes. Outputs, symbol reads, mutation targets and aliases name what exists; a symbol is
// read from
//   a tensor of one integer or bool.
#include <set>

#include "base/check.h"
#include "loop/loops.h"

namespace toroid {
namespace {

void verify_body(const Loops& loops, size_t at, const std::set<std::string>& declared) {
  const LoopTensor& t = loops.tensors[at];
  TD_CHECK(t.body.valid(), "`%{}` has no body", t.name);
  TD_CHECK(loops.pool[t.body].dtype == register_type(t.dtype), "`%{}` of {} has a body of {}", t.name,
           dtype_name(t.dtype), dtype_name(loops.pool[t.body].dtype));
  TD_CHECK(t.vars.size() == t.sizes.size(), "`%{}` has {} variables for {} dims", t.name, t.vars.size(),
           t.sizes.size());
  std::set<std::string> known = declared;
  for (size_t k = 0; k < t.vars.size(); ++k) {
    TD_CHECK(proves_eq(extent_of(t.vars[k]), t.sizes[k]), "`%{}` runs {} over {} but has size {}", t.name,
             t.vars[k].symbol_name(), to_string(extent_of(t.vars[k])), to_string(t.sizes[k]));
    TD_CHECK(known.insert(t.vars[k].symbol_name()).second, "`%{}` has `{}` twice", t.name, t.vars[k].symbol_name());
  }
  for (const std::string& name : loops.pool.free_symbols(t.body))
    TD_CHECK(known.contains(name), "`%{}` uses `{}`, which is not declared", t.name, name);
  for (ExprId id : loops.pool.postorder({t.body})) {
    const Expr& e = loops.pool[id];
    if (e.kind != ExprKind::load) continue;
    TD_CHECK(e.tensor.valid() && static_cast<size_t>(e.tensor.index) < at,
             "`%{}` loads from a tensor that is not before it", t.name);
    const LoopTensor& source = loops[e.tensor];
    TD_CHECK(e.dtype == register_type(source.dtype), "`%{}` loads {} from `%{}` of {}", t.name, dtype_name(e.dtype),
             source.name, dtype_name(source.dtype));
    TD_CHECK(e.args.size() == source.sizes.size(), "`%{}` loads from `%{}` with {} indices", t.name, source.name,
             e.args.size());
    for (ExprId arg : e.args) {
      TD_CHECK(loops.pool[arg].dtype == DType::i64, "`%{}` loads from `%{}` at a {}", t.name, source.name,
               dtype_name(loops.pool[arg].dtype));
      TD_CHECK(!loops.pool.has_kind(arg, ExprKind::reduce) && !loops.pool.has_kind(arg, ExprKind::scan),
               "`%{}` reduces inside an index", t.name);
    }
  }
}

}  // namespace

namespace {

void verify_call(const Loops& loops, size_t at) {
  const CallId id{static_cast<int32_t>(at)};
  const LoopCall& call = loops[id];
  TD_CHECK(!call.results.empty(), "call {} of `{}` gives nothing", at, call.function);
  for (TensorId result : call.results) {
    TD_CHECK(result.valid() && loops[result].kind == TensorKind::called && loops[result].call == id,
             "a result of `{}` is not its result", call.function);
    TD_CHECK(same_list(loops[result].strides, contiguous_strides(loops[result].sizes)), "`%{}` is not row-major",
             loops[result].name);
    for (TensorId operand : call.operands)
      TD_CHECK(operand.valid() && operand < call.results.front(), "`%{}` is called with what is not before it",
               loops[result].name);
  }
  for (const Loops& body : call.bodies) {
    verify_loops(body);
    for (const LoopOutput& output : body.outputs)
      TD_CHECK(output.target.mutates == GraphOutput::Mutates::nothing && output.alias_input < 0 && output.tensor,
               "`{}` of `{}` gives what is no tensor of its own", body.name, call.function);
    TD_CHECK(call.function == "cond" || body.inputs.size() == call.operands.size(), "`{}` takes {} inputs of {}",
             body.name, body.inputs.size(), call.operands.size());
    TD_CHECK((call.function == "while" && &body == &call.bodies.front()) || body.outputs.size() == call.results.size(),
             "`{}` gives {} of {} results", body.name, body.outputs.size(), call.results.size());
  }
}

}  // namespace

void verify_loops(const Loops& loops) {
  std::set<std::string> declared, names;
  for (const SymbolInfo& info : loops.symbols) TD_CHECK(declared.insert(info.name).second, "`{}` twice", info.name);
  TD_CHECK(loops.input_tensors.size() == loops.inputs.size(), "{} inputs, {} input tensors", loops.inputs.size(),
           loops.input_tensors.size());
  int32_t last_input = -1, last_weight = -1;
  bool rest = false;
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    const LoopTensor& t = loops.tensors[i];
    TD_CHECK(names.insert(t.name).second, "two tensors `%{}`", t.name);
    TD_CHECK(t.strides.size() == t.sizes.size(), "`%{}` has {} strides for {} dims", t.name, t.strides.size(),
             t.sizes.size());
    if (t.kind == TensorKind::input) {
      TD_CHECK(!rest && last_weight < 0 && t.input > last_input, "`%{}` out of order", t.name);
      last_input = t.input;
      TD_CHECK(static_cast<size_t>(t.input) < loops.inputs.size() &&
                   loops.input_tensors[static_cast<size_t>(t.input)] == TensorId{static_cast<int32_t>(i)},
               "`%{}` is not input {}", t.name, t.input);
    } else if (t.kind == TensorKind::weight) {
      TD_CHECK(!rest && t.weight.index > last_weight, "`%{}` out of order", t.name);
      last_weight = t.weight.index;
      TD_CHECK(static_cast<size_t>(t.weight.index) < loops.weights.size(), "`%{}` of a weight that is not there",
               t.name);
    } else {
      rest = true;
    }
    if (t.kind == TensorKind::computed) verify_body(loops, i, declared);
    if (t.kind == TensorKind::constant) {
      const Sym count = product(t.sizes);
      TD_CHECK(count.is_constant() && static_cast<int64_t>(t.data.size()) == count.value() * dtype_bytes(t.dtype),
               "`%{}` has {} bytes", t.name, t.data.size());
    }
  }
  for (size_t c = 0; c < loops.calls.size(); ++c) verify_call(loops, c);
  auto exists = [&](TensorId id) { return id.valid() && static_cast<size_t>(id.index) < loops.tensors.size(); };
  for (const SymbolRead& read : loops.symbol_reads) {
    TD_CHECK(exists(read.tensor) && declared.contains(read.symbol), "`{}` is read from nowhere", read.symbol);
    const LoopTensor& t = loops[read.tensor];
    TD_CHECK(proves_eq(product(t.sizes), 1) && (!is_float(t.dtype) || t.dtype == DType::f64), "`{}` is read from `%{}`",
             read.symbol, t.name);
  }
  for (const LoopOutput& output : loops.outputs) {
    const GraphOutput& target = output.target;
    TD_CHECK((target.kind == GraphOutput::Kind::tensor) == exists(output.tensor), "output `{}` without its tensor",
             target.name);
    if (target.mutates == GraphOutput::Mutates::weight)
      TD_CHECK(target.weight.valid() && static_cast<size_t>(target.weight.index) < loops.weights.size(),
               "output `{}` writes no weight", target.name);
    if (target.mutates == GraphOutput::Mutates::input)
      TD_CHECK(target.input >= 0 && static_cast<size_t>(target.input) < loops.inputs.size(),
               "output `{}` writes no input", target.name);
    if (target.kind != GraphOutput::Kind::tensor) continue;
    const LoopTensor& t = loops[output.tensor];
    const size_t rank = output.alias_input >= 0 ? output.sizes.size() : t.sizes.size();
    TD_CHECK(output.strides.size() == rank, "output `%{}` has {} strides", t.name, output.strides.size());
    TD_CHECK(output.alias_input < 0 || (t.kind == TensorKind::input && t.input == output.alias_input),
             "output `%{}` is no alias of input {}", t.name, output.alias_input);
  }
}

}  // namespace toroid
