// Small helpers of the Graph structure: names, types, strides.
#include "graph/graph.h"

#include <algorithm>

#include "base/check.h"

namespace toroid {

std::string to_string(const Device& device) {
  return device.index == 0 ? device.type : format("{}:{}", device.type, device.index);
}

SymList contiguous_strides(const SymList& sizes) {
  SymList strides(sizes.size());
  Sym step = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides[i] = step;
    // A dimension of size 0 counts as 1, as in PyTorch.
    step *= sizes[i].is_constant() ? Sym(std::max<int64_t>(sizes[i].value(), 1))
                                   : (proves_le(1, sizes[i]) ? sizes[i] : sym_max(sizes[i], 1));
  }
  return strides;
}

SymList strides_in_order(const SymList& sizes, const std::vector<int>& order) {
  TD_CHECK(order.size() == sizes.size(), "order of {} dims for {} sizes", order.size(), sizes.size());
  SymList ordered;
  for (int dim : order) ordered.push_back(sizes[static_cast<size_t>(dim)]);
  const SymList inner = contiguous_strides(ordered);
  SymList strides(sizes.size());
  for (size_t i = 0; i < order.size(); ++i) strides[static_cast<size_t>(order[i])] = inner[i];
  return strides;
}

bool same_list(const SymList& a, const SymList& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!proves_eq(a[i], b[i])) return false;
  return true;
}

std::string to_string(const TensorType& type) {
  std::string out = format("{}[{}]", dtype_name(type.dtype), to_string(type.sizes));
  if (type.strides != contiguous_strides(type.sizes)) append(out, " strides [{}]", to_string(type.strides));
  if (type.device != Device{}) append(out, " on {}", quoted(to_string(type.device)));
  return out;
}

std::string Where::text() const {
  std::string place = file.empty() ? "" : (line > 0 ? format("{}:{}", file, line) : file);
  if (module.empty()) return place;
  return place.empty() ? module : module + ", " + place;
}

ValueId Graph::add_value(Value value) {
  if (value.name.empty()) value.name = "v";
  if (taken_from != values.size()) {
    taken_names.clear();
    for (const Value& known : values) taken_names.emplace(known.name, 1);
  }
  if (auto taken = taken_names.find(value.name); taken != taken_names.end()) {
    std::string name;
    do name = format("{}_{}", value.name, taken->second++);
    while (taken_names.contains(name));
    value.name = std::move(name);
  }
  taken_names.emplace(value.name, 1);
  taken_from = values.size() + 1;
  values.push_back(std::move(value));
  return ValueId{static_cast<int32_t>(values.size()) - 1};
}

const SymbolInfo* Graph::find_symbol(const std::string& wanted) const {
  for (const SymbolInfo& info : symbols)
    if (info.name == wanted) return &info;
  return nullptr;
}

Sym Graph::symbol(const std::string& wanted) const {
  const SymbolInfo* info = find_symbol(wanted);
  TD_CHECK(info, "graph `{}` has no symbol `{}`", name, wanted);
  return Sym::symbol(info->name, info->low, info->high);
}

}  // namespace toroid
