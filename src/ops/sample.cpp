// Reads samples; see sample.h.
#include "ops/sample.h"

#include "base/check.h"
#include "base/lexer.h"
#include "ops/unknown.h"

namespace toroid {

namespace {

class SampleReader {
 public:
  explicit SampleReader(std::string_view text) : lexer_(text) {}

  Result<Graph> read() {
    TD_TRY(std::string op, lexer_.expect_kind(TokenKind::word, "an op"));
    const Schema* schema = find_schema(op);
    const OpRow* row = OpTable::all().find(op);
    if (!schema || !row) return fail(Kind::unsupported_op, "no schema or no row for `{}`", op);
    Node node;
    node.op = op;
    std::vector<std::optional<Arg>> args(schema->args.size());
    TD_CHECK_OK(read_args(*schema, args));
    for (size_t i = 0; i < args.size(); ++i) {
      if (!args[i]) args[i] = schema->args[i].default_value;
      if (!args[i]) return fail(Kind::bad_graph, "`{}`: no value for `{}`", op, schema->args[i].name);
      node.args.push_back(std::move(*args[i]));
    }
    graph_.name = "sample";
    // The rule sees as many results as the schema names; a list of tensors tells its own length.
    node.outputs.resize(schema->returns.size());
    TD_TRY(std::vector<TensorType> types, row->infer_rule(Call(graph_, node, *schema)));
    settle_unknown(graph_, types);
    node.outputs.clear();
    for (size_t i = 0; i < types.size(); ++i) {
      Value value;
      value.name = types.size() == 1 ? "r" : format("r{}", i);
      value.type = types[i];
      if (value.type.strides.empty()) value.type.strides = contiguous_strides(value.type.sizes);
      value.producer = NodeId{0};
      value.index = static_cast<int32_t>(i);
      node.outputs.push_back(graph_.add_value(std::move(value)));
      GraphOutput output;
      output.value = node.outputs.back();
      output.name = format("out{}", i);
      graph_.outputs.push_back(std::move(output));
    }
    graph_.nodes.push_back(std::move(node));
    return std::move(graph_);
  }

 private:
  Status read_args(const Schema& schema, std::vector<std::optional<Arg>>& args) {
    TD_CHECK_OK(lexer_.expect("("));
    size_t position = 0;
    while (!lexer_.accept(")")) {
      if (position > 0) TD_CHECK_OK(lexer_.expect(","));
      size_t at = position++;
      if (lexer_.peek().kind == TokenKind::word)
        if (int named = schema.find_arg(lexer_.peek().text); named >= 0) {
          lexer_.next();
          TD_CHECK_OK(lexer_.expect("="));
          at = static_cast<size_t>(named);
        }
      if (at >= args.size()) return std::unexpected(lexer_.error("too many arguments"));
      TD_TRY(args[at], read_arg());
    }
    return {};
  }

  Result<SymList> read_sizes() {
    TD_CHECK_OK(lexer_.expect("["));
    SymList sizes;
    while (!lexer_.accept("]")) {
      if (!sizes.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(int64_t size, lexer_.expect_integer());
      sizes.push_back(size);
    }
    return sizes;
  }

  Result<Arg> read_arg() {
    if (lexer_.at("[")) return read_list();
    if (lexer_.peek().kind == TokenKind::string) return Arg(lexer_.next().text);
    if (lexer_.accept("none")) return Arg(None{});
    if (lexer_.accept("True")) return Arg(true);
    if (lexer_.accept("False")) return Arg(false);
    if (lexer_.accept("cpu")) return Arg(Device{});
    if (lexer_.accept("channels_last")) return Arg(MemoryFormat::channels_last);
    if (auto dtype = dtype_from_name(lexer_.peek().text); dtype && lexer_.peek().kind == TokenKind::word) {
      lexer_.next();
      if (!lexer_.at("[")) return Arg(*dtype);
      TD_TRY(SymList sizes, read_sizes());
      Value value;
      value.name = format("x{}", graph_.inputs.size());
      value.kind = ValueKind::input;
      value.index = static_cast<int32_t>(graph_.inputs.size());
      value.type = {*dtype, sizes, contiguous_strides(sizes), {}};
      if (lexer_.accept("strides")) {
        TD_TRY(value.type.strides, read_sizes());
      }
      GraphInput input;
      input.name = value.name;
      input.value = graph_.add_value(std::move(value));
      graph_.inputs.push_back(input);
      return Arg(input.value);
    }
    Lexer ahead = lexer_;
    ahead.accept("-");
    if (ahead.peek().kind == TokenKind::integer) {
      TD_TRY(int64_t value, lexer_.expect_integer());
      return Arg(Sym(value));
    }
    TD_TRY(double value, lexer_.expect_number());
    return Arg(value);
  }

  // Of the kind that its first entry which is not none has.
  Result<Arg> read_list() {
    TD_CHECK_OK(lexer_.expect("["));
    std::vector<ValueId> tensors;
    SymList integers;
    std::vector<double> numbers;
    bool has_tensors = false, has_numbers = false;
    for (bool first = true; !lexer_.accept("]"); first = false) {
      if (!first) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(Arg arg, read_arg());
      has_tensors = has_tensors || std::holds_alternative<ValueId>(arg) || std::holds_alternative<None>(arg);
      has_numbers = has_numbers || std::holds_alternative<double>(arg);
      if (auto id = std::get_if<ValueId>(&arg)) tensors.push_back(*id);
      if (std::holds_alternative<None>(arg)) tensors.emplace_back();
      if (auto sym = std::get_if<Sym>(&arg)) integers.push_back(*sym);
      if (auto number = std::get_if<double>(&arg)) numbers.push_back(*number);
    }
    if (has_tensors) return Arg(tensors);
    if (has_numbers) return Arg(numbers);
    return Arg(integers);
  }

  Lexer lexer_;
  Graph graph_;
};

}  // namespace

Result<Graph> graph_of_sample(std::string_view text) { return SampleReader(text).read(); }

Result<Loops> loops_of_sample(const Graph& graph) {
  Loops loops;
  loops.name = graph.name;
  loops.symbols = graph.symbols;
  loops.inputs = graph.inputs;
  std::unordered_map<int32_t, TensorId> tensors;
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const Value& value = graph[graph.inputs[i].value];
    LoopTensor tensor;
    tensor.name = value.name;
    tensor.kind = TensorKind::input;
    tensor.pairs = is_complex(value.type.dtype);
    tensor.dtype = part_type(value.type.dtype);
    tensor.sizes = tensor.pairs ? pair_sizes(value.type.sizes) : value.type.sizes;
    tensor.strides = tensor.pairs ? pair_strides(value.type.strides) : value.type.strides;
    tensor.input = static_cast<int32_t>(i);
    loops.input_tensors.push_back(loops.add(std::move(tensor)));
    tensors[graph.inputs[i].value.index] = loops.input_tensors.back();
  }
  LoopBuilder b(loops);
  for (const Node& node : graph.nodes) {
    const OpRow* row = OpTable::all().find(node.op);
    LowerCall call(graph, node, *find_schema(node.op), [&](ValueId id) { return b.read(tensors.at(id.index)); });
    b.enter(graph[node.outputs[0]].name, node.where);
    TD_TRY(std::vector<LoopValue> values, row->lowered(b, call));
    TD_CHECK(values.size() >= node.outputs.size(), "`{}` gives {} values for {} results", node.op, values.size(),
             node.outputs.size());
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const Value& out = graph[node.outputs[i]];
      TD_CHECK(values[i].dtype == out.type.dtype, "`{}`: result {} is {}, lowered {}", node.op, i,
               dtype_name(out.type.dtype), dtype_name(values[i].dtype));
      TD_CHECK(same_list(values[i].sizes, out.type.sizes), "`{}`: result {} is [{}], lowered [{}]", node.op, i,
               to_string(out.type.sizes), to_string(values[i].sizes));
      // A tensor of its own, even where the value is an input as it is.
      TensorId id = b.compute(values[i].dtype, values[i].sizes, values[i].at, format("{}.out{}", out.name, i));
      tensors[node.outputs[i].index] = id;
    }
  }
  for (const GraphOutput& output : graph.outputs)
    loops.outputs.push_back({output, tensors.at(output.value.index),
                             loops[tensors.at(output.value.index)].pairs
                                 ? pair_strides(graph[output.value].type.strides)
                                 : graph[output.value].type.strides});
  return loops;
}

}  // namespace toroid
