// The process's list of plug-ins; it only grows.
#include "plugins.h"

#include <dlfcn.h>

#include <cstddef>
#include <cstdlib>
#include <deque>
#include <mutex>

#include "toroid/runtime.h"

namespace toroid::runtime {
namespace {

// plugin.h says in public names what model_abi.h says to hosts and models.
static_assert(sizeof(toroid_view) == sizeof(TdView) && sizeof(toroid_call) == sizeof(TdCall) &&
              sizeof(toroid_call_error) == sizeof(TdError));
static_assert(offsetof(toroid_view, rank) == offsetof(TdView, rank));
static_assert(offsetof(toroid_call, table) == offsetof(TdCall, table) &&
              offsetof(toroid_call, error) == offsetof(TdCall, error));
static_assert(offsetof(toroid_host, alloc) == offsetof(TdHost, alloc) &&
              offsetof(toroid_host, parallel) == offsetof(TdHost, parallel));

struct Registry {
  std::mutex mutex;
  bool environment_read = false;
  std::vector<std::string> files;
  std::deque<PluginOp> ops;

  static Registry& process() {
    static Registry registry;
    return registry;
  }
  const PluginOp* find(std::string_view name) const {
    for (const PluginOp& op : ops)
      if (op.name == name) return &op;
    return nullptr;
  }
};

Outcome<std::vector<const PluginOp*>> load(Registry& registry, const std::string& path) {
  std::vector<const PluginOp*> made;
  for (const std::string& file : registry.files) {
    if (file != path) continue;
    for (const PluginOp& op : registry.ops)
      if (op.file == path) made.push_back(&op);
    return made;
  }
  // A name without a slash is looked for as the linker does.
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return refuse(TOROID_IO, "cannot load the plug-in `", path, "`: ", ::dlerror());
  const auto entry = reinterpret_cast<toroid_plugin_entry>(::dlsym(library, TOROID_PLUGIN_ENTRY_NAME));
  if (!entry)
    return refuse(TOROID_BAD_FILE, "`", path, "` is no plug-in: it exports no `" TOROID_PLUGIN_ENTRY_NAME "`");
  const toroid_plugin_table* table = entry();
  if (!table || table->size < sizeof(toroid_plugin_table) || table->major != TOROID_PLUGIN_MAJOR)
    return refuse(TOROID_UNSUPPORTED, "the plug-in `", path, "` speaks interface ", table ? table->major : 0,
                  ", this Toroid ", TOROID_PLUGIN_MAJOR);
  std::vector<PluginOp> ops;
  for (int32_t i = 0; i < table->op_count; ++i) {
    const toroid_plugin_op& op = table->ops[i];
    const std::string_view schema = op.schema ? op.schema : "";
    std::string name(schema.substr(0, schema.find('(')));
    if (name.find("::") == name.npos || schema.find('(') == schema.npos || !op.kernel)
      return refuse(TOROID_BAD_FILE, "the plug-in `", path, "`: op ", i,
                    " has no schema such as `my::op(Tensor x) -> "
                    "Tensor`, or no kernel");
    if (const PluginOp* other = registry.find(name))
      return refuse(TOROID_BAD_OPTION, "the plug-ins `", other->file, "` and `", path, "` both have `", name, "`");
    ops.push_back({std::move(name), path, op});
  }
  registry.files.push_back(path);
  for (PluginOp& op : ops) made.push_back(&registry.ops.emplace_back(std::move(op)));
  return made;
}

Outcome<void> load_environment(Registry& registry) {
  if (registry.environment_read) return {};
  const char* text = std::getenv("TOROID_PLUGINS");
  std::string_view rest = text ? text : "";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    if (end > 0) RT_CHECK(load(registry, std::string(rest.substr(0, end))));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  registry.environment_read = true;
  return {};
}

}  // namespace

Outcome<std::vector<const PluginOp*>> load_plugin(const std::string& path) {
  Registry& registry = Registry::process();
  const std::lock_guard lock(registry.mutex);
  return load(registry, path);
}

Outcome<const PluginOp*> find_plugin_op(std::string_view name) {
  Registry& registry = Registry::process();
  const std::lock_guard lock(registry.mutex);
  if (const PluginOp* op = registry.find(name)) return op;
  RT_CHECK(load_environment(registry));
  return registry.find(name);
}

Outcome<void> resolve_plugins(const TdModel& model) {
  // Models of minor 0, and those that C writes by hand, have none.
  if (model.size < offsetof(TdModel, plugin_functions) + sizeof(model.plugin_functions) || !model.plugin_ops) return {};
  std::string missing;
  for (int32_t i = 0; model.plugin_ops[i]; ++i) {
    RT_TRY(const PluginOp* op, find_plugin_op(model.plugin_ops[i]));
    if (!op) {
      missing += cat(missing.empty() ? "`" : ", `", model.plugin_ops[i], "`");
      continue;
    }
    model.plugin_functions[i] = reinterpret_cast<TdFunction>(op->table.kernel);
  }
  if (!missing.empty())
    return refuse(TOROID_UNSUPPORTED, "the package calls ", missing,
                  " of a plug-in that is not loaded: load it with toroid_load_plugin() or --plugin, or name it in "
                  "TOROID_PLUGINS");
  return {};
}

}  // namespace toroid::runtime
