// Canonical form of symbolic integers: construction and simplification.
#include "sym/sym.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace toroid {
namespace {

int64_t add_saturating(int64_t a, int64_t b) {
  int64_t result;
  if (__builtin_add_overflow(a, b, &result)) return a > 0 ? INT64_MAX : INT64_MIN;
  return result;
}
int64_t mul_saturating(int64_t a, int64_t b) {
  int64_t result;
  if (__builtin_mul_overflow(a, b, &result)) return (a > 0) == (b > 0) ? INT64_MAX : INT64_MIN;
  return result;
}
int64_t floor_div_int(int64_t a, int64_t b) {
  TD_CHECK(b != 0, "symbolic division by zero");
  if (a == INT64_MIN && b == -1) return INT64_MAX;
  int64_t q = a / b;
  return q - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}
int64_t mod_int(int64_t a, int64_t b) { return b == -1 ? 0 : a - floor_div_int(a, b) * b; }

size_t mix(size_t seed, size_t value) { return (seed ^ value) * 0x9e3779b97f4a7c15u + (seed >> 29); }

size_t hash_of(const SymNode& node) {
  size_t h = mix(static_cast<size_t>(node.kind), std::hash<std::string>()(node.name));
  h = mix(h, static_cast<size_t>(node.low));
  h = mix(h, static_cast<size_t>(node.high));
  h = mix(h, node.extent.hash());
  for (const Sym& arg : node.args) h = mix(h, arg.hash());
  for (const Sym::Term& term : node.terms) {
    h = mix(h, static_cast<size_t>(term.coefficient));
    for (const Sym& atom : term.atoms) h = mix(h, atom.hash());
  }
  return mix(h, static_cast<size_t>(node.constant));
}

Sym finish(SymNode node) {
  node.hash = hash_of(node);
  return Sym(std::make_shared<const SymNode>(std::move(node)));
}
Sym make(SymKind kind, std::vector<Sym> args, std::string name = "") {
  SymNode node{kind};
  node.name = std::move(name);
  node.args = std::move(args);
  return finish(std::move(node));
}

// A sum under construction; normalise() sorts, merges and recombines divisions with their remainders.
struct Sum {
  int64_t constant = 0;
  std::vector<Sym::Term> terms;

  void add(const Sym& a, int64_t factor = 1) {
    constant = add_saturating(constant, mul_saturating(a.constant_part(), factor));
    for (Sym::Term& term : a.terms()) {
      term.coefficient = mul_saturating(term.coefficient, factor);
      terms.push_back(std::move(term));
    }
  }
  void merge() {
    std::sort(terms.begin(), terms.end(), [](const auto& a, const auto& b) { return a.atoms < b.atoms; });
    size_t kept = 0;
    for (size_t i = 0; i < terms.size(); ++i) {
      if (kept && terms[kept - 1].atoms == terms[i].atoms) {
        terms[kept - 1].coefficient = add_saturating(terms[kept - 1].coefficient, terms[i].coefficient);
      } else {
        if (kept != i) terms[kept] = std::move(terms[i]);
        ++kept;
      }
    }
    terms.resize(kept);
    std::erase_if(terms, [](const auto& term) { return term.coefficient == 0; });
  }
  // c*b*R*(x // b) + c*R*(x % b) == c*R*x
  bool recombine() {
    for (size_t i = 0; i < terms.size(); ++i) {
      for (size_t a = 0; a < terms[i].atoms.size(); ++a) {
        const Sym remainder = terms[i].atoms[a];
        if (remainder.kind() != SymKind::mod) continue;
        const Sym x = remainder.args()[0], divisor = remainder.args()[1];
        const Sym quotient = floor_div(x, divisor);
        if (quotient.is_constant() || quotient.kind() == SymKind::sum) continue;
        Sym rest = 1;
        for (size_t k = 0; k < terms[i].atoms.size(); ++k)
          if (k != a) rest *= terms[i].atoms[k];
        std::vector<Sym::Term> wanted = (rest * quotient * divisor * Sym(terms[i].coefficient)).terms();
        if (wanted.size() != 1) continue;
        for (size_t j = 0; j < terms.size(); ++j) {
          if (j == i || terms[j].atoms != wanted[0].atoms || terms[j].coefficient != wanted[0].coefficient) continue;
          Sym whole = rest * x * Sym(terms[i].coefficient);
          terms.erase(terms.begin() + static_cast<ptrdiff_t>(std::max(i, j)));
          terms.erase(terms.begin() + static_cast<ptrdiff_t>(std::min(i, j)));
          add(whole);
          return true;
        }
      }
    }
    return false;
  }
  Sym build() {
    merge();
    while (recombine()) merge();
    if (terms.empty()) return constant;
    if (constant == 0 && terms.size() == 1 && terms[0].coefficient == 1 && terms[0].atoms.size() == 1)
      return terms[0].atoms[0];
    SymNode node{SymKind::sum};
    node.terms = std::move(terms);
    node.constant = constant;
    return finish(std::move(node));
  }
};

// One term over another, where it divides.
std::optional<Sym> term_over(const Sym::Term& term, const Sym::Term& divisor) {
  if (term.coefficient % divisor.coefficient != 0) return std::nullopt;
  std::vector<Sym> atoms = term.atoms;
  for (const Sym& atom : divisor.atoms) {
    auto found = std::find(atoms.begin(), atoms.end(), atom);
    if (found == atoms.end()) return std::nullopt;
    atoms.erase(found);
  }
  Sum sum;
  if (atoms.empty())
    sum.constant = term.coefficient / divisor.coefficient;
  else
    sum.terms.push_back({term.coefficient / divisor.coefficient, std::move(atoms)});
  return sum.build();
}

// Every term of `part`, and its constant if it has one, stands in the sum as it is.
bool contains(const Sum& sum, const Sym& part) {
  if (part.constant_part() != 0 && part.constant_part() != sum.constant) return false;
  return std::ranges::all_of(part.terms(), [&](const Sym::Term& term) {
    return std::ranges::any_of(sum.terms, [&](const Sym::Term& known) {
      return known.atoms == term.atoms && known.coefficient == term.coefficient;
    });
  });
}

// a == divisor * quotient + rest, taking into the quotient every term that the divisor divides exactly.
void split_by(const Sym& a, const Sym& divisor, Sym& quotient, Sym& rest) {
  Sum q, r;
  if (auto d = divisor.constant()) {
    q.constant = floor_div_int(a.constant_part(), *d);
    r.constant = mod_int(a.constant_part(), *d);
    for (Sym::Term& term : a.terms()) {
      if (term.coefficient % *d == 0) {
        term.coefficient /= *d;
        q.terms.push_back(std::move(term));
      } else {
        r.terms.push_back(std::move(term));
      }
    }
  } else {
    const Sym::Term first = divisor.terms()[0];
    const bool single = divisor.terms().size() == 1 && divisor.constant_part() == 0;
    if (single)
      r.constant = a.constant_part();
    else
      r.add(a);
    for (Sym::Term& term : a.terms()) {
      const std::optional<Sym> factor = term_over(term, first);
      if (single) {
        if (factor)
          q.add(*factor);
        else
          r.terms.push_back(std::move(term));
      } else if (factor) {
        // A sum divides where all of it is there.
        const Sym part = *factor * divisor;
        if (!contains(r, part)) continue;
        q.add(*factor);
        r.add(part, -1);
        r.merge();
      }
    }
  }
  quotient = q.build();
  rest = r.build();
}

// The greatest constant that divides every coefficient of a (its constant part left out) and d.
int64_t common_factor(const Sym& a, int64_t d) {
  for (const Sym::Term& term : a.terms()) d = std::gcd(d, term.coefficient);
  return d;
}
Sym divide_coefficients(const Sym& a, int64_t g) {
  Sum sum;
  for (Sym::Term& term : a.terms()) {
    term.coefficient /= g;
    sum.terms.push_back(std::move(term));
  }
  sum.constant = floor_div_int(a.constant_part(), g);
  return sum.build();
}

// The least value of a that can be shown: interval arithmetic, then replacing symbols that a is monotone in.
bool nonnegative(const Sym& a, int depth) {
  if (range_of(a).low >= 0) return true;
  if (depth == 0 || a.is_constant()) return false;
  std::set<std::string> names;
  std::map<std::string, const SymNode*> nodes;
  std::function<void(const Sym&)> visit = [&](const Sym& x) {
    if (x.is_constant()) return;
    if (x.is_symbol()) nodes.emplace(x.symbol_name(), x.node());
    for (const Sym& arg : x.node()->args) visit(arg);
    for (const Sym::Term& term : x.node()->terms)
      for (const Sym& atom : term.atoms) visit(atom);
  };
  visit(a);
  std::map<std::string, Sym> from_low;
  // Index variables first: their bounds are expressions in the others.
  for (bool index_variables : {true, false}) {
    for (const auto& [name, node] : nodes) {
      if ((node->extent != Sym(0)) != index_variables) continue;
      std::optional<Linear> line = linear_in(a, name);
      if (!line) {
        // s*s - s: with s = low + t every coefficient may be seen to be positive.
        if (!index_variables && node->low > 0)
          from_low.emplace(name, Sym(node->low) + Sym::symbol(name + "'", 0, add_saturating(node->high, -node->low)));
        continue;
      }
      SymRange slope = range_of(line->coefficient);
      std::optional<Sym> extreme;
      if (slope.low >= 0) {
        if (node->low != INT64_MIN) extreme = Sym(node->low);
      } else if (slope.high <= 0) {
        if (index_variables)
          extreme = node->extent - Sym(1);
        else if (node->high != INT64_MAX)
          extreme = Sym(node->high);
      }
      if (!extreme) continue;
      return nonnegative(line->coefficient * *extreme + line->rest, depth - 1);
    }
  }
  return !from_low.empty() && nonnegative(substitute(a, from_low), depth - 1);
}

}  // namespace

Sym Sym::symbol(std::string name, int64_t low, int64_t high) {
  if (low == high) return low;
  SymNode node{SymKind::symbol};
  node.name = std::move(name);
  node.low = low;
  node.high = high;
  return finish(std::move(node));
}

Sym Sym::index(std::string name, const Sym& extent) {
  SymNode node{SymKind::symbol};
  node.name = std::move(name);
  node.low = 0;
  int64_t high = range_of(extent).high;
  node.high = high == INT64_MAX ? INT64_MAX : std::max<int64_t>(high - 1, 0);
  node.extent = extent;
  return finish(std::move(node));
}

int64_t Sym::value() const {
  TD_CHECK(!node_, "`{}` is not a constant", to_string(*this));
  return value_;
}
bool Sym::is_symbol() const { return node_ && node_->kind == SymKind::symbol; }
const std::string& Sym::symbol_name() const {
  TD_CHECK(is_symbol(), "`{}` is not a symbol", to_string(*this));
  return node_->name;
}
SymKind Sym::kind() const { return node_ ? node_->kind : SymKind::constant; }
const std::vector<Sym>& Sym::args() const {
  static const std::vector<Sym> none;
  return node_ ? node_->args : none;
}
const std::string& Sym::function() const {
  static const std::string none;
  return node_ && node_->kind == SymKind::call ? node_->name : none;
}
std::vector<Sym::Term> Sym::terms() const {
  if (!node_) return {};
  if (node_->kind == SymKind::sum) return node_->terms;
  return {{1, {*this}}};
}
int64_t Sym::constant_part() const {
  if (!node_) return value_;
  return node_->kind == SymKind::sum ? node_->constant : 0;
}
size_t Sym::hash() const { return node_ ? node_->hash : std::hash<int64_t>()(value_) * 31 + 7; }

std::strong_ordering operator<=>(const Sym& a, const Sym& b) {
  if (a.node_ == b.node_ && a.node_) return std::strong_ordering::equal;
  if (auto order = static_cast<int>(a.kind()) <=> static_cast<int>(b.kind()); order != 0) return order;
  if (!a.node_) return a.value_ <=> b.value_;
  const SymNode &x = *a.node_, &y = *b.node_;
  if (auto order = x.name <=> y.name; order != 0) return order;
  if (auto order = x.low <=> y.low; order != 0) return order;
  if (auto order = x.high <=> y.high; order != 0) return order;
  if (auto order = x.extent <=> y.extent; order != 0) return order;
  if (auto order = x.args <=> y.args; order != 0) return order;
  if (auto order = x.terms.size() <=> y.terms.size(); order != 0) return order;
  for (size_t i = 0; i < x.terms.size(); ++i) {
    if (auto order = x.terms[i].atoms <=> y.terms[i].atoms; order != 0) return order;
    if (auto order = x.terms[i].coefficient <=> y.terms[i].coefficient; order != 0) return order;
  }
  return x.constant <=> y.constant;
}
bool operator==(const Sym& a, const Sym& b) { return a.hash() == b.hash() && (a <=> b) == 0; }

Sym operator+(const Sym& a, const Sym& b) {
  if (a.is_constant() && b.is_constant()) return add_saturating(a.value_, b.value_);
  if (a.is_constant() && a.value_ == 0) return b;
  if (b.is_constant() && b.value_ == 0) return a;
  Sum sum;
  sum.add(a);
  sum.add(b);
  return sum.build();
}

Sym operator-(const Sym& a, const Sym& b) {
  Sum sum;
  sum.add(a);
  sum.add(b, -1);
  return sum.build();
}

Sym operator*(const Sym& a, const Sym& b) {
  if (a.is_constant() && b.is_constant()) return mul_saturating(a.value_, b.value_);
  if (a.is_constant()) {
    if (a.value_ == 1) return b;
    Sum sum;
    if (a.value_ != 0) sum.add(b, a.value_);
    return sum.build();
  }
  if (b.is_constant()) return b * a;
  Sum sum;
  sum.add(b, a.constant_part());
  for (const Sym::Term& term : a.terms()) {
    if (b.constant_part() != 0) sum.terms.push_back({mul_saturating(term.coefficient, b.constant_part()), term.atoms});
    for (const Sym::Term& other : b.terms()) {
      Sym::Term both{mul_saturating(term.coefficient, other.coefficient), term.atoms};
      both.atoms.insert(both.atoms.end(), other.atoms.begin(), other.atoms.end());
      std::sort(both.atoms.begin(), both.atoms.end());
      sum.terms.push_back(std::move(both));
    }
  }
  return sum.build();
}

Sym product(const SymList& factors) {
  Sym result = 1;
  for (const Sym& factor : factors) result *= factor;
  return result;
}

Sym floor_div(const Sym& a, const Sym& b) {
  if (a.is_constant() && b.is_constant()) return floor_div_int(a.value(), b.value());
  if (b.is_constant() && b.value() == 1) return a;
  if (b.is_constant() && b.value() < 0) return floor_div(-a, -b);
  if (a == b) return 1;
  Sym quotient, rest;
  split_by(a, b, quotient, rest);
  if (rest == Sym(0)) return quotient;
  if (proves_le(0, rest) && proves_lt(rest, b)) return quotient;
  if (quotient != Sym(0)) return quotient + floor_div(rest, b);
  if (auto d = b.constant()) {
    // (g*x + c) // (g*d) == (x + c//g) // d
    if (int64_t g = common_factor(rest, *d); g > 1) return floor_div(divide_coefficients(rest, g), *d / g);
    // (x // p) // d == x // (p*d) for positive p, d
    if (rest.kind() == SymKind::floordiv && rest.args()[1].is_constant() && rest.args()[1].value() > 0)
      return floor_div(rest.args()[0], mul_saturating(rest.args()[1].value(), *d));
  }
  return make(SymKind::floordiv, {rest, b});
}

Sym mod(const Sym& a, const Sym& b) {
  if (a.is_constant() && b.is_constant()) return mod_int(a.value(), b.value());
  if (b.is_constant() && (b.value() == 1 || b.value() == -1)) return 0;
  if (a == b) return 0;
  Sym quotient, rest;
  split_by(a, b, quotient, rest);
  if (proves_le(0, rest) && proves_lt(rest, b)) return rest;
  if (auto d = b.constant(); d && *d > 0) {
    // (g*x + c) % (g*d) == g * ((x + c//g) % d) + c % g
    if (int64_t g = common_factor(rest, *d); g > 1)
      return Sym(g) * mod(divide_coefficients(rest, g), *d / g) + Sym(mod_int(rest.constant_part(), g));
    // (x % p) % d == x % d when d divides p
    if (rest.kind() == SymKind::mod && rest.args()[1].is_constant() && rest.args()[1].value() % *d == 0)
      return mod(rest.args()[0], b);
  }
  return make(SymKind::mod, {rest, b});
}

Sym ceil_div(const Sym& a, const Sym& b) {
  if (b.is_constant() && b.value() > 0) return floor_div(a + Sym(b.value() - 1), b);
  return -floor_div(-a, b);
}

Sym sym_min(const Sym& a, const Sym& b) {
  if (proves_le(a, b)) return a;
  if (proves_le(b, a)) return b;
  return b < a ? make(SymKind::min, {b, a}) : make(SymKind::min, {a, b});
}
Sym sym_max(const Sym& a, const Sym& b) {
  if (proves_le(b, a)) return a;
  if (proves_le(a, b)) return b;
  return b < a ? make(SymKind::max, {b, a}) : make(SymKind::max, {a, b});
}
Sym sym_eq(const Sym& a, const Sym& b) {
  if (proves_eq(a, b)) return 1;
  if (proves_ne(a, b)) return 0;
  return b < a ? make(SymKind::eq, {b, a}) : make(SymKind::eq, {a, b});
}
Sym sym_ne(const Sym& a, const Sym& b) { return sym_not(sym_eq(a, b)); }
Sym sym_lt(const Sym& a, const Sym& b) {
  if (proves_lt(a, b)) return 1;
  if (proves_le(b, a)) return 0;
  return make(SymKind::lt, {a, b});
}
Sym sym_le(const Sym& a, const Sym& b) {
  if (proves_le(a, b)) return 1;
  if (proves_lt(b, a)) return 0;
  return make(SymKind::le, {a, b});
}
Sym sym_and(const Sym& a, const Sym& b) {
  if (a.is_constant()) return a.value() ? b : Sym(0);
  if (b.is_constant()) return b.value() ? a : Sym(0);
  return a == b ? a : make(SymKind::both, {a, b});
}
Sym sym_or(const Sym& a, const Sym& b) {
  if (a.is_constant()) return a.value() ? Sym(1) : b;
  if (b.is_constant()) return b.value() ? Sym(1) : a;
  return a == b ? a : make(SymKind::either, {a, b});
}
Sym sym_not(const Sym& a) {
  if (a.is_constant()) return a.value() == 0;
  if (a.kind() == SymKind::invert) return a.args()[0];
  return make(SymKind::invert, {a});
}
Sym sym_choose(const Sym& condition, const Sym& a, const Sym& b) {
  if (condition.is_constant()) return condition.value() ? a : b;
  return a == b ? a : make(SymKind::choose, {condition, a, b});
}

Sym sym_float(double value) { return make(SymKind::call, {}, "float:" + float_text(value)); }

bool is_float_sym(const Sym& a) {
  if (a.is_constant() || a.is_symbol()) return false;
  switch (a.kind()) {
    case SymKind::call: {
      const std::string& f = a.function();
      return f != "to_int" && f != "floor_to_int" && f != "ceil_to_int" && f != "round_to_int" &&
             !f.starts_with("bit_") && !f.starts_with("shift_") && f != "pow";
    }
    case SymKind::sum: {
      for (const Sym::Term& term : a.terms())
        for (const Sym& atom : term.atoms)
          if (is_float_sym(atom)) return true;
      return false;
    }
    case SymKind::min:
    case SymKind::max: return is_float_sym(a.args()[0]) || is_float_sym(a.args()[1]);
    case SymKind::choose: return is_float_sym(a.args()[1]) || is_float_sym(a.args()[2]);
    default: return false;
  }
}

Sym sym_call(const std::string& function, std::vector<Sym> args) {
  auto is = [&](const char* name) { return function == name; };
  // Conversions of an exact quotient are integer divisions: trunc(a / b) == a // b for a >= 0, b > 0.
  if (args.size() == 1 && (is("to_int") || is("floor_to_int") || is("ceil_to_int") || is("round_to_int"))) {
    const Sym x = args[0];
    if (x.kind() != SymKind::call) return x;
    if (x.function() == "to_float") return x.args()[0];
    if (x.function() == "int_true_div" && !is("round_to_int")) {
      const Sym a = x.args()[0], b = x.args()[1];
      if (is("floor_to_int") || (is("to_int") && proves_le(0, a) && proves_lt(0, b))) return floor_div(a, b);
      if (is("ceil_to_int")) return ceil_div(a, b);
    }
  }
  if (is("pow") && args[0].is_constant() && args[1].is_constant() && args[1].value() >= 0) {
    int64_t result = 1;
    for (int64_t i = 0; i < args[1].value() && i < 64; ++i) result = mul_saturating(result, args[0].value());
    return result;
  }
  if (is("pow") && args[1].is_constant() && args[1].value() >= 0 && args[1].value() <= 4) {
    Sym result = 1;
    for (int64_t i = 0; i < args[1].value(); ++i) result *= args[0];
    return result;
  }
  return make(SymKind::call, std::move(args), function);
}

SymRange range_of(const Sym& a) {
  if (a.is_constant()) return {a.value(), a.value()};
  const SymNode& node = *a.node();
  auto times = [](SymRange x, SymRange y) {
    const int64_t c[] = {mul_saturating(x.low, y.low), mul_saturating(x.low, y.high), mul_saturating(x.high, y.low),
                         mul_saturating(x.high, y.high)};
    return SymRange{*std::min_element(c, c + 4), *std::max_element(c, c + 4)};
  };
  switch (node.kind) {
    case SymKind::constant: break;
    case SymKind::symbol: return {node.low, node.high};
    case SymKind::sum: {
      SymRange sum{node.constant, node.constant};
      for (const Sym::Term& term : node.terms) {
        SymRange range{term.coefficient, term.coefficient};
        for (const Sym& atom : term.atoms) range = times(range, range_of(atom));
        // An infinite end stays infinite whatever is added.
        sum.low = sum.low == INT64_MIN || range.low == INT64_MIN ? INT64_MIN : add_saturating(sum.low, range.low);
        sum.high = sum.high == INT64_MAX || range.high == INT64_MAX ? INT64_MAX : add_saturating(sum.high, range.high);
      }
      return sum;
    }
    case SymKind::floordiv: {
      SymRange x = range_of(node.args[0]), y = range_of(node.args[1]);
      if (y.low <= 0) return {INT64_MIN, INT64_MAX};
      auto divide = [](int64_t p, int64_t q) {
        return p == INT64_MIN || p == INT64_MAX ? (q == INT64_MAX ? (p < 0 ? -1 : 0) : p) : floor_div_int(p, q);
      };
      int64_t low = x.low == INT64_MIN ? INT64_MIN : std::min(divide(x.low, y.low), divide(x.low, y.high));
      int64_t high = x.high == INT64_MAX ? INT64_MAX : std::max(divide(x.high, y.low), divide(x.high, y.high));
      return {low, high};
    }
    case SymKind::mod: {
      SymRange x = range_of(node.args[0]), y = range_of(node.args[1]);
      if (y.low <= 0) return {INT64_MIN, INT64_MAX};
      int64_t high = y.high == INT64_MAX ? INT64_MAX : y.high - 1;
      return {0, x.low >= 0 ? std::min(x.high, high) : high};
    }
    case SymKind::min: {
      SymRange x = range_of(node.args[0]), y = range_of(node.args[1]);
      return {std::min(x.low, y.low), std::min(x.high, y.high)};
    }
    case SymKind::max: {
      SymRange x = range_of(node.args[0]), y = range_of(node.args[1]);
      return {std::max(x.low, y.low), std::max(x.high, y.high)};
    }
    case SymKind::choose: {
      SymRange x = range_of(node.args[1]), y = range_of(node.args[2]);
      return {std::min(x.low, y.low), std::max(x.high, y.high)};
    }
    case SymKind::eq:
    case SymKind::lt:
    case SymKind::le:
    case SymKind::both:
    case SymKind::either:
    case SymKind::invert: return {0, 1};
    case SymKind::call: return {INT64_MIN, INT64_MAX};
  }
  return {INT64_MIN, INT64_MAX};
}

bool proves_eq(const Sym& a, const Sym& b) {
  if (a == b) return true;
  return (a - b) == Sym(0);
}
bool proves_le(const Sym& a, const Sym& b) {
  if (a.is_constant() && b.is_constant()) return a.value() <= b.value();
  return nonnegative(b - a, 6);
}
bool proves_lt(const Sym& a, const Sym& b) {
  if (a.is_constant() && b.is_constant()) return a.value() < b.value();
  return nonnegative(b - a - Sym(1), 6);
}
bool proves_ne(const Sym& a, const Sym& b) { return proves_lt(a, b) || proves_lt(b, a); }
bool proves_divisible(const Sym& a, int64_t divisor) { return divisor != 0 && mod(a, std::abs(divisor)) == Sym(0); }

}  // namespace toroid
