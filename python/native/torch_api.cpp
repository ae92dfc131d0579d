// Finds PyTorch's C functions and Python objects once per process.
#include "torch_api.h"

#include <dlfcn.h>

#include "convert.h"

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
