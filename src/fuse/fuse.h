// Loops in, Schedule out: decides which loops share a kernel, and where tensors lie.
#pragma once
#include "base/result.h"
#include "loop/schedule.h"
#include "target/target.h"

namespace toroid::fuse {

struct FuseOptions {
  bool explain = false;  // fill Schedule::explanations
};

Result<Schedule> fuse_loops(Loops loops, const Target& target, const FuseOptions& options = {});

}  // namespace toroid::fuse
