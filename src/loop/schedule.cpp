// Small functions of Schedule.
#include "loop/schedule.h"

namespace toroid {

BufferId Schedule::add(Buffer buffer) {
  buffers.push_back(std::move(buffer));
  return BufferId{static_cast<int32_t>(buffers.size()) - 1};
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
