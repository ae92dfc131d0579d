// Strided copies without allocation: what runs between a caller's buffers and a model's.
#pragma once
#include <stdint.h>
#include <string.h>

namespace toroid::runtime {

inline int64_t element_count(const int64_t* sizes, int32_t rank) {
  int64_t n = 1;
  for (int32_t d = 0; d < rank; ++d) n *= sizes[d];
  return n;
}

inline bool contiguous(const int64_t* sizes, const int64_t* strides, int32_t rank) {
  int64_t step = 1;
  for (int32_t d = rank; d-- > 0;) {
    if (sizes[d] == 0) return true;
    if (sizes[d] != 1 && strides[d] != step) return false;
    step *= sizes[d];
  }
  return true;
}

// Writes the strides of a contiguous tensor.
inline void contiguous_strides(const int64_t* sizes, int32_t rank, int64_t* strides) {
  int64_t step = 1;
  for (int32_t d = rank; d-- > 0;) {
    strides[d] = step;
    step *= sizes[d] > 0 ? sizes[d] : 1;
  }
}

template <class T>
inline void copy_elements(char* to, int64_t to_step, const char* from, int64_t from_step, int64_t n) {
  for (int64_t i = 0; i < n; ++i) memcpy(to + i * to_step, from + i * from_step, sizeof(T));
}

struct Bytes16 {
  char bytes[16];
};

// Copies elements of 1, 2, 4, 8 or 16 bytes; strides are in elements.
inline void copy_strided(char* to, const int64_t* to_strides, const char* from, const int64_t* from_strides,
                         const int64_t* sizes, int32_t rank, int64_t element_bytes) {
  if (rank == 0) {
    memcpy(to, from, static_cast<size_t>(element_bytes));
    return;
  }
  if (element_count(sizes, rank) == 0) return;
  if (contiguous(sizes, to_strides, rank) && contiguous(sizes, from_strides, rank)) {
    memcpy(to, from, static_cast<size_t>(element_count(sizes, rank) * element_bytes));
    return;
  }
  const int64_t to_step = to_strides[0] * element_bytes, from_step = from_strides[0] * element_bytes;
  if (rank > 1) {
    for (int64_t i = 0; i < sizes[0]; ++i)
      copy_strided(to + i * to_step, to_strides + 1, from + i * from_step, from_strides + 1, sizes + 1, rank - 1,
                   element_bytes);
    return;
  }
  switch (element_bytes) {
    case 1: copy_elements<char>(to, to_step, from, from_step, sizes[0]); break;
    case 2: copy_elements<int16_t>(to, to_step, from, from_step, sizes[0]); break;
    case 4: copy_elements<int32_t>(to, to_step, from, from_step, sizes[0]); break;
    case 8: copy_elements<int64_t>(to, to_step, from, from_step, sizes[0]); break;
    default: copy_elements<Bytes16>(to, to_step, from, from_step, sizes[0]); break;
  }
}

}  // namespace toroid::runtime
