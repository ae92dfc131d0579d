// Finds PyTorch's C functions and Python objects once per process.
#include "torch_api.h"

#include <dlfcn.h>

#include <cstring>

#include "convert.h"
#include "toroid/runtime.h"

namespace toroid::python {

namespace {

TorchApi* found = nullptr;  // under the GIL

template <class F>
void find(F*& function, const char* library, const char* name) {
  // By the name under which torch has loaded it; the handle only counts a reference.
  void* handle = dlopen(library, RTLD_NOLOAD | RTLD_LAZY);
  if (handle) function = reinterpret_cast<F*>(dlsym(handle, name));
}

[[noreturn]] void too_old(const std::string& what) {
  raise(Error{"unsupported", "this PyTorch has no " + what, {"toroid works with torch 2.11 and later"}});
}

// Looks for the at::Tensor, which is one pointer, inside Python tensors that were made from handles, and takes it only
// where everything read through it is what was made.
void find_offset_in(TorchApi& api, nb::handle torch) {
  const char *cpu = "libtorch_cpu.so", *core = "libc10.so";
  find(api.get_rank, cpu, "aoti_torch_get_dim");
  find(api.get_sizes, cpu, "aoti_torch_get_sizes");
  find(api.get_strides, cpu, "aoti_torch_get_strides");
  find(api.get_dtype, cpu, "aoti_torch_get_dtype");
  find(api.get_layout, cpu, "aoti_torch_get_layout");
  find(api.get_device_type, cpu, "aoti_torch_get_device_type");
  int32_t (*layout_strided)() = nullptr;
  find(layout_strided, cpu, "aoti_torch_layout_strided");
  find(api.is_neg, cpu, "_ZN2at6native6is_negERKNS_6TensorE");
  find(api.is_conj, cpu, "_ZN2at6native7is_conjERKNS_6TensorE");
  find(api.requires_grad, core, "_ZNK3c1010TensorImpl13requires_gradEv");
  if (!api.wrap || !api.get_rank || !api.get_sizes || !api.get_strides || !api.get_dtype || !api.get_layout ||
      !api.get_device_type || !layout_strided || !api.is_neg || !api.is_conj || !api.requires_grad)
    return;
  api.strided = layout_strided();
  Py_ssize_t agreed = 0;
  for (int64_t size : {3, 5}) {
    TorchApi::Handle handle = nullptr;
    const int64_t step = 2;
    if (api.empty_strided(1, &size, &step, TOROID_F64, 0, 0, &handle) != 0) return;
    const nb::object object = nb::steal(api.wrap(handle));
    Py_ssize_t found = 0;
    for (Py_ssize_t at = sizeof(PyObject); object.is_valid() && at + 8 <= Py_TYPE(object.ptr())->tp_basicsize; at += 8)
      if (!found && std::memcmp(reinterpret_cast<char*>(object.ptr()) + at, handle, sizeof(void*)) == 0) found = at;
    api.free_handle(handle);
    if (!found || (agreed && found != agreed)) return;
    agreed = found;
    const TorchApi::Handle inside = reinterpret_cast<char*>(object.ptr()) + found;
    int64_t rank = 0, *sizes = nullptr, *strides = nullptr;
    int32_t dtype = -1, layout = -1, device = -1;
    if (api.get_rank(inside, &rank) != 0 || rank != 1 || api.get_sizes(inside, &sizes) != 0 || *sizes != size ||
        api.get_strides(inside, &strides) != 0 || *strides != step || api.get_dtype(inside, &dtype) != 0 ||
        dtype != TOROID_F64 || api.get_layout(inside, &layout) != 0 || layout != api.strided ||
        api.get_device_type(inside, &device) != 0 || device != 0 || api.is_neg(inside) || api.is_conj(inside) ||
        api.requires_grad(*static_cast<void**>(inside)))
      return;
    // Each question must also find its yes.
    const nb::object negative = torch.attr("_neg_view")(object), tracked = object.attr("detach")();
    const nb::object conjugate = torch.attr("empty")(2, nb::arg("dtype") = torch.attr("complex64")).attr("conj")();
    tracked.attr("requires_grad_")();
    auto inner = [&](const nb::object& tensor) { return reinterpret_cast<char*>(tensor.ptr()) + found; };
    if (!api.is_neg(inner(negative)) || !api.is_conj(inner(conjugate)) ||
        !api.requires_grad(*reinterpret_cast<void**>(inner(tracked))))
      return;
  }
  api.offset = agreed;
}

void find_offset(TorchApi& api, nb::handle torch) {
  try {
    find_offset_in(api, torch);
  } catch (const nb::python_error&) {
    // A mode that changes what PyTorch's functions do: nothing was learnt.
  }
}

TorchApi* load(nb::object torch) {
  auto api = std::make_unique<TorchApi>();
  const nb::object tensor = torch.attr("Tensor");
  api->tensor = reinterpret_cast<PyTypeObject*>(tensor.inc_ref().ptr());
  api->parameter = reinterpret_cast<PyTypeObject*>(nb::object(torch.attr("nn").attr("Parameter")).inc_ref().ptr());
  api->plain_dispatch = nb::object(tensor.attr("__torch_dispatch__")).inc_ref().ptr();
  const nb::object capsule = nb::getattr(tensor, "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) too_old("`Tensor.__dlpack_c_exchange_api__`");
  api->exchange = static_cast<const DlExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (api->exchange->major != 1 || !api->exchange->borrow) too_old("DLPack exchange API of version 1 that borrows");
  const char *cpu = "libtorch_cpu.so", *python = "libtorch_python.so";
  find(api->empty_strided, cpu, "aoti_torch_empty_strided");
  find(api->data_pointer, cpu, "aoti_torch_get_data_ptr");
  find(api->free_handle, cpu, "aoti_torch_delete_tensor_object");
  find(api->grad_mode, cpu, "aoti_torch_grad_mode_is_enabled");
  if (!api->empty_strided || !api->data_pointer || !api->free_handle || !api->grad_mode)
    too_old("`aoti_torch_empty_strided` in " + std::string(cpu));
  // THPVariable_Wrap(const at::TensorBase&): what the function below calls, without its lists and capsules.
  find(api->wrap, python, "_Z16THPVariable_WrapRKN2at10TensorBaseE");
  const nb::object aoti = torch.attr("_C").attr("_aoti");
  const char* one = "alloc_tensor_by_stealing_from_void_ptr";
  api->steals_one = nb::hasattr(aoti, one);
  find_offset(*api, torch);
  api->steal =
      nb::object(aoti.attr(api->steals_one ? one : "alloc_tensors_by_stealing_from_void_ptrs")).inc_ref().ptr();
  return api.release();
}

}  // namespace

PyObject* TorchApi::take(Handle handle) const {
  if (wrap) {
    PyObject* object = wrap(handle);
    free_handle(handle);
    return object;
  }
  PyObject* capsule = PyCapsule_New(handle, nullptr, nullptr);
  if (!capsule) return nullptr;
  if (steals_one) {
    PyObject* object = PyObject_CallOneArg(steal, capsule);
    Py_DECREF(capsule);
    return object;
  }
  PyObject* list = PyList_New(1);
  if (!list) return Py_DECREF(capsule), nullptr;
  PyList_SET_ITEM(list, 0, capsule);
  PyObject* made = PyObject_CallOneArg(steal, list);
  Py_DECREF(list);
  if (!made) return nullptr;
  PyObject* object = PySequence_GetItem(made, 0);
  Py_DECREF(made);
  return object;
}

const TorchApi* TorchApi::loaded() {
  if (found) return found;
  PyObject* modules = PyImport_GetModuleDict();
  PyObject* torch = PyDict_GetItemString(modules, "torch");
  // Half imported: as good as absent.
  if (!torch || !PyObject_HasAttrString(torch, "nn") || !PyObject_HasAttrString(torch, "_C")) return nullptr;
  return found = load(nb::borrow(torch));
}

const TorchApi& TorchApi::get() {
  if (!found) found = load(nb::module_::import_("torch"));
  return *found;
}

}  // namespace toroid::python
