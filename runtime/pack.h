// The packed layout of a matrix [N, K] for matrix products: panels [N/64][ceil(K/g)][64][g]. The last panel is N's rest
// wide, rounded up to 16; zeros fill what the matrix does not have.
#pragma once
#include <cstdint>

namespace toroid::runtime {

// Element (n, k) is at data + (n * n_stride + k * k_stride) * element_bytes.
void pack_matrix(const char* data, int64_t n, int64_t k, int64_t n_stride, int64_t k_stride, int32_t k_group,
                 int64_t element_bytes, char* out);
// Back to a contiguous [N, K].
void unpack_matrix(const char* packed, int64_t n, int64_t k, int32_t k_group, int64_t element_bytes, char* out);

}  // namespace toroid::runtime
