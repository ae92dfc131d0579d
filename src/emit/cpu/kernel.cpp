// Chooses the emitter for a kernel, gives it texts for operands and epilogue, and frames the result as a source file.
#include "emit/cpu/kernel.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/check.h"
#include "base/hash.h"
#include "base/text.h"
#include "emit/cpu/attention.h"
#include "emit/cpu/conv.h"
#include "emit/cpu/depthwise.h"
#include "emit/cpu/matmul.h"
#include "emit/cpu/nest.h"
#include "emit/cpu/prelude.h"
#include "loop/routines.h"

namespace toroid::emit {
namespace {

constexpr const char* placeholder = "td_kernel";

class TemplateText {
 public:
  TemplateText(const Schedule& schedule, const Kernel& kernel, const Target& target, KernelParams& params)
      : schedule_(schedule),
        kernel_(kernel),
        params_(params),
        isa_{target.lanes(), target.lanes() == 16 && target.has("bf16")} {}

  KernelText emit(const MatmulKernel& work) { return emit_matmul(spec_of(work, 0), placeholder); }

  // The product with columns `c` of those side by side.
  MatmulSpec spec_of(const MatmulKernel& work, size_t c) {
    const MatmulKernel::Columns& columns = work.columns[c];
    const MatmulKernel::Right& b = columns.right[0];
    MatmulSpec spec;
    spec.isa = isa_;
    spec.dtype = work.dtype;
    spec.batch = size(work.batch);
    spec.m = size(work.m);
    spec.n = size(columns.n);
    spec.k = size(work.k);
    spec.a = pointer(schedule_.place(work.a).buffer, work.a_offset, work.dtype);
    spec.a_transposed = work.a_k_stride != Sym(1);
    spec.a_stride = size(spec.a_transposed ? work.a_k_stride : work.a_row_stride);
    spec.a_offset = [this, &work](const std::string& batch) { return at_batch(work.a_batch_offset, batch); };
    spec.b_offset = [this, &b](const std::string& batch) { return at_batch(b.batch_offset, batch); };
    if (b.packed) {
      spec.b_layout = BLayout::packed;
      spec.b = pointer(b.packed, 0, work.dtype);
      for (size_t j = 1; j < columns.right.size(); ++j)
        spec.more_b.push_back(pointer(columns.right[j].packed, 0, work.dtype));
    } else {
      const bool rows = b.n_stride == Sym(1);
      spec.b_layout = rows ? BLayout::row_major : BLayout::transposed;
      spec.b_stride = size(rows ? b.k_stride : b.n_stride);
      spec.b = pointer(schedule_.place(b.tensor).buffer, b.offset, work.dtype);
    }
    size_t first = 0;
    for (size_t i = 0; i < work.columns.size(); ++i) {
      if (i < c) first += work.columns[i].stores;
      if (i != c) spec.beside += panels_of(work.columns[i].n.value());
    }
    spec.epilogue = epilogue({"b0", "m0", "n0"}, "n0", std::span(kernel_.epilogue).subspan(first, columns.stores),
                             columns.right.size(), isa_.lanes);
    if (far(work.batch * work.m * columns.n))
      spec.fetch =
          fetch({"b0", "m0", "n0"}, "n0", std::span(kernel_.epilogue).subspan(first, columns.stores), isa_.lanes);
    spec.preamble = preamble_;
    return spec;
  }

  KernelText emit(const ConvKernel& work) {
    auto fill = [&](auto& spec) {
      spec.isa = isa_;
      spec.dtype = work.dtype;
      spec.batch = size(work.batch);
      spec.height = size(work.in_h);
      spec.width = size(work.in_w);
      spec.out_height = size(work.out_h);
      spec.out_width = size(work.out_w);
      spec.kernel_h = work.kernel[0], spec.kernel_w = work.kernel[1];
      spec.stride_h = work.stride[0], spec.stride_w = work.stride[1];
      spec.dilation_h = work.dilation[0], spec.dilation_w = work.dilation[1];
      spec.pad_top = work.padding[0], spec.pad_left = work.padding[1];
      spec.input = pointer(schedule_.place(work.x).buffer, work.x_offset, work.dtype);
      spec.weight = pointer(work.packed, 0, work.dtype);
      spec.batch_stride = size(work.x_batch_stride);
      spec.row_stride = size(work.x_row_stride);
      spec.pixel_stride = size(work.x_column_stride);
      spec.epilogue = epilogue({"n0", "h0", "w0", "c0"}, "c0", kernel_.epilogue);
      spec.preamble = preamble_;
    };
    if (work.depthwise) {
      DepthwiseSpec spec;
      fill(spec);
      spec.channels = work.out_channels;
      return emit_depthwise(spec, placeholder);
    }
    ConvSpec spec;
    fill(spec);
    if (far(work.batch * work.out_h * work.out_w * Sym(work.out_channels)))
      spec.fetch = fetch({"n0", "h0", "w0", "c0"}, "c0", kernel_.epilogue);
    spec.in_channels = work.in_channels;
    spec.out_channels = work.out_channels;
    spec.groups = work.groups;
    spec.dense_rows = proves_eq(work.x_row_stride, work.in_w * work.x_column_stride);
    return emit_conv(spec, placeholder);
  }

  KernelText emit(const AttentionKernel& work) {
    AttentionSpec spec;
    spec.isa = isa_;
    spec.dtype = work.dtype;
    spec.batch = size(work.batch);
    spec.rows = size(work.queries);
    spec.keys = size(work.keys);
    spec.heads = work.heads.value();
    spec.kv_heads = work.heads.value() / work.group;
    spec.dim = work.head_size;
    spec.value_dim = work.value_size;
    auto operand = [&](TensorId id, const AttentionKernel::Strides& s, std::string& text, Size& batch, Size& head,
                       Size& row) {
      text = pointer(schedule_.place(id).buffer, s.offset, work.dtype);
      batch = size(s.batch);
      head = size(s.head);
      row = size(s.row);
    };
    operand(work.q, work.q_strides, spec.q, spec.q_batch, spec.q_head, spec.q_row);
    operand(work.k, work.k_strides, spec.k, spec.k_batch, spec.k_head, spec.k_row);
    operand(work.v, work.v_strides, spec.v, spec.v_batch, spec.v_head, spec.v_row);
    spec.scale = work.scale;
    spec.causal = work.causal;
    spec.zero_masked_rows = work.zero_masked_rows;
    if (work.score) {
      spec.modify_score = [this, &work](const std::string& acc, const std::vector<std::string>& index,
                                        const std::string& count) {
        EmitScope scope = scope_at({"b0", "h0", "m0", "t0"}, index, "t0");
        scope.count = count;
        scope.locals[0] = {acc, true, DType::f32};
        ExprEmitter emitter(schedule_.loops, schedule_, params_, std::move(scope), &temporaries_);
        const ExprEmitter::Value value = emitter.as_vector(emitter.emit(work.score));
        return "{\n" + emitter.take() + format("    {} = {};\n  }}\n", acc, value.text);
      };
    }
    spec.epilogue = epilogue({"b0", "h0", "m0", "d0"}, "d0", kernel_.epilogue);
    spec.preamble = preamble_;
    return emit_attention(spec, placeholder);
  }

  // Pointers that the epilogue uses, loaded once a function; known after a first emission.
  void set_preamble(std::string text) { preamble_ = std::move(text); }

 private:
  // A size as an expression over `s`.
  std::string text(const Sym& sym) {
    return to_c(sym, [&](const std::string& name) { return s_text(name); });
  }
  std::string s_text(const std::string& name) { return format("s[{}]", params_.symbol_slot(name)); }
  Size size(const Sym& sym) {
    if (auto value = sym.constant()) return Size::of(*value);
    return Size::dynamic(text(sym));
  }
  std::string pointer(BufferId buffer, const Sym& offset, DType dtype) {
    const size_t slot = params_.buffer_slot(buffer);
    if (offset == Sym(0)) return format("p[{}]", slot);
    return format("(p[{}] + {} * {})", slot, text(offset), dtype_bytes(dtype));
  }
  std::string at_batch(const Sym& offset, const std::string& batch) {
    return to_c(offset, [&](const std::string& name) { return name == "b0" ? batch : s_text(name); });
  }
  // Whether so many results are, as far as is known, more than a core's cache holds.
  static bool far(const Sym& elements) { return !elements.is_constant() || elements.value() >= (1 << 17); }
  // The variables `names` are `index`; vectors begin at multiples of `run` (0: anywhere).
  static EmitScope scope_at(const std::vector<std::string>& names, const std::vector<std::string>& index,
                            const std::string& vector, int64_t run = 0) {
    EmitScope scope;
    for (size_t i = 0; i < names.size() && i < index.size(); ++i) scope.variables[names[i]] = index[i];
    scope.vector_variable = vector;
    scope.run = run;
    return scope;
  }
  Fetch fetch(std::vector<std::string> names, std::string vector, std::span<const StoreTo> stores, int64_t run = 0) {
    return [=, this](const std::vector<std::string>& index) {
      EmitScope scope = scope_at(names, index, vector, run);
      ExprEmitter emitter(schedule_.loops, schedule_, params_, std::move(scope), &temporaries_);
      for (const StoreTo& store : stores) emitter.fetch(store);
      return emitter.take();
    };
  }
  // Stores of `accumulators` sums.
  Epilogue epilogue(std::vector<std::string> names, std::string vector, std::span<const StoreTo> stores,
                    size_t accumulators = 1, int64_t run = 0) {
    return [=, this](const std::string& acc, const std::vector<std::string>& index, const std::string& count) {
      EmitScope scope = scope_at(names, index, vector, run);
      scope.count = count;
      scope.locals[0] = {acc, true, DType::f32};
      for (size_t j = 1; j < accumulators; ++j)
        scope.locals[static_cast<int32_t>(j)] = {format("{}_{}", acc, j), true, DType::f32};
      ExprEmitter emitter(schedule_.loops, schedule_, params_, std::move(scope), &temporaries_);
      for (const StoreTo& store : stores) emitter.store(store);
      return "{\n" + emitter.take() + "  }\n";
    };
  }

  const Schedule& schedule_;
  const Kernel& kernel_;
  KernelParams& params_;
  Isa isa_;
  std::string preamble_;
  int temporaries_ = 0;
};

// Emits twice: the first time finds what the epilogue uses, the second declares it once a function.
template <class Emit>
KernelText with_preamble(const Schedule& schedule, const Kernel& kernel, const Target& target, KernelParams& params,
                         const Emit& emit) {
  KernelText result;
  std::string preamble;
  for (int round = 0; round < 2; ++round) {
    TemplateText templates(schedule, kernel, target, params);
    templates.set_preamble(preamble);
    result = emit(templates);
    preamble = params.declarations();
  }
  return result;
}

// Columns side by side: each numbers its buffers for itself, so that those that differ in their buffers alone have the
// same text and become one function.
KernelText emit_columns(const Schedule& schedule, const Kernel& kernel, const MatmulKernel& work, const Target& target,
                        KernelSource& source) {
  const std::string part = std::string(placeholder) + "_part";
  std::vector<std::string> parts;
  std::vector<MatmulColumns> columns;
  for (size_t c = 0; c < work.columns.size(); ++c) {
    KernelParams params(schedule, source.symbols);
    const KernelText text = with_preamble(schedule, kernel, target, params, [&](TemplateText& templates) {
      return emit_matmul_part(templates.spec_of(work, c), part);
    });
    const auto same = std::find(parts.begin(), parts.end(), text.text);
    const auto number = same - parts.begin();
    if (same == parts.end()) parts.push_back(text.text);
    columns.push_back({format("{}{}", part, number), source.slots.size(), panels_of(work.columns[c].n.value())});
    source.slots.insert(source.slots.end(), params.slots().begin(), params.slots().end());
    source.symbols = params.symbols();
  }
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += replace_all(parts[i], part, format("{}{}", part, i));
  KernelParams params(schedule, source.symbols);
  return emit_joined_matmul(TemplateText(schedule, kernel, target, params).spec_of(work, 0), columns, std::move(text),
                            placeholder);
}

std::string c_number(double value) {
  if (std::isnan(value)) return "__builtin_nan(\"\")";
  if (std::isinf(value)) return value < 0 ? "-__builtin_inf()" : "__builtin_inf()";
  return float_text(value);
}

// The routine's operands gathered from this kernel's.
std::string routine_text(const Schedule& schedule, const RoutineKernel& work, KernelParams& params,
                         std::string& units) {
  std::string pointers, integers, numbers;
  auto text = [&](const Sym& sym) {
    return to_c(sym, [&](const std::string& name) { return format("s[{}]", params.symbol_slot(name)); });
  };
  auto operand = [&](TensorId id) {
    const Place& place = schedule.place(id);
    append(pointers, "{}p[{}] + (i64)({}) * {}", pointers.empty() ? "" : ", ", params.buffer_slot(place.buffer),
           text(place.offset), dtype_bytes(schedule.loops[id].dtype));
  };
  for (TensorId input : work.inputs) operand(input);
  operand(work.output);
  for (const Sym& n : work.integers) append(integers, "{}(i64)({})", integers.empty() ? "" : ", ", text(n));
  for (double d : work.numbers) append(numbers, "{}, ", c_number(d));
  units = text(work.integers.at(0));
  return format(
      "extern \"C\" void {}(char* const* p, const i64* s, i64 begin, i64 end) {{\n"
      "  char* const q[] = {{{}}};\n  const i64 n[] = {{{}}};\n  const f64 d[] = {{{}0}};\n"
      "  {}<{}>::run(q, n, d, begin, end);\n}}\n",
      placeholder, pointers, integers, numbers, routine_name(work.routine), c_type(work.dtype));
}

}  // namespace

KernelSource emit_kernel(const Schedule& schedule, const Kernel& kernel, const Target& target,
                         std::map<std::string, std::string>* texts) {
  KernelSource source;
  if (std::holds_alternative<CallKernel>(kernel.work)) return source;
  KernelParams params(schedule);
  std::string text;
  if (auto* nest = std::get_if<LoopKernel>(&kernel.work)) {
    NestText body = emit_nest(schedule, *nest, params, target.lanes(), hints(schedule.loops));
    text = format("extern \"C\" void {}(char* const* p, const i64* s, i64 begin, i64 end) {{\n", placeholder);
    text += params.declarations() + body.body + "}\n";
    source.units = body.units;
    source.scratch_bytes = body.scratch_bytes;
    source.counts = nest->blocks > 0;
    source.slots = params.slots();
    source.symbols = params.symbols();
  } else if (auto* routine = std::get_if<RoutineKernel>(&kernel.work)) {
    text = routine_text(schedule, *routine, params, source.units);
    source.slots = params.slots();
    source.symbols = params.symbols();
  } else {
    KernelText result;
    auto* product = std::get_if<MatmulKernel>(&kernel.work);
    if (product && product->columns.size() > 1) {
      result = emit_columns(schedule, kernel, *product, target, source);
    } else {
      result = with_preamble(schedule, kernel, target, params, [&](TemplateText& templates) {
        if (product) return templates.emit(*product);
        if (auto* work = std::get_if<ConvKernel>(&kernel.work)) return templates.emit(*work);
        return templates.emit(std::get<AttentionKernel>(kernel.work));
      });
      source.slots = params.slots();
      source.symbols = params.symbols();
    }
    text = std::move(result.text);
    source.units = result.units;
    source.grain = result.grain;
    source.scratch_bytes = result.scratch_bytes;
  }
  source.symbol = "td_" + hash_text(text).hex().substr(0, 16);
  if (texts) {
    if (auto known = texts->find(source.symbol); known != texts->end()) {
      source.text = known->second;
      return source;
    }
  }
  text = replace_all(std::move(text), placeholder, source.symbol);
  PreludeOptions options;
  options.lanes = target.lanes();
  source.text = prelude_for(text, options) + text + std::string(prelude_end());
  if (texts) texts->emplace(source.symbol, source.text);
  return source;
}

}  // namespace toroid::emit
