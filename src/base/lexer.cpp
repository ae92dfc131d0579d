// Turns a stage text into tokens.
#include "base/lexer.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace toroid {
namespace {
bool starts_word(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool in_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
constexpr std::string_view double_symbols[] = {"->", "//", "<=", ">=", "==", "!=", ".."};
}  // namespace

Lexer::Lexer(std::string_view text) : text_(text) { advance(); }

void Lexer::advance() {
  while (position_ < text_.size()) {
    char c = text_[position_];
    if (c == '\n') {
      ++position_, ++line_;
      line_start_ = position_;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      ++position_;
    } else if (c == '#') {
      while (position_ < text_.size() && text_[position_] != '\n') ++position_;
    } else {
      break;
    }
  }
  token_start_ = position_;
  token_ = {TokenKind::end, "", line_, static_cast<int>(position_ - line_start_) + 1};
  if (position_ >= text_.size()) return;
  auto take_word = [&](bool dots) {
    size_t start = position_;
    while (position_ < text_.size() &&
           (in_word(text_[position_]) ||
            (dots && text_[position_] == '.' && position_ + 1 < text_.size() && in_word(text_[position_ + 1]))))
      ++position_;
    return std::string(text_.substr(start, position_ - start));
  };
  char c = text_[position_];
  char following = position_ + 1 < text_.size() ? text_[position_ + 1] : '\0';
  if ((c == '%' || c == '@') && in_word(following)) {
    ++position_;
    token_.kind = c == '%' ? TokenKind::value : TokenKind::global;
    token_.text = take_word(true);
  } else if (starts_word(c)) {
    token_.kind = TokenKind::word;
    token_.text = take_word(true);
  } else if (std::isdigit(static_cast<unsigned char>(c))) {
    size_t start = position_;
    bool fraction = false;
    while (position_ < text_.size()) {
      char d = text_[position_];
      char e = position_ + 1 < text_.size() ? text_[position_ + 1] : '\0';
      if (std::isdigit(static_cast<unsigned char>(d))) {
        ++position_;
      } else if (d == '.' && e != '.') {
        fraction = true, ++position_;
      } else if ((d == 'e' || d == 'E') && (std::isdigit(static_cast<unsigned char>(e)) || e == '-' || e == '+')) {
        fraction = true, position_ += 2;
      } else {
        break;
      }
    }
    token_.kind = fraction ? TokenKind::number : TokenKind::integer;
    token_.text = std::string(text_.substr(start, position_ - start));
  } else if (c == '"') {
    token_.kind = TokenKind::string;
    ++position_;
    while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\n') {
      char d = text_[position_++];
      if (d != '\\' || position_ >= text_.size()) {
        token_.text += d;
        continue;
      }
      char e = text_[position_++];
      if (e == 'x' && position_ + 1 < text_.size()) {
        int code = 0;
        std::from_chars(text_.data() + position_, text_.data() + position_ + 2, code, 16);
        token_.text += static_cast<char>(code);
        position_ += 2;
      } else {
        token_.text += e == 'n' ? '\n' : e == 't' ? '\t' : e;
      }
    }
    if (position_ < text_.size() && text_[position_] == '"') ++position_;
  } else {
    token_.kind = TokenKind::symbol;
    std::string_view two = text_.substr(position_, 2);
    token_.text = std::string(1, c);
    for (std::string_view symbol : double_symbols)
      if (two == symbol) token_.text = std::string(symbol);
    position_ += token_.text.size();
  }
}

Token Lexer::next() {
  Token token = token_;
  advance();
  return token;
}

bool Lexer::at(std::string_view wanted) const {
  return (token_.kind == TokenKind::symbol || token_.kind == TokenKind::word) && token_.text == wanted;
}

bool Lexer::accept(std::string_view wanted) {
  if (!at(wanted)) return false;
  advance();
  return true;
}

Status Lexer::expect(std::string_view wanted) {
  if (accept(wanted)) return {};
  return std::unexpected(error(format("expected `{}`", wanted)));
}

Result<std::string> Lexer::expect_kind(TokenKind kind, std::string_view what) {
  if (token_.kind != kind) return std::unexpected(error(format("expected {}", what)));
  return next().text;
}

Result<int64_t> Lexer::expect_integer() {
  bool negative = accept("-");
  if (token_.kind != TokenKind::integer) return std::unexpected(error("expected an integer"));
  std::string text = (negative ? "-" : "") + token_.text;
  int64_t value = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc()) return std::unexpected(error("integer out of range"));
  advance();
  return value;
}

Result<double> Lexer::expect_number() {
  bool negative = accept("-");
  double value = 0;
  if (accept("inf")) {
    value = std::numeric_limits<double>::infinity();
  } else if (accept("nan")) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (token_.kind == TokenKind::integer || token_.kind == TokenKind::number) {
    std::from_chars(token_.text.data(), token_.text.data() + token_.text.size(), value);
    advance();
  } else {
    return std::unexpected(error("expected a number"));
  }
  return negative ? -value : value;
}

std::string Lexer::rest_of_line() {
  if (at_end() || token_.line != line_) return "";
  size_t end = text_.find('\n', token_start_);
  if (end == std::string_view::npos) end = text_.size();
  std::string rest(trim(text_.substr(token_start_, end - token_start_)));
  position_ = end;
  advance();
  return rest;
}

Diagnostic Lexer::error(std::string text) const {
  std::string found = token_.kind == TokenKind::end ? "the end of the text" : format("`{}`", token_.text);
  return {Kind::bad_graph, format("line {}:{}: {}, found {}", token_.line, token_.column, text, found), {}};
}

}  // namespace toroid
