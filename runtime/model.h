// A loaded model: code, weights, and what its runs share.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "arena.h"
#include "code.h"
#include "failure.h"
#include "model_abi.h"
#include "package.h"
#include "recipe.h"
#include "toroid/runtime.h"
#include "weights.h"

namespace toroid::runtime {

struct LoadOptions {
  std::string model;
  int32_t threads = 0;
  uint32_t flags = 0;
  const char* temporary_folder = nullptr;
};

struct RunOptions {
  int32_t threads = 0;
  std::optional<uint64_t> seed;
  toroid_mark mark = nullptr;
  void* mark_user = nullptr;
  toroid_place place = nullptr;
  void* place_user = nullptr;
};

// What one run works with; kept for later runs, so that a steady call allocates nothing.
struct Instance {
  // An output as the model asked for it.
  struct Output {
    char* data = nullptr;
    const int64_t* strides = nullptr;  // those the model writes with
    const int64_t* sizes = nullptr;
    toroid_tensor* target = nullptr;  // the caller's
    bool direct = false;              // data is the caller's own buffer
    bool made = false;
  };
  Arena arena;
  std::vector<TdView> inputs;
  std::vector<int64_t> input_strides;
  std::vector<Output> outputs;
  std::vector<int64_t> symbols;
};

class Model {
 public:
  static Outcome<std::unique_ptr<Model>> load(const std::string& path, const LoadOptions& options);
  static Outcome<std::unique_ptr<Model>> load_memory(std::span<const std::byte> bytes, const LoadOptions& options);

  // False after a load that only describes: then there is no info(), and nothing runs.
  bool has_code() const { return info_ != nullptr; }
  const TdModel& info() const { return *info_; }
  const Package& package() const { return package_; }
  int32_t threads() const;
  void set_threads(int32_t threads) { threads_ = threads; }

  // The tensors are `count` structs of the caller's size each, checked by the C interface.
  Outcome<void> shapes(std::span<const toroid_tensor> inputs, std::span<int64_t> shapes);
  // With `make`, the runtime allocates the outputs; on failure those already made are freed. With options.place, the
  // caller does, and `outputs` is empty.
  Outcome<void> run(std::span<const toroid_tensor> inputs, std::span<toroid_tensor> outputs, bool make,
                    const RunOptions& options);
  Outcome<void> set_weights(std::span<const NewWeight> weights);
  Outcome<void> verify() const;

 private:
  friend struct Run;
  Outcome<void> open(const LoadOptions& options);
  Outcome<void> fill_inputs(Instance& instance, std::span<const toroid_tensor> inputs);
  Outcome<void> finish_outputs(Instance& instance);
  std::unique_ptr<Instance> take_instance();
  void return_instance(std::unique_ptr<Instance> instance);

  Package package_;
  Code code_;
  Weights weights_;
  const TdModel* info_ = nullptr;
  int32_t threads_ = 0;
  bool from_copy_ = false;
  std::mutex instances_mutex_;
  std::vector<std::unique_ptr<Instance>> instances_;
  std::mutex mutating_;  // runs of a model that writes its buffers take turns
};

// Frees what a run with `make` put into an output.
void free_output(toroid_tensor& output);

}  // namespace toroid::runtime
