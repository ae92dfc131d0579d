// Routines: work on whole tensors that is no expression per element (sorting, accumulation at indices, transforms).
// Each is a C++ template in routines.inc, without includes, so that the same text is compiled here for the interpreter
// and pasted into the kernels that call it.
//
// A routine is called as a kernel is: p points to the inputs and then the output, all row by row; n are its integers,
// d its numbers; it does the units [begin, end) of n[0], and units write to different elements.
#pragma once
#include <optional>
#include <string_view>

#include "base/dtype.h"

namespace toroid {

using RoutineFunction = void (*)(char* const* p, const long long* n, const double* d, long long begin, long long end);

int32_t routine_count();
const char* routine_name(int32_t number);
std::optional<int32_t> routine_from_name(std::string_view name);
// The interpreter's instance for a first input of this register type; null when there is none.
RoutineFunction routine_function(int32_t number, DType dtype);

}  // namespace toroid
