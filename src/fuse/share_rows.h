// What two walks over one row compute alike is computed once and kept in scratch until the second.
#pragma once
#include "fuse/program.h"

namespace toroid::fuse {

// For a nest that has its shape. Names of the rows follow `name`.
void share_rows(Program& program, Schedule& schedule, LoopKernel& nest, const std::string& name);

}  // namespace toroid::fuse
