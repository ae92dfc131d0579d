// How Toroid's C++ interface says that something failed: `Expected<T>` is a T or an `Error`. No exception leaves it.
//   auto package = toroid::compile("m.pt2");
//   if (!package) std::puts(package.error().to_string().c_str());
#pragma once
#include <string>
#include <utility>
#include <variant>
#include <vector>

#define TOROID_CXX_API __attribute__((visibility("default")))

namespace toroid {

// One failure. `kind` is a word: bad_option, bad_file, bad_input, bad_graph, unsupported, unsupported_op,
// compiler_failed, io, cancelled, internal. `text` is one line; `details` are lines printed below it, indented.
struct Error {
  std::string kind;
  std::string text;
  std::vector<std::string> details;

  // `error: <kind>: <text>` and the details, one a line; no final newline.
  std::string to_string() const {
    std::string out = "error: " + kind + ": " + text;
    for (const std::string& detail : details) out += "\n  " + detail;
    return out;
  }
};

template <class T>
class Expected {
 public:
  Expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Expected(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  // Only after ok().
  T& value() & { return *std::get_if<0>(&state_); }
  const T& value() const& { return *std::get_if<0>(&state_); }
  T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  // Only after !ok().
  const Error& error() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

// For what gives nothing back but may fail.
struct Nothing {};
using Outcome = Expected<Nothing>;

}  // namespace toroid
