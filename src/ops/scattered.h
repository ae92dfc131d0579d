// Writes at computed places, in order: what every scatter is made of.
#pragma once
#include <functional>

#include "ops/loop_builder.h"

namespace toroid {

// How a value meets the element at its place (the routine `scatter` has them in this order).
enum class Join { set, add, multiply, most, least };

// base[rows, n] with, for each index of extent [rows, k] in order, value joined to the element at `place` of its row; a
// place below 0 is nowhere. Floats of low precision are joined in f32. `include`: the base's own element takes part.
LoopValue scattered(LoopBuilder& b, const LoopValue& base, const SymList& extent,
                    const std::function<ExprId(const Index&)>& place, const std::function<ExprId(const Index&)>& value,
                    Join join, bool include, const std::string& suffix = ".written");

}  // namespace toroid
