// Triangular and orthogonal factorisations of matrices and solutions by them, over batches: the last two dims are the
// matrix, of real or complex numbers. Eigen does the arithmetic; a batch's matrices are worked on one after another.
// For complex matrices "transposed" is the adjoint.
#include "matrices.h"

#include <Eigen/LU>
#include <Eigen/QR>

#include "library.h"

using namespace toroid::library;

namespace {

// In place, partial pivoting; pivots count from 1. 0, or which pivot is the first that is 0.
template <class T>
int32_t factor_lu(Matrix<T>& a, int32_t* pivots) {
  const int64_t m = a.rows(), n = a.cols(), k = std::min(m, n);
  int32_t info = 0;
  for (int64_t j = 0; j < k; ++j) {
    Eigen::Index best = j;
    for (Eigen::Index i = j + 1; i < m; ++i)
      if (pivot_size(a(i, j)) > pivot_size(a(best, j))) best = i;
    pivots[j] = static_cast<int32_t>(best) + 1;
    if (a(best, j) == T(0)) {
      if (!info) info = static_cast<int32_t>(j) + 1;
      continue;
    }
    if (best != j) a.row(best).swap(a.row(j));
    a.col(j).tail(m - j - 1) /= a(j, j);
    a.bottomRightCorner(m - j - 1, n - j - 1).noalias() -= a.col(j).tail(m - j - 1) * a.row(j).tail(n - j - 1);
  }
  return info;
}

// x with op(a) x = b, in place of b; op is the adjoint where `transposed`.
template <class T, class A, class B>
void solve_triangle(const A& a, bool upper, bool unit, bool transposed, B& b) {
  auto solve = [&](const auto& matrix, bool up) {
    if (up && unit)
      matrix.template triangularView<Eigen::UnitUpper>().solveInPlace(b);
    else if (up)
      matrix.template triangularView<Eigen::Upper>().solveInPlace(b);
    else if (unit)
      matrix.template triangularView<Eigen::UnitLower>().solveInPlace(b);
    else
      matrix.template triangularView<Eigen::Lower>().solveInPlace(b);
  };
  if (transposed)
    solve(a.adjoint(), !upper);
  else
    solve(a, upper);
}

}  // namespace

extern "C" {

// (a) -> triangle with l l^T = a (or u^T u; adjoints where complex), info; attribute 0: upper
int32_t td_call_cholesky(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto out = frame.out(0);
    auto info = frame.template out<int32_t>(1, 0);
    const bool upper = frame.flag(0);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      Matrix<T> l = a[i];
      if (upper) l.adjointInPlace();
      const int64_t n = l.rows();
      int32_t bad = 0;
      for (int64_t j = 0; j < n && !bad; ++j) {
        const auto d = std::real(l(j, j)) - l.row(j).head(j).squaredNorm();
        if (!(d > 0)) {
          bad = static_cast<int32_t>(j) + 1;
          l(j, j) = d;
          break;
        }
        l(j, j) = std::sqrt(d);
        const int64_t rest = n - j - 1;
        l.col(j).tail(rest) -= l.bottomLeftCorner(rest, j) * l.row(j).head(j).adjoint();
        l.col(j).tail(rest) /= l(j, j);
      }
      info.at(i)[0] = bad;
      l.template triangularView<Eigen::StrictlyUpper>().setZero();
      if (upper)
        out[i] = l.adjoint();
      else
        out[i] = l;
    }
  });
}

// (a [m, n]) -> l and u in one, pivots from 1, info
int32_t td_call_lu(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto out = frame.out(0);
    auto pivots = frame.template out<int32_t>(1, 1);
    auto info = frame.template out<int32_t>(2, 0);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      Matrix<T> lu = a[i];
      info.at(i)[0] = factor_lu(lu, pivots.at(i));
      out[i] = lu;
    }
  });
}

// (pivots from 1, [k]) -> i64[m]: row j of l u is row permutation[j] of a
int32_t td_call_lu_permutation(const TdCall* call) {
  Frame<int32_t> frame{call};
  auto pivots = frame.in(0, 1);
  auto out = frame.template out<int64_t>(0, 1);
  if (frame.failed) return no_memory(call);
  for (int64_t i = 0; i < pivots.count(); ++i) {
    int64_t* order = out.at(i);
    for (int64_t j = 0; j < out.rows(); ++j) order[j] = j;
    for (int64_t j = 0; j < pivots.rows(); ++j) {
      const int64_t other = pivots.at(i)[j] - 1;
      if (other < 0 || other >= out.rows()) return refuse(call, 3, "a pivot is out of range");
      std::swap(order[j], order[other]);
    }
  }
  return 0;
}

// (lu [n, n], pivots [n], b [n, k]) -> x with a x = b; attribute 0: a^T x = b
int32_t td_call_lu_solve(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto lu = frame.in(0);
    auto pivots = frame.template in<int32_t>(1, 1);
    auto b = frame.in(2);
    auto out = frame.out(0);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < lu.count() && !frame.failed; ++i) {
      Matrix<T> x = b[i];
      const Matrix<T> a = lu[i];
      const int64_t n = a.rows();
      auto swap = [&](int64_t j) {
        const int64_t other = std::clamp<int64_t>(pivots.at(i)[j] - 1, 0, n - 1);
        if (other != j) x.row(j).swap(x.row(other));
      };
      if (!frame.flag(0)) {
        for (int64_t j = 0; j < n; ++j) swap(j);
        solve_triangle<T>(a, false, true, false, x);
        solve_triangle<T>(a, true, false, false, x);
      } else {
        solve_triangle<T>(a, true, false, true, x);
        solve_triangle<T>(a, false, true, true, x);
        for (int64_t j = n; j-- > 0;) swap(j);
      }
      out[i] = x;
    }
  });
}

// (a [n, n], b [n, k]) -> x with op(a) x = b; attributes: upper, unit diagonal, transposed
int32_t td_call_solve_triangular(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto b = frame.in(1);
    auto out = frame.out(0);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      Matrix<T> x = b[i];
      const Matrix<T> triangle = a[i];
      solve_triangle<T>(triangle, frame.flag(0), frame.flag(1), frame.flag(2), x);
      out[i] = x;
    }
  });
}

// (a [m, n]) -> r above the reflections' vectors, their factors [k]
int32_t td_call_geqrf(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto out = frame.out(0);
    auto tau = frame.out(1, 1);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      const Eigen::HouseholderQR<Matrix<T>> qr(a[i]);
      out[i] = qr.matrixQR();
      for (int64_t k = 0; k < tau.rows(); ++k) tau.at(i)[k] = Eigen::numext::conj(qr.hCoeffs()(k));
    }
  });
}

// (vectors [m, n], factors [k]) -> the first columns of the product of the reflections, as many as the result has
int32_t td_call_householder_product(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto tau = frame.in(1, 1);
    auto out = frame.out(0);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      const Matrix<T> v = a[i];
      const int64_t m = v.rows();
      Matrix<T> q = Matrix<T>::Identity(m, out.columns());
      for (int64_t k = tau.rows(); k-- > 0;) {
        Vector<T> w = v.col(k).tail(m - k);
        w(0) = T(1);
        auto part = q.bottomRows(m - k);
        const Matrix<T> row = w.adjoint() * part;
        part.noalias() -= tau.at(i)[k] * w * row;
      }
      out[i] = q;
    }
  });
}
}
