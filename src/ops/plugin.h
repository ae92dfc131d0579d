// Ops of plug-ins in the compiler: schemas and rows made from what a shared library says (include/toroid/plugin.h).
#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace toroid {

struct OpRow;
struct Schema;

// Loads the plug-in at `path` and adds its ops to those that find_schema and OpTable::find know, for the whole process.
// An op that writes to arguments gets a functional twin, `my.op.default.functional`, whose further results are their
// new values.
Status add_plugin(const std::string& path);

// Null where no plug-in has it. Thread-safe; the results stay.
const Schema* find_plugin_schema(std::string_view name);
const OpRow* find_plugin_row(std::string_view name);

}  // namespace toroid
