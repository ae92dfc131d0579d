// Resizing along a dim as a table: for each element of the result where its taps begin and what each of them weighs.
// The table is made while lowering, from known sizes, in the arithmetic that eager uses; its transpose is the gradient.
#pragma once
#include <optional>
#include <vector>

#include "ops/loop_builder.h"

namespace toroid {

struct TapTable {
  std::vector<int64_t> starts;
  std::vector<std::vector<double>> weights;  // of each element of the result; rows may differ in length
  size_t most = 1;                           // the longest row
  void add(int64_t start, std::vector<double> row);
};

enum class Method { nearest, exact, linear, cubic };

// From `in` elements to `out`; `factor`: the caller's scale factor, which then drives the coordinates. In f32, or f64.
struct Resize {
  int64_t in = 0, out = 0;
  std::optional<double> factor;
  bool align = false;
  Method method = Method::linear;
  bool antialias = false;  // the filter is as wide as what it shrinks
};
TapTable tap_table(const Resize& resize, DType type);
// The table from results to sources: row j holds what source j weighs in each result.
TapTable transposed(const TapTable& table, int64_t in);

// x with `dim` resized by the table, in the register type of x.
LoopValue by_table(LoopBuilder& b, const LoopValue& x, int64_t dim, const TapTable& table);
// The same for bytes, which eager resizes one dim after another with weights in whole multiples of a power of two.
LoopValue bytes_by_table(LoopBuilder& b, const LoopValue& x, int64_t dim, const TapTable& table);

}  // namespace toroid
