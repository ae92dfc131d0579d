// Ops over lists of tensors, which optimizers call: `_foreach_mul_([a, b], 0.9)` is `a.mul_(0.9)` and `b.mul_(0.9)`.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "ops/op_table.h"

namespace toroid {

struct OneCall {
  std::string op;
  std::vector<Arg> args;
};

// The calls that one such call stands for, in order; nothing for another op.
std::optional<std::vector<OneCall>> foreach_calls(const Schema& schema, const std::vector<Arg>& args);

}  // namespace toroid
