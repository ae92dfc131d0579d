// The packed layout of a matrix [N, K] for matrix products: panels [N/64][ceil(K/g)][64][g]. The last panel is N's rest
// wide, rounded up to 16; zeros fill what the matrix does not have.
#pragma once
#include <cstdint>
#include <span>

namespace toroid::runtime {

// Some rows of the matrix: element (n, k) is at data + (n * n_stride + k * k_stride) * element_bytes.
struct PackRows {
  const char* data;
  int64_t count, n_stride, k_stride;
};

// Writes bytes [begin, end) of the packed form of a matrix whose rows come in pieces.
void pack_range(std::span<const PackRows> rows, int64_t k, int32_t k_group, int64_t element_bytes, int64_t begin,
                int64_t end, char* out);
// All of it.
void pack_matrix(const char* data, int64_t n, int64_t k, int64_t n_stride, int64_t k_stride, int32_t k_group,
                 int64_t element_bytes, char* out);
// Back to a contiguous [N, K].
void unpack_matrix(const char* packed, int64_t n, int64_t k, int32_t k_group, int64_t element_bytes, char* out);

}  // namespace toroid::runtime
