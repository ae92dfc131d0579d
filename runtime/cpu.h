// What the CPU under this process offers, by the names that targets use ("avx2", "avx512f", "vnni", ...).
#pragma once
#include <string_view>

namespace toroid::runtime {

// True when the CPU has it and the operating system saves its registers. Unknown names are false.
bool cpu_has(std::string_view feature);

// The first of a NULL-terminated list that is missing, or nullptr.
const char* missing_feature(const char* const* features);

}  // namespace toroid::runtime
