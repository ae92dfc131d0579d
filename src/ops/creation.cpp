// Tensors from nothing (full, arange, eye, …), casts and copies.
#include <cmath>
#include <set>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

// A constant as a tensor of this dtype holds it.
ExprId stored_scalar(LoopBuilder& b, ExprId x, DType dtype) {
  return is_low_precision(dtype) ? b.pool().round_to(x, dtype) : x;
}

DType dtype_of_category(int category) {
  constexpr DType dtypes[] = {DType::b8, DType::i64, DType::f32, DType::c64};
  return dtypes[category];
}

// What a family of creation ops differs in: where sizes, dtype and value come from.
struct Fill {
  const char* name;
  enum class Sizes { argument, like, none } sizes;
  std::optional<double> value;  // nothing: the argument below
  const char* value_arg = nullptr;
};

DType fill_dtype(const Call& call, const Fill& fill) {
  if (call.schema().find_arg("dtype") >= 0)
    if (auto given = call.dtype("dtype")) return *given;
  if (is_tensor(call, "self")) return call.type("self").dtype;
  bool infers = fill.value_arg && std::string(fill.name) != "scalar_tensor";
  return infers ? dtype_of_category(call.scalar_category(fill.value_arg)) : DType::f32;
}

SymList fill_sizes(const Call& call, const Fill& fill) {
  if (fill.sizes == Fill::Sizes::like) return call.type("self").sizes;
  return fill.sizes == Fill::Sizes::none ? SymList{} : call.integers("size");
}

Types infer_fill(const Call& call, const Fill& fill) {
  DType dtype = fill_dtype(call, fill);
  TensorType type = contiguous_type(call, dtype, fill_sizes(call, fill));
  if (fill.sizes == Fill::Sizes::like) type.strides = format_strides(call, call.type("self"));
  if (call.schema().find_arg("stride") >= 0) type.strides = call.integers("stride");
  if (call.schema().find_arg("physical_layout") >= 0) {
    std::vector<int> order;
    for (const Sym& d : call.integers("physical_layout")) order.push_back(static_cast<int>(d.value()));
    type.strides = strides_in_order(type.sizes, order);
  }
  return one(std::move(type));
}

void add_fills(OpTable& ops) {
  using enum Fill::Sizes;
  // Empty tensors hold zeros, so that runs do not differ.
  const Fill fills[] = {
      {"zeros", argument, 0},
      {"ones", argument, 1},
      {"empty.memory_format", argument, 0},
      {"empty_strided", argument, 0},
      {"empty_permuted", argument, 0},
      {"zeros_like", like, 0},
      {"ones_like", like, 1},
      {"empty_like", like, 0},
      {"new_zeros", argument, 0},
      {"new_ones", argument, 1},
      {"new_empty", argument, 0},
      {"new_empty_strided", argument, 0},
      {"zero", like, 0},
      {"full", argument, {}, "fill_value"},
      {"full_like", like, {}, "fill_value"},
      {"new_full", argument, {}, "fill_value"},
      {"fill.Scalar", like, {}, "value"},
      {"scalar_tensor", none, {}, "s"},
  };
  for (const Fill& fill : fills) {
    std::string base = fill.name;
    std::string name = "aten." + base + (base.find('.') == std::string::npos ? ".default" : "");
    bool has_self = base.starts_with("new_") || fill.sizes == like;
    std::string args = has_self ? "f32[4,5]" : "";
    if (fill.sizes == argument) args += std::string(args.empty() ? "" : ", ") + "[2, 3]";
    if (base.ends_with("strided")) args += ", [1, 2]";
    if (base == "empty_permuted") args += ", [1, 0]";
    if (fill.value_arg) args += std::string(args.empty() ? "" : ", ") + "2";
    OpRow& row = ops.add(name).infer([fill](const Call& call) { return infer_fill(call, fill); });
    row.lower([fill](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
      DType dtype = fill_dtype(call, fill);
      ExprId value = fill.value ? number_expr(b, *fill.value, dtype) : call.scalar(b, fill.value_arg, dtype);
      return b.full(fill_sizes(call, fill), stored_scalar(b, value, dtype), dtype);
    });
    row.sample(format("{}({})", name, args));
  }
  ops.add("aten.fill.Tensor")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        return one({x.dtype, x.sizes, preserved_strides(x), x.device});
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        return b.broadcast(b.convert(call.tensor("value"), x.dtype), x.sizes);
      })
      .sample("aten.fill.Tensor(f32[4,5], f32[])");
}

// ------------------------------------------------------------------------------------------------------- ranges

Arg number_arg(const Call& call, const char* name, int64_t fallback) {
  return call.schema().find_arg(name) >= 0 && call.has(name) ? call.arg(name) : Arg(Sym(fallback));
}

bool is_whole(const Arg& arg) {
  auto sym = std::get_if<Sym>(&arg);
  return (sym && !is_float_sym(*sym)) || std::holds_alternative<bool>(arg);
}

double as_double(const Arg& arg) {
  if (auto v = std::get_if<double>(&arg)) return *v;
  if (auto v = std::get_if<bool>(&arg)) return *v;
  auto v = std::get_if<Sym>(&arg);
  TD_CHECK(v, "a range's bound is no number");
  return v->is_constant() ? static_cast<double>(v->value()) : evaluate_float(*v, {});
}

// 3.0 and to_float(s0), too, say integers.
std::optional<Sym> whole_value(const Arg& arg) {
  if (auto v = std::get_if<bool>(&arg)) return Sym(*v ? 1 : 0);
  if (auto v = std::get_if<double>(&arg))
    return std::nearbyint(*v) == *v && std::abs(*v) < 0x1p53 ? std::optional(Sym(static_cast<int64_t>(*v)))
                                                             : std::nullopt;
  auto v = std::get_if<Sym>(&arg);
  if (v && v->kind() == SymKind::call && v->function() == "to_float") return v->args()[0];
  return v && !is_float_sym(*v) ? std::optional(*v) : std::nullopt;
}

struct Range {
  bool whole = true;
  Arg start = Sym(0), end = Sym(0), step = Sym(1);
  DType dtype = DType::i64;
  Sym length = 0;
};

Result<Range> range_of_call(const Call& call) {
  Range r;
  r.start = number_arg(call, "start", 0);
  r.end = call.arg("end");
  r.step = number_arg(call, "step", 1);
  r.whole = is_whole(r.start) && is_whole(r.end) && is_whole(r.step);
  r.dtype = call.dtype("dtype").value_or(r.whole ? DType::i64 : DType::f32);
  auto symbolic = [](const Arg& arg) {
    std::set<std::string> names;
    if (auto sym = std::get_if<Sym>(&arg)) collect_symbols(*sym, names);
    return !names.empty();
  };
  if (!r.whole && (symbolic(r.start) || symbolic(r.end))) {
    const std::optional<Sym> start = whole_value(r.start), end = whole_value(r.end), step = whole_value(r.step);
    if (start && end && step) r = {true, *start, *end, *step, r.dtype, 0};
  }
  if (r.whole) {
    const Sym start = *whole_value(r.start), end = *whole_value(r.end), step = *whole_value(r.step);
    if (!step.is_constant() || step.value() == 0)
      return fail(Kind::unsupported_op, "arange with step {}", to_string(step));
    r.length = step.value() > 0 ? sym_max(ceil_div(end - start, step), 0) : sym_max(ceil_div(start - end, -step), 0);
    return r;
  }
  for (const Arg* arg : {&r.start, &r.end, &r.step})
    if (symbolic(*arg))
      return fail(Kind::unsupported_op, "arange of floats with the symbolic bound {}", to_string(std::get<Sym>(*arg)));
  r.length = std::max<int64_t>(
      0, static_cast<int64_t>(std::ceil((as_double(r.end) - as_double(r.start)) / as_double(r.step))));
  return r;
}

void add_ranges(OpTable& ops) {
  for (const char* form : {"default", "start", "start_step"}) {
    std::string name = format("aten.arange.{}", form), f = form;
    ops.add(name)
        .infer([](const Call& call) -> Types {
          TD_TRY(Range r, range_of_call(call));
          return one(contiguous_type(call, r.dtype, {r.length}));
        })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          TD_TRY(Range r, range_of_call(call));
          LoopBuilder* p = &b;
          if (r.whole) {
            const Sym start = *whole_value(r.start), step = *whole_value(r.step);
            return b.from(r.dtype, {r.length}, [p, start, step, r](const Index& i) {
              return stored_scalar(*p, p->cvt(p->add(p->mul(i[0], p->index(step)), p->index(start)), r.dtype), r.dtype);
            });
          }
          ExprId start = b.number(as_double(r.start), DType::f64), step = b.number(as_double(r.step), DType::f64);
          return b.from(r.dtype, {r.length}, [p, start, step, r](const Index& i) {
            ExprId value = p->add(p->mul(p->cvt(i[0], DType::f64), step), start);
            return stored_scalar(*p, p->cvt(value, r.dtype), r.dtype);
          });
        })
        .sample(name + (f == "default" ? "(5)"
                        : f == "start" ? "(2, 7)"
                                       : "(7, 0, -2)"))
        .sample(name + (f == "default" ? "(4.5)"
                        : f == "start" ? "(0.5, 3)"
                                       : "(0, 1, 0.3)"));
  }
  // Up to and with the end, of floats unless asked otherwise.
  for (const char* form : {"default", "step"}) {
    auto length = [](const Call& call) -> Result<int64_t> {
      for (const char* name : {"start", "end"})
        if (auto sym = std::get_if<Sym>(&call.arg(name)); sym && !sym->is_constant())
          return fail(Kind::unsupported_op, "range with the symbolic bound {}", to_string(*sym));
      const double start = call.number("start"), end = call.number("end"),
                   step = as_double(number_arg(call, "step", 1));
      if (step == 0 || (end - start) / step < 0)
        return fail(Kind::bad_graph, "range from {} to {} in steps of {}", start, end, step);
      return static_cast<int64_t>(std::floor((end - start) / step)) + 1;
    };
    ops.add(format("aten.range.{}", form))
        .infer([length](const Call& call) -> Types {
          TD_TRY(int64_t n, length(call));
          return one(contiguous_type(call, call.dtype("dtype").value_or(DType::f32), {n}));
        })
        .lower([length](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          TD_TRY(int64_t n, length(call));
          const DType dtype = call.dtype("dtype").value_or(DType::f32);
          const Arg first = call.arg("start"), each = number_arg(call, "step", 1);
          if (!is_float(dtype) && !(is_whole(first) && is_whole(each)))
            return fail(Kind::unsupported_op, "range of {} from or in steps of what is no integer", dtype_name(dtype));
          ExprId start = b.number(as_double(first), DType::f64), step = b.number(as_double(each), DType::f64);
          LoopBuilder* p = &b;
          return b.from(dtype, {n}, [=](const Index& i) {
            ExprId value = p->add(p->mul(p->cvt(i[0], DType::f64), step), start);
            return stored_scalar(*p, p->cvt(value, dtype), dtype);
          });
        })
        .sample(format("aten.range.{}(0, 4{})", form, *form == 's' ? ", 0.75" : ""))
        .sample(format("aten.range.{}({}, dtype=f64)", form, *form == 's' ? "7, 2.5, -1" : "-0.5, 3"));
  }
  // From the nearer end with the step rounded to the result's type first.
  ops.add("aten.linspace.default")
      .infer([](const Call& call) -> Types {
        return one(contiguous_type(call, call.dtype("dtype").value_or(DType::f32), {call.integer("steps")}));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        DType dtype = call.dtype("dtype").value_or(DType::f32);
        DType compute = dtype == DType::f64 ? DType::f64 : DType::f32;
        int64_t n = call.constant("steps");
        double start = call.number("start"), end = call.number("end");
        double step = n > 1 ? (end - start) / static_cast<double>(n - 1) : 0;
        if (compute == DType::f32)
          step = n > 1 ? (static_cast<float>(end) - static_cast<float>(start)) / static_cast<float>(n - 1) : 0;
        LoopBuilder* p = &b;
        auto num = [p, compute](double v) { return number_expr(*p, v, compute); };
        return b.from(dtype, {n}, [=](const Index& i) {
          ExprId from_start = p->op(ScalarOp::fma, {num(step), p->cvt(i[0], compute), num(start)});
          ExprId left = p->cvt(p->sub(int_expr(*p, n - 1), i[0]), compute);
          ExprId from_end = p->op(ScalarOp::fma, {num(-step), left, num(end)});
          ExprId lower_half = p->op(ScalarOp::lt, {i[0], int_expr(*p, n / 2)});
          ExprId value = n == 1 ? num(start) : p->where(lower_half, from_start, from_end);
          return stored_scalar(*p, p->cvt(value, dtype), dtype);
        });
      })
      .sample("aten.linspace.default(0, 1, 7)")
      .sample("aten.linspace.default(-2.0, 3.0, 10)");
  for (const char* form : {"default", "m"}) {
    std::string name = format("aten.eye.{}", form);
    auto sizes = [](const Call& call) {
      Sym n = call.integer("n");
      return SymList{n, call.schema().find_arg("m") >= 0 ? call.integer("m") : n};
    };
    ops.add(name)
        .infer([sizes](const Call& call) -> Types {
          return one(contiguous_type(call, call.dtype("dtype").value_or(DType::f32), sizes(call)));
        })
        .lower([sizes](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          DType dtype = call.dtype("dtype").value_or(DType::f32);
          LoopBuilder* p = &b;
          return b.from(dtype, sizes(call), [p, dtype](const Index& i) {
            return p->cvt(p->op(ScalarOp::eq, {i[0], i[1]}), dtype);
          });
        })
        .sample(name + (*form == 'm' ? "(2, 3)" : "(3)"));
  }
  // Keeps where column - row <= diagonal (tril) or >= (triu); a choice, so that NaN outside does not leak.
  for (bool lower : {true, false}) {
    std::string name = lower ? "aten.tril.default" : "aten.triu.default";
    ops.add(name)
        .infer([](const Call& call) -> Types {
          return one(contiguous_type(call, call.type("self").dtype, call.type("self").sizes));
        })
        .lower([lower](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          Sym diagonal = call.integer("diagonal");
          LoopBuilder* p = &b;
          return b.from(x.dtype, x.sizes, [p, x, diagonal, lower](const Index& i) {
            ExprId gap = p->sub(i.back(), i[i.size() - 2]);
            ExprId keep = p->op(lower ? ScalarOp::le : ScalarOp::ge, {gap, p->index(diagonal)});
            return p->where(keep, x.at(i), number_expr(*p, 0, x.dtype));
          });
        })
        .sample(name + "(f32[2,4,5], 1)")
        .sample(name + "(bool[4,4])");
  }
  // Row and column of the kept places in row-major order; their number must be known.
  for (bool lower : {true, false}) {
    std::string name = lower ? "aten.tril_indices.default" : "aten.triu_indices.default";
    auto places = [lower](const Call& call) {
      int64_t rows = call.constant("row"), cols = call.constant("col"), offset = call.constant("offset");
      std::vector<std::pair<int64_t, int64_t>> out;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c)
          if (lower ? c - r <= offset : c - r >= offset) out.push_back({r, c});
      return out;
    };
    ops.add(name)
        .infer([places](const Call& call) -> Types {
          return one(contiguous_type(call, call.dtype("dtype").value_or(DType::i64),
                                     {2, static_cast<int64_t>(places(call).size())}));
        })
        .lower([places](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          DType dtype = call.dtype("dtype").value_or(DType::i64);
          auto list = places(call);
          LoopTensor table;
          table.name = call.graph()[call.node().outputs[0]].name + ".places";
          table.kind = TensorKind::constant;
          table.dtype = DType::i64;
          table.sizes = {2, static_cast<int64_t>(list.size())};
          table.strides = contiguous_strides(table.sizes);
          std::vector<int64_t> numbers;
          for (auto& at : list) numbers.push_back(at.first);
          for (auto& at : list) numbers.push_back(at.second);
          auto bytes = reinterpret_cast<const std::byte*>(numbers.data());
          table.data.assign(bytes, bytes + numbers.size() * sizeof(int64_t));
          return b.convert(b.read(b.loops().add(std::move(table))), dtype);
        })
        .sample(name + "(3, 4)");
  }
}

// ----------------------------------------------------------------------------------------------- casts and copies

DType cast_dtype(const Call& call) {
  if (is_tensor(call, "other")) return call.type("other").dtype;
  if (call.schema().find_arg("dtype") < 0) return call.type("self").dtype;
  return call.dtype("dtype").value_or(call.type("self").dtype);
}

Device cast_device(const Call& call) {
  for (const char* like : {"other", "tensor"})
    if (call.schema().find_arg(like) >= 0) return call.type(like).device;
  return device_of(call);
}

// The format that a tensor is taken to have, gaps or not: channels last where they lie innermost, else row-major.
MemoryFormat suggested_format(const TensorType& x) {
  if (x.rank() != 4 && x.rank() != 5) return MemoryFormat::contiguous;
  if (is_contiguous(x)) return MemoryFormat::contiguous;
  const std::vector<int> order = dim_last(x.rank(), 1);
  for (size_t i = 1; i < order.size(); ++i) {
    const auto outer = static_cast<size_t>(order[i - 1]), inner = static_cast<size_t>(order[i]);
    if (!proves_le(x.strides[inner] * x.sizes[inner], x.strides[outer])) return MemoryFormat::contiguous;
  }
  return x.rank() == 4 ? MemoryFormat::channels_last : MemoryFormat::channels_last_3d;
}

void add_casts(OpTable& ops) {
  // Aliases where nothing changes, and what is asked for is how the tensor lies anyway; else a copy by memory_format.
  for (const char* form : {"to.device", "to.dtype", "to.dtype_layout", "to.other", "type_as.default"}) {
    std::string name = format("aten.{}", form);
    auto aliases = [](const Call& call) {
      bool copies = call.schema().find_arg("copy") >= 0 && call.flag("copy");
      if (call.schema().find_arg("memory_format") >= 0 && call.has("memory_format"))
        if (auto format = std::get<MemoryFormat>(call.arg("memory_format")); format != MemoryFormat::preserve)
          copies |= format != suggested_format(call.type("self"));
      return !copies && cast_dtype(call) == call.type("self").dtype && cast_device(call) == call.type("self").device;
    };
    OpRow& row = ops.add(name);
    row.infer([aliases](const Call& call) -> Types {
         const TensorType& x = call.type("self");
         TensorType type = x;
         type.dtype = cast_dtype(call);
         type.device = cast_device(call);
         if (!aliases(call)) type.strides = format_strides(call, x);
         return one(std::move(type));
       })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          return b.convert(call.tensor("self"), cast_dtype(call));
        })
        .view_when(aliases);
    std::string f = form;
    if (f == "to.dtype")
      row.sample(name + "(f32[4,5], i64)").sample(name + "(f32[4], bf16)").sample(name + "(i64[4], f32)");
    if (f == "to.dtype_layout") row.sample(name + "(f32[4,5], dtype=f64)");
    if (f == "to.device") row.sample(name + "(f32[4,5], cpu, f64)");
    if (f == "type_as.default" || f == "to.other") row.sample(name + "(f32[4,5], i32[2])");
  }
  for (const char* form : {"clone.default", "_to_copy.default", "lift_fresh_copy.default", "contiguous.default"}) {
    std::string name = format("aten.{}", form);
    bool contiguous = std::string(form) == "contiguous.default";
    OpRow& row = ops.add(name);
    row.infer([contiguous](const Call& call) -> Types {
         TensorType type = call.type("self");
         type.dtype = cast_dtype(call);
         bool keeps = contiguous && call.has("memory_format") == false;
         bool already = contiguous && is_contiguous(type);
         if (contiguous && call.has("memory_format")) {
           auto format = std::get<MemoryFormat>(call.arg("memory_format"));
           already = format == MemoryFormat::contiguous ? is_contiguous(type) : is_channels_last(type);
         }
         // Eager and traced forms of lift_fresh_copy differ on what is not row-major.
         if (call.op().find("lift_fresh_copy") != std::string::npos && !is_contiguous(type))
           type.strides.clear();
         else if (!already)
           type.strides = keeps ? contiguous_strides(type.sizes) : format_strides(call, call.type("self"));
         return one(std::move(type));
       })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          return b.convert(call.tensor("self"), cast_dtype(call));
        })
        .sample(name + "(f32[4,5])");
    if (contiguous) row.view();
  }
  for (const char* form :
       {"detach.default", "detach_.default", "alias.default", "lift_fresh.default", "resolve_conj.default",
        "resolve_neg.default", "alias_copy.default", "detach_copy.default"}) {
    std::string name = format("aten.{}", form);
    ops.add(name)
        .infer([](const Call& call) -> Types {
          TensorType type = call.type("self");
          if (call.op().find("_copy") != std::string::npos) type.strides = contiguous_strides(type.sizes);
          return one(std::move(type));
        })
        .lower([](LoopBuilder&, const LowerCall& call) -> Result<LoopValue> { return call.tensor("self"); })
        .view()
        .sample(name + "(f32[4,5])");
  }
  // Checked against the graph's types, which are known here; nothing is left to do.
  OpRow& metadata = ops.add("aten._assert_tensor_metadata.default");
  metadata.no_result = true;
  metadata.infer([](const Call&) -> Types { return std::vector<TensorType>{}; })
      .lower_many(
          [](LoopBuilder&, const LowerCall&) -> Result<std::vector<LoopValue>> { return std::vector<LoopValue>{}; });
}

}  // namespace

void add_creation_ops(OpTable& ops) {
  add_fills(ops);
  add_ranges(ops);
  add_casts(ops);
}

}  // namespace toroid
