// Routines on small rows: orders with ties and NaN, writes in order, transforms beside their definition.
#include "loop/routines.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "loop/loops.h"

namespace toroid {
namespace {

template <class T>
char* bytes(std::vector<T>& v) {
  return reinterpret_cast<char*>(v.data());
}

void call(const char* name, DType dtype, std::vector<char*> pointers, std::vector<long long> n,
          std::vector<double> d = {}) {
  RoutineFunction f = routine_function(*routine_from_name(name), dtype);
  ASSERT_NE(f, nullptr);
  f(pointers.data(), n.data(), d.data(), 0, n[0]);
}

TEST(Routines, SortIsStableWithNaNGreatest) {
  std::vector<float> x = {2, NAN, 1, 2, -INFINITY, 1};
  std::vector<long long> order(6);
  call("argsort", DType::f32, {bytes(x), bytes(order)}, {1, 6, 0});
  EXPECT_EQ(order, (std::vector<long long>{4, 2, 5, 0, 3, 1}));
  call("argsort", DType::f32, {bytes(x), bytes(order)}, {1, 6, 1});
  EXPECT_EQ(order, (std::vector<long long>{1, 0, 3, 2, 5, 4}));
  std::vector<long long> top(2);
  call("topk", DType::f32, {bytes(x), bytes(top)}, {1, 6, 2, 1});
  EXPECT_EQ(top, (std::vector<long long>{1, 0}));
}

TEST(Routines, ScatterWritesInOrder) {
  std::vector<float> x = {1, 1, 1}, v = {5, 7, 2}, out(3);
  std::vector<long long> at = {1, 1, -1};
  call("scatter", DType::f32, {bytes(x), bytes(at), bytes(v), bytes(out)}, {1, 3, 3, 0, 1});
  EXPECT_EQ(out, (std::vector<float>{1, 7, 1}));
  call("scatter", DType::f32, {bytes(x), bytes(at), bytes(v), bytes(out)}, {1, 3, 3, 1, 1});
  EXPECT_EQ(out, (std::vector<float>{1, 13, 1}));
  call("scatter", DType::f32, {bytes(x), bytes(at), bytes(v), bytes(out)}, {1, 3, 3, 2, 0});
  EXPECT_EQ(out, (std::vector<float>{1, 35, 1}));
}

TEST(Routines, SearchFindsBothBounds) {
  std::vector<long long> table = {1, 2, 2, 5}, v = {0, 2, 9}, out(3);
  call("search", DType::i64, {bytes(table), bytes(v), bytes(out)}, {3, 4, 3, 1, 0});
  EXPECT_EQ(out, (std::vector<long long>{0, 1, 4}));
  call("search", DType::i64, {bytes(table), bytes(v), bytes(out)}, {3, 4, 3, 1, 1});
  EXPECT_EQ(out, (std::vector<long long>{0, 3, 4}));
}

TEST(Routines, FourierOfAnyLengthIsItsDefinition) {
  for (long long m : {1, 2, 7, 12, 30}) {
    std::vector<double> x, roots, out(static_cast<size_t>(4 * m));
    for (long long i = 0; i < m; ++i) {
      x.insert(x.end(), {std::sin(1.0 + static_cast<double>(i * i)), std::cos(3.0 * static_cast<double>(i))});
      const double angle = -2 * M_PI * static_cast<double>(i) / static_cast<double>(m);
      roots.insert(roots.end(), {std::cos(angle), std::sin(angle)});
    }
    for (long long inverse : {0, 1}) {
      call("fourier", DType::f64, {bytes(x), bytes(roots), bytes(out)}, {1, m, inverse}, {0.5});
      for (long long j = 0; j < m; ++j) {
        double re = 0, im = 0;
        for (long long k = 0; k < m; ++k) {
          const double angle = (inverse ? 2 : -2) * M_PI * static_cast<double>(j * k) / static_cast<double>(m);
          const double a = x[static_cast<size_t>(2 * k)], b = x[static_cast<size_t>(2 * k + 1)];
          re += a * std::cos(angle) - b * std::sin(angle);
          im += a * std::sin(angle) + b * std::cos(angle);
        }
        EXPECT_NEAR(out[static_cast<size_t>(2 * j)], 0.5 * re, 1e-12);
        EXPECT_NEAR(out[static_cast<size_t>(2 * j + 1)], 0.5 * im, 1e-12);
      }
    }
  }
}

TEST(Routines, ComplexNumbersAreParts) {
  ExprPool pool;
  ExprId z = pool.pair(pool.constant(1, DType::f64), pool.constant(2, DType::f64));
  ExprId w = pool.pair(pool.constant(3, DType::f64), pool.constant(-1, DType::f64));
  ExprId product = pool.op(ScalarOp::mul, {z, w}), quotient = pool.op(ScalarOp::div, {z, w});
  EXPECT_EQ(pool.as_constant(pool.real(product)), 5.0);
  EXPECT_EQ(pool.as_constant(pool.imag(product)), 5.0);
  EXPECT_NEAR(*pool.as_constant(pool.real(quotient)), 0.1, 1e-15);
  EXPECT_NEAR(*pool.as_constant(pool.imag(quotient)), 0.7, 1e-15);
  EXPECT_THROW(pool.op(ScalarOp::lgamma, {z}), Refused);
}

}  // namespace
}  // namespace toroid
