// toroid::compile and what it returns, for Python: options from keywords, the GIL released while it works.
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/variant.h>

#include <functional>
#include <map>
#include <variant>

#include "convert.h"
#include "toroid/compiler.h"

namespace toroid::python {

namespace {

using namespace nb::literals;

// Calls from the compiling thread into Python. What one raises ends the compilation and is raised by compile().
class Callbacks {
 public:
  explicit Callbacks(CompileOptions& options) : options_(options) {}

  template <class... Args>
  void call(nb::handle function, Args... args) {
    const nb::gil_scoped_acquire gil;
    if (raised_) return;
    try {
      // A Ctrl-C is seen here; the compilation itself never returns to Python's loop.
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      if (function.is_valid() && !function.is_none()) function(args...);
    } catch (nb::python_error& error) {
      raised_ = std::make_unique<nb::python_error>(std::move(error));
      options_.cancel.cancel();
    }
  }
  void rethrow() {
    if (raised_) throw nb::python_error(std::move(*raised_));
  }

 private:
  CompileOptions& options_;
  std::unique_ptr<nb::python_error> raised_;
};

struct PythonCalls {
  nb::object progress, time, explanation;
};

template <class T>
auto setter(T CompileOptions::*field) {
  return [field](CompileOptions& options, PythonCalls&, nb::handle value) { options.*field = nb::cast<T>(value); };
}
auto setter(nb::object PythonCalls::*field) {
  return [field](CompileOptions&, PythonCalls& calls, nb::handle value) { calls.*field = nb::borrow(value); };
}

using Setter = std::function<void(CompileOptions&, PythonCalls&, nb::handle)>;
const std::map<std::string, Setter>& setters() {
  static const std::map<std::string, Setter> table = {
      {"target", setter(&CompileOptions::target)},
      {"threads", setter(&CompileOptions::threads)},
      {"jobs", setter(&CompileOptions::jobs)},
      {"model", setter(&CompileOptions::model)},
      {"compiler", setter(&CompileOptions::compiler)},
      {"search_path", setter(&CompileOptions::search_path)},
      {"launcher", setter(&CompileOptions::launcher)},
      {"cache_folder", setter(&CompileOptions::cache_folder)},
      {"cache_bytes", setter(&CompileOptions::cache_bytes)},
      {"temporary_folder", setter(&CompileOptions::temporary_folder)},
      {"deadline_seconds", setter(&CompileOptions::deadline_seconds)},
      {"explain", setter(&CompileOptions::explain)},
      {"dump_folder", setter(&CompileOptions::dump_folder)},
      {"skip", setter(&CompileOptions::skip)},
      {"output", setter(&CompileOptions::output)},
      {"progress", setter(&PythonCalls::progress)},
      {"time", setter(&PythonCalls::time)},
      {"explanation", setter(&PythonCalls::explanation)},
  };
  return table;
}

Package compile_with(std::variant<const GraphBuilder*, std::string> source, nb::dict given) {
  CompileOptions options;
  PythonCalls calls;
  for (auto [key, value] : given) {
    const std::string name = nb::cast<std::string>(key);
    const auto found = setters().find(name);
    if (found == setters().end()) throw nb::type_error(("compile has no option `" + name + "`").c_str());
    if (!value.is_none()) found->second(options, calls, value);
  }
  Callbacks callbacks(options);
  options.progress = [&](const Progress& p) { callbacks.call(calls.progress, p.step, p.done, p.total); };
  if (calls.time.is_valid())
    options.time = [&](const StepTime& t) { callbacks.call(calls.time, t.step, t.detail, t.seconds); };
  if (calls.explanation.is_valid())
    options.explanation = [&](std::string_view topic, std::string_view line) {
      callbacks.call(calls.explanation, std::string(topic), std::string(line));
    };
  std::optional<Expected<Package>> result;
  {
    const nb::gil_scoped_release released;
    if (const auto* builder = std::get_if<const GraphBuilder*>(&source))
      result = compile(**builder, options);
    else
      result = compile(std::get<std::string>(source), options);
  }
  callbacks.rethrow();
  return value_or_raise(std::move(*result));
}

std::vector<std::string> option_names() {
  std::vector<std::string> names;
  for (const auto& [name, set] : setters()) names.push_back(name);
  return names;
}

}  // namespace

void bind_compile(nb::module_& module) {
  nb::class_<Package>(module, "Package", "A compiled model in memory: the bytes of a .pt2 file.")
      .def_prop_ro("size", &Package::size, "How many bytes.")
      .def_prop_ro("target", &Package::target, "The target as an explicit list of features.")
      .def_prop_ro("compiler", &Package::compiler, "What compiled it: `g++ 12.2.0`.")
      .def_prop_ro("summary", &Package::summary, "One line for people.")
      .def(
          "to_bytes", [](const Package& p) { return nb::bytes(p.data(), p.size()); }, "A copy of the bytes.")
      .def(
          "save",
          [](const Package& p, const std::string& path) {
            const Outcome outcome = [&] {
              const nb::gil_scoped_release released;
              return p.save(path);
            }();
            done_or_raise(outcome);
          },
          "path"_a, "Writes the file, whole or not at all.");
  module.def("compile", &compile_with, "source"_a, "options"_a = nb::dict(),
             "Compiles a GraphBuilder or the archive at a path; gives a Package. options: those of option_names().");
  module.def(
      "compile_plugin", [](const std::string& path) { done_or_raise(load_plugin(path)); }, "path"_a);
  module.def("option_names", &option_names, "What compile() takes in its options.");
  module.def("op_names", &op_names, "part"_a = "", "The ops that Toroid has code for; those whose name holds `part`.");
  module.def(
      "native_target", [] { return value_or_raise(native_target()); }, "What `native` is on this machine.");
  module.def("version", [] { return std::string(version()); });
}

}  // namespace toroid::python
