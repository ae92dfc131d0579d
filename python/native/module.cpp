// toroid._native: the compiler and the runtime for Python.
#include "convert.h"
#include "model.h"

NB_MODULE(_native, module) {
  module.doc() = "Toroid's compiler and runtime; `toroid` is the package to use.";
  toroid::python::bind_graph_builder(module);
  toroid::python::bind_compile(module);
  toroid::python::bind_model(module);
  toroid::python::bind_call(module);
}
