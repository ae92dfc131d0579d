// Reads the archive's size expressions into Sym.
#include "import/symbols.h"

#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/lexer.h"

namespace toroid {
namespace {

// An expression nested deeper than this is not one that PyTorch wrote.
constexpr int max_depth = 200;

Sym as_fraction(const Sym& a) {
  if (is_fraction(a)) return a;
  if (a.is_constant()) return sym_float(static_cast<double>(a.value()));
  return sym_call("to_float", {a});
}

// srepr by recursive descent.
class Reader {
 public:
  Reader(std::string_view text, Symbols& symbols) : text_(text), symbols_(symbols) {}

  Result<Sym> read() {
    TD_TRY(Sym value, expression(0));
    if (at_ != text_.size()) return error("the end");
    return value;
  }

 private:
  std::unexpected<Diagnostic> error(std::string_view wanted) const {
    constexpr size_t enough = 80;
    return fail(Kind::bad_file, "size expression `{}`: expected {} at column {}", text_.substr(0, enough), wanted,
                at_ + 1);
  }
  bool accept(std::string_view part) {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    if (!text_.substr(at_).starts_with(part)) return false;
    at_ += part.size();
    return true;
  }
  std::string_view word() {
    accept("");
    size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    return text_.substr(start, at_ - start);
  }
  Result<std::string> quoted_text() {
    accept("");
    char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') return error("a quoted text");
    size_t end = text_.find(quote, ++at_);
    if (end == std::string_view::npos) return error("a closing quote");
    std::string value(text_.substr(at_, end - at_));
    at_ = end + 1;
    return value;
  }
  Result<int64_t> integer() {
    accept("");
    int64_t value = 0;
    auto [end, failure] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (failure != std::errc()) return error("an integer of 64 bits");
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }
  // `, positive=True, precision=53`
  Status assumptions() {
    while (accept(",")) {
      if (word().empty() || !accept("=") || word().empty()) return error("an assumption");
    }
    if (!accept(")")) return error("`)`");
    return {};
  }

  Result<Sym> expression(int depth) {
    if (depth > max_depth) return error("less nesting");
    const std::string name(word());
    if (name == "true" || name == "false") return Sym(name == "true");
    if (name.empty()) return error("a function");
    if (!accept("(")) return error("`(`");
    if (name == "Symbol" || name == "Dummy") {
      TD_TRY(std::string symbol, quoted_text());
      TD_CHECK_OK(assumptions());
      if (symbol.empty() || symbol.find_first_not_of(
                                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != std::string::npos)
        return error("a symbol's name");
      return symbols_.symbol(symbol);
    }
    if (name == "Integer") {
      TD_TRY(int64_t value, integer());
      if (!accept(")")) return error("`)`");
      return Sym(value);
    }
    if (name == "Rational") {
      TD_TRY(int64_t above, integer());
      if (!accept(",")) return error("`,`");
      TD_TRY(int64_t below, integer());
      if (below == 0 || !accept(")")) return error("`)`");
      return sym_float(static_cast<double>(above) / static_cast<double>(below));
    }
    if (name == "Float") {
      TD_TRY(std::string digits, quoted_text());
      TD_CHECK_OK(assumptions());
      double value = 0;
      auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (failure != std::errc() || end != digits.data() + digits.size()) return error("a number");
      return sym_float(value);
    }
    SymList args;
    while (!accept(")")) {
      if (!args.empty() && !accept(",")) return error("`,`");
      // evaluate=False and the like say nothing about the value.
      size_t start = at_;
      if (!word().empty() && accept("=")) {
        word();
        continue;
      }
      at_ = start;
      TD_TRY(Sym arg, expression(depth + 1));
      args.push_back(std::move(arg));
    }
    return apply(name, args);
  }

  Result<Sym> fold(const SymList& args, Sym (*pair)(const Sym&, const Sym&)) {
    if (args.empty()) return error("arguments");
    Sym value = args[0];
    for (size_t i = 1; i < args.size(); ++i) value = pair(value, args[i]);
    return value;
  }

  Result<Sym> divide(const Sym& a, const Sym& b, Sym (*op)(const Sym&, const Sym&)) {
    if (b == Sym(0)) return error("a divisor other than 0");
    return op(a, b);
  }

  Result<Sym> apply(const std::string& name, const SymList& a) {
    auto takes = [&](const char* function, size_t count) { return name == function && a.size() == count; };
    const bool fraction = std::any_of(a.begin(), a.end(), is_fraction);
    if (name == "Add" || name == "Mul") {
      if (!fraction)
        return fold(
            a, name == "Add" ? +[](const Sym& x, const Sym& y) { return x + y; }
                             : +[](const Sym& x, const Sym& y) { return x * y; });
      return fold(
          a, name == "Add"
                 ? +[](const Sym& x, const Sym& y) { return sym_call("float_add", {as_fraction(x), as_fraction(y)}); }
                 : +[](const Sym& x, const Sym& y) {
                     return sym_call("float_mul", {as_fraction(x), as_fraction(y)});
                   });
    }
    if (name == "Max") return fold(a, sym_max);
    if (name == "Min") return fold(a, sym_min);
    if (name == "And") return fold(a, sym_and);
    if (name == "Or") return fold(a, sym_or);
    if (takes("Not", 1)) return sym_not(a[0]);
    if (takes("Equality", 2) || takes("Eq", 2)) return sym_eq(a[0], a[1]);
    if (takes("Unequality", 2) || takes("Ne", 2)) return sym_ne(a[0], a[1]);
    if (takes("GreaterThan", 2) || takes("Ge", 2)) return sym_le(a[1], a[0]);
    if (takes("LessThan", 2) || takes("Le", 2)) return sym_le(a[0], a[1]);
    if (takes("StrictGreaterThan", 2) || takes("Gt", 2)) return sym_lt(a[1], a[0]);
    if (takes("StrictLessThan", 2) || takes("Lt", 2)) return sym_lt(a[0], a[1]);
    if (takes("FloorDiv", 2) || takes("CleanDiv", 2)) return divide(a[0], a[1], floor_div);
    if (takes("CeilDiv", 2)) return divide(a[0], a[1], ceil_div);
    if (takes("Mod", 2) || takes("PythonMod", 2)) return divide(a[0], a[1], mod);
    if (takes("ModularIndexing", 3)) {
      TD_TRY(Sym quotient, divide(a[0], a[1], floor_div));
      return divide(quotient, a[2], mod);
    }
    if (takes("Pow", 2)) {
      std::optional<int64_t> power = a[1].constant();
      if (!fraction && power && *power >= 0) return sym_call("pow", a);
      return sym_call("float_pow", {as_fraction(a[0]), as_fraction(a[1])});
    }
    if (takes("PowByNatural", 2)) return sym_call("pow", a);
    if (takes("FloatPow", 2)) return sym_call("float_pow", {as_fraction(a[0]), as_fraction(a[1])});
    if (takes("FloatTrueDiv", 2)) return sym_call("float_div", {as_fraction(a[0]), as_fraction(a[1])});
    if (takes("IntTrueDiv", 2)) return sym_call("int_true_div", a);
    if (takes("ToFloat", 1)) return as_fraction(a[0]);
    if (takes("TruncToFloat", 1)) return sym_call("trunc_to_float", {as_fraction(a[0])});
    if (takes("Identity", 1)) return a[0];
    if (takes("Where", 3)) return sym_choose(a[0], a[1], a[2]);
    if (takes("LShift", 2)) return sym_call("shift_left", a);
    if (takes("RShift", 2)) return sym_call("shift_right", a);
    if (takes("RoundDecimal", 2) && a[1].is_constant()) {
      Sym scale = sym_float(std::pow(10.0, static_cast<double>(a[1].value())));
      Sym rounded = sym_call("round_to_int", {sym_call("float_mul", {as_fraction(a[0]), scale})});
      return sym_call("float_div", {as_fraction(rounded), scale});
    }
    for (auto [theirs, ours] : {std::pair{"CeilToInt", "ceil_to_int"},
                                {"FloorToInt", "floor_to_int"},
                                {"TruncToInt", "to_int"},
                                {"RoundToInt", "round_to_int"}})
      if (takes(theirs, 1)) return sym_call(ours, {a[0]});
    for (const char* function :
         {"sqrt", "exp", "log", "log2", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh"})
      if (a.size() == 1 && name == std::string("OpaqueUnaryFn_") + function)
        return sym_call(function, {as_fraction(a[0])});
    for (const char* bits : {"and", "or", "xor"})
      if (a.size() == 2 && name == std::string("BitwiseFn_bitwise_") + bits)
        return sym_call(std::string("bit_") + bits, a);
    if (name == "IsNonOverlappingAndDenseIndicator") return dense_indicator(a);
    return fail(Kind::unsupported, "size function `{}` with {} arguments", name, a.size());
  }

  // 1 where sizes and strides (all sizes first) fill memory without gaps or overlap, in some order of the dims.
  Result<Sym> dense_indicator(const SymList& a) {
    const size_t rank = a.size() / 2;
    if (a.size() % 2) return error("as many strides as sizes");
    std::vector<std::pair<int64_t, int64_t>> dims;
    for (size_t i = 0; i < rank; ++i) {
      if (!a[i].is_constant() || !a[rank + i].is_constant()) {
        const SymList sizes(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(rank));
        const SymList strides(a.begin() + static_cast<std::ptrdiff_t>(rank), a.end());
        if (same_list(strides, contiguous_strides(sizes))) return Sym(1);
        return fail(Kind::unsupported, "size function `IsNonOverlappingAndDenseIndicator` of symbolic sizes");
      }
      if (a[i].value() == 0) return Sym(1);
      if (a[i].value() != 1) dims.emplace_back(a[rank + i].value(), a[i].value());
    }
    std::sort(dims.begin(), dims.end());
    int64_t expected = 1;
    for (auto [stride, size] : dims) {
      if (stride != expected) return Sym(0);
      expected *= size;
    }
    return Sym(1);
  }

  std::string_view text_;
  Symbols& symbols_;
  size_t at_ = 0;
};

bool is_float_symbol(const std::string& name) { return name.starts_with("zf") || name.starts_with("zuf"); }

}  // namespace

bool is_fraction(const Sym& a) {
  if (a.is_symbol()) return is_float_symbol(a.symbol_name());
  if (a.is_constant()) return false;
  if (a.kind() == SymKind::choose) return is_fraction(a.args()[1]) || is_fraction(a.args()[2]);
  if (a.kind() == SymKind::min || a.kind() == SymKind::max) return is_fraction(a.args()[0]) || is_fraction(a.args()[1]);
  if (a.kind() != SymKind::call) return false;
  const std::string& f = a.function();
  for (const char* whole : {"to_int", "floor_to_int", "ceil_to_int", "round_to_int", "pow", "bit_and", "bit_or",
                            "bit_xor", "shift_left", "shift_right"})
    if (f == whole) return false;
  return true;
}

Sym Symbols::symbol(const std::string& file_name) {
  if (auto found = known_.find(file_name); found != known_.end()) return found->second;
  const std::string prefix = file_name.substr(0, file_name.find_first_of("0123456789"));
  SymbolInfo info;
  info.name = format("{}{}", prefix, next_[prefix]++);
  info.unbacked = prefix == "u" || prefix == "zuf";
  info.low = info.unbacked || is_float_symbol(prefix) ? INT64_MIN : 0;
  if (auto range = ranges_.find(file_name); range != ranges_.end())
    info.low = range->second.low, info.high = range->second.high;
  Sym symbol = Sym::symbol(info.name, info.low, info.high);
  // A float that the host reads: its symbol holds the bits.
  if (prefix == "zuf")
    info.low = INT64_MIN, info.high = INT64_MAX,
    symbol = sym_call("from_bits", {Sym::symbol(info.name, info.low, info.high)});
  graph_->symbols.push_back(std::move(info));
  known_.emplace(file_name, symbol);
  return symbol;
}

void Symbols::set_hint(const Sym& symbol, int64_t hint) {
  if (!symbol.is_symbol()) return;
  for (SymbolInfo& info : graph_->symbols)
    if (info.name == symbol.symbol_name() && !info.hint) info.hint = hint;
}

std::map<std::string, int64_t> Symbols::hints() const {
  std::map<std::string, int64_t> hints;
  for (const SymbolInfo& info : graph_->symbols)
    if (info.hint) hints[info.name] = *info.hint;
  return hints;
}

Result<Sym> Symbols::srepr(std::string_view text) {
  std::string key(text);
  if (auto found = read_.find(key); found != read_.end()) return found->second;
  TD_TRY(Sym value, Reader(text, *this).read());
  read_.emplace(std::move(key), value);
  return value;
}

Result<Sym> Symbols::infix(std::string_view text) {
  Lexer lexer(text);
  TD_TRY(Sym value, parse_sym(lexer, [this](const std::string& name) -> Result<Sym> {
           if (name.find_first_of("0123456789") == std::string::npos)
             return fail(Kind::unsupported, "size name `{}`", name);
           return symbol(name);
         }));
  if (!lexer.at_end()) return std::unexpected(lexer.error("expected the end of the expression"));
  // parse_sym takes any function's name; only those of Sym's own text have a meaning.
  if (text.find("Max(") != std::string_view::npos || text.find("Min(") != std::string_view::npos ||
      value.kind() == SymKind::call)
    return fail(Kind::unsupported, "size expression `{}`", text);
  return value;
}

Result<Sym> parse_size_guard(std::string_view text,
                             const std::function<Result<Sym>(const std::string&, int64_t)>& size_of) {
  // Each L['d']['a'].size()[0] becomes a name that parse_sym can resolve.
  std::string plain;
  std::map<std::string, Sym> sizes;
  for (size_t at = 0; at < text.size();) {
    if (!text.substr(at).starts_with("L['")) {
      if (std::isalpha(static_cast<unsigned char>(text[at]))) return fail(Kind::unsupported, "guard `{}`", text);
      plain += text[at++];
      continue;
    }
    constexpr std::string_view size_call = ".size()[";
    size_t end = text.find(size_call, at);
    if (end == std::string_view::npos) return fail(Kind::unsupported, "guard `{}`", text);
    std::string path;
    for (char c : text.substr(at + 1, end - at - 1)) {
      if (c == '[') path += path.empty() ? "" : "_";
      if (std::isalnum(static_cast<unsigned char>(c)) || c == '_') path += c;
    }
    int64_t dim = 0;
    const char* first = text.data() + end + size_call.size();
    auto [last, failure] = std::from_chars(first, text.data() + text.size(), dim);
    if (failure != std::errc() || last == text.data() + text.size() || *last != ']')
      return fail(Kind::unsupported, "guard `{}`", text);
    at = static_cast<size_t>(last - text.data()) + 1;
    TD_TRY(Sym size, size_of(path, dim));
    std::string name = format("q{}", sizes.size());
    plain += name;
    sizes.emplace(std::move(name), size);
  }
  Lexer lexer(plain);
  TD_TRY(Sym condition, parse_sym(lexer, [&](const std::string& name) -> Result<Sym> {
           auto found = sizes.find(name);
           if (found == sizes.end()) return fail(Kind::unsupported, "guard `{}`", text);
           return found->second;
         }));
  if (!lexer.at_end()) return fail(Kind::unsupported, "guard `{}`", text);
  return condition;
}

}  // namespace toroid
