// Loops, vectors and accumulators of a LoopKernel. Which elements go to which accumulator depends on the sizes alone,
// so the bits do not depend on how units are shared out.
#include "emit/cpu/nest.h"

#include <algorithm>

#include "base/check.h"

namespace toroid::emit {
namespace {

constexpr int64_t wanted_units = 64;     // enough for threads to share
constexpr int64_t unit_elements = 4096;  // work of a unit, when the vector variable alone has to be shared out

class NestEmitter {
 public:
  NestEmitter(const Schedule& schedule, const LoopKernel& nest, KernelParams& params, int lanes,
              const std::map<std::string, int64_t>& hint_values)
      : schedule_(schedule), loops_(schedule.loops), nest_(nest), params_(params), lanes_(lanes), hints_(hint_values) {}

  NestText emit() {
    if (nest_.blocks) return emit_blocks();
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
    NestText result;
    result.body = std::move(out_);
    // The caller of the kernel has its symbols in `s`.
    result.units = to_c(count, [&](const std::string& name) { return format("s[{}]", params_.symbol_slot(name)); });
    return result;
  }

 private:
  // Each unit is one block of outer points with its own copy of the totals; sums go through a copy for 64 points at a
  // time, so that rounding errors do not grow with the number of points.
  NestText emit_blocks() {
    const int64_t blocks = nest_.blocks;
    line(format("char* const scratch = {};", params_.scratch()));
    std::string bytes = "0";
    std::vector<Total> totals;
    for (TensorId id : nest_.totals) {
      const LoopTensor& tensor = loops_[id];
      Total total{id, *total_op(id), tensor.dtype, bytes, ""};
      total.padded = format("(({} + 63) / 64 * 64)", text(product(tensor.sizes)));
      append(bytes, " + {} * {}", total.padded, dtype_bytes(tensor.dtype));
      totals.push_back(std::move(total));
    }
    line(format("const i64 copy = {};", bytes));
    Sym points = 1;
    for (const Sym& var : nest_.outer) points *= var.node()->extent;
    line(format("const i64 points = {};", text(points)));
    auto pointers = [&](const std::string& name, const std::string& which) {
      for (size_t t = 0; t < totals.size(); ++t)
        line(format("{0}* const {1}{2} = ({0}*)(scratch + 64 + ({3}) * copy + ({4}));", c_type(totals[t].dtype), name,
                    t, which, totals[t].offset));
    };
    auto clear = [&](const std::string& name) {
      for (size_t t = 0; t < totals.size(); ++t) {
        const std::string type = c_type(totals[t].dtype);
        line(format("for (i64 i = 0; i < {0}; i += {1}) store_{2}({3}{4} + i, splat_{2}({5}));", totals[t].padded,
                    lanes_, type, name, t, identity(totals[t].op, totals[t].dtype)));
      }
    };
    auto add = [&](const std::string& to, const std::string& from) {
      for (size_t t = 0; t < totals.size(); ++t) {
        const std::string type = c_type(totals[t].dtype);
        const std::string value =
            combine(totals[t].op, format("load_{}({}{} + i)", type, to, t), format("load_{}({}{} + i)", type, from, t));
        line(format("for (i64 i = 0; i < {}; i += {}) store_{}({}{} + i, {});", totals[t].padded, lanes_, type, to, t,
                    value));
      }
    };

    open("for (i64 u = begin; u < end; ++u) {");
    pointers("sum", "u");
    pointers("part", format("{} + u", blocks));
    clear("sum");
    line(format("i64 q = u * points / {0}; const i64 last = (u + 1) * points / {0};", blocks));
    open("while (q < last) {");
    clear("part");
    line("const i64 stop = q + 64 < last ? q + 64 : last;");
    open("for (; q < stop; ++q) {");
    std::string rest = "q";
    for (size_t i = nest_.outer.size(); i-- > 0;) {
      const std::string name = declare(nest_.outer[i]);
      const std::string extent = text(nest_.outer[i].node()->extent);
      line(i ? format("const i64 {} = {} % {};", name, rest, extent) : format("const i64 {} = {};", name, rest));
      if (i) line(format("const i64 r{} = {} / {};", i, rest, extent));
      rest = format("r{}", i);
    }
    declare_rows();
    for (size_t t = 0; t < totals.size(); ++t) rows_[totals[t].id] = format("part{}", t);
    phases(nest_.phases, "", "");
    close();
    add("sum", "part");
    close();
    close();

    open(format("if (__atomic_add_fetch((i64*)scratch, end - begin, __ATOMIC_ACQ_REL) == {}) {{", blocks));
    pointers("sum", "0");
    open(format("for (i64 u = 1; u < {}; ++u) {{", blocks));
    pointers("part", "u");
    add("sum", "part");
    close();
    for (size_t t = 0; t < totals.size(); ++t) rows_[totals[t].id] = format("sum{}", t);
    phases(nest_.finish, "", "");
    close();
    NestText result;
    result.body = std::move(out_);
    result.units = format("{}", blocks);
    std::string copy_bytes = "0";
    for (TensorId id : nest_.totals) {
      const LoopTensor& tensor = loops_[id];
      append(copy_bytes, " + ({} + 63) / 64 * 64 * {}",
             to_c(product(tensor.sizes),
                  [&](const std::string& name) { return format("s[{}]", params_.symbol_slot(name)); }),
             dtype_bytes(tensor.dtype));
    }
    result.scratch_bytes = format("64 + {} * ({})", 2 * blocks, copy_bytes);
    return result;
  }
  struct Total {
    TensorId id;
    ReduceOp op;
    DType dtype;
    std::string offset, padded;  // in bytes, in elements
  };
  std::optional<ReduceOp> total_op(TensorId id) const {
    for (const Phase& phase : nest_.phases)
      for (const StoreTo& store : phase.stores)
        if (store.tensor == id) return store.into;
    return std::nullopt;
  }

  // Elements that the phases visit for one outer point.
  int64_t work_of_one_point() const {
    int64_t work = 1;
    for (const Phase& phase : nest_.phases) {
      int64_t elements = 1;
      for (const Sym& var : phase.vars) elements *= std::max<int64_t>(1, at_hints(var.node()->extent));
      work = std::max(work, elements);
    }
    return work;
  }
  int64_t at_hints(const Sym& sym) const {
    std::map<std::string, int64_t> values = hints_;
    std::set<std::string> names;
    collect_symbols(sym, names);
    for (const std::string& name : names) values.emplace(name, 1);
    return evaluate(sym, values);
  }
  void line(const std::string& text) { out_.append(static_cast<size_t>(depth_) * 2, ' ').append(text).append("\n"); }
  void open(const std::string& text) { line(text), ++depth_; }
  void close() { --depth_, line("}"); }
  std::string text(const Sym& sym) {
    return to_c(sym, [&](const std::string& name) {
      auto found = variables_.find(name);
      return found != variables_.end() ? found->second : params_.symbol(name);
    });
  }
  std::string declare(const Sym& var) {
    const std::string name = format("i{}", variable_count_++);
    variables_[var.symbol_name()] = name;
    return name;
  }

  void declare_rows() {
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

  EmitScope scope(const std::string& vector_variable, const std::string& count) const {
    EmitScope s;
    s.variables = variables_;
    s.vector_variable = vector_variable;
    s.count = count;
    s.locals = locals_;
    s.rows = rows_;
    return s;
  }

  // All phases for one outer point, or for LANES of them when `outer_vector` names the vectorised outer variable.
  void phases(const std::string& outer_vector, const std::string& count) { phases(nest_.phases, outer_vector, count); }
  void phases(const std::vector<Phase>& list, const std::string& outer_vector, const std::string& count) {
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

  static bool is_arg(ReduceOp op) { return op == ReduceOp::argmin || op == ReduceOp::argmax; }
  static bool has_arg_reduction(const Phase& phase) {
    return std::any_of(phase.reductions.begin(), phase.reductions.end(),
                       [](const Reduction& r) { return is_arg(r.op); });
  }

  // The value that a reduction of nothing has.
  std::string identity(ReduceOp op, DType dtype) const {
    switch (op) {
      case ReduceOp::sum: return format("({})0", is_bool(dtype) ? "bool" : c_type(dtype));
      case ReduceOp::prod: return format("({})1", c_type(dtype));
      case ReduceOp::any: return "false";
      case ReduceOp::all: return "true";
      case ReduceOp::min: return limit(dtype, true);
      case ReduceOp::max: return limit(dtype, false);
      case ReduceOp::argmin:
      case ReduceOp::argmax: break;
    }
    return "0";
  }
  static std::string limit(DType dtype, bool highest) {
    switch (dtype) {
      case DType::f32: return highest ? "__builtin_inff()" : "(-__builtin_inff())";
      case DType::f64: return highest ? "__builtin_inf()" : "(-__builtin_inf())";
      case DType::i8: return highest ? "(i8)127" : "(i8)-128";
      case DType::i16: return highest ? "(i16)32767" : "(i16)-32768";
      case DType::i32: return highest ? "(i32)0x7fffffff" : "(i32)(-0x7fffffff - 1)";
      case DType::i64: return highest ? "(i64)0x7fffffffffffffffLL" : "(i64)(-0x7fffffffffffffffLL - 1)";
      case DType::u8: return highest ? "(u8)255" : "(u8)0";
      case DType::u16: return highest ? "(u16)65535" : "(u16)0";
      case DType::u32: return highest ? "(u32)0xffffffffu" : "(u32)0";
      case DType::u64: return highest ? "(u64)0xffffffffffffffffull" : "(u64)0";
      case DType::b8: return highest ? "true" : "false";
      default: break;
    }
    internal_error(__FILE__, __LINE__, "no limit for this dtype");
  }
  static std::string combine(ReduceOp op, const std::string& a, const std::string& b) { return combine_text(op, a, b); }
  static std::string across(ReduceOp op) {
    switch (op) {
      case ReduceOp::sum: return "hsum";
      case ReduceOp::prod: return "hprod";
      case ReduceOp::min: return "hmin";
      case ReduceOp::max: return "hmax";
      case ReduceOp::any: return "hany";
      case ReduceOp::all: return "hall";
      default: break;
    }
    internal_error(__FILE__, __LINE__, "a reduction without a tree");
  }
  static std::string scalar_type(DType dtype) { return is_bool(dtype) ? "bool" : c_type(dtype); }

  // One element at a time along the phase's variables; values are vectors when an outer variable is.
  void lane_phase(const Phase& phase, const std::string& outer_vector, const std::string& count) {
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
                    identity(reduction.op, dtype)));
      } else {
        line(format("{} {} = {};", scalar_type(dtype), name, identity(reduction.op, dtype)));
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
        emitter.line(format("{} = {};", name, combine(reduction.op, name, value.text)));
      }
    }
    for (const StoreTo& store : phase.stores) emitter.store(store);
    out_ += emitter.take();
    for (size_t i = 0; i < phase.vars.size(); ++i) close();
    for (const Reduction& reduction : phase.reductions)
      locals_[reduction.local] = {accumulators_[reduction.local], vector, reduction.dtype};
  }

  // Whether a reduction runs so far along its innermost variable that cutting it pays.
  bool sums_long_runs(const Phase& phase) const {
    return !phase.reductions.empty() && !has_arg_reduction(phase) && !phase.vars.empty() &&
           at_hints(phase.vars.back().node()->extent) >= 8;
  }

  // As lane_phase, with several accumulators, which are added to the totals after `sum_run` steps: an addition takes
  // longer to finish than to start, and the rounding error of a running sum grows with its length (a mean over 112 x
  // 112 pixels in one run would be off by a hundred roundings).
  void lane_sums_phase(const Phase& phase, const std::string& outer_vector, const std::string& count) {
    constexpr int64_t sum_run = 64;
    const bool vector = !outer_vector.empty();
    auto start = [&](const Reduction& reduction, const std::string& name) {
      const std::string first = identity(reduction.op, reduction.dtype);
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
        emitter.line(format("{} = {};", part, combine(reduction.op, part, value.text)));
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
                      combine(reduction.op, format("{}_{}", total, k), format("{}_{}", total, k + step))));
      line(format("{} = {};", total, combine(reduction.op, total, format("{}_0", total))));
    }
    close();
    while (opened-- > 0) close();
    for (const Reduction& reduction : phase.reductions)
      locals_[reduction.local] = {accumulators_[reduction.local], vector, reduction.dtype};
  }

  // In order, each store seeing the reductions so far.
  void running_phase(const Phase& phase) {
    for (const Reduction& reduction : phase.reductions) {
      const std::string name = format("l{}_{}", reduction.local, uses_++);
      line(format("{} {} = {};", scalar_type(reduction.dtype), name, identity(reduction.op, reduction.dtype)));
      locals_[reduction.local] = {name, false, reduction.dtype};
    }
    for (const Sym& var : phase.vars) {
      const std::string name = declare(var);
      open(format("for (i64 {} = 0; {} < {}; ++{}) {{", name, name, text(var.node()->extent), name));
    }
    ExprEmitter emitter(loops_, schedule_, params_, scope("", ""), &temporaries_);
    for (const Reduction& reduction : phase.reductions) {
      const std::string& name = locals_[reduction.local].text;
      emitter.line(format("{} = {};", name, combine(reduction.op, name, emitter.emit(reduction.value).text)));
    }
    out_ += emitter.take();
    ExprEmitter stores(loops_, schedule_, params_, scope("", ""), &temporaries_);
    for (const StoreTo& store : phase.stores) stores.store(store);
    out_ += stores.take();
    for (size_t i = 0; i < phase.vars.size(); ++i) close();
  }

  // LANES elements at a time along the innermost variable.
  void vector_phase(const Phase& phase) {
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
                    identity(reduction.op, reduction.dtype)));
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
                         identity(reduction.op, reduction.dtype));
        const std::string acc = format("{}_{}", accumulators_[reduction.local], copy);
        emitter.line(format("{} = {};", acc, combine(reduction.op, acc, value)));
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
                      combine(reduction.op, format("{}_{}", acc, k), format("{}_{}", acc, k + step))));
      line(format("const {} {} = {}({}_0);", scalar_type(reduction.dtype), acc, across(reduction.op), acc));
      locals_[reduction.local] = {acc, false, reduction.dtype};
    }
  }

  int64_t cost_of(ExprId id) const {
    int64_t cost = 1;
    const Expr& expr = loops_.pool[id];
    if (expr.kind == ExprKind::op) cost += expr.args.size() > 1 ? 1 : 3;
    for (ExprId arg : expr.args) {
      cost += cost_of(arg);
      if (cost > 100) return cost;
    }
    return cost;
  }

  const Schedule& schedule_;
  const Loops& loops_;
  const LoopKernel& nest_;
  KernelParams& params_;
  const int lanes_;
  const std::map<std::string, int64_t>& hints_;
  std::string out_;
  int depth_ = 1, variable_count_ = 0, temporaries_ = 0, uses_ = 0;
  std::map<std::string, std::string> variables_;
  std::map<int32_t, EmitScope::Local> locals_;
  std::map<int32_t, std::string> accumulators_;
  std::map<TensorId, std::string> rows_;
};

}  // namespace

NestText emit_nest(const Schedule& schedule, const LoopKernel& nest, KernelParams& params, int lanes,
                   const std::map<std::string, int64_t>& hint_values) {
  return NestEmitter(schedule, nest, params, lanes, hint_values).emit();
}

}  // namespace toroid::emit
