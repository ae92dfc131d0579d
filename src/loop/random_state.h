// The buffer that random ops read: two 64-bit integers, a seed and how often the program was called.
#pragma once

namespace toroid {

// Lowering makes it where a program draws; the wrapper fills it with the run's seed, the interpreter keeps what is
// there.
inline constexpr const char* random_state_name = "toroid.random_state";

}  // namespace toroid
