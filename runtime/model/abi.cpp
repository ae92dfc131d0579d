// AOTInductor's C ABI, as PyTorch 2.13 calls it, over a Container; and toroid_model_entry for Toroid's own runtime.
// Linked into every model. Functions return 0, or 1 and leave a text for AOTInductorGetLastError.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

#include "container.h"
#include "toroid/runtime.h"

namespace {

using toroid::model::Container;
using Entry = toroid::model::NamedHandle;
using toroid::model::Handle;
using toroid::model::this_model;
using toroid::runtime::Outcome;
using toroid::runtime::refuse;

// Made by PyTorch with its libstdc++: a C++ object behind a C pointer. Both sides use the same ABI of libstdc++.
using Map = std::unordered_map<std::string, Handle>;

thread_local char last_error[1024];

template <class Body>
int32_t guarded(Body&& body) noexcept {
  auto fail = [](const char* text) {
    std::strncpy(last_error, text, sizeof last_error - 1);
    return 1;
  };
  try {
    last_error[0] = 0;
    const Outcome<void> outcome = body();
    return outcome ? 0 : fail(outcome.error().text.c_str());
  } catch (const std::exception& e) {
    return fail(e.what());
  }
}

Container& container_of(void* handle) { return *static_cast<Container*>(handle); }

Outcome<void> check_device(const char* device) {
  const std::string_view name = device ? device : "";
  if (name == "cpu" || name.starts_with("cpu:")) return {};
  return refuse(TOROID_UNSUPPORTED, "this package is compiled for the CPU, not for `", name, "`");
}

int32_t create(void** out, const char* device) {
  const int32_t status = guarded([&]() -> Outcome<void> {
    *out = nullptr;
    RT_CHECK(check_device(device));
    RT_TRY(auto container, Container::create());
    *out = container.release();
    return {};
  });
  // PyTorch asks for no text when a model cannot be made.
  if (status != 0) std::fprintf(stderr, "error: unsupported: %s\n", last_error);
  return status;
}

std::vector<Container::Update> updates_of(const Map* map) {
  std::vector<Container::Update> updates;
  if (map)
    for (const auto& [name, handle] : *map) updates.push_back({name, handle});
  return updates;
}

std::vector<Container::Update> updates_of(const Entry* entries, size_t count) {
  std::vector<Container::Update> updates;
  for (size_t i = 0; i < count; ++i) updates.push_back({entries[i].name, entries[i].handle});
  return updates;
}

int32_t update(void* container, const std::vector<Container::Update>& updates, bool inactive, bool complete) {
  return guarded([&] { return container_of(container).update(updates, inactive, complete); });
}

int32_t run(void* container, Handle* inputs, size_t input_count, Handle* outputs, size_t output_count) {
  return guarded([&] { return container_of(container).run({inputs, input_count}, {outputs, output_count}); });
}

// Calls found(weight) for weight `index`.
template <class Found>
int32_t weight_at(size_t index, Found&& found) {
  return guarded([&]() -> Outcome<void> {
    if (index >= static_cast<size_t>(this_model.weight_count))
      return refuse(TOROID_BAD_INPUT, "the model has no constant ", static_cast<uint64_t>(index));
    found(this_model.weights[index]);
    return {};
  });
}

int32_t slot_name(const TdSlot* slots, int32_t count, size_t index, const char** name) {
  return guarded([&]() -> Outcome<void> {
    if (index >= static_cast<size_t>(count)) return refuse(TOROID_BAD_INPUT, "no slot ", static_cast<uint64_t>(index));
    *name = slots[index].name;
    return {};
  });
}

int32_t no_blob() {
  return guarded([]() -> Outcome<void> {
    return refuse(TOROID_UNSUPPORTED, "a Toroid package holds its weights in weights.bin, not in a `.blob`");
  });
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

const TdModel* toroid_model_entry(void) { return &this_model; }

int32_t AOTInductorGetLastError(const char** text) {
  *text = last_error;
  return 0;
}

// Containers. num_models bounds nothing here: each run under way takes an instance of its own.
int32_t AOTInductorModelContainerCreateWithDevice(void** container, size_t, const char* device, const char*) {
  return create(container, device);
}
int32_t AOTInductorModelContainerCreate(void** container, size_t, bool is_cpu, const char*) {
  return create(container, is_cpu ? "cpu" : "cuda");
}
int32_t AOTInductorModelContainerDelete(void* container) {
  return guarded([&]() -> Outcome<void> {
    delete static_cast<Container*>(container);
    return {};
  });
}
int32_t AOTInductorModelContainerRun(void* container, Handle* inputs, size_t input_count, Handle* outputs,
                                     size_t output_count, void*, void*) {
  return run(container, inputs, input_count, outputs, output_count);
}
int32_t AOTInductorModelContainerRunSingleThreaded(void* container, Handle* inputs, size_t input_count, Handle* outputs,
                                                   size_t output_count, void*, void*) {
  return run(container, inputs, input_count, outputs, output_count);
}
int32_t AOTInductorModelContainerGetCallSpec(void*, const char** in_spec, const char** out_spec) {
  *in_spec = this_model.in_spec;
  *out_spec = this_model.out_spec;
  return 0;
}
int32_t AOTInductorModelContainerGetNumInputs(void*, size_t* count) {
  *count = static_cast<size_t>(this_model.input_count);
  return 0;
}
int32_t AOTInductorModelContainerGetInputName(void*, size_t index, const char** name) {
  return slot_name(this_model.inputs, this_model.input_count, index, name);
}
int32_t AOTInductorModelContainerGetNumOutputs(void*, size_t* count) {
  *count = static_cast<size_t>(this_model.output_count);
  return 0;
}
int32_t AOTInductorModelContainerGetOutputName(void*, size_t index, const char** name) {
  return slot_name(this_model.outputs, this_model.output_count, index, name);
}

// Constants: the weights of the user's model, by index and by name.
int32_t AOTInductorModelContainerGetNumConstants(void*, size_t* count) {
  *count = static_cast<size_t>(this_model.weight_count);
  return 0;
}
int32_t AOTInductorModelContainerGetConstantName(void*, size_t index, const char** name) {
  return weight_at(index, [&](const TdWeight& weight) { *name = weight.internal_name; });
}
int32_t AOTInductorModelContainerGetConstantOriginalFQN(void*, size_t index, const char** name) {
  return weight_at(index, [&](const TdWeight& weight) { *name = weight.name; });
}
int32_t AOTInductorModelContainerGetConstantDtype(void*, size_t index, int32_t* dtype) {
  return weight_at(index, [&](const TdWeight& weight) { *dtype = weight.dtype; });
}
int32_t AOTInductorModelContainerGetConstantType(void*, size_t index, int32_t* type) {
  return weight_at(index, [&](const TdWeight& weight) { *type = weight.kind; });
}
int32_t AOTInductorModelContainerGetConstantDataSize(void*, size_t index, size_t* bytes) {
  return weight_at(index, [&](const TdWeight& weight) { *bytes = static_cast<size_t>(weight.bytes); });
}
int32_t AOTInductorModelContainerGetConstantFromFolded(void*, size_t index, bool* folded) {
  return weight_at(index, [&](const TdWeight&) { *folded = false; });
}

// Updates. What kernels read is made from the weights at once, so nothing is left for RunConstantFolding to do, and
// "user managed" tensors are copied as all others are.
int32_t AOTInductorModelContainerUpdateConstantBuffer(void* container, const Map* map, bool inactive, bool complete) {
  return update(container, updates_of(map), inactive, complete);
}
int32_t AOTInductorModelContainerUpdateConstantBufferPairs(void* container, const Entry* entries, size_t count,
                                                           bool inactive, bool complete) {
  return update(container, updates_of(entries, count), inactive, complete);
}
int32_t AOTInductorModelContainerUpdateUserManagedConstantBuffer(void* container, const Map* map, bool inactive,
                                                                 bool complete) {
  return update(container, updates_of(map), inactive, complete);
}
int32_t AOTInductorModelContainerUpdateUserManagedConstantBufferPairs(void* container, const Entry* entries,
                                                                      size_t count, bool inactive, bool complete) {
  return update(container, updates_of(entries, count), inactive, complete);
}
int32_t AOTInductorModelContainerUpdateConstantBufferFromCpu(void* container, const Map* map, bool inactive,
                                                             bool complete) {
  return update(container, updates_of(map), inactive, complete);
}
int32_t AOTInductorModelContainerUpdateConstantBufferFromCpuPairs(void* container, const Entry* entries, size_t count,
                                                                  bool inactive, bool complete) {
  return update(container, updates_of(entries, count), inactive, complete);
}
int32_t AOTInductorModelContainerUpdateInactiveConstantBuffer(void* container, const Map* map) {
  return update(container, updates_of(map), true, true);
}
int32_t AOTInductorModelContainerUpdateInactiveConstantBufferPairs(void* container, const Entry* entries,
                                                                   size_t count) {
  return update(container, updates_of(entries, count), true, true);
}
int32_t AOTInductorModelContainerRunConstantFolding(void*, bool, void*, void*) {
  last_error[0] = 0;
  return 0;
}
int32_t AOTInductorModelContainerSwapConstantBuffer(void* container) {
  return guarded([&] { return container_of(container).swap(); });
}
int32_t AOTInductorModelContainerFreeInactiveConstantBuffer(void* container) {
  return guarded([&]() -> Outcome<void> {
    container_of(container).free_inactive();
    return {};
  });
}
int32_t AOTInductorModelContainerExtractConstantsMap(void* container, Map* map, bool inactive) {
  return guarded([&]() -> Outcome<void> {
    RT_TRY(const auto handles, container_of(container).extract(inactive));
    for (size_t i = 0; i < handles.size(); ++i) map->insert_or_assign(this_model.weights[i].name, handles[i]);
    return {};
  });
}
int32_t AOTInductorModelContainerExtractConstantsMapEntries(void* container, const Entry** entries, size_t* count,
                                                            bool inactive) {
  return guarded([&]() -> Outcome<void> {
    RT_TRY(const auto named, container_of(container).extract_named(inactive));
    *entries = named.data();
    *count = named.size();
    return {};
  });
}
int32_t AOTInductorModelContainerGetConstantsBlobSize(void*, uint64_t* bytes) {
  *bytes = 0;
  return no_blob();
}
int32_t AOTInductorModelUpdateConstantsFromBlob(void*, const uint8_t*) { return no_blob(); }

// A bare model is a container whose counts are known.
int32_t AOTInductorModelCreate(void** model, const Map* map) {
  const int32_t status = create(model, "cpu");
  return status != 0 || !map || map->empty() ? status : update(*model, updates_of(map), false, false);
}
int32_t AOTInductorModelCreateV2(void** model, const Entry* entries, size_t count) {
  const int32_t status = create(model, "cpu");
  return status != 0 || count == 0 ? status : update(*model, updates_of(entries, count), false, false);
}
int32_t AOTInductorModelRun(void* model, Handle* inputs, Handle* outputs) {
  return run(model, inputs, static_cast<size_t>(this_model.input_count), outputs,
             static_cast<size_t>(this_model.output_count));
}
int32_t AOTInductorModelDelete(void* model) { return AOTInductorModelContainerDelete(model); }
int32_t AOTInductorModelGetNumOutputs(void*, size_t* count) {
  return AOTInductorModelContainerGetNumOutputs(nullptr, count);
}
int32_t AOTInductorModelUpdateConstantsMap(void* model, const Map* map) {
  return update(model, updates_of(map), false, false);
}
int32_t AOTInductorModelUpdateConstantsMapV2(void* model, const Entry* entries, int32_t count) {
  return update(model, updates_of(entries, static_cast<size_t>(count)), false, false);
}

}  // extern "C"
#pragma GCC visibility pop
