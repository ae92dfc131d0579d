// The rows of quantized.cpp.
#pragma once

namespace toroid {

class OpTable;
void add_quantized_ops(OpTable& ops);

}  // namespace toroid
