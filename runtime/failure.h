// Failures inside the runtime: `Outcome<T>` is a T or a Failure, whose code and text the C interface hands out.
#pragma once
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace toroid::runtime {

// `code` is a toroid_status of include/toroid/runtime.h. `text` is one line: lower case, no full stop.
struct Failure {
  int code = 0;
  std::string text;
};

template <class T>
using Outcome = std::expected<T, Failure>;

inline void append_part(std::string& out, std::string_view part) { out += part; }
inline void append_part(std::string& out, int64_t number) { out += std::to_string(number); }
inline void append_part(std::string& out, uint64_t number) { out += std::to_string(number); }
inline void append_part(std::string& out, int number) { out += std::to_string(number); }
inline void append_part(std::string& out, uint32_t number) { out += std::to_string(number); }

// cat("size ", 3, " is odd"): the runtime's formatting (fmt would be one more library to depend on).
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::string out;
  (append_part(out, parts), ...);
  return out;
}

// return refuse(TOROID_BAD_FILE, "member `", name, "` is missing");
template <class... Parts>
std::unexpected<Failure> refuse(int code, const Parts&... parts) {
  return std::unexpected(Failure{code, cat(parts...)});
}

#define RT_CONCAT_(a, b) a##b
#define RT_CONCAT(a, b) RT_CONCAT_(a, b)
// RT_TRY(Zip zip, read_zip(bytes));   declares `zip`, or returns the Failure
#define RT_TRY_AS_(temporary, declaration, ...)                         \
  auto temporary = (__VA_ARGS__);                                       \
  if (!temporary) return std::unexpected(std::move(temporary).error()); \
  declaration = std::move(*temporary)
#define RT_TRY(declaration, ...) RT_TRY_AS_(RT_CONCAT(rt_try_, __LINE__), declaration, __VA_ARGS__)
// RT_CHECK(check_manifest(m));   for an Outcome<void>
#define RT_CHECK(...) \
  if (auto rt_outcome = (__VA_ARGS__); !rt_outcome) return std::unexpected(std::move(rt_outcome).error())

}  // namespace toroid::runtime
