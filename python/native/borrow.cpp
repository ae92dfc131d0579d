// Python arguments as the runtime's tensors, without copies: torch tensors through DLPack's exchange API, arrays
// through the buffer protocol.
#include <cstring>
#include <string_view>

#include "convert.h"
#include "model.h"
#include "torch_api.h"

namespace toroid::python {

namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& why) {
  raise(Error{"bad_input", what + ": " + why, {}});
}

std::string type_name(PyObject* object) { return Py_TYPE(object)->tp_name; }

// The text of the Python error that is set, which is cleared.
std::string take_error() {
  nb::python_error error;
  return nb::cast<std::string>(nb::str(error.value()));
}

// c10's number, or -1.
int32_t dtype_of(DlDtype dtype) {
  if (dtype.lanes != 1) return -1;
  switch (dtype.code << 8 | dtype.bits) {
    case dl_uint << 8 | 8: return TOROID_U8;
    case dl_int << 8 | 8: return TOROID_I8;
    case dl_int << 8 | 16: return TOROID_I16;
    case dl_int << 8 | 32: return TOROID_I32;
    case dl_int << 8 | 64: return TOROID_I64;
    case dl_float << 8 | 16: return TOROID_F16;
    case dl_float << 8 | 32: return TOROID_F32;
    case dl_float << 8 | 64: return TOROID_F64;
    case dl_complex << 8 | 32: return 8;
    case dl_complex << 8 | 64: return TOROID_C64;
    case dl_complex << 8 | 128: return TOROID_C128;
    case dl_bool << 8 | 8: return TOROID_BOOL;
    case dl_bfloat << 8 | 16: return TOROID_BF16;
    case dl_uint << 8 | 16: return 27;
    case dl_uint << 8 | 32: return 28;
    case dl_uint << 8 | 64: return 29;
    default: return -1;
  }
}

// The same for a format of the buffer protocol.
int32_t dtype_of(std::string_view format, Py_ssize_t bytes) {
  if (!format.empty() && std::string_view("@=<").find(format[0]) != std::string_view::npos) format.remove_prefix(1);
  if (format == "Zf") return TOROID_C64;
  if (format == "Zd") return TOROID_C128;
  if (format.size() != 1) return -1;
  const bool is_signed = std::string_view("bhilq").find(format[0]) != std::string_view::npos;
  const bool is_unsigned = std::string_view("BHILQ").find(format[0]) != std::string_view::npos;
  if (is_signed || is_unsigned)
    return dtype_of(DlDtype{is_signed ? dl_int : dl_uint, static_cast<uint8_t>(8 * bytes), 1});
  switch (format[0]) {
    case '?': return TOROID_BOOL;
    case 'e': return TOROID_F16;
    case 'f': return TOROID_F32;
    case 'd': return TOROID_F64;
    default: return -1;
  }
}

bool call_is_true(PyObject* object, PyObject* method) {
  PyObject* answer = PyObject_CallMethodNoArgs(object, method);
  if (!answer) throw nb::python_error();
  Py_DECREF(answer);
  return answer == Py_True;
}

PyObject* name_of(const char* text) {
  PyObject* name = PyUnicode_InternFromString(text);
  if (!name) throw nb::python_error();
  return name;
}

// A tensor of a class of its own whose operators are PyTorch's: the bytes are the values.
bool is_plain_subclass(PyTypeObject* type, const TorchApi& torch) {
  static PyObject* const dispatch = name_of("__torch_dispatch__");
  PyObject* own = PyObject_GetAttr(reinterpret_cast<PyObject*>(type), dispatch);
  if (!own) throw nb::python_error();
  Py_DECREF(own);
  return own == torch.plain_dispatch;
}

}  // namespace

void Borrowed::release() {
  if (buffer_) PyBuffer_Release(buffer_.get());
  buffer_.reset();
  Py_CLEAR(resolved_);
}

// Reads a tensor where PyTorch keeps it; false where something about it is not as usual, which is for others to name.
bool Borrowed::direct(PyObject* given, bool trusted) {
  const TorchApi& torch = TorchApi::get();
  TorchApi::Handle handle = torch.handle_of(given);
  int32_t layout = 0, device = 0, dtype = 0;
  int64_t rank = 0, *sizes = nullptr, *strides = nullptr;
  void* data = nullptr;
  if (torch.get_device_type(handle, &device) != 0 || device != 0) return false;
  if (torch.get_layout(handle, &layout) != 0 || layout != torch.strided) return false;
  if (torch.is_neg(handle) || torch.is_conj(handle)) return false;
  if (!trusted && torch.grad_mode() && torch.requires_grad(*static_cast<void**>(handle))) return false;
  if (torch.get_dtype(handle, &dtype) != 0 || toroid_dtype_bytes(dtype) == 0) return false;
  if (torch.get_rank(handle, &rank) != 0 || torch.get_sizes(handle, &sizes) != 0 ||
      torch.get_strides(handle, &strides) != 0 || torch.data_pointer(handle, &data) != 0)
    return false;
  view = {sizeof view, data, sizes, strides, static_cast<int32_t>(rank), dtype, 0, 0, nullptr};
  is_torch = true;
  return true;
}

void Borrowed::torch_tensor(PyObject* given, const std::string& what, bool written, bool trusted) {
  const TorchApi& torch = TorchApi::get();
  PyTypeObject* type = Py_TYPE(given);
  if (type != torch.tensor && type != torch.parameter && !is_plain_subclass(type, torch))
    refuse(what, "a `" + type_name(given) + "` cannot be borrowed: give a plain torch.Tensor");
  if (torch.offset && direct(given, trusted)) return;
  DlTensor t;
  if (torch.exchange->borrow(given, &t) != 0) refuse(what, take_error());
  static PyObject* const requires_grad = name_of("requires_grad");
  static PyObject* const is_neg = name_of("is_neg");
  static PyObject* const is_conj = name_of("is_conj");
  if (!trusted && torch.grad_mode()) {
    PyObject* answer = PyObject_GetAttr(given, requires_grad);
    if (!answer) throw nb::python_error();
    Py_DECREF(answer);
    if (answer == Py_True)
      refuse(what,
             "requires grad, but a compiled program has no backward: call it under torch.no_grad(), or give "
             "x.detach()");
  }
  const bool conj = t.dtype.code == dl_complex && call_is_true(given, is_conj);
  if (conj || call_is_true(given, is_neg)) {
    // A view whose bytes are not yet conjugated or negated.
    if (written) refuse(what, "the program writes to it, and it is a conjugate or negative view");
    static PyObject* const resolve_conj = name_of("resolve_conj");
    static PyObject* const resolve_neg = name_of("resolve_neg");
    PyObject* half = PyObject_CallMethodNoArgs(given, resolve_conj);
    if (!half) throw nb::python_error();
    resolved_ = PyObject_CallMethodNoArgs(half, resolve_neg);
    Py_DECREF(half);
    if (!resolved_) throw nb::python_error();
    object = resolved_;
    if (torch.exchange->borrow(resolved_, &t) != 0) refuse(what, take_error());
  }
  const int32_t dtype = dtype_of(t.dtype);
  if (dtype < 0) refuse(what, "its dtype has no name in toroid");
  const bool on_cpu = t.device.type == dl_cpu;
  view = {sizeof view,    static_cast<char*>(t.data) + t.byte_offset,
          t.sizes,        t.strides,
          t.rank,         dtype,
          on_cpu ? 0 : 1, t.device.id,
          nullptr};
  is_torch = true;
}

void Borrowed::array(PyObject* given, const std::string& what, bool written) {
  auto made = std::make_unique<Py_buffer>();
  if (PyObject_GetBuffer(given, made.get(), written ? PyBUF_RECORDS : PyBUF_RECORDS_RO) != 0)
    refuse(what, take_error());
  buffer_ = std::move(made);
  const int32_t dtype = dtype_of(buffer_->format ? buffer_->format : "B", buffer_->itemsize);
  if (dtype < 0) refuse(what, "arrays of format `" + std::string(buffer_->format) + "` are not taken");
  const int32_t rank = buffer_->ndim;
  copied_ = std::make_unique<int64_t[]>(static_cast<size_t>(2 * rank + 1));
  bool legal = reinterpret_cast<uintptr_t>(buffer_->buf) % static_cast<uintptr_t>(buffer_->itemsize) == 0;
  for (int32_t d = 0; d < rank; ++d) {
    copied_[d] = buffer_->shape[d];
    copied_[rank + d] = buffer_->strides[d] / buffer_->itemsize;
    legal &= buffer_->strides[d] >= 0 && buffer_->strides[d] % buffer_->itemsize == 0;
  }
  if (!legal) {
    // Reversed, or not aligned to its elements.
    if (written || resolved_) refuse(what, "its memory layout cannot be written to");
    release();
    resolved_ = nb::module_::import_("numpy").attr("array")(nb::handle(given), nb::arg("order") = "C").release().ptr();
    object = resolved_;
    return array(resolved_, what, written);
  }
  view = {sizeof view, buffer_->buf, copied_.get(), copied_.get() + rank, rank, dtype, 0, 0, nullptr};
}

void Borrowed::tensor(PyObject* given, const std::string& what, bool written, bool trusted) {
  object = given;
  const TorchApi* torch = TorchApi::loaded();
  if (torch && PyObject_TypeCheck(given, torch->tensor)) return torch_tensor(given, what, written, trusted);
  if (PyObject_CheckBuffer(given) && !PyBytes_Check(given)) return array(given, what, written);
  refuse(what, "is of type `" + type_name(given) + "`, must be a tensor");
}

void Borrowed::size(PyObject* given, const std::string& what) {
  object = given;
  // bool is an int to Python, but no size.
  if (!PyIndex_Check(given) || PyBool_Check(given))
    refuse(what, "is of type `" + type_name(given) + "`, must be an int");
  PyObject* number = PyNumber_Index(given);
  if (!number) throw nb::python_error();
  number_ = PyLong_AsLongLong(number);
  Py_DECREF(number);
  if (number_ == -1 && PyErr_Occurred()) throw nb::python_error();
  view = {sizeof view, &number_, nullptr, nullptr, 0, TOROID_I64, 0, 0, nullptr};
}

}  // namespace toroid::python
