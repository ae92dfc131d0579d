// A whole program: symbols and guards, the tensors in order, the outputs.
#include "interp/interp.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "interp/evaluator.h"
#include "interp/run_call.h"

namespace toroid {
namespace {

std::string input_text(const Loops& loops, size_t i) { return format("input {} (`{}`)", i, loops.inputs[i].name); }

Status check_range(const SymbolInfo& info, int64_t value, const std::string& what) {
  if (value >= info.low && value <= info.high) return {};
  const std::string range =
      info.high == sym_infinity ? format("at least {}", info.low) : format("in {}..{}", info.low, info.high);
  return fail(Kind::bad_input, "{} is {}, must be {}", what, value, range);
}

// Guards whose symbols all have values; each is looked at once.
Status check_guards(const Loops& loops, const std::map<std::string, int64_t>& symbols, std::vector<bool>& checked) {
  for (size_t i = 0; i < loops.guards.size(); ++i) {
    const Guard& guard = loops.guards[i];
    std::set<std::string> names;
    collect_symbols(guard.condition, names);
    if (checked[i] || !std::ranges::all_of(names, [&](const std::string& name) { return symbols.contains(name); }))
      continue;
    checked[i] = true;
    if (evaluate(guard.condition, symbols)) continue;
    return fail(Kind::bad_input, "{}",
                guard.text.empty() ? format("{} does not hold", to_string(guard.condition)) : guard.text);
  }
  return {};
}

Result<std::vector<InterpTensor>> run_solved(const Loops& loops, const std::vector<InterpTensor>& inputs,
                                             const std::map<std::string, int64_t>& solved,
                                             const InterpOptions& options);

// In exact runs floats leave as f64 whatever they were stored as.
InterpTensor widen(InterpTensor tensor) {
  if (!is_float(tensor.dtype) || tensor.dtype == DType::f64) return tensor;
  InterpTensor wide = InterpTensor::of(DType::f64, tensor.sizes, tensor.numbers());
  wide.strides = std::move(tensor.strides);
  return wide;
}

// The view of an input's memory. The input lies row-major here, and where its declared strides say in its caller's
// memory.
InterpTensor alias_of(const Evaluator& evaluator, const LoopTensor& input, const Memory& memory,
                      const LoopOutput& output) {
  const std::vector<int64_t> declared = evaluator.evaluate(input.strides);
  std::map<int64_t, int64_t> element_at;
  int64_t next = 0;
  for_each_index(memory.sizes, [&](const std::vector<int64_t>& index) {
    int64_t place = 0;
    for (size_t k = 0; k < index.size(); ++k) place += index[k] * declared[k];
    element_at[place] = next++;
  });
  InterpTensor result{memory.dtype, evaluator.evaluate(output.sizes), {}, {}};
  const std::vector<int64_t> strides = evaluator.evaluate(output.strides);
  const int64_t bytes = dtype_bytes(memory.dtype), start = evaluator.evaluate(output.offset);
  for_each_index(result.sizes, [&](const std::vector<int64_t>& index) {
    int64_t place = start;
    for (size_t k = 0; k < index.size(); ++k) place += index[k] * strides[k];
    auto found = element_at.find(place);
    TD_CHECK(found != element_at.end(), "output `{}` leaves the memory of `%{}`", output.target.name, input.name);
    const std::byte* from = memory.base + found->second * bytes;
    result.data.insert(result.data.end(), from, from + bytes);
  });
  return result;
}

Status run_call(const Loops& loops, const LoopCall& call, Evaluator& evaluator, const InterpOptions& options) {
  auto run_body = [&](const Loops& body, const std::vector<InterpTensor>& inputs) {
    // Symbols from outside are known; its own are read inside.
    return run_solved(body, inputs, evaluator.symbols(), options);
  };
  std::vector<InterpTensor> operands;
  for (TensorId id : call.operands) operands.push_back(copy_out(evaluator.memory(id)));
  TD_TRY(std::vector<InterpTensor> results, evaluate_call(loops, call, std::move(operands), evaluator, run_body));
  for (size_t i = 0; i < results.size(); ++i) {
    auto owner = std::make_shared<InterpTensor>(std::move(results[i]));
    evaluator.set(call.results[i],
                  Memory{owner->dtype, owner->sizes, row_major(owner->sizes), owner->data.data(), owner});
  }
  return {};
}

// An integer, or a double's bits.
int64_t symbol_bits(const Memory& memory) {
  const Scalar value = load_scalar(memory.base, memory.dtype);
  return is_float(memory.dtype) ? std::bit_cast<int64_t>(value.f) : value.i;
}

Result<std::vector<InterpTensor>> run_solved(const Loops& loops, const std::vector<InterpTensor>& inputs,
                                             const std::map<std::string, int64_t>& solved,
                                             const InterpOptions& options) {
  std::vector<bool> checked(loops.guards.size());
  TD_CHECK_OK(check_guards(loops, solved, checked));
  Evaluator evaluator(loops, options.exact);
  for (const auto& [name, value] : solved) evaluator.set_symbol(name, value);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!loops.input_tensors[i].valid()) continue;
    Memory memory{part_type(inputs[i].dtype), inputs[i].sizes, {}, inputs[i].data.data(), std::make_shared<int>(0)};
    if (is_complex(inputs[i].dtype)) memory.sizes.push_back(2);
    memory.strides = row_major(memory.sizes);
    evaluator.set(loops.input_tensors[i], std::move(memory));
  }
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    const TensorId id{static_cast<int32_t>(i)};
    switch (loops.tensors[i].kind) {
      case TensorKind::called:
        if (!evaluator.has(id)) TD_CHECK_OK(run_call(loops, loops[loops.tensors[i].call], evaluator, options));
        break;
      case TensorKind::input: break;
      case TensorKind::weight: evaluator.set_weight(id); break;
      case TensorKind::constant: evaluator.set_constant(id); break;
      case TensorKind::computed: evaluator.compute(id); break;
    }
    for (const SymbolRead& read : loops.symbol_reads) {
      if (read.tensor != id) continue;
      const Memory& memory = evaluator.memory(id);
      const int64_t value = symbol_bits(memory);
      for (const SymbolInfo& info : loops.symbols)
        if (info.name == read.symbol) TD_CHECK_OK(check_range(info, value, format("`{}`", read.symbol)));
      evaluator.set_symbol(read.symbol, value);
      TD_CHECK_OK(check_guards(loops, evaluator.symbols(), checked));
    }
  }
  std::vector<InterpTensor> results;
  for (const LoopOutput& output : loops.outputs) {
    if (output.target.kind == GraphOutput::Kind::constant) {
      results.push_back({DType::i64, {0}, {}, {1}});
    } else if (output.target.kind == GraphOutput::Kind::symbol) {
      results.push_back(InterpTensor::of_integers(DType::i64, {}, {evaluator.evaluate(output.target.symbol)}));
    } else {
      const Memory& memory = evaluator.memory(output.tensor);
      results.push_back(output.alias_input >= 0 ? alias_of(evaluator, loops[output.tensor], memory, output)
                                                : copy_out(memory));
      results.back().strides = evaluator.evaluate(outer_strides(loops[output.tensor], output.strides));
      if (options.exact) results.back() = widen(std::move(results.back()));
      if (loops[output.tensor].pairs) {
        results.back().dtype = complex_of_parts(results.back().dtype);
        results.back().sizes.pop_back();
      }
    }
  }
  return results;
}

Result<std::vector<InterpTensor>> run(const Loops& loops, const std::vector<InterpTensor>& inputs,
                                      const InterpOptions& options) {
  TD_TRY(auto solved, solve_symbols(loops, inputs));
  return run_solved(loops, inputs, solved, options);
}

}  // namespace

int64_t InterpTensor::count() const {
  int64_t count = 1;
  for (int64_t size : sizes) count *= size;
  return count;
}

InterpTensor InterpTensor::of(DType dtype, std::vector<int64_t> sizes, const std::vector<double>& values) {
  InterpTensor tensor{dtype, std::move(sizes), {}, {}};
  TD_CHECK(tensor.count() == static_cast<int64_t>(values.size()), "{} values for {} elements", values.size(),
           tensor.count());
  const auto bytes = static_cast<size_t>(dtype_bytes(dtype));
  tensor.data.resize(values.size() * bytes);
  tensor.strides = row_major(tensor.sizes);
  for (size_t i = 0; i < values.size(); ++i)
    store_scalar(&tensor.data[i * bytes], dtype, convert_scalar({.f = values[i]}, DType::f64, dtype));
  return tensor;
}

InterpTensor InterpTensor::of_integers(DType dtype, std::vector<int64_t> sizes, const std::vector<int64_t>& values) {
  InterpTensor tensor{dtype, std::move(sizes), {}, {}};
  TD_CHECK(tensor.count() == static_cast<int64_t>(values.size()), "{} values for {} elements", values.size(),
           tensor.count());
  const auto bytes = static_cast<size_t>(dtype_bytes(dtype));
  tensor.data.resize(values.size() * bytes);
  tensor.strides = row_major(tensor.sizes);
  for (size_t i = 0; i < values.size(); ++i)
    store_scalar(&tensor.data[i * bytes], dtype, convert_scalar({.i = values[i]}, DType::i64, dtype));
  return tensor;
}

double InterpTensor::number(int64_t i) const {
  const Scalar value = load_scalar(&data[static_cast<size_t>(i * dtype_bytes(dtype))], dtype);
  return is_float(dtype) ? value.f : convert_scalar(value, dtype, DType::f64).f;
}
int64_t InterpTensor::integer(int64_t i) const {
  TD_CHECK(!is_float(dtype), "an integer of a {} tensor", dtype_name(dtype));
  return load_scalar(&data[static_cast<size_t>(i * dtype_bytes(dtype))], dtype).i;
}
std::vector<double> InterpTensor::numbers() const {
  std::vector<double> values;
  for (int64_t i = 0; i < count(); ++i) values.push_back(number(i));
  return values;
}

Result<std::map<std::string, int64_t>> solve_symbols(const Loops& loops, const std::vector<InterpTensor>& inputs) {
  if (inputs.size() != loops.inputs.size())
    return fail(Kind::bad_input, "{} inputs given, {} expected", inputs.size(), loops.inputs.size());
  struct Equation {
    Sym size;
    int64_t value;
    std::string what;
  };
  std::vector<Equation> equations;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const GraphInput& input = loops.inputs[i];
    const InterpTensor& given = inputs[i];
    if (input.kind == GraphInput::Kind::symbol) {
      if (given.count() != 1 || is_float(given.dtype))
        return fail(Kind::bad_input, "{} must be an integer", input_text(loops, i));
      equations.push_back({input.symbol, given.integer(0), input_text(loops, i)});
      continue;
    }
    if (input.kind == GraphInput::Kind::constant) continue;
    const TensorType wanted = outer_type(loops[loops.input_tensors[i]]);
    if (given.dtype != wanted.dtype)
      return fail(Kind::bad_input, "{} has dtype {}, must be {}", input_text(loops, i), dtype_name(given.dtype),
                  dtype_name(wanted.dtype));
    if (given.sizes.size() != wanted.sizes.size())
      return fail(Kind::bad_input, "{} has {} dims, must have {}", input_text(loops, i), given.sizes.size(),
                  wanted.sizes.size());
    for (size_t k = 0; k < given.sizes.size(); ++k)
      equations.push_back({wanted.sizes[k], given.sizes[k], format("{}: size {}", input_text(loops, i), k)});
  }
  std::map<std::string, int64_t> known;
  auto bind = [&](const std::string& name, int64_t value, const std::string& what) -> Status {
    known.emplace(name, value);
    for (const SymbolInfo& info : loops.symbols)
      if (info.name == name) return check_range(info, value, what);
    return {};
  };
  for (const Equation& e : equations)
    if (e.size.is_symbol() && !known.contains(e.size.symbol_name()))
      TD_CHECK_OK(bind(e.size.symbol_name(), e.value, e.what));
  for (bool progress = true; progress;) {
    progress = false;
    for (const Equation& e : equations) {
      std::map<std::string, Sym> values;
      for (const auto& [name, value] : known) values.emplace(name, value);
      const Sym left = substitute(e.size, values);
      std::set<std::string> unknown;
      collect_symbols(left, unknown);
      if (unknown.size() != 1) continue;
      const std::string name = *unknown.begin();
      auto line = linear_in(left, name);
      if (!line || !line->coefficient.is_constant() || !line->rest.is_constant()) continue;
      const int64_t rest = e.value - line->rest.value(), factor = line->coefficient.value();
      if (factor == 0 || rest % factor != 0)
        return fail(Kind::bad_input, "{} is {}, must be {}", e.what, e.value, to_string(e.size));
      TD_CHECK_OK(bind(name, rest / factor, format("{} is {}: `{}`", e.what, e.value, name)));
      progress = true;
    }
  }
  for (const Equation& e : equations) {
    std::set<std::string> names;
    collect_symbols(e.size, names);
    for (const std::string& name : names)
      if (!known.contains(name)) return fail(Kind::bad_input, "{}: `{}` does not follow from the inputs", e.what, name);
    const int64_t wanted = evaluate(e.size, known);
    if (wanted == e.value) continue;
    const std::string reason = e.size.is_constant() ? "" : format(" (`{}`)", to_string(e.size));
    return fail(Kind::bad_input, "{} is {}, must be {}{}", e.what, e.value, wanted, reason);
  }
  return known;
}

Result<std::vector<InterpTensor>> interpret(const Loops& loops, const std::vector<InterpTensor>& inputs,
                                            const InterpOptions& options) {
  try {
    return run(loops, inputs, options);
  } catch (const EvaluationFailure& failure) {
    Diagnostic diagnostic = failure.diagnostic;
    std::erase(diagnostic.details, "");
    return fail(std::move(diagnostic));
  }
}

}  // namespace toroid
