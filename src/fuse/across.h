// Reductions over the outer points of a kernel (Group::across): those of one kernel that another computes beside its
// rows, and those that walk outer points of their own, so that threads share them.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "fuse/program.h"

namespace toroid::fuse {

constexpr int64_t row_bytes_limit = 256 << 10;  // a row must stay in the second-level cache
constexpr int64_t finish_limit = 16 << 10;      // elements that one thread computes at the end

// The one reduction of a group's first member, when the others are maps of its result; invalid otherwise.
ExprId lone_reduction(Program& program, const Group& g);

// Which variables of the reduction in `id` walk the outer dims of group `to`, from the first on: where it reads members
// of that group, or what they read. Nothing where they do not, or where it saves too little.
std::optional<std::vector<std::string>> walks_of_outer(Program& program, int32_t to, TensorId id, ExprId reduction);

// A reduction that few threads could share (over everything, or of columns) walks the variables that it reduces as
// outer ones.
void spread(Program& program, Group& g);

}  // namespace toroid::fuse
