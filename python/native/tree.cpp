// Leaves out of nested tuples, lists and dicts, and back.
#include "tree.h"

#include "convert.h"

namespace toroid::python {

namespace {

const char* kind_name(Tree::Kind kind) {
  switch (kind) {
    case Tree::Kind::tuple: return "tuple";
    case Tree::Kind::list: return "list";
    case Tree::Kind::dict: return "dict";
    case Tree::Kind::leaf: break;
  }
  return "leaf";
}

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  raise(Error{"bad_input", "argument `" + path + "`: " + why, {}});
}

void check_type(const Tree& tree, PyObject* value, PyTypeObject* type, const std::string& path) {
  if (Py_TYPE(value) != type)
    refuse(path, std::string("is a ") + Py_TYPE(value)->tp_name + ", must be a " + kind_name(tree.kind));
}

void check_length(const Tree& tree, Py_ssize_t length, const std::string& path) {
  if (length != static_cast<Py_ssize_t>(tree.children.size()))
    refuse(path, "a " + std::string(kind_name(tree.kind)) + " of " + std::to_string(length) + ", must have " +
                     std::to_string(tree.children.size()));
}

// Paths are put together only where an error may need them: below the first level.
std::string below(const std::string& path, const std::string& key) { return path + "[" + key + "]"; }

}  // namespace

Tree Tree::from_python(nb::handle value) {
  Tree tree;
  if (value.is_none()) return tree;
  const nb::tuple row = nb::cast<nb::tuple>(value);
  const std::string kind = nb::cast<std::string>(row[0]);
  tree.kind = kind == "tuple" ? Kind::tuple : kind == "list" ? Kind::list : Kind::dict;
  for (nb::handle child : row[1]) tree.children.push_back(from_python(child));
  if (tree.kind == Kind::dict)
    for (nb::handle key : row[2]) tree.keys.push_back(nb::borrow(key));
  return tree;
}

void flatten(const Tree& tree, PyObject* value, std::vector<PyObject*>& leaves, const std::string& path) {
  const Py_ssize_t count = static_cast<Py_ssize_t>(tree.children.size());
  switch (tree.kind) {
    case Tree::Kind::leaf: leaves.push_back(value); return;
    case Tree::Kind::tuple:
      check_type(tree, value, &PyTuple_Type, path);
      check_length(tree, PyTuple_GET_SIZE(value), path);
      for (Py_ssize_t i = 0; i < count; ++i)
        flatten(tree.children[i], PyTuple_GET_ITEM(value, i), leaves, below(path, std::to_string(i)));
      return;
    case Tree::Kind::list:
      check_type(tree, value, &PyList_Type, path);
      check_length(tree, PyList_GET_SIZE(value), path);
      for (Py_ssize_t i = 0; i < count; ++i)
        flatten(tree.children[i], PyList_GET_ITEM(value, i), leaves, below(path, std::to_string(i)));
      return;
    case Tree::Kind::dict:
      check_type(tree, value, &PyDict_Type, path);
      check_length(tree, PyDict_GET_SIZE(value), path);
      for (Py_ssize_t i = 0; i < count; ++i) {
        const std::string key = nb::cast<std::string>(nb::repr(tree.keys[i]));
        PyObject* child = PyDict_GetItemWithError(value, tree.keys[i].ptr());
        if (!child && PyErr_Occurred()) throw nb::python_error();
        if (!child) refuse(path, "has no key " + key);
        flatten(tree.children[i], child, leaves, below(path, key));
      }
      return;
  }
}

PyObject* unflatten(const Tree& tree, PyObject**& leaves) {
  const Py_ssize_t count = static_cast<Py_ssize_t>(tree.children.size());
  switch (tree.kind) {
    case Tree::Kind::leaf: return std::exchange(*leaves++, nullptr);
    case Tree::Kind::tuple:
    case Tree::Kind::list: {
      const bool is_tuple = tree.kind == Tree::Kind::tuple;
      PyObject* made = is_tuple ? PyTuple_New(count) : PyList_New(count);
      for (Py_ssize_t i = 0; made && i < count; ++i) {
        PyObject* child = unflatten(tree.children[i], leaves);
        if (!child) {
          Py_CLEAR(made);
        } else if (is_tuple) {
          PyTuple_SET_ITEM(made, i, child);
        } else {
          PyList_SET_ITEM(made, i, child);
        }
      }
      return made;
    }
    case Tree::Kind::dict: {
      PyObject* made = PyDict_New();
      for (Py_ssize_t i = 0; made && i < count; ++i) {
        PyObject* child = unflatten(tree.children[i], leaves);
        if (!child || PyDict_SetItem(made, tree.keys[i].ptr(), child) != 0) Py_CLEAR(made);
        Py_XDECREF(child);
      }
      return made;
    }
  }
  return nullptr;
}

}  // namespace toroid::python
