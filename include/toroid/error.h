// How Toroid's C++ interface says that something failed: `Expected<T>` is a T or an `Error`. No exception leaves it.
//   auto package = toroid::compile("m.pt2");
//   if (!package) std::puts(package.error().to_string().c_str());
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#define TOROID_CXX_API __attribute__((visibility("default")))

namespace toroid {

// Text from a file or a path as a message may hold it: control characters and bytes that are no UTF-8 become \x1b.
inline std::string printable(std::string_view text) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0}; };
  auto follows = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const uint8_t a = byte(i), b = byte(i + 1);
    size_t length = 0;  // of the character, 0 where there is none
    if (a == '\t' || (a >= 0x20 && a < 0x7f))
      length = 1;
    else if (a >= 0xc2 && a <= 0xdf && b >= (a == 0xc2 ? 0xa0 : 0x80) && follows(i + 1))
      length = 2;  // from U+00A0: those before are control characters
    else if (a >= 0xe0 && a <= 0xef && follows(i + 1) && follows(i + 2) && (a != 0xe0 || b >= 0xa0) &&
             (a != 0xed || b < 0xa0))
      length = 3;
    else if (a >= 0xf0 && a <= 0xf4 && follows(i + 1) && follows(i + 2) && follows(i + 3) && (a != 0xf0 || b >= 0x90) &&
             (a != 0xf4 || b < 0x90))
      length = 4;
    if (length) {
      out.append(text.substr(i, length));
      i += length;
    } else {
      constexpr char digits[] = "0123456789abcdef";
      (out += "\\x") += digits[a >> 4];
      out += digits[a & 15];
      ++i;
    }
  }
  return out;
}

// One failure. `kind` is a word: bad_option, bad_file, bad_input, bad_graph, unsupported, unsupported_op,
// compiler_failed, io, cancelled, internal. `text` is one line; `details` are lines printed below it, indented.
struct Error {
  std::string kind;
  std::string text;
  std::vector<std::string> details;

  // `error: <kind>: <text>` and the details, one a line; no final newline.
  std::string to_string() const {
    std::string out = "error: " + kind + ": " + printable(text);
    for (const std::string& detail : details) out += "\n  " + printable(detail);
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
