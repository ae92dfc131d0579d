// weights.bin in memory: mapped in place, or copied where that cannot be; and the replacement of single weights in it.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "failure.h"
#include "file.h"
#include "recipe.h"

namespace toroid::runtime {

class Weights {
 public:
  // Maps `bytes` at `offset` of a file. Read-only and shared with every process that maps the same file, but for the
  // pages of the first mutated_bytes, which are private copies. An offset off the page grid is copied instead.
  static Outcome<Weights> map_file(int fd, uint64_t offset, uint64_t bytes, uint64_t mutated_bytes);
  // From memory: in place when borrow is set, the data is 64-byte aligned and nothing mutates; else a copy.
  static Outcome<Weights> from_memory(std::span<const std::byte> data, uint64_t mutated_bytes, bool borrow);

  char* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  // From now on all of it may be written; the file stays as it is. False: out of memory.
  bool make_writable();

 private:
  Mapping mapping_;
  char* data_ = nullptr;
  uint64_t bytes_ = 0;
  bool borrowed_ = false;
};

// A new value for a weight; its dtype and sizes must be those of the recipes' weight of that name.
struct NewWeight {
  std::string_view name;
  const void* data = nullptr;
  int32_t dtype = 0;
  std::span<const int64_t> sizes, strides;
};

// Makes again every constant that depends on the given weights. Weights that are not given but share a constant with
// one that is are first read back out of `weights`. On failure nothing is changed.
Outcome<void> replace_weights(const Recipes& recipes, std::span<const NewWeight> given, Weights& weights);

// Writes the original weight, contiguous, into `out`; fails when it was folded with others.
Outcome<void> extract_weight(const Recipes& recipes, int32_t weight, const Weights& weights, void* out);

// Constants must lie inside of weights.bin, and packed sizes must fit; called once after reading recipes.
Outcome<void> check_recipes(const Recipes& recipes, uint64_t weights_bytes);

int64_t weight_bytes(const RecipeWeight& weight);

}  // namespace toroid::runtime
