// Expressions over sizes as Python writes them, by recursive descent over Python's precedences: the guards of an export
// and the keys of its range constraints.
#include <charconv>

#include "base/check.h"
#include "base/lexer.h"
#include "import/size_functions.h"
#include "import/symbols.h"

namespace toroid {
namespace {

// An expression nested deeper than this is not one that PyTorch wrote.
constexpr int max_depth = 200;

// How a guard calls sympy's functions; others come under sympy's own names.
constexpr std::pair<const char*, const char*> spellings[] = {
    {"max", "Max"},
    {"min", "Min"},
    {"torch.sym_max", "Max"},
    {"torch.sym_min", "Min"},
    {"math.trunc", "TruncToInt"},
    {"int", "TruncToInt"},
    {"math.ceil", "CeilToInt"},
    {"ceiling", "CeilToInt"},
    {"math.floor", "FloorToInt"},
    {"floor", "FloorToInt"},
    {"float", "ToFloat"},
    {"torch.sym_float", "ToFloat"},
    {"torch.sym_not", "Not"},
    {"torch.sym_ite", "Where"},
    {"math.pow", "FloatPow"},
    {"math.sqrt", "OpaqueUnaryFn_sqrt"},
    {"torch._sym_sqrt", "OpaqueUnaryFn_sqrt"},
    {"math.exp", "OpaqueUnaryFn_exp"},
    {"math.log", "OpaqueUnaryFn_log"},
    {"torch.sym_log2", "OpaqueUnaryFn_log2"},
};

class Python {
 public:
  Python(std::string_view text, const NameOf& name_of) : lexer_(text), name_of_(name_of) {}

  Result<Sym> read() {
    TD_TRY(Sym value, either());
    if (!lexer_.at_end()) return refuse();
    return value;
  }

 private:
  std::unexpected<Diagnostic> refuse() const {
    return fail(Kind::unsupported, "{}", lexer_.error("an expression").text);
  }

  // An operator whose operand becomes part of a deeper tree: a // b % c // d nests in the value, not in the text.
  bool nests() { return ++nested_ <= max_depth; }
  std::unexpected<Diagnostic> too_deep() const { return fail(Kind::unsupported, "an expression nested so deeply"); }

  // One rule down, with the depth of parentheses counted.
  struct Deeper {
    int& depth;
    explicit Deeper(int& d) : depth(++d) {}
    ~Deeper() { --depth; }
  };

  Result<Sym> either() {
    Deeper deeper(depth_);
    if (depth_ > max_depth) return too_deep();
    TD_TRY(Sym value, both());
    while (lexer_.accept("or")) {
      if (!nests()) return too_deep();
      TD_TRY(Sym next, both());
      value = sym_or(value, next);
    }
    return value;
  }
  Result<Sym> both() {
    TD_TRY(Sym value, negation());
    while (lexer_.accept("and")) {
      if (!nests()) return too_deep();
      TD_TRY(Sym next, negation());
      value = sym_and(value, next);
    }
    return value;
  }
  Result<Sym> negation() {
    bool is_not = false;
    while (lexer_.accept("not")) is_not = !is_not;
    TD_TRY(Sym value, comparison());
    return is_not ? sym_not(value) : value;
  }
  // a < b <= c is a < b and b <= c.
  Result<Sym> comparison() {
    TD_TRY(Sym left, bits());
    std::optional<Sym> all;
    for (;;) {
      std::string op;
      for (const char* known : {"==", "!=", "<=", ">=", "<", ">"})
        if (op.empty() && lexer_.accept(known)) op = known;
      if (op.empty()) return all.value_or(left);
      if (!nests()) return too_deep();
      TD_TRY(Sym right, bits());
      const Sym holds = op == "=="   ? sym_eq(left, right)
                        : op == "!=" ? sym_ne(left, right)
                        : op == "<=" ? sym_le(left, right)
                        : op == ">=" ? sym_le(right, left)
                        : op == "<"  ? sym_lt(left, right)
                                     : sym_lt(right, left);
      all = all ? sym_and(*all, holds) : holds;
      left = right;
    }
  }
  Result<Sym> bits() {
    TD_TRY(Sym value, sum());
    for (;;) {
      const char* function = lexer_.accept("&")   ? "BitwiseFn_bitwise_and"
                             : lexer_.accept("|") ? "BitwiseFn_bitwise_or"
                             : lexer_.accept("^") ? "BitwiseFn_bitwise_xor"
                                                  : nullptr;
      if (!function) return value;
      if (!nests()) return too_deep();
      TD_TRY(Sym right, sum());
      TD_TRY(value, size_function(function, {value, right}));
    }
  }
  Result<Sym> sum() {
    TD_TRY(Sym value, term());
    for (;;) {
      const bool minus = lexer_.accept("-");
      if (!minus && !lexer_.accept("+")) return value;
      TD_TRY(Sym right, term());
      if (minus) {
        TD_TRY(right, size_function("Mul", {Sym(-1), right}));
      }
      TD_TRY(value, size_function("Add", {value, right}));
    }
  }
  Result<Sym> term() {
    TD_TRY(Sym value, factor());
    for (;;) {
      std::string op;
      for (const char* known : {"//", "*", "/", "%"})
        if (op.empty() && lexer_.accept(known)) op = known;
      if (op.empty()) return value;
      if (op != "*" && !nests()) return too_deep();
      TD_TRY(Sym right, factor());
      const bool fraction = is_fraction(value) || is_fraction(right);
      if (fraction && (op == "//" || op == "%")) return refuse();
      TD_TRY(value, size_function(op == "*"    ? "Mul"
                                  : op == "//" ? "FloorDiv"
                                  : op == "%"  ? "Mod"
                                  : fraction   ? "FloatTrueDiv"
                                               : "IntTrueDiv",
                                  {value, right}));
    }
  }
  Result<Sym> factor() {
    Deeper deeper(depth_);
    if (depth_ > max_depth) return too_deep();
    if (lexer_.accept("-")) {
      TD_TRY(Sym value, factor());
      return size_function("Mul", {Sym(-1), value});
    }
    if (lexer_.accept("+")) return factor();
    TD_TRY(Sym value, atom());
    // The lexer has no `**`.
    if (!lexer_.at("*") || !power_follows()) return value;
    TD_TRY(Sym power, factor());
    return size_function("Pow", {value, power});
  }
  // Takes both stars of `**`; nothing of a single one.
  bool power_follows() {
    Lexer ahead = lexer_;
    const Token first = ahead.next();
    if (!ahead.at("*") || ahead.peek().column != first.column + 1) return false;
    ahead.next();
    lexer_ = ahead;
    return true;
  }
  Result<Sym> atom() {
    const Token token = lexer_.peek();
    if (lexer_.accept("(")) {
      TD_TRY(Sym value, either());
      if (!lexer_.accept(")")) return refuse();
      return value;
    }
    if (token.kind == TokenKind::integer) return lexer_.expect_integer();
    if (token.kind == TokenKind::number) {
      TD_TRY(double value, lexer_.expect_number());
      return sym_float(value);
    }
    if (token.kind != TokenKind::word) return refuse();
    lexer_.next();
    if (token.text == "True" || token.text == "False") return Sym(token.text == "True");
    if (!lexer_.accept("(")) return name_of_(token.text);
    SymList args;
    while (!lexer_.accept(")")) {
      if (!args.empty() && !lexer_.accept(",")) return refuse();
      TD_TRY(Sym arg, either());
      args.push_back(std::move(arg));
    }
    std::string function = token.text;
    for (auto [theirs, ours] : spellings)
      if (function == theirs) function = ours;
    if (function == "round") function = args.size() == 2 ? "RoundDecimal" : "RoundToInt";
    if (function == "abs" && args.size() == 1) {
      TD_TRY(Sym negative, size_function("Mul", {Sym(-1), args[0]}));
      return size_function("Max", {args[0], negative});
    }
    return size_function(function, args);
  }

  Lexer lexer_;
  const NameOf& name_of_;
  int depth_ = 0, nested_ = 0;
};

}  // namespace

Result<Sym> read_python(std::string_view text, const NameOf& name_of) { return Python(text, name_of).read(); }

Result<Sym> parse_size_guard(std::string_view text,
                             const std::function<Result<Sym>(const std::string&, std::optional<int64_t>)>& value_of) {
  // Each L['d']['a'].size()[0] and L['n'] becomes a name of its own.
  std::string plain;
  std::map<std::string, Sym> values;
  for (size_t at = 0; at < text.size();) {
    const bool begins = at == 0 || !(std::isalnum(static_cast<unsigned char>(text[at - 1])) || text[at - 1] == '_');
    if (!begins || !text.substr(at).starts_with("L[")) {
      plain += text[at++];
      continue;
    }
    std::string path;
    ++at;
    while (at < text.size() && text[at] == '[') {
      const size_t end = text.find(']', at);
      if (end == std::string_view::npos) return fail(Kind::unsupported, "guard `{}`", text);
      path += path.empty() ? "" : "_";
      for (char c : text.substr(at + 1, end - at - 1))
        if (std::isalnum(static_cast<unsigned char>(c)) || c == '_') path += c;
      at = end + 1;
    }
    std::optional<int64_t> dim;
    constexpr std::string_view size_call = ".size()[";
    if (text.substr(at).starts_with(size_call)) {
      const char* first = text.data() + at + size_call.size();
      auto [last, failure] = std::from_chars(first, text.data() + text.size(), dim.emplace());
      if (failure != std::errc() || last == text.data() + text.size() || *last != ']')
        return fail(Kind::unsupported, "guard `{}`", text);
      at = static_cast<size_t>(last - text.data()) + 1;
    } else if (text.substr(at).starts_with(".")) {
      return fail(Kind::unsupported, "guard `{}`", text);
    }
    TD_TRY(Sym value, value_of(path, dim));
    std::string name = format("value_{}", values.size());
    plain += name;
    values.emplace(std::move(name), value);
  }
  Result<Sym> condition = read_python(plain, [&](const std::string& name) -> Result<Sym> {
    auto found = values.find(name);
    if (found == values.end()) return fail(Kind::unsupported, "name `{}`", name);
    return found->second;
  });
  if (!condition) return fail(Diagnostic{Kind::unsupported, format("guard `{}`", text), {condition.error().text}});
  return condition;
}

}  // namespace toroid
