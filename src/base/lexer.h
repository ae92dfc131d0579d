// One lexer for every stage text (graph, loops, schedule, plan). Comments run from `#` to the end of the line.
#pragma once
#include <string>
#include <string_view>

#include "base/result.h"

namespace toroid {

enum class TokenKind {
  end,
  word,     // letters, digits, `_`, and `.` inside: aten.add.Tensor, f32, s0
  value,    // %name (dots allowed); `text` leaves out the %
  global,   // @name; `text` leaves out the @
  integer,  // 12
  number,   // 1.5, 1e-05 (also the words inf, nan stay words)
  string,   // "…", unescaped
  symbol,   // one of ( ) [ ] { } < > , : ; = + - * / % ! ? | & ^ ~, and -> // <= >= == != ..
};

struct Token {
  TokenKind kind = TokenKind::end;
  std::string text;
  int line = 1, column = 1;
};

class Lexer {
 public:
  explicit Lexer(std::string_view text);

  const Token& peek() const { return token_; }
  Token next();
  bool at_end() const { return token_.kind == TokenKind::end; }
  // True, and moves on, when the next token is this symbol or word.
  bool accept(std::string_view symbol_or_word);
  bool at(std::string_view symbol_or_word) const;
  Status expect(std::string_view symbol_or_word);
  Result<std::string> expect_kind(TokenKind kind, std::string_view what);
  Result<int64_t> expect_integer();  // with an optional minus sign
  Result<double> expect_number();    // integer or float, optional minus sign, inf, nan
  // The rest of the line after the current token's start, as written (for `@ where` notes); moves to the next line.
  std::string rest_of_line();
  // A bad_graph Diagnostic at the current token: "line 3:14: expected `)`, found `x`".
  Diagnostic error(std::string text) const;

 private:
  void advance();
  std::string_view text_;
  size_t position_ = 0;
  int line_ = 1;
  size_t line_start_ = 0;
  size_t token_start_ = 0;
  Token token_;
};

}  // namespace toroid
