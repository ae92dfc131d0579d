// Eigenvalues, exponentials and symmetric indefinite factorisations (l d l^T) of matrices, over batches. Eigenvalues
// are found in double whatever the matrices are of.
#include "matrices.h"

#include <Eigen/Eigenvalues>
#include <unsupported/Eigen/MatrixFunctions>

#include "library.h"
#include "schur_order.h"

using namespace toroid::library;

namespace {

// A vector of length 1 whose greatest component is real.
template <class C>
void normalise(C&& column) {
  const auto length = column.norm();
  if (!(length > 0)) return;
  column /= length;
  Eigen::Index best = 0;
  column.cwiseAbs().maxCoeff(&best);
  const auto size = std::abs(column(best));
  column *= std::conj(column(best)) / size;
  column(best) = std::real(column(best));
}

using Numbers = std::complex<double>;

// Eigenvalues of `a`, and its vectors where they are wanted. In double, whatever the matrix is of.
template <class T>
bool spectrum(const Matrix<T>& a, Vector<Numbers>& values, Matrix<Numbers>* vectors) {
  auto take = [&](const auto& solver) {
    if (solver.info() != Eigen::Success) return false;
    values = solver.eigenvalues();
    if (vectors) *vectors = solver.eigenvectors();
    return true;
  };
  if constexpr (Eigen::NumTraits<T>::IsComplex)
    return take(Eigen::ComplexEigenSolver<Matrix<Numbers>>(a.template cast<Numbers>(), vectors != nullptr));
  else
    return take(Eigen::EigenSolver<Matrix<double>>(a.template cast<double>(), vectors != nullptr));
}

// Brings eigenvalues, and vectors with them, into the order that eager's are in (schur_order.h).
template <class T>
void order_as_lapack(const Matrix<T>& a, Vector<Numbers>& values, Matrix<Numbers>* vectors) {
  const auto order = SchurOrder<T>(a).values();
  if (!order) return;
  // Each takes the nearest that is left.
  Vector<Numbers> left = values;
  Matrix<Numbers> columns;
  if (vectors) columns = *vectors;
  std::vector<bool> taken(order->size());
  for (size_t k = 0; k < order->size(); ++k) {
    const Numbers wanted((*order)[k].real(), (*order)[k].imag());
    size_t best = order->size();
    for (size_t j = 0; j < order->size(); ++j)
      if (!taken[j] && (best == order->size() || std::abs(left(static_cast<int64_t>(j)) - wanted) <
                                                     std::abs(left(static_cast<int64_t>(best)) - wanted)))
        best = j;
    taken[best] = true;
    values(static_cast<int64_t>(k)) = left(static_cast<int64_t>(best));
    if (vectors) vectors->col(static_cast<int64_t>(k)) = columns.col(static_cast<int64_t>(best));
  }
}

// Bunch and Kaufman's pivoting on the lower triangle, as LAPACK writes it: a pivot above 0 is a block of one and its
// row's place from 1; two equal ones below 0 are a block of two. Returns which pivot is the first that is 0, or 0.
template <class T>
int32_t factor_ldl(Matrix<T>& a, int32_t* pivots) {
  using Real = typename Eigen::NumTraits<T>::Real;
  const Real alpha = (1 + std::sqrt(Real(17))) / 8;
  const int64_t n = a.rows();
  int32_t info = 0;
  for (int64_t k = 0; k < n;) {
    int64_t step = 1, p = k, far = k;
    const Real own = pivot_size(a(k, k));
    Real column = 0;
    for (int64_t i = k + 1; i < n; ++i)
      if (pivot_size(a(i, k)) > column) column = pivot_size(a(i, k)), far = i;
    if (!(std::max(own, column) > 0)) {
      if (!info) info = static_cast<int32_t>(k) + 1;
    } else if (own < alpha * column) {
      Real row = 0;
      for (int64_t j = k; j < far; ++j) row = std::max(row, pivot_size(a(far, j)));
      for (int64_t i = far + 1; i < n; ++i) row = std::max(row, pivot_size(a(i, far)));
      if (own < alpha * column * (column / row)) {
        p = far;
        if (pivot_size(a(far, far)) < alpha * row) step = 2;
      }
    }
    const int64_t last = k + step - 1;
    if (p != last) {
      for (int64_t i = p + 1; i < n; ++i) std::swap(a(i, last), a(i, p));
      for (int64_t j = last + 1; j < p; ++j) std::swap(a(j, last), a(p, j));
      std::swap(a(last, last), a(p, p));
      if (step == 2) std::swap(a(k + 1, k), a(p, k));
    }
    if (step == 1) {
      if (a(k, k) != T(0)) {
        const T over = T(1) / a(k, k);
        for (int64_t j = k + 1; j < n; ++j)
          for (int64_t i = j; i < n; ++i) a(i, j) -= over * a(j, k) * a(i, k);
        a.col(k).tail(n - k - 1) *= over;
      }
      pivots[k] = static_cast<int32_t>(p) + 1;
    } else {
      const T d = a(k + 1, k);
      if (k + 2 < n) {
        const T low = a(k + 1, k + 1) / d, high = a(k, k) / d, scale = T(1) / (low * high - T(1)) / d;
        for (int64_t j = k + 2; j < n; ++j) {
          const T first = scale * (low * a(j, k) - a(j, k + 1)), second = scale * (high * a(j, k + 1) - a(j, k));
          for (int64_t i = j; i < n; ++i) a(i, j) -= a(i, k) * first + a(i, k + 1) * second;
          a(j, k) = first;
          a(j, k + 1) = second;
        }
      }
      pivots[k] = pivots[k + 1] = -static_cast<int32_t>(p) - 1;
    }
    k += step;
  }
  return info;
}

// x with l d l^T x = b, in place of b.
template <class T>
void solve_ldl(const Matrix<T>& a, const int32_t* pivots, Matrix<T>& b) {
  const int64_t n = a.rows();
  auto place = [&](int64_t k) { return std::clamp<int64_t>(std::abs(pivots[k]) - 1, 0, n - 1); };
  auto swap = [&](int64_t i, int64_t j) {
    if (i != j) b.row(i).swap(b.row(j));
  };
  for (int64_t k = 0; k < n;) {
    const int64_t step = pivots[k] > 0 || k + 1 == n ? 1 : 2, rest = n - k - step;
    swap(k + step - 1, place(k));
    for (int64_t s = 0; s < step; ++s) b.bottomRows(rest).noalias() -= a.col(k + s).tail(rest) * b.row(k + s);
    if (step == 1) {
      b.row(k) /= a(k, k);
    } else {
      const T d = a(k + 1, k), high = a(k, k) / d, low = a(k + 1, k + 1) / d, scale = high * low - T(1);
      for (int64_t j = 0; j < b.cols(); ++j) {
        const T first = b(k, j) / d, second = b(k + 1, j) / d;
        b(k, j) = (low * first - second) / scale;
        b(k + 1, j) = (high * second - first) / scale;
      }
    }
    k += step;
  }
  for (int64_t k = n - 1; k >= 0;) {
    const int64_t step = pivots[k] > 0 || k == 0 ? 1 : 2, rest = n - k - 1;
    for (int64_t s = 0; s < step; ++s)
      b.row(k - s) -= (a.col(k - s).tail(rest).transpose() * b.bottomRows(rest)).eval();
    swap(k, place(k));
    k -= step;
  }
}

}  // namespace

extern "C" {

// (a [n, n]) -> eigenvalues and vectors in columns, both complex; attribute 0: vectors, too
int32_t td_call_eig(const TdCall* call) {
  bool found = true;
  const int32_t bad = over_type(call, [&](auto& frame) {
    using T = typename std::decay_t<decltype(frame)>::Number;
    auto a = frame.in(0);
    const bool wanted = frame.flag(0);
    using Result = std::complex<typename std::decay_t<decltype(frame)>::Real>;
    auto values = frame.template out<Result>(0, 1);
    for (int64_t i = 0; i < a.count() && !frame.failed && a.rows() > 0; ++i) {
      const Matrix<T> matrix = a[i];
      Vector<Numbers> roots;
      Matrix<Numbers> vectors;
      found &= matrix.allFinite() && spectrum(matrix, roots, wanted ? &vectors : nullptr);
      if (!found) return;
      order_as_lapack(matrix, roots, wanted ? &vectors : nullptr);
      for (int64_t k = 0; k < values.rows(); ++k) values.at(i)[k] = static_cast<Result>(roots(k));
      if (!wanted) continue;
      for (int64_t k = 0; k < values.rows(); ++k) normalise(vectors.col(k));
      frame.template out<Result>(1)[i] = vectors.template cast<Result>();
    }
  });
  return bad || found ? bad : refuse(call, 3, "the eigenvalues of a matrix do not converge");
}

// (a [n, n], its lower triangle) -> l below d, pivots, info
int32_t td_call_ldl(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    using T = typename std::decay_t<decltype(frame)>::Number;
    auto a = frame.in(0);
    auto out = frame.out(0);
    auto pivots = frame.template out<int32_t>(1, 1);
    auto info = frame.template out<int32_t>(2, 0);
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      Matrix<T> ld = a[i];
      info.at(i)[0] = factor_ldl(ld, pivots.at(i));
      ld.template triangularView<Eigen::StrictlyUpper>().setZero();
      out[i] = ld;
    }
  });
}

// (ld [n, n], pivots [n], b [n, k]) -> x with l d l^T x = b
int32_t td_call_ldl_solve(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    using T = typename std::decay_t<decltype(frame)>::Number;
    auto ld = frame.in(0);
    auto pivots = frame.template in<int32_t>(1, 1);
    auto b = frame.in(2);
    auto out = frame.out(0);
    for (int64_t i = 0; i < ld.count() && !frame.failed; ++i) {
      Matrix<T> x = b[i];
      const Matrix<T> factors = ld[i];
      solve_ldl(factors, pivots.at(i), x);
      out[i] = x;
    }
  });
}

// (a [n, n], one triangle of it) -> eigenvalues rising, vectors in columns; attribute 0: the upper triangle
int32_t td_call_eigh(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto values = frame.template out<typename std::decay_t<decltype(frame)>::Real>(0, 1);
    auto vectors = frame.out(1);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      Matrix<Wide<T>> matrix = a[i].template cast<Wide<T>>();
      if (matrix.size() == 0) continue;
      if (frame.flag(0)) matrix.adjointInPlace();
      const Eigen::SelfAdjointEigenSolver<Matrix<Wide<T>>> solver(matrix);
      for (int64_t k = 0; k < values.rows(); ++k)
        values.at(i)[k] = static_cast<typename std::decay_t<decltype(frame)>::Real>(solver.eigenvalues()(k));
      vectors[i] = solver.eigenvectors().template cast<T>();
    }
  });
}

// (a [n, n]) -> e^a
int32_t td_call_matrix_exp(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    auto out = frame.out(0);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      if (a.rows() == 0) continue;
      // In double: in float the scaling by powers of two costs several digits.
      const Matrix<Wide<T>> matrix = a[i].template cast<Wide<T>>();
      const Matrix<Wide<T>> result = matrix.exp();
      out[i] = result.template cast<T>();
    }
  });
}
}
