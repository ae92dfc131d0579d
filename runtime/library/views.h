// Tensors of library functions: elements by position, row-major copies in the host's memory.
#pragma once
#include <cstring>

#include "../model_abi.h"

namespace toroid::library {

inline int64_t count_of(const TdView& view) {
  int64_t count = 1;
  for (int32_t d = 0; d < view.rank; ++d) count *= view.sizes[d];
  return count;
}

inline bool row_major(const TdView& view) {
  int64_t step = 1;
  for (int32_t d = view.rank; d-- > 0;) {
    if (view.sizes[d] != 1 && view.strides[d] != step) return false;
    step *= view.sizes[d];
  }
  return true;
}

// Calls f(offset in elements) for each element in row-major order.
template <class F>
void each_offset(const TdView& view, F f) {
  const int64_t count = count_of(view);
  int64_t index[64] = {}, offset = 0;
  for (int64_t i = 0; i < count; ++i) {
    f(offset);
    for (int32_t d = view.rank; d-- > 0;) {
      offset += view.strides[d];
      if (++index[d] < view.sizes[d]) break;
      offset -= index[d] * view.strides[d];
      index[d] = 0;
    }
  }
}

// The elements in row-major order: where they lie, or in memory of the host; null when there is none.
template <class T>
const T* row_major_data(const TdCall* call, const TdView& view) {
  const T* from = static_cast<const T*>(view.data);
  if (row_major(view)) return from;
  T* copy = static_cast<T*>(call->table->alloc(call->host, count_of(view) * static_cast<int64_t>(sizeof(T)) + 1));
  T* to = copy;
  if (copy) each_offset(view, [&](int64_t offset) { *to++ = from[offset]; });
  return copy;
}

template <class T>
T* scratch(const TdCall* call, int64_t count) {
  return static_cast<T*>(call->table->alloc(call->host, count * static_cast<int64_t>(sizeof(T)) + 1));
}

inline int32_t refuse(const TdCall* call, int32_t code, const char* text) {
  call->error->code = code;
  std::strncpy(call->error->text, text, sizeof call->error->text - 1);
  call->error->text[sizeof call->error->text - 1] = 0;
  return code;
}
inline int32_t no_memory(const TdCall* call) { return refuse(call, 2, "out of memory"); }

}  // namespace toroid::library
