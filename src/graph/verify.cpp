// Checks a graph:
// - every id is in range; values know their producer, input or weight, and these know them; names are unique and
// printable
// - a node's operands are defined before it; subgraph arguments exist
// - types have as many strides as sizes, and use declared symbols only
// - weights have constant sizes and lie within their storage when its bytes are known
// - outputs name existing values; each weight and each input is written back at most once
#include <set>
#include <unordered_set>

#include "base/check.h"
#include "graph/graph.h"

namespace toroid {
namespace {

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph), defined_(graph.values.size()) {
    for (const SymbolInfo& info : graph.symbols) symbols_.insert(info.name);
  }

  void run() {
    values();
    inputs();
    weights();
    for (size_t i = 0; i < graph_.nodes.size(); ++i) node(NodeId{static_cast<int32_t>(i)});
    for (const Guard& guard : graph_.guards) sym(guard.condition, "a guard");
    outputs();
    for (const Graph& inner : graph_.subgraphs) verify_graph(inner);
  }

 private:
  void id(ValueId value, const std::string& user) const {
    TD_CHECK(value.index >= 0 && static_cast<size_t>(value.index) < graph_.values.size(),
             "graph `{}`: {} names value {} of {}", graph_.name, user, value.index, graph_.values.size());
  }
  void use(ValueId value, const std::string& user) const {
    id(value, user);
    TD_CHECK(defined_[static_cast<size_t>(value.index)], "graph `{}`: {} uses `%{}` before it is defined", graph_.name,
             user, graph_[value].name);
  }
  void sym(const Sym& size, const std::string& user) const {
    if (size.is_constant()) return;
    std::set<std::string> names;
    collect_symbols(size, names);
    for (const std::string& name : names)
      TD_CHECK(symbols_.contains(name), "graph `{}`: {} uses the undeclared symbol `{}`", graph_.name, user, name);
  }
  void type(const TensorType& type, const std::string& user) const {
    TD_CHECK(type.sizes.size() == type.strides.size(), "graph `{}`: {} has {} sizes and {} strides", graph_.name, user,
             type.sizes.size(), type.strides.size());
    for (const Sym& size : type.sizes) sym(size, user);
    for (const Sym& stride : type.strides) sym(stride, user);
  }

  void values() {
    std::unordered_set<std::string> names;
    for (const Value& value : graph_.values) {
      TD_CHECK(!value.name.empty() &&
                   value.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") ==
                       std::string::npos,
               "graph `{}`: value name `{}` cannot be printed", graph_.name, value.name);
      TD_CHECK(names.insert(value.name).second, "graph `{}`: two values are named `%{}`", graph_.name, value.name);
      type(value.type, "`%" + value.name + "`");
      if (!value.symbol.empty())
        TD_CHECK(symbols_.contains(value.symbol), "graph `{}`: `%{}` defines the undeclared symbol `{}`", graph_.name,
                 value.name, value.symbol);
    }
  }
  void inputs() {
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      const GraphInput& input = graph_.inputs[i];
      if (input.kind == GraphInput::Kind::symbol) sym(input.symbol, format("input {}", i));
      if (input.kind != GraphInput::Kind::tensor) continue;
      id(input.value, format("input {}", i));
      const Value& value = graph_[input.value];
      TD_CHECK(value.kind == ValueKind::input && value.index == static_cast<int32_t>(i),
               "graph `{}`: `%{}` is not input {}", graph_.name, value.name, i);
      defined_[static_cast<size_t>(input.value.index)] = true;
    }
  }
  void weights() {
    for (size_t i = 0; i < graph_.values.size(); ++i) {
      const Value& value = graph_.values[i];
      if (value.kind != ValueKind::weight) continue;
      TD_CHECK(value.weight.index >= 0 && static_cast<size_t>(value.weight.index) < graph_.weights.size(),
               "graph `{}`: `%{}` names weight {} of {}", graph_.name, value.name, value.weight.index,
               graph_.weights.size());
      defined_[i] = true;
    }
    std::set<std::string> names;
    for (const Weight& weight : graph_.weights) {
      TD_CHECK(names.insert(weight.name).second, "graph `{}`: two weights are named `{}`", graph_.name, weight.name);
      type(weight.type, "weight `" + weight.name + "`");
      int64_t last = weight.storage_offset;
      bool empty = false;
      for (size_t d = 0; d < weight.type.sizes.size(); ++d) {
        std::optional<int64_t> size = weight.type.sizes[d].constant(), stride = weight.type.strides[d].constant();
        TD_CHECK(size && stride, "graph `{}`: weight `{}` has no constant size", graph_.name, weight.name);
        empty |= *size == 0;
        last += (*size - 1) * *stride;
      }
      TD_CHECK(weight.storage >= -1 && weight.storage < static_cast<int32_t>(graph_.storages.size()),
               "graph `{}`: weight `{}` names storage {} of {}", graph_.name, weight.name, weight.storage,
               graph_.storages.size());
      if (weight.storage < 0 || empty) continue;
      const Storage& storage = graph_.storages[static_cast<size_t>(weight.storage)];
      TD_CHECK(!storage.data || (last + 1) * dtype_bytes(weight.type.dtype) <= storage.bytes,
               "graph `{}`: weight `{}` ends behind its storage", graph_.name, weight.name);
    }
  }
  void node(NodeId node_id) {
    const Node& node = graph_[node_id];
    const std::string user =
        format("node {} (`{}`{}{})", node_id.index, node.op, node.where.text().empty() ? "" : ", ", node.where.text());
    for (const Arg& arg : node.args) {
      if (const ValueId* value = std::get_if<ValueId>(&arg)) use(*value, user);
      if (const auto* values = std::get_if<std::vector<ValueId>>(&arg))
        for (ValueId value : *values)
          if (value.valid()) use(value, user);
      if (const Sym* size = std::get_if<Sym>(&arg)) sym(*size, user);
      if (const SymList* sizes = std::get_if<SymList>(&arg))
        for (const Sym& size : *sizes) sym(size, user);
      if (const SubgraphId* inner = std::get_if<SubgraphId>(&arg))
        TD_CHECK(inner->index >= 0 && static_cast<size_t>(inner->index) < graph_.subgraphs.size(),
                 "graph `{}`: {} names subgraph {}", graph_.name, user, inner->index);
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (!node.outputs[i].valid()) continue;
      id(node.outputs[i], user);
      const Value& value = graph_[node.outputs[i]];
      TD_CHECK(value.kind == ValueKind::node && value.producer == node_id && value.index == static_cast<int32_t>(i),
               "graph `{}`: `%{}` does not know that {} makes it", graph_.name, value.name, user);
      defined_[static_cast<size_t>(node.outputs[i].index)] = true;
    }
  }
  void outputs() {
    std::set<int32_t> written_weights, written_inputs;
    for (const GraphOutput& output : graph_.outputs) {
      if (output.kind == GraphOutput::Kind::tensor) use(output.value, "an output");
      if (output.kind == GraphOutput::Kind::symbol) sym(output.symbol, "an output");
      if (output.mutates == GraphOutput::Mutates::weight) {
        TD_CHECK(output.weight.index >= 0 && static_cast<size_t>(output.weight.index) < graph_.weights.size(),
                 "graph `{}`: an output writes weight {}", graph_.name, output.weight.index);
        TD_CHECK(written_weights.insert(output.weight.index).second, "graph `{}`: weight `{}` is written back twice",
                 graph_.name, graph_[output.weight].name);
      }
      if (output.mutates == GraphOutput::Mutates::input) {
        TD_CHECK(output.input >= 0 && static_cast<size_t>(output.input) < graph_.inputs.size(),
                 "graph `{}`: an output writes input {}", graph_.name, output.input);
        TD_CHECK(written_inputs.insert(output.input).second, "graph `{}`: input {} is written back twice", graph_.name,
                 output.input);
      }
    }
  }

  const Graph& graph_;
  std::vector<bool> defined_;
  std::set<std::string> symbols_;
};

}  // namespace

void verify_graph(const Graph& graph) { Verifier(graph).run(); }

}  // namespace toroid
