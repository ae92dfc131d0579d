// From a plan's constants: the recipes that make them, and weights.bin itself.
#pragma once
#include <cstddef>
#include <span>

#include "base/cancel.h"
#include "base/result.h"
#include "loop/schedule.h"
#include "recipe.h"

namespace toroid::driver {

// One constant per constant buffer that has an offset, in the order of buffers.
runtime::Recipes make_recipes(const Plan& plan);

// Fills weights.bin, `jobs` constants at a time. `bytes` is plan.weights_bytes long and zero.
Status write_weights(const Plan& plan, const runtime::Recipes& recipes, std::span<std::byte> bytes, int jobs,
                     const CancelToken& cancel);

}  // namespace toroid::driver
