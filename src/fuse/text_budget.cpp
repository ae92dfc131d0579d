// See text_budget.h.
#include "fuse/text_budget.h"

#include <algorithm>

namespace toroid::fuse {

int64_t TextBudget::work(TensorId id) {
  auto [at, fresh] = work_.try_emplace(id, 0);
  if (fresh) at->second = expression_cost(program_.pool(), program_[id].body);
  return at->second;
}

bool TextBudget::fits(const Group& a, const Group& b) {
  int64_t total = 0, most = 0;
  for (const Group* g : {&a, &b})
    for (TensorId member : g->all()) total += work(member), most = std::max(most, work(member));
  return total - most <= text_limit;
}

bool TextBudget::cut(int32_t group, TensorId reader) {
  Group& whole = program_.groups[static_cast<size_t>(group)];
  if (!whole.flexible || whole.members.size() < 4 || !whole.finish.empty() || whole.is_template) return false;
  // Members follow each other in the order of reading.
  std::map<TensorId, size_t> place;
  for (size_t m = 0; m < whole.members.size(); ++m) place[whole.members[m]] = m;
  auto crossing = [&](size_t cut) {
    int64_t bytes = 0;
    for (size_t m = 0; m < cut; ++m) {
      const TensorId id = whole.members[m];
      const std::vector<TensorId>& readers = program_[id].readers;
      const bool passes = std::any_of(readers.begin(), readers.end(), [&](TensorId next) {
        auto at = place.find(next);
        return next == reader || at == place.end() || at->second >= cut;
      });
      if (passes || program_[id].is_output)
        bytes += program_.elements_at_hints(id) * dtype_bytes(program_.loops[id].dtype);
    }
    return bytes;
  };
  // Not in the first half, since kernels should have some length.
  const size_t end = whole.members.size();
  size_t best = end;
  int64_t least = crossing(end);
  for (size_t cut = end - 1; cut > end / 2; --cut)
    if (int64_t bytes = crossing(cut); bytes < least) best = cut, least = bytes;
  if (best == end) return false;

  Group rest = whole;
  const auto middle = whole.members.begin() + static_cast<ptrdiff_t>(best);
  rest.members.assign(middle, whole.members.end());
  whole.members.erase(middle, whole.members.end());
  for (TensorId member : rest.members) whole.outer_dims.erase(member);
  for (TensorId member : whole.members) rest.outer_dims.erase(member);
  const auto index = static_cast<int32_t>(program_.groups.size());
  for (TensorId member : rest.members) program_[member].group = index;
  program_.say(format("%{} begins a kernel: the one before it has work enough", program_.loops[rest.members[0]].name));
  program_.groups.push_back(std::move(rest));
  return true;
}

}  // namespace toroid::fuse
