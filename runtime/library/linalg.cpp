// Factorisations of matrices, over batches: the last two dims are the matrix, f32 or f64. Eigen does the arithmetic; a
// batch's matrices are worked on one after another.
#define EIGEN_MPL2_ONLY
#define EIGEN_NO_DEBUG
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/QR>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <new>
#include <unsupported/Eigen/MatrixFunctions>

#include "library.h"
#include "views.h"

using namespace toroid::library;

namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

// A stack of matrices (or of vectors, one column each), row-major in memory.
template <class T>
class Stack {
 public:
  Stack(const TdView& view, const T* data, int32_t dims) : data_(const_cast<T*>(data)) {
    rows_ = dims > 0 ? view.sizes[view.rank - dims] : 1;
    columns_ = dims > 1 ? view.sizes[view.rank - 1] : 1;
    count_ = 1;
    for (int32_t d = 0; d < view.rank - dims; ++d) count_ *= view.sizes[d];
  }
  int64_t count() const { return count_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  Eigen::Map<Rows<T>> operator[](int64_t i) const { return {data_ + i * rows_ * columns_, rows_, columns_}; }
  T* at(int64_t i) const { return data_ + i * rows_ * columns_; }

 private:
  T* data_;
  int64_t rows_, columns_, count_;
};

// Inputs and outputs of a call over matrices of T.
template <class T>
struct Frame {
  const TdCall* call;
  bool failed = false;
  template <class E = T>
  Stack<E> in(int32_t i, int32_t dims = 2) {
    const E* data = row_major_data<E>(call, call->inputs[i]);
    failed |= !data && count_of(call->inputs[i]) > 0;
    return {call->inputs[i], data, dims};
  }
  template <class E = T>
  Stack<E> out(int32_t i, int32_t dims = 2) {
    return {call->outputs[i], static_cast<const E*>(call->outputs[i].data), dims};
  }
  bool flag(int32_t i) const { return call->attributes[i] != 0; }
};

// Runs f(Frame<T>) for the element type of the first input.
template <class F>
int32_t over_type(const TdCall* call, F f) {
  try {
    bool failed = false;
    if (call->inputs[0].dtype == TD_F32) {
      Frame<float> frame{call};
      f(frame);
      failed = frame.failed;
    } else if (call->inputs[0].dtype == TD_F64) {
      Frame<double> frame{call};
      f(frame);
      failed = frame.failed;
    } else {
      return refuse(call, 5, "a factorisation of an unknown element type");
    }
    return failed ? no_memory(call) : 0;
  } catch (const std::bad_alloc&) {
    return no_memory(call);
  }
}

// In place, partial pivoting; pivots count from 1. 0, or which pivot is the first that is 0.
template <class T>
int32_t factor_lu(Matrix<T>& a, int32_t* pivots) {
  const int64_t m = a.rows(), n = a.cols(), k = std::min(m, n);
  int32_t info = 0;
  for (int64_t j = 0; j < k; ++j) {
    Eigen::Index best = 0;
    a.col(j).tail(m - j).cwiseAbs().maxCoeff(&best);
    best += j;
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

// x with op(a) x = b, in place of b.
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
    solve(a.transpose(), !upper);
  else
    solve(a, upper);
}

}  // namespace

extern "C" {

// (a) -> triangle with l l^T = a (or u^T u), info; attribute 0: upper
int32_t td_call_cholesky(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto out = frame.out(0);
    auto info = frame.template out<int32_t>(1, 0);
    const bool upper = frame.flag(0);
    using T = std::decay_t<decltype(a[0](0, 0))>;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      Matrix<T> l = a[i];
      if (upper) l.transposeInPlace();
      const int64_t n = l.rows();
      int32_t bad = 0;
      for (int64_t j = 0; j < n && !bad; ++j) {
        const T d = l(j, j) - l.row(j).head(j).squaredNorm();
        if (!(d > T(0))) {
          bad = static_cast<int32_t>(j) + 1;
          l(j, j) = d;
          break;
        }
        l(j, j) = std::sqrt(d);
        const int64_t rest = n - j - 1;
        l.col(j).tail(rest) -= l.bottomLeftCorner(rest, j) * l.row(j).head(j).transpose();
        l.col(j).tail(rest) /= l(j, j);
      }
      info.at(i)[0] = bad;
      l.template triangularView<Eigen::StrictlyUpper>().setZero();
      if (upper)
        out[i] = l.transpose();
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
    using T = std::decay_t<decltype(a[0](0, 0))>;
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
    using T = std::decay_t<decltype(lu[0](0, 0))>;
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
    using T = std::decay_t<decltype(a[0](0, 0))>;
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
    using T = std::decay_t<decltype(a[0](0, 0))>;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      const Eigen::HouseholderQR<Matrix<T>> qr(a[i]);
      out[i] = qr.matrixQR();
      for (int64_t k = 0; k < tau.rows(); ++k) tau.at(i)[k] = qr.hCoeffs()(k);
    }
  });
}

// (vectors [m, n], factors [k]) -> the first columns of the product of the reflections, as many as the result has
int32_t td_call_householder_product(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto tau = frame.in(1, 1);
    auto out = frame.out(0);
    using T = std::decay_t<decltype(a[0](0, 0))>;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      const Matrix<T> v = a[i];
      const int64_t m = v.rows();
      Matrix<T> q = Matrix<T>::Identity(m, out.columns());
      for (int64_t k = tau.rows(); k-- > 0;) {
        Vector<T> w = v.col(k).tail(m - k);
        w(0) = T(1);
        auto part = q.bottomRows(m - k);
        const Matrix<T> row = w.transpose() * part;
        part.noalias() -= tau.at(i)[k] * w * row;
      }
      out[i] = q;
    }
  });
}

// (a [m, n]) -> u, s, v^T, or s alone; attributes: full matrices, all three
int32_t td_call_svd(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    const bool full = frame.flag(0), all = frame.flag(1);
    auto s = frame.out(all ? 1 : 0, 1);
    using T = std::decay_t<decltype(a[0](0, 0))>;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      const Matrix<T> matrix = a[i];
      const int options = !all   ? 0
                          : full ? Eigen::ComputeFullU | Eigen::ComputeFullV
                                 : Eigen::ComputeThinU | Eigen::ComputeThinV;
      if (matrix.size() == 0) {
        if (all) frame.out(0)[i].setIdentity(), frame.out(2)[i].setIdentity();
        continue;
      }
      if (!matrix.allFinite()) {
        for (int64_t k = 0; k < s.rows(); ++k) s.at(i)[k] = std::nan("");
        if (all) frame.out(0)[i].setConstant(std::nan("")), frame.out(2)[i].setConstant(std::nan(""));
        continue;
      }
      const Eigen::BDCSVD<Matrix<T>> svd(matrix, options);
      for (int64_t k = 0; k < s.rows(); ++k) s.at(i)[k] = svd.singularValues()(k);
      if (!all) continue;
      frame.out(0)[i] = svd.matrixU();
      frame.out(2)[i] = svd.matrixV().transpose();
    }
  });
}

// (a [n, n], one triangle of it) -> eigenvalues rising, vectors in columns; attribute 0: the upper triangle
int32_t td_call_eigh(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto values = frame.out(0, 1);
    auto vectors = frame.out(1);
    using T = std::decay_t<decltype(a[0](0, 0))>;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      Matrix<T> matrix = a[i];
      if (matrix.size() == 0) continue;
      if (frame.flag(0)) matrix.transposeInPlace();
      const Eigen::SelfAdjointEigenSolver<Matrix<T>> solver(matrix);
      for (int64_t k = 0; k < values.rows(); ++k) values.at(i)[k] = solver.eigenvalues()(k);
      vectors[i] = solver.eigenvectors();
    }
  });
}

// (a [n, n]) -> e^a
int32_t td_call_matrix_exp(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto out = frame.out(0);
    using T = std::decay_t<decltype(a[0](0, 0))>;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      const Matrix<T> matrix = a[i];
      if (matrix.size() == 0) continue;
      const Matrix<T> result = matrix.exp();
      out[i] = result;
    }
  });
}
}
