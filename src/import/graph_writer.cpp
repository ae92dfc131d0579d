// Calls of the user's program to nodes of a functional graph: storages, views, in-place ops. Types are in infer.cpp.
#include "import/graph_writer.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "import/foreach.h"
#include "ops/rules.h"

namespace toroid {
namespace {

// aten.add_.Tensor -> add_
std::string short_name(const std::string& op) {
  size_t end = op.rfind('.');
  size_t start = op.rfind('.', end - 1);
  return start == std::string::npos ? op : op.substr(start + 1, end - start - 1);
}

bool same_type(const TensorType& a, const TensorType& b) {
  return a.dtype == b.dtype && a.device == b.device && same_list(a.sizes, b.sizes) && same_list(a.strides, b.strides);
}

bool flag(const Schema& schema, const std::vector<Arg>& args, const char* name) {
  int i = schema.find_arg(name);
  if (i < 0) return false;
  const bool* value = std::get_if<bool>(&args[static_cast<size_t>(i)]);
  return value && *value;
}

// What only passes its argument on, in inference.
bool is_identity(const Schema& schema, const std::vector<Arg>& args) {
  static const std::set<std::string> names = {"aten.alias.default",    "aten.detach.default",
                                              "aten.detach_.default",  "aten.lift_fresh.default",
                                              "aten.positive.default", "aten.requires_grad_.default"};
  if (names.contains(schema.name)) return true;
  static const std::set<std::string> dropouts = {
      "aten.dropout",       "aten.dropout_",       "aten.feature_dropout",       "aten.feature_dropout_",
      "aten.alpha_dropout", "aten.alpha_dropout_", "aten.feature_alpha_dropout", "aten.feature_alpha_dropout_"};
  return dropouts.contains(schema.name.substr(0, schema.name.rfind('.'))) && !flag(schema, args, "train");
}

// Views whose schema does not say so.
bool unmarked_view(const std::string& op) {
  return op == "aten.atleast_1d.default" || op == "aten.atleast_2d.default" || op == "aten.atleast_3d.default";
}

}  // namespace

std::string printable_name(std::string name) {
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.') c = '_';
  // The lexer ends a name before a dot that no letter follows.
  while (!name.empty() && name.back() == '.') name.back() = '_';
  for (size_t i = 0; i + 1 < name.size(); ++i)
    if (name[i] == '.' && name[i + 1] == '.') name[i] = '_';
  if (!name.empty() && name[0] == '.') name[0] = '_';
  return name;
}

const Schema& GraphWriter::schema_of(const std::string& op) {
  const Schema* schema = find_schema(op);
  TD_CHECK(schema, "no schema of `{}`", op);
  return *schema;
}

Handle GraphWriter::add_storage(ValueId value, const std::string& name) {
  Storage storage;
  storage.value = value;
  storage.root = Handle{static_cast<int32_t>(tensors_.size())};
  Tensor tensor;
  tensor.storage = static_cast<int32_t>(storages_.size());
  tensor.value = value;
  tensor.type = graph_[value].type;
  tensor.name = name;
  storages_.push_back(std::move(storage));
  tensors_.push_back(std::move(tensor));
  return storages_.back().root;
}

Handle GraphWriter::add_input(const std::string& name, const std::string& user_name, const TensorType& type,
                              const Sym& storage_offset) {
  Value value;
  value.name = printable_name(name);
  value.kind = ValueKind::input;
  value.index = static_cast<int32_t>(graph_.inputs.size());
  value.type = type;
  GraphInput input;
  input.value = graph_.add_value(std::move(value));
  input.name = user_name;
  for (const Sym& size : type.sizes) meet(size);
  Handle handle = add_storage(input.value, name);
  at(handle).storage_offset = storage_offset;
  storages_.back().target.mutates = GraphOutput::Mutates::input;
  storages_.back().target.input = static_cast<int32_t>(graph_.inputs.size());
  graph_.inputs.push_back(std::move(input));
  return handle;
}

Handle GraphWriter::add_weight(Weight weight, const std::string& value_name) {
  const WeightId id{static_cast<int32_t>(graph_.weights.size())};
  Value value;
  value.name = printable_name(value_name);
  value.kind = ValueKind::weight;
  value.weight = id;
  value.type = weight.type;
  const std::string place = format("{} {} {}", weight.storage, weight.storage_offset, to_string(weight.type));
  const bool shares =
      weight.storage >= 0 && std::any_of(graph_.weights.begin(), graph_.weights.end(),
                                         [&](const Weight& other) { return other.storage == weight.storage; });
  const int32_t storage = weight.storage;
  graph_.weights.push_back(std::move(weight));
  ValueId value_id = graph_.add_value(std::move(value));
  auto known = weights_by_place_.find(place);
  if (shares && known != weights_by_place_.end()) return Handle{known->second};
  Handle handle = add_storage(value_id, value_name);
  weights_by_place_[place] = handle.index;
  storages_.back().target.mutates = GraphOutput::Mutates::weight;
  storages_.back().target.weight = id;
  if (shares)
    for (Storage& other : storages_)
      if (other.target.weight.valid() && graph_[other.target.weight].storage == storage) other.shared_memory = true;
  return handle;
}

std::vector<Arg> GraphWriter::read_args(const std::vector<Arg>& args) {
  std::vector<Arg> out = args;
  for (Arg& arg : out) {
    if (Handle* handle = std::get_if<Handle>(&arg)) *handle = read(*handle);
    if (auto* handles = std::get_if<std::vector<Handle>>(&arg))
      for (Handle& handle : *handles)
        if (handle.valid()) handle = read(handle);
  }
  return out;
}

ValueId GraphWriter::read(Handle handle) {
  TD_CHECK(handle.valid() && static_cast<size_t>(handle.index) < tensors_.size(), "no tensor {}", handle.index);
  const Storage& storage = storages_[static_cast<size_t>(at(handle).storage)];
  if (at(handle).version == storage.version) return at(handle).value;
  if (!at(handle).viewed.valid()) {
    at(handle).value = storage.value;
  } else {
    // A write has passed since the view was made: the same view of the new contents.
    read(at(handle).viewed);
    std::vector<Arg> args = read_args(at(handle).view_args);
    std::vector<ResultNote> notes(at(handle).view_results);
    for (size_t i = 0; i < notes.size(); ++i) {
      notes[i].type = at(handle).view_types[i];
      notes[i].claimed = false;
      notes[i].name = at(handle).name;
      notes[i].used = i == at(handle).view_result;
    }
    const Where where = at(handle).where;
    Result<std::vector<ValueId>> again = emit(at(handle).view_op, std::move(args), notes, where);
    TD_CHECK(again.has_value(), "`{}` cannot be repeated: {}", at(handle).view_op, again.error().text);
    at(handle).value = (*again)[at(handle).view_result];
  }
  at(handle).version = storage.version;
  return at(handle).value;
}

Result<ValueId> GraphWriter::like(ValueId value, const TensorType& wanted, ValueId old, const Where& where) {
  if (same_type(graph_[value].type, wanted)) return value;
  ResultNote note{.name = graph_[value].name, .type = wanted, .claimed = false};
  TD_TRY(std::vector<ValueId> copied, emit("aten.copy.default", {old, value, false}, {note}, where));
  return copied[0];
}

Result<ValueId> GraphWriter::scatter(Handle target, ValueId value, const Where& where) {
  const Tensor view = at(target);
  const TensorType viewed = type(view.viewed);
  const ValueId base = read(view.viewed);
  std::optional<Inverse> inverse =
      invert_view(schema_of(view.view_op), view.view_args, view.view_types, view.view_result, viewed, base, value);
  if (!inverse)
    return fail(Kind::unsupported_op, "a write through a view that `{}` made has no functional form", view.view_op);
  if (inverse->op.empty()) return value;
  ResultNote note{.name = at(view.viewed).name, .type = viewed, .claimed = false};
  TD_TRY(std::vector<ValueId> whole, emit(inverse->op, std::move(inverse->args), {note}, where));
  return whole[0];
}

Status GraphWriter::write(Handle target, ValueId value, const Where& where) {
  Storage& storage = storages_[static_cast<size_t>(at(target).storage)];
  if (storage.shared_memory)
    return fail(Kind::unsupported, "weight `{}` is written and shares its memory with another weight",
                at(storage.root).name);
  const bool view = at(target).viewed.valid();
  const TensorType given = graph_[value].type, wanted = type(target);
  // What goes into a view is scattered, whatever its strides.
  if (!view || given.dtype != wanted.dtype || !same_list(given.sizes, wanted.sizes)) {
    TD_TRY(value, like(value, wanted, read(target), where));
  }
  if (view) {
    TD_TRY(ValueId whole, scatter(target, value, where));
    TD_CHECK_OK(write(at(target).viewed, whole, where));
    // With other strides it is not what reading the view gives.
    if (!same_type(graph_[value].type, wanted)) return {};
  } else {
    storage.value = value;
    ++storage.version;
  }
  at(target).value = value;
  at(target).version = storage.version;
  return {};
}

Handle GraphWriter::placeholder(const ResultNote& note) {
  Value value;
  value.name = printable_name(note.name);
  value.type = note.type.value_or(TensorType{});
  return add_storage(graph_.add_value(std::move(value)), note.name);
}

Status GraphWriter::assign(Handle target, ValueId contents) {
  if (read(target) == contents) return {};
  return write(target, contents, {});
}

Result<std::vector<Handle>> GraphWriter::call(const std::string& op, const std::vector<Arg>& args,
                                              const std::vector<ResultNote>& notes, const Where& where) {
  if (!autocast_) return call_as_given(op, args, notes, where);
  if (casts_inside(op, args)) {
    note_unsupported(op, args, "under torch.autocast it casts between its own steps", where);
    std::vector<Handle> handles;
    for (const ResultNote& note : notes) handles.push_back(note.used ? placeholder(note) : Handle{});
    return handles;
  }
  TD_TRY(std::vector<Arg> cast, autocast(op, args, notes, where));
  return call_as_given(op, cast, notes, where);
}

Result<std::vector<Handle>> GraphWriter::call_as_given(const std::string& op, const std::vector<Arg>& args,
                                                       const std::vector<ResultNote>& notes, const Where& where) {
  const Schema* schema = find_schema(op);
  if (schema) {
    const Handle* first = args.empty() ? nullptr : std::get_if<Handle>(&args[0]);
    if (first && is_identity(*schema, args)) {
      // In tracing, dropout without training is a clone, and what follows is claimed with the clone's strides.
      if (!notes.empty() && notes[0].type && notes[0].claimed && !same_type(type(*first), *notes[0].type) &&
          notes[0].type->strides.size() == notes[0].type->sizes.size() && dense_order(*notes[0].type) &&
          !dense_order(type(*first)))
        return call_as_given("aten.clone.default", {*first, None{}}, notes, where);
      return std::vector<Handle>{*first};
    }
    // A fresh tensor with the same contents needs no copy here: a write to either makes a new value.
    if (first && op == "aten.lift_fresh_copy.default")
      return std::vector<Handle>{add_storage(read(*first), at(*first).name)};
    if (schema->has_tag("inplace_view")) return call_view_in_place(op, args, notes, where);
    if (op == "aten.batch_norm.default" && flag(*schema, args, "training") && std::holds_alternative<Handle>(args[3]) &&
        std::holds_alternative<Handle>(args[4]))
      return call_batch_norm(*schema, args, notes, where);
    if (op == "aten.instance_norm.default" && flag(*schema, args, "use_input_stats") &&
        std::holds_alternative<Handle>(args[3]) && std::holds_alternative<Handle>(args[4]))
      return call_instance_norm(args, notes, where);
    if (op == "aten.native_batch_norm.default" && flag(*schema, args, "training") &&
        std::holds_alternative<None>(args[3]) && std::holds_alternative<None>(args[4]))
      return call("aten._native_batch_norm_legit.no_stats", {args[0], args[1], args[2], args[5], args[6], args[7]},
                  notes, where);
    if (const std::optional<std::vector<OneCall>> calls = foreach_calls(*schema, args)) {
      std::vector<Handle> handles;
      for (size_t i = 0; i < calls->size(); ++i) {
        const std::vector<ResultNote> note = i < notes.size() ? std::vector{notes[i]} : std::vector<ResultNote>();
        TD_TRY(std::vector<Handle> one, call((*calls)[i].op, (*calls)[i].args, note, where));
        if (!schema->returns.empty()) handles.push_back(one.at(0));
      }
      return handles;
    }
    if (op == "aten.tensor_split.tensor_indices_or_sections" && first) return call_tensor_split(args, notes, where);
    if (schema->mutates() || (op == "aten.native_batch_norm.default" && flag(*schema, args, "training")))
      return call_mutating(*schema, op, args, notes, where);
    const bool view =
        std::any_of(schema->returns.begin(), schema->returns.end(), [](const SchemaReturn& r) { return r.aliased; });
    if (first && (view || unmarked_view(op))) return call_view(*schema, op, args, notes, where);
  }
  TD_TRY(std::vector<ValueId> values, emit(op, read_args(args), notes, where));
  std::vector<Handle> handles;
  for (size_t i = 0; i < values.size(); ++i)
    handles.push_back(values[i].valid() ? add_storage(values[i], graph_[values[i]].name) : Handle{});
  return handles;
}

bool GraphWriter::aliases(const std::string& op, const std::vector<Arg>& args, const TensorType& viewed,
                          const TensorType& result) const {
  const std::string base = op.substr(0, op.rfind('.'));
  const Schema& schema = schema_of(op);
  if (base == "aten.to" || base == "aten.contiguous" || base == "aten.type_as")
    return !flag(schema, args, "copy") && same_type(viewed, result);
  if (base == "aten.reshape" || base == "aten.flatten" || base == "aten.reshape_as" || base == "aten.ravel")
    return view_strides(viewed, result.sizes).has_value();
  return true;
}

void GraphWriter::drop_last_node() {
  for (ValueId output : graph_.nodes.back().outputs)
    if (output.valid()) graph_.values.pop_back();
  graph_.nodes.pop_back();
}

Result<std::vector<Handle>> GraphWriter::call_view(const Schema& schema, const std::string& op,
                                                   const std::vector<Arg>& args, const std::vector<ResultNote>& notes,
                                                   const Where& where) {
  Handle viewed = std::get<Handle>(args[0]);
  std::vector<Arg> view_args = args;
  const bool strided = op == "aten.as_strided.default";
  if (strided) {
    // as_strided counts from the start of the storage, whatever view it is called on.
    Handle root = storages_[static_cast<size_t>(at(viewed).storage)].root;
    Arg& offset = view_args.at(3);
    if (std::holds_alternative<None>(offset)) offset = at(viewed).storage_offset - at(root).storage_offset;
    viewed = root;
    view_args[0] = root;
  }
  TD_TRY(std::vector<ValueId> values, emit(op, read_args(view_args), notes, where));
  const std::optional<Sym> inside = offset_in_viewed(Call(graph_, graph_.nodes.back(), schema));
  std::vector<TensorType> types;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].valid())
      types.push_back(graph_[values[i]].type);
    else
      types.push_back(i < notes.size() && notes[i].type ? *notes[i].type : TensorType{});
  }
  const std::string base = op.substr(0, op.rfind('.'));
  std::vector<Handle> handles;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!values[i].valid()) {
      handles.emplace_back();
      continue;
    }
    const bool alias = aliases(op, args, type(viewed), types[i]);
    if (alias && (base == "aten.to" || base == "aten.contiguous" || base == "aten.type_as")) {
      drop_last_node();
      return std::vector<Handle>{viewed};
    }
    handles.push_back(Handle{static_cast<int32_t>(tensors_.size())});
    if (!alias) {
      add_storage(values[i], graph_[values[i]].name);
      continue;
    }
    Tensor tensor;
    tensor.storage = at(viewed).storage;
    tensor.viewed = viewed;
    tensor.view_op = op;
    tensor.view_args = view_args;
    tensor.view_result = i;
    tensor.view_results = values.size();
    tensor.view_types = types;
    tensor.value = values[i];
    tensor.version = storages_[static_cast<size_t>(tensor.storage)].version;
    tensor.type = types[i];
    tensor.storage_offset =
        i < notes.size() && notes[i].storage_offset ? *notes[i].storage_offset : at(viewed).storage_offset;
    if (inside) settle(tensor.storage_offset, at(viewed).storage_offset + *inside);
    meet(tensor.storage_offset);
    tensor.name = graph_[values[i]].name;
    tensor.where = where;
    tensors_.push_back(std::move(tensor));
  }
  (void)schema;
  return handles;
}

Result<std::vector<Handle>> GraphWriter::call_view_in_place(const std::string& op, const std::vector<Arg>& args,
                                                            const std::vector<ResultNote>& notes, const Where& where) {
  std::string view = replace_all(op, "_.", ".");
  const Handle self = std::get<Handle>(args[0]);
  if (!find_schema(view) || view == "aten.resize.default" || view == "aten.set.default") {
    note_unsupported(op, args, "it changes the memory behind a tensor", where);
    return std::vector<Handle>{self};
  }
  // The old shape lives on as a tensor of its own, and the program's tensor becomes a view of it.
  const Handle old{static_cast<int32_t>(tensors_.size())};
  Tensor copy = at(self);
  tensors_.push_back(std::move(copy));
  Storage& storage = storages_[static_cast<size_t>(at(self).storage)];
  if (storage.root == self) storage.root = old;
  std::vector<Arg> moved = args;
  moved[0] = old;
  TD_TRY(std::vector<Handle> made, call_view(schema_of(view), view, moved, notes, where));
  at(self) = Tensor(at(made[0]));
  return std::vector<Handle>{self};
}

Result<std::vector<Handle>> GraphWriter::call_batch_norm(const Schema& schema, const std::vector<Arg>& args,
                                                         const std::vector<ResultNote>& notes, const Where& where) {
  (void)schema;
  const Handle mean = std::get<Handle>(args[3]), variance = std::get<Handle>(args[4]);
  TensorType saved = type(mean);
  const std::string name = notes.empty() || notes[0].name.empty() ? "batch_norm" : notes[0].name;
  std::vector<ResultNote> results(5);
  results[0] = notes.empty() ? ResultNote{.name = name} : notes[0];
  results[1] = results[2] = {.type = saved, .claimed = false, .used = false};
  results[3] = {.name = at(mean).name, .type = type(mean), .claimed = false};
  results[4] = {.name = at(variance).name, .type = type(variance), .claimed = false};
  std::vector<Arg> functional(args.begin(), args.begin() + 8);
  TD_TRY(std::vector<ValueId> values,
         emit("aten._native_batch_norm_legit_functional.default", read_args(functional), results, where));
  TD_CHECK_OK(write(mean, values[3], where));
  TD_CHECK_OK(write(variance, values[4], where));
  return std::vector<Handle>{add_storage(values[0], name)};
}

// Each sample's channels as channels of one sample of a batch norm; the new statistics are the samples' mean.
Result<std::vector<Handle>> GraphWriter::call_instance_norm(const std::vector<Arg>& args,
                                                            const std::vector<ResultNote>& notes, const Where& where) {
  const TensorType x = type(std::get<Handle>(args[0]));
  const Handle running[] = {std::get<Handle>(args[3]), std::get<Handle>(args[4])};
  const std::string name = notes.empty() || notes[0].name.empty() ? "instance_norm" : notes[0].name;
  const Sym samples = x.sizes[0], channels = x.sizes[1];
  auto one = [&](const char* op, std::vector<Arg> values, ResultNote note) -> Result<Arg> {
    if (note.name.empty()) note.name = name;
    TD_TRY(std::vector<ValueId> made, emit(op, read_args(values), {note}, where));
    return Arg(add_storage(made[0], graph_[made[0]].name));
  };
  std::vector<Arg> batch{args[0], args[1], args[2], args[3], args[4], true, args[6], args[7]};
  SymList joined = x.sizes;
  joined[0] = 1;
  joined[1] = samples * channels;
  TD_TRY(batch[0], one("aten.reshape.default", {args[0], joined}, {}));
  for (size_t i = 1; i < 5; ++i) {
    if (!std::holds_alternative<Handle>(batch[i])) continue;
    TD_TRY(batch[i], one("aten.repeat.default", {batch[i], SymList{samples}}, {}));
  }
  std::vector<ResultNote> results(5);
  for (ResultNote& note : results) note = {.name = name, .claimed = false};
  TD_TRY(std::vector<ValueId> values,
         emit("aten._native_batch_norm_legit_functional.default", read_args(batch), results, where));
  for (size_t i = 0; i < 2; ++i) {
    Arg fresh = add_storage(values[3 + i], name);
    TD_TRY(fresh, one("aten.reshape.default", {fresh, SymList{samples, channels}}, {}));
    TD_TRY(fresh, one("aten.mean.dim", {fresh, SymList{0}, false, None{}}, {}));
    TD_CHECK_OK(write(running[i], read(std::get<Handle>(fresh)), where));
  }
  TD_TRY(Arg y,
         one("aten.reshape.default", {add_storage(values[0], name), x.sizes}, notes.empty() ? ResultNote{} : notes[0]));
  return std::vector<Handle>{std::get<Handle>(y)};
}

Result<std::vector<Handle>> GraphWriter::call_mutating(const Schema& schema, const std::string& op,
                                                       const std::vector<Arg>& args,
                                                       const std::vector<ResultNote>& notes, const Where& where) {
  std::vector<Handle> written;
  std::vector<bool> is_written(schema.args.size());
  for (size_t i = 0; i < schema.args.size(); ++i) {
    const bool hidden = op == "aten.native_batch_norm.default" &&
                        (schema.args[i].name == "running_mean" || schema.args[i].name == "running_var");
    is_written[i] = schema.args[i].written || (hidden && flag(schema, args, "training"));
    if (!is_written[i]) continue;
    if (const Handle* handle = std::get_if<Handle>(&args[i])) written.push_back(*handle);
  }
  const std::string name = notes.empty() || notes[0].name.empty() ? short_name(op) : notes[0].name;
  std::optional<std::string> functional = functional_name(op);
  const Schema* twin = functional ? find_schema(*functional) : nullptr;
  const size_t own = static_cast<size_t>(
      std::count_if(schema.returns.begin(), schema.returns.end(), [](const SchemaReturn& r) { return !r.written; }));
  const bool known = twin && (twin->returns.size() == written.size() + own || twin->returns.size() == written.size());
  std::vector<ValueId> values;
  size_t first_written = 0;
  if (op == "aten.copy_.default") {
    values = {read(std::get<Handle>(args[1]))};
  } else if (known) {
    first_written = twin->returns.size() == written.size() ? 0 : own;
    std::vector<Arg> functional_args;
    for (const SchemaArg& arg : twin->args) {
      int i = schema.find_arg(arg.name);
      functional_args.push_back(i >= 0 ? args[static_cast<size_t>(i)] : arg.default_value.value_or(Arg(None{})));
    }
    std::vector<ResultNote> results(twin->returns.size());
    for (size_t i = 0; i < results.size(); ++i) {
      if (i < first_written)
        results[i] = i < notes.size() ? notes[i] : ResultNote{};
      else
        results[i] = {.name = name, .type = type(written[i - first_written]), .claimed = false};
    }
    TD_TRY(values, emit(*functional, read_args(functional_args), results, where));
  } else {
    note_unsupported(op, args, "it writes to its arguments and has no functional form", where);
  }
  if (!values.empty())
    for (size_t i = 0; i < written.size(); ++i) TD_CHECK_OK(write(written[i], values[first_written + i], where));
  // A result that is a written argument is that argument; the others are new.
  std::vector<Handle> handles;
  size_t next_written = 0, next_own = 0;
  for (size_t i = 0; i < schema.returns.size(); ++i) {
    if (schema.returns[i].written) {
      handles.push_back(next_written < written.size() ? written[next_written] : Handle{});
      ++next_written;
    } else {
      ValueId value = first_written && next_own < values.size() ? values[next_own] : ValueId{};
      handles.push_back(value.valid() ? add_storage(value, graph_[value].name) : Handle{});
      ++next_own;
    }
  }
  return handles;
}

Status GraphWriter::assert_condition(const Sym& condition, const std::string& text) {
  const SymRange range = range_of(condition);
  if (range.low >= 1) return {};
  if (condition.is_constant()) return fail(Kind::bad_graph, "the model asserts what can never hold: {}", text);
  for (const Guard& known : graph_.guards)
    if (known.condition == condition) return {};
  graph_.guards.push_back({condition, text});
  return {};
}

Result<std::vector<GraphOutput>> GraphWriter::write_backs() const {
  if (!unsupported_.empty()) {
    Diagnostic all{Kind::unsupported_op, "", {}};
    for (const std::string& key : unsupported_order_) {
      const Unsupported& one = unsupported_.at(key);
      std::string line = format("`{}` {}", one.op, one.place);
      if (one.more) append(line, " and {} more place{}", one.more, one.more > 1 ? "s" : "");
      if (!one.reason.empty()) append(line, ": {}", one.reason);
      all.details.push_back(std::move(line));
    }
    const Unsupported& first = unsupported_.at(unsupported_order_[0]);
    all.text = format("no lowering for `{}`", first.op);
    if (unsupported_.size() > 1)
      append(all.text, " and {} more op{}", unsupported_.size() - 1, unsupported_.size() > 2 ? "s" : "");
    all.details.push_back(format("hint: toroid ops --like {}", short_name(first.op)));
    return std::unexpected(std::move(all));
  }
  std::vector<GraphOutput> outputs;
  for (auto wanted : {GraphOutput::Mutates::weight, GraphOutput::Mutates::input})
    for (const Storage& storage : storages_) {
      if (storage.target.mutates != wanted || storage.version == 0) continue;
      GraphOutput output = storage.target;
      output.value = storage.value;
      const Value& value = graph_[storage.value];
      const bool same_weight = value.kind == ValueKind::weight && value.weight == output.weight;
      const bool same_input = value.kind == ValueKind::input && value.index == output.input;
      if (!same_weight && !same_input) outputs.push_back(std::move(output));
    }
  return outputs;
}

Status GraphWriter::finish() {
  TD_TRY(std::vector<GraphOutput> outputs, write_backs());
  graph_.outputs.insert(graph_.outputs.begin(), outputs.begin(), outputs.end());
  settle_symbols(graph_);
  return {};
}

void GraphWriter::add_unsupported(const std::string& op, const std::string& reason, const Where& where,
                                  const std::vector<std::string>& inputs) {
  refusals_.push_back(reason);
  auto [found, fresh] = unsupported_.try_emplace(op + "\n" + reason);
  if (!fresh) {
    ++found->second.more;
    return;
  }
  unsupported_order_.push_back(found->first);
  std::string place = where.text().empty() ? "" : "at " + where.text();
  if (!inputs.empty()) append(place, "{}inputs {}", place.empty() ? "" : ", ", join(inputs, ", "));
  found->second = {op, reason, place, 0};
}

void GraphWriter::note_unsupported(const std::string& op, const std::vector<Arg>& args, const std::string& reason,
                                   const Where& where) {
  std::vector<std::string> inputs;
  for (const Arg& arg : args)
    if (const Handle* handle = std::get_if<Handle>(&arg); handle && handle->valid())
      inputs.push_back(to_string(type(*handle)));
  add_unsupported(op, reason, where, inputs);
}

void GraphWriter::note_unsupported_node(const Node& node, const std::string& reason) {
  std::vector<std::string> inputs;
  for (const Arg& arg : node.args)
    if (const ValueId* value = std::get_if<ValueId>(&arg); value && value->valid())
      inputs.push_back(to_string(graph_[*value].type));
  add_unsupported(node.op, reason, node.where, inputs);
}

}  // namespace toroid
