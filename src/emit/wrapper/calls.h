// The lines of a wrapper for one call: a library function, or control flow around programs.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "loop/schedule.h"

namespace toroid::emit {

struct CallContext {
  const Plan& plan;
  std::function<void(std::string_view)> line;    // adds one to the wrapper
  std::function<std::string(BufferId)> pointer;  // where a buffer begins
  // What calls a function that is no control flow, such as td_call_nonzero.
  std::function<std::string(const std::string& function)> callee;
  // Writes one of the call's programs as a block: where its inputs and outputs lie, and what it works in (or nothing).
  std::function<void(size_t body, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                     const std::string& arena)>
      program;
};

bool is_control_flow(const CallKernel& call);
bool is_plugin_op(const CallKernel& call);  // its function is of a plug-in, such as "my::op"
// For kernel k of the plan, which is a call.
void write_call(const CallContext& context, size_t k);

}  // namespace toroid::emit
