// Calls each node's row in order, then settles what the outputs are: tensors of their own, or views of an input's
// memory.
#include "lower/lower.h"

#include <algorithm>

#include "base/check.h"
#include "ops/loop_builder.h"
#include "ops/op_table.h"
#include "ops/schema.h"

namespace toroid {
namespace {

// "aten.relu.default, at act (model.py:13), inputs f32[s0, 10]"
std::string node_text(const Graph& graph, const Node& node) {
  std::string out = format("`{}`", node.op);
  if (std::string where = node.where.text(); !where.empty()) append(out, " at {}", where);
  std::vector<std::string> types;
  for (const Arg& arg : node.args) {
    if (auto* id = std::get_if<ValueId>(&arg); id && id->valid()) types.push_back(to_string(graph[*id].type));
    if (auto* ids = std::get_if<std::vector<ValueId>>(&arg))
      for (ValueId id : *ids)
        if (id.valid()) types.push_back(to_string(graph[id].type));
  }
  if (!types.empty()) append(out, ", inputs {}", join(types, ", "));
  return out;
}

class Lowering {
 public:
  explicit Lowering(const Graph& graph) : graph_(graph), values_(graph.values.size()), aliases_(graph.values.size()) {
    loops_.name = graph.name;
    loops_.symbols = graph.symbols;
    loops_.inputs = graph.inputs;
    loops_.weights = graph.weights;
    loops_.storages = graph.storages;
    loops_.guards = graph.guards;
    loops_.in_spec = graph.in_spec;
    loops_.out_spec = graph.out_spec;
  }

  Result<Loops> run() {
    sources();
    for (const Node& node : graph_.nodes) TD_CHECK_OK(lower(node));
    if (!unsupported_.empty()) return fail(unsupported());
    for (const GraphOutput& output : graph_.outputs) add_output(output);
    drop_dead(loops_);
    return std::move(loops_);
  }

 private:
  std::optional<LoopValue>& value(ValueId id) { return values_[static_cast<size_t>(id.index)]; }

  void source(ValueId id, LoopTensor tensor) {
    const Value& value = graph_[id];
    tensor.dtype = value.type.dtype;
    tensor.sizes = value.type.sizes;
    tensor.strides = value.type.strides;
    tensor.device = value.type.device;
    sources_.push_back({id, loops_.add(std::move(tensor))});
  }

  void sources() {
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      loops_.input_tensors.emplace_back();
      const GraphInput& input = graph_.inputs[i];
      if (input.kind != GraphInput::Kind::tensor) continue;
      loops_.input_tensors.back() = {static_cast<int32_t>(loops_.tensors.size())};
      LoopTensor tensor;
      tensor.name = graph_[input.value].name;
      tensor.kind = TensorKind::input;
      tensor.input = static_cast<int32_t>(i);
      source(input.value, std::move(tensor));
      aliases_[static_cast<size_t>(input.value.index)] = true;
    }
    std::vector<std::vector<ValueId>> users(graph_.weights.size());
    for (size_t i = 0; i < graph_.values.size(); ++i)
      if (const Value& value = graph_.values[i]; value.kind == ValueKind::weight && value.weight.valid())
        users[static_cast<size_t>(value.weight.index)].push_back({static_cast<int32_t>(i)});
    for (size_t w = 0; w < users.size(); ++w) {
      if (users[w].empty()) continue;
      LoopTensor tensor;
      tensor.name = graph_[users[w][0]].name;
      tensor.kind = TensorKind::weight;
      tensor.weight = {static_cast<int32_t>(w)};
      source(users[w][0], std::move(tensor));
      for (size_t k = 1; k < users[w].size(); ++k) sources_.push_back({users[w][k], sources_.back().second});
    }
    builder_.emplace(loops_);
    for (auto [id, tensor] : sources_) value(id) = builder_->read(tensor);
  }

  template <class F>
  void for_each_tensor(const Node& node, F f) const {
    for (const Arg& arg : node.args) {
      if (auto* id = std::get_if<ValueId>(&arg); id && id->valid()) f(*id);
      if (auto* ids = std::get_if<std::vector<ValueId>>(&arg))
        for (ValueId id : *ids)
          if (id.valid()) f(id);
    }
  }

  void refuse(const Node& node, const std::string& reason) {
    unsupported_ops_.push_back(node.op);
    unsupported_.push_back(node_text(graph_, node) + (reason.empty() ? "" : ": " + reason));
  }

  Status lower(const Node& node) {
    const OpRow* row = OpTable::all().find(node.op);
    if (row && row->no_result) return {};
    bool ready = true, complex = false;
    for_each_tensor(node, [&](ValueId id) {
      ready = ready && value(id);
      complex = complex || is_complex(graph_[id].type.dtype);
    });
    for (ValueId id : node.outputs) complex = complex || (id.valid() && is_complex(graph_[id].type.dtype));
    // What comes after an op that was refused is not judged.
    if (!ready) return {};
    if (complex) return refuse(node, "complex numbers"), Status{};
    if (node.op == "aten._local_scalar_dense.default" || node.op == "aten.item.default") return lower_item(node);
    const Schema* schema = find_schema(node.op);
    if (!row || !row->lower_rule || !schema) return refuse(node, ""), Status{};

    const LowerCall call(graph_, node, *schema, [this](ValueId id) { return *value(id); });
    const std::string name = name_of(node);
    builder_->enter(name, node.where);
    const size_t before = loops_.tensors.size();
    auto results = row->lower_rule(*builder_, call);
    if (!results && results.error().kind == Kind::unsupported_op) return refuse(node, results.error().text), Status{};
    if (!results) return fail(std::move(results.error()).with("at " + node_text(graph_, node)));
    TD_CHECK(results->size() >= node.outputs.size(), "`{}` lowered to {} results of {}", node.op, results->size(),
             node.outputs.size());
    // What the row made lies where its result does.
    if (!node.outputs.empty() && node.outputs[0].valid())
      for (size_t t = before; t < loops_.tensors.size(); ++t)
        loops_.tensors[t].device = graph_[node.outputs[0]].type.device;
    bool alias = false;
    const bool view = row->views(call);
    if (view) for_each_tensor(node, [&](ValueId id) { alias = alias || aliases_[static_cast<size_t>(id.index)]; });
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const ValueId id = node.outputs[i];
      if (!id.valid()) continue;
      LoopValue& result = (*results)[i];
      TD_CHECK(result.sizes.size() == graph_[id].type.sizes.size(), "`{}` lowered to rank {}, the graph says {}",
               node.op, result.sizes.size(), graph_[id].type.sizes.size());
      aliases_[static_cast<size_t>(id.index)] = alias;
      if (view && result.dtype == graph_[id].type.dtype)
        value(id) = std::move(result);
      else
        value(id) = builder_->read(settle(id, result, before, node.where));
    }
    return {};
  }

  std::string name_of(const Node& node) const {
    for (ValueId id : node.outputs)
      if (id.valid()) return graph_[id].name;
    return "unused";
  }

  // The tensor of a node's result. One that the row has just made takes the value's name; so does nothing else, since
  // what stood before belongs to another value.
  TensorId settle(ValueId id, const LoopValue& result, size_t before, const Where& where) {
    const Value& value = graph_[id];
    const TensorId whole = result.dtype == value.type.dtype ? builder_->whole_tensor(result) : TensorId{};
    if (whole.valid() && static_cast<size_t>(whole.index) < before) return whole;
    TensorId tensor = whole;
    if (!whole.valid()) {
      tensor = builder_->compute(value.type.dtype, value.type.sizes, result.at, value.name, value.type.strides);
    } else if (settled_.contains(whole)) {
      return whole;
    }
    settled_.insert(tensor);
    builder_->rename(tensor, value.name);
    loops_[tensor].strides = value.type.strides;
    loops_[tensor].device = value.type.device;
    loops_[tensor].where = where;
    return tensor;
  }

  // A number that is read on the host: its symbol takes the element's value once the tensor is there.
  Status lower_item(const Node& node) {
    const ValueId id = node.outputs.empty() ? ValueId{} : node.outputs[0];
    if (!id.valid() || graph_[id].symbol.empty()) return {};
    const LoopValue& x = *value(std::get<ValueId>(node.args.at(0)));
    if (is_float(x.dtype)) return refuse(node, "a float read on the host"), Status{};
    builder_->enter(graph_[id].name, node.where);
    const LoopValue one = builder_->reshape(x, {});
    TensorId tensor = builder_->whole_tensor(one);
    if (!tensor.valid() || loops_[tensor].kind != TensorKind::computed)
      tensor = builder_->compute(x.dtype, {}, one.at, graph_[id].name);
    loops_.symbol_reads.push_back({graph_[id].symbol, tensor});
    value(id) = one;
    return {};
  }

  Diagnostic unsupported() const {
    std::vector<std::string> ops;
    for (const std::string& op : unsupported_ops_)
      if (std::ranges::find(ops, "`" + op + "`") == ops.end()) ops.push_back("`" + op + "`");
    return {Kind::unsupported_op, format("no lowering for {}", join(ops, ", ")), unsupported_};
  }

  bool is_mutated(int32_t input) const {
    return std::ranges::any_of(graph_.outputs, [&](const GraphOutput& output) {
      return output.mutates == GraphOutput::Mutates::input && output.input == input;
    });
  }

  // The output as a view of an input's memory: each element's place must be linear in its index with the strides that
  // the caller is to get. Not of an input that the program writes to.
  bool alias_input(const Value& value, const LoopValue& x, LoopOutput& output) {
    ExprPool& pool = builder_->pool();
    Index index;
    SymList vars;
    for (const Sym& size : value.type.sizes) {
      vars.push_back(pool.fresh(size));
      index.push_back(pool.index(proves_eq(size, 1) ? Sym(0) : vars.back()));
    }
    const Expr& e = pool[x.at(index)];
    if (e.kind != ExprKind::load || loops_[e.tensor].kind != TensorKind::input) return false;
    const LoopTensor& input = loops_[e.tensor];
    if (input.dtype != value.type.dtype || is_mutated(input.input)) return false;
    Sym place = 0;
    for (size_t k = 0; k < e.args.size(); ++k) {
      auto at = pool.as_index(e.args[k]);
      if (!at) return false;
      place += *at * input.strides[k];
    }
    for (size_t k = 0; k < vars.size(); ++k) {
      auto line = linear_in(place, vars[k].symbol_name());
      if (!line) return false;
      if (!proves_eq(value.type.sizes[k], 1) && !proves_eq(line->coefficient, value.type.strides[k])) return false;
      place = line->rest;
    }
    output.tensor = e.tensor;
    output.alias_input = input.input;
    output.sizes = value.type.sizes;
    output.offset = place;
    return true;
  }

  void add_output(const GraphOutput& target) {
    LoopOutput output;
    output.target = target;
    output.target.value = {};
    if (target.kind == GraphOutput::Kind::tensor) {
      const Value& v = graph_[target.value];
      const LoopValue& x = *value(target.value);
      output.strides = v.type.strides;
      const bool written = target.mutates != GraphOutput::Mutates::nothing;
      const bool may_alias = !written && aliases_[static_cast<size_t>(target.value.index)];
      if (!may_alias || !alias_input(v, x, output)) {
        output.tensor = builder_->whole_tensor(x);
        // A copy, where the value is a view or memory of the caller's or the model's.
        if (!output.tensor.valid() || loops_[output.tensor].kind != TensorKind::computed ||
            (!written && !same_list(loops_[output.tensor].strides, v.type.strides))) {
          builder_->enter(v.name, v.producer.valid() ? graph_[v.producer].where : Where{});
          output.tensor = builder_->compute(v.type.dtype, v.type.sizes, x.at, v.name, v.type.strides);
          loops_[output.tensor].device = v.type.device;
        }
      }
    }
    loops_.outputs.push_back(std::move(output));
  }

  const Graph& graph_;
  Loops loops_;
  std::optional<LoopBuilder> builder_;
  std::vector<std::optional<LoopValue>> values_;
  std::vector<bool> aliases_;  // the value may share memory with an input
  std::vector<std::pair<ValueId, TensorId>> sources_;
  std::set<TensorId> settled_;
  std::vector<std::string> unsupported_, unsupported_ops_;
};

}  // namespace

Result<Loops> lower_graph(const Graph& graph) { return Lowering(graph).run(); }

}  // namespace toroid
