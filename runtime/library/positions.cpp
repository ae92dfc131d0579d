// Positions: of what is not zero, of sorted rows, of repeated elements.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include "library.h"
#include "views.h"

using namespace toroid::library;

namespace {

struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};

float value_of(Brain x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
float value_of(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16, magnitude = x.bits & 0x7fff;
  uint32_t bits =
      magnitude >= 0x7c00 ? (magnitude << 13) + (112u << 23) + (112u << 23) : (magnitude << 13) + (112u << 23);
  float value;
  if (magnitude < 0x400) {
    value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
  bits |= sign;
  std::memcpy(&value, &bits, 4);
  return value;
}
template <class T>
T value_of(T x) {
  return x;
}

// Calls f(one element's type) for a tensor's dtype; false for complex numbers.
template <class F>
bool with_type(int32_t dtype, F f) {
  switch (dtype) {
    case TD_U8:
    case TD_BOOL: return f(uint8_t()), true;
    case TD_I8: return f(int8_t()), true;
    case TD_I16: return f(int16_t()), true;
    case TD_I32: return f(int32_t()), true;
    case TD_I64: return f(int64_t()), true;
    case TD_F16: return f(Half()), true;
    case TD_BF16: return f(Brain()), true;
    case TD_F32: return f(float()), true;
    case TD_F64: return f(double()), true;
    default: return false;
  }
}

// NaN comes after everything.
template <class T>
bool before(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return a < b || (a == a && b != b);
  else
    return a < b;
}

}  // namespace

extern "C" {

int32_t td_call_nonzero(const TdCall* call) {
  const TdView &x = call->inputs[0], &to = call->outputs[0];
  int64_t index[64] = {}, found = 0;
  const int64_t room = to.sizes[0];
  auto* out = static_cast<int64_t*>(to.data);
  const bool known = with_type(x.dtype, [&](auto type) {
    const auto* from = static_cast<const decltype(type)*>(x.data);
    each_offset(x, [&](int64_t offset) {
      if (value_of(from[offset]) != 0 && found < room) {
        for (int32_t d = 0; d < x.rank; ++d) out[found * x.rank + d] = index[d];
        ++found;
      }
      for (int32_t d = x.rank; d-- > 0;) {
        if (++index[d] < x.sizes[d]) break;
        index[d] = 0;
      }
    });
  });
  if (!known) return refuse(call, 5, "nonzero of an unknown element type");
  return found == room ? 0 : refuse(call, 5, "nonzero found another number of elements than was counted");
}

int32_t td_call_argsort_rows(const TdCall* call) {
  const TdView& x = call->inputs[0];
  const int64_t n = x.sizes[0], m = x.sizes[1];
  const bool descending = call->attributes[0] != 0;
  auto* order = static_cast<int64_t*>(call->outputs[0].data);
  std::iota(order, order + n, int64_t{0});
  int32_t status = 0;
  const bool known = with_type(x.dtype, [&](auto type) {
    const auto* rows = row_major_data<decltype(type)>(call, x);
    if (!rows && n > 0) return void(status = no_memory(call));
    std::stable_sort(order, order + n, [&](int64_t a, int64_t b) {
      for (int64_t k = 0; k < m; ++k) {
        const auto left = value_of(rows[a * m + k]), right = value_of(rows[b * m + k]);
        if (before(left, right)) return !descending;
        if (before(right, left)) return descending;
      }
      return false;
    });
  });
  return known ? status : refuse(call, 5, "rows of an unknown element type");
}

int32_t td_call_inverse_permutation(const TdCall* call) {
  const TdView& x = call->inputs[0];
  const auto* from = static_cast<const int64_t*>(x.data);
  auto* to = static_cast<int64_t*>(call->outputs[0].data);
  for (int64_t i = 0; i < x.sizes[0]; ++i) {
    const int64_t at = from[i * x.strides[0]];
    if (at < 0 || at >= x.sizes[0]) return refuse(call, 3, "an index is out of range");
    to[at] = i;
  }
  return 0;
}

int32_t td_call_repeat_positions(const TdCall* call) {
  const TdView &ends = call->inputs[0], &to = call->outputs[0];
  const auto* end = static_cast<const int64_t*>(ends.data);
  auto* out = static_cast<int64_t*>(to.data);
  int64_t k = 0;
  for (int64_t i = 0; i < ends.sizes[0]; ++i) {
    if (end[i * ends.strides[0]] < k) return refuse(call, 3, "repeats must not be negative");
    while (k < end[i * ends.strides[0]] && k < to.sizes[0]) out[k++] = i;
  }
  return k == to.sizes[0] ? 0 : refuse(call, 3, "repeats must sum to the size of the result");
}
}
