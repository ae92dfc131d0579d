// Reductions as C++ text over the prelude: what a reduction of nothing is, two values combined, the lanes of a vector
// combined. Not for argmin and argmax.
#pragma once
#include <string>

#include "loop/loops.h"

namespace toroid::emit {

std::string identity_text(ReduceOp op, DType dtype);
std::string combine_text(ReduceOp op, const std::string& a, const std::string& b);
std::string across_text(ReduceOp op);  // the name of a function of one vector

}  // namespace toroid::emit
