// Plug-ins of this process: shared libraries with ops of the user's own (include/toroid/plugin.h), by path in and by
// op out. They stay loaded until the process ends.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "failure.h"
#include "model_abi.h"
#include "toroid/plugin.h"

namespace toroid::runtime {

struct PluginOp {
  std::string name;  // "my::scale", "my::scale.overload"
  std::string file;  // the library's path
  toroid_plugin_op table;
};

// Loads it once, however often it is named; its ops. Two plug-ins with an op of one name are refused.
Outcome<std::vector<const PluginOp*>> load_plugin(const std::string& path);
// Of a plug-in that is loaded, or that TOROID_PLUGINS names; null when there is none.
Outcome<const PluginOp*> find_plugin_op(std::string_view name);
// Fills model.plugin_functions.
Outcome<void> resolve_plugins(const TdModel& model);

}  // namespace toroid::runtime
