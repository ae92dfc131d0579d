// GraphBuilder's calls, converted to those of import's GraphWriter.
#include "driver/graph_builder.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>

#include "base/check.h"
#include "base/lexer.h"
#include "import/arguments.h"
#include "import/graph_writer.h"

namespace toroid {

struct GraphBuilder::State {
  explicit State(std::string name) { graph.name = printable_name(name.empty() ? "model" : std::move(name)); }

  struct Output {
    GraphOutput output;
    Handle handle;  // tensors: read at the end
  };
  std::mutex mutex;
  Graph graph;
  GraphWriter writer{graph, false};
  std::vector<Output> outputs;
};

namespace {

using Builder = GraphBuilder;

Error to_error(const Diagnostic& diagnostic) {
  return Error{kind_name(diagnostic.kind), diagnostic.text, diagnostic.details};
}

// Runs `work` alone; failures and our own faults become an Error.
template <class T, class F>
Expected<T> guarded(Builder::State& state, F work) {
  try {
    std::lock_guard lock(state.mutex);
    Result<T> result = work();
    if (!result) return to_error(result.error());
    return std::move(*result);
  } catch (const std::exception& e) {
    return Error{"internal", e.what(), {"this is a fault of Toroid's: please report it"}};
  }
}

Result<Sym> to_sym(const Graph& graph, const Builder::Size& size) {
  if (size.expression.empty()) return Sym(size.number);
  Lexer lexer(size.expression);
  Result<Sym> value = parse_sym(lexer, [&](const std::string& name) -> Result<Sym> {
    if (!graph.find_symbol(name)) return fail(Kind::bad_graph, "symbol `{}` is not declared", name);
    return graph.symbol(name);
  });
  if (value && !lexer.at_end()) return fail(Kind::bad_graph, "size `{}` is not one expression", size.expression);
  return value;
}

Result<SymList> to_syms(const Graph& graph, const Builder::Sizes& sizes) {
  SymList list;
  for (const Builder::Size& size : sizes) {
    TD_TRY(Sym value, to_sym(graph, size));
    list.push_back(std::move(value));
  }
  return list;
}

Result<DType> to_dtype(const std::string& name) {
  std::optional<DType> dtype = dtype_from_name(name);
  if (!dtype) return fail(Kind::bad_graph, "unknown element type `{}`", name);
  return *dtype;
}

Device to_device(const std::string& text) {
  size_t colon = text.find(':');
  if (colon == std::string::npos) return {text, 0};
  return {text.substr(0, colon), static_cast<int32_t>(std::atoi(text.c_str() + colon + 1))};
}

Result<TensorType> to_type(const Graph& graph, const std::string& dtype, const Builder::Sizes& sizes,
                           const std::optional<Builder::Sizes>& strides) {
  TensorType type;
  TD_TRY(type.dtype, to_dtype(dtype));
  TD_TRY(type.sizes, to_syms(graph, sizes));
  for (const Sym& size : type.sizes)
    if (proves_lt(size, 0)) return fail(Kind::bad_graph, "a tensor of size `{}`", to_string(size));
  type.strides = contiguous_strides(type.sizes);
  if (strides) {
    TD_TRY(type.strides, to_syms(graph, *strides));
    if (type.strides.size() != type.sizes.size())
      return fail(Kind::bad_graph, "{} sizes and {} strides", type.sizes.size(), type.strides.size());
  }
  return type;
}

Status declare(Graph& graph, const SymbolInfo& info) {
  const std::string& name = info.name;
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) || printable_name(name) != name ||
      name.find('.') != std::string::npos)
    return fail(Kind::bad_graph, "`{}` is no name for a symbol", name);
  if (graph.find_symbol(name)) return fail(Kind::bad_graph, "symbol `{}` is declared twice", name);
  if (info.low > info.high)
    return fail(Kind::bad_graph, "the range {}..{} of `{}` is empty", info.low, info.high, name);
  graph.symbols.push_back(info);
  return {};
}

Result<Handle> to_handle(const Builder::State& state, Builder::Tensor tensor) {
  if (tensor.index < 0 || static_cast<size_t>(tensor.index) >= state.writer.handles())
    return fail(Kind::bad_graph, "tensor {} is not of this builder", tensor.index);
  return Handle{tensor.index};
}

struct ToArg {
  const Builder::State& state;
  Result<Arg> operator()(std::monostate) const { return Arg(None{}); }
  Result<Arg> operator()(Builder::Tensor tensor) const {
    TD_TRY(Handle handle, to_handle(state, tensor));
    return Arg(handle);
  }
  Result<Arg> operator()(const std::vector<Builder::Tensor>& tensors) const {
    std::vector<Handle> handles;
    for (Builder::Tensor tensor : tensors) {
      if (!tensor.valid()) {
        handles.emplace_back();
        continue;
      }
      TD_TRY(Handle handle, to_handle(state, tensor));
      handles.push_back(handle);
    }
    return Arg(std::move(handles));
  }
  Result<Arg> operator()(int64_t value) const { return Arg(Sym(value)); }
  Result<Arg> operator()(const Builder::Size& size) const {
    TD_TRY(Sym value, to_sym(state.graph, size));
    return Arg(std::move(value));
  }
  Result<Arg> operator()(const std::vector<int64_t>& list) const { return Arg(SymList(list.begin(), list.end())); }
  Result<Arg> operator()(const Builder::Sizes& sizes) const {
    TD_TRY(SymList list, to_syms(state.graph, sizes));
    return Arg(std::move(list));
  }
  Result<Arg> operator()(const Builder::Dtype& dtype) const {
    TD_TRY(DType value, to_dtype(dtype.name));
    return Arg(value);
  }
  Result<Arg> operator()(const Builder::Format& format) const {
    if (format.name == "contiguous") return Arg(MemoryFormat::contiguous);
    if (format.name == "channels_last") return Arg(MemoryFormat::channels_last);
    if (format.name == "channels_last_3d") return Arg(MemoryFormat::channels_last_3d);
    if (format.name == "preserve") return Arg(MemoryFormat::preserve);
    return fail(Kind::bad_graph, "unknown memory format `{}`", format.name);
  }
  Result<Arg> operator()(const Builder::Place& place) const { return Arg(to_device(place.device)); }
  Result<Arg> operator()(const Builder::Program& program) const {
    if (program.index < 0 || static_cast<size_t>(program.index) >= state.graph.subgraphs.size())
      return fail(Kind::bad_graph, "program {} is not of this builder", program.index);
    return Arg(SubgraphId{program.index});
  }
  template <class T>
  Result<Arg> operator()(const T& value) const {
    return Arg(value);
  }
};
Result<Arg> to_arg(const Builder::State& state, const Builder::Argument& argument) {
  return std::visit(ToArg{state}, argument.value);
}

Result<std::vector<Builder::Tensor>> call_op(Builder::State& state, const std::string& op,
                                             const Builder::Arguments& positional, const Builder::Keywords& keywords,
                                             const Builder::Source& source, const std::vector<Builder::Claim>& claims) {
  const Schema* schema = find_schema(op);
  const OpRow* row = OpTable::all().find(op);
  const bool control = op.starts_with("higher_order.") && !claims.empty();
  if (!schema && !control) return fail(Kind::unsupported_op, "no lowering for `{}`", op);
  if (schema && !row && claims.empty() && !schema->mutates())
    return fail(Kind::unsupported_op, "no lowering for `{}`", op);
  std::vector<NamedArg> given;
  for (const Builder::Argument& argument : positional) {
    TD_TRY(Arg arg, to_arg(state, argument));
    given.push_back({"", std::move(arg)});
  }
  for (const auto& [name, argument] : keywords) {
    TD_TRY(Arg arg, to_arg(state, argument));
    given.push_back({name, std::move(arg)});
  }
  std::vector<Arg> args;
  if (schema) {
    TD_TRY(args, bind_arguments(*schema, std::move(given)));
  } else {
    for (NamedArg& arg : given) args.push_back(std::move(arg.value));
  }
  std::vector<ResultNote> notes;
  for (const Builder::Claim& claim : claims) {
    ResultNote note;
    note.used = !claim.dtype.empty();
    if (note.used) {
      TD_TRY(note.type, to_type(state.graph, claim.dtype, claim.sizes, claim.strides));
      if (claim.offset) {
        TD_TRY(note.storage_offset, to_sym(state.graph, *claim.offset));
      }
    }
    notes.push_back(std::move(note));
  }
  TD_TRY(std::vector<Handle> handles,
         state.writer.call(op, args, notes, Where{source.module, source.file, source.line}));
  std::vector<Builder::Tensor> tensors;
  for (Handle handle : handles) tensors.push_back({handle.index});
  return tensors;
}

// Symbols are known in every nested program.
void share_symbols(Graph& graph) {
  for (Graph& inner : graph.subgraphs) {
    inner.symbols = graph.symbols;
    share_symbols(inner);
  }
}

Result<Graph> build(Builder::State& state) {
  // Reading may repeat views of written tensors, so it comes before the copy.
  std::vector<GraphOutput> outputs;
  for (const Builder::State::Output& wanted : state.outputs) {
    outputs.push_back(wanted.output);
    if (outputs.back().kind == GraphOutput::Kind::tensor) outputs.back().value = state.writer.read(wanted.handle);
  }
  TD_TRY(std::vector<GraphOutput> writes, state.writer.write_backs());
  Graph graph = state.graph;
  graph.outputs = std::move(writes);
  graph.outputs.insert(graph.outputs.end(), outputs.begin(), outputs.end());
  share_symbols(graph);
  state.writer.settle_symbols(graph);
  verify_graph(graph);
  return graph;
}

}  // namespace

Result<Graph> build_graph(const GraphBuilder& builder) {
  std::lock_guard lock(builder.state().mutex);
  return build(builder.state());
}

GraphBuilder::GraphBuilder(std::string name) : state_(std::make_unique<State>(std::move(name))) {}
GraphBuilder::~GraphBuilder() = default;
GraphBuilder::GraphBuilder(GraphBuilder&&) noexcept = default;
GraphBuilder& GraphBuilder::operator=(GraphBuilder&&) noexcept = default;

Outcome GraphBuilder::symbol(const std::string& name, int64_t low, int64_t high, std::optional<int64_t> hint,
                             bool from_data) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    TD_CHECK_OK(declare(state_->graph, {name, low, high, hint, from_data}));
    return Nothing{};
  });
}

Expected<GraphBuilder::Tensor> GraphBuilder::input(const std::string& name, const std::string& dtype,
                                                   const Sizes& sizes, const std::optional<Sizes>& strides,
                                                   const std::string& device, int64_t offset) {
  return guarded<Tensor>(*state_, [&]() -> Result<Tensor> {
    TD_TRY(TensorType type, to_type(state_->graph, dtype, sizes, strides));
    type.device = to_device(device);
    return Tensor{state_->writer.add_input(name, name, type, offset).index};
  });
}

Outcome GraphBuilder::size_input(const std::string& name, const Size& size) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    GraphInput input;
    input.kind = GraphInput::Kind::symbol;
    input.name = name;
    TD_TRY(input.symbol, to_sym(state_->graph, size));
    state_->writer.meet(input.symbol);
    state_->graph.inputs.push_back(std::move(input));
    return Nothing{};
  });
}

Outcome GraphBuilder::constant_input(const std::string& name, const Argument& value) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    GraphInput input;
    input.kind = GraphInput::Kind::constant;
    input.name = name;
    TD_TRY(input.constant, to_arg(*state_, value));
    state_->graph.inputs.push_back(std::move(input));
    return Nothing{};
  });
}

Expected<int32_t> GraphBuilder::storage(const Bytes& bytes, bool copy) {
  return guarded<int32_t>(*state_, [&]() -> Result<int32_t> {
    if (bytes.bytes < 0 || (!bytes.data && bytes.bytes > 0))
      return fail(Kind::bad_graph, "a storage of {} bytes at no address", bytes.bytes);
    Storage storage{bytes.data, bytes.bytes, bytes.owner};
    if (copy) {
      auto kept = std::make_shared<std::vector<std::max_align_t>>(
          static_cast<size_t>(bytes.bytes) / sizeof(std::max_align_t) + 1);
      if (bytes.bytes > 0) std::memcpy(kept->data(), bytes.data, static_cast<size_t>(bytes.bytes));
      storage = {kept->data(), bytes.bytes, kept};
    }
    state_->graph.storages.push_back(std::move(storage));
    return static_cast<int32_t>(state_->graph.storages.size()) - 1;
  });
}

Expected<GraphBuilder::Tensor> GraphBuilder::weight(const std::string& name, const std::string& dtype,
                                                    const Sizes& sizes, int32_t storage, const WeightOptions& options) {
  return guarded<Tensor>(*state_, [&]() -> Result<Tensor> {
    Graph& graph = state_->graph;
    for (const Weight& known : graph.weights)
      if (known.name == name) return fail(Kind::bad_graph, "two weights are named `{}`", name);
    if (storage < 0 || static_cast<size_t>(storage) >= graph.storages.size())
      return fail(Kind::bad_graph, "no storage {}", storage);
    Weight weight;
    weight.name = name;
    weight.kind = static_cast<toroid::WeightKind>(static_cast<int>(options.kind) + 1);
    weight.persistent = options.persistent;
    TD_TRY(weight.type, to_type(graph, dtype, sizes, options.strides));
    weight.storage = storage;
    weight.storage_offset = options.offset;
    __int128 last = options.offset;
    bool empty = false;
    for (size_t i = 0; i < weight.type.sizes.size(); ++i) {
      if (!weight.type.sizes[i].is_constant() || !weight.type.strides[i].is_constant())
        return fail(Kind::bad_graph, "weight `{}` has a symbolic size", name);
      if (weight.type.strides[i].value() < 0) return fail(Kind::bad_graph, "weight `{}` has a negative stride", name);
      empty |= weight.type.sizes[i].value() == 0;
      last += static_cast<__int128>(weight.type.sizes[i].value() - 1) * weight.type.strides[i].value();
    }
    const int64_t bytes = graph.storages[static_cast<size_t>(storage)].bytes;
    if (options.offset < 0 || (!empty && (last + 1) * dtype_bytes(weight.type.dtype) > bytes))
      return fail(Kind::bad_graph, "weight `{}` ({} at element {}) ends behind the {} bytes of its storage", name,
                  to_string(weight.type), options.offset, bytes);
    return Tensor{state_->writer.add_weight(std::move(weight), name).index};
  });
}

Expected<GraphBuilder::Tensor> GraphBuilder::weight(const std::string& name, const std::string& dtype,
                                                    const Sizes& sizes, const Bytes& bytes) {
  Expected<int32_t> at = storage(bytes);
  if (!at) return at.error();
  return weight(name, dtype, sizes, *at, WeightOptions{});
}

Expected<std::vector<GraphBuilder::Tensor>> GraphBuilder::call(const std::string& op, const Arguments& positional,
                                                               const Keywords& keywords, const Source& source,
                                                               const std::vector<Claim>& claims) {
  return guarded<std::vector<Tensor>>(*state_,
                                      [&] { return call_op(*state_, op, positional, keywords, source, claims); });
}

Outcome GraphBuilder::autocast(const std::string& dtype) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    const std::optional<DType> lower = dtype_from_name(dtype);
    if (!dtype.empty() && lower != DType::bf16 && lower != DType::f16)
      return fail(Kind::bad_graph, "autocast to `{}`: it is to bf16 or f16", dtype);
    state_->writer.set_autocast(lower);
    return Nothing{};
  });
}

Expected<GraphBuilder::Program> GraphBuilder::program(const GraphBuilder& inner) {
  Result<Graph> built = build_graph(inner);
  if (!built) return to_error(built.error());
  return guarded<Program>(*state_, [&]() -> Result<Program> {
    if (!built->weights.empty()) return fail(Kind::unsupported, "weights inside a program of control flow");
    for (const GraphOutput& output : built->outputs)
      if (output.mutates != GraphOutput::Mutates::nothing)
        return fail(Kind::unsupported, "writes to an operand inside a program of control flow");
    // The text names programs.
    std::vector<Graph>& known = state_->graph.subgraphs;
    const std::string base = built->name;
    for (int i = 1; std::ranges::any_of(known, [&](const Graph& g) { return g.name == built->name; }); ++i)
      built->name = format("{}_{}", base, i);
    known.push_back(std::move(*built));
    return Program{static_cast<int32_t>(known.size()) - 1};
  });
}

Outcome GraphBuilder::assign(Tensor target, Tensor value) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    TD_TRY(Handle to, to_handle(*state_, target));
    TD_TRY(Handle from, to_handle(*state_, value));
    if (!same_list(state_->writer.type(to).sizes, state_->writer.type(from).sizes))
      return fail(Kind::bad_graph, "{} is assigned to {}", to_string(state_->writer.type(from)),
                  to_string(state_->writer.type(to)));
    TD_CHECK_OK(state_->writer.assign(to, state_->writer.read(from)));
    return Nothing{};
  });
}

Outcome GraphBuilder::read_scalar(const std::string& name, Tensor tensor, int64_t low, int64_t high,
                                  const Source& source) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    TD_TRY(Handle handle, to_handle(*state_, tensor));
    const TensorType& type = state_->writer.type(handle);
    TD_CHECK_OK(declare(state_->graph, {name, low, high, std::nullopt, true}));
    ResultNote note{.name = name + "_value", .type = TensorType{.dtype = type.dtype, .device = type.device}};
    note.claimed = false;
    note.symbol = name;
    TD_TRY([[maybe_unused]] std::vector<Handle> made,
           state_->writer.call("aten._local_scalar_dense.default", {handle}, {note},
                               Where{source.module, source.file, source.line}));
    return Nothing{};
  });
}

Outcome GraphBuilder::check(const std::string& condition, const std::string& text) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    TD_TRY(Sym value, to_sym(state_->graph, Size(condition)));
    TD_CHECK_OK(state_->writer.assert_condition(value, text.empty() ? condition : text));
    return Nothing{};
  });
}

Outcome GraphBuilder::output(Tensor tensor, const std::string& name) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    TD_TRY(Handle handle, to_handle(*state_, tensor));
    GraphOutput output;
    output.name = name;
    state_->outputs.push_back({std::move(output), handle});
    return Nothing{};
  });
}

Outcome GraphBuilder::size_output(const Size& size, const std::string& name) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    GraphOutput output;
    output.kind = GraphOutput::Kind::symbol;
    output.name = name;
    TD_TRY(output.symbol, to_sym(state_->graph, size));
    state_->outputs.push_back({std::move(output), {}});
    return Nothing{};
  });
}

Outcome GraphBuilder::constant_output(const Argument& value, const std::string& name) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    GraphOutput output;
    output.kind = GraphOutput::Kind::constant;
    output.name = name;
    TD_TRY(output.constant, to_arg(*state_, value));
    if (std::holds_alternative<Handle>(output.constant) || std::holds_alternative<std::vector<Handle>>(output.constant))
      return fail(Kind::bad_graph, "a tensor is no constant");
    state_->outputs.push_back({std::move(output), {}});
    return Nothing{};
  });
}

std::vector<std::string> GraphBuilder::refusals(size_t from) const {
  std::lock_guard lock(state_->mutex);
  const std::vector<std::string>& all = state_->writer.refusals();
  return {all.begin() + static_cast<std::ptrdiff_t>(std::min(from, all.size())), all.end()};
}

Outcome GraphBuilder::call_spec(const std::string& in_spec, const std::string& out_spec) {
  return guarded<Nothing>(*state_, [&]() -> Result<Nothing> {
    state_->graph.in_spec = in_spec;
    state_->graph.out_spec = out_spec;
    return Nothing{};
  });
}

Expected<std::string> GraphBuilder::type_text(Tensor tensor) const {
  return guarded<std::string>(*state_, [&]() -> Result<std::string> {
    TD_TRY(Handle handle, to_handle(*state_, tensor));
    return to_string(state_->writer.type(handle));
  });
}

Expected<std::string> GraphBuilder::text() const {
  return guarded<std::string>(*state_, [&]() -> Result<std::string> {
    TD_TRY(Graph graph, build(*state_));
    return print_graph(graph);
  });
}

}  // namespace toroid
