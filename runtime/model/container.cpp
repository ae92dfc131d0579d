// Runs a model on PyTorch's tensors and keeps its weights; the host side of model_abi.h inside PyTorch.
#include "container.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "../cpu.h"
#include "../plugins.h"
#include "toroid/runtime.h"

namespace toroid::model {

using runtime::refuse;

// What one run works with, kept for the next.
struct Container::Instance {
  runtime::Arena arena;
  std::vector<TdView> inputs;
  std::vector<Handle> outputs;
};

struct Container::Run {
  const TdModel& info;
  const Torch& torch;
  Instance& instance;
  std::span<Handle> inputs;

  static Run& of(void* host) { return *static_cast<Run*>(host); }

  struct Region {
    TdKernel kernel;
    char* const* p;
    const int64_t* s;
    int64_t units, grain;
  };
  // PyTorch's pool costs several microseconds a region, and may run pieces one after another; kernels allow both.
  static void parallel(void* host, TdKernel kernel, char* const* p, const int64_t* s, int64_t units, int64_t grain,
                       int64_t nanoseconds) {
    constexpr int64_t worth_sharing = 20'000;
    const Torch& torch = of(host).torch;
    if (units <= 0) return;
    grain = std::max<int64_t>(grain, 1);
    Region region{kernel, p, s, units, grain};
    const int64_t blocks = units / grain + (units % grain != 0);
    auto piece = [](int64_t begin, int64_t end, void* context) {
      const Region& r = *static_cast<const Region*>(context);
      r.kernel(r.p, r.s, begin * r.grain, std::min(end * r.grain, r.units));
    };
    // It fails before it starts or not at all: kernels do not throw.
    if (blocks < 2 || nanoseconds < worth_sharing || !torch.parallel_for ||
        torch.parallel_for(0, blocks, 1, piece, &region) != 0)
      kernel(p, s, 0, units);
  }
  static int32_t threads(void* host) {
    uint32_t n = 1;
    const Torch& torch = of(host).torch;
    return torch.get_num_threads && torch.get_num_threads(&n) == 0 ? static_cast<int32_t>(n) : 1;
  }
  static void* alloc(void* host, int64_t bytes) { return of(host).instance.arena.alloc(bytes); }
  static uint64_t rng_seed(void*) {
    std::random_device device;
    return static_cast<uint64_t>(device()) << 32 | device();
  }
  static void* output(void* host, int32_t index, const int64_t* sizes, const int64_t* strides, TdError* error) {
    Run& run = of(host);
    if (index < 0 || index >= run.info.output_count) {
      error->code = 5;
      std::strcpy(error->text, "the model asked for an output that it does not have");
      return nullptr;
    }
    const TdSlot& slot = run.info.outputs[index];
    // What has no elements may lie at null, which would read as a failure.
    if (slot.alias_of_input >= 0) {
      void* memory = run.instance.inputs[slot.alias_of_input].data;
      return memory ? memory : &run;
    }
    Handle& handle = run.instance.outputs[index];
    void* data = nullptr;
    if (run.torch.empty_strided(slot.rank, sizes, strides, slot.dtype, 0, 0, &handle) != 0 ||
        run.torch.get_data_ptr(handle, &data) != 0) {
      error->code = 2;
      std::strcpy(error->text, "PyTorch made no tensor for an output (out of memory?)");
      return nullptr;
    }
    // An empty tensor has no memory; the model wants a pointer all the same.
    return data ? data : run.instance.arena.alloc(64);
  }
};

Outcome<runtime::Weights> Container::map_weights() const {
  if (info_.weights_bytes == 0) return runtime::Weights{};
  Dl_info self;
  if (!::dladdr(&this_model, &self) || !self.dli_fname)
    return refuse(TOROID_IO, "cannot find the folder of the model's code");
  std::string path = self.dli_fname;
  path.resize(path.rfind('/') == path.npos ? 0 : path.rfind('/') + 1);
  path += "weights.bin";
  const runtime::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!file || ::fstat(file.get(), &status) != 0)
    return refuse(TOROID_IO, "cannot open `", path, "`: ", std::strerror(errno));
  if (status.st_size != info_.weights_bytes)
    return refuse(TOROID_BAD_FILE, "`", path, "` has ", static_cast<int64_t>(status.st_size), " bytes, must have ",
                  info_.weights_bytes);
  return runtime::Weights::map_file(file.get(), 0, static_cast<uint64_t>(info_.weights_bytes),
                                    static_cast<uint64_t>(info_.mutated_bytes));
}

Outcome<std::unique_ptr<Container>> Container::create() {
  if (const char* feature = runtime::missing_feature(this_model.features))
    return refuse(TOROID_UNSUPPORTED, "the package is compiled for ", this_model.target, "; this CPU has no `", feature,
                  "`");
  RT_CHECK(runtime::resolve_plugins(this_model));
  std::string error;
  const Torch* torch = Torch::find(error);
  if (!torch) return refuse(TOROID_UNSUPPORTED, error);
  std::unique_ptr<Container> container(new Container(this_model, *torch));
  container->sets_[0].emplace();
  RT_TRY(container->sets_[0]->weights, container->map_weights());
  return container;
}

Container::Container(const TdModel& info, const Torch& torch) : info_(info), torch_(torch) {}

Container::~Container() {
  for (auto& set : sets_)
    if (set) drop(*set);
}

void Container::drop(Set& set) {
  for (Handle handle : set.handles)
    if (handle) torch_.delete_tensor_object(handle);
  set.handles.clear();
}

Outcome<void> Container::run(std::span<Handle> inputs, std::span<Handle> outputs) {
  // The handles are ours from here on, whatever happens.
  struct Stolen {
    const Torch& torch;
    std::span<Handle> handles;
    ~Stolen() {
      for (Handle& handle : handles) {
        if (handle) torch.delete_tensor_object(handle);
        handle = nullptr;
      }
    }
  } stolen{torch_, inputs};
  if (inputs.size() != static_cast<size_t>(info_.input_count))
    return refuse(TOROID_BAD_INPUT, "expected ", info_.input_count, info_.input_count == 1 ? " input" : " inputs",
                  ", got ", static_cast<uint64_t>(inputs.size()));
  if (outputs.size() != static_cast<size_t>(info_.output_count))
    return refuse(TOROID_BAD_INPUT, "expected ", info_.output_count, info_.output_count == 1 ? " output" : " outputs",
                  ", got ", static_cast<uint64_t>(outputs.size()));

  std::unique_ptr<Instance> instance;
  {
    const std::lock_guard lock(instances_mutex_);
    if (!instances_.empty()) {
      instance = std::move(instances_.back());
      instances_.pop_back();
    }
  }
  if (!instance) instance = std::make_unique<Instance>();
  instance->inputs.resize(inputs.size());
  instance->outputs.assign(outputs.size(), nullptr);

  auto body = [&]() -> Outcome<void> {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (!torch_.view_of(inputs[i], instance->inputs[i]))
        return refuse(TOROID_BAD_INPUT, "input ", static_cast<uint64_t>(i), " (`", info_.inputs[i].name,
                      "`): must be a strided tensor");
    Run run{info_, torch_, *instance, inputs};
    const TdHost table = {sizeof(TdHost), TD_ABI_MAJOR, TD_ABI_MINOR,  Run::parallel, Run::threads,
                          Run::alloc,     Run::output,  Run::rng_seed, nullptr};
    const std::shared_lock sets_lock(sets_mutex_);
    std::unique_lock turn(mutating_, std::defer_lock);
    if (info_.mutated_bytes > 0) turn.lock();
    TdError error;
    error.code = 0, error.text[0] = 0;
    if (const int32_t code = info_.run(&table, &run, sets_[active_]->weights.data(), instance->inputs.data(), &error))
      return refuse(error.code ? error.code : code, static_cast<const char*>(error.text));
    for (size_t i = 0; i < outputs.size(); ++i) {
      const int32_t alias = info_.outputs[i].alias_of_input;
      if (alias >= 0 && torch_.new_tensor_handle(inputs[alias], &instance->outputs[i]) != 0)
        return refuse(TOROID_INTERNAL, "PyTorch made no handle for an output");
      if (!instance->outputs[i])
        return refuse(TOROID_INTERNAL, "the model did not make output ", static_cast<uint64_t>(i));
    }
    return {};
  };
  Outcome<void> outcome = body();
  for (size_t i = 0; i < outputs.size(); ++i) {
    outputs[i] = outcome ? instance->outputs[i] : nullptr;
    if (!outcome && instance->outputs[i]) torch_.delete_tensor_object(instance->outputs[i]);
  }
  instance->arena.reset();
  const std::lock_guard lock(instances_mutex_);
  instances_.push_back(std::move(instance));
  return outcome;
}

Outcome<void> Container::read_recipes() {
  if (recipes_) return {};
  runtime::Recipes recipes;
  std::string error;
  if (!runtime::recipes_from_json(info_.recipes ? info_.recipes : "", recipes, error))
    return refuse(TOROID_BAD_FILE, error);
  RT_CHECK(runtime::check_recipes(recipes, static_cast<uint64_t>(info_.weights_bytes)));
  recipes_ = std::move(recipes);
  return {};
}

// The inactive set begins as the active one: from the file, shared with it page by page until one is written.
Outcome<void> Container::make_inactive() {
  auto& inactive = sets_[1 - active_];
  if (inactive) return {};
  Set fresh;
  RT_TRY(fresh.weights, map_weights());
  const Set& active = *sets_[active_];
  const uint64_t copied = active.changed ? active.weights.bytes() : static_cast<uint64_t>(info_.mutated_bytes);
  if (copied > 0) {
    if (!fresh.weights.make_writable()) return refuse(TOROID_OUT_OF_MEMORY, "no memory for inactive constants");
    std::memcpy(fresh.weights.data(), active.weights.data(), copied);
  }
  fresh.changed = active.changed;
  inactive = std::move(fresh);
  return {};
}

Outcome<void> Container::update(std::span<const Update> updates, bool inactive, bool complete) {
  const std::unique_lock lock(sets_mutex_);
  RT_CHECK(read_recipes());
  std::vector<runtime::NewWeight> given;
  std::vector<bool> seen(info_.weight_count);
  for (const Update& update : updates) {
    int32_t index = 0;
    while (index < info_.weight_count && update.internal_name != info_.weights[index].internal_name) ++index;
    if (index == info_.weight_count)
      return refuse(TOROID_BAD_INPUT, "the model has no constant `", update.internal_name, "`");
    TdView view{};
    if (!torch_.view_of(update.handle, view) || view.device_type != 0)
      return refuse(TOROID_BAD_INPUT, "constant `", update.internal_name, "`: must be a strided tensor on the CPU");
    const size_t rank = static_cast<size_t>(view.rank);
    given.push_back({info_.weights[index].name, view.data, view.dtype, {view.sizes, rank}, {view.strides, rank}});
    seen[index] = true;
  }
  for (int32_t i = 0; complete && i < info_.weight_count; ++i) {
    const TdWeight& weight = info_.weights[i];
    if (weight.kind == 1 && weight.bytes > 0 && !seen[i])
      return refuse(TOROID_BAD_INPUT, "a full update lacks the parameter `", weight.name, "`");
  }
  if (inactive) RT_CHECK(make_inactive());
  Set& set = *sets_[inactive ? 1 - active_ : active_];
  RT_CHECK(runtime::replace_weights(*recipes_, given, set.weights));
  set.changed = true;
  return {};
}

Outcome<void> Container::swap() {
  const std::unique_lock lock(sets_mutex_);
  if (!sets_[1 - active_]) return refuse(TOROID_BAD_INPUT, "there are no inactive constants to swap to");
  active_ = 1 - active_;
  return {};
}

void Container::free_inactive() {
  const std::unique_lock lock(sets_mutex_);
  auto& inactive = sets_[1 - active_];
  if (inactive) drop(*inactive);
  inactive.reset();
}

Outcome<std::span<const Handle>> Container::extract(bool inactive) {
  const std::unique_lock lock(sets_mutex_);
  RT_CHECK(read_recipes());
  auto& chosen = sets_[inactive ? 1 - active_ : active_];
  if (!chosen) return refuse(TOROID_BAD_INPUT, "there are no inactive constants");
  Set& set = *chosen;
  if (set.handles.empty()) {
    set.originals.resize(info_.weight_count);
    set.handles.resize(info_.weight_count, nullptr);
  }
  for (int32_t i = 0; i < info_.weight_count; ++i) {
    const auto it =
        std::ranges::find(recipes_->weights, std::string_view(info_.weights[i].name), &runtime::RecipeWeight::name);
    if (it == recipes_->weights.end())
      return refuse(TOROID_INTERNAL, "weight `", info_.weights[i].name, "` has no recipe");
    if (!set.originals[i]) set.originals[i].reset(new char[std::max<int64_t>(runtime::weight_bytes(*it), 1)]);
    RT_CHECK(runtime::extract_weight(*recipes_, static_cast<int32_t>(it - recipes_->weights.begin()), set.weights,
                                     set.originals[i].get()));
    if (set.handles[i]) continue;
    std::vector<int64_t> strides(it->sizes.size());
    int64_t step = 1;
    for (size_t d = strides.size(); d-- > 0;) strides[d] = step, step *= it->sizes[d];
    if (torch_.create_tensor_from_blob(set.originals[i].get(), static_cast<int64_t>(strides.size()), it->sizes.data(),
                                       strides.data(), 0, it->dtype, 0, 0, &set.handles[i]) != 0)
      return refuse(TOROID_INTERNAL, "PyTorch made no tensor for a constant");
  }
  return std::span<const Handle>(set.handles);
}

Outcome<std::span<const NamedHandle>> Container::extract_named(bool inactive) {
  RT_TRY(const auto handles, extract(inactive));
  const std::unique_lock lock(sets_mutex_);
  std::vector<NamedHandle>& named = sets_[inactive ? 1 - active_ : active_]->named;
  if (named.empty())
    for (size_t i = 0; i < handles.size(); ++i) named.push_back({info_.weights[i].name, handles[i]});
  return std::span<const NamedHandle>(named);
}

}  // namespace toroid::model
