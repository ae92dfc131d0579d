// Looks up PyTorch's C functions by name in the libtorch that is already loaded.
#include "torch.h"

#include <dlfcn.h>

namespace toroid::model {
namespace {

struct Lookup {
  void* library;
  std::string missing;

  template <class F>
  void get(F*& function, const char* name, bool optional = false) {
    void* at = library ? ::dlsym(library, name) : nullptr;
    // A program linked statically with PyTorch has no libtorch_cpu.so.
    if (!at) at = ::dlsym(RTLD_DEFAULT, name);
    function = reinterpret_cast<F*>(at);
    if (!at && !optional && missing.empty()) missing = name;
  }
};

struct Found {
  Torch torch{};
  std::string missing;
};

Found look_up() {
  Found found;
  // Not kept open: the caller of this model is libtorch itself, or stands on it.
  Lookup lookup{::dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD), {}};
  Torch& t = found.torch;
  lookup.get(t.get_data_ptr, "aoti_torch_get_data_ptr");
  lookup.get(t.get_dim, "aoti_torch_get_dim");
  lookup.get(t.get_sizes, "aoti_torch_get_sizes");
  lookup.get(t.get_strides, "aoti_torch_get_strides");
  lookup.get(t.get_dtype, "aoti_torch_get_dtype");
  lookup.get(t.get_device_type, "aoti_torch_get_device_type");
  lookup.get(t.get_device_index, "aoti_torch_get_device_index");
  lookup.get(t.empty_strided, "aoti_torch_empty_strided");
  lookup.get(t.create_tensor_from_blob, "aoti_torch_create_tensor_from_blob");
  lookup.get(t.new_tensor_handle, "aoti_torch_new_tensor_handle");
  lookup.get(t.delete_tensor_object, "aoti_torch_delete_tensor_object");
  lookup.get(t.get_layout, "aoti_torch_get_layout", true);
  lookup.get(t.parallel_for, "torch_parallel_for", true);
  lookup.get(t.get_num_threads, "torch_get_num_threads", true);
  found.missing = lookup.missing;
  if (lookup.library) ::dlclose(lookup.library);
  return found;
}

}  // namespace

const Torch* Torch::find(std::string& error) {
  static const Found found = look_up();
  if (found.missing.empty()) return &found.torch;
  error = "no PyTorch in this process offers `" + found.missing +
          "`; outside of PyTorch, load the package with toroid_load";
  return nullptr;
}

bool Torch::view_of(Handle handle, TdView& view) const {
  int64_t rank = 0;
  int64_t *sizes = nullptr, *strides = nullptr;
  if (!handle || get_device_type(handle, &view.device_type) || get_dtype(handle, &view.dtype)) return false;
  // 0: strided. Others have no data pointer to ask for.
  int32_t layout = 0;
  if (get_layout && (get_layout(handle, &layout) || layout != 0)) return false;
  if (get_device_index(handle, &view.device_index) || get_dim(handle, &rank) || get_sizes(handle, &sizes) ||
      get_strides(handle, &strides) || get_data_ptr(handle, &view.data))
    return false;
  view.rank = static_cast<int32_t>(rank);
  view.sizes = sizes;
  view.strides = strides;
  return true;
}

}  // namespace toroid::model
