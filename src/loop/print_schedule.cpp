// Schedule and Plan as text that parse_schedule.cpp reads back: the head that loops have too, then where everything
// lies, then one kernel after another.
#include <algorithm>
#include <set>
#include <span>

#include "base/check.h"
#include "loop/head_text.h"
#include "loop/routines.h"
#include "loop/schedule.h"

namespace toroid {
namespace {

std::string on_device(const Device& device) {
  return device == Device{} ? "" : format(" on {}", quoted(to_string(device)));
}

class KernelPrinter {
 public:
  KernelPrinter(const Schedule& schedule, const std::vector<std::string>& buffers)
      : schedule_(schedule), loops_(schedule.loops), buffers_(buffers) {}

  // `bodies`: the plans of a call's programs, where there are any yet.
  std::string kernel(const Kernel& kernel, const std::vector<Plan>* bodies) {
    out_.clear();
    append(out_, "kernel @{} (", kernel.name);
    std::string separator;
    for (TensorId id : kernel.reads) tensor(separator, "in", id);
    for (TensorId id : kernel.writes) tensor(separator, "out", id);
    append(out_, "){} {{", on_device(kernel.device));
    if (std::string where = kernel.where.text(); !where.empty()) append(out_, "  @ {}", where);
    out_ += "\n";
    if (auto* nest = std::get_if<LoopKernel>(&kernel.work)) loops(*nest);
    if (auto* work = std::get_if<ConvKernel>(&kernel.work)) conv(*work);
    if (auto* work = std::get_if<AttentionKernel>(&kernel.work)) attention(*work);
    if (auto* work = std::get_if<RoutineKernel>(&kernel.work)) routine(*work);
    if (auto* work = std::get_if<MatmulKernel>(&kernel.work))
      matmul(*work, kernel.epilogue);
    else
      epilogue(kernel.epilogue);
    if (auto* work = std::get_if<CallKernel>(&kernel.work)) call(*work, bodies);
    if (!kernel.note.empty()) line(1, "note " + quoted(kernel.note));
    line(1, format("flops {} bytes {} nanoseconds {}", to_string(kernel.flops), to_string(kernel.bytes),
                   to_string(kernel.nanoseconds)));
    out_ += "}\n";
    return out_;
  }

 private:
  void tensor(std::string& separator, const char* direction, TensorId id) {
    const LoopTensor& t = loops_[id];
    append(out_, "{}{} %{}: {}[{}]", separator, direction, t.name, dtype_name(t.dtype), to_string(t.sizes));
    separator = ", ";
  }
  void line(int depth, const std::string& text) {
    out_.append(static_cast<size_t>(depth) * 2, ' ').append(text).append("\n");
  }
  const std::string& buffer(BufferId id) const { return buffers_[static_cast<size_t>(id.index)]; }
  static std::string vars(const SymList& list) {
    std::string text;
    for (const Sym& var : list)
      append(text, "{}{} in {}", text.empty() ? "" : ", ", var.symbol_name(), to_string(extent_of(var)));
    return text;
  }
  void store(const StoreTo& s, int depth) {
    std::string index;
    for (ExprId id : s.index) append(index, "{}{}", index.empty() ? "" : ", ", print_expr(loops_, id));
    const std::string value = print_expr(loops_, s.value), name = loops_[s.tensor].name;
    if (s.into)
      line(depth, format("into %{}[{}], {}({})", name, index, reduce_op_name(*s.into), value));
    else
      line(depth, format("store %{}[{}], {}", name, index, value));
  }
  void loops(const LoopKernel& nest) {
    int depth = 1;
    if (nest.scalar) line(depth, "scalar");
    if (nest.blocks) line(depth, format("blocks {}", nest.blocks));
    for (TensorId total : nest.totals)
      line(depth, format("total %{} strides [{}]", loops_[total].name, to_string(schedule_.place(total).strides)));
    for (const Sym& var : nest.outer) {
      const bool lanes = var.symbol_name() == nest.vector_outer;
      line(depth++, format("for {}{} {{", vars({var}), lanes ? " lanes" : ""));
    }
    for (TensorId row : nest.rows)
      line(depth, format("row %{} strides [{}]", loops_[row].name, to_string(schedule_.place(row).strides)));
    phases(nest, nest.phases, depth);
    while (--depth > 0) line(depth, "}");
    if (nest.finish.empty()) return;
    line(1, "finish {");
    phases(nest, nest.finish, 2);
    line(1, "}");
  }
  void phases(const LoopKernel& nest, const std::vector<Phase>& list, int depth) {
    bool after_plain = false;
    for (const Phase& phase : list) {
      if (phase.reductions.empty() && phase.stores.empty()) continue;
      const bool plain = phase.vars.empty();
      if (plain && after_plain) line(depth, "then");
      after_plain = plain;
      int inner = depth;
      const char* how = phase.running ? "running" : nest.scalar || !nest.vector_outer.empty() ? "serial" : "vector";
      if (!plain) line(inner++, format("for {} {} {{", vars(phase.vars), how));
      for (const Reduction& r : phase.reductions)
        line(inner, format("%l{} = {}({})", r.local, reduce_op_name(r.op), print_expr(loops_, r.value)));
      for (const StoreTo& s : phase.stores) store(s, inner);
      if (!plain) line(depth, "}");
    }
  }
  template <class Stores>
  void epilogue(const Stores& stores) {
    if (stores.empty()) return;
    line(1, "epilogue {");
    for (const StoreTo& s : stores) store(s, 2);
    line(1, "}");
  }
  void matmul(const MatmulKernel& work, const std::vector<StoreTo>& stores) {
    size_t stored = 0;
    for (size_t c = 0; c < work.columns.size(); ++c) {
      const MatmulKernel::Columns& columns = work.columns[c];
      if (c == 0) {
        line(1, format("matmul [b0 in {}, m0 in {}, n0 in {}] over {} of {}", to_string(work.batch), to_string(work.m),
                       to_string(columns.n), to_string(work.k), dtype_name(work.dtype)));
        line(1, format("a %{} offset {} batch {} row {} k {}", loops_[work.a].name, to_string(work.a_offset),
                       to_string(work.a_batch_offset), to_string(work.a_row_stride), to_string(work.a_k_stride)));
      } else {
        line(1, format("beside [n0 in {}]", to_string(columns.n)));
      }
      for (const MatmulKernel::Right& b : columns.right)
        line(1, format("b %{}{} offset {} batch {} column {} k {}", loops_[b.tensor].name,
                       b.packed ? " packed @" + buffer(b.packed) : "", to_string(b.offset), to_string(b.batch_offset),
                       to_string(b.n_stride), to_string(b.k_stride)));
      epilogue(std::span(stores).subspan(stored, columns.stores));
      stored += columns.stores;
    }
  }
  void conv(const ConvKernel& work) {
    line(1, format("{} [n0 in {}, h0 in {}, w0 in {}, c0 in {}] over [{}, {}, {}] of {}",
                   work.depthwise ? "depthwise" : "conv", to_string(work.batch), to_string(work.out_h),
                   to_string(work.out_w), work.out_channels, to_string(work.in_h), to_string(work.in_w),
                   work.in_channels, dtype_name(work.dtype)));
    auto pair = [](const int64_t(&values)[2]) { return format("[{}, {}]", values[0], values[1]); };
    line(1, format("kernel {} stride {} padding {} dilation {} groups {}", pair(work.kernel), pair(work.stride),
                   pair(work.padding), pair(work.dilation), work.groups));
    line(1, format("x %{} offset {} batch {} row {} column {}", loops_[work.x].name, to_string(work.x_offset),
                   to_string(work.x_batch_stride), to_string(work.x_row_stride), to_string(work.x_column_stride)));
    line(1, format("weight packed @{}", buffer(work.packed)));
  }
  void routine(const RoutineKernel& work) {
    std::string text = format("routine {} of {} into %{} inputs [", routine_name(work.routine), dtype_name(work.dtype),
                              loops_[work.output].name);
    for (size_t i = 0; i < work.inputs.size(); ++i) append(text, "{}%{}", i ? ", " : "", loops_[work.inputs[i]].name);
    append(text, "] integers [{}] numbers [", to_string(work.integers));
    for (size_t i = 0; i < work.numbers.size(); ++i) append(text, "{}{}", i ? ", " : "", float_text(work.numbers[i]));
    line(1, text + "]");
  }
  void attention(const AttentionKernel& work) {
    line(1, format("attention [b0 in {}, h0 in {}, m0 in {}, d0 in {}] over {} keys size {} of {}",
                   to_string(work.batch), to_string(work.heads), to_string(work.queries), work.value_size,
                   to_string(work.keys), work.head_size, dtype_name(work.dtype)));
    line(1, format("group {} scale {}{}{}", work.group, float_text(work.scale), work.causal ? " causal" : "",
                   work.zero_masked_rows ? " zero_masked_rows" : ""));
    auto operand = [&](const char* name, TensorId id, const AttentionKernel::Strides& s) {
      line(1, format("{} %{} offset {} batch {} head {} row {}", name, loops_[id].name, to_string(s.offset),
                     to_string(s.batch), to_string(s.head), to_string(s.row)));
    };
    operand("q", work.q, work.q_strides);
    operand("k", work.k, work.k_strides);
    operand("v", work.v, work.v_strides);
    // The keys' variable is t0, so shared parts begin with t1.
    if (work.score) line(1, format("score {}", print_expr(loops_, work.score, 1)));
  }

  void call(const CallKernel& work, const std::vector<Plan>* bodies) {
    std::string operands, results;
    for (TensorId id : work.operands) append(operands, "{}%{}", operands.empty() ? "" : ", ", loops_[id].name);
    for (TensorId id : work.results) append(results, "{}%{}", results.empty() ? "" : ", ", loops_[id].name);
    line(1, format("call {} ({}) to ({}) [{}]{}", quoted(work.function), operands, results, to_string(work.attributes),
                   work.scratch ? " scratch @" + buffer(work.scratch) : ""));
    for (const Schedule& body : work.bodies) out_ += "  body {\n" + indented(print_schedule(body), 4) + "  }\n";
    if (bodies)
      for (const Plan& body : *bodies) out_ += "  body {\n" + indented(print_plan(body), 4) + "  }\n";
  }

  const Schedule& schedule_;
  const Loops& loops_;
  const std::vector<std::string>& buffers_;
  std::string out_;
};

// Buffers by their names, numbered where two have the same.
std::vector<std::string> buffer_names(const Schedule& schedule) {
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (const Buffer& buffer : schedule.buffers) {
    std::string name = buffer.name;
    for (int i = 1; !taken.insert(name).second; ++i) name = format("{}_{}", buffer.name, i);
    names.push_back(std::move(name));
  }
  return names;
}

std::string numbers(const std::vector<int64_t>& list) {
  std::string out;
  for (int64_t number : list) append(out, "{}{}", out.empty() ? "" : ", ", number);
  return "[" + out + "]";
}

// The constant tensor whose data the recipe's `bytes` are.
const LoopTensor& tensor_of(const Loops& loops, const Buffer& buffer) {
  auto same = [&](const LoopTensor& t) { return t.kind == TensorKind::constant && t.data == buffer.bytes; };
  auto named =
      std::ranges::find_if(loops.tensors, [&](const LoopTensor& t) { return t.name == buffer.name && same(t); });
  if (named != loops.tensors.end()) return *named;
  auto found = std::ranges::find_if(loops.tensors, same);
  TD_CHECK(found != loops.tensors.end(), "the bytes of `{}` are no constant's", buffer.name);
  return *found;
}

std::string recipe_text(const Loops& loops, const Buffer& buffer) {
  std::string out;
  for (const RecipeStep& step : buffer.recipe) {
    append(out, "{}{}", out.empty() ? "" : "; ", step.op);
    if (step.op == "bytes") append(out, " %{}", tensor_of(loops, buffer).name);
    if (step.weight >= 0) append(out, " weight {}", quoted(loops.weights[static_cast<size_t>(step.weight)].name));
    if (step.dtype != DType::f32) append(out, " as {}", dtype_name(step.dtype));
    if (!step.sizes.empty()) append(out, " sizes {}", numbers(step.sizes));
    if (!step.strides.empty()) append(out, " strides {}", numbers(step.strides));
    if (step.offset) append(out, " offset {}", step.offset);
    if (step.count) append(out, " count {}", step.count);
    if (step.dim) append(out, " dim {}", step.dim);
    if (step.k_group) append(out, " k_group {}", step.k_group);
    if (step.value != 0) append(out, " value {}", float_text(step.value));
  }
  return out;
}

std::string buffer_text(const Loops& loops, const Buffer& buffer) {
  std::string out;
  switch (buffer.kind) {
    case BufferKind::input: append(out, "input {}", buffer.input); break;
    case BufferKind::constant: append(out, "constant{}", buffer.mutated ? " mutated" : ""); break;
    case BufferKind::output: append(out, "output {}", buffer.output); break;
    case BufferKind::temporary: out = "temporary"; break;
  }
  append(out, " : {}[{}]{}", dtype_name(buffer.dtype), to_string(buffer.elements), on_device(buffer.device));
  if (buffer.kind == BufferKind::constant)
    append(out, " sizes {} {{ {} }}", numbers(buffer.constant_sizes), recipe_text(loops, buffer));
  return out;
}

// Tensors that have memory or that something names; the others vanished in fusion.
std::vector<bool> declared_tensors(const Schedule& schedule) {
  std::vector<bool> declared(schedule.loops.tensors.size(), false);
  auto declare = [&](TensorId id) {
    if (id) declared[static_cast<size_t>(id.index)] = true;
  };
  for (size_t t = 0; t < schedule.places.size(); ++t)
    if (schedule.places[t].buffer) declared[t] = true;
  for (const Kernel& kernel : schedule.kernels)
    if (auto* nest = std::get_if<LoopKernel>(&kernel.work)) {
      std::ranges::for_each(nest->rows, declare);
      std::ranges::for_each(nest->totals, declare);
    }
  for (const LoopOutput& output : schedule.loops.outputs) declare(output.tensor);
  for (const SymbolRead& read : schedule.loops.symbol_reads) declare(read.tensor);
  return declared;
}

std::string storage_text(const Schedule& schedule, const std::vector<std::string>& names,
                         const std::vector<Sym>* offsets) {
  std::string out;
  for (size_t b = 0; b < schedule.buffers.size(); ++b) {
    append(out, "  buffer @{} = {}", names[b], buffer_text(schedule.loops, schedule.buffers[b]));
    if (offsets && (*offsets)[b] != Sym(-1)) append(out, " at {}", to_string((*offsets)[b]));
    out += "\n";
  }
  for (size_t t = 0; t < schedule.places.size(); ++t) {
    const Place& place = schedule.places[t];
    if (!place.buffer) continue;
    append(out, "  place %{} = @{} strides [{}]", schedule.loops.tensors[t].name,
           names[static_cast<size_t>(place.buffer.index)], to_string(place.strides));
    if (place.offset != Sym(0)) append(out, " offset {}", to_string(place.offset));
    out += "\n";
  }
  for (const Copy& copy : schedule.copies)
    append(out, "  copy %{} to %{} before {}\n", schedule.loops[copy.from].name, schedule.loops[copy.to].name,
           copy.before);
  return out;
}

std::string operation_text(const Schedule& schedule, const Operation& operation) {
  const auto subject = static_cast<size_t>(operation.subject);
  switch (operation.kind) {
    case Operation::Kind::launch: return format("launch @{} on {}", schedule.kernels[subject].name, operation.stream);
    case Operation::Kind::copy:
      return format("copy %{} to %{} on {}", schedule.loops[schedule.copies[subject].from].name,
                    schedule.loops[schedule.copies[subject].to].name, operation.stream);
    case Operation::Kind::wait: return format("wait {} on {}", operation.subject, operation.stream);
    case Operation::Kind::read:
      return format("read {} on {}", schedule.loops.symbol_reads[subject].symbol, operation.stream);
  }
  return "";
}

std::string whole_text(const Schedule& schedule, const Plan* plan) {
  const std::vector<std::string> names = buffer_names(schedule);
  std::string out = print_head(schedule.loops, plan ? "plan" : "schedule", declared_tensors(schedule));
  out += storage_text(schedule, names, plan ? &plan->offsets : nullptr);
  if (plan) {
    for (const Arena& arena : plan->arenas)
      append(out, "  arena {}{}{}\n", to_string(arena.bytes), on_device(arena.device),
             arena.after < 0 ? "" : format(" after @{}", schedule.kernels[static_cast<size_t>(arena.after)].name));
    // On one stream the operations are the kernels in order.
    for (const Device& device : plan->streams)
      if (plan->streams.size() > 1) append(out, "  stream {}\n", quoted(to_string(device)));
    for (const Operation& operation : plan->operations)
      if (plan->streams.size() > 1) append(out, "  {}\n", operation_text(schedule, operation));
    append(out, "  peak {} lower_bound {} weights {} mutated {} intermediate {} moved {}\n", plan->peak_bytes,
           plan->lower_bound_bytes, plan->weights_bytes, plan->mutated_bytes, plan->intermediate_bytes,
           plan->bytes_moved);
  }
  out += "}\n";
  KernelPrinter printer(schedule, names);
  for (size_t k = 0; k < schedule.kernels.size(); ++k) {
    auto bodies =
        plan ? plan->bodies.find(static_cast<int32_t>(k)) : std::map<int32_t, std::vector<Plan>>::const_iterator();
    out += "\n" + printer.kernel(schedule.kernels[k], plan && bodies != plan->bodies.end() ? &bodies->second : nullptr);
  }
  return out;
}

}  // namespace

std::string print_schedule(const Schedule& schedule) { return whole_text(schedule, nullptr); }
std::string print_plan(const Plan& plan) { return whole_text(plan.schedule, &plan); }

}  // namespace toroid
