// Typed indices into vectors: `using NodeId = Id<struct NodeTag>;`.
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace toroid {

template <class Tag>
struct Id {
  int32_t index = -1;
  constexpr bool valid() const { return index >= 0; }
  constexpr explicit operator bool() const { return valid(); }
  friend constexpr auto operator<=>(Id, Id) = default;
};

}  // namespace toroid

template <class Tag>
struct std::hash<toroid::Id<Tag>> {
  size_t operator()(toroid::Id<Tag> id) const noexcept { return static_cast<size_t>(id.index); }
};
