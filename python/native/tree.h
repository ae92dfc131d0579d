// The nesting of a call's arguments or results: tuples, lists and dicts around leaves. Anything else is a job for
// torch.utils._pytree, in Python.
#pragma once
#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace toroid::python {

namespace nb = nanobind;

struct Tree {
  enum class Kind { leaf, tuple, list, dict };
  Kind kind = Kind::leaf;
  std::vector<Tree> children;
  std::vector<nb::object> keys;  // of a dict, in order

  // From None for a leaf, ("tuple", [children]), ("list", [children]) or ("dict", [children], [keys]).
  static Tree from_python(nb::handle value);
};

// Appends the leaves of `value`, borrowed from it. `path` names the value in errors; raises toroid.InputError where the
// nesting differs.
void flatten(const Tree& tree, PyObject* value, std::vector<PyObject*>& leaves, const std::string& path);
// Builds a value, taking the references of as many leaves as the tree has; NULL with a Python error set.
PyObject* unflatten(const Tree& tree, PyObject**& leaves);

}  // namespace toroid::python
