// Writes a graph as text that parse.cpp reads back.
#include <set>

#include "base/check.h"
#include "graph/graph.h"

namespace toroid {
namespace {

const char* format_name(MemoryFormat format) {
  switch (format) {
    case MemoryFormat::contiguous: return "contiguous";
    case MemoryFormat::channels_last: return "channels_last";
    case MemoryFormat::channels_last_3d: return "channels_last_3d";
    case MemoryFormat::preserve: return "preserve";
  }
  return "preserve";
}

template <class List, class Text>
std::string list_text(const char* empty, const List& list, Text text) {
  if (list.empty()) return empty;
  std::string out = "[";
  for (size_t i = 0; i < list.size(); ++i) out += (i ? ", " : "") + text(list[i]);
  return out + "]";
}

class Printer {
 public:
  Printer(const Graph& graph, std::string indent) : graph_(graph), indent_(std::move(indent)) {}

  std::string print() {
    header();
    for (const Graph& inner : graph_.subgraphs) out_ += Printer(inner, indent_ + "  ").print();
    weights();
    for (const Node& node : graph_.nodes) line(node_text(node));
    for (const Guard& guard : graph_.guards)
      line(format("guard {}{}", to_string(guard.condition), guard.text.empty() ? "" : " " + quoted(guard.text)));
    returns();
    append(out_, "{}}}\n", indent_);
    return std::move(out_);
  }

 private:
  void line(const std::string& text) { append(out_, "{}  {}\n", indent_, text); }
  std::string name(ValueId id) const { return id.valid() ? "%" + graph_[id].name : "none"; }

  void header() {
    append(out_, "{}graph @{}(", indent_, graph_.name);
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      const GraphInput& input = graph_.inputs[i];
      if (i) out_ += ", ";
      switch (input.kind) {
        case GraphInput::Kind::tensor:
          append(out_, "{}{}: {}", name(input.value),
                 input.name == graph_[input.value].name ? "" : " " + quoted(input.name),
                 to_string(graph_[input.value].type));
          break;
        case GraphInput::Kind::symbol: append(out_, "int {} = {}", quoted(input.name), to_string(input.symbol)); break;
        case GraphInput::Kind::constant:
          append(out_, "constant {} = {}", quoted(input.name), arg_text(input.constant));
          break;
      }
    }
    out_ += ")";
    for (size_t i = 0; i < graph_.symbols.size(); ++i) {
      const SymbolInfo& info = graph_.symbols[i];
      out_ += i ? ", " : " where ";
      if (info.low != INT64_MIN) append(out_, "{} <= ", info.low);
      out_ += info.name;
      if (info.high != sym_infinity) append(out_, " <= {}", info.high);
      if (info.hint) append(out_, " hint {}", *info.hint);
      if (info.unbacked) out_ += " unbacked";
    }
    out_ += " {\n";
  }

  void weights() {
    // A storage is named only where it matters: when weights share it, or a weight is not at its start.
    std::map<int32_t, int> users, labels;
    for (const Weight& weight : graph_.weights) ++users[weight.storage];
    std::vector<ValueId> value_of(graph_.weights.size());
    for (size_t i = 0; i < graph_.values.size(); ++i)
      if (graph_.values[i].kind == ValueKind::weight && graph_.values[i].weight.valid())
        value_of[static_cast<size_t>(graph_.values[i].weight.index)] = ValueId{static_cast<int32_t>(i)};
    for (size_t i = 0; i < graph_.weights.size(); ++i) {
      const Weight& weight = graph_.weights[i];
      const char* kinds[] = {"weight", "buffer", "constant"};
      std::string text = format("{} = {} {}", value_of[i].valid() ? name(value_of[i]) : "_",
                                kinds[static_cast<int>(weight.kind) - 1], quoted(weight.name));
      if (!weight.persistent) text += " transient";
      append(text, " : {}", to_string(weight.type));
      if (weight.storage >= 0 && (users[weight.storage] > 1 || weight.storage_offset != 0)) {
        int label = labels.try_emplace(weight.storage, static_cast<int>(labels.size())).first->second;
        append(text, " in storage {} at {}", label, weight.storage_offset);
      }
      line(text);
    }
  }

  std::string arg_text(const Arg& arg) const {
    struct Visitor {
      const Printer& p;
      std::string operator()(None) const { return "none"; }
      std::string operator()(ValueId id) const { return p.name(id); }
      std::string operator()(const std::vector<ValueId>& ids) const {
        return list_text("tensors[]", ids, [&](ValueId id) { return p.name(id); });
      }
      std::string operator()(const Sym& sym) const { return to_string(sym); }
      std::string operator()(const SymList& list) const { return "[" + to_string(list) + "]"; }
      std::string operator()(double value) const { return float_text(value); }
      std::string operator()(const std::vector<double>& list) const { return list_text("floats[]", list, float_text); }
      std::string operator()(bool value) const { return value ? "true" : "false"; }
      std::string operator()(const std::vector<bool>& list) const {
        return list_text("bools[]", list, [](bool value) { return std::string(value ? "true" : "false"); });
      }
      std::string operator()(const std::string& text) const { return quoted(text); }
      std::string operator()(const std::vector<std::string>& list) const {
        return list_text("strings[]", list, [](const std::string& text) { return quoted(text); });
      }
      std::string operator()(DType dtype) const { return std::string(dtype_name(dtype)); }
      std::string operator()(MemoryFormat format) const { return format_name(format); }
      std::string operator()(const Device& device) const { return "device " + quoted(to_string(device)); }
      std::string operator()(std::complex<double> value) const {
        return format("complex({}, {})", float_text(value.real()), float_text(value.imag()));
      }
      std::string operator()(SubgraphId id) const {
        return "@" + p.graph_.subgraphs[static_cast<size_t>(id.index)].name;
      }
    };
    return std::visit(Visitor{*this}, arg);
  }

  std::string node_text(const Node& node) const {
    std::string text;
    for (size_t i = 0; i < node.outputs.size(); ++i)
      text += (i ? ", " : "") + (node.outputs[i].valid() ? name(node.outputs[i]) : std::string("_"));
    if (!node.outputs.empty()) text += " = ";
    append(text, "{}(", node.op);
    for (size_t i = 0; i < node.args.size(); ++i) text += (i ? ", " : "") + arg_text(node.args[i]);
    text += ")";
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      text += i ? ", " : " : ";
      if (!node.outputs[i].valid()) {
        text += "_";
        continue;
      }
      const Value& value = graph_[node.outputs[i]];
      text += to_string(value.type);
      if (!value.symbol.empty()) append(text, " defines {}", value.symbol);
    }
    if (std::string where = node.where.text(); !where.empty()) text += "  @ " + where;
    return text;
  }

  void returns() {
    std::string text = "return";
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      const GraphOutput& output = graph_.outputs[i];
      text += i ? ", " : " ";
      if (!output.name.empty()) append(text, "{}: ", quoted(output.name));
      switch (output.kind) {
        case GraphOutput::Kind::tensor: text += name(output.value); break;
        case GraphOutput::Kind::symbol: append(text, "int {}", to_string(output.symbol)); break;
        case GraphOutput::Kind::constant: append(text, "constant {}", arg_text(output.constant)); break;
      }
      if (output.mutates == GraphOutput::Mutates::weight)
        append(text, " -> weight {}", quoted(graph_[output.weight].name));
      if (output.mutates == GraphOutput::Mutates::input) append(text, " -> input {}", output.input);
    }
    line(text);
    if (!graph_.in_spec.empty()) line("in_spec " + quoted(graph_.in_spec));
    if (!graph_.out_spec.empty()) line("out_spec " + quoted(graph_.out_spec));
  }

  const Graph& graph_;
  std::string indent_, out_;
};

}  // namespace

std::string print_graph(const Graph& graph) { return Printer(graph, "").print(); }

}  // namespace toroid
