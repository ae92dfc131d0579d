// A nest of loops as the body of a kernel function.
#pragma once
#include "emit/cpu/expr.h"

namespace toroid::emit {

struct NestText {
  std::string body;   // statements of the function, without declarations of buffers
  std::string units;  // C expression over the parameters' symbols
  std::string scratch_bytes = "0";
};
NestText emit_nest(const Schedule& schedule, const LoopKernel& nest, KernelParams& params, int lanes,
                   const std::map<std::string, int64_t>& hint_values);

}  // namespace toroid::emit
