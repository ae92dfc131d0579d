// Nodes and arguments of one Graph object of the exported program.
#include <algorithm>

#include "base/check.h"
#include "import/program.h"

namespace toroid {
namespace {

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> starts) {
  return std::any_of(starts.begin(), starts.end(), [&](std::string_view start) { return text.starts_with(start); });
}

bool is_symbolic_function(std::string_view target) {
  return starts_with_any(target, {"_operator.", "math.", "torch.sym_", "torch._sym_"});
}
bool is_host_read(std::string_view op) { return op == "aten.item.default" || op == "aten._local_scalar_dense.default"; }
bool is_assertion(std::string_view op) {
  return op == "aten._assert_scalar.default" || op == "aten._assert_tensor_metadata.default" ||
         op == "aten.sym_constrain_range.default" || op == "aten.sym_constrain_range_for_size.default" ||
         op == "aten._functional_assert_scalar.default" || op == "aten._functional_sym_constrain_range.default" ||
         op == "aten._functional_sym_constrain_range_for_size.default" || op == "aten._make_dep_token.default";
}

// A Sym that is a known number as the argument it was meant to be.
Arg plain(const Sym& value) {
  if (value.kind() == SymKind::call && value.function().starts_with("float:")) return Arg(evaluate_float(value, {}));
  return Arg(value);
}

}  // namespace

GraphReader::GraphReader(Json json, JsonDocument& document, MetaReader& meta, GraphWriter& writer, Graph& graph,
                         int depth)
    : json_(json), document_(document), meta_(meta), writer_(writer), graph_(graph), depth_(depth) {
  // Looked up by name thousands of times, so once into tables.
  json["tensor_values"].each_field([&](std::string_view name, const Json& value) { tensors_.emplace(name, value); });
  for (const char* table : {"sym_int_values", "sym_bool_values", "sym_float_values"})
    if (Json values = json.find(table); !values.is_null())
      values.each_field([&](std::string_view name, const Json& value) { scalars_.emplace(name, value); });
}

Result<TensorMeta> GraphReader::tensor_meta(std::string_view name) {
  auto found = tensors_.find(name);
  if (found == tensors_.end()) return fail(Kind::bad_file, "no tensor_values entry of `{}`", name);
  return meta_.tensor(found->second);
}

Result<Arg> GraphReader::lookup(std::string_view name) {
  if (auto found = names_.find(std::string(name)); found != names_.end()) return found->second;
  auto scalar = scalars_.find(name);
  if (scalar == scalars_.end()) return fail(Kind::bad_file, "`{}` is used before it is defined", name);
  TD_TRY(Sym value, meta_.size(scalar->second));
  Arg arg = plain(value);
  names_.emplace(std::string(name), arg);
  return arg;
}

Result<Arg> GraphReader::symbolic(const Json& json) {
  auto [tag, value] = json.tagged();
  if (tag == "as_name") return lookup(value.text());
  if (tag == "as_int") return Arg(Sym(value.integer()));
  if (tag == "as_float") return Arg(value.number());
  if (tag == "as_bool") return Arg(value.boolean());
  json.fault("a symbolic scalar");
  return Arg(None{});
}

Result<Arg> GraphReader::symbolic_list(const Json& json) {
  SymList list;
  std::vector<double> numbers;
  Status failure;
  json.each([&](const Json& item) {
    if (!failure) return;
    Result<Arg> value = symbolic(item);
    if (!value) {
      failure = std::unexpected(value.error());
    } else if (const Sym* sym = std::get_if<Sym>(&*value)) {
      list.push_back(*sym);
    } else if (const double* number = std::get_if<double>(&*value)) {
      numbers.push_back(*number);
      list.push_back(sym_float(*number));
    } else if (const bool* truth = std::get_if<bool>(&*value)) {
      list.emplace_back(*truth);
    } else {
      failure = fail(Kind::bad_file, "a tensor in a list of scalars");
    }
  });
  TD_CHECK_OK(failure);
  if (!numbers.empty() && numbers.size() == list.size()) return Arg(std::move(numbers));
  return Arg(std::move(list));
}

Result<Arg> GraphReader::argument(const Json& json) {
  auto [tag, value] = json.tagged();
  return argument(tag, value);
}

Result<Arg> GraphReader::argument(std::string_view tag, const Json& value) {
  if (tag == "as_none") return Arg(None{});
  if (tag == "as_tensor") return lookup(value["name"].text());
  if (tag == "as_int") return Arg(Sym(value.integer()));
  if (tag == "as_float") return Arg(value.number());
  if (tag == "as_string" || tag == "as_operator") return Arg(std::string(value.text()));
  if (tag == "as_bool") return Arg(value.boolean());
  if (tag == "as_sym_int" || tag == "as_sym_float" || tag == "as_sym_bool") return symbolic(value);
  if (tag == "as_sym_ints" || tag == "as_sym_floats" || tag == "as_sym_bools") return symbolic_list(value);
  if (tag == "as_ints") {
    SymList list;
    value.each([&](const Json& item) { list.emplace_back(item.integer()); });
    return Arg(std::move(list));
  }
  if (tag == "as_floats") {
    std::vector<double> list;
    value.each([&](const Json& item) { list.push_back(item.number()); });
    return Arg(std::move(list));
  }
  if (tag == "as_bools") {
    std::vector<bool> list;
    value.each([&](const Json& item) { list.push_back(item.boolean()); });
    return Arg(std::move(list));
  }
  if (tag == "as_strings") {
    std::vector<std::string> list;
    value.each([&](const Json& item) { list.emplace_back(item.text()); });
    return Arg(std::move(list));
  }
  if (tag == "as_tensors" || tag == "as_optional_tensors") {
    std::vector<Handle> list;
    Status failure;
    value.each([&](const Json& item) {
      if (!failure) return;
      Json named = item;
      if (tag == "as_optional_tensors") {
        auto [item_tag, item_value] = item.tagged();
        if (item_tag == "as_none") {
          list.emplace_back();
          return;
        }
        named = item_value;
      }
      Result<Arg> tensor = lookup(named["name"].text());
      if (!tensor) {
        failure = std::unexpected(tensor.error());
        return;
      }
      // Operands of higher-order ops may be sizes; symbols are known in every graph, so their place stays empty.
      const Handle* handle = std::get_if<Handle>(&*tensor);
      list.push_back(handle ? *handle : Handle{});
    });
    TD_CHECK_OK(failure);
    return Arg(std::move(list));
  }
  if (tag == "as_optional_tensor") {
    auto [inner_tag, inner] = value.tagged();
    if (inner_tag == "as_none") return Arg(None{});
    return lookup(inner["name"].text());
  }
  if (tag == "as_scalar_type") {
    TD_TRY(DType dtype, dtype_from_archive(value.integer()));
    return Arg(dtype);
  }
  if (tag == "as_memory_format") {
    switch (value.integer()) {
      case 1: return Arg(MemoryFormat::contiguous);
      case 2: return Arg(MemoryFormat::channels_last);
      case 3: return Arg(MemoryFormat::channels_last_3d);
      case 4: return Arg(MemoryFormat::preserve);
      default: value.fault("a memory format"); return Arg(None{});
    }
  }
  if (tag == "as_layout") {
    constexpr int64_t strided = 7;
    if (value.integer() == strided || !value.ok()) return Arg(None{});
    return fail(Kind::unsupported, "layout {} (only strided tensors are taken)", value.integer());
  }
  if (tag == "as_device") {
    TD_TRY(Device device, device_from_archive(value));
    return Arg(std::move(device));
  }
  if (tag == "as_complex") return Arg(std::complex<double>(value["real"].number(), value["imag"].number()));
  if (tag == "as_graph") return nested_graph(value);
  if (tag == "as_int_lists" || tag == "as_float_lists" || tag == "as_nested_tensors" ||
      tag == "as_string_to_argument" || tag == "as_custom_obj")
    return fail(Kind::unsupported, "an argument of kind `{}`", tag);
  return fail(Kind::bad_file, "unknown kind of argument `{}`", tag);
}

Result<Arg> GraphReader::nested_graph(const Json& value) {
  if (depth_ >= max_nesting) return fail(Kind::bad_file, "graphs nested more than {} deep", max_nesting);
  Graph inner;
  inner.name = printable_name(std::string(value["name"].text()));
  Json json = value["graph"];
  // The op that takes the graph decides whether it can be compiled, so ops without a row inside it are kept.
  GraphWriter writer(inner, true);
  writer.set_autocast(writer_.autocast());
  GraphReader reader(json, document_, meta_, writer, inner, depth_ + 1);
  reader.claims_ = claims_;
  Status failure;
  json["inputs"].each([&](const Json& input) {
    if (!failure) return;
    auto [tag, named] = input.tagged();
    if (tag != "as_tensor") {
      GraphInput scalar;
      Result<Arg> bound = reader.argument(tag, named);
      if (!bound) {
        failure = std::unexpected(bound.error());
        return;
      }
      const Sym* symbol = std::get_if<Sym>(&*bound);
      scalar.kind = symbol ? GraphInput::Kind::symbol : GraphInput::Kind::constant;
      scalar.name = format("arg{}", inner.inputs.size());
      if (symbol)
        scalar.symbol = *symbol;
      else
        scalar.constant = *bound;
      inner.inputs.push_back(std::move(scalar));
      return;
    }
    std::string name(named["name"].text());
    Result<TensorMeta> meta = reader.tensor_meta(name);
    if (!meta) {
      failure = std::unexpected(meta.error());
      return;
    }
    reader.bind(name, writer.add_input(name, printable_name(name), meta->type));
  });
  TD_CHECK_OK(failure);
  TD_CHECK_OK(reader.read_nodes());
  json["outputs"].each([&](const Json& output) {
    if (!failure) return;
    Result<Arg> result = reader.argument(output);
    if (!result) {
      failure = std::unexpected(result.error());
      return;
    }
    GraphOutput out;
    if (const Handle* handle = std::get_if<Handle>(&*result)) {
      out.value = writer.read(*handle);
    } else if (const Sym* symbol = std::get_if<Sym>(&*result)) {
      out.kind = GraphOutput::Kind::symbol, out.symbol = *symbol;
    } else {
      out.kind = GraphOutput::Kind::constant, out.constant = *result;
    }
    inner.outputs.push_back(std::move(out));
  });
  TD_CHECK_OK(failure);
  TD_CHECK_OK(writer.finish());
  return Arg(add_subgraph(std::move(inner)));
}

// Names of subgraphs are unique, so that the text can name them.
SubgraphId GraphReader::add_subgraph(Graph inner) {
  const std::string base = inner.name.empty() ? "graph" : inner.name;
  inner.name = base;
  for (int i = 1; std::ranges::any_of(graph_.subgraphs, [&](const Graph& g) { return g.name == inner.name; }); ++i)
    inner.name = format("{}_{}", base, i);
  graph_.subgraphs.push_back(std::move(inner));
  return {static_cast<int32_t>(graph_.subgraphs.size()) - 1};
}

Status GraphReader::read_nodes() {
  std::vector<Json> nodes;
  json_["nodes"].each([&](const Json& node) { nodes.push_back(node); });
  TD_CHECK_OK(document_.status());
  return read_list(nodes);
}

Status GraphReader::read_node(const Json& node) {
  const std::string_view target = node["target"].text();
  constexpr std::string_view prefix = "torch.ops.";
  if (is_symbolic_function(target)) return {};  // its value stands in the tables
  const Where where = where_from_metadata(node["metadata"]);
  if (!target.starts_with(prefix)) return refuse(std::string(target), node, "", where);
  const std::string op(target.substr(prefix.size()));
  if (op == "higher_order.wrap_with_set_grad_enabled" || op == "higher_order.wrap_with_autocast" ||
      op == "higher_order.invoke_subgraph")
    return read_inlined(op, node);
  if (op == "higher_order.out_dtype") return read_wide(node, where);
  if (op == "higher_order.auto_functionalized_v2") return read_functionalized(op, node, where);
  if (is_assertion(op)) return read_assertion(op, node);
  if (is_host_read(op)) return read_host_value(op, node, where);
  bool only_scalars = node["outputs"].size() > 0;
  node["outputs"].each([&](const Json& output) { only_scalars &= output.tagged().first.starts_with("as_sym_"); });
  if (only_scalars && op.starts_with("aten.sym_")) return {};
  return read_call(op, node, where);
}

Result<Arg> GraphReader::input(const Json& node, size_t index) {
  Json found;
  size_t i = 0;
  node["inputs"].each([&](const Json& item) {
    if (i++ == index) found = item;
  });
  if (!found.present()) return fail(Kind::bad_file, "node `{}` has no input {}", node["target"].text(), index);
  return argument(found["arg"]);
}

Status GraphReader::results(const Json& node, std::vector<ResultNote>& notes, std::vector<std::string>& names) {
  Status failure;
  auto add = [&](std::string_view name) {
    if (!failure) return;
    ResultNote note;
    note.used = !name.empty();
    note.name = name;
    if (note.used) {
      Result<TensorMeta> meta = tensor_meta(name);
      if (!meta) {
        failure = std::unexpected(meta.error());
        return;
      }
      note.type = meta->type;
      note.claimed = claims_;
      if (claims_) note.storage_offset = meta->storage_offset;
    }
    notes.push_back(std::move(note));
    names.emplace_back(name);
  };
  const bool control = node["target"].text().starts_with("torch.ops.higher_order.");
  node["outputs"].each([&](const Json& output) {
    auto [tag, value] = output.tagged();
    if (tag == "as_tensor") {
      add(value["name"].text());
    } else if (control && tag == "as_sym_int") {
      // What the graphs that run give in its place is a tensor, which is read.
      ResultNote note;
      note.type = TensorType{.dtype = DType::i64};
      notes.push_back(std::move(note));
      names.emplace_back();
    } else if (control && tag == "as_int") {
      add("");
    } else if (tag == "as_tensors" || tag == "as_optional_tensors") {
      const bool optional = tag == "as_optional_tensors";
      value.each([&](const Json& item) {
        if (!optional) return add(item["name"].text());
        auto [item_tag, named] = item.tagged();
        add(item_tag == "as_none" ? "" : named["name"].text());
      });
    } else if (tag == "as_none") {
      add("");
    } else if (!tag.starts_with("as_sym_") && tag != "as_int" && tag != "as_bool" && tag != "as_float") {
      failure = fail(Kind::unsupported, "a result of kind `{}` of `{}`", tag, node["target"].text());
    }
  });
  TD_CHECK_OK(document_.status());
  return failure;
}

Status GraphReader::read_call(const std::string& op, const Json& node, const Where& where) {
  const Schema* schema = find_schema(op);
  std::vector<NamedArg> given;
  Status failure;
  node["inputs"].each([&](const Json& item) {
    if (!failure) return;
    Result<Arg> value = argument(item["arg"]);
    if (!value) {
      failure = std::unexpected(
          std::move(value).error().with(format("in `{}`{}{}", op, where.text().empty() ? "" : " at ", where.text())));
      return;
    }
    given.push_back({schema ? std::string(item["name"].text()) : "", std::move(*value)});
  });
  TD_CHECK_OK(document_.status());
  TD_CHECK_OK(failure);
  std::vector<Arg> args;
  if (schema) {
    Result<std::vector<Arg>> bound = bind_arguments(*schema, std::move(given));
    if (!bound) {
      Diagnostic wrong = std::move(bound).error();
      wrong.kind = Kind::bad_file;
      return std::unexpected(std::move(wrong));
    }
    args = std::move(*bound);
  } else {
    for (NamedArg& arg : given) args.push_back(std::move(arg.value));
  }
  std::vector<ResultNote> notes;
  std::vector<std::string> names;
  TD_CHECK_OK(results(node, notes, names));
  TD_TRY(std::vector<Handle> made, writer_.call(op, args, notes, where));
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) continue;
    // Only an op that is refused at the end gives fewer results than the archive lists.
    if (i < made.size() && made[i].valid())
      bind(names[i], made[i]);
    else
      bind(names[i], writer_.placeholder(notes[i]));
  }
  if (!op.starts_with("higher_order.")) return {};
  size_t at = 0;
  node["outputs"].each([&](const Json& output) {
    const size_t place = at++;
    if (failure && output.tagged().first == "as_sym_int" && place < made.size() && made[place].valid())
      failure = read_number(output, made[place], where);
  });
  return failure;
}

Status GraphReader::refuse(const std::string& op, const Json& node, const std::string& reason, const Where& where) {
  writer_.note_unsupported(op, {}, reason, where);
  std::vector<ResultNote> notes;
  std::vector<std::string> names;
  TD_CHECK_OK(results(node, notes, names));
  for (size_t i = 0; i < names.size(); ++i)
    if (!names[i].empty()) bind(names[i], writer_.placeholder(notes[i]));
  return {};
}

Status GraphReader::read_host_value(const std::string& op, const Json& node, const Where& where) {
  TD_TRY(Arg self, input(node, 0));
  const Handle* handle = std::get_if<Handle>(&self);
  if (!handle) return fail(Kind::bad_file, "`{}` of something that is no tensor", op);
  Status failure;
  node["outputs"].each([&](const Json& output) {
    if (failure) failure = read_number(output, *handle, where);
  });
  TD_CHECK_OK(document_.status());
  return failure;
}

// The symbol of a node's scalar result takes the value of a tensor's element.
Status GraphReader::read_number(const Json& output, Handle tensor, const Where& where) {
  auto [tag, value] = output.tagged();
  if (tag != "as_sym_int" && tag != "as_sym_float" && tag != "as_sym_bool") return {};
  Json name = value.find("as_name");
  if (!name.is_string()) return {};
  TD_TRY(Arg read, lookup(name.text()));
  const Sym* sym = std::get_if<Sym>(&read);
  std::string symbol;
  if (sym && sym->is_symbol())
    symbol = sym->symbol_name();
  else if (sym && sym->kind() == SymKind::call && sym->function() == "from_bits")
    symbol = sym->args()[0].symbol_name();
  // A value that the export knew needs no read.
  if (symbol.empty()) return {};
  ResultNote note{.name = symbol + "_value", .symbol = symbol};
  note.type = TensorType{.dtype = writer_.type(tensor).dtype, .device = writer_.type(tensor).device};
  note.claimed = false;
  TD_TRY([[maybe_unused]] std::vector<Handle> made,
         writer_.call("aten._local_scalar_dense.default", {tensor}, {note}, where));
  return {};
}

Status GraphReader::read_assertion(const std::string& op, const Json& node) {
  if (op == "aten._make_dep_token.default") return {};
  if (op == "aten._assert_tensor_metadata.default") {
    TD_TRY(Arg tensor, input(node, 0));
    const Handle* handle = std::get_if<Handle>(&tensor);
    if (!handle) return fail(Kind::bad_file, "`{}` of something that is no tensor", op);
    Status failure;
    node["inputs"].each([&](const Json& item) {
      if (!failure || item["name"].text() != "dtype") return;
      Result<Arg> wanted = argument(item["arg"]);
      if (!wanted)
        failure = std::unexpected(wanted.error());
      else if (const DType* dtype = std::get_if<DType>(&*wanted); dtype && *dtype != writer_.type(*handle).dtype)
        failure = fail(Kind::bad_file, "the program asserts a tensor of {}, which is {}", dtype_name(*dtype),
                       dtype_name(writer_.type(*handle).dtype));
    });
    TD_CHECK_OK(document_.status());
    return failure;
  }
  TD_TRY(Arg first, input(node, 0));
  if (op.find("assert_scalar") != std::string::npos) {
    std::string message = "an assertion of the model does not hold";
    if (node["inputs"].size() > 1) {
      TD_TRY(Arg text, input(node, 1));
      if (const std::string* given = std::get_if<std::string>(&text)) message = *given;
    }
    if (const bool* truth = std::get_if<bool>(&first)) return writer_.assert_condition(Sym(*truth), message);
    if (const Sym* condition = std::get_if<Sym>(&first)) return writer_.assert_condition(*condition, message);
    return fail(Kind::bad_file, "`{}` of something that is no scalar", op);
  }
  const Sym* size = std::get_if<Sym>(&first);
  if (!size) return {};
  Status failure;
  node["inputs"].each([&](const Json& item) {
    const std::string_view name = item["name"].text();
    if (!failure || (name != "min" && name != "max")) return;
    Result<Arg> bound = argument(item["arg"]);
    if (!bound) {
      failure = std::unexpected(bound.error());
    } else if (const Sym* limit = std::get_if<Sym>(&*bound)) {
      Sym condition = name == "min" ? sym_le(*limit, *size) : sym_le(*size, *limit);
      failure = writer_.assert_condition(condition,
                                         format("a value of the model must be in range: {}", to_string(condition)));
    }
  });
  TD_CHECK_OK(document_.status());
  return failure;
}

// out_dtype(op, dtype, *args): the op on operands of the type that the result is to have.
Status GraphReader::read_wide(const Json& node, const Where& where) {
  TD_TRY(Arg op, input(node, 0));
  TD_TRY(Arg dtype, input(node, 1));
  const std::string* name = std::get_if<std::string>(&op);
  constexpr std::string_view prefix = "torch.ops.";
  if (!name || !name->starts_with(prefix) || !std::holds_alternative<DType>(dtype))
    return fail(Kind::bad_file, "`higher_order.out_dtype` without its op or type");
  std::vector<Arg> args;
  for (size_t i = 2; i < node["inputs"].size(); ++i) {
    TD_TRY(Arg arg, input(node, i));
    if (std::holds_alternative<Handle>(arg)) {
      TD_TRY(std::vector<Handle> wide, writer_.call("aten.to.dtype", {arg, dtype, false, false, None{}}, {}, where));
      arg = wide[0];
    }
    args.push_back(std::move(arg));
  }
  std::vector<ResultNote> notes;
  std::vector<std::string> names;
  TD_CHECK_OK(results(node, notes, names));
  TD_TRY(std::vector<Handle> made, writer_.call(name->substr(prefix.size()), args, notes, where));
  for (size_t i = 0; i < names.size() && i < made.size(); ++i) bind(names[i], made[i]);
  return {};
}

// wrap_with_set_grad_enabled(bool, graph, *operands), wrap_with_autocast(device, dtype, enabled, cache, graph,
// *operands), invoke_subgraph(graph, name, *operands): the graph's nodes in place of the call.
Status GraphReader::read_inlined(const std::string& op, const Json& node) {
  if (depth_ >= max_nesting) return fail(Kind::bad_file, "graphs nested more than {} deep", max_nesting);
  std::vector<Json> inputs;
  node["inputs"].each([&](const Json& item) { inputs.push_back(item["arg"]); });
  const bool autocast = op == "higher_order.wrap_with_autocast";
  const bool named = op == "higher_order.invoke_subgraph";
  const size_t graph_at = autocast ? 4 : named ? 0 : 1;
  if (inputs.size() <= graph_at || inputs[graph_at].tagged().first != "as_graph")
    return fail(Kind::bad_file, "`{}` without a graph as its argument {}", op, graph_at);
  const std::optional<DType> around = writer_.autocast();
  if (autocast) {
    TD_TRY(Arg device, argument(inputs[0]));
    TD_TRY(Arg dtype, argument(inputs[1]));
    TD_TRY(Arg enabled, argument(inputs[2]));
    const std::string* name = std::get_if<std::string>(&device);
    const bool* on = std::get_if<bool>(&enabled);
    if (!name || !on) return fail(Kind::bad_file, "`{}` without its device or switch", op);
    // A region for another device casts nothing on a CPU.
    if (*name == "cpu") {
      const DType* lower = std::get_if<DType>(&dtype);
      writer_.set_autocast(*on ? std::optional(lower ? *lower : DType::bf16) : std::nullopt);
    }
  }
  Json json = inputs[graph_at].tagged().second["graph"];
  GraphReader inner(json, document_, meta_, writer_, graph_, depth_ + 1);
  inner.claims_ = claims_;
  size_t operand = graph_at + (named ? 2 : 1);
  Status failure;
  json["inputs"].each([&](const Json& input) {
    if (!failure) return;
    auto [tag, named] = input.tagged();
    std::string_view name = tag == "as_tensor"                  ? named["name"].text()
                            : named.find("as_name").is_string() ? named["as_name"].text()
                                                                : "";
    if (operand >= inputs.size()) {
      failure = fail(Kind::bad_file, "`{}` has fewer operands than its graph has inputs", op);
      return;
    }
    Result<Arg> value = argument(inputs[operand++]);
    if (!value)
      failure = std::unexpected(value.error());
    else if (!name.empty())
      inner.bind(name, std::move(*value));
  });
  TD_CHECK_OK(document_.status());
  TD_CHECK_OK(failure);
  TD_CHECK_OK(inner.read_nodes());
  writer_.set_autocast(around);
  std::vector<Arg> values;
  json["outputs"].each([&](const Json& output) {
    if (!failure) return;
    auto [tag, value] = output.tagged();
    Result<Arg> result = inner.argument(tag, value);
    if (!result) {
      failure = std::unexpected(result.error());
    } else if (const auto* list = std::get_if<std::vector<Handle>>(&*result)) {
      values.insert(values.end(), list->begin(), list->end());
    } else {
      values.push_back(std::move(*result));
    }
  });
  TD_CHECK_OK(failure);
  std::vector<std::string> names;
  node["outputs"].each([&](const Json& output) {
    auto [tag, value] = output.tagged();
    if (tag == "as_tensor")
      names.emplace_back(value["name"].text());
    else if (tag == "as_tensors")
      value.each([&](const Json& item) { names.emplace_back(item["name"].text()); });
    else
      names.emplace_back(tag.starts_with("as_sym_") && value.find("as_name").is_string() ? value["as_name"].text()
                                                                                         : "");
  });
  TD_CHECK_OK(document_.status());
  if (names.size() != values.size())
    return fail(Kind::bad_file, "`{}` lists {} results, its graph has {}", op, names.size(), values.size());
  for (size_t i = 0; i < names.size(); ++i)
    if (!names[i].empty()) bind(names[i], values[i]);
  return {};
}

}  // namespace toroid
