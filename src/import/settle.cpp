// Sizes that depend on data have names of their own in a program: `x[:n.item()]` has u1 rows, and no call says what u1
// is. Our rules know it as an expression over what the program reads (min(u0, 10)). GraphWriter::settle() notes the
// expression where the name comes up first, and settle_symbols() puts it in the name's place at the end.
#include "base/check.h"
#include "import/graph_writer.h"
#include "ops/unknown.h"

namespace toroid {

void GraphWriter::settle(const Sym& claimed, const Sym& computed) {
  if (!claimed.is_symbol() || met_.contains(claimed.symbol_name())) return;
  const SymbolInfo* info = graph_.find_symbol(claimed.symbol_name());
  if (!info || !info->unbacked || depends_on(computed, "?") || depends_on(computed, claimed.symbol_name())) return;
  settled_[claimed.symbol_name()] = substitute(computed, settled_);
}

Result<std::vector<Handle>> GraphWriter::call_tensor_split(const std::vector<Arg>& args,
                                                           const std::vector<ResultNote>& notes, const Where& where) {
  const Handle* places = std::get_if<Handle>(&args[1]);
  if (!places || type(*places).rank() != 1 || !type(*places).sizes[0].is_constant()) {
    note_unsupported("aten.tensor_split.tensor_indices_or_sections", args, "the number of its results depends on data",
                     where);
    return std::vector<Handle>();
  }
  std::vector<Arg> bounds = {None{}};
  for (int64_t i = 0; i < type(*places).sizes[0].value(); ++i) {
    const Sym bound = add_unbacked_symbol(graph_.symbols, "u_split", INT64_MIN, INT64_MAX);
    TD_TRY(std::vector<Handle> place, call("aten.select.int", {*places, Sym(0), Sym(i)}, {}, where));
    ResultNote read{.name = bound.symbol_name() + "_value", .symbol = bound.symbol_name()};
    read.type = TensorType{.dtype = type(place[0]).dtype};
    read.claimed = false;
    TD_TRY([[maybe_unused]] std::vector<Handle> value,
           call("aten._local_scalar_dense.default", {place[0]}, {read}, where));
    bounds.emplace_back(bound);
  }
  bounds.emplace_back(None{});
  std::vector<Handle> parts;
  for (size_t i = 0; i + 1 < bounds.size(); ++i) {
    const std::vector<ResultNote> note = i < notes.size() ? std::vector{notes[i]} : std::vector<ResultNote>();
    TD_TRY(std::vector<Handle> part,
           call("aten.slice.Tensor", {args[0], args[2], bounds[i], bounds[i + 1], Sym(1)}, note, where));
    parts.push_back(part[0]);
  }
  return parts;
}

namespace {

class Settler {
 public:
  explicit Settler(const std::map<std::string, Sym>& values) : values_(values) {}

  void graph(Graph& graph) {
    for (Value& value : graph.values) type(value.type);
    for (Node& node : graph.nodes)
      for (Arg& arg : node.args) argument(arg);
    for (GraphInput& input : graph.inputs) scalar(input.symbol);
    for (GraphOutput& output : graph.outputs) scalar(output.symbol), argument(output.constant);
    for (Guard& guard : graph.guards) scalar(guard.condition);
    std::erase_if(graph.symbols, [&](const SymbolInfo& info) { return values_.contains(info.name); });
    std::erase_if(graph.guards, [](const Guard& guard) { return proves_eq(guard.condition, 1); });
    for (Graph& inner : graph.subgraphs) this->graph(inner);
  }

 private:
  void scalar(Sym& sym) { sym = substitute(sym, values_); }
  void list(SymList& list) {
    for (Sym& sym : list) scalar(sym);
  }
  void type(TensorType& type) { list(type.sizes), list(type.strides); }
  void argument(Arg& arg) {
    if (Sym* sym = std::get_if<Sym>(&arg)) scalar(*sym);
    if (SymList* syms = std::get_if<SymList>(&arg)) list(*syms);
  }

  const std::map<std::string, Sym>& values_;
};

}  // namespace

void GraphWriter::settle_symbols(Graph& graph) const {
  if (!settled_.empty()) Settler(settled_).graph(graph);
}

}  // namespace toroid
