// Two-dimensional convolutions over NHWC activations: a spec in, the text of one kernel out. No im2col, no copy with a
// halo: taps on padding are skipped. Sums are f32, over (kh, kw, ic) in order, whatever the tile, long ones in blocks
// (`sum_block`).
#pragma once
#include "emit/cpu/tile.h"

namespace toroid::emit {

struct ConvSpec {
  Isa isa;
  DType dtype = DType::f32;  // of input and weights: f32 or bf16
  Size batch, height, width, out_height, out_width;
  int64_t in_channels = 0, out_channels = 0, groups = 1;
  int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1, pad_top = 0,
          pad_left = 0;
  int64_t panel = 64;                           // of the packed weight, as in MatmulSpec
  std::string input, weight;                    // char* expressions, valid where `p` and `s` are
  Size batch_stride, row_stride, pixel_stride;  // of the input, in elements; the channel stride is 1
  // Promises row_stride == width * pixel_stride where the values are not known.
  bool dense_rows = false;
  Epilogue epilogue;  // index: n, oh, ow, oc
  Fetch fetch;        // the same
  std::string preamble;
};

// Kernels for groups == in_channels == out_channels are in depthwise.h.
KernelText emit_conv(const ConvSpec& spec, const std::string& name);

// The weight's packed form, group by group: a matrix [oc][kh * kw * ic] as matmul packs it, ic rounded up to even for
// bf16 (the added element is zero).
int64_t conv_packed_elements(const ConvSpec& spec);
// Where the weight's element [oc][ic][kh][kw] (PyTorch's order; ic within the group) lies.
int64_t conv_packed_index(const ConvSpec& spec, int64_t oc, int64_t ic, int64_t kh, int64_t kw);

}  // namespace toroid::emit
