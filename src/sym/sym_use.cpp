// What is done with symbolic integers: substitution, evaluation, text in and out, C text.
#include <bit>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/lexer.h"
#include "sym/sym.h"

namespace toroid {
namespace {

// The same function over other arguments.
Sym rebuild(const Sym& a, const std::vector<Sym>& args) {
  switch (a.kind()) {
    case SymKind::floordiv: return floor_div(args[0], args[1]);
    case SymKind::mod: return mod(args[0], args[1]);
    case SymKind::min: return sym_min(args[0], args[1]);
    case SymKind::max: return sym_max(args[0], args[1]);
    case SymKind::eq: return sym_eq(args[0], args[1]);
    case SymKind::lt: return sym_lt(args[0], args[1]);
    case SymKind::le: return sym_le(args[0], args[1]);
    case SymKind::both: return sym_and(args[0], args[1]);
    case SymKind::either: return sym_or(args[0], args[1]);
    case SymKind::invert: return sym_not(args[0]);
    case SymKind::choose: return sym_choose(args[0], args[1], args[2]);
    case SymKind::call: return sym_call(a.function(), args);
    case SymKind::constant:
    case SymKind::symbol:
    case SymKind::sum: break;
  }
  internal_error(__FILE__, __LINE__, "rebuild of a sum or symbol");
}

struct Number {
  bool is_float = false;
  int64_t integer = 0;
  double real = 0;
  double as_float() const { return is_float ? real : static_cast<double>(integer); }
};
Number whole(int64_t value) { return {false, value, 0}; }
Number fraction(double value) { return {true, 0, value}; }

Number call_number(const std::string& f, const std::vector<Number>& args) {
  if (f.starts_with("float:")) {
    if (f == "float:inf") return fraction(INFINITY);
    if (f == "float:-inf") return fraction(-INFINITY);
    if (f == "float:nan") return fraction(NAN);
    double value = 0;
    std::from_chars(f.data() + 6, f.data() + f.size(), value);
    return fraction(value);
  }
  const double x = args.empty() ? 0 : args[0].as_float(), y = args.size() > 1 ? args[1].as_float() : 0;
  const int64_t i = args.empty() ? 0 : args[0].integer, j = args.size() > 1 ? args[1].integer : 0;
  if (f == "to_float") return fraction(x);
  if (f == "to_int") return args[0].is_float ? whole(static_cast<int64_t>(std::trunc(x))) : args[0];
  if (f == "floor_to_int") return args[0].is_float ? whole(static_cast<int64_t>(std::floor(x))) : args[0];
  if (f == "ceil_to_int") return args[0].is_float ? whole(static_cast<int64_t>(std::ceil(x))) : args[0];
  if (f == "round_to_int") return args[0].is_float ? whole(static_cast<int64_t>(std::nearbyint(x))) : args[0];
  if (f == "trunc_to_float") return fraction(std::trunc(x));
  if (f == "float_div" || f == "int_true_div") return fraction(x / y);
  if (f == "float_add") return fraction(x + y);
  if (f == "float_mul") return fraction(x * y);
  if (f == "float_pow") return fraction(std::pow(x, y));
  if (f == "pow") {
    if (args[0].is_float || args[1].is_float || j < 0) return fraction(std::pow(x, y));
    int64_t result = 1;
    for (int64_t k = 0; k < j; ++k) result *= i;
    return whole(result);
  }
  if (f == "sqrt") return fraction(std::sqrt(x));
  if (f == "exp") return fraction(std::exp(x));
  if (f == "log") return fraction(std::log(x));
  if (f == "log2") return fraction(std::log2(x));
  if (f == "sin") return fraction(std::sin(x));
  if (f == "cos") return fraction(std::cos(x));
  if (f == "tan") return fraction(std::tan(x));
  if (f == "sinh") return fraction(std::sinh(x));
  if (f == "cosh") return fraction(std::cosh(x));
  if (f == "tanh") return fraction(std::tanh(x));
  if (f == "asin") return fraction(std::asin(x));
  if (f == "acos") return fraction(std::acos(x));
  if (f == "atan") return fraction(std::atan(x));
  if (f == "asinh") return fraction(std::asinh(x));
  if (f == "from_bits") return fraction(std::bit_cast<double>(i));
  if (f == "bit_and") return whole(i & j);
  if (f == "bit_or") return whole(i | j);
  if (f == "bit_xor") return whole(i ^ j);
  if (f == "shift_left") return whole(i << j);
  if (f == "shift_right") return whole(i >> j);
  internal_error(__FILE__, __LINE__, format("symbolic function `{}` is unknown", f));
}

Number evaluate_number(const Sym& a, const std::map<std::string, int64_t>& values) {
  if (a.is_constant()) return whole(a.value());
  if (a.is_symbol()) {
    auto found = values.find(a.symbol_name());
    TD_CHECK(found != values.end(), "symbol `{}` has no value", a.symbol_name());
    return whole(found->second);
  }
  if (a.kind() == SymKind::sum) {
    bool real = false;
    int64_t sum = a.constant_part();
    double real_sum = static_cast<double>(sum);
    for (const Sym::Term& term : a.terms()) {
      int64_t value = term.coefficient;
      double real_value = static_cast<double>(value);
      for (const Sym& atom : term.atoms) {
        Number n = evaluate_number(atom, values);
        real |= n.is_float;
        value *= n.integer;
        real_value *= n.as_float();
      }
      sum += value;
      real_sum += real_value;
    }
    return real ? fraction(real_sum) : whole(sum);
  }
  std::vector<Number> args;
  for (const Sym& arg : a.args()) args.push_back(evaluate_number(arg, values));
  if (a.kind() == SymKind::call) return call_number(a.function(), args);
  const bool real = args.size() == 2 && (args[0].is_float || args[1].is_float);
  switch (a.kind()) {
    case SymKind::floordiv:
      if (real) return fraction(std::floor(args[0].as_float() / args[1].as_float()));
      return whole(floor_div(args[0].integer, args[1].integer).value());
    case SymKind::mod: return whole(mod(args[0].integer, args[1].integer).value());
    case SymKind::min:
      return real ? fraction(std::min(args[0].as_float(), args[1].as_float()))
                  : whole(std::min(args[0].integer, args[1].integer));
    case SymKind::max:
      return real ? fraction(std::max(args[0].as_float(), args[1].as_float()))
                  : whole(std::max(args[0].integer, args[1].integer));
    case SymKind::eq:
      return whole(real ? args[0].as_float() == args[1].as_float() : args[0].integer == args[1].integer);
    case SymKind::lt: return whole(real ? args[0].as_float() < args[1].as_float() : args[0].integer < args[1].integer);
    case SymKind::le:
      return whole(real ? args[0].as_float() <= args[1].as_float() : args[0].integer <= args[1].integer);
    case SymKind::both: return whole(args[0].integer && args[1].integer);
    case SymKind::either: return whole(args[0].integer || args[1].integer);
    case SymKind::invert: return whole(!args[0].integer);
    case SymKind::choose: return args[0].integer ? args[1] : args[2];
    default: break;
  }
  internal_error(__FILE__, __LINE__, format("cannot evaluate `{}`", to_string(a)));
}

// Binding strength for text: 0 or, 1 and, 2 comparison, 3 sum, 4 product, 5 atom.
std::string text(const Sym& a, int outer);
std::string call_text(const std::string& name, const std::vector<Sym>& args) {
  std::string out = name + "(";
  for (size_t i = 0; i < args.size(); ++i) out += (i ? ", " : "") + text(args[i], 0);
  return out + ")";
}
std::string text(const Sym& a, int outer) {
  auto wrap = [&](int own, std::string s) { return own < outer ? "(" + s + ")" : s; };
  if (a.is_constant()) return a.value() < 0 && outer > 3 ? format("({})", a.value()) : format("{}", a.value());
  if (a.is_symbol()) return a.symbol_name();
  switch (a.kind()) {
    case SymKind::sum: {
      std::string out;
      std::vector<Sym::Term> terms = a.terms();
      for (const Sym::Term& term : terms) {
        int64_t c = term.coefficient;
        if (out.empty())
          out += c < 0 ? "-" : "";
        else
          out += c < 0 ? " - " : " + ";
        uint64_t magnitude = c < 0 ? 0 - static_cast<uint64_t>(c) : static_cast<uint64_t>(c);
        std::string factors = magnitude == 1 ? "" : format("{}", magnitude);
        for (const Sym& atom : term.atoms) factors += (factors.empty() ? "" : "*") + text(atom, 5);
        out += factors;
      }
      int64_t c = a.constant_part();
      if (c > 0) append(out, " + {}", c);
      if (c < 0) append(out, " - {}", 0 - static_cast<uint64_t>(c));
      const bool single = terms.size() == 1 && c == 0;
      return wrap(single && terms[0].coefficient > 0 ? 4 : 3, out);
    }
    case SymKind::floordiv: return wrap(4, text(a.args()[0], 5) + "//" + text(a.args()[1], 5));
    case SymKind::mod: return wrap(4, text(a.args()[0], 5) + " % " + text(a.args()[1], 5));
    case SymKind::min: return call_text("min", a.args());
    case SymKind::max: return call_text("max", a.args());
    case SymKind::eq: return wrap(2, text(a.args()[0], 3) + " == " + text(a.args()[1], 3));
    case SymKind::lt: return wrap(2, text(a.args()[0], 3) + " < " + text(a.args()[1], 3));
    case SymKind::le: return wrap(2, text(a.args()[0], 3) + " <= " + text(a.args()[1], 3));
    case SymKind::both: return call_text("and", a.args());
    case SymKind::either: return call_text("or", a.args());
    case SymKind::invert: return call_text("not", a.args());
    case SymKind::choose: return call_text("choose", a.args());
    case SymKind::call:
      if (a.function().starts_with("float:")) return "float(" + a.function().substr(6) + ")";
      return call_text(a.function(), a.args());
    default: break;
  }
  internal_error(__FILE__, __LINE__, "symbolic expression without text");
}

using Resolve = std::function<Result<Sym>(const std::string&)>;
// Deeper texts are refused: every walk over a Sym recurses as deep as it nests, on whatever stack the caller has.
constexpr int max_nesting = 200;
// A product of sums is written out as a sum; ten factors of two terms are a thousand.
constexpr size_t max_terms = 4096;

// Recursive descent; `depth_` counts what is open in the text, `Part::height` what is nested in the value, which also
// grows without parentheses: x // a % b // c …
class SizeParser {
 public:
  SizeParser(Lexer& lexer, const Resolve& resolve) : lexer_(lexer), resolve_(resolve) {}

  Result<Sym> parse() {
    TD_TRY(Part x, comparison());
    return std::move(x.sym);
  }

 private:
  struct Part {
    Sym sym;
    int height = 0;
  };

  static size_t terms(const Sym& x) { return x.terms().size() + (x.constant_part() != 0); }
  std::unexpected<Diagnostic> too_deep() const { return std::unexpected(lexer_.error("a size nested too deep")); }

  Result<Part> atom() {
    // Not one call for each of many signs.
    bool negative = false;
    while (lexer_.accept("-")) negative = !negative;
    if (++depth_ > max_nesting) return too_deep();
    TD_TRY(Part x, positive_atom());
    --depth_;
    if (negative) x.sym = -x.sym;
    return x;
  }

  Result<Part> positive_atom() {
    if (lexer_.accept("(")) {
      TD_TRY(Part x, comparison());
      TD_CHECK_OK(lexer_.expect(")"));
      return x;
    }
    if (lexer_.peek().kind == TokenKind::integer) {
      TD_TRY(int64_t value, lexer_.expect_integer());
      return Part{value};
    }
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::word, "a size"));
    if (!lexer_.accept("(")) {
      TD_TRY(Sym value, resolve_(name));
      return Part{std::move(value)};
    }
    if (name == "float") {
      TD_TRY(double value, lexer_.expect_number());
      TD_CHECK_OK(lexer_.expect(")"));
      return Part{sym_float(value)};
    }
    return function(name);
  }

  Result<Part> function(const std::string& name) {
    std::vector<Sym> args;
    int height = 0;
    while (!lexer_.accept(")")) {
      if (!args.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(Part arg, comparison());
      height = std::max(height, arg.height);
      args.push_back(std::move(arg.sym));
    }
    if (++height > max_nesting) return too_deep();
    auto takes = [&](const char* wanted, size_t count) { return name == wanted && args.size() == count; };
    if (takes("min", 2)) return Part{sym_min(args[0], args[1]), height};
    if (takes("max", 2)) return Part{sym_max(args[0], args[1]), height};
    if (takes("and", 2)) return Part{sym_and(args[0], args[1]), height};
    if (takes("or", 2)) return Part{sym_or(args[0], args[1]), height};
    if (takes("not", 1)) return Part{sym_not(args[0]), height};
    if (takes("choose", 3)) return Part{sym_choose(args[0], args[1], args[2]), height};
    return Part{sym_call(name, args), height};
  }

  Result<Part> product() {
    TD_TRY(Part x, atom());
    for (;;) {
      std::string op = lexer_.peek().text;
      if (lexer_.peek().kind != TokenKind::symbol || (op != "*" && op != "//" && op != "%")) return x;
      lexer_.next();
      TD_TRY(Part y, atom());
      x.height = std::max(x.height, y.height);
      if (op == "*") {
        if (terms(x.sym) * terms(y.sym) > max_terms)
          return std::unexpected(lexer_.error(format("a size of more than {} terms", max_terms)));
        x.sym = x.sym * y.sym;
        continue;
      }
      if (y.sym == Sym(0)) return std::unexpected(lexer_.error("division by zero"));
      if (++x.height > max_nesting) return too_deep();
      x.sym = op == "//" ? floor_div(x.sym, y.sym) : mod(x.sym, y.sym);
    }
  }

  Result<Part> sum() {
    TD_TRY(Part x, product());
    for (;;) {
      const bool plus = lexer_.at("+");
      if (!plus && !lexer_.at("-")) return x;
      lexer_.next();
      TD_TRY(Part y, product());
      x.height = std::max(x.height, y.height);
      x.sym = plus ? x.sym + y.sym : x.sym - y.sym;
    }
  }

  Result<Part> comparison() {
    TD_TRY(Part x, sum());
    std::string op = lexer_.peek().text;
    if (lexer_.peek().kind != TokenKind::symbol ||
        (op != "==" && op != "<" && op != "<=" && op != "!=" && op != ">" && op != ">="))
      return x;
    lexer_.next();
    TD_TRY(Part y, sum());
    const int height = std::max(x.height, y.height) + 1;
    if (height > max_nesting) return too_deep();
    if (op == "==") return Part{sym_eq(x.sym, y.sym), height};
    if (op == "!=") return Part{sym_ne(x.sym, y.sym), height};
    if (op == "<") return Part{sym_lt(x.sym, y.sym), height};
    if (op == "<=") return Part{sym_le(x.sym, y.sym), height};
    if (op == ">") return Part{sym_lt(y.sym, x.sym), height};
    return Part{sym_le(y.sym, x.sym), height};
  }

  Lexer& lexer_;
  const Resolve& resolve_;
  int depth_ = 0;
};

}  // namespace

Sym substitute(const Sym& a, const std::map<std::string, Sym>& values) {
  if (a.is_constant()) return a;
  if (a.is_symbol()) {
    auto found = values.find(a.symbol_name());
    if (found != values.end()) return found->second;
    const SymNode& node = *a.node();
    if (node.extent == Sym(0)) return a;
    Sym extent = substitute(node.extent, values);
    return extent == node.extent ? a : Sym::index(node.name, extent);
  }
  if (a.kind() == SymKind::sum) {
    Sym sum = a.constant_part();
    for (const Sym::Term& term : a.terms()) {
      Sym part = term.coefficient;
      for (const Sym& atom : term.atoms) part *= substitute(atom, values);
      sum += part;
    }
    return sum;
  }
  std::vector<Sym> args;
  for (const Sym& arg : a.args()) args.push_back(substitute(arg, values));
  return rebuild(a, args);
}

void collect_symbols(const Sym& a, std::set<std::string>& names) {
  if (a.is_constant()) return;
  if (a.is_symbol()) names.insert(a.symbol_name());
  for (const Sym& arg : a.args()) collect_symbols(arg, names);
  if (a.kind() == SymKind::sum)
    for (const Sym::Term& term : a.node()->terms)
      for (const Sym& atom : term.atoms) collect_symbols(atom, names);
}

bool depends_on(const Sym& a, const std::string& symbol) {
  if (a.is_constant()) return false;
  if (a.is_symbol()) return a.symbol_name() == symbol;
  for (const Sym& arg : a.args())
    if (depends_on(arg, symbol)) return true;
  if (a.kind() == SymKind::sum)
    for (const Sym::Term& term : a.node()->terms)
      for (const Sym& atom : term.atoms)
        if (depends_on(atom, symbol)) return true;
  return false;
}

std::optional<Linear> linear_in(const Sym& a, const std::string& symbol) {
  Linear line{0, a.constant_part()};
  for (const Sym::Term& term : a.terms()) {
    Sym rest = term.coefficient;
    int times = 0;
    for (const Sym& atom : term.atoms) {
      if (atom.is_symbol() && atom.symbol_name() == symbol) {
        ++times;
      } else if (depends_on(atom, symbol)) {
        return std::nullopt;
      } else {
        rest *= atom;
      }
    }
    if (times > 1) return std::nullopt;
    (times ? line.coefficient : line.rest) += rest;
  }
  return line;
}

std::optional<Sym> step_in_run(const Sym& a, const std::string& symbol, int64_t run) {
  if (!depends_on(a, symbol)) return Sym(0);
  if (a.is_symbol()) return Sym(1);
  if (a.kind() == SymKind::sum) {
    Sym step = 0;
    for (const Sym::Term& term : a.terms()) {
      Sym rest = term.coefficient, moved = 0;
      for (const Sym& atom : term.atoms) {
        auto own = step_in_run(atom, symbol, run);
        if (!own || (*own != Sym(0) && moved != Sym(0))) return std::nullopt;
        if (*own != Sym(0))
          moved = *own;
        else
          rest *= atom;
      }
      step += rest * moved;
    }
    return step;
  }
  if (a.kind() == SymKind::floordiv || a.kind() == SymKind::mod) {
    const Sym &x = a.args()[0], &divisor = a.args()[1];
    if (run > 0 && x.is_symbol() && divisor.is_constant() && divisor.value() > 0 && divisor.value() % run == 0)
      return a.kind() == SymKind::mod ? Sym(1) : Sym(0);
  }
  for (const Sym& arg : a.args()) {
    auto own = step_in_run(arg, symbol, run);
    if (!own || *own != Sym(0)) return std::nullopt;
  }
  return Sym(0);
}

int64_t evaluate(const Sym& a, const std::map<std::string, int64_t>& values) {
  Number n = evaluate_number(a, values);
  return n.is_float ? static_cast<int64_t>(n.real) : n.integer;
}
double evaluate_float(const Sym& a, const std::map<std::string, int64_t>& values) {
  return evaluate_number(a, values).as_float();
}

std::string to_string(const Sym& a) { return text(a, 0); }
std::string to_string(const SymList& list) {
  std::string out;
  for (size_t i = 0; i < list.size(); ++i) out += (i ? ", " : "") + to_string(list[i]);
  return out;
}

Result<Sym> parse_sym(Lexer& lexer, const Resolve& resolve) { return SizeParser(lexer, resolve).parse(); }

std::string to_c(const Sym& a, const std::function<std::string(const std::string&)>& name) {
  return to_c(a, name, [&](const Sym& x) { return to_c(x, name); });
}

std::string to_c(const Sym& a, const std::function<std::string(const std::string&)>& name,
                 const std::function<std::string(const Sym&)>& c) {
  if (a.is_constant()) return a.value() < 0 ? format("({}L)", a.value()) : format("{}L", a.value());
  if (a.is_symbol()) return name(a.symbol_name());
  const std::vector<Sym>& args = a.args();
  auto both = [&](const char* op) { return format("({} {} {})", c(args[0]), op, c(args[1])); };
  switch (a.kind()) {
    case SymKind::sum: {
      std::string out = "(";
      bool first = true;
      for (const Sym::Term& term : a.terms()) {
        std::string part;
        if (term.coefficient != 1) part = format("{}L", term.coefficient);
        for (const Sym& atom : term.atoms) part += (part.empty() ? "" : "*") + c(atom);
        out += (first ? "" : " + ") + part;
        first = false;
      }
      if (a.constant_part() != 0) append(out, " + {}L", a.constant_part());
      return out + ")";
    }
    case SymKind::floordiv:
      // C's division truncates: the same for a dividend that is not negative.
      if (proves_le(0, args[0]) && proves_lt(0, args[1])) return both("/");
      return format("floordiv((i64)({}), (i64)({}))", c(args[0]), c(args[1]));
    case SymKind::mod:
      if (proves_le(0, args[0]) && proves_lt(0, args[1])) return both("%");
      return format("remainder((i64)({}), (i64)({}))", c(args[0]), c(args[1]));
    case SymKind::min:
    case SymKind::max: {
      const char* name = a.kind() == SymKind::min ? "min" : "max";
      if (is_float_sym(a)) return format("__builtin_f{}((double)({}), (double)({}))", name, c(args[0]), c(args[1]));
      return format("{}((i64)({}), (i64)({}))", name, c(args[0]), c(args[1]));
    }
    case SymKind::eq: return both("==");
    case SymKind::lt: return both("<");
    case SymKind::le: return both("<=");
    case SymKind::both: return both("&&");
    case SymKind::either: return both("||");
    case SymKind::invert: return format("(!{})", c(args[0]));
    case SymKind::choose: return format("({} ? {} : {})", c(args[0]), c(args[1]), c(args[2]));
    case SymKind::call: {
      const std::string& f = a.function();
      if (f.starts_with("float:")) {
        std::string value = f.substr(6);
        if (value == "inf") return "__builtin_inf()";
        if (value == "-inf") return "(-__builtin_inf())";
        if (value == "nan") return "__builtin_nan(\"\")";
        return value[0] == '-' ? "(" + value + ")" : value;
      }
      if (f == "to_float") return format("((double){})", c(args[0]));
      if (f == "to_int") return format("((long)({}))", c(args[0]));
      if (f == "floor_to_int") return format("((long)__builtin_floor({}))", c(args[0]));
      if (f == "ceil_to_int") return format("((long)__builtin_ceil({}))", c(args[0]));
      if (f == "round_to_int") return format("((long)__builtin_nearbyint({}))", c(args[0]));
      if (f == "trunc_to_float") return format("__builtin_trunc({})", c(args[0]));
      if (f == "float_div" || f == "int_true_div") return format("((double){} / (double){})", c(args[0]), c(args[1]));
      if (f == "float_add") return format("((double){} + (double){})", c(args[0]), c(args[1]));
      if (f == "float_mul") return format("((double){} * (double){})", c(args[0]), c(args[1]));
      if (f == "float_pow") return format("__builtin_pow({}, {})", c(args[0]), c(args[1]));
      if (f == "pow") return format("((long)__builtin_pow((double){}, (double){}))", c(args[0]), c(args[1]));
      if (f == "from_bits") return format("__builtin_bit_cast(double, (long){})", c(args[0]));
      if (f == "bit_and") return both("&");
      if (f == "bit_or") return both("|");
      if (f == "bit_xor") return both("^");
      if (f == "shift_left") return both("<<");
      if (f == "shift_right") return both(">>");
      return format("__builtin_{}({})", f, c(args[0]));
    }
    default: break;
  }
  internal_error(__FILE__, __LINE__, "symbolic expression without C text");
}

}  // namespace toroid
