// Sympy's constructor syntax to Sym, with every function; guards over input sizes.
#include "import/symbols.h"

#include <gtest/gtest.h>

namespace toroid {
namespace {

std::string read(const std::string& text) {
  Graph graph;
  Symbols symbols(graph);
  symbols.set_range("s7", 2, 64);
  symbols.set_range("s9", 2, 64);
  Result<Sym> value = symbols.srepr(text);
  return value ? to_string(*value) : value.error().text;
}
constexpr const char* s7 = "Symbol('s7', positive=True, integer=True)";

int64_t at_ten(const std::string& text) {
  Graph graph;
  Symbols symbols(graph);
  symbols.set_range("s7", 2, 64);
  Result<Sym> value = symbols.srepr(replace_all(text, "$", s7));
  EXPECT_TRUE(value) << text << ": " << (value ? "" : value.error().text);
  return value ? evaluate(*value, {{"s0", 10}}) : -1;
}

TEST(Srepr, ReadsSums) {
  EXPECT_EQ(read(s7), "s0");
  EXPECT_EQ(read("Integer(-3)"), "-3");
  EXPECT_EQ(read("Add(Mul(Integer(2), Symbol('s7', integer=True)), Integer(-1))"), "2*s0 - 1");
  EXPECT_EQ(read("Add(Symbol('s7'), Symbol('s9'), Integer(1))"), "s0 + s1 + 1");
  EXPECT_EQ(read("true"), "1");
}

TEST(Srepr, EveryFunction) {
  const std::pair<const char*, int64_t> cases[] = {
      {"FloorDiv($, Integer(3))", 3},
      {"CleanDiv($, Integer(5))", 2},
      {"CeilDiv($, Integer(3))", 4},
      {"ModularIndexing($, Integer(3), Integer(2))", 1},
      {"Mod($, Integer(4))", 2},
      {"PythonMod($, Integer(-4))", -2},
      {"Max($, Integer(12), Integer(11))", 12},
      {"Min($, Integer(12))", 10},
      {"Pow($, Integer(2))", 100},
      {"PowByNatural($, Integer(3))", 1000},
      {"TruncToInt(IntTrueDiv($, Integer(4)))", 2},
      {"CeilToInt(IntTrueDiv($, Integer(4)))", 3},
      {"FloorToInt(IntTrueDiv($, Integer(4)))", 2},
      {"RoundToInt(IntTrueDiv($, Integer(4)))", 2},
      {"TruncToInt(FloatTrueDiv(ToFloat($), Float('4.0', precision=53)))", 2},
      {"TruncToInt(OpaqueUnaryFn_sqrt(ToFloat($)))", 3},
      {"TruncToInt(FloatPow(ToFloat($), Rational(1, 2)))", 3},
      {"TruncToInt(Mul(Rational(1, 4), ToFloat($)))", 2},
      {"TruncToInt(Add(Float('0.5', precision=53), ToFloat($)))", 10},
      {"TruncToInt(OpaqueUnaryFn_exp(Float('2.0', precision=53)))", 7},
      {"LShift($, Integer(2))", 40},
      {"RShift($, Integer(1))", 5},
      {"BitwiseFn_bitwise_and($, Integer(6))", 2},
      {"BitwiseFn_bitwise_or($, Integer(5))", 15},
      {"BitwiseFn_bitwise_xor($, Integer(6))", 12},
      {"Where(StrictLessThan($, Integer(5)), Integer(1), Integer(2))", 2},
      {"Identity($)", 10},
      {"Equality($, Integer(10))", 1},
      {"Unequality($, Integer(10))", 0},
      {"GreaterThan($, Integer(10))", 1},
      {"LessThan($, Integer(9))", 0},
      {"StrictGreaterThan($, Integer(9))", 1},
      {"And(GreaterThan($, Integer(1)), StrictLessThan($, Integer(11)))", 1},
      {"Or(StrictLessThan($, Integer(1)), Equality($, Integer(3)))", 0},
      {"Not(Equality($, Integer(3)))", 1},
      {"IsNonOverlappingAndDenseIndicator(Integer(3), Integer(4), Integer(4), Integer(1))", 1},
      {"IsNonOverlappingAndDenseIndicator(Integer(3), Integer(4), Integer(5), Integer(1))", 0},
  };
  for (auto [text, value] : cases) EXPECT_EQ(at_ten(text), value) << text;
}

TEST(Srepr, BadTextsAreRefused) {
  for (const char* text : {"", "Add(", "Add()", "Integer(x)", "Integer(99999999999999999999)", "Symbol()",
                           "Symbol('a b')", "Integer(1) junk", "FloorDiv(Integer(1), Integer(0))",
                           "Nothing(Integer(1))", "Float('x', precision=53)", "Rational(1, 0)"}) {
    Graph graph;
    Symbols symbols(graph);
    EXPECT_FALSE(symbols.srepr(text)) << text;
  }
}

TEST(Srepr, SymbolsAreNumberedInOrder) {
  Graph graph;
  Symbols symbols(graph);
  symbols.set_range("s77", 1, 9);
  EXPECT_EQ(to_string(symbols.symbol("s77")), "s0");
  EXPECT_EQ(to_string(symbols.symbol("u3")), "u0");
  EXPECT_EQ(to_string(symbols.symbol("s12")), "s1");
  EXPECT_EQ(to_string(symbols.symbol("s77")), "s0");
  EXPECT_EQ(graph.symbols[0].high, 9);
  EXPECT_TRUE(graph.symbols[1].unbacked);
}

TEST(Guards, SizesOfNestedInputs) {
  Graph graph;
  Symbols symbols(graph);
  auto size_of = [&](const std::string& path, std::optional<int64_t> dim) -> Result<Sym> {
    if (!dim) return symbols.symbol(path);
    return symbols.symbol(format("{}{}", path == "xs_1" ? "a" : "b", *dim));
  };
  Result<Sym> guard = parse_size_guard("L['xs'][1].size()[0] % 2 == 0", size_of);
  ASSERT_TRUE(guard);
  EXPECT_EQ(*guard, sym_eq(mod(symbols.symbol("a0"), 2), 0));
  EXPECT_TRUE(parse_size_guard("L['d']['a'].size()[1] == 3*L['xs'][1].size()[0]", size_of));
  EXPECT_FALSE(parse_size_guard("L['x'].dtype == torch.float32", size_of));
  const Sym b0 = symbols.symbol("b0"), a0 = symbols.symbol("a0");
  struct {
    const char* text;
    Sym condition;
  } const cases[] = {
      {"2 <= L['x'].size()[0] <= 4", sym_and(sym_le(2, b0), sym_le(b0, 4))},
      {"max(L['x'].size()[0], L['xs'][1].size()[0]) <= 10", sym_le(sym_max(b0, a0), 10)},
      {"math.ceil(L['x'].size()[0] / 2) == 4", sym_eq(ceil_div(b0, 2), 4)},
      {"L['x'].size()[0]**2 > 5 or not L['x'].size()[0] != 3", sym_or(sym_lt(5, b0 * b0), sym_eq(b0, 3))},
      {"-L['x'].size()[0] + 2*(L['xs'][1].size()[0] - 1) < 7", sym_lt(a0 * 2 - 2 - b0, 7)},
      {"(L['x'].size()[0] // 3) % 2 == 1 and True", sym_eq(mod(floor_div(b0, 3), 2), 1)},
  };
  for (const auto& c : cases) {
    Result<Sym> read = parse_size_guard(c.text, size_of);
    ASSERT_TRUE(read) << c.text << ": " << read.error().to_string();
    EXPECT_EQ(*read, c.condition) << c.text << ": " << to_string(*read);
  }
  Result<Sym> quotient = parse_size_guard("L['x'].size()[0] / L['xs'][1].size()[0] > 0.7", size_of);
  ASSERT_TRUE(quotient);
  EXPECT_EQ(evaluate(*quotient, {{b0.symbol_name(), 8}, {a0.symbol_name(), 11}}), 1);
  EXPECT_EQ(evaluate(*quotient, {{b0.symbol_name(), 7}, {a0.symbol_name(), 11}}), 0);
  Result<Sym> of_number = parse_size_guard("L['n1'] != (-1)", size_of);
  ASSERT_TRUE(of_number);
  EXPECT_EQ(*of_number, sym_ne(symbols.symbol("n1"), -1));
  EXPECT_FALSE(parse_size_guard("this is not python", size_of));
  EXPECT_FALSE(parse_size_guard("L['x'].stride()[0] == 1", size_of));
  EXPECT_FALSE(parse_size_guard(std::string(100000, '(') + "1" + std::string(100000, ')'), size_of));
  EXPECT_FALSE(parse_size_guard(std::string(100000, '-') + "1", size_of));
  EXPECT_FALSE(parse_size_guard("L['x'].size()[", size_of));
}

}  // namespace
}  // namespace toroid
