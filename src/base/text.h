// Formatting and small string helpers: a cover over fmt.
#pragma once
#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {

using fmt::format;

// Appends formatted text: append(out, "{} = {}\n", name, value).
template <class... Args>
void append(std::string& out, fmt::format_string<Args...> form, Args&&... args) {
  fmt::format_to(std::back_inserter(out), form, std::forward<Args>(args)...);
}

std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);
// Every `from` in text becomes `to`.
std::string replace_all(std::string text, std::string_view from, std::string_view to);
// The shortest decimal that reads back as the same double; `inf`, `-inf`, `nan`; always has `.`, `e`, or a letter.
std::string float_text(double value);
// A double-quoted string with \", \\, \n, \t and \xHH escapes; Lexer reads it back.
std::string quoted(std::string_view text);
// 1536 -> "1.5 KiB".
std::string bytes_text(int64_t bytes);

}  // namespace toroid
