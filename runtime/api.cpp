// The C interface of include/toroid/runtime.h: checks pointers and struct sizes, turns failures into status and text.
// No exception leaves a function of this file.
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "model.h"
#include "plugins.h"
#include "pool.h"
#include "toroid/error.h"
#include "toroid/runtime.h"

using namespace toroid::runtime;

#ifndef TOROID_VERSION
#define TOROID_VERSION "0.1.0"
#endif

struct toroid_model {
  std::unique_ptr<Model> model;
};

namespace {

thread_local char last_error[2048];

int set_failure(int code, const char* text) {
  // Paths and names from files may be any bytes; Python takes UTF-8 only.
  std::strncpy(last_error, toroid::printable(text).c_str(), sizeof last_error - 1);
  return code;
}

// Runs `body`, which returns an Outcome<void>.
template <class Body>
int guarded(Body&& body) noexcept {
  try {
    last_error[0] = 0;
    const Outcome<void> outcome = body();
    return outcome ? TOROID_OK : set_failure(outcome.error().code, outcome.error().text.c_str());
  } catch (const std::bad_alloc&) {
    return set_failure(TOROID_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return set_failure(TOROID_INTERNAL, e.what());
  }
}

// The first `smallest` bytes of a versioned struct must be there; what an older caller lacks stays zero.
template <class T>
Outcome<void> read_struct(const T* from, size_t smallest, const char* what, T& to) {
  if (!from) return {};
  if (from->size < smallest)
    return refuse(TOROID_BAD_OPTION, what, ": its size field is ", static_cast<uint64_t>(from->size));
  std::memcpy(&to, from, std::min(from->size, sizeof(T)));
  return {};
}

Outcome<LoadOptions> load_options(const toroid_load_options* options) {
  toroid_load_options o{};
  RT_CHECK(read_struct(options, offsetof(toroid_load_options, flags) + sizeof(uint32_t), "load options", o));
  if (o.flags & ~15u) return refuse(TOROID_BAD_OPTION, "unknown load flags");
  if (o.threads < 0) return refuse(TOROID_BAD_OPTION, "the number of threads is negative");
  return LoadOptions{o.model ? o.model : "", o.threads, o.flags, o.temporary_folder};
}

Outcome<RunOptions> run_options(const toroid_run_options* options) {
  toroid_run_options o{};
  RT_CHECK(read_struct(options, offsetof(toroid_run_options, seed) + sizeof(uint64_t), "run options", o));
  if (o.threads < 0) return refuse(TOROID_BAD_OPTION, "the number of threads is negative");
  RunOptions out;
  out.threads = o.threads;
  if (o.has_seed) out.seed = o.seed;
  out.mark = o.mark, out.mark_user = o.mark_user;
  out.place = o.place, out.place_user = o.place_user;
  return out;
}

// Callers compiled against another version have another struct size; this version knows one.
Outcome<void> check_tensors(const toroid_tensor* tensors, size_t count, const char* what) {
  if (count > 0 && !tensors) return refuse(TOROID_BAD_OPTION, "the array of ", what, "s is a null pointer");
  for (size_t i = 0; i < count; ++i)
    if (tensors[i].size != sizeof(toroid_tensor))
      return refuse(TOROID_BAD_OPTION, what, " ", static_cast<uint64_t>(i), ": its size field is ",
                    static_cast<uint64_t>(tensors[i].size), ", must be ", static_cast<uint64_t>(sizeof(toroid_tensor)));
  return {};
}

Outcome<void> check_model(const toroid_model* model) {
  if (!model) return refuse(TOROID_BAD_OPTION, "the model is a null pointer");
  if (!model->model->has_code())
    return refuse(TOROID_BAD_OPTION, "the model was loaded with TOROID_LOAD_DESCRIBE, without its code");
  return {};
}

bool has_code(const toroid_model* model) { return model && model->model->has_code(); }

Outcome<void> run(toroid_model* model, const toroid_tensor* inputs, size_t input_count, toroid_tensor* outputs,
                  size_t output_count, bool make, const toroid_run_options* options) {
  RT_CHECK(check_model(model));
  RT_CHECK(check_tensors(inputs, input_count, "input"));
  RT_CHECK(check_tensors(outputs, output_count, "output"));
  RT_TRY(const RunOptions run_with, run_options(options));
  if (run_with.place && (make || output_count > 0))
    return refuse(TOROID_BAD_OPTION, "outputs are given, and `place`, which makes them");
  if (make)
    for (size_t i = 0; i < output_count; ++i) outputs[i].owner = nullptr;
  return model->model->run({inputs, input_count}, {outputs, output_count}, make, run_with);
}

int describe(const toroid_model* model, bool input, int32_t index, toroid_slot* slot) {
  return guarded([&]() -> Outcome<void> {
    RT_CHECK(check_model(model));
    if (!slot || slot->size < sizeof(toroid_slot)) return refuse(TOROID_BAD_OPTION, "the slot's size field is not set");
    const TdModel& info = model->model->info();
    if (index < 0 || index >= (input ? info.input_count : info.output_count))
      return refuse(TOROID_BAD_OPTION, "the model has no ", input ? "input " : "output ", index);
    const TdSlot& s = (input ? info.inputs : info.outputs)[index];
    *slot = {slot->size, s.name, s.sizes, s.dtype, s.rank, s.device_type, s.alias_of_input};
    return {};
  });
}

}  // namespace

extern "C" {

uint32_t toroid_abi_version(void) { return 1u << 16 | 0; }
const char* toroid_version(void) { return TOROID_VERSION; }
const char* toroid_last_error(void) { return last_error; }

const char* toroid_status_name(int status) {
  switch (status) {
    case TOROID_OK: return "ok";
    case TOROID_BAD_INPUT: return "bad_input";
    case TOROID_OUT_OF_MEMORY: return "out_of_memory";
    case TOROID_KERNEL_ERROR: return "kernel_error";
    case TOROID_ASSERTION: return "assertion";
    case TOROID_INTERNAL: return "internal";
    case TOROID_BAD_FILE: return "bad_file";
    case TOROID_UNSUPPORTED: return "unsupported";
    case TOROID_IO: return "io";
    case TOROID_BAD_OPTION: return "bad_option";
    default: return "unknown";
  }
}

const char* toroid_dtype_name(int32_t dtype) {
  const std::string_view name = recipe_dtype_name(dtype);
  return name.empty() ? nullptr : name.data();
}
int64_t toroid_dtype_bytes(int32_t dtype) { return recipe_dtype_bytes(dtype); }

int toroid_load_plugin(const char* path) {
  return guarded([&]() -> Outcome<void> {
    if (!path) return refuse(TOROID_BAD_OPTION, "toroid_load_plugin: a null pointer");
    RT_CHECK(load_plugin(path));
    return {};
  });
}

int toroid_load(const char* path, const toroid_load_options* options, toroid_model** model) {
  return guarded([&]() -> Outcome<void> {
    if (!path || !model) return refuse(TOROID_BAD_OPTION, "toroid_load: a null pointer");
    *model = nullptr;
    RT_TRY(const LoadOptions load, load_options(options));
    RT_TRY(auto loaded, Model::load(path, load));
    *model = new toroid_model{std::move(loaded)};
    return {};
  });
}

int toroid_load_memory(const void* data, size_t bytes, const toroid_load_options* options, toroid_model** model) {
  return guarded([&]() -> Outcome<void> {
    if (!data || !model) return refuse(TOROID_BAD_OPTION, "toroid_load_memory: a null pointer");
    *model = nullptr;
    RT_TRY(const LoadOptions load, load_options(options));
    RT_TRY(auto loaded, Model::load_memory({static_cast<const std::byte*>(data), bytes}, load));
    *model = new toroid_model{std::move(loaded)};
    return {};
  });
}

void toroid_unload(toroid_model* model) { delete model; }

int32_t toroid_input_count(const toroid_model* model) { return has_code(model) ? model->model->info().input_count : 0; }
int32_t toroid_output_count(const toroid_model* model) {
  return has_code(model) ? model->model->info().output_count : 0;
}
int toroid_input(const toroid_model* model, int32_t index, toroid_slot* slot) {
  return describe(model, true, index, slot);
}
int toroid_output(const toroid_model* model, int32_t index, toroid_slot* slot) {
  return describe(model, false, index, slot);
}

int toroid_output_shapes(toroid_model* model, const toroid_tensor* inputs, size_t input_count, int64_t* shapes,
                         size_t count) {
  return guarded([&]() -> Outcome<void> {
    RT_CHECK(check_model(model));
    RT_CHECK(check_tensors(inputs, input_count, "input"));
    if (count > 0 && !shapes) return refuse(TOROID_BAD_OPTION, "the shapes are a null pointer");
    return model->model->shapes({inputs, input_count}, {shapes, count});
  });
}

int toroid_run(toroid_model* model, const toroid_tensor* inputs, size_t input_count, const toroid_tensor* outputs,
               size_t output_count) {
  return toroid_run_with(model, inputs, input_count, outputs, output_count, nullptr);
}

int toroid_run_with(toroid_model* model, const toroid_tensor* inputs, size_t input_count, const toroid_tensor* outputs,
                    size_t output_count, const toroid_run_options* options) {
  // Without `make` the structs are only read.
  return guarded([&] {
    return run(model, inputs, input_count, const_cast<toroid_tensor*>(outputs), output_count, false, options);
  });
}

int toroid_run_alloc(toroid_model* model, const toroid_tensor* inputs, size_t input_count, toroid_tensor* outputs,
                     size_t output_count, const toroid_run_options* options) {
  return guarded([&] { return run(model, inputs, input_count, outputs, output_count, true, options); });
}

void toroid_free_outputs(toroid_tensor* outputs, size_t output_count) {
  for (size_t i = 0; outputs && i < output_count; ++i) free_output(outputs[i]);
}

int toroid_set_threads(toroid_model* model, int32_t threads) {
  return guarded([&]() -> Outcome<void> {
    RT_CHECK(check_model(model));
    if (threads < 0) return refuse(TOROID_BAD_OPTION, "the number of threads is negative");
    model->model->set_threads(threads);
    return {};
  });
}
int32_t toroid_threads(const toroid_model* model) { return model ? model->model->threads() : 0; }
int32_t toroid_pool_threads(void) { return Pool::process().threads(); }

int toroid_set_weights(toroid_model* model, const char* const* names, const toroid_tensor* tensors, size_t count) {
  return guarded([&]() -> Outcome<void> {
    RT_CHECK(check_model(model));
    RT_CHECK(check_tensors(tensors, count, "weight"));
    if (count > 0 && !names) return refuse(TOROID_BAD_OPTION, "the names are a null pointer");
    std::vector<NewWeight> weights;
    std::vector<std::vector<int64_t>> strides(count);
    for (size_t i = 0; i < count; ++i) {
      const toroid_tensor& t = tensors[i];
      if (!names[i] || !t.data || t.rank < 0 || (t.rank > 0 && !t.sizes))
        return refuse(TOROID_BAD_OPTION, "weight ", static_cast<uint64_t>(i), ": a null pointer");
      if (t.device_type != 0) return refuse(TOROID_BAD_INPUT, "weight `", names[i], "`: must be on the CPU");
      const size_t rank = static_cast<size_t>(t.rank);
      strides[i].resize(rank);
      for (int64_t d = t.rank, step = 1; d-- > 0; step *= t.sizes[d]) strides[i][d] = t.strides ? t.strides[d] : step;
      weights.push_back({names[i], t.data, t.dtype, {t.sizes, rank}, strides[i]});
    }
    return model->model->set_weights(weights);
  });
}

int toroid_verify(toroid_model* model) {
  return guarded([&]() -> Outcome<void> {
    RT_CHECK(check_model(model));
    return model->model->verify();
  });
}

const char* toroid_manifest(const toroid_model* model) {
  return model ? model->model->package().manifest_text().c_str() : nullptr;
}
const char* toroid_report(const toroid_model* model) { return has_code(model) ? model->model->info().report : nullptr; }
const char* toroid_metadata(const toroid_model* model, const char* key) {
  if (!model || !key) return nullptr;
  for (const auto& [name, value] : model->model->package().metadata())
    if (name == key) return value.c_str();
  return nullptr;
}
const char* toroid_model_name(const toroid_model* model) {
  return model ? model->model->package().model().c_str() : nullptr;
}
const char* toroid_model_target(const toroid_model* model) {
  return model ? model->model->package().manifest().target.c_str() : nullptr;
}

}  // extern "C"
