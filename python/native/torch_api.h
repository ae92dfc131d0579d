// What is used of the PyTorch in this process, found at run time: nothing links to it.
#pragma once
#include <nanobind/nanobind.h>

#include "dlpack_api.h"

namespace toroid::python {

namespace nb = nanobind;

struct TorchApi {
  using Handle = void*;  // AtenTensorHandle: an owned at::Tensor*
  PyTypeObject* tensor = nullptr;
  PyTypeObject* parameter = nullptr;
  const DlExchangeApi* exchange = nullptr;
  int32_t (*empty_strided)(int64_t rank, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                           int32_t device_type, int32_t device_index, Handle* made) = nullptr;
  int32_t (*data_pointer)(Handle tensor, void** data) = nullptr;
  int32_t (*free_handle)(Handle tensor) = nullptr;
  bool (*grad_mode)() = nullptr;
  // Where a Python tensor holds its at::Tensor, as tried out on two tensors; 0: not found, and tensors are read through
  // the exchange API and Python methods instead, which takes three times as long.
  Py_ssize_t offset = 0;
  int32_t (*get_rank)(Handle tensor, int64_t* rank) = nullptr;
  int32_t (*get_sizes)(Handle tensor, int64_t** sizes) = nullptr;
  int32_t (*get_strides)(Handle tensor, int64_t** strides) = nullptr;
  int32_t (*get_dtype)(Handle tensor, int32_t* dtype) = nullptr;
  int32_t (*get_layout)(Handle tensor, int32_t* layout) = nullptr;
  int32_t (*get_device_type)(Handle tensor, int32_t* type) = nullptr;
  bool (*is_neg)(const void* tensor) = nullptr;         // at::native::is_neg(const at::Tensor&)
  bool (*is_conj)(const void* tensor) = nullptr;        // at::native::is_conj(const at::Tensor&)
  bool (*requires_grad)(const void* tensor) = nullptr;  // c10::TensorImpl::requires_grad() const
  int32_t strided = 0;                                  // the layout

  // The handle of a Python tensor, as good as the tensor; with an offset only.
  Handle handle_of(PyObject* object) const { return reinterpret_cast<char*>(object) + offset; }
  // A new reference to the Python tensor of a handle, which stays the caller's; NULL with a Python error set.
  PyObject* (*wrap)(const void* tensor) = nullptr;
  PyObject* steal = nullptr;  // torch._C._aoti.alloc_tensor(s)_by_stealing_from_void_ptr(s), where `wrap` is missing
  bool steals_one = false;
  PyObject* plain_dispatch = nullptr;  // torch.Tensor.__torch_dispatch__

  // The tensor of a handle, which it takes; NULL with a Python error set.
  PyObject* take(Handle handle) const;
  // NULL while torch is not imported. Raises toroid.Error for a torch that is too old.
  static const TorchApi* loaded();
  // The same, but imports torch; raises ImportError where there is none.
  static const TorchApi& get();
};

}  // namespace toroid::python
