// Element types of recipes: sizes, names, and copies that convert between them.
#pragma once
#include <cstdint>
#include <vector>

#include "model_abi.h"

namespace toroid::runtime {

// Copies a strided tensor into another, of the same sizes; strides in elements. Equal dtypes move bits; others convert
// each element through double (integers of 64 bits through int64), rounding to nearest even.
void copy_converted(const std::vector<int64_t>& sizes, const char* from, int32_t from_dtype,
                    const std::vector<int64_t>& from_strides, char* to, int32_t to_dtype,
                    const std::vector<int64_t>& to_strides);

// True when every value of `narrow` is a value of `wide`.
bool holds_exactly(int32_t narrow, int32_t wide);

}  // namespace toroid::runtime
