// toroid._native: the compiler and the runtime for Python.
#include "convert.h"
#include "model.h"

namespace nb = nanobind;

NB_MODULE(_native, module) {
  module.doc() = "Toroid's compiler and runtime; `toroid` is the package to use.";
  // Programs may live until the interpreter ends; the library prints nothing.
  nb::set_leak_warnings(false);
  toroid::python::bind_graph_builder(module);
  toroid::python::bind_compile(module);
  toroid::python::bind_model(module);
  toroid::python::bind_call(module);
}
