// Errors that are the user's to mend travel as values: `Result<T>` is a T or a `Diagnostic`.
#pragma once
#include <expected>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"

namespace toroid {

// The kind of a failure: the second word of the line that a user reads (`error: <kind>: <text>`).
enum class Kind {
  bad_option,       // command line or options struct
  bad_file,         // an archive, package or text that cannot be read
  bad_input,        // a tensor given to a model does not fit it
  bad_graph,        // a graph (GraphBuilder or stage text) that breaks a rule
  unsupported,      // a form that Toroid does not take (schema version, device, dtype)
  unsupported_op,   // ops without a row, or a row without a lowering for these arguments
  compiler_failed,  // no C++ compiler, or it refused what we generated
  io,               // reading or writing a file
  cancelled,        // cancel token or deadline
  internal,         // a broken invariant of ours
};
const char* kind_name(Kind kind);

// One failure. `text` is one line: lower case, no full stop. `details` are printed below it, indented.
struct Diagnostic {
  Kind kind = Kind::internal;
  std::string text;
  std::vector<std::string> details;

  Diagnostic&& with(std::string detail) && {
    details.push_back(std::move(detail));
    return std::move(*this);
  }
  // `error: <kind>: <text>` and the details, one a line; no final newline.
  std::string to_string() const;
};

template <class T>
using Result = std::expected<T, Diagnostic>;
using Status = std::expected<void, Diagnostic>;

// return fail(Kind::bad_file, "`{}` is not a zip archive", path);
template <class... Args>
std::unexpected<Diagnostic> fail(Kind kind, fmt::format_string<Args...> form, Args&&... args) {
  return std::unexpected(Diagnostic{kind, fmt::format(form, std::forward<Args>(args)...), {}});
}
inline std::unexpected<Diagnostic> fail(Diagnostic diagnostic) { return std::unexpected(std::move(diagnostic)); }

#define TD_CONCAT_(a, b) a##b
#define TD_CONCAT(a, b) TD_CONCAT_(a, b)
// TD_TRY(Graph graph, read_graph(text));   declares `graph`, or returns the Diagnostic
#define TD_TRY_AS_(temporary, declaration, ...)                         \
  auto temporary = (__VA_ARGS__);                                       \
  if (!temporary) return std::unexpected(std::move(temporary).error()); \
  declaration = std::move(*temporary)
#define TD_TRY(declaration, ...) TD_TRY_AS_(TD_CONCAT(td_try_, __LINE__), declaration, __VA_ARGS__)
// TD_CHECK_OK(write_file(path, text));   for a Status
#define TD_CHECK_OK(...) \
  if (auto td_status = (__VA_ARGS__); !td_status) return std::unexpected(std::move(td_status).error())

}  // namespace toroid
