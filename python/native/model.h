// A package loaded by the runtime, as Python holds it.
#pragma once
#include <nanobind/nanobind.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "toroid/compiler.h"
#include "toroid/runtime.h"

namespace toroid::python {

namespace nb = nanobind;

struct Model {
  toroid_model* handle = nullptr;
  std::optional<Package> package;  // what the model's bytes are borrowed from
  std::vector<toroid_slot> inputs, outputs;

  Model() = default;
  Model(const Model&) = delete;
  ~Model() { toroid_unload(handle); }
};

// An argument or weight as the runtime takes it. What is borrowed lives as long as this; sizes and strides point into
// the Python object, or into `copied`.
class Borrowed {
 public:
  Borrowed() = default;
  Borrowed(const Borrowed&) = delete;
  ~Borrowed() { release(); }
  void release();

  // A torch tensor, or something with a buffer such as a NumPy array. `what` begins the error text. With `trusted`,
  // what PyTorch's guards see to is not checked again.
  void tensor(PyObject* object, const std::string& what, bool written, bool trusted);
  // An int where the program takes a size.
  void size(PyObject* object, const std::string& what);

  toroid_tensor view{};
  bool is_torch = false;
  PyObject* object = nullptr;  // what was borrowed; the caller's reference, or `resolved`

 private:
  bool direct(PyObject* given, bool trusted);
  void torch_tensor(PyObject* given, const std::string& what, bool written, bool trusted);
  void array(PyObject* given, const std::string& what, bool written);

  PyObject* resolved_ = nullptr;  // in place of an argument whose bytes are not its values
  std::unique_ptr<Py_buffer> buffer_;
  int64_t number_ = 0;
  std::unique_ptr<int64_t[]> copied_;
};

void bind_model(nb::module_& module);
void bind_call(nb::module_& module);

}  // namespace toroid::python
