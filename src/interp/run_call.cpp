// Library functions over copies of tensors; cond, while and scan as loops over whole programs.
#include "interp/run_call.h"

#include <bit>
#include <cstring>

#include "base/check.h"
#include "library/library.h"
#include "plugins.h"

namespace toroid {
namespace {

using Tensors = std::vector<InterpTensor>;

int64_t bits_of(const Sym& attribute, const std::map<std::string, int64_t>& symbols) {
  return is_float_sym(attribute) ? std::bit_cast<int64_t>(evaluate_float(attribute, symbols))
                                 : evaluate(attribute, symbols);
}

// Memory that lives as long as one call.
struct CallHost {
  std::vector<std::unique_ptr<std::byte[]>> blocks;
  static void* alloc(void* host, int64_t bytes) {
    auto& blocks = static_cast<CallHost*>(host)->blocks;
    blocks.push_back(std::make_unique<std::byte[]>(static_cast<size_t>(bytes)));
    return blocks.back().get();
  }
  static void parallel(void*, TdKernel kernel, char* const* p, const int64_t* s, int64_t units, int64_t, int64_t) {
    kernel(p, s, 0, units);
  }
  static int32_t threads(void*) { return 1; }
};

// Pairs are complex numbers to a function.
TdView view_of(InterpTensor& tensor, bool pairs, std::vector<int64_t>& strides) {
  const auto dims = tensor.sizes.size() - (pairs ? 1 : 0);
  strides = row_major({tensor.sizes.begin(), tensor.sizes.begin() + static_cast<std::ptrdiff_t>(dims)});
  return {tensor.data.data(),
          tensor.sizes.data(),
          strides.data(),
          static_cast<int32_t>(dims),
          static_cast<int32_t>(pairs ? complex_of_parts(tensor.dtype) : tensor.dtype),
          0,
          0};
}

Result<Tensors> call_function(const Loops& loops, const LoopCall& call, Tensors operands, const Evaluator& evaluator) {
  TdFunction function = runtime::find_library_function(call.function);
  if (!function)
    if (auto op = runtime::find_plugin_op(call.function); op && *op)
      function = reinterpret_cast<TdFunction>((*op)->table.kernel);
  if (!function) return fail(Kind::unsupported, "the interpreter has no function `{}`", call.function);
  Tensors results;
  for (TensorId id : call.results) {
    InterpTensor result{loops[id].dtype, evaluator.evaluate(loops[id].sizes), {}, {}};
    result.data.resize(static_cast<size_t>(result.count() * dtype_bytes(result.dtype)));
    results.push_back(std::move(result));
  }
  std::vector<std::vector<int64_t>> strides(operands.size() + results.size());
  std::vector<TdView> inputs, outputs;
  for (InterpTensor& operand : operands)
    inputs.push_back(view_of(operand, loops[call.operands[inputs.size()]].pairs, strides[inputs.size()]));
  for (InterpTensor& result : results)
    outputs.push_back(
        view_of(result, loops[call.results[outputs.size()]].pairs, strides[inputs.size() + outputs.size()]));
  std::vector<int64_t> attributes;
  for (const Sym& attribute : call.attributes) attributes.push_back(bits_of(attribute, evaluator.symbols()));
  CallHost host;
  TdHost table{};
  table.size = sizeof table;
  table.major = TD_ABI_MAJOR, table.minor = TD_ABI_MINOR;
  table.parallel = CallHost::parallel, table.threads = CallHost::threads, table.alloc = CallHost::alloc;
  TdError error{};
  const TdCall frame{sizeof(TdCall),
                     inputs.data(),
                     outputs.data(),
                     attributes.data(),
                     static_cast<int32_t>(inputs.size()),
                     static_cast<int32_t>(outputs.size()),
                     static_cast<int32_t>(attributes.size()),
                     &table,
                     &host,
                     &error};
  if (function(&frame) != 0) return fail(Kind::bad_input, "{}", error.text);
  return results;
}

bool is_true(const InterpTensor& tensor) { return tensor.integer(0) != 0; }

InterpTensor row_of(const InterpTensor& tensor, int64_t row) {
  InterpTensor result{tensor.dtype, {tensor.sizes.begin() + 1, tensor.sizes.end()}, {}, {}};
  const int64_t bytes = result.count() * dtype_bytes(tensor.dtype);
  result.data.assign(tensor.data.begin() + row * bytes, tensor.data.begin() + (row + 1) * bytes);
  return result;
}

template <class List>
void append_from(List& to, const List& from, size_t begin) {
  to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(begin), from.end());
}

Result<Tensors> run_while(const LoopCall& call, const Tensors& operands, const Evaluator& evaluator,
                          const RunBody& run) {
  const auto carried = static_cast<size_t>(evaluator.evaluate(call.attributes[0]));
  Tensors state = operands;
  for (;;) {
    TD_TRY(Tensors more, run(call.bodies[0], state));
    if (!is_true(more[0])) break;
    TD_TRY(Tensors next, run(call.bodies[1], state));
    append_from(next, operands, carried);
    state = std::move(next);
  }
  state.resize(carried);
  return state;
}

Result<Tensors> run_scan(const Loops& loops, const LoopCall& call, const Tensors& operands, const Evaluator& evaluator,
                         const RunBody& run) {
  const std::vector<int64_t> attributes = evaluator.evaluate(call.attributes);
  const auto carried = static_cast<size_t>(attributes[0]), walked = static_cast<size_t>(attributes[1]);
  const int64_t steps = attributes[2];
  Tensors state(operands.begin(), operands.begin() + attributes[0]);
  Tensors rows;
  for (size_t r = carried; r < call.results.size(); ++r) {
    const LoopTensor& result = loops[call.results[r]];
    rows.push_back({result.dtype, evaluator.evaluate(result.sizes), {}, {}});
  }
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t at = attributes[3] ? steps - 1 - step : step;
    Tensors inputs = state;
    for (size_t k = carried; k < carried + walked; ++k) inputs.push_back(row_of(operands[k], at));
    append_from(inputs, operands, carried + walked);
    TD_TRY(Tensors results, run(call.bodies[0], inputs));
    for (size_t r = carried; r < results.size(); ++r) {
      InterpTensor& whole = rows[r - carried];
      whole.dtype = results[r].dtype;
      const size_t bytes = results[r].data.size();
      whole.data.resize(bytes * static_cast<size_t>(steps));
      std::memcpy(whole.data.data() + bytes * static_cast<size_t>(at), results[r].data.data(), bytes);
    }
    results.resize(carried);
    state = std::move(results);
  }
  append_from(state, rows, 0);
  return state;
}

}  // namespace

Result<std::vector<InterpTensor>> evaluate_call(const Loops& loops, const LoopCall& call,
                                                std::vector<InterpTensor> operands, const Evaluator& evaluator,
                                                const RunBody& run) {
  if (call.function == "cond") {
    if (!call.attributes.empty()) return run(call.bodies[evaluator.evaluate(call.attributes[0]) ? 0 : 1], operands);
    const bool taken = is_true(operands[0]);
    operands.erase(operands.begin());
    return run(call.bodies[taken ? 0 : 1], operands);
  }
  if (call.function == "while") return run_while(call, operands, evaluator, run);
  if (call.function == "scan") return run_scan(loops, call, operands, evaluator, run);
  return call_function(loops, call, std::move(operands), evaluator);
}

}  // namespace toroid
