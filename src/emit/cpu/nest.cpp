// Loops, vectors and accumulators of a LoopKernel. Which elements go to which accumulator depends on the sizes alone,
// so the bits do not depend on how units are shared out.
#include "emit/cpu/nest.h"

#include <functional>
#include <set>

#include "emit/cpu/nest_emitter.h"

namespace toroid::emit {

NestText NestEmitter::emit() {
  if (nest_.blocks) return emit_blocks();
  turned_ = find_turned(schedule_, nest_, lanes_, [this](const Sym& sym) { return at_hints(sym); });
  if (!turned_.loads.empty()) return emit_turned();
  SymList outer = nest_.outer;
  Sym vector_var = 0;
  if (!nest_.vector_outer.empty()) {
    vector_var = outer.back();
    outer.pop_back();
  }
  // Units: the first outer variables, as many as give threads something to share.
  size_t prefix = 0;
  int64_t units = 1;
  while (prefix < outer.size() && units < wanted_units) units *= at_hints(outer[prefix++].node()->extent);
  const int64_t block =
      std::clamp(unit_elements / work_of_one_point() / lanes_ * lanes_, int64_t{lanes_}, unit_elements);
  const bool blocks = vector_var.is_symbol() && units < wanted_units && at_hints(vector_var.node()->extent) > block;
  Sym count = 1;
  for (size_t i = 0; i < prefix; ++i) count *= outer[i].node()->extent;

  begin_streams();
  open("for (i64 u = begin; u < end; ++u) {");
  std::string rest = "u";
  std::string low = "0", high = vector_var.is_symbol() ? text(vector_var.node()->extent) : "0";
  if (blocks) {
    const std::string per = format("(({} + {}L) / {}L)", high, block - 1, block);
    line(format("const i64 low = u % {} * {};", per, block));
    line(format("const i64 high = low + {} < {} ? low + {} : {};", block, high, block, high));
    if (prefix) line(format("const i64 r = u / {};", per));
    rest = "r";
    low = "low";
    high = "high";
    count *= ceil_div(vector_var.node()->extent, block);
  }
  for (size_t i = prefix; i-- > 0;) {
    const std::string name = declare(outer[i]);
    const std::string extent = text(outer[i].node()->extent);
    if (i == 0) {
      line(format("const i64 {} = {};", name, rest));
    } else {
      line(format("const i64 {} = {} % {};", name, rest, extent));
      const std::string next = format("r{}", i);
      line(format("const i64 {} = {} / {};", next, rest, extent));
      rest = next;
    }
  }
  int opened = 1;
  for (size_t i = prefix; i < outer.size(); ++i, ++opened) {
    const std::string name = declare(outer[i]);
    open(format("for (i64 {} = 0; {} < {}; ++{}) {{", name, name, text(outer[i].node()->extent), name));
  }
  declare_rows();
  if (vector_var.is_symbol()) {
    const std::string name = declare(vector_var);
    line(format("i64 {} = {};", name, low));
    if (!nest_.scalar) {
      open(format("for (; {} + {} <= {}; {} += {}) {{", name, lanes_, high, name, lanes_));
      phases(vector_var.symbol_name(), "");
      close();
      open(format("if ({} < {}) {{", name, high));
      line(format("const i64 tail = {} - {};", high, name));
      phases(vector_var.symbol_name(), "tail");
      close();
    } else {
      open(format("for (; {} < {}; ++{}) {{", name, high, name));
      phases("", "");
      close();
    }
  } else {
    phases("", "");
  }
  while (opened-- > 0) close();
  end_streams();
  NestText result;
  result.body = std::move(out_);
  // The caller of the kernel has its symbols in `s`.
  result.units = to_c(count, [&](const std::string& name) { return format("s[{}]", params_.symbol_slot(name)); });
  return result;
}

int64_t NestEmitter::work_of_one_point() const {
  int64_t work = 1;
  for (const Phase& phase : nest_.phases) {
    int64_t elements = 1;
    for (const Sym& var : phase.vars) elements *= std::max<int64_t>(1, at_hints(var.node()->extent));
    work = std::max(work, elements);
  }
  return work;
}

// Outputs that no cache holds go past it: memory is then written without being read first. Not what the kernel reads
// again, and not for a caller whose memory begins within a line.
void NestEmitter::begin_streams() {
  std::set<TensorId> read;
  std::set<ExprId> seen;
  std::function<void(ExprId)> walk = [&](ExprId id) {
    if (!seen.insert(id).second) return;
    const Expr& expr = loops_.pool[id];
    if (expr.kind == ExprKind::load) read.insert(expr.tensor);
    for (ExprId arg : expr.args) walk(arg);
  };
  for (const Phase& phase : nest_.phases) {
    for (const Reduction& reduction : phase.reductions) walk(reduction.value);
    for (const StoreTo& store : phase.stores) walk(store.value);
  }
  for (const Phase& phase : nest_.phases) {
    const std::string vector = !nest_.vector_outer.empty() ? nest_.vector_outer
                               : phase.vars.empty()        ? ""
                                                           : phase.vars.back().symbol_name();
    if (vector.empty() || nest_.scalar) continue;
    for (const StoreTo& store : phase.stores) {
      const BufferId buffer = schedule_.place(store.tensor).buffer;
      const LoopTensor& tensor = loops_[store.tensor];
      if (!buffer || schedule_[buffer].kind != BufferKind::output || tensor.dtype != DType::f32) continue;
      if (read.contains(store.tensor) || store.into || at_hints(product(tensor.sizes)) * 4 < stream_bytes) continue;
      // Vectors begin at multiples of LANES, so lines follow when everything else in the address is a multiple, too.
      auto along = linear_in(store_address(schedule_, store), vector);
      if (!along || along->coefficient != Sym(1) || !proves_divisible(along->rest, lanes_)) continue;
      const std::string name = format("stream{}", streams_.size());
      if (!streams_.emplace(store.tensor, name).second) continue;
      line(format("const bool {} = ((unsigned long){} & 63) == 0 && {} * 4 >= {};", name, params_.buffer(buffer),
                  text(product(tensor.sizes)), stream_bytes));
    }
  }
}
void NestEmitter::end_streams() {
  if (!streams_.empty()) line("__builtin_ia32_sfence();");
}

int64_t NestEmitter::at_hints(const Sym& sym) const {
  std::map<std::string, int64_t> values = hints_;
  std::set<std::string> names;
  collect_symbols(sym, names);
  for (const std::string& name : names) values.emplace(name, 1);
  return evaluate(sym, values);
}

std::string NestEmitter::text(const Sym& sym) {
  return to_c(sym, [&](const std::string& name) {
    auto found = variables_.find(name);
    return found != variables_.end() ? found->second : params_.symbol(name);
  });
}

std::string NestEmitter::declare(const Sym& var) {
  // i8, i16, i32 and i64 are types.
  while (variable_count_ == 8 || variable_count_ == 16 || variable_count_ == 32 || variable_count_ == 64)
    ++variable_count_;
  const std::string name = format("i{}", variable_count_++);
  variables_[var.symbol_name()] = name;
  return name;
}

void NestEmitter::declare_rows() {
  for (size_t r = 0; r < nest_.rows.size(); ++r) {
    const LoopTensor& tensor = loops_[nest_.rows[r]];
    const Place& place = schedule_.place(nest_.rows[r]);
    Sym elements = 1;
    for (size_t d = 0; d < tensor.sizes.size(); ++d)
      if (place.strides[d] != Sym(0)) elements *= tensor.sizes[d];
    line(format("__attribute__((aligned(64))) {} row{}[{}];", c_type(tensor.dtype), r, text(elements)));
    rows_[nest_.rows[r]] = format("row{}", r);
  }
}

EmitScope NestEmitter::scope(const std::string& vector_variable, const std::string& count) const {
  EmitScope s;
  s.variables = variables_;
  s.vector_variable = vector_variable;
  s.count = count;
  s.locals = locals_;
  s.rows = rows_;
  s.tiles = tiles_;
  s.streams = streams_;
  return s;
}

void NestEmitter::phases(const std::vector<Phase>& list, const std::string& outer_vector, const std::string& count) {
  const auto saved = locals_;
  for (const Phase& phase : list) {
    if (phase.running)
      running_phase(phase);
    else if (!outer_vector.empty() || nest_.scalar || has_arg_reduction(phase))
      lane_phase(phase, outer_vector, count);
    else
      vector_phase(phase);
  }
  locals_ = saved;
}

bool NestEmitter::has_arg_reduction(const Phase& phase) {
  return std::any_of(phase.reductions.begin(), phase.reductions.end(), [](const Reduction& r) { return is_arg(r.op); });
}

void NestEmitter::lane_phase(const Phase& phase, const std::string& outer_vector, const std::string& count) {
  if (sums_long_runs(phase)) return lane_sums_phase(phase, outer_vector, count);
  const bool vector = !outer_vector.empty();
  TD_CHECK(!vector || !has_arg_reduction(phase), "argmax over rows in lanes");
  for (const Reduction& reduction : phase.reductions) {
    const std::string name = format("l{}_{}", reduction.local, uses_++);
    const DType dtype = reduction.dtype;
    if (is_arg(reduction.op)) {
      const DType value = loops_.pool[reduction.value].dtype;
      line(format("i64 {} = -1; {} {}_best = 0;", name, scalar_type(value), name));
    } else if (vector) {
      line(format("{} {} = splat_{}({});", vector_type(dtype), name, register_name(dtype),
                  identity_text(reduction.op, dtype)));
    } else {
      line(format("{} {} = {};", scalar_type(dtype), name, identity_text(reduction.op, dtype)));
    }
    accumulators_[reduction.local] = name;
  }
  Sym position = 0;
  for (const Sym& var : phase.vars) {
    const std::string name = declare(var);
    open(format("for (i64 {} = 0; {} < {}; ++{}) {{", name, name, text(var.node()->extent), name));
    position = position * var.node()->extent + var;
  }
  ExprEmitter emitter(loops_, schedule_, params_, scope(outer_vector, count), &temporaries_);
  for (const Reduction& reduction : phase.reductions) {
    ExprEmitter::Value value = emitter.emit(reduction.value);
    if (vector) value = emitter.as_vector(value);
    const std::string& name = accumulators_[reduction.local];
    if (is_arg(reduction.op)) {
      const char* better = reduction.op == ReduceOp::argmax ? ">" : "<";
      emitter.line(format(
          "if ({} < 0 || (!({}_best != {}_best) && ({} {} {}_best || {} != {}))) {{ {}_best = {}; {} = {}; }}", name,
          name, name, value.text, better, name, value.text, value.text, name, value.text, name, text(position)));
    } else {
      emitter.line(format("{} = {};", name, combine_text(reduction.op, name, value.text)));
    }
  }
  for (const StoreTo& store : phase.stores) emitter.store(store);
  out_ += emitter.take();
  for (size_t i = 0; i < phase.vars.size(); ++i) close();
  for (const Reduction& reduction : phase.reductions)
    locals_[reduction.local] = {accumulators_[reduction.local], vector, reduction.dtype};
}

bool NestEmitter::sums_long_runs(const Phase& phase) const {
  return !phase.reductions.empty() && !has_arg_reduction(phase) && !phase.vars.empty() &&
         at_hints(phase.vars.back().node()->extent) >= 8;
}

void NestEmitter::lane_sums_phase(const Phase& phase, const std::string& outer_vector, const std::string& count) {
  constexpr int64_t sum_run = 64;
  const bool vector = !outer_vector.empty();
  auto start = [&](const Reduction& reduction, const std::string& name) {
    const std::string first = identity_text(reduction.op, reduction.dtype);
    line(vector ? format("{} {} = splat_{}({});", vector_type(reduction.dtype), name, register_name(reduction.dtype),
                         first)
                : format("{} {} = {};", scalar_type(reduction.dtype), name, first));
  };
  int64_t cost = 0;
  for (const Reduction& reduction : phase.reductions) cost += cost_of(reduction.value);
  for (const StoreTo& store : phase.stores) cost += cost_of(store.value);
  const int copies = cost > 30 ? 1 : phase.reductions.size() > 2 ? 2 : 4;
  for (const Reduction& reduction : phase.reductions) {
    accumulators_[reduction.local] = format("l{}_{}", reduction.local, uses_++);
    start(reduction, accumulators_[reduction.local]);
  }
  int opened = 0;
  for (size_t i = 0; i + 1 < phase.vars.size(); ++i, ++opened) {
    const std::string name = declare(phase.vars[i]);
    open(format("for (i64 {} = 0; {} < {}; ++{}) {{", name, name, text(phase.vars[i].node()->extent), name));
  }
  const Sym& var = phase.vars.back();
  const std::string name = declare(var), extent = text(var.node()->extent), stop = format("stop{}", uses_++);
  open(format("for (i64 {0} = 0, {1}; {0} < {2}; {0} = {1}) {{", name, stop, extent));
  line(format("{1} = {0} + {3} < {2} ? {0} + {3} : {2};", name, stop, extent, sum_run));
  for (const Reduction& reduction : phase.reductions)
    for (int k = 0; k < copies; ++k) start(reduction, format("{}_{}", accumulators_[reduction.local], k));
  auto body = [&](int copy) {
    EmitScope s = scope(outer_vector, count);
    if (copy) s.variables[var.symbol_name()] = format("({} + {})", name, copy);
    ExprEmitter emitter(loops_, schedule_, params_, std::move(s), &temporaries_);
    for (const Reduction& reduction : phase.reductions) {
      ExprEmitter::Value value = emitter.emit(reduction.value);
      if (vector) value = emitter.as_vector(value);
      const std::string part = format("{}_{}", accumulators_[reduction.local], copy);
      emitter.line(format("{} = {};", part, combine_text(reduction.op, part, value.text)));
    }
    for (const StoreTo& store : phase.stores) emitter.store(store);
    out_ += emitter.take();
  };
  if (copies > 1) {
    open(format("for (; {0} + {1} <= {2}; {0} += {1}) {{", name, copies, stop));
    for (int k = 0; k < copies; ++k) body(k);
    close();
  }
  open(format("for (; {0} < {1}; ++{0}) {{", name, stop));
  body(0);
  close();
  for (const Reduction& reduction : phase.reductions) {
    const std::string& total = accumulators_[reduction.local];
    for (int step = copies / 2; step > 0; step /= 2)
      for (int k = 0; k < step; ++k)
        line(format("{}_{} = {};", total, k,
                    combine_text(reduction.op, format("{}_{}", total, k), format("{}_{}", total, k + step))));
    line(format("{} = {};", total, combine_text(reduction.op, total, format("{}_0", total))));
  }
  close();
  while (opened-- > 0) close();
  for (const Reduction& reduction : phase.reductions)
    locals_[reduction.local] = {accumulators_[reduction.local], vector, reduction.dtype};
}

void NestEmitter::running_phase(const Phase& phase) {
  for (const Reduction& reduction : phase.reductions) {
    const std::string name = format("l{}_{}", reduction.local, uses_++);
    line(format("{} {} = {};", scalar_type(reduction.dtype), name, identity_text(reduction.op, reduction.dtype)));
    locals_[reduction.local] = {name, false, reduction.dtype};
  }
  for (const Sym& var : phase.vars) {
    const std::string name = declare(var);
    open(format("for (i64 {} = 0; {} < {}; ++{}) {{", name, name, text(var.node()->extent), name));
  }
  ExprEmitter emitter(loops_, schedule_, params_, scope("", ""), &temporaries_);
  for (const Reduction& reduction : phase.reductions) {
    const std::string& name = locals_[reduction.local].text;
    emitter.line(format("{} = {};", name, combine_text(reduction.op, name, emitter.emit(reduction.value).text)));
  }
  out_ += emitter.take();
  ExprEmitter stores(loops_, schedule_, params_, scope("", ""), &temporaries_);
  for (const StoreTo& store : phase.stores) stores.store(store);
  out_ += stores.take();
  for (size_t i = 0; i < phase.vars.size(); ++i) close();
}

void NestEmitter::vector_phase(const Phase& phase) {
  if (phase.vars.empty()) return lane_phase(phase, "", "");
  int64_t cost = 0;
  for (const Reduction& reduction : phase.reductions) cost += cost_of(reduction.value);
  for (const StoreTo& store : phase.stores) cost += cost_of(store.value);
  // Several accumulators hide the latency of an addition; long bodies have enough to do.
  const int copies = phase.reductions.empty() ? 1 : cost <= 12 ? 4 : cost <= 30 ? 2 : 1;
  for (const Reduction& reduction : phase.reductions) {
    const std::string name = format("l{}_{}", reduction.local, uses_++);
    accumulators_[reduction.local] = name;
    for (int k = 0; k < copies; ++k)
      line(format("{} {}_{} = splat_{}({});", vector_type(reduction.dtype), name, k, register_name(reduction.dtype),
                  identity_text(reduction.op, reduction.dtype)));
  }
  int opened = 0;
  for (size_t i = 0; i + 1 < phase.vars.size(); ++i, ++opened) {
    const std::string name = declare(phase.vars[i]);
    open(format("for (i64 {} = 0; {} < {}; ++{}) {{", name, name, text(phase.vars[i].node()->extent), name));
  }
  const Sym& var = phase.vars.back();
  const std::string name = declare(var), extent = text(var.node()->extent);
  line(format("i64 {} = 0;", name));
  auto body = [&](int copy, const std::string& count) {
    EmitScope s = scope(var.symbol_name(), count);
    if (copy) s.variables[var.symbol_name()] = format("({} + {})", name, copy * lanes_);
    ExprEmitter emitter(loops_, schedule_, params_, std::move(s), &temporaries_);
    for (const Reduction& reduction : phase.reductions) {
      std::string value = emitter.as_vector(emitter.emit(reduction.value)).text;
      if (!count.empty())
        value = format("sel(mask_n({}), {}, splat_{}({}))", count, value, register_name(reduction.dtype),
                       identity_text(reduction.op, reduction.dtype));
      const std::string acc = format("{}_{}", accumulators_[reduction.local], copy);
      emitter.line(format("{} = {};", acc, combine_text(reduction.op, acc, value)));
    }
    for (const StoreTo& store : phase.stores) emitter.store(store);
    out_ += emitter.take();
  };
  if (copies > 1) {
    open(format("for (; {} + {} <= {}; {} += {}) {{", name, copies * lanes_, extent, name, copies * lanes_));
    for (int k = 0; k < copies; ++k) body(k, "");
    close();
  }
  open(format("for (; {} + {} <= {}; {} += {}) {{", name, lanes_, extent, name, lanes_));
  body(0, "");
  close();
  open(format("if ({} < {}) {{", name, extent));
  const std::string tail = format("tail{}", uses_++);
  line(format("const i64 {} = {} - {};", tail, extent, name));
  body(0, tail);
  close();
  while (opened-- > 0) close();
  for (const Reduction& reduction : phase.reductions) {
    const std::string& acc = accumulators_[reduction.local];
    for (int step = copies / 2; step > 0; step /= 2)
      for (int k = 0; k < step; ++k)
        line(format("{}_{} = {};", acc, k,
                    combine_text(reduction.op, format("{}_{}", acc, k), format("{}_{}", acc, k + step))));
    line(format("const {} {} = {}({}_0);", scalar_type(reduction.dtype), acc, across_text(reduction.op), acc));
    locals_[reduction.local] = {acc, false, reduction.dtype};
  }
}

int64_t NestEmitter::cost_of(ExprId id) const {
  int64_t cost = 1;
  const Expr& expr = loops_.pool[id];
  if (expr.kind == ExprKind::op) cost += expr.args.size() > 1 ? 1 : 3;
  for (ExprId arg : expr.args) {
    cost += cost_of(arg);
    if (cost > 100) return cost;
  }
  return cost;
}

NestText emit_nest(const Schedule& schedule, const LoopKernel& nest, KernelParams& params, int lanes,
                   const std::map<std::string, int64_t>& hint_values) {
  return NestEmitter(schedule, nest, params, lanes, hint_values).emit();
}

}  // namespace toroid::emit
