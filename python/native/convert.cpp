// Python values to GraphBuilder's arguments; errors to exceptions.
#include "convert.h"

#include <algorithm>

#include "toroid/runtime.h"

namespace toroid::python {

using Builder = GraphBuilder;

void raise(const Error& error) {
  nb::list details;
  for (const std::string& line : error.details) details.append(nb::str(line.c_str(), line.size()));
  nb::object made = nb::module_::import_("toroid._errors").attr("make")(error.kind, error.text, details);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
  throw nb::python_error();
}

void raise_status(int status) { raise(Error{toroid_status_name(status), toroid_last_error(), {}}); }

Builder::Size to_size(nb::handle value) {
  if (PyLong_Check(value.ptr())) return Builder::Size(nb::cast<int64_t>(value));
  if (PyUnicode_Check(value.ptr())) return Builder::Size(nb::cast<std::string>(value));
  if (nb::isinstance<Builder::Size>(value)) return nb::cast<Builder::Size>(value);
  if (PyIndex_Check(value.ptr())) return Builder::Size(nb::cast<int64_t>(nb::steal(PyNumber_Index(value.ptr()))));
  throw nb::type_error("a size is an int, a text or a toroid._native.Size");
}

Builder::Sizes to_sizes(nb::handle values) {
  Builder::Sizes sizes;
  for (nb::handle value : values) sizes.push_back(to_size(value));
  return sizes;
}

std::optional<Builder::Sizes> to_optional_sizes(nb::handle values) {
  if (values.is_none()) return std::nullopt;
  return to_sizes(values);
}

namespace {

enum class Item { none, tensor, boolean, integer, number, complex, text, size, dtype, format, place, program, other };

Item item_of(nb::handle value) {
  PyObject* p = value.ptr();
  if (value.is_none()) return Item::none;
  if (nb::isinstance<Builder::Tensor>(value)) return Item::tensor;
  if (PyBool_Check(p)) return Item::boolean;
  if (PyLong_Check(p)) return Item::integer;
  if (PyFloat_Check(p)) return Item::number;
  if (PyComplex_Check(p)) return Item::complex;
  if (PyUnicode_Check(p)) return Item::text;
  if (nb::isinstance<Builder::Size>(value)) return Item::size;
  if (nb::isinstance<Builder::Dtype>(value)) return Item::dtype;
  if (nb::isinstance<Builder::Format>(value)) return Item::format;
  if (nb::isinstance<Builder::Place>(value)) return Item::place;
  if (nb::isinstance<Builder::Program>(value)) return Item::program;
  return Item::other;
}

[[noreturn]] void no_argument(nb::handle value) {
  const std::string type = nb::cast<std::string>(nb::str(value.type()));
  throw nb::type_error(("no argument of an op: " + type).c_str());
}

template <class T>
Builder::Argument list_of(nb::handle values) {
  std::vector<T> list;
  for (nb::handle value : values) list.push_back(nb::cast<T>(value));
  return list;
}

Builder::Argument to_list(nb::handle values) {
  bool seen[static_cast<int>(Item::other) + 1] = {};
  size_t count = 0;
  for (nb::handle value : values) seen[static_cast<int>(item_of(value))] = true, ++count;
  // Whether all items are of these kinds.
  auto only = [&](std::initializer_list<Item> kinds) {
    size_t hit = 0, all = 0;
    for (Item kind : kinds) hit += seen[static_cast<int>(kind)];
    for (bool one : seen) all += one;
    return hit == all;
  };
  if (count == 0) return std::vector<int64_t>{};
  if (only({Item::tensor, Item::none})) {
    std::vector<Builder::Tensor> list;
    for (nb::handle value : values)
      list.push_back(value.is_none() ? Builder::Tensor{} : nb::cast<Builder::Tensor>(value));
    return list;
  }
  if (only({Item::boolean})) return list_of<bool>(values);
  if (only({Item::integer, Item::boolean})) return list_of<int64_t>(values);
  if (only({Item::number, Item::integer, Item::boolean})) return list_of<double>(values);
  if (only({Item::text})) return list_of<std::string>(values);
  if (only({Item::size, Item::integer})) return to_sizes(values);
  throw nb::type_error("a list of an op's argument holds one kind of value");
}

}  // namespace

Builder::Argument to_argument(nb::handle value) {
  switch (item_of(value)) {
    case Item::none: return {};
    case Item::tensor: return nb::cast<Builder::Tensor>(value);
    case Item::boolean: return value.ptr() == Py_True;
    case Item::integer: return nb::cast<int64_t>(value);
    case Item::number: return PyFloat_AS_DOUBLE(value.ptr());
    case Item::complex: {
      const Py_complex c = PyComplex_AsCComplex(value.ptr());
      return std::complex<double>(c.real, c.imag);
    }
    case Item::text: return nb::cast<std::string>(value);
    case Item::size: return nb::cast<Builder::Size>(value);
    case Item::dtype: return nb::cast<Builder::Dtype>(value);
    case Item::format: return nb::cast<Builder::Format>(value);
    case Item::place: return nb::cast<Builder::Place>(value);
    case Item::program: return nb::cast<Builder::Program>(value);
    case Item::other: break;
  }
  if (PyList_Check(value.ptr()) || PyTuple_Check(value.ptr())) return to_list(value);
  no_argument(value);
}

std::shared_ptr<const void> keep(nb::handle object) {
  if (object.is_none()) return nullptr;
  object.inc_ref();
  return {object.ptr(), [](const void* p) {
            if (!Py_IsInitialized()) return;
            const nb::gil_scoped_acquire gil;
            Py_DECREF(const_cast<PyObject*>(static_cast<const PyObject*>(p)));
          }};
}

}  // namespace toroid::python
