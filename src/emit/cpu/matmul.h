// Matrix products: a spec in, the text of one kernel C[b, m, n] = sum_k A[b, m, k] * B[b, k, n] out. Sums are f32, in
// the order of k for every element, whatever the tile, long ones in blocks (`sum_block`); the caller's epilogue stores.
#pragma once
#include "emit/cpu/tile.h"

namespace toroid::emit {

// How B lies in memory.
enum class BLayout {
  packed,  // [ceil(n/panel)][ceil(k/g)][panel][g], g = 1 (f32) or 2 (bf16); the last panel is n's rest, rounded up to
           // a multiple of 16; what is added is zero
  row_major,   // [k][n], n stride 1
  transposed,  // [n][k], k stride 1
};

struct MatmulSpec {
  Isa isa;
  DType dtype = DType::f32;  // of A and B: f32 or bf16
  Size batch = Size::of(1), m, n, k;
  std::string a, b;           // expressions of pointer type char*, valid where `p` and `s` are
  Size a_stride, b_stride;    // elements: A's row stride (its k stride when a_transposed); B's row stride unless packed
  bool a_transposed = false;  // A's m stride is 1
  // Offset, in elements, of a batch index given as text.
  std::function<std::string(const std::string&batch)> a_offset, b_offset;
  BLayout b_layout = BLayout::packed;
  int64_t panel = 64;  // columns of a packed panel: 64, or 16 (quicker on AVX2 by 5 to 25%)
  // Further packed B of the same n and k: as many products, whose accumulators meet in one epilogue under the names
  // acc, acc_1, acc_2, …
  std::vector<std::string> more_b;
  int64_t beside = 0;    // panels of other products in the same kernel
  Epilogue epilogue;     // index: batch, m, n; n is a multiple of the lanes
  Fetch fetch;           // the same index; none: nothing worth it
  std::string preamble;  // statements before the first epilogue of a function: pointers loaded from `p`
};

KernelText emit_matmul(const MatmulSpec& spec, const std::string& name);

// Products of the same rows of A in one kernel, their columns side by side: each block of A's rows meets all of them
// while it is in the cache. A part is the function of one or more products that differ in what `p` holds alone. B is
// packed.
KernelText emit_matmul_part(const MatmulSpec& spec, const std::string& name);
struct MatmulColumns {
  std::string part;    // the function's name
  size_t slot = 0;     // its p begins here in the kernel's
  int64_t panels = 0;  // panels_of(n)
};
// `text` are the parts; `spec` is that of one of them.
KernelText emit_joined_matmul(const MatmulSpec& spec, const std::vector<MatmulColumns>& columns, std::string text,
                              const std::string& name);
int64_t panels_of(int64_t n);

// Elements of the packed form of an n x k weight (a whole group's, or one batch's).
int64_t packed_elements(int64_t n, int64_t k, DType dtype);
// Where element (n, k) of a weight lies in its packed form.
int64_t packed_index(int64_t n_index, int64_t k_index, int64_t n, int64_t k, DType dtype, int64_t panel = 64);

}  // namespace toroid::emit
