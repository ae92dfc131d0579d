// Runs Loops element by element, without a compiler: the judge in tests. Slow and obvious.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "loop/loops.h"

namespace toroid {

// A tensor of numbers, row-major.
struct InterpTensor {
  DType dtype = DType::f32;
  std::vector<int64_t> sizes;
  std::vector<std::byte> data;
  // Outputs: the strides that the program promises its caller (not how `data` lies here).
  std::vector<int64_t> strides;

  // Floats are rounded to the dtype; integers wrap, bools are "not 0".
  static InterpTensor of(DType dtype, std::vector<int64_t> sizes, const std::vector<double>& values);
  static InterpTensor of_integers(DType dtype, std::vector<int64_t> sizes, const std::vector<int64_t>& values);
  int64_t count() const;
  double number(int64_t i) const;    // element i in row-major order
  int64_t integer(int64_t i) const;  // of an integer or bool tensor, exactly
  std::vector<double> numbers() const;
};

struct InterpOptions {
  // Floats are f64 throughout and outputs come as f64: the reference that rounded results are measured against.
  // Otherwise each f32 operation rounds to f32, sums add up in f64, and tensors round to their storage type.
  bool exact = false;
};

// One tensor per entry of loops.inputs (an int as a 0-d i64; what stands for a fixed argument is not looked at).
// Results are one per entry of loops.outputs, mutations included; an int comes as a 0-d i64, a fixed output as an empty
// i64.
Result<std::vector<InterpTensor>> interpret(const Loops& loops, const std::vector<InterpTensor>& inputs,
                                            const InterpOptions& options = {});

// The values of all symbols that inputs of these sizes define: sizes that are bare symbols first, then those that are
// linear in one unknown. Ranges and sizes are checked. `inputs` as for interpret.
Result<std::map<std::string, int64_t>> solve_symbols(const Loops& loops, const std::vector<InterpTensor>& inputs);

// Evaluates computed tensors that depend on no input, symbol or weight. Those of one element go into their users as
// numbers; those of at most 1 MB that cost something (a load, a reduction, a function such as sin) become
// TensorKind::constant. What is cheap to compute anywhere (zeros, arange, a causal mask) stays an expression for the
// fuser.
Status fold_constants(Loops& loops);

}  // namespace toroid
