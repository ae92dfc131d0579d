#include "sym/sym.h"

#include <gtest/gtest.h>

#include "base/lexer.h"

namespace toroid {
namespace {

const Sym s0 = Sym::symbol("s0", 1, 4096), s1 = Sym::symbol("s1", 2, sym_infinity);

TEST(Sym, SumsAndProductsAreCanonical) {
  EXPECT_EQ(s0 + s1, s1 + s0);
  EXPECT_EQ((s0 + Sym(1)) * s1, s1 * s0 + s1);
  EXPECT_EQ(s0 - s0, Sym(0));
  EXPECT_EQ(to_string(Sym(2) * s0 - s1 + Sym(3)), "2*s0 - s1 + 3");
}

TEST(Sym, DivisionTakesOutWhatDivides) {
  Sym i = Sym::index("i0", 12), j = Sym::index("i1", 64);
  EXPECT_EQ(floor_div(i * Sym(64) + j, 64), i);
  EXPECT_EQ(mod(i * Sym(64) + j, 64), j);
  EXPECT_EQ(floor_div(s0 * s1, s1), s0);
  EXPECT_EQ(floor_div(Sym(4) * s0 + Sym(2), 8), floor_div(Sym(2) * s0 + Sym(1), 4));
  EXPECT_EQ(floor_div(floor_div(s0, 4), 2), floor_div(s0, 8));
  Sym b = Sym::index("i2", s0);
  EXPECT_EQ(floor_div(j * s0 + b, s0), j);
  EXPECT_EQ(floor_div(Sym(6) * s0 - Sym(2), Sym(3) * s0 - Sym(1)), Sym(2));
  EXPECT_EQ(floor_div((s0 + Sym(1)) * s1 * Sym(4) + Sym(0), s0 + Sym(1)), Sym(4) * s1);
  EXPECT_EQ(mod((s0 + s1) * s1, s0 + s1), Sym(0));
  EXPECT_EQ(mod(j * s0 + b, s0), b);
}

TEST(Sym, QuotientAndRemainderRecombine) {
  Sym i = Sym::index("i0", 768);
  EXPECT_EQ(floor_div(i, 64) * Sym(64) + mod(i, 64), i);
  Sym whole = floor_div(i, 96) * Sym(96) + mod(floor_div(i, 8), 12) * Sym(8) + mod(i, 8);
  EXPECT_EQ(whole, i);
  Sym n = Sym::index("i1", s0 * s1);
  EXPECT_EQ(floor_div(n, s1) * s1 + mod(n, s1), n);
}

TEST(Sym, ProofsUseRangesAndExtents) {
  Sym i = Sym::index("i0", s0);
  EXPECT_TRUE(proves_lt(i, s0));
  EXPECT_FALSE(proves_lt(i, s0 - Sym(1)));
  EXPECT_TRUE(proves_le(s0, s0 * s1));
  Sym two = Sym::symbol("s2", 2, INT64_MAX);
  EXPECT_TRUE(proves_lt(two, two * two));
  EXPECT_TRUE(proves_lt(two * two, Sym(4) * two * two));
  EXPECT_TRUE(proves_le(s0, s0 * s0));
  EXPECT_FALSE(proves_lt(s0, s0 * s0));
  EXPECT_FALSE(proves_lt(Sym(3) * two, two * two));
  EXPECT_TRUE(proves_ne(s0 + Sym(1), s0));
  EXPECT_FALSE(proves_ne(s0, s1));
  EXPECT_TRUE(proves_divisible(Sym(6) * s0 + Sym(9), 3));
  EXPECT_FALSE(proves_divisible(s0, 2));
  EXPECT_EQ(sym_min(s0, Sym(5000)), s0);
  EXPECT_EQ(sym_max(i, 0), i);
}

TEST(Sym, TextReadsBack) {
  const Sym cases[] = {Sym(-3),
                       s0,
                       Sym(2) * s0 + Sym(1),
                       floor_div(s0 + Sym(1), 2),
                       mod(s0, 4) * s1,
                       sym_min(s0, s1),
                       sym_choose(sym_lt(s0, s1), s0, Sym(7)),
                       floor_div(s0, s1) - Sym(4),
                       sym_call("to_int", {sym_call("float_div", {s0, sym_float(1.5)})}),
                       sym_not(sym_eq(s0, s1))};
  for (const Sym& a : cases) {
    const std::string text = to_string(a);
    Lexer lexer(text);
    auto back = parse_sym(lexer, [](const std::string& name) -> Result<Sym> {
      if (name == "s0") return s0;
      if (name == "s1") return s1;
      return fail(Kind::bad_graph, "unknown symbol `{}`", name);
    });
    ASSERT_TRUE(back) << back.error().to_string();
    EXPECT_EQ(*back, a) << to_string(a) << " read back as " << to_string(*back);
    EXPECT_TRUE(lexer.at_end());
  }
}

// Simplified expressions have the value of the plain ones: random expressions, evaluated both ways.
TEST(Sym, SimplificationKeepsTheValue) {
  uint64_t state = 12345;
  auto random = [&](uint64_t n) {
    return state = state * 6364136223846793005u + 1442695040888963407u, (state >> 33) % n;
  };
  for (int round = 0; round < 20000; ++round) {
    int64_t x = static_cast<int64_t>(random(40)) + 1, y = static_cast<int64_t>(random(40)) + 2;
    std::map<std::string, int64_t> values{{"s0", x}, {"s1", y}};
    Sym a = s0;
    int64_t plain = x;
    for (int step = 0; step < 6; ++step) {
      int64_t c = static_cast<int64_t>(random(12)) + 1;
      const bool symbolic = random(2);
      Sym b = symbolic ? s1 : Sym(c);
      int64_t v = symbolic ? y : c;
      auto floor_of = [](int64_t p, int64_t q) { return p / q - ((p % q != 0 && (p < 0) != (q < 0)) ? 1 : 0); };
      switch (random(6)) {
        case 0: a = a + b, plain += v; break;
        case 1: a = a - b, plain -= v; break;
        case 2: a = a * b, plain *= v; break;
        case 3: a = floor_div(a, b), plain = floor_of(plain, v); break;
        case 4: a = mod(a, b), plain -= floor_of(plain, v) * v; break;
        case 5: a = sym_max(a, b), plain = std::max(plain, v); break;
      }
      if (std::abs(plain) > 1000000) break;
    }
    ASSERT_EQ(evaluate(a, values), plain) << to_string(a) << " at s0=" << x << " s1=" << y;
    SymRange range = range_of(a);
    ASSERT_LE(range.low, plain);
    ASSERT_GE(range.high, plain);
  }
}

Result<Sym> parsed(const std::string& text) {
  Lexer lexer(text);
  return parse_sym(lexer, [](const std::string& name) -> Result<Sym> { return Sym::symbol(name, 1, 4096); });
}
std::string times(int count, const std::string& text) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(SymText, WhatNestsTooDeepIsRefused) {
  EXPECT_EQ(parsed(times(100, "(") + "s0" + times(100, ")")).value(), s0);
  EXPECT_EQ(parsed(times(100'001, "-") + "s0").value(), -s0);
  for (const std::string& text :
       {times(100'000, "("), times(100'000, "min("), times(100'000, "-("), times(100'000, "f(-"),
        "s0" + times(100'000, " % s1 // 7"), times(300, "max(s9, ") + "s0" + times(300, ")")}) {
    auto sym = parsed(text);
    ASSERT_FALSE(sym) << text.substr(0, 20);
    EXPECT_EQ(sym.error().kind, Kind::bad_graph);
    EXPECT_NE(sym.error().text.find("nested too deep"), std::string::npos) << sym.error().text;
  }
  // Written out, 2 to the power of 40 terms.
  std::string product = "1";
  for (int i = 0; i < 40; ++i) product += " * (s" + std::to_string(i) + " + 1)";
  EXPECT_FALSE(parsed(product));
}

}  // namespace
}  // namespace toroid
