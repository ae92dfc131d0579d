// From a plan's constants: the recipes that make them, and weights.bin itself.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "loop/schedule.h"
#include "recipe.h"

namespace toroid::driver {

// One constant per constant buffer that has an offset, in the order of buffers.
runtime::Recipes make_recipes(const Plan& plan);

// Makes weights.bin in pieces, by several threads at once. The plan and the recipes are kept by reference.
class WeightsMaker {
 public:
  static Result<std::unique_ptr<WeightsMaker>> create(const Plan& plan, const runtime::Recipes& recipes);
  ~WeightsMaker();
  // Writes all of `out`, the bytes from `begin` on; each byte of weights.bin is asked for once.
  Status write(uint64_t begin, std::span<std::byte> out);

 private:
  struct Constant;
  WeightsMaker();
  const runtime::Recipes* recipes_;
  std::unique_ptr<class WeightSources> sources_;
  std::vector<std::unique_ptr<Constant>> constants_;  // by offset
};

}  // namespace toroid::driver
