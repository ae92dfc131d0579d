// An archive's ExportedProgram to a Graph: models, signature, weights, ranges; the nodes are read by nodes.cpp.
#include <algorithm>
#include <set>

#include "base/check.h"
#include "import/program.h"

namespace toroid {
namespace {

constexpr int64_t schema_major = 8;
// Beyond this a range has no end: PyTorch writes its largest int minus a few.
constexpr int64_t endless = int64_t{1} << 60;

std::vector<std::string> models_of(const Archive& archive) {
  std::vector<std::string> models;
  constexpr std::string_view folder = "models/", ending = ".json";
  for (const std::string& name : archive.names())
    if (name.starts_with(folder) && name.ends_with(ending) && name.size() > folder.size() + ending.size())
      models.push_back(name.substr(folder.size(), name.size() - folder.size() - ending.size()));
  return models;
}

Status check_text(const Archive& archive, const std::string& name, std::string_view wanted, bool required) {
  if (!archive.has(name)) {
    if (!required) return {};
    return fail(Kind::bad_file, "`{}` has no member `{}`, so it is no torch.export archive", archive.path(), name);
  }
  TD_TRY(Member member, archive.read(name, true));
  if (trim(member.bytes) != wanted)
    return fail(Kind::unsupported, "`{}`: `{}` says `{}`, only `{}` is taken", archive.path(), name,
                trim(member.bytes).substr(0, 40), wanted);
  return {};
}

Result<Archive> open_archive(const std::string& path) {
  TD_TRY(Archive archive, Archive::open(path));
  TD_CHECK_OK(check_text(archive, "archive_format", "pt2", true));
  TD_CHECK_OK(check_text(archive, "archive_version", "0", true));
  TD_CHECK_OK(check_text(archive, "byteorder", "little", false));
  return archive;
}

Result<std::string> choose_model(const Archive& archive, const std::string& wanted) {
  std::vector<std::string> models = models_of(archive);
  if (models.empty())
    return fail(Kind::bad_file, "`{}` holds no exported program (no member `models/….json`)", archive.path());
  if (wanted.empty()) {
    if (models.size() == 1) return models[0];
    return fail(Kind::bad_option, "`{}` holds {} models: name one of {}", archive.path(), models.size(),
                join(models, ", "));
  }
  if (std::find(models.begin(), models.end(), wanted) == models.end())
    return fail(Kind::bad_option, "`{}` holds no model `{}`, but {}", archive.path(), wanted, join(models, ", "));
  return wanted;
}

class Program {
 public:
  Program(JsonDocument& document, Payloads& payloads, Graph& graph, const ImportOptions& options)
      : document_(document),
        payloads_(payloads),
        graph_(graph),
        symbols_(graph),
        meta_(symbols_),
        writer_(graph, options.allow_unknown_ops) {}

  Status read() {
    Json root = document_.root();
    TD_CHECK_OK(check_version(root));
    TD_CHECK_OK(ranges(root.find("range_constraints")));
    Json module = root["graph_module"];
    calling_convention(module.find("module_call_graph"));
    TD_CHECK_OK(document_.status());
    GraphReader reader(module["graph"], document_, meta_, writer_, graph_, 0);
    TD_CHECK_OK(document_.status());
    TD_CHECK_OK(inputs(reader, module["signature"]["input_specs"]));
    writer_.set_hints(symbols_.hints());
    TD_CHECK_OK(derived_ranges());
    TD_CHECK_OK(guards(root.find("guards_code")));
    TD_CHECK_OK(reader.read_nodes());
    TD_CHECK_OK(outputs(reader, module["signature"]["output_specs"]));
    TD_CHECK_OK(document_.status());
    TD_CHECK_OK(writer_.finish());
    share_symbols(graph_);
    return {};
  }

 private:
  Status check_version(const Json& root) {
    Json version = root["schema_version"];
    const int64_t major = version["major"].integer(), minor = version["minor"].integer();
    TD_CHECK_OK(document_.status());
    if (major != schema_major)
      return fail(Kind::unsupported, "torch.export schema {}.{}; only schema {} (PyTorch 2.13) is taken", major, minor,
                  schema_major);
    return {};
  }

  Status ranges(const Json& constraints) {
    if (constraints.is_null()) return {};
    Status failure;
    constraints.each_field([&](std::string_view key, const Json& range) {
      Json low = range["min_val"], high = range["max_val"];
      int64_t least = low.is_null() ? INT64_MIN : low.integer(), most = high.is_null() ? sym_infinity : high.integer();
      if (least < -endless) least = INT64_MIN;
      if (most > endless) most = sym_infinity;
      if (least > most) failure = fail(Kind::bad_file, "the range of `{}` is empty", key);
      const bool bare =
          !key.empty() && key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string_view::npos;
      if (bare)
        symbols_.set_range(std::string(key), least, most);
      else
        derived_.push_back({std::string(key), {least, most}});
    });
    TD_CHECK_OK(document_.status());
    return failure;
  }

  // Ranges of expressions become guards where the symbols' own ranges do not imply them.
  Status derived_ranges() {
    for (const auto& [text, range] : derived_) {
      Result<Sym> value = symbols_.infix(text);
      if (!value) return std::unexpected(std::move(value).error().with(format("in the range of `{}`", text)));
      const std::string note = format("the size {} must be in {}..{}", to_string(*value), range.low, range.high);
      if (range.low != INT64_MIN) TD_CHECK_OK(writer_.assert_condition(sym_le(range.low, *value), note));
      if (range.high != sym_infinity) TD_CHECK_OK(writer_.assert_condition(sym_le(*value, range.high), note));
    }
    return {};
  }

  void calling_convention(const Json& calls) {
    if (!calls.is_array()) return;
    Json signature;
    calls.each([&](const Json& entry) {
      if (!signature.present() && entry["fqn"].text().empty()) signature = entry.find("signature");
    });
    if (!signature.is_object()) return;
    if (Json spec = signature.find("in_spec"); spec.is_string()) graph_.in_spec = spec.text();
    if (Json spec = signature.find("out_spec"); spec.is_string()) graph_.out_spec = spec.text();
    std::vector<std::string> arguments;
    if (Json names = signature.find("forward_arg_names"); names.is_array())
      names.each([&](const Json& name) { arguments.emplace_back(name.text()); });
    leaf_names_ = input_leaf_names(graph_.in_spec, arguments);
    output_names_ = output_leaf_names(graph_.out_spec);
  }

  Status inputs(GraphReader& reader, const Json& specs) {
    std::vector<Json> arguments;
    reader.json()["inputs"].each([&](const Json& input) { arguments.push_back(input); });
    if (document_.ok() && arguments.size() != specs.size())
      return fail(Kind::bad_file, "{} graph inputs for {} input specs", arguments.size(), specs.size());
    size_t user_inputs = 0, index = 0;
    specs.each([&](const Json& spec) {
      std::string_view kind = spec.tagged().first;
      user_inputs += kind == "user_input" || kind == "constant_input";
    });
    if (leaf_names_.size() != user_inputs) leaf_names_.clear();
    Status failure;
    specs.each([&](const Json& spec) {
      if (failure) failure = input(reader, spec, arguments[index++]);
    });
    TD_CHECK_OK(document_.status());
    return failure;
  }

  Status input(GraphReader& reader, const Json& spec, const Json& argument) {
    auto [kind, value] = spec.tagged();
    if (kind == "parameter") return weight(reader, value, value["parameter_name"].text(), WeightKind::parameter, true);
    if (kind == "buffer")
      return weight(reader, value, value["buffer_name"].text(), WeightKind::buffer, value["persistent"].boolean());
    if (kind == "tensor_constant")
      return weight(reader, value, value["tensor_constant_name"].text(), WeightKind::constant, true);
    if (kind == "user_input") return user_input(reader, value["arg"], argument);
    if (kind == "constant_input") {
      GraphInput input;
      input.kind = GraphInput::Kind::constant;
      input.name = next_name(value["name"].text());
      TD_TRY(input.constant, reader.argument(value["value"]));
      graph_.inputs.push_back(std::move(input));
      return {};
    }
    if (kind == "custom_obj" || kind == "token") return fail(Kind::unsupported, "an input of kind `{}`", kind);
    if (!document_.ok()) return document_.status();
    return fail(Kind::bad_file, "unknown kind of input `{}`", kind);
  }

  std::string next_name(std::string_view fallback) {
    const size_t index = user_inputs_++;
    if (index < leaf_names_.size() && !leaf_names_[index].empty()) return leaf_names_[index];
    return fallback.empty() ? format("arg{}", index) : std::string(fallback);
  }

  Status weight(GraphReader& reader, const Json& spec, std::string_view name, WeightKind kind, bool persistent) {
    const std::string placeholder(spec["arg"]["name"].text()), full_name(name);
    TD_CHECK_OK(document_.status());
    if (weights_.contains(full_name)) {
      reader.bind(placeholder, weights_.at(full_name));
      return {};
    }
    TD_TRY(Weight made, payloads_.weight(full_name, kind, persistent, graph_.storages, meta_));
    TD_TRY(TensorMeta claimed, reader.tensor_meta(placeholder));
    if (claimed.type.dtype != made.type.dtype || !same_list(claimed.type.sizes, made.type.sizes))
      return fail(Kind::bad_file, "`{}` is {} in the program and {} in its payload", full_name, to_string(claimed.type),
                  to_string(made.type));
    Handle handle = writer_.add_weight(std::move(made), full_name);
    weights_.emplace(full_name, handle);
    reader.bind(placeholder, handle);
    return {};
  }

  Status user_input(GraphReader& reader, const Json& spec, const Json& argument) {
    auto [tag, value] = argument.tagged();
    if (tag != spec.tagged().first)
      return fail(Kind::bad_file, "an input is `{}` in the graph and `{}` in the signature", tag, spec.tagged().first);
    if (tag == "as_tensor") {
      const std::string placeholder(value["name"].text());
      TD_TRY(TensorMeta meta, reader.tensor_meta(placeholder));
      TD_CHECK_OK(document_.status());
      hint_from_sizes(meta.type, reader, placeholder);
      const std::string name = next_name(placeholder);
      inputs_by_placeholder_.emplace(placeholder, writer_.handles());
      reader.bind(placeholder, writer_.add_input(placeholder, name, meta.type));
      return {};
    }
    GraphInput input;
    std::string_view placeholder = value.find("as_name").is_string() ? value["as_name"].text() : std::string_view();
    TD_TRY(Arg bound, reader.argument(argument));
    input.name = next_name(placeholder);
    if (const Sym* symbol = std::get_if<Sym>(&bound); symbol && tag == "as_sym_int") {
      input.kind = GraphInput::Kind::symbol;
      input.symbol = *symbol;
      numbers_by_placeholder_.emplace(placeholder, *symbol);
    } else if (tag.starts_with("as_sym_") && std::holds_alternative<Sym>(bound)) {
      return fail(Kind::unsupported, "input `{}` is a dynamic scalar of kind `{}`", input.name, tag);
    } else if (std::holds_alternative<Handle>(bound) || std::holds_alternative<std::vector<Handle>>(bound)) {
      return fail(Kind::unsupported, "an input of kind `{}`", tag);
    } else {
      input.kind = GraphInput::Kind::constant;
      input.constant = std::move(bound);
    }
    graph_.inputs.push_back(std::move(input));
    return {};
  }

  // The hint of a size 2*s0 + 1 gives one for s0.
  void hint_from_sizes(const TensorType& type, GraphReader& reader, const std::string& placeholder) {
    size_t index = 0;
    Json sizes = reader.json()["tensor_values"].find(placeholder);
    sizes["sizes"].each([&](const Json& item) {
      const Sym& size = type.sizes[index++];
      Json expression = item.find("as_expr");
      if (size.is_constant() || size.is_symbol() || !expression.present() || expression.find("hint").is_null()) return;
      Json hint = expression["hint"].find("as_int");
      std::set<std::string> names;
      collect_symbols(size, names);
      if (!hint.is_integer() || names.size() != 1) return;
      std::optional<Linear> line = linear_in(size, *names.begin());
      if (!line || !line->coefficient.is_constant() || !line->rest.is_constant() || line->coefficient.value() == 0)
        return;
      const int64_t distance = hint.integer() - line->rest.value();
      if (distance % line->coefficient.value() == 0)
        symbols_.set_hint(graph_.symbol(*names.begin()), distance / line->coefficient.value());
    });
  }

  Status guards(const Json& code) {
    if (!code.is_array()) return {};
    Status failure;
    code.each([&](const Json& line) {
      if (!failure) return;
      auto value_of = [&](const std::string& path, std::optional<int64_t> dim) -> Result<Sym> {
        if (auto number = numbers_by_placeholder_.find(path); number != numbers_by_placeholder_.end() && !dim)
          return number->second;
        auto found = inputs_by_placeholder_.find(path);
        if (found == inputs_by_placeholder_.end() || !dim) return fail(Kind::unsupported, "guard on `{}`", path);
        const SymList& sizes = writer_.type(Handle{static_cast<int32_t>(found->second)}).sizes;
        if (*dim < 0 || *dim >= static_cast<int64_t>(sizes.size()))
          return fail(Kind::unsupported, "guard on `{}`", path);
        return sizes[static_cast<size_t>(*dim)];
      };
      Result<Sym> condition = parse_size_guard(line.text(), value_of);
      // What the export assumed and cannot be checked would be a wrong result in silence.
      failure = condition ? writer_.assert_condition(*condition, std::string(line.text()))
                          : Status(std::unexpected(std::move(condition).error()));
    });
    TD_CHECK_OK(document_.status());
    return failure;
  }

  Status outputs(GraphReader& reader, const Json& specs) {
    std::vector<Json> arguments;
    reader.json()["outputs"].each([&](const Json& output) { arguments.push_back(output); });
    if (document_.ok() && arguments.size() != specs.size())
      return fail(Kind::bad_file, "{} graph outputs for {} output specs", arguments.size(), specs.size());
    struct WriteBack {
      Handle target;
      ValueId contents;
    };
    std::vector<WriteBack> writes;
    size_t index = 0, user_outputs = 0;
    Status failure;
    specs.each([&](const Json& spec) { user_outputs += spec.tagged().first == "user_output"; });
    if (output_names_.size() != user_outputs) output_names_.assign(user_outputs, "");
    size_t user_output = 0;
    specs.each([&](const Json& spec) {
      if (!failure) return;
      auto [kind, value] = spec.tagged();
      Result<Arg> result = reader.argument(arguments[index++]);
      if (!result) {
        failure = std::unexpected(result.error());
        return;
      }
      const Handle* handle = std::get_if<Handle>(&*result);
      if (kind == "user_output" || kind == "loss_output") {
        std::string name = kind == "user_output" ? output_names_[user_output++] : "loss";
        graph_.outputs.push_back(output(*result, std::move(name)));
        return;
      }
      std::optional<Handle> target;
      if (kind == "buffer_mutation") target = find_weight(value["buffer_name"].text());
      if (kind == "parameter_mutation") target = find_weight(value["parameter_name"].text());
      if (kind == "user_input_mutation") {
        auto found = inputs_by_placeholder_.find(std::string(value["user_input_name"].text()));
        if (found != inputs_by_placeholder_.end()) target = Handle{static_cast<int32_t>(found->second)};
      }
      if (kind.starts_with("gradient_to_") || kind == "token")
        failure = fail(Kind::unsupported, "an output of kind `{}`", kind);
      else if (!target || !handle)
        failure = fail(Kind::bad_file, "an output of kind `{}` names nothing that can be written", kind);
      else
        writes.push_back({*target, writer_.read(*handle)});
    });
    TD_CHECK_OK(document_.status());
    TD_CHECK_OK(failure);
    for (const WriteBack& write : writes) TD_CHECK_OK(writer_.assign(write.target, write.contents));
    return {};
  }

  std::optional<Handle> find_weight(std::string_view name) const {
    auto found = weights_.find(std::string(name));
    return found == weights_.end() ? std::nullopt : std::optional(found->second);
  }

  GraphOutput output(const Arg& result, std::string name) {
    GraphOutput output;
    output.name = std::move(name);
    if (const Handle* handle = std::get_if<Handle>(&result)) {
      output.value = writer_.read(*handle);
    } else if (const Sym* symbol = std::get_if<Sym>(&result); symbol && !symbol->is_constant()) {
      output.kind = GraphOutput::Kind::symbol;
      output.symbol = *symbol;
    } else {
      output.kind = GraphOutput::Kind::constant;
      output.constant = result;
    }
    return output;
  }

  // Symbols are known in every nested graph.
  static void share_symbols(Graph& graph) {
    for (Graph& inner : graph.subgraphs) {
      inner.symbols = graph.symbols;
      share_symbols(inner);
    }
  }

  JsonDocument& document_;
  Payloads& payloads_;
  Graph& graph_;
  Symbols symbols_;
  MetaReader meta_;
  GraphWriter writer_;
  std::vector<std::pair<std::string, SymRange>> derived_;
  std::vector<std::string> leaf_names_, output_names_;
  size_t user_inputs_ = 0;
  std::map<std::string, Handle> weights_;
  std::map<std::string, size_t> inputs_by_placeholder_;
  std::map<std::string, Sym> numbers_by_placeholder_;
};

}  // namespace

Result<std::vector<std::string>> archive_models(const std::string& path) {
  TD_TRY(Archive archive, open_archive(path));
  return models_of(archive);
}

Result<Graph> import_model(const std::string& path, const ImportOptions& options) {
  TD_TRY(Archive archive, open_archive(path));
  TD_TRY(std::string model, choose_model(archive, options.model));
  TD_TRY(Payloads payloads, Payloads::open(archive, model));
  const std::string member_name = format("models/{}.json", model);
  TD_TRY(Member member, archive.read(member_name, true));
  TD_TRY(std::unique_ptr<JsonDocument> document, JsonDocument::parse(member_name, member.bytes));
  Graph graph;
  graph.name = printable_name(model);
  TD_CHECK_OK(Program(*document, payloads, graph, options).read());
  verify_graph(graph);
  return graph;
}

Status attach_weights(Graph& graph, const std::string& path, const std::string& model_name) {
  TD_TRY(Archive archive, open_archive(path));
  TD_TRY(std::string model, choose_model(archive, model_name));
  TD_TRY(Payloads payloads, Payloads::open(archive, model));
  Graph scratch;
  Symbols symbols(scratch);
  MetaReader meta(symbols);
  std::vector<Storage> storages;
  for (Weight& weight : graph.weights) {
    TD_TRY(Weight found, payloads.weight(weight.name, weight.kind, weight.persistent, storages, meta));
    if (found.type.dtype != weight.type.dtype || !same_list(found.type.sizes, weight.type.sizes))
      return fail(Kind::bad_input, "weight `{}` is {} in the text and {} in `{}`", weight.name, to_string(weight.type),
                  to_string(found.type), path);
    weight.type = found.type;
    weight.storage = found.storage;
    weight.storage_offset = found.storage_offset;
  }
  for (Value& value : graph.values)
    if (value.kind == ValueKind::weight) value.type = graph[value.weight].type;
  graph.storages = std::move(storages);
  return {};
}

}  // namespace toroid
