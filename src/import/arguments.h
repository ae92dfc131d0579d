// Puts a call's arguments into schema order, fills in defaults, and converts each to what the schema says.
#pragma once
#include <string>
#include <vector>

#include "ops/schema.h"

namespace toroid {

struct NamedArg {
  std::string name;  // empty: by position
  Arg value;
};
// Errors are Kind::bad_graph and name the op and the argument.
Result<std::vector<Arg>> bind_arguments(const Schema& schema, std::vector<NamedArg> given);

}  // namespace toroid
