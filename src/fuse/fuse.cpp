// The steps of fusion in order; then the kernels in an order that respects what they read, with their cost.
#include "fuse/fuse.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "fuse/attention.h"
#include "fuse/copies.h"
#include "fuse/program.h"

namespace toroid::fuse {
namespace {

// Bytes that a kernel moves for one load or store: the elements that its loops touch, no more than there are.
class Traffic {
 public:
  Traffic(Program& program, const Schedule& schedule) : program_(program), schedule_(schedule) {}

  void count(Kernel& kernel) {
    Sym bytes = 0, operations = 0;
    std::set<std::pair<int32_t, std::string>> seen;
    std::map<TensorId, Sym> per_tensor;
    auto access = [&](TensorId tensor, const std::vector<ExprId>& index, const SymList& loops) {
      const LoopTensor& t = program_.loops[tensor];
      auto where = element_address(program_.pool(), schedule_.place(tensor), index);
      Sym touched = 1;
      for (const Sym& var : loops)
        if (!where || depends_on(*where, var.symbol_name())) touched *= var.node()->extent;
      if (where && program_.at_hints(touched) > program_.elements_at_hints(tensor)) touched = product(t.sizes);
      if (!where && program_.at_hints(touched) > program_.elements_at_hints(tensor)) touched = product(t.sizes);
      const std::string key = where ? to_string(where->is_constant() ? Sym(0) : *where) : "gather";
      // Within one kernel a tensor passes through memory once, however often its elements are read.
      if (!seen.insert({tensor.index, key}).second) return;
      Sym& counted = per_tensor[tensor];
      const Sym whole = product(t.sizes), wanted = counted + touched;
      const Sym now = program_.at_hints(wanted) > program_.at_hints(whole) ? whole : wanted;
      bytes += (now - counted) * Sym(dtype_bytes(t.dtype));
      counted = now;
    };
    auto expression = [&](ExprId value, const SymList& loops) {
      std::vector<ExprId> loads;
      collect_loads(program_.pool(), value, loads);
      for (ExprId load : loads) {
        const Expr& expr = program_.pool()[load];
        if (schedule_.place(expr.tensor).buffer) access(expr.tensor, expr.args, loops);
      }
      Sym points = 1;
      for (const Sym& var : loops) points *= var.node()->extent;
      operations += points * Sym(expression_cost(program_.pool(), value));
    };
    if (std::holds_alternative<CallKernel>(kernel.work)) {
      for (const auto* list : {&kernel.reads, &kernel.writes})
        for (TensorId id : *list) bytes += tensor_bytes(id);
      return void(kernel.bytes = bytes);
    }
    if (auto* nest = std::get_if<LoopKernel>(&kernel.work)) {
      for (const Phase* phase : nest->all_phases()) {
        SymList loops = nest->outer;
        if (phase >= nest->finish.data() && phase < nest->finish.data() + nest->finish.size()) loops.clear();
        loops.insert(loops.end(), phase->vars.begin(), phase->vars.end());
        for (const Reduction& reduction : phase->reductions) expression(reduction.value, loops);
        for (const StoreTo& store : phase->stores) {
          expression(store.value, loops);
          if (schedule_.place(store.tensor).buffer) access(store.tensor, store.index, loops);
        }
      }
      // Each block writes its copy of the totals once, and all are read once.
      for (TensorId total : nest->totals) bytes += tensor_bytes(total) * Sym(2 * nest->blocks);
      kernel.flops = operations;
      // Sixteen lanes or fewer a cycle, eight bytes a nanosecond from memory.
      kernel.nanoseconds = floor_div(operations, 24) + floor_div(bytes, 12);
      return void(kernel.bytes = bytes);
    }
    SymList loops;
    auto stored = [&](const StoreTo& store) {
      expression(store.value, loops);
      access(store.tensor, store.index, loops);
    };
    auto var = [&](const char* name, const Sym& extent) { loops.push_back(Sym::index(name, extent)); };
    if (auto* work = std::get_if<MatmulKernel>(&kernel.work)) {
      var("b0", work->batch), var("m0", work->m), var("n0", work->columns[0].n);
      bytes += tensor_bytes(work->a);
      for (const MatmulKernel::Columns& columns : work->columns)
        for (const MatmulKernel::Right& b : columns.right)
          bytes += b.packed ? buffer_bytes(b.packed) : tensor_bytes(b.tensor);
      size_t at = 0;
      for (const MatmulKernel::Columns& columns : work->columns) {
        loops.back() = Sym::index("n0", columns.n);
        for (size_t end = at + columns.stores; at < end; ++at) stored(kernel.epilogue[at]);
      }
    } else if (auto* work = std::get_if<ConvKernel>(&kernel.work)) {
      var("n0", work->batch), var("h0", work->out_h), var("w0", work->out_w), var("c0", work->out_channels);
      bytes += tensor_bytes(work->x) + buffer_bytes(work->packed);
    } else if (auto* work = std::get_if<AttentionKernel>(&kernel.work)) {
      var("b0", work->batch), var("h0", work->heads), var("m0", work->queries), var("d0", work->value_size);
      bytes += tensor_bytes(work->q) + tensor_bytes(work->k) + tensor_bytes(work->v);
    } else if (auto* work = std::get_if<RoutineKernel>(&kernel.work)) {
      for (TensorId input : work->inputs) bytes += tensor_bytes(input);
      bytes += tensor_bytes(work->output);
      // No count of a routine's work is known: some operations for each byte.
      kernel.flops = bytes * 4;
    }
    if (!std::holds_alternative<MatmulKernel>(kernel.work))
      for (const StoreTo& store : kernel.epilogue) stored(store);
    kernel.bytes = bytes;
    kernel.nanoseconds = floor_div(kernel.flops, 80) + floor_div(bytes, 40);
  }

 private:
  Sym tensor_bytes(TensorId id) const {
    return product(program_.loops[id].sizes) * Sym(dtype_bytes(program_.loops[id].dtype));
  }
  Sym buffer_bytes(BufferId id) const { return schedule_[id].elements * Sym(dtype_bytes(schedule_[id].dtype)); }
  Program& program_;
  const Schedule& schedule_;
};

void collect_reads(const Program& program, const Kernel& kernel, std::vector<TensorId>& reads) {
  auto add = [&](TensorId id) {
    if (std::find(reads.begin(), reads.end(), id) == reads.end()) reads.push_back(id);
  };
  for (TensorId id : kernel.reads) add(id);
  each_expression(kernel, [&](ExprId value) {
    std::vector<ExprId> loads;
    collect_loads(program.loops.pool, value, loads);
    for (ExprId load : loads) add(program.loops.pool[load].tensor);
  });
}

Kernel call_kernel(const Loops& loops, const LoopCall& call) {
  Kernel kernel;
  CallKernel work;
  work.function = call.function;
  work.operands = call.operands;
  work.results = call.results;
  work.attributes = call.attributes;
  kernel.work = std::move(work);
  kernel.reads = call.operands;
  kernel.writes = call.results;
  kernel.device = loops[call.results[0]].device;
  kernel.where = call.where;
  kernel.note = call.function;
  return kernel;
}

// k3.0.k1: kernel 1 in program 0 of kernel 3.
void prefix_names(Schedule& schedule, const std::string& prefix) {
  for (Kernel& kernel : schedule.kernels) {
    kernel.name = prefix + kernel.name;
    if (auto* call = std::get_if<CallKernel>(&kernel.work))
      for (Schedule& body : call->bodies) prefix_names(body, prefix);
  }
}

// The programs of calls, each fused by itself. They leave the loops: from here on a call is its kernel.
Status fuse_bodies(Schedule& schedule, const Target& target, const FuseOptions& options) {
  for (Kernel& kernel : schedule.kernels) {
    auto* work = std::get_if<CallKernel>(&kernel.work);
    if (!work) continue;
    LoopCall& call = schedule.loops[schedule.loops[work->results[0]].call];
    for (size_t b = 0; b < call.bodies.size(); ++b) {
      TD_TRY(Schedule body, fuse_loops(std::move(call.bodies[b]), target, options));
      prefix_names(body, format("{}.{}.", kernel.name, b));
      for (std::string& line : body.explanations) schedule.explanations.push_back(std::move(line));
      work->bodies.push_back(std::move(body));
    }
    Sym work_done = 0;
    for (const Schedule& body : work->bodies)
      for (const Kernel& inner : body.kernels) work_done += inner.nanoseconds;
    kernel.nanoseconds = work_done;
  }
  for (LoopTensor& tensor : schedule.loops.tensors)
    if (tensor.kind == TensorKind::called) tensor.kind = TensorKind::computed, tensor.call = {};
  schedule.loops.calls.clear();
  return {};
}

Kernel build_routine(const Program& program, TensorId id) {
  const LoopTensor& tensor = program.loops[id];
  const Expr& call = program.loops.pool[program[id].body];
  RoutineKernel work;
  work.routine = call.local;
  work.output = id;
  for (ExprId arg : call.args) {
    const Expr& e = program.loops.pool[arg];
    if (e.kind == ExprKind::load) work.inputs.push_back(e.tensor);
    if (e.kind == ExprKind::index) work.integers.push_back(e.sym);
    if (e.kind == ExprKind::constant) work.numbers.push_back(e.number);
  }
  work.dtype = program.loops[work.inputs.empty() ? id : work.inputs[0]].dtype;
  Kernel kernel;
  for (TensorId input : work.inputs)
    if (std::find(kernel.reads.begin(), kernel.reads.end(), input) == kernel.reads.end()) kernel.reads.push_back(input);
  kernel.writes = {id};
  kernel.where = tensor.where;
  kernel.device = tensor.device;
  kernel.note = tensor.name;
  kernel.work = std::move(work);
  return kernel;
}

// Kernels after everything that they read; among those that are ready, the one whose first tensor comes first.
std::vector<Kernel> in_order(std::vector<Kernel> kernels) {
  std::map<TensorId, size_t> writer;
  for (size_t k = 0; k < kernels.size(); ++k)
    for (TensorId id : kernels[k].writes) writer[id] = k;
  std::vector<std::set<size_t>> needs(kernels.size());
  for (size_t k = 0; k < kernels.size(); ++k)
    for (TensorId id : kernels[k].reads)
      if (auto found = writer.find(id); found != writer.end() && found->second != k) needs[k].insert(found->second);
  std::vector<Kernel> ordered;
  std::vector<bool> done(kernels.size(), false);
  while (ordered.size() < kernels.size()) {
    size_t next = kernels.size();
    for (size_t k = 0; k < kernels.size(); ++k) {
      if (done[k]) continue;
      if (!std::all_of(needs[k].begin(), needs[k].end(), [&](size_t n) { return done[n]; })) continue;
      if (next == kernels.size() || kernels[k].writes.front() < kernels[next].writes.front()) next = k;
    }
    TD_CHECK(next < kernels.size(), "kernels need each other in a circle");
    done[next] = true;
    ordered.push_back(std::move(kernels[next]));
  }
  return ordered;
}

// One attempt. Names what could not be one attention kernel in `refused`, contractions without a template whose
// epilogue walks them otherwise in `plain`, or what must be copied first in `wishes`, and then gives nothing. `copied`
// are the readers that had their copies.
std::optional<Schedule> try_fuse(Loops loops, const Target& target, const FuseOptions& options,
                                 std::set<std::string>& refused, std::set<std::string>& plain,
                                 std::set<std::string>& copied, std::vector<CopyWish>& wishes) {
  Schedule schedule;
  schedule.loops = std::move(loops);
  Program program{schedule.loops, target, hints(schedule.loops), {}, {}, {}, options.explain};
  program.plain_epilogue = plain;
  classify(program);
  find_attention(program, refused);
  inline_maps(program);
  fold_weights(program);
  reindex_reductions(program);
  group_tensors(program);
  choose_places(program, schedule);

  std::vector<Kernel> kernels;
  bool complete = true;
  std::vector<std::string> not_plain;
  for (const Group& group : program.groups) {
    if (!group.members.empty() && program[group.members[0]].kind == Kind::call) {
      const LoopCall& call = schedule.loops[schedule.loops[group.members[0]].call];
      if (call.results.front() == group.members[0]) kernels.push_back(call_kernel(schedule.loops, call));
      continue;
    }
    if (group.is_template) {
      if (auto kernel = match_template(program, schedule, group)) {
        kernels.push_back(std::move(*kernel));
        continue;
      }
      if (program[group.members[0]].attention) {
        refused.insert(program.loops[group.members[0]].name);
        complete = false;
        continue;
      }
      if (!group.plain) {
        not_plain.push_back(program.loops[group.members[0]].name);
        continue;
      }
    }
    if (const TensorId id = group.members.empty() ? group.finish[0] : group.members[0];
        program[id].kind == Kind::copy) {
      Kernel copy;
      copy.reads = {program[id].uses.at(0).tensor};
      copy.writes = {id};
      kernels.push_back(std::move(copy));
      continue;
    }
    if (!group.members.empty() && program[group.members[0]].kind == Kind::routine) {
      kernels.push_back(build_routine(program, group.members[0]));
      continue;
    }
    kernels.push_back(build_nest(program, schedule, group));
  }
  for (const CopyWish& wish : program.wishes)
    if (copied.insert(format("{} {}", program.loops[wish.reader].name, wish.second)).second) wishes.push_back(wish);
  // With its copies it may fit.
  if (wishes.empty()) plain.insert(not_plain.begin(), not_plain.end());
  if (!complete || !wishes.empty() || !not_plain.empty()) return std::nullopt;
  // A kernel comes after what the symbols in it are read from.
  std::map<int32_t, std::vector<TensorId>> symbol_sources;
  for (size_t i = 0; i < program.items.size(); ++i)
    if (program.items[i].group >= 0)
      for (TensorId source : program.symbol_sources[i]) symbol_sources[program.items[i].group].push_back(source);
  for (Kernel& kernel : kernels)
    if (!kernel.writes.empty())
      for (TensorId source : symbol_sources[program[kernel.writes[0]].group])
        if (std::find(kernel.reads.begin(), kernel.reads.end(), source) == kernel.reads.end())
          kernel.reads.push_back(source);
  join_products(program, schedule, kernels);
  share_packed(program, schedule, kernels);
  Traffic traffic(program, schedule);
  for (Kernel& kernel : kernels) {
    std::vector<TensorId> reads;
    collect_reads(program, kernel, reads);
    // A row of the kernel's own is not read from memory.
    std::erase_if(reads, [&](TensorId id) { return !schedule.place(id).buffer; });
    kernel.reads = std::move(reads);
    std::erase_if(kernel.writes, [&](TensorId id) { return !schedule.place(id).buffer; });
    traffic.count(kernel);
  }
  // A kernel all of whose results are recomputed elsewhere writes nothing.
  std::erase_if(kernels, [](const Kernel& kernel) { return kernel.writes.empty(); });
  for (Kernel& kernel : in_order(std::move(kernels))) {
    if (program[kernel.writes[0]].kind == Kind::copy)
      schedule.copies.push_back({kernel.reads[0], kernel.writes[0], static_cast<int32_t>(schedule.kernels.size())});
    else
      schedule.kernels.push_back(std::move(kernel));
  }
  for (size_t k = 0; k < schedule.kernels.size(); ++k) schedule.kernels[k].name = format("k{}", k);
  schedule.explanations = std::move(program.explanations);
  return schedule;
}

}  // namespace

Result<Schedule> fuse_loops(Loops input, const Target& target, const FuseOptions& options) {
  // Whether a template's operands fit is known only when everything has a place.
  std::set<std::string> refused, plain, copied;
  separate_devices(input);
  for (int attempt = 0;; ++attempt) {
    std::vector<CopyWish> wishes;
    if (auto schedule = try_fuse(input, target, options, refused, plain, copied, wishes)) {
      TD_CHECK_OK(fuse_bodies(*schedule, target, options));
      for (const std::string& name : refused)
        if (options.explain)
          schedule->explanations.push_back(format("%{} is not one attention kernel: its operands do not fit", name));
      return std::move(*schedule);
    }
    TD_CHECK(attempt < 100, "fusion does not come to an end");
    // From the last reader: the ids of earlier ones stay.
    std::sort(wishes.begin(), wishes.end(), [](const CopyWish& a, const CopyWish& b) { return b.reader < a.reader; });
    for (const CopyWish& wish : wishes) make_copy(input, wish);
  }
}

}  // namespace toroid::fuse
