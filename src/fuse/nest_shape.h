// The loops of a nest in the order and form that vectors like: dims merged where memory allows, split where a view
// divides them, the variable that most accesses walk element by element innermost.
#pragma once
#include <functional>

#include "loop/schedule.h"

namespace toroid::fuse {

void shape_nest(ExprPool& pool, const Schedule& schedule, LoopKernel& nest,
                const std::function<int64_t(const Sym&)>& at_hints);

}  // namespace toroid::fuse
