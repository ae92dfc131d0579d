// What one scalar operation computes, on values held as double or int64: used to fold constants and by the interpreter.
// The C++ and CUDA texts of the same operations are held to these by tests.
#pragma once
#include <cstddef>
#include <cstdint>

#include "loop/loops.h"

namespace toroid {

// A register's content: `f` for floats, `i` for integers (wrapped to the width, unsigned ones as their bits) and bool
// (0, 1).
union Scalar {
  double f;
  int64_t i;
};

// op on arguments of type `type` (where: the type of the two sides; args[0] is then a bool). With `exact`, f32 is
// computed as f64. Not for cvt, round_to and check_index. An integer divisor of 0 gives 0 here: callers that must
// refuse it look first (check_divisor gives its argument).
Scalar eval_scalar(ScalarOp op, DType type, const Scalar* args, bool exact = false);

// PyTorch's conversion on x86: floats truncate; what does not fit i64 is its least value, what does not fit i32 its
// least value also for i32 and narrower (whose low bits are then taken); a NaN is true; floats round to nearest even.
Scalar convert_scalar(Scalar value, DType from, DType to);

// The same bits read as a register type of the same size.
Scalar bitcast_scalar(Scalar value, DType from, DType to);

// The nearest value of a float storage type, ties to even. f8e4m3 saturates, the others overflow to infinity.
double round_float(double value, DType storage);

// v modulo 2^bits in the type's own sign (u64 keeps its bits in an int64).
int64_t wrap_integer(int64_t value, DType dtype);

// One element of memory of a storage type to a register and back.
Scalar load_scalar(const std::byte* at, DType storage);
void store_scalar(std::byte* at, DType storage, Scalar value);

}  // namespace toroid
