// sympy's functions by name, on Sym.
#include "import/size_functions.h"

#include <algorithm>
#include <cmath>

#include "graph/graph.h"

namespace toroid {
namespace {

Sym as_fraction(const Sym& a) {
  if (is_fraction(a)) return a;
  if (a.is_constant()) return sym_float(static_cast<double>(a.value()));
  return sym_call("to_float", {a});
}

Result<Sym> fold(const SymList& args, Sym (*pair)(const Sym&, const Sym&)) {
  if (args.empty()) return fail(Kind::bad_file, "arguments");
  Sym value = args[0];
  for (size_t i = 1; i < args.size(); ++i) value = pair(value, args[i]);
  return value;
}

Result<Sym> divide(const Sym& a, const Sym& b, Sym (*op)(const Sym&, const Sym&)) {
  if (b == Sym(0)) return fail(Kind::bad_file, "a divisor other than 0");
  return op(a, b);
}

// 1 where sizes and strides (all sizes first) fill memory without gaps or overlap, in some order of the dims.
Result<Sym> dense_indicator(const SymList& a) {
  const size_t rank = a.size() / 2;
  if (a.size() % 2) return fail(Kind::bad_file, "as many strides as sizes");
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

}  // namespace

bool is_float_name(const std::string& name) { return name.starts_with("zf") || name.starts_with("zuf"); }

bool is_fraction(const Sym& a) {
  if (a.is_symbol()) return is_float_name(a.symbol_name());
  if (a.is_constant()) return false;
  if (a.kind() == SymKind::choose) return is_fraction(a.args()[1]) || is_fraction(a.args()[2]);
  if (a.kind() == SymKind::min || a.kind() == SymKind::max) return is_fraction(a.args()[0]) || is_fraction(a.args()[1]);
  return a.kind() == SymKind::call && is_float_sym(a);
}

Result<Sym> size_function(const std::string& name, const SymList& a) {
  auto takes = [&](const char* function, size_t count) { return name == function && a.size() == count; };
  const bool fraction = std::any_of(a.begin(), a.end(), is_fraction);
  if (name == "Add" || name == "Mul") {
    // A product of sums is written out as a sum: of n factors it has 2 to the power of n terms.
    if (!fraction && name == "Mul") {
      constexpr size_t max_terms = 4096;
      size_t terms = 1;
      for (const Sym& x : a) terms = std::min(terms, max_terms + 1) * (x.terms().size() + (x.constant_part() != 0));
      if (terms > max_terms) return fail(Kind::unsupported, "a size of more than {} terms", max_terms);
    }
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

}  // namespace toroid
