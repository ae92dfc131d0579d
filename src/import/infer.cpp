// GraphWriter's types: each emitted node's result types by its op's row, compared with what the archive claims.
#include <algorithm>
#include <set>

#include "base/check.h"
#include "import/graph_writer.h"
#include "ops/rules.h"
#include "ops/unknown.h"

namespace toroid {
namespace {

enum class Agreement { yes, no, unknown };

// Unknown: neither proven, nor refuted at the hinted sizes.
Agreement compare(const Sym& a, const Sym& b, const std::map<std::string, int64_t>& hints) {
  if (proves_eq(a, b)) return Agreement::yes;
  if (proves_ne(a, b)) return Agreement::no;
  std::set<std::string> names;
  collect_symbols(a, names);
  collect_symbols(b, names);
  for (const std::string& name : names)
    if (!hints.contains(name)) return Agreement::unknown;
  return evaluate(a, hints) == evaluate(b, hints) ? Agreement::unknown : Agreement::no;
}

// What the lowering itself takes; its results are as the archive says.
bool is_control_flow(const std::string& op) {
  return op == "higher_order.cond" || op == "higher_order.while_loop" || op == "higher_order.scan" ||
         op == "higher_order.map_impl";
}

bool is_reshape(const std::string& op) {
  return op.starts_with("aten.reshape") || op.starts_with("aten.flatten.") || op == "aten.ravel.default";
}

std::string short_op(const std::string& op) {
  size_t end = op.rfind('.');
  size_t start = end == std::string::npos || end == 0 ? std::string::npos : op.rfind('.', end - 1);
  return start == std::string::npos ? op : op.substr(start + 1, end - start - 1);
}

}  // namespace

std::string GraphWriter::describe(const Node& node) const {
  std::vector<std::string> inputs;
  for (const Arg& arg : node.args)
    if (const ValueId* value = std::get_if<ValueId>(&arg); value && value->valid())
      inputs.push_back(to_string(graph_[*value].type));
  std::string text = format("`{}`", node.op);
  if (std::string where = node.where.text(); !where.empty()) append(text, " at {}", where);
  if (!inputs.empty()) append(text, ", inputs {}", join(inputs, ", "));
  return text;
}

Result<TensorType> GraphWriter::agree(const Node& node, size_t index, TensorType computed, const ResultNote& note,
                                      bool views) {
  const TensorType& claimed = *note.type;
  auto differ = [&](const char* what) {
    return fail(Kind::internal, "{}: {} of result {} (`{}`): our rule gives {}, the archive says {}", describe(node),
                what, index, note.name, to_string(computed), to_string(claimed));
  };
  if (computed.dtype != claimed.dtype && autocast_)
    return fail(Kind::unsupported,
                "its result is {} under torch.autocast and {} in the archive; torch.export with strict=True records "
                "types as if there were no autocast: export with strict=False",
                dtype_name(computed.dtype), dtype_name(claimed.dtype));
  if (computed.dtype != claimed.dtype) return differ("element type");
  if (computed.sizes.size() != claimed.sizes.size()) return differ("rank");
  computed.device = claimed.device;
  bool empty = false;
  for (size_t i = 0; i < computed.sizes.size(); ++i) {
    Agreement same = compare(computed.sizes[i], claimed.sizes[i], hints_);
    if (same == Agreement::no) return differ("sizes");
    if (same == Agreement::unknown) settle(claimed.sizes[i], computed.sizes[i]);
    // The archive's expression has used what the export knew, so it is kept.
    if (same == Agreement::unknown) computed.sizes[i] = claimed.sizes[i];
    empty |= computed.sizes[i] == Sym(0);
  }
  if (computed.strides.size() != computed.sizes.size()) {
    computed.strides = claimed.strides;
    return computed;
  }
  // Where operands of several layouts meet, some of PyTorch's own rules end in one order of dims and some in another,
  // for tracing and for eager mode too. Memory of its own can be laid out in any, so that the archive's holds.
  // A reshape that cannot be shown to be a view is a copy of ours, in the layout that PyTorch's has.
  const ValueId* whole = node.args.empty() ? nullptr : std::get_if<ValueId>(&node.args[0]);
  const bool copied_view = views && whole && is_reshape(node.op) && !view_strides(graph_[*whole].type, computed.sizes);
  const bool any_layout =
      claimed.strides.size() == claimed.sizes.size() && (copied_view || (!views && dense_order(claimed).has_value()));
  for (size_t i = 0; i < computed.strides.size(); ++i) {
    // Where a dimension has one element, or the tensor none, a stride means nothing.
    Agreement same = compare(computed.strides[i], claimed.strides[i], hints_);
    if (same == Agreement::no && !empty && !any_layout && proves_lt(1, computed.sizes[i])) return differ("strides");
    if (same != Agreement::yes) computed.strides[i] = claimed.strides[i];
  }
  return computed;
}

Result<std::vector<TensorType>> GraphWriter::infer(const Node& node, const std::vector<ResultNote>& notes) {
  const OpRow* row = OpTable::all().find(node.op);
  const Schema* schema = find_schema(node.op);
  std::vector<TensorType> types;
  bool by_rule = false;
  // A number read on the host has no row: its symbol takes the value.
  const bool host_read = !notes.empty() && !notes[0].symbol.empty();
  if (row && row->infer_rule && schema) {
    Result<std::vector<TensorType>> inferred = row->infer_rule(Call(graph_, node, *schema));
    if (inferred) {
      types = std::move(*inferred);
      by_rule = true;
    } else if (inferred.error().kind == Kind::unsupported_op || inferred.error().kind == Kind::unsupported) {
      if (!allow_unknown_) note_unsupported_node(node, inferred.error().text);
    } else {
      return std::unexpected(std::move(inferred).error().with("in " + describe(node)));
    }
  } else if (!(row && row->no_result) && !host_read && !is_control_flow(node.op) && !allow_unknown_) {
    note_unsupported_node(node, "");
  }
  if (by_rule) {
    if (!notes.empty() && notes.size() != types.size() &&
        std::any_of(notes.begin(), notes.end(), [](const ResultNote& n) { return n.type.has_value(); }))
      return fail(Kind::internal, "{}: our rule gives {} results, the archive says {}", describe(node), types.size(),
                  notes.size());
    const bool views = row->views(Call(graph_, node, *schema));
    for (size_t i = 0; i < types.size() && i < notes.size(); ++i)
      if (notes[i].type && notes[i].claimed) {
        TD_TRY(types[i], agree(node, i, types[i], notes[i], views));
      }
    settle_unknown(graph_, types);
    for (TensorType& type : types)
      if (type.strides.size() != type.sizes.size()) type.strides = contiguous_strides(type.sizes);
    return types;
  }
  for (const ResultNote& note : notes) types.push_back(note.type.value_or(TensorType{}));
  // A call without notes: as many results as the schema says. Only a program that fails anyway comes here.
  if (notes.empty() && schema)
    for (const SchemaReturn& result : schema->returns)
      if (result.kind == ArgKind::tensor) types.emplace_back();
  return types;
}

Result<std::vector<ValueId>> GraphWriter::emit(const std::string& op, std::vector<Arg> args,
                                               const std::vector<ResultNote>& notes, const Where& where) {
  Node node;
  node.op = op;
  node.args = std::move(args);
  node.where = where;
  TD_TRY(std::vector<TensorType> types, infer(node, notes));
  for (const TensorType& type : types)
    for (const Sym& size : type.sizes) meet(size);
  for (const ResultNote& note : notes)
    if (!note.symbol.empty()) met_.insert(note.symbol);
  const OpRow* row = OpTable::all().find(op);
  if (row && row->no_result) return std::vector<ValueId>();
  const NodeId id{static_cast<int32_t>(graph_.nodes.size())};
  for (size_t i = 0; i < types.size(); ++i) {
    if (i < notes.size() && !notes[i].used) {
      node.outputs.emplace_back();
      continue;
    }
    Value value;
    value.name =
        i < notes.size() && !notes[i].name.empty() ? printable_name(notes[i].name) : printable_name(short_op(op));
    value.type = std::move(types[i]);
    value.producer = id;
    value.index = static_cast<int32_t>(i);
    if (i < notes.size()) value.symbol = notes[i].symbol;
    node.outputs.push_back(graph_.add_value(std::move(value)));
  }
  std::vector<ValueId> outputs = node.outputs;
  graph_.nodes.push_back(std::move(node));
  return outputs;
}

}  // namespace toroid
