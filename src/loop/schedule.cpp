// Small functions of Schedule.
#include "loop/schedule.h"

#include <algorithm>
#include <set>

#include "base/check.h"

namespace toroid {

BufferId Schedule::add(Buffer buffer) {
  buffers.push_back(std::move(buffer));
  return BufferId{static_cast<int32_t>(buffers.size()) - 1};
}

std::optional<Sym> element_address(const ExprPool& pool, const Place& place, const std::vector<ExprId>& index) {
  Sym sum = place.offset;
  for (size_t d = 0; d < index.size(); ++d) {
    std::optional<Sym> sym = pool.as_index(index[d]);
    if (!sym) return std::nullopt;
    sum += *sym * place.strides[d];
  }
  return sum;
}

Sym store_address(const Schedule& schedule, const StoreTo& store) {
  const std::optional<Sym> at = element_address(schedule.loops.pool, schedule.place(store.tensor), store.index);
  TD_CHECK(at.has_value(), "a store at a computed index");
  return *at;
}

// The kernel that writes a tensor; -1 where none does.
static int32_t writer_of(const Schedule& schedule, TensorId tensor) {
  for (size_t k = 0; k < schedule.kernels.size(); ++k) {
    const std::vector<TensorId>& writes = schedule.kernels[k].writes;
    if (std::find(writes.begin(), writes.end(), tensor) != writes.end()) return static_cast<int32_t>(k);
  }
  return -1;
}

int32_t known_after(const Schedule& schedule, const Sym& sym) {
  int32_t after = -1;
  if (sym.is_constant() || schedule.loops.symbol_reads.empty()) return after;
  std::set<std::string> names;
  collect_symbols(sym, names);
  for (const SymbolRead& read : schedule.loops.symbol_reads)
    if (names.contains(read.symbol)) after = std::max(after, writer_of(schedule, read.tensor));
  return after;
}

void list_operations(Plan& plan) {
  const Schedule& schedule = plan.schedule;
  plan.streams = {Device{}};
  plan.operations.clear();
  auto add = [&](Operation::Kind kind, const Device& device, size_t subject) {
    auto found = std::find(plan.streams.begin(), plan.streams.end(), device);
    const auto stream = static_cast<int32_t>(found - plan.streams.begin());
    if (found == plan.streams.end()) plan.streams.push_back(device);
    const int32_t before = plan.operations.empty() ? stream : plan.operations.back().stream;
    if (before != stream) plan.operations.push_back({Operation::Kind::wait, stream, before});
    plan.operations.push_back({kind, stream, static_cast<int32_t>(subject)});
  };
  // A symbol is read once its tensor is there; what no kernel writes is there from the start.
  auto reads_after = [&](int32_t k) {
    for (size_t r = 0; r < schedule.loops.symbol_reads.size(); ++r)
      if (writer_of(schedule, schedule.loops.symbol_reads[r].tensor) == k) add(Operation::Kind::read, Device{}, r);
  };
  reads_after(-1);
  size_t copy = 0;
  for (size_t k = 0; k <= schedule.kernels.size(); ++k) {
    for (; copy < schedule.copies.size() && schedule.copies[copy].before <= static_cast<int32_t>(k); ++copy) {
      const Device& from = schedule.loops[schedule.copies[copy].from].device;
      const Device& to = schedule.loops[schedule.copies[copy].to].device;
      add(Operation::Kind::copy, to == Device{} ? from : to, copy);
    }
    if (k == schedule.kernels.size()) break;
    add(Operation::Kind::launch, schedule.kernels[k].device, k);
    reads_after(static_cast<int32_t>(k));
  }
}

std::map<std::string, int64_t> hints(const Loops& loops) {
  std::map<std::string, int64_t> values;
  for (const SymbolInfo& symbol : loops.symbols) {
    int64_t value = symbol.hint.value_or(std::max<int64_t>(symbol.low, 1));
    values[symbol.name] = std::min(std::max(value, symbol.low), symbol.high);
  }
  return values;
}

std::vector<TensorId> operands_of(const Kernel& kernel) {
  std::vector<TensorId> operands;
  if (auto* work = std::get_if<MatmulKernel>(&kernel.work)) {
    operands.push_back(work->a);
    for (const MatmulKernel::Columns& columns : work->columns)
      for (const MatmulKernel::Right& b : columns.right)
        if (!b.packed) operands.push_back(b.tensor);
  } else if (auto* work = std::get_if<ConvKernel>(&kernel.work)) {
    operands = {work->x};
  } else if (auto* work = std::get_if<AttentionKernel>(&kernel.work)) {
    operands = {work->q, work->k, work->v};
  } else if (auto* work = std::get_if<CallKernel>(&kernel.work)) {
    operands = work->operands;
  } else if (auto* work = std::get_if<RoutineKernel>(&kernel.work)) {
    operands = work->inputs;
  }
  return operands;
}

}  // namespace toroid
