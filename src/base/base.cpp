// The few functions of base that are not templates: text helpers, diagnostics, internal errors.
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/result.h"
#include "base/text.h"

namespace toroid {

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::bad_option: return "bad_option";
    case Kind::bad_file: return "bad_file";
    case Kind::bad_input: return "bad_input";
    case Kind::bad_graph: return "bad_graph";
    case Kind::unsupported: return "unsupported";
    case Kind::unsupported_op: return "unsupported_op";
    case Kind::compiler_failed: return "compiler_failed";
    case Kind::io: return "io";
    case Kind::cancelled: return "cancelled";
    case Kind::internal: return "internal";
  }
  return "internal";
}

std::string Diagnostic::to_string() const {
  std::string out = format("error: {}: {}", kind_name(kind), text);
  for (const std::string& detail : details) {
    for (const std::string& line : split(detail, '\n')) append(out, "\n  {}", line);
  }
  return out;
}

void internal_error(const char* file, int line, const std::string& text) {
  std::string_view name(file);
  if (size_t slash = name.rfind("/src/"); slash != std::string_view::npos) name.remove_prefix(slash + 1);
  throw InternalError(format("{} ({}:{})", text, name, line));
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i) out += separator;
    out += parts[i];
  }
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t start = 0;;) {
    size_t end = text.find(separator, start);
    parts.emplace_back(text.substr(start, end - start));
    if (end == std::string_view::npos) return parts;
    start = end + 1;
  }
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t' || text.front() == '\n' || text.front() == '\r'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\n' || text.back() == '\r'))
    text.remove_suffix(1);
  return text;
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string text(buffer, end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      append(out, "\\x{:02x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string bytes_text(int64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) value /= 1024, ++unit;
  return unit == 0 ? format("{} B", bytes) : format("{:.1f} {}", value, units[unit]);
}

}  // namespace toroid
