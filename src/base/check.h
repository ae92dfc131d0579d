// Broken invariants of ours: TD_CHECK throws InternalError, which only the public entries catch.
#pragma once
#include <stdexcept>
#include <string>

#include "base/text.h"

namespace toroid {

struct InternalError : std::logic_error {
  using std::logic_error::logic_error;
};
[[noreturn]] void internal_error(const char* file, int line, const std::string& text);

// TD_CHECK(n >= 0, "negative count {}", n);
#define TD_CHECK(condition, ...) \
  if (!(condition)) [[unlikely]] \
  ::toroid::internal_error(__FILE__, __LINE__, ::fmt::format(__VA_ARGS__))

}  // namespace toroid
