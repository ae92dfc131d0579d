// What rows of views share.
#pragma once
#include <string>

#include "ops/rules.h"

namespace toroid {

bool has_strides(const TensorType& x);
// The _copy form of a view has memory of its own, in row-major order.
bool is_copy_form(const std::string& name);
InferRule row_major_results(InferRule rule);
// A view is its type's rule and its value's rule over one input called `self`.
OpRow& add_view(OpTable& ops, const std::string& name, InferRule infer, LowerOne lower);

}  // namespace toroid
