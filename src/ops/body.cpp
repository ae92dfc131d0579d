// Nested programs: inputs, outputs, and what they do not need.
#include "ops/body.h"

#include <algorithm>

#include "base/check.h"

namespace toroid {
namespace {

// What a program reads of its inputs, one flag each.
std::vector<bool> inputs_read(const Loops& loops) {
  std::vector<bool> read(loops.inputs.size());
  auto mark = [&](TensorId id) {
    if (id.valid() && loops[id].kind == TensorKind::input) read[static_cast<size_t>(loops[id].input)] = true;
  };
  for (size_t i = 0; i < loops.tensors.size(); ++i)
    for (TensorId source : sources_of(loops, {static_cast<int32_t>(i)})) mark(source);
  for (const LoopOutput& output : loops.outputs) mark(output.tensor);
  for (const SymbolRead& symbol : loops.symbol_reads) mark(symbol.tensor);
  return read;
}

void erase_inputs(Loops& loops, const std::vector<bool>& keep) {
  std::vector<GraphInput> inputs;
  std::vector<TensorId> tensors;
  for (size_t i = 0; i < keep.size(); ++i) {
    LoopTensor& tensor = loops[loops.input_tensors[i]];
    if (!keep[i]) {
      // Dead, and no input any more.
      tensor.kind = TensorKind::constant;
      tensor.input = -1;
      continue;
    }
    tensor.input = static_cast<int32_t>(inputs.size());
    inputs.push_back(std::move(loops.inputs[i]));
    tensors.push_back(loops.input_tensors[i]);
  }
  loops.inputs = std::move(inputs);
  loops.input_tensors = std::move(tensors);
  drop_dead(loops);
}

}  // namespace

BodyInput body_input(LoopBuilder& b, const std::string& name, const LoopValue& operand) {
  BodyInput input{name, operand.dtype, operand.sizes, {}};
  const TensorId whole = b.whole_tensor(operand);
  if (whole.valid() && b.loops()[whole].kind == TensorKind::weight && !b.is_written(b.loops()[whole].weight))
    input.weight = b.loops()[whole].weight;
  return input;
}

Loops start_body(const Loops& outer, const std::string& name, const std::vector<BodyInput>& inputs,
                 std::vector<TensorId>& tensors) {
  Loops body;
  body.name = name;
  body.symbols = outer.symbols;
  body.storages = outer.storages;
  tensors.assign(inputs.size(), {});
  auto describe = [](LoopTensor& tensor, const BodyInput& input) {
    tensor.dtype = input.dtype;
    tensor.sizes = input.sizes;
    tensor.strides = contiguous_strides(input.sizes);
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    LoopTensor tensor;
    tensor.name = inputs[i].name;
    tensor.kind = TensorKind::input;
    tensor.input = static_cast<int32_t>(i);
    describe(tensor, inputs[i]);
    GraphInput input;
    input.name = inputs[i].name;
    body.inputs.push_back(std::move(input));
    body.input_tensors.push_back(body.add(std::move(tensor)));
    tensors[i] = body.input_tensors.back();
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].weight.valid()) continue;
    const Weight& weight = outer.weights[static_cast<size_t>(inputs[i].weight.index)];
    auto known = std::ranges::find(body.weights, weight.name, &Weight::name);
    if (known == body.weights.end()) {
      LoopTensor tensor;
      tensor.name = inputs[i].name + ".weight";
      tensor.kind = TensorKind::weight;
      tensor.weight = {static_cast<int32_t>(body.weights.size())};
      describe(tensor, inputs[i]);
      tensor.strides = weight.type.strides;
      body.weights.push_back(weight);
      tensors[i] = body.add(std::move(tensor));
      continue;
    }
    for (size_t t = 0; t < body.tensors.size(); ++t)
      if (body.tensors[t].kind == TensorKind::weight && body.tensors[t].weight.index == known - body.weights.begin())
        tensors[i] = {static_cast<int32_t>(t)};
  }
  return body;
}

void add_body_output(LoopBuilder& inner, const LoopValue& value, const std::string& name) {
  Loops& loops = inner.loops();
  LoopOutput output;
  output.target.name = name;
  output.tensor = inner.whole_tensor(value);
  const bool own = output.tensor.valid() && (loops[output.tensor].kind == TensorKind::computed ||
                                             loops[output.tensor].kind == TensorKind::called);
  if (!own) output.tensor = inner.compute(value.dtype, value.sizes, value.at, name);
  output.strides = contiguous_strides(value.sizes);
  loops.outputs.push_back(std::move(output));
}

Result<std::vector<LoopValue>> call_bodies(LoopBuilder& b, const std::string& function, std::vector<LoopValue> operands,
                                           size_t first_other, SymList attributes, std::vector<Loops> bodies,
                                           const std::vector<SymList>& sizes) {
  // Of cond the first operand may be the condition, which no body has.
  const size_t hidden = function == "cond" && attributes.empty() ? 1 : 0;
  std::vector<bool> keep(operands.size() - hidden);
  for (size_t i = 0; i < keep.size(); ++i) keep[i] = i + hidden < first_other;
  for (const Loops& body : bodies) {
    const std::vector<bool> read = inputs_read(body);
    for (size_t i = 0; i < keep.size(); ++i) keep[i] = keep[i] || read[i];
  }
  for (Loops& body : bodies) erase_inputs(body, keep);
  std::vector<LoopValue> kept(operands.begin(), operands.begin() + static_cast<ptrdiff_t>(hidden));
  for (size_t i = 0; i < keep.size(); ++i)
    if (keep[i]) kept.push_back(operands[i + hidden]);

  const Loops& last = bodies.back();
  const auto carried = function == "cond" ? size_t(0) : static_cast<size_t>(attributes[0].value());
  for (const Loops& body : bodies) {
    if (function == "while" && &body == &bodies.front()) continue;
    for (size_t i = 0; i < body.outputs.size(); ++i) {
      const LoopTensor &tensor = body[body.outputs[i].tensor], &wanted = last[last.outputs[i].tensor];
      for (const Sym& size : tensor.sizes)
        if (std::ranges::any_of(body.symbol_reads, [&](const SymbolRead& r) { return depends_on(size, r.symbol); }))
          return fail(Kind::unsupported_op, "`{}` gives a result whose size `{}` only its own graph knows", function,
                      to_string(size));
      if (tensor.dtype != wanted.dtype || (sizes.empty() && !same_list(tensor.sizes, wanted.sizes)))
        return fail(Kind::unsupported_op, "the graphs of `{}` give results of different sizes", function);
    }
  }
  std::vector<LoopBuilder::CallResult> results;
  for (size_t i = 0; i < last.outputs.size(); ++i) {
    const LoopTensor& tensor = last[last.outputs[i].tensor];
    LoopBuilder::CallResult result{tensor.dtype, sizes.empty() ? tensor.sizes : sizes[i]};
    if (function == "scan" && i >= carried) result.sizes.insert(result.sizes.begin(), attributes[2]);
    results.push_back(std::move(result));
  }
  for (size_t i = 0; i < carried; ++i)
    if (operands[i].dtype != results[i].dtype || !same_list(operands[i].sizes, results[i].sizes))
      return fail(Kind::unsupported_op, "`{}` carries a tensor that changes its size", function);
  return b.call(function, kept, std::move(attributes), results, std::move(bodies));
}

Result<std::vector<LoopValue>> scan_steps(LoopBuilder& b, const std::string& name,
                                          const std::vector<LoopValue>& carried, const std::vector<LoopValue>& walked,
                                          const std::vector<LoopValue>& others, bool backwards, const ScanBody& step) {
  std::vector<BodyInput> inputs;
  std::vector<LoopValue> operands;
  auto add = [&](const LoopValue& value, const char* kind, bool row) {
    // Before it is looked at: an expression becomes a tensor of the outer program.
    operands.push_back(b.materialize(value, ".in"));
    const std::string input = format("{}{}", kind, inputs.size());
    inputs.push_back(row ? BodyInput{input, value.dtype, {value.sizes.begin() + 1, value.sizes.end()}, {}}
                         : body_input(b, input, operands.back()));
  };
  for (const LoopValue& value : carried) {
    add(value, "carried", false);
    inputs.back().weight = {};
  }
  for (const LoopValue& value : walked) add(value, "row", true);
  for (const LoopValue& value : others) add(value, "other", false);
  std::vector<TensorId> tensors;
  std::vector<Loops> bodies;
  bodies.push_back(start_body(b.loops(), name, inputs, tensors));
  {
    LoopBuilder inner(bodies[0]);
    inner.enter("step", {});
    auto values = [&](size_t from, size_t count) {
      std::vector<LoopValue> list;
      for (size_t i = from; i < from + count; ++i) list.push_back(inner.read(tensors[i]));
      return list;
    };
    const ScanStep result = step(inner, values(0, carried.size()), values(carried.size(), walked.size()),
                                 values(carried.size() + walked.size(), others.size()));
    for (const LoopValue& value : result.carried) add_body_output(inner, value, "next");
    for (const LoopValue& value : result.rows) add_body_output(inner, value, "row");
  }
  drop_dead(bodies[0]);
  const SymList attributes{static_cast<int64_t>(carried.size()), static_cast<int64_t>(walked.size()),
                           walked.at(0).sizes[0], backwards ? 1 : 0};
  return call_bodies(b, "scan", std::move(operands), carried.size() + walked.size(), attributes, std::move(bodies));
}

}  // namespace toroid
