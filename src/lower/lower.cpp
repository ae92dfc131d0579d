// Calls each node's row in order, then settles what the outputs are: tensors of their own, or views of an input's
// memory.
#include "lower/lower.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/check.h"
#include "loop/random_state.h"
#include "ops/body.h"
#include "ops/loop_builder.h"
#include "ops/op_table.h"
#include "ops/rules.h"
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

  // A program that a call runs: `tensors` are its inputs in `body`, by start_body.
  Lowering(const Graph& graph, Loops body, const std::vector<TensorId>& tensors)
      : graph_(graph),
        loops_(std::move(body)),
        values_(graph.values.size()),
        aliases_(graph.values.size()),
        nested_(true) {
    loops_.guards = graph.guards;
    builder_.emplace(loops_);
    for (size_t i = 0; i < graph.inputs.size(); ++i) value(graph.inputs[i].value) = builder_->read(tensors[i]);
  }

  Result<Loops> run() {
    if (!nested_) sources();
    for (const Node& node : graph_.nodes) TD_CHECK_OK(lower(node));
    if (!unsupported_.empty()) return fail(unsupported());
    if (random_.valid()) count_call();
    for (const GraphOutput& output : graph_.outputs) {
      if (nested_) {
        TD_CHECK_OK(add_nested_output(output));
      } else {
        if (output.kind == GraphOutput::Kind::symbol && is_float_sym(output.symbol))
          return fail(Kind::unsupported, "the output `{}` is a float that is read from a tensor: return the tensor",
                      output.name);
        add_output(output);
      }
    }
    drop_dead(loops_);
    return std::move(loops_);
  }

 private:
  static SymList strides_of(const LoopTensor& tensor, const TensorType& type) {
    return tensor.pairs ? pair_strides(type.strides) : type.strides;
  }
  // Some elements lie where others do: a dim of stride 0, or rows closer than they are long.
  static bool shares_memory(const TensorType& type) {
    for (size_t d = 0; d < type.strides.size(); ++d)
      if (type.strides[d] == Sym(0) && !proves_eq(type.sizes[d], 1)) return true;
    std::vector<size_t> order;
    for (size_t d = 0; d < type.strides.size(); ++d) {
      if (!type.sizes[d].is_constant() || !type.strides[d].is_constant()) return false;
      order.push_back(d);
    }
    std::ranges::sort(order, {}, [&](size_t d) { return type.strides[d].value(); });
    int64_t last = 0;  // the furthest element of the dims so far
    for (size_t d : order) {
      if (type.sizes[d].value() > 1 && type.strides[d].value() <= last) return true;
      last += (type.sizes[d].value() - 1) * type.strides[d].value();
    }
    return false;
  }
  std::optional<LoopValue>& value(ValueId id) { return values_[static_cast<size_t>(id.index)]; }

  void source(ValueId id, LoopTensor tensor) {
    const Value& value = graph_[id];
    tensor.pairs = is_complex(value.type.dtype);
    tensor.dtype = part_type(value.type.dtype);
    tensor.sizes = tensor.pairs ? pair_sizes(value.type.sizes) : value.type.sizes;
    tensor.strides = strides_of(tensor, value.type);
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
      // Exported with an expanded tensor, called with any: elements that share memory there do not here.
      LoopTensor& made = loops_.tensors.back();
      if (shares_memory(graph_[input.value].type)) made.strides = contiguous_strides(made.sizes);
      aliases_[static_cast<size_t>(input.value.index)] = true;
    }
    std::vector<std::vector<ValueId>> users(graph_.weights.size());
    for (size_t i = 0; i < graph_.values.size(); ++i)
      if (const Value& value = graph_.values[i]; value.kind == ValueKind::weight && value.weight.valid())
        users[static_cast<size_t>(value.weight.index)].push_back({static_cast<int32_t>(i)});
    for (size_t w = 0; w < users.size(); ++w) {
      if (users[w].empty()) continue;
      // A weight of complex numbers is one of pairs from here on; the memory is the same.
      if (Weight& weight = loops_.weights[w]; is_complex(weight.type.dtype)) {
        weight.type.dtype = part_type(weight.type.dtype);
        weight.type.sizes = pair_sizes(weight.type.sizes);
        weight.type.strides = pair_strides(weight.type.strides);
        weight.storage_offset *= 2;
      }
      LoopTensor tensor;
      tensor.name = graph_[users[w][0]].name;
      tensor.kind = TensorKind::weight;
      tensor.weight = {static_cast<int32_t>(w)};
      source(users[w][0], std::move(tensor));
      for (size_t k = 1; k < users[w].size(); ++k) sources_.push_back({users[w][k], sources_.back().second});
    }
    add_random_state();
    builder_.emplace(loops_);
    std::set<WeightId> written;
    for (const GraphOutput& output : graph_.outputs)
      if (output.mutates == GraphOutput::Mutates::weight) written.insert(output.weight);
    builder_->set_written(std::move(written));
    builder_->set_random_state(random_);
    for (auto [id, tensor] : sources_) value(id) = builder_->read(tensor);
  }

  // Random ops share a buffer of the model: its seed and how often it was called.
  void add_random_state() {
    const bool random = std::ranges::any_of(graph_.nodes, [this](const Node& node) {
      const OpRow* row = OpTable::all().find(node.op);
      const Schema* schema = find_schema(node.op);
      return row && schema && row->draws(Call(graph_, node, *schema));
    });
    if (!random) return;
    auto state = std::make_shared<std::array<int64_t, 2>>(std::array<int64_t, 2>{0x5eed, 0});
    loops_.storages.push_back({state->data(), sizeof *state, state});
    Weight weight;
    weight.name = random_state_name;
    weight.kind = WeightKind::buffer;
    weight.type = {DType::i64, {2}, {1}, {}};
    weight.storage = static_cast<int32_t>(loops_.storages.size()) - 1;
    loops_.weights.push_back(weight);
    LoopTensor tensor;
    tensor.name = weight.name;
    tensor.kind = TensorKind::weight;
    tensor.weight = {static_cast<int32_t>(loops_.weights.size()) - 1};
    tensor.dtype = DType::i64;
    tensor.sizes = {2};
    tensor.strides = {1};
    random_ = loops_.add(std::move(tensor));
  }
  void count_call() {
    const LoopValue state = builder_->read(random_);
    LoopOutput output;
    output.target.name = loops_[random_].name;
    output.target.mutates = GraphOutput::Mutates::weight;
    output.target.weight = loops_[random_].weight;
    output.strides = {1};
    builder_->enter(loops_[random_].name, {});
    output.tensor = builder_->compute(
        DType::i64, {2},
        [&](const Index& i) {
          const ExprId count = builder_->op(ScalarOp::ne, {i[0], builder_->index(0)});
          return builder_->add(state.at(i), builder_->cvt(count, DType::i64));
        },
        loops_[random_].name + ".next");
    loops_.outputs.push_back(std::move(output));
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
    bool ready = true;
    for_each_tensor(node, [&](ValueId id) { ready = ready && value(id); });
    // What comes after an op that was refused is not judged.
    if (!ready) return {};
    if (node.op == "aten._local_scalar_dense.default" || node.op == "aten.item.default") return lower_item(node);
    if (node.op.starts_with("higher_order.")) return lower_control(node);
    const Schema* schema = find_schema(node.op);
    if (!row || !row->lower_rule || !schema) return refuse(node, ""), Status{};

    const LowerCall call(graph_, node, *schema, [this](ValueId id) { return *value(id); });
    // A program that a call runs has no part in the model's count of calls: each of its steps would draw the same.
    if (nested_ && row->draws(call)) return refuse(node, "random numbers inside control flow"), Status{};
    const std::string name = name_of(node);
    builder_->enter(name, node.where);
    const size_t before = loops_.tensors.size();
    auto results = row->lowered(*builder_, call);
    if (!results && results.error().kind == Kind::unsupported_op) return refuse(node, results.error().text), Status{};
    if (!results) return fail(std::move(results.error()).with("at " + node_text(graph_, node)));
    take_results(node, *results, before, row->views(call));
    return {};
  }

  void take_results(const Node& node, std::vector<LoopValue>& results, size_t before, bool view) {
    TD_CHECK(results.size() >= node.outputs.size(), "`{}` lowered to {} results of {}", node.op, results.size(),
             node.outputs.size());
    // What the row made lies where its result does.
    if (!node.outputs.empty() && node.outputs[0].valid())
      for (size_t t = before; t < loops_.tensors.size(); ++t)
        loops_.tensors[t].device = graph_[node.outputs[0]].type.device;
    bool alias = false;
    if (view) for_each_tensor(node, [&](ValueId id) { alias = alias || aliases_[static_cast<size_t>(id.index)]; });
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const ValueId id = node.outputs[i];
      if (!id.valid()) continue;
      LoopValue& result = results[i];
      TD_CHECK(result.sizes.size() == graph_[id].type.sizes.size(), "`{}` lowered to rank {}, the graph says {}",
               node.op, result.sizes.size(), graph_[id].type.sizes.size());
      aliases_[static_cast<size_t>(id.index)] = alias;
      if (view && result.dtype == graph_[id].type.dtype) {
        // What the export knew of them may be more than the row can show.
        result.sizes = graph_[id].type.sizes;
        value(id) = std::move(result);
      } else {
        value(id) = builder_->read(settle(id, result, before, node.where));
      }
    }
  }

  // ---- control flow: each graph of the node is a program of its call

  Result<Loops> lower_body(const Graph& graph, const std::vector<BodyInput>& inputs) {
    if (graph.inputs.size() != inputs.size())
      return fail(Kind::bad_graph, "`{}` takes {} inputs and gets {}", graph.name, graph.inputs.size(), inputs.size());
    for (const GraphInput& input : graph.inputs)
      if (input.kind != GraphInput::Kind::tensor)
        return fail(Kind::unsupported_op, "`{}` takes a number that is no tensor", graph.name);
    std::vector<TensorId> tensors;
    Loops body = start_body(loops_, graph.name, inputs, tensors);
    return Lowering(graph, std::move(body), tensors).run();
  }

  Status add_nested_output(const GraphOutput& target) {
    const std::string name = format("result{}", loops_.outputs.size());
    if (target.kind == GraphOutput::Kind::tensor) {
      add_body_output(*builder_, *value(target.value), name);
      return {};
    }
    const Sym* constant = std::get_if<Sym>(&target.constant);
    if (target.kind != GraphOutput::Kind::symbol && !constant)
      return fail(Kind::unsupported_op, "`{}` gives what is no tensor", graph_.name);
    const Sym number = constant ? *constant : target.symbol;
    add_body_output(*builder_, builder_->full({}, builder_->index(number), DType::i64), name);
    return {};
  }

  Status lower_control(const Node& node) {
    bool complex = false;
    for_each_tensor(node, [&](ValueId id) { complex = complex || is_complex(graph_[id].type.dtype); });
    for (ValueId id : node.outputs) complex = complex || (id.valid() && is_complex(graph_[id].type.dtype));
    if (complex) return refuse(node, "complex numbers"), Status{};
    builder_->enter(name_of(node), node.where);
    const size_t before = loops_.tensors.size();
    Result<std::vector<LoopValue>> results = control_results(node);
    if (!results && results.error().kind == Kind::unsupported_op) {
      Diagnostic why = std::move(results).error();
      refuse(node, why.details.empty() ? why.text : why.text + " (" + join(why.details, "; ") + ")");
      return {};
    }
    if (!results) return fail(std::move(results.error()).with("at " + node_text(graph_, node)));
    take_results(node, *results, before, false);
    return {};
  }

  Result<std::vector<LoopValue>> control_results(const Node& node) {
    const std::string op = node.op.substr(node.op.find('.') + 1);
    std::vector<const Graph*> graphs;
    std::vector<std::vector<ValueId>> lists;
    for (const Arg& arg : node.args) {
      if (auto* id = std::get_if<SubgraphId>(&arg)) graphs.push_back(&graph_.subgraphs[static_cast<size_t>(id->index)]);
      if (auto* list = std::get_if<std::vector<ValueId>>(&arg)) lists.push_back(*list);
    }
    std::vector<LoopValue> operands;
    SymList attributes;
    size_t first_other = 0, walked_from = 0;
    if (op == "cond" && graphs.size() == 2) {
      const Arg& condition = node.args[0];
      if (auto* id = std::get_if<ValueId>(&condition))
        operands.push_back(builder_->convert(builder_->reshape(*value(*id), {}), DType::b8)), first_other = 1;
      else if (auto* sym = std::get_if<Sym>(&condition))
        attributes = {*sym};
      else if (auto* truth = std::get_if<bool>(&condition))
        attributes = {Sym(*truth)};
      else
        return fail(Kind::unsupported_op, "a condition of an unknown kind");
    } else if (op == "while_loop" && graphs.size() == 2 && !lists.empty()) {
      first_other = lists[0].size();
      attributes = {static_cast<int64_t>(first_other)};
      walked_from = first_other;
    } else if (op == "scan" && graphs.size() == 1 && lists.size() >= 2 && !lists[1].empty()) {
      first_other = lists[0].size() + lists[1].size();
      walked_from = lists[0].size();
    } else if (op == "map_impl" && graphs.size() == 1 && !lists.empty() && !lists[0].empty()) {
      first_other = lists[0].size();
    } else {
      return fail(Kind::unsupported_op, "control flow of an unknown form");
    }
    const size_t hidden = operands.size();
    std::vector<BodyInput> inputs;
    for (const std::vector<ValueId>& list : lists)
      for (ValueId id : list) {
        if (!id.valid()) return fail(Kind::unsupported_op, "an operand that is no tensor");
        operands.push_back(builder_->materialize(*value(id), ".in"));
        const size_t at = inputs.size();
        BodyInput input = body_input(*builder_, graph_[id].name, operands.back());
        input.name = format("{}_{}", at, input.name);
        if (at + hidden < first_other) input.weight = {};
        const bool walks = op != "while_loop" && op != "cond" && at >= walked_from && at < first_other;
        if (walks && input.sizes.empty()) return fail(Kind::bad_graph, "`{}` walks along a tensor without dims", op);
        if (walks) input.sizes.erase(input.sizes.begin());
        inputs.push_back(std::move(input));
      }
    if (op == "scan" || op == "map_impl")
      attributes = {static_cast<int64_t>(walked_from), static_cast<int64_t>(first_other - walked_from),
                    operands[walked_from].sizes[0], 0};
    std::vector<Loops> bodies;
    for (const Graph* graph : graphs) {
      TD_TRY(Loops body, lower_body(*graph, inputs));
      bodies.push_back(std::move(body));
    }
    const char* function = op == "cond" ? "cond" : op == "while_loop" ? "while" : "scan";
    std::vector<SymList> sizes;
    if (op == "cond") {
      TD_TRY(sizes, branch_sizes(node, operands, attributes, bodies));
    }
    return call_bodies(*builder_, function, std::move(operands), first_other, attributes, std::move(bodies), sizes);
  }

  // The sizes of a cond's results. Where its branches differ the graph has a symbol, which the condition decides.
  Result<std::vector<SymList>> branch_sizes(const Node& node, const std::vector<LoopValue>& operands,
                                            const SymList& attributes, const std::vector<Loops>& bodies) {
    const Loops &yes = bodies[0], &no = bodies[1];
    if (yes.outputs.size() != no.outputs.size())
      return fail(Kind::bad_graph, "the graphs of `cond` give {} and {} results", yes.outputs.size(),
                  no.outputs.size());
    std::vector<SymList> sizes;
    for (size_t i = 0; i < no.outputs.size(); ++i) {
      const LoopTensor &one = yes[yes.outputs[i].tensor], &other = no[no.outputs[i].tensor];
      const bool used = i < node.outputs.size() && node.outputs[i].valid();
      sizes.push_back(other.sizes);
      if (one.sizes.size() != other.sizes.size())
        return fail(Kind::unsupported_op, "the graphs of `cond` give results of different ranks");
      for (size_t d = 0; d < other.sizes.size(); ++d) {
        if (proves_eq(one.sizes[d], other.sizes[d])) continue;
        const Sym wanted = used ? graph_[node.outputs[i]].type.sizes[d] : Sym(0);
        if (!wanted.is_symbol())
          return fail(Kind::unsupported_op, "the graphs of `cond` give results of different sizes");
        LoopBuilder* b = &*builder_;
        const ExprId condition = attributes.empty() ? operands[0].at({}) : b->index(attributes[0]);
        const ExprId chosen = b->where(truth(*b, condition), b->index(one.sizes[d]), b->index(other.sizes[d]));
        b->define_size(wanted, b->from(DType::i64, {}, [chosen](const Index&) { return chosen; }));
        sizes.back()[d] = wanted;
      }
    }
    return sizes;
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
    TensorId whole = result.dtype == value.type.dtype ? builder_->whole_tensor(result) : TensorId{};
    // A call's result is row-major whatever the value is.
    if (whole.valid() && loops_[whole].kind == TensorKind::called &&
        !same_list(loops_[whole].strides, value.type.strides))
      whole = {};
    if (whole.valid() && static_cast<size_t>(whole.index) < before) return whole;
    TensorId tensor = whole;
    if (!whole.valid()) {
      tensor = builder_->compute(value.type.dtype, value.type.sizes, result.at, value.name, value.type.strides);
    } else if (loops_[whole].kind == TensorKind::computed &&
               builder_->pool()[loops_[whole].body].kind == ExprKind::routine &&
               !same_list(value.type.strides, contiguous_strides(value.type.sizes))) {
      // A routine writes row by row.
      tensor = builder_->compute(value.type.dtype, value.type.sizes, result.at, value.name, value.type.strides);
    } else if (settled_.contains(whole)) {
      return whole;
    }
    settled_.insert(tensor);
    builder_->rename(tensor, value.name);
    loops_[tensor].strides = strides_of(loops_[tensor], value.type);
    loops_[tensor].device = value.type.device;
    loops_[tensor].where = where;
    return tensor;
  }

  // A number that is read on the host: its symbol takes the element's value once the tensor is there.
  Status lower_item(const Node& node) {
    const ValueId id = node.outputs.empty() ? ValueId{} : node.outputs[0];
    if (!id.valid() || graph_[id].symbol.empty()) return {};
    const LoopValue& x = *value(std::get<ValueId>(node.args.at(0)));
    if (is_complex(x.dtype)) return refuse(node, "complex numbers"), Status{};
    builder_->enter(graph_[id].name, node.where);
    LoopValue one = builder_->reshape(x, {});
    // A symbol holds the bits of a double.
    if (is_float(x.dtype)) one = builder_->convert(one, DType::f64);
    TensorId tensor = builder_->whole_tensor(one);
    if (!tensor.valid() || loops_[tensor].kind != TensorKind::computed)
      tensor = builder_->compute(one.dtype, {}, one.at, graph_[id].name);
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
  // the caller is to get, and begin where the caller can tell. Not of an input that the program writes to.
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
    if (input.dtype != value.type.dtype || input.pairs || is_mutated(input.input)) return false;
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
    std::set<std::string> names;
    collect_symbols(place, names);
    for (const std::string& name : names)
      if (const SymbolInfo* info = graph_.find_symbol(name); !info || info->unbacked) return false;
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
        TensorType type = v.type;
        // A view of an input that was expanded in the export and need not be now.
        if (may_alias && shares_memory(type)) type.strides = contiguous_strides(type.sizes);
        output.tensor = builder_->whole_tensor(x);
        // A copy, where the value is a view or memory of the caller's or the model's.
        const bool made = output.tensor.valid() && (loops_[output.tensor].kind == TensorKind::computed ||
                                                    loops_[output.tensor].kind == TensorKind::called);
        if (!made || (!written &&
                      !same_list(outer_strides(loops_[output.tensor], loops_[output.tensor].strides), type.strides))) {
          builder_->enter(v.name, v.producer.valid() ? graph_[v.producer].where : Where{});
          output.tensor = builder_->compute(type.dtype, type.sizes, x.at, v.name, type.strides);
          loops_[output.tensor].device = type.device;
        }
        output.strides = strides_of(loops_[output.tensor], type);
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
  bool nested_ = false;
  TensorId random_;
  std::vector<std::string> unsupported_, unsupported_ops_;
};

}  // namespace

Result<Loops> lower_graph(const Graph& graph) { return Lowering(graph).run(); }

}  // namespace toroid
