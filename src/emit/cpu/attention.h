// Scaled dot-product attention: a spec in, the text of one kernel out[b, h, m] = softmax(scale * q k^T + mask) v out.
// The scores are never stored beyond a few rows of a block of keys; sums are f32.
#pragma once
#include "emit/cpu/tile.h"

namespace toroid::emit {

struct AttentionSpec {
  Isa isa;
  DType dtype = DType::f32;  // of q, k and v: f32 or bf16 (converted, sums are f32)
  Size batch, rows, keys;    // rows of q, keys of k and v
  int64_t heads = 1, kv_heads = 1, dim = 64, value_dim = 64;
  std::string q, k, v;  // char* expressions, valid where `p` and `s` are
  Size q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row;  // strides in elements; the last is 1
  double scale = 1;
  bool causal = false;            // row i sees keys 0..i
  bool zero_masked_rows = false;  // a row that sees nothing is 0, else nan
  // Statements that change the vf32 `acc` of scaled scores (a mask added, -inf put in); index: b, h, row, key.
  // Optional.
  Epilogue modify_score;
  Epilogue epilogue;  // index: b, h, row, d
  std::string preamble;
};

// Needs no scratch from the caller: what a unit packs lies on its stack (at most 512 KB).
KernelText emit_attention(const AttentionSpec& spec, const std::string& name);

}  // namespace toroid::emit
