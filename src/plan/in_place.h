// Whether a kernel may write one tensor over another that it reads: every element of `from` is read only where `to`'s
// element at the same address is written, at that point of the loops or before it.
#pragma once
#include "loop/schedule.h"

namespace toroid::plan {

bool writes_in_place(const Schedule& schedule, const Kernel& kernel, TensorId from, TensorId to);

}  // namespace toroid::plan
