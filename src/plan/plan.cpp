// Gives every temporary an offset in an arena of its device so that buffers alive together do not overlap. Known sizes:
// the largest first, each at the lowest free offset. Symbolic sizes: buffers whose lives do not meet share a slot, as
// large as the largest of them, and slots follow one another. Where a kernel computes element by element, its result
// may take the place of what it reads for the last time. What a call's programs work in is a temporary of the call.
// Buffers whose sizes a kernel finds out lie in an arena that is taken after that kernel.
#include "plan/plan.h"

#include <algorithm>
#include <functional>

#include "base/check.h"
#include "plan/in_place.h"

namespace toroid::plan {
namespace {

constexpr int64_t alignment = 64;

Sym aligned(const Sym& bytes) { return ceil_div(bytes, alignment) * Sym(alignment); }

struct Life {
  BufferId buffer;
  int first = 0, last = 0;  // kernels
  Sym bytes = 0;
  int64_t size = 0;  // at the hints
  bool meets(const Life& other) const { return first <= other.last && other.first <= last; }
};

// Lowest free offset among the buffers already placed that are alive at the same time.
Sym place_known(const std::vector<Life>& lives, Plan& plan) {
  std::vector<size_t> order(lives.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lives[a].size > lives[b].size; });
  std::vector<std::pair<size_t, int64_t>> placed;
  int64_t top = 0;
  for (size_t i : order) {
    std::vector<std::pair<int64_t, int64_t>> taken;
    for (const auto& [other, offset] : placed)
      if (lives[other].meets(lives[i])) taken.push_back({offset, offset + lives[other].size});
    std::sort(taken.begin(), taken.end());
    int64_t at = 0;
    for (const auto& [begin, end] : taken) {
      if (begin - at >= lives[i].size) break;
      at = std::max(at, end);
    }
    placed.push_back({i, at});
    plan.offsets[static_cast<size_t>(lives[i].buffer.index)] = at;
    top = std::max(top, at + lives[i].size);
  }
  return top;
}

Sym place_symbolic(const std::vector<Life>& lives, Plan& plan) {
  struct Slot {
    Sym bytes = 0;
    int64_t size = 0;
    std::vector<size_t> members;
  };
  std::vector<size_t> order(lives.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lives[a].size > lives[b].size; });
  std::vector<Slot> slots;
  for (size_t i : order) {
    size_t best = slots.size();
    for (size_t s = 0; s < slots.size(); ++s) {
      bool free = std::none_of(slots[s].members.begin(), slots[s].members.end(),
                               [&](size_t m) { return lives[m].meets(lives[i]); });
      if (free && (best == slots.size() || slots[s].size < slots[best].size)) best = s;
    }
    if (best == slots.size()) slots.push_back({});
    Slot& slot = slots[best];
    slot.bytes = slot.members.empty() ? lives[i].bytes : sym_max(slot.bytes, lives[i].bytes);
    slot.size = std::max(slot.size, lives[i].size);
    slot.members.push_back(i);
  }
  Sym at = 0;
  for (const Slot& slot : slots) {
    for (size_t member : slot.members) plan.offsets[static_cast<size_t>(lives[member].buffer.index)] = at;
    at += slot.bytes;
  }
  return at;
}

// Temporaries that a kernel may write over one that it is the last to read: they take its place, whose life then lasts
// as long as theirs, and have none of their own.
std::map<BufferId, BufferId> write_over(const Schedule& schedule, std::vector<Life>& lives,
                                        const std::map<BufferId, size_t>& life_of) {
  std::map<BufferId, BufferId> over;
  for (size_t k = 0; k < schedule.kernels.size(); ++k) {
    const Kernel& kernel = schedule.kernels[k];
    std::set<BufferId> taken;
    for (TensorId to : kernel.writes) {
      const BufferId written = schedule.place(to).buffer;
      auto own = life_of.find(written);
      if (own == life_of.end() || lives[own->second].first != static_cast<int>(k)) continue;
      for (TensorId from : kernel.reads) {
        const BufferId read = schedule.place(from).buffer;
        auto place = over.contains(read) ? over.at(read) : read;
        auto old = life_of.find(place);
        if (read == written || old == life_of.end() || lives[old->second].last != static_cast<int>(k)) continue;
        if (schedule[read].elements != schedule[written].elements || schedule[read].device != schedule[written].device)
          continue;
        if (taken.contains(place) || !writes_in_place(schedule, kernel, from, to)) continue;
        taken.insert(place);
        lives[old->second].last = lives[own->second].last;
        over[written] = place;
        break;
      }
    }
  }
  std::erase_if(lives, [&](const Life& life) { return over.contains(life.buffer); });
  return over;
}

}  // namespace

std::set<BufferId> buffers_of(const Schedule& schedule, const Kernel& kernel) {
  const ExprPool& pool = schedule.loops.pool;
  std::vector<ExprId> values;
  std::set<TensorId> tensors(kernel.writes.begin(), kernel.writes.end());
  std::set<BufferId> buffers;
  for (TensorId id : operands_of(kernel)) tensors.insert(id);
  each_expression(kernel, [&](ExprId value) {
    if (value) values.push_back(value);
  });
  for (ExprId id : pool.postorder(values))
    if (pool[id].kind == ExprKind::load) tensors.insert(pool[id].tensor);
  if (auto* nest = std::get_if<LoopKernel>(&kernel.work)) {
    for (const Phase* phase : nest->all_phases())
      for (const StoreTo& store : phase->stores) tensors.insert(store.tensor);
  } else if (auto* work = std::get_if<MatmulKernel>(&kernel.work)) {
    for (const MatmulKernel::Columns& columns : work->columns)
      for (const MatmulKernel::Right& b : columns.right)
        if (b.packed) buffers.insert(b.packed);
  } else if (auto* work = std::get_if<ConvKernel>(&kernel.work)) {
    buffers.insert(work->packed);
  } else if (auto* work = std::get_if<CallKernel>(&kernel.work)) {
    if (work->scratch) buffers.insert(work->scratch);
  }
  for (TensorId id : tensors)
    if (BufferId buffer = schedule.place(id).buffer) buffers.insert(buffer);
  return buffers;
}

namespace {

// Constants of all programs: equal ones have one place.
struct Constants {
  std::map<std::string, int64_t> places;
  int64_t bytes = 0;
};

std::string recipe_key(const Schedule& schedule, const Buffer& buffer) {
  std::string key = format("{} {} {}", dtype_name(buffer.dtype), buffer.elements.value(), buffer.bytes.size());
  key.append(reinterpret_cast<const char*>(buffer.bytes.data()), buffer.bytes.size());
  for (const RecipeStep& step : buffer.recipe) {
    append(key, "; {} {} {} {} {} {} {}", step.op, dtype_name(step.dtype), step.offset, step.count, step.dim,
           step.k_group, step.value);
    if (step.weight >= 0) append(key, " {}", schedule.loops.weights[static_cast<size_t>(step.weight)].name);
    for (int64_t size : step.sizes) append(key, " {}", size);
    for (int64_t stride : step.strides) append(key, " by {}", stride);
  }
  return key;
}

std::set<BufferId> used_buffers(const Schedule& schedule) {
  std::set<BufferId> used;
  for (const Kernel& kernel : schedule.kernels)
    for (BufferId id : buffers_of(schedule, kernel)) used.insert(id);
  for (const Copy& copy : schedule.copies)
    for (TensorId id : {copy.from, copy.to}) used.insert(schedule.place(id).buffer);
  auto use = [&](TensorId id) {
    if (id && schedule.place(id).buffer) used.insert(schedule.place(id).buffer);
  };
  for (const LoopOutput& output : schedule.loops.outputs) use(output.tensor);
  for (const SymbolRead& read : schedule.loops.symbol_reads) use(read.tensor);
  return used;
}

// Those that the model writes first.
void place_constants(Plan& plan, const Schedule& schedule, Constants& constants) {
  const std::set<BufferId> used = used_buffers(schedule);
  for (bool mutated : {true, false}) {
    for (size_t b = 0; b < schedule.buffers.size(); ++b) {
      const Buffer& buffer = schedule.buffers[b];
      const BufferId id{static_cast<int32_t>(b)};
      if (buffer.kind != BufferKind::constant || buffer.mutated != mutated || !used.contains(id)) continue;
      auto [place, is_new] =
          constants.places.emplace(mutated ? format("mutated {}", b) : recipe_key(schedule, buffer), constants.bytes);
      plan.offsets[b] = place->second;
      if (is_new)
        constants.bytes +=
            (buffer.elements.value() * dtype_bytes(buffer.dtype) + alignment - 1) / alignment * alignment;
    }
    if (mutated) plan.mutated_bytes = constants.bytes;
  }
}

Result<Plan> plan_program(Schedule schedule, Constants& constants);

// Memory for the results that a loop carries: it writes them in turn to the result and to here.
Sym carried_bytes(const Schedule& schedule, const CallKernel& call) {
  Sym bytes = 0;
  if (call.function != "while" && call.function != "scan") return bytes;
  const auto carried = static_cast<size_t>(call.attributes[0].value());
  for (size_t i = 0; i < carried; ++i) {
    const LoopTensor& result = schedule.loops[call.results[i]];
    bytes += aligned(product(result.sizes) * Sym(dtype_bytes(result.dtype)));
  }
  return bytes;
}

// Plans the programs of calls, and gives each such call a buffer for their arenas.
Status plan_bodies(Plan& plan, Schedule& schedule, Constants& constants) {
  for (size_t k = 0; k < schedule.kernels.size(); ++k) {
    auto* call = std::get_if<CallKernel>(&schedule.kernels[k].work);
    if (!call || call->bodies.empty()) continue;
    Sym bytes = 0;
    std::vector<Plan>& bodies = plan.bodies[static_cast<int32_t>(k)];
    for (Schedule& body : call->bodies) {
      TD_TRY(Plan inner, plan_program(std::move(body), constants));
      for (const Arena& arena : inner.arenas)
        if (arena.after < 0 && arena.device == Device{}) bytes = sym_max(bytes, arena.bytes);
      plan.intermediate_bytes += inner.intermediate_bytes;
      plan.bytes_moved += inner.bytes_moved;
      bodies.push_back(std::move(inner));
    }
    call->bodies.clear();
    bytes += carried_bytes(schedule, *call);
    if (bytes == Sym(0)) continue;
    Buffer scratch;
    scratch.name = schedule.kernels[k].name + ".scratch";
    scratch.dtype = DType::u8;
    scratch.elements = bytes;
    call->scratch = schedule.add(std::move(scratch));
    plan.offsets.push_back(-1);
  }
  return {};
}

Result<Plan> plan_program(Schedule schedule, Constants& constants) {
  Plan plan;
  plan.offsets.assign(schedule.buffers.size(), Sym(-1));
  place_constants(plan, schedule, constants);
  TD_CHECK_OK(plan_bodies(plan, schedule, constants));
  const std::map<std::string, int64_t> values = hints(schedule.loops);
  auto at_hints = [&](const Sym& sym) { return evaluate(sym, values); };

  std::vector<Life> lives;
  std::map<BufferId, size_t> life_of;
  for (size_t k = 0; k < schedule.kernels.size(); ++k) {
    const Kernel& kernel = schedule.kernels[k];
    for (BufferId id : buffers_of(schedule, kernel)) {
      const Buffer& buffer = schedule[id];
      if (buffer.kind != BufferKind::temporary) continue;
      auto [found, is_new] = life_of.emplace(id, lives.size());
      if (is_new) {
        const Sym bytes = aligned(buffer.elements * Sym(dtype_bytes(buffer.dtype)));
        lives.push_back({id, static_cast<int>(k), static_cast<int>(k), bytes, at_hints(bytes)});
      }
      lives[found->second].last = static_cast<int>(k);
    }
    for (TensorId id : kernel.writes) {
      const BufferId buffer = schedule.place(id).buffer;
      if (buffer && schedule[buffer].kind == BufferKind::temporary)
        plan.intermediate_bytes += at_hints(schedule[buffer].elements) * dtype_bytes(schedule[buffer].dtype);
    }
    plan.bytes_moved += at_hints(kernel.bytes);
  }
  // A copy comes before its kernel and after the one before that: both of its ends are alive at both.
  for (const Copy& copy : schedule.copies) {
    for (TensorId id : {copy.from, copy.to}) {
      const BufferId buffer = schedule.place(id).buffer;
      if (schedule[buffer].kind != BufferKind::temporary) continue;
      const int first = std::max(copy.before - 1, 0);
      const Sym bytes = aligned(schedule[buffer].elements * Sym(dtype_bytes(schedule[buffer].dtype)));
      auto [found, is_new] = life_of.emplace(buffer, lives.size());
      if (is_new) lives.push_back({buffer, first, copy.before, bytes, at_hints(bytes)});
      Life& life = lives[found->second];
      life.first = std::min(life.first, first);
      life.last = std::max(life.last, copy.before);
    }
    plan.bytes_moved +=
        2 * at_hints(schedule[schedule.place(copy.to).buffer].elements) * dtype_bytes(schedule.loops[copy.to].dtype);
  }
  // What is written back after the last kernel lives to the end.
  for (const LoopOutput& output : schedule.loops.outputs) {
    if (!output.tensor) continue;
    const BufferId buffer = schedule.place(output.tensor).buffer;
    if (!buffer) continue;
    if (auto found = life_of.find(buffer); found != life_of.end())
      lives[found->second].last = static_cast<int>(schedule.kernels.size());
  }

  const std::map<BufferId, BufferId> over = write_over(schedule, lives, life_of);

  for (size_t k = 0; k <= schedule.kernels.size(); ++k) {
    int64_t alive = 0;
    for (const Life& life : lives)
      if (life.first <= static_cast<int>(k) && life.last >= static_cast<int>(k)) alive += life.size;
    plan.lower_bound_bytes = std::max(plan.lower_bound_bytes, alive);
  }
  // One arena per memory space and time at which its sizes are known.
  std::map<std::pair<int32_t, std::string>, std::vector<Life>> spaces;
  for (const Life& life : lives)
    spaces[{known_after(schedule, life.bytes), to_string(schedule[life.buffer].device)}].push_back(life);
  for (const auto& [space, own] : spaces) {
    const bool known = std::all_of(own.begin(), own.end(), [](const Life& life) { return life.bytes.is_constant(); });
    const Sym bytes = known ? place_known(own, plan) : place_symbolic(own, plan);
    plan.arenas.push_back({schedule[own[0].buffer].device, bytes, space.first});
    plan.peak_bytes += at_hints(bytes);
  }
  for (const auto& [buffer, place] : over)
    plan.offsets[static_cast<size_t>(buffer.index)] = plan.offsets[static_cast<size_t>(place.index)];

  plan.weights_bytes = constants.bytes;
  plan.schedule = std::move(schedule);
  list_operations(plan);
  return plan;
}

}  // namespace

Result<Plan> plan_memory(Schedule schedule) {
  Constants constants;
  return plan_program(std::move(schedule), constants);
}

}  // namespace toroid::plan
