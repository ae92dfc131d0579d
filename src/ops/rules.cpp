// See rules.h.
#include "ops/rules.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace toroid {

// ---------------------------------------------------------------------------------------------------------- types

Types one(TensorType type) { return std::vector<TensorType>{std::move(type)}; }

Device device_of(const Call& call) {
  if (call.schema().find_arg("device") >= 0 && call.has("device"))
    if (auto device = std::get_if<Device>(&call.arg("device"))) return *device;
  for (const Arg& arg : call.node().args) {
    if (auto id = std::get_if<ValueId>(&arg); id && id->valid()) return call.type(*id).device;
    if (auto list = std::get_if<std::vector<ValueId>>(&arg))
      for (ValueId id : *list)
        if (id.valid()) return call.type(id).device;
  }
  return {};
}

TensorType contiguous_type(const Call& call, DType dtype, SymList sizes) {
  SymList strides = contiguous_strides(sizes);
  return {dtype, std::move(sizes), std::move(strides), device_of(call)};
}

TensorType unclaimed_type(const Call& call, DType dtype, SymList sizes) {
  return {dtype, std::move(sizes), {}, device_of(call)};
}

SymList format_strides(const Call& call, const TensorType& type) {
  MemoryFormat format = MemoryFormat::preserve;
  if (call.schema().find_arg("memory_format") >= 0 && call.has("memory_format"))
    if (auto given = std::get_if<MemoryFormat>(&call.arg("memory_format"))) format = *given;
  switch (format) {
    case MemoryFormat::contiguous: return contiguous_strides(type.sizes);
    case MemoryFormat::channels_last:
    case MemoryFormat::channels_last_3d: return channels_last_strides(type.sizes);
    case MemoryFormat::preserve: break;
  }
  return preserved_strides(type);
}

SymList reduced_sizes(const SymList& sizes, const std::vector<int64_t>& dims, bool keepdim) {
  SymList out;
  for (size_t i = 0; i < sizes.size(); ++i) {
    bool reduced = std::find(dims.begin(), dims.end(), static_cast<int64_t>(i)) != dims.end();
    if (!reduced)
      out.push_back(sizes[i]);
    else if (keepdim)
      out.push_back(1);
  }
  return out;
}

Sym count_of(const SymList& sizes, const std::vector<int64_t>& dims) {
  Sym n = 1;
  for (int64_t d : dims) n *= sizes[static_cast<size_t>(d)];
  return n;
}

Result<SymList> solved_sizes(const SymList& wanted, const SymList& old) {
  SymList out = wanted;
  Sym rest = 1;
  int open = -1;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i] == Sym(-1))
      open = static_cast<int>(i);
    else
      rest *= out[i];
  }
  if (open >= 0) {
    if (is_zero(rest)) return fail(Kind::bad_graph, "size -1 of [{}] is ambiguous", to_string(wanted));
    out[static_cast<size_t>(open)] = floor_div(product(old), rest);
  }
  return out;
}

// ---------------------------------------------------------------------------------------------- pointwise rows

bool is_tensor(const Call& call, std::string_view name) {
  if (call.schema().find_arg(name) < 0) return false;
  auto id = std::get_if<ValueId>(&call.arg(name));
  return id && id->valid();
}

DType compute_dtype(const Call& call, const std::vector<std::string>& args, Out out) {
  if (out == Out::first) return call.type(args[0]).dtype;
  DType d = promoted(call, args);
  if (out == Out::counted && is_bool(d)) return DType::i64;
  return out == Out::floating ? float_dtype(d) : d;
}

Result<TensorType> pointwise_type(const Call& call, const std::vector<std::string>& args, DType dtype) {
  SymList sizes;
  std::vector<const TensorType*> inputs;
  for (const std::string& name : args) {
    if (!is_tensor(call, name)) continue;
    const TensorType& type = call.type(name);
    TD_TRY(sizes, broadcast_sizes(sizes, type.sizes));
    inputs.push_back(&type);
  }
  SymList strides = pointwise_strides(sizes, inputs);
  return TensorType{dtype, std::move(sizes), std::move(strides), device_of(call)};
}

DType map_result(DType compute, Out out) {
  if (out == Out::boolean) return DType::b8;
  return out == Out::parts && is_complex(compute) ? part_type(compute) : compute;
}

InferRule pointwise(std::vector<std::string> args, Out out) {
  return [args = std::move(args), out](const Call& call) -> Types {
    DType dtype = map_result(compute_dtype(call, args, out), out);
    TD_TRY(TensorType type, pointwise_type(call, args, dtype));
    return one(std::move(type));
  };
}

LoopValue scalar_value(LoopBuilder& b, ExprId x, DType dtype) {
  return b.from(dtype, {}, [x](const Index&) { return x; });
}

LoopValue operand(LoopBuilder& b, const LowerCall& call, const std::string& name, DType dtype, bool round) {
  if (is_tensor(call, name)) {
    LoopValue x = call.tensor(name);
    return x.dtype == dtype ? x : b.convert(x, dtype);
  }
  ExprId x = call.scalar(b, name, dtype);
  if (round && is_low_precision(dtype)) x = b.pool().round_to(x, dtype);
  return scalar_value(b, x, dtype);
}

ExprId MapCall::number(double value) const { return number_expr(b, value, type); }

LowerOne mapped(std::vector<std::string> args, Out out, MapRule f, bool round_numbers) {
  return [args = std::move(args), out, f = std::move(f), round_numbers](LoopBuilder& b,
                                                                        const LowerCall& call) -> Result<LoopValue> {
    DType compute = compute_dtype(call, args, out);
    DType result = map_result(compute, out);
    std::vector<LoopValue> inputs;
    SymList sizes;
    for (const std::string& name : args) {
      inputs.push_back(operand(b, call, name, compute, round_numbers));
      TD_TRY(sizes, broadcast_sizes(sizes, inputs.back().sizes));
    }
    // Built once with placeholders' types to learn of a refusal, then per element: f has no other way to fail.
    MapCall map{b, call, compute};
    std::vector<ExprId> probe;
    for (const LoopValue& x : inputs) probe.push_back(number_expr(b, 1, x.dtype));
    TD_TRY([[maybe_unused]] ExprId tried, f(map, probe));
    return b.map(inputs, sizes, compute, result, [map, f, result](const std::vector<ExprId>& x) {
      auto y = f(map, x);
      TD_CHECK(y.has_value(), "{}", y.error().text);
      return map.b.cvt(*y, result);
    });
  };
}

OpRow& add_map(OpTable& ops, const std::string& name, std::vector<std::string> args, Out out, MapRule f,
               bool round_numbers) {
  return ops.add(name).infer(pointwise(args, out)).lower(mapped(args, out, std::move(f), round_numbers));
}

// -------------------------------------------------------------------------------------------------- expressions

ExprId sym_expr(LoopBuilder& b, const Sym& a) {
  if (!is_float_sym(a)) return b.cvt(b.index(a), DType::f64);
  std::set<std::string> names;
  collect_symbols(a, names);
  if (names.empty()) return b.number(evaluate_float(a, {}), DType::f64);
  auto args = [&](size_t i) { return sym_expr(b, a.args()[i]); };
  switch (a.kind()) {
    case SymKind::sum: {
      ExprId total = b.number(static_cast<double>(a.constant_part()), DType::f64);
      for (const Sym::Term& term : a.terms()) {
        ExprId part = b.number(static_cast<double>(term.coefficient), DType::f64);
        for (const Sym& atom : term.atoms) part = b.mul(part, sym_expr(b, atom));
        total = b.add(total, part);
      }
      return total;
    }
    case SymKind::min: return b.op(ScalarOp::min, {args(0), args(1)});
    case SymKind::max: return b.op(ScalarOp::max, {args(0), args(1)});
    case SymKind::choose: return b.where(truth(b, b.index(a.args()[0])), args(1), args(2));
    default: break;
  }
  const std::string& f = a.function();
  if (f == "to_float") return args(0);
  if (f == "float_add") return b.add(args(0), args(1));
  if (f == "float_mul") return b.mul(args(0), args(1));
  if (f == "from_bits") {
    // The symbol is a tensor's element: kernels read it there.
    for (const SymbolRead& read : b.loops().symbol_reads)
      if (a.args()[0].is_symbol() && read.symbol == a.args()[0].symbol_name()) return b.read(read.tensor).at({});
    internal_error(__FILE__, __LINE__, format("no tensor holds `{}`", to_string(a)));
  }
  if (f == "float_div" || f == "int_true_div") return b.div(args(0), args(1));
  if (f == "float_pow") return b.op(ScalarOp::pow, {args(0), args(1)});
  auto op = scalar_op_from_name(f);
  TD_CHECK(op.has_value() && a.args().size() == 1, "no expression for the symbolic float `{}`", to_string(a));
  return b.op(*op, {args(0)});
}

ExprId number_expr(LoopBuilder& b, double value, DType dtype) {
  if (is_complex(dtype)) {
    const DType part = register_type(part_type(dtype));
    return b.pool().pair(number_expr(b, value, part), number_expr(b, 0, part));
  }
  if (is_bool(dtype)) return b.pool().constant(value != 0 ? 1 : 0, DType::b8);
  if (!is_integer(dtype)) return b.number(dtype == DType::f64 ? value : static_cast<float>(value), dtype);
  // Out of range and NaN as the processor's own conversion has them.
  bool fits = std::abs(value) < 9.2e18;
  return b.cvt(b.index(fits ? static_cast<int64_t>(value) : INT64_MIN), dtype);
}

ExprId truth(LoopBuilder& b, ExprId x) { return b.cvt(x, DType::b8); }

ExprId lowest(LoopBuilder& b, DType dtype) {
  if (is_bool(dtype)) return b.pool().constant(0, DType::b8);
  if (is_float(dtype)) return b.number(-std::numeric_limits<double>::infinity(), dtype);
  if (is_unsigned(dtype)) return b.cvt(b.index(0), dtype);
  return b.cvt(b.index(INT64_MIN >> (64 - 8 * dtype_bytes(dtype))), dtype);
}

ExprId highest(LoopBuilder& b, DType dtype) {
  if (is_bool(dtype)) return b.pool().constant(1, DType::b8);
  if (is_float(dtype)) return b.number(std::numeric_limits<double>::infinity(), dtype);
  if (is_unsigned(dtype))
    return b.cvt(b.index(dtype == DType::u64 ? -1 : (int64_t(1) << (8 * dtype_bytes(dtype))) - 1), dtype);
  return b.cvt(b.index(INT64_MAX >> (64 - 8 * dtype_bytes(dtype))), dtype);
}

ExprId all_of(LoopBuilder& b, const std::vector<ExprId>& conditions) {
  if (conditions.empty()) return b.pool().constant(1, DType::b8);
  ExprId all = conditions[0];
  for (size_t i = 1; i < conditions.size(); ++i) all = b.op(ScalarOp::land, {all, conditions[i]});
  return all;
}

ExprId checked_index(LoopBuilder& b, ExprId index, const Sym& size) {
  return b.op(ScalarOp::check_index, {b.cvt(index, DType::i64), b.index(size)});
}

ExprId checked_divisor(LoopBuilder& b, ExprId divisor) {
  return is_integer(b.pool()[divisor].dtype) ? b.op(ScalarOp::check_divisor, {divisor}) : divisor;
}

ExprId wrapped_index(LoopBuilder& b, ExprId index, const Sym& size) {
  index = b.cvt(index, DType::i64);
  ExprId negative = b.op(ScalarOp::lt, {index, int_expr(b, 0)});
  return checked_index(b, b.where(negative, b.add(index, b.index(size)), index), size);
}

ExprId sum_expr(LoopBuilder& b, ExprId x, ExprId y) {
  return b.op(is_bool(b.type(x)) ? ScalarOp::lor : ScalarOp::add, {x, y});
}
ExprId product_expr(LoopBuilder& b, ExprId x, ExprId y) {
  return b.op(is_bool(b.type(x)) ? ScalarOp::land : ScalarOp::mul, {x, y});
}
ExprId min_expr(LoopBuilder& b, ExprId x, ExprId y) {
  return b.op(is_bool(b.type(x)) ? ScalarOp::land : ScalarOp::min, {x, y});
}
ExprId max_expr(LoopBuilder& b, ExprId x, ExprId y) {
  return b.op(is_bool(b.type(x)) ? ScalarOp::lor : ScalarOp::max, {x, y});
}

// ------------------------------------------------------------------------------------------------------- tensors

LoopValue map1(LoopBuilder& b, const LoopValue& x, DType compute, DType result,
               const std::function<ExprId(ExprId)>& f) {
  LoopBuilder* builder = &b;
  return b.map({x}, x.sizes, compute, result,
               [f, builder, result](const std::vector<ExprId>& args) { return builder->cvt(f(args[0]), result); });
}

LoopValue per_channel(LoopBuilder& b, const LoopValue& x, int64_t rank) {
  LoopValue out = x;
  for (int64_t d = 2; d < rank; ++d) out = b.unsqueeze(out, out.rank());
  return out;
}

LoopValue mean_over(LoopBuilder& b, const LoopValue& x, const std::vector<int64_t>& dims, bool keepdim, DType compute,
                    const std::string& suffix) {
  ExprId n = b.cvt(b.index(count_of(x.sizes, dims)), compute);
  LoopValue sum =
      dims.empty() ? b.convert(x, compute) : b.reduce(ReduceOp::sum, x, dims, keepdim, compute, compute, "");
  LoopBuilder* builder = &b;
  return b.materialize(map1(b, sum, compute, compute, [builder, n](ExprId s) { return builder->div(s, n); }), suffix);
}

LoopValue squared_deviations(LoopBuilder& b, const LoopValue& x, const LoopValue& kept_mean,
                             const std::vector<int64_t>& dims, bool keepdim, DType compute, const std::string& suffix) {
  LoopBuilder* builder = &b;
  LoopValue squares = b.map({x, kept_mean}, x.sizes, compute, compute, [builder](const std::vector<ExprId>& v) {
    ExprId d = builder->sub(v[0], v[1]);
    return builder->mul(d, d);
  });
  if (dims.empty()) return squares;
  return b.reduce(ReduceOp::sum, squares, dims, keepdim, compute, compute, suffix);
}

}  // namespace toroid
