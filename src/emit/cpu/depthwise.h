// Depthwise convolutions (groups == in_channels == out_channels) over NHWC activations: a spec in, the text of one
// kernel out. Sums are f32, over (kh, kw) in order.
#pragma once
#include "emit/cpu/tile.h"

namespace toroid::emit {

struct DepthwiseSpec {
  Isa isa;
  DType dtype = DType::f32;  // of input and weights: f32 or bf16
  Size batch, height, width, out_height, out_width;
  int64_t channels = 0;
  int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1, pad_top = 0,
          pad_left = 0;
  std::string input, weight;                    // char* expressions; the weight lies as [kernel_h][kernel_w][channels]
  Size batch_stride, row_stride, pixel_stride;  // of the input, in elements; the channel stride is 1
  Epilogue epilogue;                            // index: n, oh, ow, oc
  std::string preamble;
};

KernelText emit_depthwise(const DepthwiseSpec& spec, const std::string& name);

}  // namespace toroid::emit
