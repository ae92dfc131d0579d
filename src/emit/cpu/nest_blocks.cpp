// Kernels with totals: blocks of outer points with copies of their own, combined in a tree by whoever ends last.
#include "emit/cpu/nest_emitter.h"

namespace toroid::emit {

NestText NestEmitter::emit_blocks() {
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
      line(format("{0}* const {1}{2} = ({0}*)(scratch + 64 + ({3}) * copy + ({4}));", c_type(totals[t].dtype), name, t,
                  which, totals[t].offset));
  };
  // Nothing but totals of columns: they stay in registers for 64 points.
  const bool columns = std::all_of(nest_.phases.begin(), nest_.phases.end(),
                                   [this](const Phase& phase) { return makes_columns(phase); });
  auto clear = [&](const std::string& name) {
    for (size_t t = 0; t < totals.size(); ++t) {
      const std::string type = c_type(totals[t].dtype);
      line(format("for (i64 i = 0; i < {0}; i += {1}) store_{2}({3}{4} + i, splat_{2}({5}));", totals[t].padded, lanes_,
                  type, name, t, identity_text(totals[t].op, totals[t].dtype)));
    }
  };
  auto add = [&](const std::string& to, const std::string& from) {
    for (size_t t = 0; t < totals.size(); ++t) {
      const std::string type = c_type(totals[t].dtype);
      const std::string value = combine_text(totals[t].op, format("load_{}({}{} + i)", type, to, t),
                                             format("load_{}({}{} + i)", type, from, t));
      line(format("for (i64 i = 0; i < {}; i += {}) store_{}({}{} + i, {});", totals[t].padded, lanes_, type, to, t,
                  value));
    }
  };

  open("for (i64 u = begin; u < end; ++u) {");
  pointers("sum", "u");
  if (!columns) pointers("part", format("{} + u", blocks));
  clear("sum");
  line(format("i64 q = u * points / {0}; const i64 last = (u + 1) * points / {0};", blocks));
  open("while (q < last) {");
  if (!columns) clear("part");
  line("const i64 stop = q + 64 < last ? q + 64 : last;");
  for (size_t t = 0; t < totals.size(); ++t) rows_[totals[t].id] = format("{}{}", columns ? "sum" : "part", t);
  if (columns) {
    for (const Phase& phase : nest_.phases) column_phase(phase);
    line("q = stop;");
  } else {
    open("for (; q < stop; ++q) {");
    decode_point("q");
    declare_rows();
    phases(nest_.phases, "", "");
    close();
    add("sum", "part");
  }
  close();
  close();

  open(format("if (__atomic_add_fetch((i64*)scratch, end - begin, __ATOMIC_ACQ_REL) == {}) {{", blocks));
  // Pairs, then pairs of pairs: the error of a sum grows with the tree's depth.
  open(format("for (i64 step = 1; step < {}; step *= 2) {{", blocks));
  open(format("for (i64 u = 0; u + step < {}; u += 2 * step) {{", blocks));
  pointers("sum", "u");
  pointers("part", "u + step");
  add("sum", "part");
  close();
  close();
  pointers("sum", "0");
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
  result.scratch_bytes = format("64 + {} * ({})", columns ? blocks : 2 * blocks, copy_bytes);
  return result;
}

void NestEmitter::decode_point(const std::string& point) {
  std::string rest = point;
  for (size_t i = nest_.outer.size(); i-- > 0;) {
    const std::string name = declare(nest_.outer[i]);
    const std::string extent = text(nest_.outer[i].node()->extent);
    line(i ? format("const i64 {} = {} % {};", name, rest, extent) : format("const i64 {} = {};", name, rest));
    if (i) line(format("const i64 r{} = {} / {};", i, rest, extent));
    rest = format("r{}", i);
  }
}

bool NestEmitter::makes_columns(const Phase& phase) const {
  if (nest_.scalar || phase.vars.empty() || !phase.reductions.empty() || phase.running) return false;
  return std::all_of(phase.stores.begin(), phase.stores.end(), [&](const StoreTo& store) {
    auto along = linear_in(store_address(schedule_, store), phase.vars.back().symbol_name());
    return store.into && along && along->coefficient == Sym(1);
  });
}

void NestEmitter::column_phase(const Phase& phase) {
  int64_t cost = 0;
  for (const StoreTo& store : phase.stores) cost += cost_of(store.value);
  const int copies = cost <= 12 ? 4 : cost <= 30 ? 2 : 1;
  for (size_t i = 0; i + 1 < phase.vars.size(); ++i) {
    const std::string name = declare(phase.vars[i]);
    open(format("for (i64 {} = 0; {} < {}; ++{}) {{", name, name, text(phase.vars[i].node()->extent), name));
  }
  const Sym& var = phase.vars.back();
  const std::string name = declare(var), extent = text(var.node()->extent);
  line(format("i64 {} = 0;", name));
  auto sums = [&](int count, const std::string& tail) {
    std::vector<std::vector<std::string>> names(phase.stores.size());
    for (size_t s = 0; s < phase.stores.size(); ++s)
      for (int k = 0; k < count; ++k) {
        const DType dtype = loops_.pool[phase.stores[s].value].dtype;
        names[s].push_back(format("c{}", uses_++));
        line(format("{} {} = splat_{}({});", vector_type(dtype), names[s].back(), register_name(dtype),
                    identity_text(*phase.stores[s].into, dtype)));
      }
    open("for (i64 point = q; point < stop; ++point) {");
    decode_point("point");
    auto scope_of = [&](int k) {
      EmitScope s = scope(var.symbol_name(), tail);
      if (k) s.variables[var.symbol_name()] = format("({} + {})", name, k * lanes_);
      return s;
    };
    for (int k = 0; k < count; ++k) {
      ExprEmitter emitter(loops_, schedule_, params_, scope_of(k), &temporaries_);
      for (size_t s = 0; s < phase.stores.size(); ++s) {
        const std::string& sum = names[s][static_cast<size_t>(k)];
        const std::string value = emitter.as_vector(emitter.emit(phase.stores[s].value)).text;
        emitter.line(format("{} = {};", sum, combine_text(*phase.stores[s].into, sum, value)));
      }
      out_ += emitter.take();
    }
    close();
    for (int k = 0; k < count; ++k) {
      ExprEmitter emitter(loops_, schedule_, params_, scope_of(k), &temporaries_);
      for (size_t s = 0; s < phase.stores.size(); ++s) {
        const StoreTo& store = phase.stores[s];
        const std::string type = c_type(loops_[store.tensor].dtype), mask = tail.empty() ? "" : ", " + tail;
        const std::string at =
            format("{} + {}", rows_.at(store.tensor), emitter.index_text(store_address(schedule_, store)));
        emitter.line(
            format("store_{}({}, {}{});", type, at,
                   combine_text(*store.into, format("load_{}({}{})", type, at, mask), names[s][static_cast<size_t>(k)]),
                   mask));
      }
      out_ += emitter.take();
    }
  };
  if (copies > 1) {
    open(format("for (; {} + {} <= {}; {} += {}) {{", name, copies * lanes_, extent, name, copies * lanes_));
    sums(copies, "");
    close();
  }
  open(format("for (; {} + {} <= {}; {} += {}) {{", name, lanes_, extent, name, lanes_));
  sums(1, "");
  close();
  open(format("if ({} < {}) {{", name, extent));
  const std::string tail = format("tail{}", uses_++);
  line(format("const i64 {} = {} - {};", tail, extent, name));
  sums(1, tail);
  close();
  for (size_t i = 0; i + 1 < phase.vars.size(); ++i) close();
}

std::optional<ReduceOp> NestEmitter::total_op(TensorId id) const {
  for (const Phase& phase : nest_.phases)
    for (const StoreTo& store : phase.stores)
      if (store.tensor == id) return store.into;
  return std::nullopt;
}

}  // namespace toroid::emit
