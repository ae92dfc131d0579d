// The text that begins every generated CPU kernel: takes the vector width and the names that a kernel uses, gives C++
// without includes that declares them inside `namespace td`, with whatever they need and nothing else.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace toroid::emit {

// What the generated text may assume of the CPU.
//   16 lanes: -march=x86-64-v4 (AVX-512 F, BW, DQ, VL)   8 lanes: -march=x86-64-v3 (AVX2, FMA, F16C)   4: any x86-64
struct PreludeOptions {
  int lanes = 16;
};

// The prelude with the functions and types in `names`; it opens `namespace td {`, prelude_end() closes it.
// Names that the prelude does not have are ignored: they are the kernel's own.
// A type in `names` (`vf64`, `i64`) brings the overloads for it; f32 and i32 are always there.
std::string prelude(const PreludeOptions& options, const std::set<std::string, std::less<>>& names);
// The same for all identifiers of `kernel_text`, which is what comes between prelude and prelude_end().
std::string prelude_for(std::string_view kernel_text, const PreludeOptions& options);
std::string_view prelude_end();
// Every function, type and constant that some prelude can declare, sorted.
std::vector<std::string> prelude_names(const PreludeOptions& options);

}  // namespace toroid::emit
