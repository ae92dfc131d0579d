// Recognises what a contraction is: convolutions by the form of their indices, matrix products by which variables each
// operand depends on.
#pragma once
#include <optional>

#include "fuse/program.h"

namespace toroid::fuse {

// y[n, oc, oh, ow] = sum(ic, kh, kw: x[n, group(oc) * channels + ic, oh*stride + kh*dilation - padding, …] * w[oc, ic,
// kh, kw])
struct ConvForm {
  int dims = 2;  // spatial dims, 1 or 2; one dim is a convolution with height 1
  TensorId x, weight;
  int x_dims[4] = {0, 1, 2, 3};  // which dims of x are batch, channels and space
  int64_t out_channels = 1, in_channels = 1, groups = 1;
  int64_t depth = 1;  // of a weight [oc, c, kd, kh, kw]: x's channels of a group are (kd, c), in_channels of them
  int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};
};
std::optional<ConvForm> match_conv(Program& program, TensorId id);

// The two loads under a contraction's product (through widening and guards).
struct Factors {
  ExprId a, b;  // load expressions
  bool guarded = false;
};
std::optional<Factors> factors_of(const ExprPool& pool, ExprId contraction);

}  // namespace toroid::fuse
