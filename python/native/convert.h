// Python values to the arguments of GraphBuilder, and Toroid's errors to Python exceptions.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <vector>

#include "toroid/graph_builder.h"

namespace toroid::python {

namespace nb = nanobind;

// Raises the exception of toroid/_errors.py that belongs to the error's kind.
[[noreturn]] void raise(const Error& error);
// A failed call of the runtime, whose text is in toroid_last_error().
[[noreturn]] void raise_status(int status);

template <class T>
T value_or_raise(Expected<T> result) {
  if (!result) raise(result.error());
  return std::move(result).value();
}
inline void done_or_raise(const Outcome& outcome) {
  if (!outcome) raise(outcome.error());
}

// int, a text such as "2*s0", or a Size.
GraphBuilder::Size to_size(nb::handle value);
GraphBuilder::Sizes to_sizes(nb::handle values);
std::optional<GraphBuilder::Sizes> to_optional_sizes(nb::handle values);
// None, bool, int, float, complex, str, Tensor, Size, Dtype, Format, Place, and lists of one kind of these.
GraphBuilder::Argument to_argument(nb::handle value);

// A shared_ptr that keeps a Python object alive, from any thread.
std::shared_ptr<const void> keep(nb::handle object);

void bind_graph_builder(nb::module_& module);
void bind_compile(nb::module_& module);

}  // namespace toroid::python
