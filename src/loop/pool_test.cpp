// The pool: sharing, folding, index arithmetic, and names of bound variables.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/check.h"
#include "loop/loops.h"

namespace toroid {
namespace {

struct PoolTest : testing::Test {
  PoolTest() {
    for (const char* name : {"x", "y"}) {
      LoopTensor t;
      t.name = name;
      t.kind = TensorKind::input;
      t.sizes = {8, 8};
      loops.add(t);
    }
  }
  ExprId x(ExprId i, ExprId j) { return pool.load({0}, DType::f32, {i, j}); }
  ExprId f(double value) { return pool.constant(value, DType::f32); }
  ExprId i(int64_t value) { return pool.index(value); }
  ExprId op(ScalarOp o, std::vector<ExprId> args) { return pool.op(o, std::move(args)); }
  std::string text(ExprId id) { return print_expr(loops, id); }

  Loops loops;
  ExprPool& pool = loops.pool;
  Sym s0 = Sym::symbol("s0", 1, 64);
  Sym i0 = Sym::index("i0", s0), i1 = Sym::index("i1", 8);
};

TEST_F(PoolTest, EqualExpressionsAreOne) {
  EXPECT_EQ(x(pool.index(i0), pool.index(i1)), x(pool.index(i0), pool.index(i1)));
  EXPECT_NE(x(pool.index(i0), pool.index(i1)), x(pool.index(i1), pool.index(i0)));
  EXPECT_NE(f(0.0), f(-0.0));
  EXPECT_EQ(f(std::nan("")), f(std::nan("")));
}

TEST_F(PoolTest, ConstantsFoldInTheirOwnType) {
  EXPECT_EQ(op(ScalarOp::add, {f(0.1), f(0.2)}), f(0.1f + 0.2f));
  EXPECT_EQ(op(ScalarOp::div, {f(1), f(0)}), f(INFINITY));
  const ExprId big = pool.integer(200, DType::u8);
  EXPECT_EQ(op(ScalarOp::mul, {big, pool.integer(2, DType::u8)}), pool.integer(144, DType::u8));
  EXPECT_EQ(op(ScalarOp::neg, {pool.integer(1, DType::u8)}), pool.integer(255, DType::u8));
  EXPECT_EQ(op(ScalarOp::add, {i(INT64_MAX), i(1)}), i(INT64_MIN));
  EXPECT_EQ(op(ScalarOp::truncdiv, {i(-7), i(2)}), i(-3));
  EXPECT_EQ(op(ScalarOp::floordiv, {i(-7), i(2)}), i(-4));
  EXPECT_EQ(op(ScalarOp::remainder, {i(-7), i(2)}), i(1));
  EXPECT_EQ(op(ScalarOp::fmod, {i(-7), i(2)}), i(-1));
  EXPECT_EQ(op(ScalarOp::ipow, {i(2), i(-1)}), i(0));
  EXPECT_EQ(op(ScalarOp::floordiv, {f(1.0), f(0.1)}), f(9));
  EXPECT_EQ(op(ScalarOp::round, {f(2.5)}), f(2));
  // A division by zero is the program's to fail on, not ours.
  EXPECT_EQ(pool[op(ScalarOp::floordiv, {i(1), i(0)})].kind, ExprKind::op);
}

TEST_F(PoolTest, ConversionsAreThoseOfPyTorch) {
  auto to = [&](double value, DType dtype) { return pool.cvt(f(value), dtype); };
  EXPECT_EQ(to(3e9, DType::i32), pool.integer(INT32_MIN, DType::i32));
  EXPECT_EQ(to(300, DType::u8), pool.integer(44, DType::u8));
  EXPECT_EQ(to(-1, DType::u8), pool.integer(255, DType::u8));
  EXPECT_EQ(to(NAN, DType::i16), pool.integer(0, DType::i16));
  EXPECT_EQ(to(-2.7, DType::i64), i(-2));
  EXPECT_EQ(to(NAN, DType::b8), pool.constant(1, DType::b8));
  EXPECT_EQ(pool.cvt(i(16777217), DType::f32), f(16777216));
  EXPECT_EQ(pool.round_to(f(1.00390625), DType::bf16), f(1.0));
  EXPECT_EQ(pool.round_to(f(1e6), DType::f8e4m3), f(448));
  EXPECT_EQ(pool.round_to(f(70000), DType::f8e5m2), f(INFINITY));
}

TEST_F(PoolTest, OnlyWhatHoldsForEveryValueIsSimplified) {
  const ExprId a = x(i(0), i(0));
  EXPECT_EQ(op(ScalarOp::mul, {a, f(1)}), a);
  EXPECT_EQ(op(ScalarOp::sub, {a, f(0)}), a);
  EXPECT_EQ(op(ScalarOp::add, {a, f(-0.0)}), a);
  EXPECT_NE(op(ScalarOp::add, {a, f(0)}), a) << "-0.0 + 0.0 is 0.0";
  EXPECT_NE(op(ScalarOp::mul, {a, f(0)}), f(0)) << "NaN * 0 is NaN";
  EXPECT_NE(op(ScalarOp::eq, {a, a}), pool.constant(1, DType::b8)) << "NaN is not equal to itself";
  const ExprId n = pool.load({1}, DType::i32, {i(0), i(0)});
  EXPECT_EQ(op(ScalarOp::mul, {n, pool.integer(0, DType::i32)}), pool.integer(0, DType::i32));
  EXPECT_EQ(op(ScalarOp::where, {pool.constant(0, DType::b8), a, f(3)}), f(3));
  EXPECT_EQ(pool.cvt(pool.cvt(n, DType::i64), DType::i32), n);
  EXPECT_NE(pool.cvt(pool.cvt(n, DType::i8), DType::i32), n);
}

TEST_F(PoolTest, IndexArithmeticIsSymbolic) {
  const ExprId at = op(ScalarOp::add, {op(ScalarOp::mul, {pool.index(i0), i(8)}), pool.index(i1)});
  EXPECT_EQ(op(ScalarOp::floordiv, {at, i(8)}), pool.index(i0));
  EXPECT_EQ(op(ScalarOp::remainder, {at, i(8)}), pool.index(i1));
  EXPECT_EQ(op(ScalarOp::lt, {pool.index(i0), pool.index(s0)}), pool.constant(1, DType::b8));
  EXPECT_EQ(op(ScalarOp::check_index, {pool.index(i1), i(8)}), pool.index(i1));
  EXPECT_EQ(pool[op(ScalarOp::lt, {pool.index(i1), i(4)})].kind, ExprKind::op);
}

TEST_F(PoolTest, TypesMustAgree) {
  EXPECT_THROW(op(ScalarOp::add, {f(1), i(1)}), InternalError);
  EXPECT_THROW(op(ScalarOp::exp, {i(1)}), InternalError);
  EXPECT_THROW(op(ScalarOp::land, {f(1), f(1)}), InternalError);
  EXPECT_THROW(op(ScalarOp::where, {f(1), f(1), f(1)}), InternalError);
  EXPECT_THROW(pool.cvt(f(1), DType::bf16), InternalError);
  EXPECT_THROW(pool.load({0}, DType::f32, {f(1), i(0)}), InternalError);
}

TEST_F(PoolTest, BoundNamesDoNotMatter) {
  auto sum_over = [&](const Sym& var) { return pool.reduce(ReduceOp::sum, {var}, x(pool.index(i0), pool.index(var))); };
  EXPECT_EQ(sum_over(pool.fresh(8)), sum_over(Sym::index("k", 8)));
  EXPECT_EQ(text(sum_over(pool.fresh(8))), "sum(j0 in 8: %x[i0, j0])");
}

TEST_F(PoolTest, InnerBindersHaveTheLowestNames) {
  const Sym a = pool.fresh(8), b = pool.fresh(8);
  const ExprId inner = pool.reduce(ReduceOp::sum, {b}, x(pool.index(a), pool.index(b)));
  const ExprId outer = pool.reduce(ReduceOp::max, {a}, inner);
  EXPECT_EQ(text(outer), "max(j1 in 8: sum(j0 in 8: %x[j1, j0]))");
  EXPECT_TRUE(pool.free_symbols(outer).empty());
}

TEST_F(PoolTest, SubstitutionDoesNotCapture) {
  // p[i0] = sum(j0: x[i0, j0]), inlined at j0 of a consumer: the inner sum must step aside, and come back when the
  // consumer's variable is bound.
  const Sym j0 = Sym::index("j0", 8);
  const ExprId p = pool.reduce(ReduceOp::sum, {j0}, x(pool.index(i0), pool.index(j0)));
  const ExprId inlined = pool.rewrite(p, {{"i0", j0}});
  EXPECT_EQ(text(inlined), "sum(j1 in 8: %x[j0, j1])");
  EXPECT_EQ(pool.free_symbols(inlined), std::vector<std::string>{"j0"});
  EXPECT_EQ(text(pool.reduce(ReduceOp::sum, {j0}, inlined)), "sum(j1 in 8: sum(j0 in 8: %x[j1, j0]))");
}

TEST_F(PoolTest, LoadsAreReplacedUnderBinders) {
  const Sym j0 = Sym::index("j0", 8);
  const ExprId p = pool.reduce(ReduceOp::sum, {j0}, x(pool.index(i0), pool.index(j0)));
  const ExprId consumer =
      pool.reduce(ReduceOp::max, {j0}, pool.load({1}, DType::f32, {pool.index(j0), pool.index(i1)}));
  const ExprId fused = pool.rewrite(consumer, {}, [&](const Expr& load, const std::vector<ExprId>& at) {
    return load.tensor.index == 1 ? pool.substitute(p, {{"i0", at[0]}}) : ExprId{};
  });
  EXPECT_EQ(text(fused), "max(j1 in 8: sum(j0 in 8: %x[j1, j0]))");
}

TEST_F(PoolTest, SubstitutesDataDependentIndices) {
  LoopTensor t;
  t.name = "n";
  t.dtype = DType::i64;
  t.sizes = {8};
  loops.add(t);
  const ExprId n = pool.load({2}, DType::i64, {i(0)});
  const ExprId at = x(pool.index(i1 * Sym(2) + Sym(1)), pool.index(floor_div(i1, 3)));
  EXPECT_EQ(text(pool.substitute(at, {{"i1", n}})), "%x[1 + 2 * %n[0], %n[0] // 3]");
}

TEST_F(PoolTest, VariablesOfExtentOneDisappear) {
  const Sym one = pool.fresh(1), j = pool.fresh(8);
  EXPECT_EQ(text(pool.reduce(ReduceOp::sum, {one, j}, x(pool.index(one), pool.index(j)))), "sum(j0 in 8: %x[0, j0])");
  EXPECT_EQ(text(pool.reduce(ReduceOp::sum, {one}, x(pool.index(one), i(3)))), "%x[0, 3]");
}

}  // namespace
}  // namespace toroid
