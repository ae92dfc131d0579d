// Runs every sample of the op table through rule, lowering and interpreter; prints one JSON object a line for
// samples_test.py, which compares with PyTorch: {"sample", "inputs", "outputs"} or {"sample", "error"}.
// usage: op_samples [part of a sample, or - to read samples from standard input]
#include <fmt/core.h>

#include <cmath>
#include <iostream>
#include <string>

#include "base/check.h"
#include "interp/interp.h"
#include "ops/sample.h"

namespace {

using namespace toroid;

bool contains(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts)
    if (text.find(part) != std::string::npos) return true;
  return false;
}

// Values that suit the op: indices in range, divisors that are not zero, probabilities, positive variances.
InterpTensor input_values(const std::string& op, const TensorType& type, size_t which) {
  std::vector<int64_t> sizes;
  int64_t count = 1;
  for (const Sym& s : type.sizes) sizes.push_back(s.value()), count *= s.value();
  if (is_complex(type.dtype)) {
    TensorType parts{part_type(type.dtype), pair_sizes(type.sizes), {}, {}};
    InterpTensor z = input_values(op, parts, which);
    z.dtype = type.dtype;
    z.sizes.pop_back();
    return z;
  }
  uint64_t state = 88172645463325252ull + which * 7919;
  auto next = [&] {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return static_cast<double>(state >> 11) * 0x1p-53;
  };
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) {
    double u = next();
    if (is_bool(type.dtype)) {
      values.push_back(u < 0.5);
    } else if (!is_float(type.dtype)) {
      bool indices =
          contains(op, {"index", "gather", "embedding", "take", "scatter", "one_hot", "nll", "cross_entropy", "unpool",
                        "pool2d_backward", "pool3d_backward", "with_indices_backward", "put", "multi_margin"});
      bool divisors = contains(op, {"div", "remainder", "fmod", "pow", "shift"});
      if (contains(op, {"upsample"}))
        values.push_back(std::floor(u * 256));
      else if (contains(op, {"multilabel_margin"}))
        values.push_back(std::floor(u * 5) - 1);
      else if (contains(op, {"embedding_bag"}))
        values.push_back(static_cast<double>(i * 3 / count));
      else if (indices)
        values.push_back(std::floor(u * 3));
      else
        values.push_back(divisors ? 1 + std::floor(u * 3) : std::floor(u * 6) - 2);
    } else if (contains(op, {"batch_norm", "log", "sqrt", "pow", "xlog", "acosh"})) {
      values.push_back(contains(op, {"acosh"}) ? 1 + u : 0.1 + 1.9 * u);
    } else if (contains(op, {"binary_cross_entropy", "logit", "acos", "asin", "atanh"})) {
      values.push_back(0.05 + 0.9 * u);
    } else {
      values.push_back(4 * u - 2);
    }
  }
  return InterpTensor::of(type.dtype, sizes, values);
}

std::string json(InterpTensor t) {
  std::string sizes, values;
  const DType dtype = t.dtype;
  for (int64_t s : t.sizes) sizes += fmt::format("{}{}", sizes.empty() ? "" : ",", s);
  // Of complex numbers the parts, one after another.
  if (is_complex(dtype)) {
    t.dtype = part_type(dtype);
    t.sizes.push_back(2);
  }
  for (int64_t i = 0; i < t.count(); ++i) {
    double v = t.number(i);
    std::string text = std::isnan(v)   ? "NaN"
                       : std::isinf(v) ? (v > 0 ? "Infinity" : "-Infinity")
                                       : fmt::format("{:.17g}", v);
    if (!is_float(t.dtype)) text = fmt::format("{}", t.integer(i));
    values += (i ? "," : "") + text;
  }
  return fmt::format("{{\"dtype\":\"{}\",\"sizes\":[{}],\"values\":[{}]", dtype_name(dtype), sizes, values);
}

Result<std::string> run(const std::string& sample) {
  TD_TRY(Graph graph, graph_of_sample(sample));
  TD_TRY(Loops loops, loops_of_sample(graph));
  verify_loops(loops);
  std::vector<InterpTensor> inputs;
  for (size_t i = 0; i < graph.inputs.size(); ++i)
    inputs.push_back(input_values(graph.nodes[0].op, graph[graph.inputs[i].value].type, i));
  TD_TRY(std::vector<InterpTensor> outputs, interpret(loops, inputs));
  std::string in, out;
  for (const InterpTensor& t : inputs) in += (in.empty() ? "" : ",") + json(t) + "}";
  // Strides as the rule claims them; an empty list where it does not.
  const Schema* schema = find_schema(graph.nodes[0].op);
  auto types = OpTable::all().find(graph.nodes[0].op)->infer_rule(Call(graph, graph.nodes[0], *schema));
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::string strides = types ? to_string((*types)[i].strides) : "";
    out += (out.empty() ? "" : ",") + json(outputs[i]) + fmt::format(",\"strides\":[{}]}}", strides);
  }
  return fmt::format("\"inputs\":[{}],\"outputs\":[{}]", in, out);
}

}  // namespace

int main(int argc, char** argv) {
  std::string part = argc > 1 ? argv[1] : "";
  auto show = [](const std::string& sample) {
    std::string text;
    try {
      auto result = run(sample);
      text = result ? *result : fmt::format("\"error\":{}", quoted(result.error().text));
    } catch (const std::exception& e) {
      text = fmt::format("\"error\":{}", quoted(e.what()));
    }
    fmt::print("{{\"sample\":{},{}}}\n", quoted(sample), text);
  };
  if (part == "-") {
    for (std::string line; std::getline(std::cin, line);) show(line);
    return 0;
  }
  for (const std::string& name : OpTable::all().names())
    for (const std::string& sample : OpTable::all().find(name)->samples)
      if (sample.find(part) != std::string::npos) show(sample);
}
