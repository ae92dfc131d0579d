// Loads a model and runs it: the host side of model_abi.h.
#include "model.h"

#include <sys/random.h>
#include <time.h>

#include <cstring>
#include <new>

#include "cpu.h"
#include "plugins.h"
#include "pool.h"
#include "strided.h"

namespace toroid::runtime {

// One run under way: what the table's `host` pointer means.
struct Run {
  const Model& model;
  Instance& instance;
  const RunOptions& options;
  bool make;
  int32_t threads;
  enum { unasked, ours, refused } pool = unasked;

  ~Run() {
    if (pool == ours) Pool::process().give_back();
  }

  static Run& of(void* host) { return *static_cast<Run*>(host); }

  static void parallel(void* host, TdKernel kernel, char* const* p, const int64_t* s, int64_t units, int64_t grain,
                       int64_t nanoseconds) {
    Run& run = of(host);
    if (run.threads > 1 && run.pool != refused && units > grain) {
      Pool& pool = Pool::process();
      if (run.pool == unasked) run.pool = pool.try_borrow() ? ours : refused;
      if (run.pool == ours) return pool.run(kernel, p, s, units, grain, nanoseconds, run.threads);
    }
    if (units > 0) kernel(p, s, 0, units);
  }
  static int32_t thread_count(void* host) { return of(host).threads; }
  static void* alloc(void* host, int64_t bytes) { return of(host).instance.arena.alloc(bytes); }
  static void* output(void* host, int32_t index, const int64_t* sizes, const int64_t* strides, TdError* error) {
    return of(host).place_output(index, sizes, strides, *error);
  }
  static uint64_t rng_seed(void* host) {
    const Run& run = of(host);
    if (run.options.seed) return *run.options.seed;
    uint64_t seed = 0;
    if (::getrandom(&seed, sizeof seed, GRND_NONBLOCK) == sizeof seed) return seed;
    timespec t;
    ::clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<uint64_t>(t.tv_nsec) * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(t.tv_sec);
  }
  static void mark(void* host, int32_t kernel, int32_t after) {
    const RunOptions& options = of(host).options;
    options.mark(options.mark_user, kernel, after);
  }

  void* place_output(int32_t index, const int64_t* sizes, const int64_t* strides, TdError& error);
  void* make_output(Instance::Output& out, const TdSlot& slot, const int64_t* sizes, const int64_t* strides,
                    int64_t bytes);
  // With `make`, an output that is an input's memory becomes a copy of it: what the runtime hands out, it owns.
  Outcome<void> make_aliases();
};

namespace {

constexpr TdHost plain_table = {sizeof(TdHost), TD_ABI_MAJOR, TD_ABI_MINOR,  Run::parallel, Run::thread_count,
                                Run::alloc,     Run::output,  Run::rng_seed, nullptr};
constexpr TdHost marked_table = {sizeof(TdHost), TD_ABI_MAJOR, TD_ABI_MINOR,  Run::parallel, Run::thread_count,
                                 Run::alloc,     Run::output,  Run::rng_seed, Run::mark};

Failure from_model(const TdError& error, int32_t returned) {
  int32_t code = error.code != 0 ? error.code : returned;
  if (code < TOROID_BAD_INPUT || code > TOROID_INTERNAL) code = TOROID_INTERNAL;
  return {code, error.text[0] ? error.text : "the model failed without a reason"};
}

int set_error(TdError& error, int32_t code, const std::string& text) {
  error.code = code;
  std::strncpy(error.text, text.c_str(), sizeof error.text - 1);
  error.text[sizeof error.text - 1] = 0;
  return code;
}

// Bytes from the first element to the end of the last, for strides that are not negative.
int64_t extent_bytes(const int64_t* sizes, const int64_t* strides, int32_t rank, int64_t element) {
  int64_t last = 0;
  for (int32_t d = 0; d < rank; ++d) {
    if (sizes[d] == 0) return 0;
    last += (sizes[d] - 1) * strides[d];
  }
  return (last + 1) * element;
}

}  // namespace

void free_output(toroid_tensor& output) {
  if (output.owner) ::operator delete(output.owner, std::align_val_t(64));
  output.owner = nullptr;
  output.data = nullptr;
  output.sizes = output.strides = nullptr;
}

// One block: sizes, strides, padding to 64 bytes, data.
void* Run::make_output(Instance::Output& out, const TdSlot& slot, const int64_t* sizes, const int64_t* strides,
                       int64_t bytes) {
  const int64_t head = (slot.rank * 16 + 63) / 64 * 64;
  void* block = ::operator new(static_cast<size_t>(head + bytes + 64), std::align_val_t(64), std::nothrow);
  if (!block) return nullptr;
  int64_t* numbers = static_cast<int64_t*>(block);
  for (int32_t d = 0; d < slot.rank; ++d) numbers[d] = sizes[d], numbers[slot.rank + d] = strides[d];
  toroid_tensor& t = *out.target;
  t.owner = block;
  t.data = static_cast<char*>(block) + head;
  t.sizes = numbers;
  t.strides = numbers + slot.rank;
  t.rank = slot.rank;
  t.dtype = slot.dtype;
  t.device_type = t.device_index = 0;
  return t.data;
}

void* Run::place_output(int32_t index, const int64_t* sizes, const int64_t* strides, TdError& error) {
  const TdModel& info = model.info();
  if (index < 0 || index >= info.output_count) {
    set_error(error, TOROID_INTERNAL, cat("the model asked for output ", index, ", which it does not have"));
    return nullptr;
  }
  const TdSlot& slot = info.outputs[index];
  Instance::Output& out = instance.outputs[index];
  // Filled from the input after the run.
  // An input without elements may lie at null, which would read as a failure.
  if (slot.alias_of_input >= 0) {
    void* data = instance.inputs[slot.alias_of_input].data;
    return data ? data : &instance;
  }
  out.made = true;
  if (options.place) {
    out.direct = true;
    return options.place(options.place_user, index, sizes, strides);
  }
  const int64_t element = recipe_dtype_bytes(slot.dtype);
  const int64_t bytes = extent_bytes(sizes, strides, slot.rank, element);
  if (make) {
    out.direct = true;
    if (void* data = make_output(out, slot, sizes, strides, bytes)) return data;
    set_error(error, TOROID_OUT_OF_MEMORY, cat("no memory for output ", index, " (", bytes, " bytes)"));
    return nullptr;
  }
  const toroid_tensor& target = *out.target;
  for (int32_t d = 0; d < slot.rank; ++d)
    if (target.sizes[d] != sizes[d]) {
      set_error(
          error, TOROID_BAD_INPUT,
          cat("output ", index, " (`", slot.name, "`): size ", d, " is ", target.sizes[d], ", must be ", sizes[d]));
      return nullptr;
    }
  const bool empty = element_count(sizes, slot.rank) == 0;
  if (!empty && !target.data) {
    set_error(error, TOROID_BAD_INPUT, cat("output ", index, " (`", slot.name, "`): its data is a null pointer"));
    return nullptr;
  }
  // The caller's buffer itself, where its strides are those that the model writes with; else a temporary.
  bool same = true;
  if (target.strides) {
    for (int32_t d = 0; d < slot.rank; ++d) same &= sizes[d] == 1 || target.strides[d] == strides[d];
  } else {
    same = contiguous(sizes, strides, slot.rank);
  }
  if (same && !empty) {
    out.direct = true;
    return target.data;
  }
  // The model's sizes and strides may not outlive this call: they are kept in the arena, as the data is.
  char* block = static_cast<char*>(instance.arena.alloc(bytes + 64 + slot.rank * 16));
  if (!block) {
    set_error(error, TOROID_OUT_OF_MEMORY, cat("no memory for output ", index, " (", bytes, " bytes)"));
    return nullptr;
  }
  int64_t* numbers = reinterpret_cast<int64_t*>(block + (bytes + 63) / 64 * 64);
  for (int32_t d = 0; d < slot.rank; ++d) numbers[d] = sizes[d], numbers[slot.rank + d] = strides[d];
  out.data = block;
  out.sizes = numbers;
  out.strides = numbers + slot.rank;
  return block;
}

Outcome<void> Run::make_aliases() {
  const TdModel& info = model.info();
  for (int32_t i = 0; i < info.output_count; ++i) {
    const TdSlot& slot = info.outputs[i];
    if (slot.alias_of_input < 0) continue;
    const TdView& input = instance.inputs[slot.alias_of_input];
    int64_t strides[64];
    contiguous_strides(input.sizes, slot.rank, strides);
    const int64_t bytes = element_count(input.sizes, slot.rank) * recipe_dtype_bytes(slot.dtype);
    if (!make_output(instance.outputs[i], slot, input.sizes, strides, bytes))
      return refuse(TOROID_OUT_OF_MEMORY, "no memory for output ", i, " (", bytes, " bytes)");
  }
  return {};
}

Outcome<std::unique_ptr<Model>> Model::load(const std::string& path, const LoadOptions& options) {
  auto model = std::make_unique<Model>();
  RT_TRY(model->package_, Package::open(path, options.model));
  RT_CHECK(model->open(options));
  return model;
}

Outcome<std::unique_ptr<Model>> Model::load_memory(std::span<const std::byte> bytes, const LoadOptions& options) {
  auto model = std::make_unique<Model>();
  RT_TRY(model->package_, Package::from_memory(bytes, options.model));
  model->from_copy_ = !(options.flags & TOROID_LOAD_BORROW);
  RT_CHECK(model->open(options));
  return model;
}

Outcome<void> Model::open(const LoadOptions& options) {
  threads_ = options.threads;
  const Manifest& manifest = package_.manifest();
  if (options.flags & TOROID_LOAD_DESCRIBE) return {};
  for (const std::string& feature : manifest.features)
    if (!cpu_has(feature))
      return refuse(TOROID_UNSUPPORTED, "the package is compiled for ", manifest.target, "; this CPU has no `", feature,
                    "`");
  if (options.flags & TOROID_LOAD_VERIFY) RT_CHECK(package_.verify());
  RT_TRY(code_, open_code(package_.code(), manifest.code_sha256, options.flags & TOROID_LOAD_NO_MEMFD,
                          options.temporary_folder));
  const auto entry = reinterpret_cast<TdModelEntry>(code_.symbol(TD_MODEL_ENTRY_NAME));
  if (!entry) return refuse(TOROID_BAD_FILE, "the model's code has no `" TD_MODEL_ENTRY_NAME "`");
  info_ = entry();
  if (info_->major > TD_ABI_MAJOR)
    return refuse(TOROID_UNSUPPORTED, "the model speaks interface ", info_->major, ".", info_->minor,
                  ", this runtime up to ", TD_ABI_MAJOR, ".", TD_ABI_MINOR, " (and later minors)");
  if (info_->major < TD_ABI_MAJOR || info_->size < offsetof(TdModel, plugin_ops))
    return refuse(TOROID_UNSUPPORTED, "the model speaks interface ", info_->major, ".", info_->minor, ", this runtime ",
                  TD_ABI_MAJOR, ".x");
  if (static_cast<uint64_t>(info_->weights_bytes) != package_.weights_bytes().size())
    return refuse(TOROID_BAD_FILE, "the model's code wants ", info_->weights_bytes,
                  " bytes of weights, the package has ", static_cast<uint64_t>(package_.weights_bytes().size()));
  RT_CHECK(resolve_plugins(*info_));
  RT_TRY(weights_,
         package_.load_weights(static_cast<uint64_t>(info_->mutated_bytes), options.flags & TOROID_LOAD_BORROW));
  return {};
}

int32_t Model::threads() const {
  if (!info_) return 0;
  const int32_t pool = Pool::process().threads();
  const int32_t wanted = threads_ > 0 ? threads_ : info_->default_threads;
  return wanted > 0 ? std::min(wanted, pool) : pool;
}

std::unique_ptr<Instance> Model::take_instance() {
  {
    const std::lock_guard lock(instances_mutex_);
    if (!instances_.empty()) {
      auto instance = std::move(instances_.back());
      instances_.pop_back();
      return instance;
    }
  }
  return std::make_unique<Instance>();
}

void Model::return_instance(std::unique_ptr<Instance> instance) {
  instance->arena.reset();
  const std::lock_guard lock(instances_mutex_);
  instances_.push_back(std::move(instance));
}

Outcome<void> Model::fill_inputs(Instance& instance, std::span<const toroid_tensor> inputs) {
  if (inputs.size() != static_cast<size_t>(info_->input_count))
    return refuse(TOROID_BAD_INPUT, "expected ", info_->input_count, info_->input_count == 1 ? " input" : " inputs",
                  ", got ", static_cast<uint64_t>(inputs.size()));
  size_t ranks = 0;
  for (const toroid_tensor& t : inputs) {
    const size_t index = static_cast<size_t>(&t - inputs.data());
    if (t.rank < 0 || t.rank > 64 || (t.rank > 0 && !t.sizes))
      return refuse(TOROID_BAD_INPUT, "input ", static_cast<uint64_t>(index), " (`", info_->inputs[index].name,
                    "`): its sizes are missing");
    ranks += t.rank;
  }
  instance.inputs.resize(inputs.size());
  instance.input_strides.resize(ranks);
  int64_t* strides = instance.input_strides.data();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const toroid_tensor& t = inputs[i];
    for (int32_t d = 0; d < t.rank; ++d)
      if (t.sizes[d] < 0)
        return refuse(TOROID_BAD_INPUT, "input ", static_cast<uint64_t>(i), " (`", info_->inputs[i].name, "`): size ",
                      d, " is ", t.sizes[d]);
    if (!t.strides) contiguous_strides(t.sizes, t.rank, strides);
    instance.inputs[i] = {t.data,        t.sizes,       t.strides ? t.strides : strides, t.rank, t.dtype,
                          t.device_type, t.device_index};
    strides += t.rank;
  }
  return {};
}

Outcome<void> Model::shapes(std::span<const toroid_tensor> inputs, std::span<int64_t> shapes) {
  size_t count = 0;
  for (int32_t i = 0; i < info_->output_count; ++i) count += 2 * info_->outputs[i].rank;
  if (shapes.size() < count)
    return refuse(TOROID_BAD_OPTION, "the shapes need room for ", static_cast<uint64_t>(count),
                  " numbers, there is room for ", static_cast<uint64_t>(shapes.size()));
  auto instance = take_instance();
  auto outcome = fill_inputs(*instance, inputs);
  if (outcome) {
    instance->symbols.assign(info_->symbol_count + 1, 0);
    TdError error;
    error.code = 0, error.text[0] = 0;
    if (const int32_t code = info_->check(instance->inputs.data(), instance->symbols.data(), shapes.data(), &error))
      outcome = std::unexpected(from_model(error, code));
  }
  return_instance(std::move(instance));
  return outcome;
}

Outcome<void> Model::run(std::span<const toroid_tensor> inputs, std::span<toroid_tensor> outputs, bool make,
                         const RunOptions& options) {
  const size_t output_count = static_cast<size_t>(info_->output_count);
  if (outputs.size() != output_count && !options.place)
    return refuse(TOROID_BAD_INPUT, "expected ", info_->output_count, info_->output_count == 1 ? " output" : " outputs",
                  ", got ", static_cast<uint64_t>(outputs.size()));
  for (size_t i = 0; i < outputs.size() && !make; ++i) {
    const TdSlot& slot = info_->outputs[i];
    const toroid_tensor& t = outputs[i];
    const std::string_view name = slot.name;
    if (t.dtype != slot.dtype)
      return refuse(TOROID_BAD_INPUT, "output ", static_cast<uint64_t>(i), " (`", name, "`): dtype is ",
                    recipe_dtype_name(t.dtype), ", must be ", recipe_dtype_name(slot.dtype));
    if (t.rank != slot.rank || (t.rank > 0 && !t.sizes))
      return refuse(TOROID_BAD_INPUT, "output ", static_cast<uint64_t>(i), " (`", name, "`): rank is ", t.rank,
                    ", must be ", slot.rank);
    if (t.device_type != 0)
      return refuse(TOROID_BAD_INPUT, "output ", static_cast<uint64_t>(i), " (`", name, "`): must be on the CPU");
  }
  auto instance = take_instance();
  auto outcome = fill_inputs(*instance, inputs);
  if (outcome) {
    instance->outputs.assign(output_count, {});
    for (size_t i = 0; i < outputs.size(); ++i) instance->outputs[i].target = &outputs[i];
    const int32_t limit = options.threads > 0 ? std::min(options.threads, Pool::process().threads()) : threads();
    Run run{*this, *instance, options, make, limit};
    std::unique_lock turn(mutating_, std::defer_lock);
    if (info_->mutated_bytes > 0) turn.lock();
    TdError error;
    error.code = 0, error.text[0] = 0;
    const int32_t code =
        info_->run(options.mark ? &marked_table : &plain_table, &run, weights_.data(), instance->inputs.data(), &error);
    if (code != 0) outcome = std::unexpected(from_model(error, code));
    if (outcome && make) outcome = run.make_aliases();
    if (outcome) outcome = finish_outputs(*instance);
  }
  if (!outcome && make)
    for (toroid_tensor& t : outputs) free_output(t);
  return_instance(std::move(instance));
  return outcome;
}

// Copies into the caller's buffers what the model could not write there itself.
Outcome<void> Model::finish_outputs(Instance& instance) {
  for (size_t i = 0; i < instance.outputs.size(); ++i) {
    const TdSlot& slot = info_->outputs[i];
    const Instance::Output& out = instance.outputs[i];
    if (out.direct || !out.target) continue;
    const toroid_tensor& target = *out.target;
    const char* from = out.data;
    const int64_t *sizes = out.sizes, *strides = out.strides;
    if (slot.alias_of_input >= 0) {
      const TdView& input = instance.inputs[slot.alias_of_input];
      from = static_cast<const char*>(input.data), sizes = input.sizes, strides = input.strides;
      if (target.data == input.data) continue;
      for (int32_t d = 0; d < slot.rank; ++d)
        if (target.sizes[d] != sizes[d])
          return refuse(TOROID_BAD_INPUT, "output ", static_cast<uint64_t>(i), " (`", slot.name, "`): size ", d, " is ",
                        target.sizes[d], ", must be ", sizes[d]);
    } else if (!out.made) {
      return refuse(TOROID_INTERNAL, "the model did not make output ", static_cast<uint64_t>(i));
    }
    if (element_count(sizes, slot.rank) == 0) continue;
    int64_t plain[64];
    contiguous_strides(target.sizes, slot.rank, plain);
    copy_strided(static_cast<char*>(target.data), target.strides ? target.strides : plain, from, strides, sizes,
                 slot.rank, recipe_dtype_bytes(slot.dtype));
  }
  return {};
}

Outcome<void> Model::set_weights(std::span<const NewWeight> weights) {
  Recipes recipes;
  std::string error;
  if (!recipes_from_json(info_->recipes ? info_->recipes : "", recipes, error)) return refuse(TOROID_BAD_FILE, error);
  RT_CHECK(check_recipes(recipes, weights_.bytes()));
  return replace_weights(recipes, weights, weights_);
}

Outcome<void> Model::verify() const {
  if (from_copy_)
    return refuse(TOROID_UNSUPPORTED,
                  "a model loaded from bytes that were copied is verified at load (TOROID_LOAD_VERIFY)");
  return package_.verify();
}

}  // namespace toroid::runtime
