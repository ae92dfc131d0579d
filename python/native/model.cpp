// Loading of packages, and what a loaded model tells about itself.
#include "model.h"

#include <nanobind/stl/shared_ptr.h>

#include "convert.h"

namespace toroid::python {

namespace {

using namespace nb::literals;

void check(int status) {
  if (status != TOROID_OK) raise_status(status);
}

void read_slots(Model& model) {
  for (int32_t i = 0; i < toroid_input_count(model.handle); ++i) {
    toroid_slot slot{.size = sizeof slot};
    check(toroid_input(model.handle, i, &slot));
    model.inputs.push_back(slot);
  }
  for (int32_t i = 0; i < toroid_output_count(model.handle); ++i) {
    toroid_slot slot{.size = sizeof slot};
    check(toroid_output(model.handle, i, &slot));
    model.outputs.push_back(slot);
  }
}

std::shared_ptr<Model> load(nb::handle source, const std::string& name, int32_t threads, bool verify) {
  auto model = std::make_shared<Model>();
  toroid_load_options options{.size = sizeof options};
  options.model = name.empty() ? nullptr : name.c_str();
  options.threads = threads;
  options.flags = verify ? TOROID_LOAD_VERIFY : 0;
  int status;
  if (nb::isinstance<Package>(source)) {
    model->package = nb::cast<Package>(source);
    options.flags |= TOROID_LOAD_BORROW;
    const nb::gil_scoped_release released;
    status = toroid_load_memory(model->package->data(), model->package->size(), &options, &model->handle);
  } else if (nb::isinstance<nb::bytes>(source)) {
    const nb::bytes bytes = nb::borrow<nb::bytes>(source);
    const nb::gil_scoped_release released;
    status = toroid_load_memory(bytes.data(), bytes.size(), &options, &model->handle);
  } else {
    const std::string path = nb::cast<std::string>(nb::module_::import_("os").attr("fspath")(source));
    const nb::gil_scoped_release released;
    status = toroid_load(path.c_str(), &options, &model->handle);
  }
  check(status);
  read_slots(*model);
  return model;
}

nb::list slot_rows(const std::vector<toroid_slot>& slots) {
  nb::list rows;
  for (const toroid_slot& slot : slots)
    rows.append(nb::make_tuple(slot.name, toroid_dtype_name(slot.dtype), slot.sizes, slot.rank));
  return rows;
}

void set_weights(Model& model, nb::dict weights) {
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Borrowed>> borrowed;
  std::vector<toroid_tensor> tensors;
  std::vector<const char*> c_names;
  std::vector<nb::object> kept;
  for (auto [name, value] : weights) {
    names.push_back(nb::cast<std::string>(name));
    borrowed.push_back(std::make_unique<Borrowed>());
    // Weights of a module require grad; the bytes are what counts.
    kept.push_back(nb::hasattr(value, "detach") ? nb::object(value.attr("detach")()) : nb::borrow(value));
    borrowed.back()->tensor(kept.back().ptr(), "weight `" + names.back() + "`", false, false);
    tensors.push_back(borrowed.back()->view);
  }
  for (const std::string& name : names) c_names.push_back(name.c_str());
  int status;
  {
    const nb::gil_scoped_release released;
    status = toroid_set_weights(model.handle, c_names.data(), tensors.data(), tensors.size());
  }
  check(status);
}

}  // namespace

void bind_model(nb::module_& module) {
  nb::class_<Model>(module, "Model", "A package loaded by the runtime.")
      .def_prop_ro("name", [](const Model& m) { return toroid_model_name(m.handle); })
      .def_prop_ro("target", [](const Model& m) { return toroid_model_target(m.handle); })
      .def_prop_ro(
          "manifest", [](const Model& m) { return toroid_manifest(m.handle); }, "JSON text.")
      .def_prop_ro(
          "report", [](const Model& m) { return toroid_report(m.handle); }, "JSON text.")
      .def_prop_ro(
          "inputs", [](const Model& m) { return slot_rows(m.inputs); }, "Rows of (name, dtype, sizes, rank).")
      .def_prop_ro(
          "outputs", [](const Model& m) { return slot_rows(m.outputs); }, "Rows of (name, dtype, sizes, rank).")
      .def_prop_rw(
          "threads", [](const Model& m) { return toroid_threads(m.handle); },
          [](Model& m, int32_t threads) { check(toroid_set_threads(m.handle, threads)); },
          "The most threads that a run may use; 0 is all of the pool.")
      .def(
          "verify",
          [](Model& m) {
            const int status = [&] {
              const nb::gil_scoped_release released;
              return toroid_verify(m.handle);
            }();
            check(status);
          },
          "Hashes code and weights against the manifest.")
      .def("set_weights", &set_weights, "weights"_a, "Replaces weights, by the names of the state dict.");
  module.def("load", &load, "source"_a, "model"_a = "", "threads"_a = 0, "verify"_a = false,
             "Loads a package from a path, bytes or a Package.");
  module.def(
      "load_plugin", [](const std::string& path) { check(toroid_load_plugin(path.c_str())); }, "path"_a);
  module.def("pool_threads", [] { return toroid_pool_threads(); });
}

}  // namespace toroid::python
