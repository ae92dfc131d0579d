// Schedule and Plan as text: one kernel after another, with where every tensor lies.
#include <algorithm>

#include "loop/schedule.h"

namespace toroid {
namespace {

class Printer {
 public:
  explicit Printer(const Schedule& schedule) : schedule_(schedule), loops_(schedule.loops) {}

  std::string kernel(const Kernel& kernel) {
    out_.clear();
    append(out_, "kernel @{} (", kernel.name);
    std::string separator;
    for (TensorId id : kernel.reads) tensor(separator, "in", id);
    for (TensorId id : kernel.writes) tensor(separator, "out", id);
    append(out_, ") {{");
    if (std::string where = kernel.where.text(); !where.empty()) append(out_, "   # {}", where);
    out_ += "\n";
    if (auto* nest = std::get_if<LoopKernel>(&kernel.work)) loops(*nest);
    if (auto* work = std::get_if<MatmulKernel>(&kernel.work)) matmul(*work);
    if (auto* work = std::get_if<ConvKernel>(&kernel.work)) conv(*work);
    if (auto* work = std::get_if<AttentionKernel>(&kernel.work)) attention(*work);
    if (!kernel.epilogue.empty()) {
      append(out_, "  epilogue {{\n");
      for (const StoreTo& s : kernel.epilogue) store(s, 2);
      append(out_, "  }}\n");
    }
    append(out_, "  cost flops {}, bytes {}\n}}\n", to_string(kernel.flops), to_string(kernel.bytes));
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
  std::string vars(const SymList& list) {
    std::string text;
    for (const Sym& var : list)
      append(text, "{}{} in {}", text.empty() ? "" : ", ", to_string(var),
             var.is_symbol() ? to_string(var.node()->extent) : "1");
    return text;
  }
  void store(const StoreTo& s, int depth) {
    std::string index;
    for (ExprId id : s.index) append(index, "{}{}", index.empty() ? "" : ", ", print_expr(loops_, id));
    line(depth, format("store %{}[{}], {}", loops_[s.tensor].name, index, print_expr(loops_, s.value)));
  }
  void loops(const LoopKernel& nest) {
    int depth = 1;
    for (const Sym& var : nest.outer) {
      const bool vector = var.is_symbol() && var.symbol_name() == nest.vector_outer;
      line(depth++, format("for {}{} {{", vars({var}), vector ? " vector" : ""));
    }
    for (TensorId row : nest.rows) line(depth, format("row %{}: {}", loops_[row].name, dtype_name(loops_[row].dtype)));
    for (const Phase& phase : nest.phases) {
      int inner = depth;
      if (!phase.vars.empty())
        line(inner++, format("for {}{} {{", vars(phase.vars),
                             phase.running               ? " running"
                             : nest.vector_outer.empty() ? " vector"
                                                         : ""));
      for (const Reduction& r : phase.reductions)
        line(inner, format("%l{} = {}({})", r.local, reduce_op_name(r.op), print_expr(loops_, r.value)));
      for (const StoreTo& s : phase.stores) store(s, inner);
      if (!phase.vars.empty()) line(depth, "}");
    }
    while (--depth > 0) line(depth, "}");
  }
  void matmul(const MatmulKernel& work) {
    line(1, format("matmul [b0 in {}, m0 in {}, n0 in {}] over {}", to_string(work.batch), to_string(work.m),
                   to_string(work.n), to_string(work.k)));
    line(1, format("a %{} at {} + {}*m0 + {}*k", loops_[work.a].name, to_string(work.a_offset + work.a_batch_offset),
                   to_string(work.a_row_stride), to_string(work.a_k_stride)));
    if (work.packed)
      line(1, format("b packed {}", schedule_[work.packed].name));
    else
      line(1, format("b %{} at {} + {}*n0 + {}*k", loops_[work.b].name, to_string(work.b_offset + work.b_batch_offset),
                     to_string(work.b_n_stride), to_string(work.b_k_stride)));
  }
  void conv(const ConvKernel& work) {
    line(1,
         format(
             "{} [n0 in {}, h0 in {}, w0 in {}, c0 in {}] over {} channels, kernel {}x{}, stride {}x{}, padding {}x{}, "
             "dilation {}x{}, groups {}",
             work.depthwise ? "depthwise" : "conv", to_string(work.batch), to_string(work.out_h), to_string(work.out_w),
             work.out_channels, work.in_channels, work.kernel[0], work.kernel[1], work.stride[0], work.stride[1],
             work.padding[0], work.padding[1], work.dilation[0], work.dilation[1], work.groups));
    line(1, format("x %{}, weight packed {}", loops_[work.x].name, schedule_[work.packed].name));
  }
  void attention(const AttentionKernel& work) {
    line(1, format("attention [b0 in {}, h0 in {}, m0 in {}, d0 in {}] over {} keys of {}, group {}, scale {}{}",
                   to_string(work.batch), to_string(work.heads), to_string(work.queries), work.value_size,
                   to_string(work.keys), work.head_size, work.group, float_text(work.scale),
                   work.causal ? ", causal" : ""));
    line(1, format("q %{}, k %{}, v %{}", loops_[work.q].name, loops_[work.k].name, loops_[work.v].name));
    if (work.score) line(1, format("score {}", print_expr(loops_, work.score)));
  }

  const Schedule& schedule_;
  const Loops& loops_;
  std::string out_;
};

const char* kind_text(BufferKind kind) {
  switch (kind) {
    case BufferKind::input: return "input";
    case BufferKind::constant: return "constant";
    case BufferKind::output: return "output";
    case BufferKind::temporary: return "temporary";
  }
  return "";
}

std::string places_text(const Schedule& schedule, const std::vector<Sym>* offsets) {
  std::string out;
  for (size_t t = 0; t < schedule.places.size(); ++t) {
    const Place& place = schedule.places[t];
    if (!place.buffer) continue;
    const Buffer& buffer = schedule[place.buffer];
    append(out, "  %{} = {} {}[{}] strides [{}]", schedule.loops.tensors[t].name, kind_text(buffer.kind),
           dtype_name(buffer.dtype), to_string(schedule.loops.tensors[t].sizes), to_string(place.strides));
    if (offsets && buffer.kind != BufferKind::input && buffer.kind != BufferKind::output)
      append(out, " at {}", to_string((*offsets)[static_cast<size_t>(place.buffer.index)]));
    out += "\n";
  }
  return out;
}

}  // namespace

std::string print_schedule(const Schedule& schedule) {
  std::string out = format("schedule @{} {{\n{}}}\n", schedule.loops.name, places_text(schedule, nullptr));
  Printer printer(schedule);
  for (const Kernel& kernel : schedule.kernels) out += "\n" + printer.kernel(kernel);
  return out;
}

std::string print_plan(const Plan& plan) {
  std::string out = format("plan @{} {{\n{}", plan.schedule.loops.name, places_text(plan.schedule, &plan.offsets));
  append(out, "  arena {}, peak {}, lower bound {}, weights {}, mutated {}\n", to_string(plan.arena_bytes),
         plan.peak_bytes, plan.lower_bound_bytes, plan.weights_bytes, plan.mutated_bytes);
  append(out, "  intermediate {}, moved {}\n}}\n", plan.intermediate_bytes, plan.bytes_moved);
  Printer printer(plan.schedule);
  for (const Kernel& kernel : plan.schedule.kernels) out += "\n" + printer.kernel(kernel);
  return out;
}

}  // namespace toroid
