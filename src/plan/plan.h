// Schedule in, Plan out: lifetimes of temporaries, offsets in the arena, offsets of constants.
#pragma once
#include <set>

#include "base/result.h"
#include "loop/schedule.h"

namespace toroid::plan {

Result<Plan> plan_memory(Schedule schedule);

// The buffers that a kernel touches.
std::set<BufferId> buffers_of(const Schedule& schedule, const Kernel& kernel);

}  // namespace toroid::plan
