// A model inside PyTorch: two sets of weights, runs from many threads, and the host table over PyTorch's functions.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "../arena.h"
#include "../failure.h"
#include "../model_abi.h"
#include "../recipe.h"
#include "../weights.h"
#include "torch.h"

namespace toroid::model {

using runtime::Outcome;

// The generated wrapper's description of its model: the symbol `toroid_model`, which to C programs is a type's name.
extern "C" __attribute__((visibility("hidden"))) const TdModel this_model __asm__("toroid_model");

// AOTInductorConstantMapEntry of PyTorch's interface.h.
struct NamedHandle {
  const char* name;
  Handle handle;
};

// One set of weights and, once asked for, the weights in their original form.
struct Set {
  runtime::Weights weights;
  bool changed = false;
  std::vector<std::unique_ptr<char[]>> originals;
  std::vector<Handle> handles;
  std::vector<NamedHandle> named;
};

class Container {
 public:
  // Checks CPU and version, finds PyTorch, maps weights.bin from the folder of this shared object.
  static Outcome<std::unique_ptr<Container>> create();
  ~Container();

  const TdModel& info() const { return info_; }

  // Takes over the input handles (each becomes NULL, on failure too); the outputs are new.
  Outcome<void> run(std::span<Handle> inputs, std::span<Handle> outputs);

  struct Update {
    std::string_view internal_name;
    Handle handle;
  };
  // Copies the given weights into the active or the inactive set. complete: every parameter must be given.
  Outcome<void> update(std::span<const Update> updates, bool inactive, bool complete);
  Outcome<void> swap();
  void free_inactive();
  // A handle for each weight, in order, owned by the container; their bytes are those of the last call.
  Outcome<std::span<const Handle>> extract(bool inactive);
  // The same with each weight's name; the array is the container's.
  Outcome<std::span<const NamedHandle>> extract_named(bool inactive);

 private:
  struct Instance;
  struct Run;
  Container(const TdModel& info, const Torch& torch);
  Outcome<runtime::Weights> map_weights() const;
  Outcome<void> read_recipes();
  Outcome<void> make_inactive();
  void drop(Set& set);

  const TdModel& info_;
  const Torch& torch_;
  std::shared_mutex sets_mutex_;  // runs share it, changes of weights own it
  std::optional<Set> sets_[2];
  int active_ = 0;
  std::optional<runtime::Recipes> recipes_;
  std::mutex instances_mutex_;
  std::vector<std::unique_ptr<Instance>> instances_;
  std::mutex mutating_;  // runs of a model that writes its buffers take turns
};

}  // namespace toroid::model
