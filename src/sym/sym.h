// Symbolic integers: the type of every size, stride, index, offset and guard. A static shape is a Sym without symbols.
//
// A Sym is an immutable value in canonical form, so two Syms that are equal by arithmetic mostly are the same tree, and
// `==` compares trees. Canonical form: a sum of integer multiples of products of atoms, plus a constant; an atom is a
// symbol or a function (floor division, modulo, min, max, comparison, …) of canonical arguments. Symbols carry their
// range, and index variables their extent, so simplification and proofs need no context.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"

namespace toroid {

class Lexer;
class Sym;
using SymNodePtr = std::shared_ptr<const struct SymNode>;
using SymList = std::vector<Sym>;

enum class SymKind : uint8_t {
  constant,
  symbol,    // s0, u0 (sizes), i0 (index variables)
  sum,       // constant + sum of coefficient * product
  floordiv,  // towards minus infinity, as Python's //
  mod,       // sign of the divisor, as Python's %
  min,
  max,
  eq,
  lt,
  le,      // 0 or 1
  both,    // logical and, 0 or 1
  either,  // logical or
  invert,  // logical not
  choose,  // choose(condition, a, b)
  call,  // a function by name over doubles ("sqrt", "to_float", "float_div", "float_pow", …), see sym_function_names()
};

// Inclusive; infinite ends are the extreme values of int64.
struct SymRange {
  int64_t low, high;
};
constexpr int64_t sym_infinity = INT64_MAX;

class Sym {
 public:
  Sym(int64_t value = 0) : value_(value) {}  // NOLINT: a plain integer is a Sym

  // A size symbol such as s0 in [low, high]; one name is one symbol.
  static Sym symbol(std::string name, int64_t low, int64_t high);
  // An index variable: 0 <= name < extent.
  static Sym index(std::string name, const Sym& extent);

  bool is_constant() const { return !node_; }
  std::optional<int64_t> constant() const { return node_ ? std::nullopt : std::optional(value_); }
  // The constant's value; an internal error for anything else.
  int64_t value() const;
  bool is_symbol() const;
  const std::string& symbol_name() const;
  SymKind kind() const;
  // For functions: their arguments. For a sum use terms().
  const std::vector<Sym>& args() const;
  // For a call: its function's name.
  const std::string& function() const;

  // sum of coefficient * product of atoms, without the constant; a non-sum atom is one term with coefficient 1.
  struct Term {
    int64_t coefficient;
    std::vector<Sym> atoms;
  };
  std::vector<Term> terms() const;
  int64_t constant_part() const;

  size_t hash() const;
  friend bool operator==(const Sym& a, const Sym& b);
  friend std::strong_ordering operator<=>(const Sym& a, const Sym& b);  // an arbitrary but fixed structural order

  friend Sym operator+(const Sym& a, const Sym& b);
  friend Sym operator-(const Sym& a, const Sym& b);
  friend Sym operator*(const Sym& a, const Sym& b);
  Sym operator-() const { return Sym(0) - *this; }
  Sym& operator+=(const Sym& b) { return *this = *this + b; }
  Sym& operator*=(const Sym& b) { return *this = *this * b; }

  const SymNode* node() const { return node_.get(); }
  explicit Sym(SymNodePtr node) : node_(std::move(node)) {}

 private:
  int64_t value_ = 0;  // when node_ is null
  SymNodePtr node_;
};

struct SymNode {
  SymKind kind;
  std::string name;              // symbol, call
  int64_t low = 0, high = 0;     // symbol
  Sym extent = 0;                // index variable: its extent, else 0
  std::vector<Sym> args;         // functions
  std::vector<Sym::Term> terms;  // sum
  int64_t constant = 0;          // sum
  size_t hash = 0;
};

Sym floor_div(const Sym& a, const Sym& b);
Sym mod(const Sym& a, const Sym& b);
Sym ceil_div(const Sym& a, const Sym& b);
Sym sym_min(const Sym& a, const Sym& b);
Sym sym_max(const Sym& a, const Sym& b);
Sym sym_eq(const Sym& a, const Sym& b);
Sym sym_ne(const Sym& a, const Sym& b);
Sym sym_lt(const Sym& a, const Sym& b);
Sym sym_le(const Sym& a, const Sym& b);
Sym sym_and(const Sym& a, const Sym& b);
Sym sym_or(const Sym& a, const Sym& b);
Sym sym_not(const Sym& a);
Sym sym_choose(const Sym& condition, const Sym& a, const Sym& b);
// A function over numbers that may be fractions inside: to_float, to_int (truncates), floor_to_int, ceil_to_int,
// round_to_int, float_div, int_true_div, float_pow, pow, sqrt, exp, log, log2, sin, cos, tan, sinh, cosh, tanh, asin,
// acos, atan, bit_and, bit_or, bit_xor, shift_left, shift_right, float_constant (name "float:<text>").
Sym sym_call(const std::string& function, std::vector<Sym> args);
Sym sym_float(double value);
bool is_float_sym(const Sym& a);  // its value is a double: a call over doubles, or made of one
Sym product(const SymList& factors);

// The least and greatest value that interval arithmetic over the symbols' ranges allows.
SymRange range_of(const Sym& a);
// True only when certain.
bool proves_eq(const Sym& a, const Sym& b);
bool proves_ne(const Sym& a, const Sym& b);
bool proves_le(const Sym& a, const Sym& b);
bool proves_lt(const Sym& a, const Sym& b);
// a is a multiple of divisor for certain.
bool proves_divisible(const Sym& a, int64_t divisor);

// Replaces symbols by name.
Sym substitute(const Sym& a, const std::map<std::string, Sym>& values);
void collect_symbols(const Sym& a, std::set<std::string>& names);
bool depends_on(const Sym& a, const std::string& symbol);
// Splits a into coefficient * symbol + rest where neither depends on symbol; nothing when a is not linear in it.
struct Linear {
  Sym coefficient, rest;
};
std::optional<Linear> linear_in(const Sym& a, const std::string& symbol);
// By how much a grows with each step of a symbol that walks from one multiple of `run` to just before the next: there a
// floor division by a multiple of `run` stands still, and a remainder grows with it. Nothing when the steps differ;
// with a run of 0 the symbol walks anywhere.
std::optional<Sym> step_in_run(const Sym& a, const std::string& symbol, int64_t run);

// The value for given symbols; floats inside are doubles. Internal error when a symbol is missing or a divisor is 0.
int64_t evaluate(const Sym& a, const std::map<std::string, int64_t>& values);
double evaluate_float(const Sym& a, const std::map<std::string, int64_t>& values);

// Text that parse_sym reads back: `2*s0 + 1`, `s0//2`, `(s0 + 1) % 4`, `min(s0, 8)`.
std::string to_string(const Sym& a);
std::string to_string(const SymList& list);  // "s0, 64"
// Reads an expression; `resolve` gives the Sym of a name.
Result<Sym> parse_sym(Lexer& lexer, const std::function<Result<Sym>(const std::string&)>& resolve);

// C text of type int64_t (double for calls that yield one). `name` gives the text of a symbol. The text may use a type
// i64 and functions floordiv, remainder, min, max over it.
std::string to_c(const Sym& a, const std::function<std::string(const std::string&)>& name);
// As above, of operands whose text `operand` gives.
std::string to_c(const Sym& a, const std::function<std::string(const std::string&)>& name,
                 const std::function<std::string(const Sym&)>& operand);

}  // namespace toroid

template <>
struct std::hash<toroid::Sym> {
  size_t operator()(const toroid::Sym& a) const noexcept { return a.hash(); }
};
