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
  int64_t panel = 64;    // columns of a packed panel: 64, or 16 (quicker on AVX2 by 5 to 25%)
  Epilogue epilogue;     // index: batch, m, n
  std::string preamble;  // statements before the first epilogue of a function: pointers loaded from `p`
};

KernelText emit_matmul(const MatmulSpec& spec, const std::string& name);

// Elements of the packed form of an n x k weight (a whole group's, or one batch's).
int64_t packed_elements(int64_t n, int64_t k, DType dtype);
// Where element (n, k) of a weight lies in its packed form.
int64_t packed_index(int64_t n_index, int64_t k_index, int64_t n, int64_t k, DType dtype, int64_t panel = 64);

}  // namespace toroid::emit
