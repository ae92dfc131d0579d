// Small functions of Schedule.
#include "loop/schedule.h"

#include <algorithm>

namespace toroid {

BufferId Schedule::add(Buffer buffer) {
  buffers.push_back(std::move(buffer));
  return BufferId{static_cast<int32_t>(buffers.size()) - 1};
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
  size_t copy = 0;
  for (size_t k = 0; k <= schedule.kernels.size(); ++k) {
    for (; copy < schedule.copies.size() && schedule.copies[copy].before <= static_cast<int32_t>(k); ++copy) {
      const Device& from = schedule.loops[schedule.copies[copy].from].device;
      const Device& to = schedule.loops[schedule.copies[copy].to].device;
      add(Operation::Kind::copy, to == Device{} ? from : to, copy);
    }
    if (k < schedule.kernels.size()) add(Operation::Kind::launch, schedule.kernels[k].device, k);
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

}  // namespace toroid
