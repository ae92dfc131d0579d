// Reads the archive's size expressions into Sym.
#include "import/symbols.h"

#include <charconv>

#include "base/check.h"
#include "import/size_functions.h"

namespace toroid {
namespace {

// An expression nested deeper than this is not one that PyTorch wrote.
constexpr int max_depth = 200;

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
    Result<Sym> value = size_function(name, args);
    if (!value && value.error().kind == Kind::bad_file) return error(value.error().text);
    return value;
  }

  std::string_view text_;
  Symbols& symbols_;
  size_t at_ = 0;
};

}  // namespace

Sym Symbols::symbol(const std::string& file_name) {
  if (auto found = known_.find(file_name); found != known_.end()) return found->second;
  const std::string prefix = file_name.substr(0, file_name.find_first_of("0123456789"));
  SymbolInfo info;
  info.name = format("{}{}", prefix, next_[prefix]++);
  info.unbacked = prefix == "u" || prefix == "zuf";
  info.low = info.unbacked || is_float_name(prefix) ? INT64_MIN : 0;
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
  return read_python(text, [this](const std::string& name) -> Result<Sym> {
    if (name.find_first_of("0123456789") == std::string::npos) return fail(Kind::unsupported, "size name `{}`", name);
    return symbol(name);
  });
}

}  // namespace toroid
