// The order in which LAPACK's driver for matrices without symmetry gives eigenvalues: that of the diagonal where its
// iteration leaves them. In: a square matrix. Out: about its eigenvalues, in that order.
//
// The order is no property of the matrix but of the steps: balancing, reduction to Hessenberg form, and the implicitly
// shifted QR iteration for matrices up to 75 rows (Anderson et al., LAPACK Users' Guide; Ahues and Tisseur's
// deflation), whose shifts are single in complex numbers and double in real ones. The same steps are taken here in the
// matrix's own precision; values alone, so that only the active block is kept up to date. LAPACK switches to another
// iteration for larger matrices, whose order is not met.
#pragma once
#include <cmath>
#include <complex>
#include <limits>
#include <optional>
#include <vector>

#include "matrices.h"

namespace toroid::library {

// The steps before the iteration, of T real or complex.
template <class T>
class HessenbergForm {
 protected:
  using R = typename Eigen::NumTraits<T>::Real;
  explicit HessenbergForm(Matrix<T> a) : h_(std::move(a)), n_(h_.rows()), low_(0), high_(n_ - 1) {
    isolate();
    scale();
    reduce();
    values_.resize(static_cast<size_t>(n_));
    for (int64_t k = 0; k < n_; ++k)
      if (k < low_ || k > high_) values_[static_cast<size_t>(k)] = h_(k, k);
  }

  // (1, v) and t with (I - conj(t) (1, v)(1, v)^H) x = (beta, 0), beta real: x becomes (beta, v).
  template <class V>
  static T reflector(V&& x) {
    const R tail = x.tail(x.size() - 1).norm();
    if (tail == R(0) && std::imag(x(0)) == R(0)) return 0;
    const R beta = -std::copysign(std::hypot(std::abs(x(0)), tail), std::real(x(0)));
    const T t = (beta - x(0)) / beta;
    x.tail(x.size() - 1) /= x(0) - beta;
    x(0) = beta;
    return t;
  }

  static R size_of(const T& x) { return std::abs(std::real(x)) + std::abs(std::imag(x)); }

  // A subdiagonal element of this size is 0.
  R negligible() const {
    return std::numeric_limits<R>::min() * (static_cast<R>(high_ - low_ + 1) / std::numeric_limits<R>::epsilon());
  }

  // Where the block that ends at `last` begins, looking no further up than `from`.
  int64_t block_begin(int64_t from, int64_t last) const {
    const R ulp = std::numeric_limits<R>::epsilon(), small = negligible();
    int64_t k = last;
    for (; k > from; --k) {
      const R sub = size_of(h_(k, k - 1));
      if (sub <= small) break;
      R near = size_of(h_(k - 1, k - 1)) + size_of(h_(k, k));
      if (near == R(0)) {
        if (k - 2 >= low_) near += std::abs(std::real(h_(k - 1, k - 2)));
        if (k + 1 <= high_) near += std::abs(std::real(h_(k + 1, k)));
      }
      if (std::abs(std::real(h_(k, k - 1))) > ulp * near) continue;
      const R above = size_of(h_(k - 1, k)), gap = size_of(h_(k - 1, k - 1) - h_(k, k)), own = size_of(h_(k, k));
      const R ab = std::max(sub, above), ba = std::min(sub, above), aa = std::max(own, gap), bb = std::min(own, gap);
      if (ba * (ab / (aa + ab)) <= std::max(small, ulp * (bb * (aa / (aa + ab))))) break;
    }
    return k;
  }

  Matrix<T> h_;
  int64_t n_, low_, high_;
  std::vector<std::complex<R>> values_;

 private:
  void exchange(int64_t i, int64_t j) {
    if (i == j) return;
    h_.col(i).swap(h_.col(j));
    h_.row(i).swap(h_.row(j));
  }

  // Rows, then columns, that are zero beside the diagonal have their eigenvalue there: they go to the end and to the
  // beginning, and the rest is low_..high_.
  void isolate() {
    auto zero_beside = [&](int64_t i, bool row) {
      for (int64_t j = low_; j <= high_; ++j)
        if (j != i && (row ? h_(i, j) : h_(j, i)) != R(0)) return false;
      return true;
    };
    for (bool found = true; found && high_ > 0;) {
      found = false;
      for (int64_t i = high_; i >= 0 && !found; --i)
        if (zero_beside(i, true)) exchange(i, high_--), found = true;
    }
    for (bool found = true; found && low_ < high_;) {
      found = false;
      for (int64_t i = low_; i <= high_ && !found; ++i)
        if (zero_beside(i, false)) exchange(i, low_++), found = true;
    }
  }

  // Powers of two that make the norms of a row and its column alike.
  void scale() {
    const R least = std::numeric_limits<R>::min() / std::numeric_limits<R>::epsilon() * 2, most = 1 / least;
    const int64_t size = high_ - low_ + 1;
    for (bool changed = true; changed;) {
      changed = false;
      for (int64_t i = low_; i <= high_; ++i) {
        R c = h_.col(i).segment(low_, size).norm(), r = h_.row(i).segment(low_, size).norm();
        R top = h_.col(i).head(high_ + 1).cwiseAbs().maxCoeff(), side = h_.row(i).tail(n_ - low_).cwiseAbs().maxCoeff();
        if (c == R(0) || r == R(0)) continue;
        R g = r / 2, f = 1;
        const R before = c + r;
        while (c < g && std::max({f, c, top}) < most && std::min({r, g, side}) > least)
          f *= 2, c *= 2, top *= 2, r /= 2, g /= 2, side /= 2;
        g = c / 2;
        while (g >= r && std::max(r, side) < most && std::min({f, c, g, top}) > least)
          f /= 2, c /= 2, top /= 2, g /= 2, r *= 2, side *= 2;
        if (c + r >= R(0.95) * before || !(f > 0)) continue;
        h_.row(i).tail(n_ - low_) /= f;
        h_.col(i).head(high_ + 1) *= f;
        changed = true;
      }
    }
  }

  void reduce() {
    for (int64_t i = low_; i + 1 < high_; ++i) {
      const int64_t size = high_ - i;
      Vector<T> v = h_.col(i).segment(i + 1, size);
      const T t = reflector(v), beta = v(0);
      v(0) = 1;
      auto right = h_.block(0, i + 1, high_ + 1, size);
      right -= ((right * v).eval() * t * v.adjoint()).eval();
      auto below = h_.block(i + 1, i + 1, size, n_ - i - 1);
      below -= (v * Eigen::numext::conj(t) * (v.adjoint() * below).eval()).eval();
      h_.col(i).segment(i + 1, size).setZero();
      h_(i + 1, i) = beta;
    }
  }
};

template <class R>
class SchurOrder : HessenbergForm<R> {
  using Base = HessenbergForm<R>;
  using Base::block_begin, Base::h_, Base::high_, Base::low_, Base::reflector, Base::values_;

 public:
  explicit SchurOrder(Matrix<R> a) : Base(std::move(a)) {}

  // Nothing where the iteration does not converge.
  std::optional<std::vector<std::complex<R>>> values() {
    for (int64_t last = high_; last >= low_;) {
      const int64_t first = deflate(last);
      if (first < 0) return std::nullopt;
      if (first == last)
        set(last, h_(last, last), 0);
      else
        pair(last);
      last = first - 1;
    }
    return values_;
  }

 private:
  void set(int64_t k, R real, R imaginary) { values_[static_cast<size_t>(k)] = {real, imaginary}; }

  // Iterates until the block that ends at `last` has one or two rows; its first row, or -1.
  int64_t deflate(int64_t last) {
    int64_t first = low_;
    const int64_t limit = 30 * std::max<int64_t>(10, high_ - low_ + 1);
    for (int64_t round = 1; round <= limit; ++round) {
      first = block_begin(first, last);
      if (first > low_) h_(first, first - 1) = 0;
      if (first >= last - 1) return first;
      sweep(first, last, shifts(first, last, round));
    }
    return -1;
  }

  struct Shifts {
    R real1 = 0, real2 = 0, imaginary = 0;
  };
  // The eigenvalues of the last two rows; two of the same where they are real. Every tenth round something else.
  Shifts shifts(int64_t first, int64_t last, int64_t round) const {
    R a = h_(last - 1, last - 1), b = h_(last - 1, last), c = h_(last, last - 1), d = h_(last, last);
    if (round % 10 == 0) {
      const bool at_end = round % 20 == 0;
      c = at_end ? std::abs(h_(last, last - 1)) + std::abs(h_(last - 1, last - 2))
                 : std::abs(h_(first + 1, first)) + std::abs(h_(first + 2, first + 1));
      a = d = R(0.75) * c + (at_end ? h_(last, last) : h_(first, first));
      b = R(-0.4375) * c;
    }
    const R size = std::abs(a) + std::abs(b) + std::abs(c) + std::abs(d);
    if (size == R(0)) return {};
    a /= size, b /= size, c /= size, d /= size;
    const R middle = (a + d) / 2, det = (a - middle) * (d - middle) - b * c, root = std::sqrt(std::abs(det));
    if (det >= R(0)) return {middle * size, middle * size, root * size};
    const R high = middle + root, low = middle - root;
    const R best = (std::abs(high - d) <= std::abs(low - d) ? high : low) * size;
    return {best, best, 0};
  }

  void sweep(int64_t first, int64_t last, const Shifts& s) {
    const R ulp = std::numeric_limits<R>::epsilon();
    Vector<R> v(3);
    int64_t m = last - 2;
    for (;; --m) {
      // The first column of (H - s1)(H - s2), from row m on.
      const R size = std::abs(h_(m, m) - s.real2) + std::abs(s.imaginary) + std::abs(h_(m + 1, m));
      const R sub = h_(m + 1, m) / size;
      v(0) = sub * h_(m, m + 1) + (h_(m, m) - s.real1) * ((h_(m, m) - s.real2) / size) +
             s.imaginary * (s.imaginary / size);
      v(1) = sub * (h_(m, m) + h_(m + 1, m + 1) - s.real1 - s.real2);
      v(2) = sub * h_(m + 2, m + 1);
      v /= v.cwiseAbs().sum();
      if (m == first) break;
      const R near = std::abs(h_(m - 1, m - 1)) + std::abs(h_(m, m)) + std::abs(h_(m + 1, m + 1));
      if (std::abs(h_(m, m - 1)) * (std::abs(v(1)) + std::abs(v(2))) <= ulp * std::abs(v(0)) * near) break;
    }
    for (int64_t k = m; k < last; ++k) {
      const int64_t rows = std::min<int64_t>(3, last - k + 1);
      Vector<R> x = k > m ? Vector<R>(h_.col(k - 1).segment(k, rows)) : Vector<R>(v.head(rows));
      const R t = reflector(x);
      if (k > m) {
        h_.col(k - 1).segment(k, rows).setZero();
        h_(k, k - 1) = x(0);
      } else if (m > first) {
        h_(k, k - 1) *= R(1) - t;
      }
      x(0) = 1;
      auto across = h_.block(k, k, rows, last - k + 1);
      across -= (x * t * (x.transpose() * across).eval()).eval();
      auto down = h_.block(first, k, std::min(k + 3, last) - first + 1, rows);
      down -= ((down * x).eval() * t * x.transpose()).eval();
    }
  }

  // Both eigenvalues of a block of two rows.
  void pair(int64_t last) {
    const R a = h_(last - 1, last - 1), b = h_(last - 1, last), c = h_(last, last - 1), d = h_(last, last);
    if (c == R(0)) return set(last - 1, a, 0), set(last, d, 0);
    if (b == R(0)) return set(last - 1, d, 0), set(last, a, 0);
    const R p = (a - d) / 2, size = std::max({std::abs(p), std::abs(b), std::abs(c)});
    const R z = p / size * p + b / size * c;
    if (z >= R(0)) {
      const R root = p + std::copysign(std::sqrt(size) * std::sqrt(z), p);
      if (root == R(0)) return set(last - 1, d, 0), set(last, d, 0);
      return set(last - 1, d + root, 0), set(last, d - b / root * c, 0);
    }
    const R root = std::sqrt(size) * std::sqrt(-z);
    set(last - 1, (a + d) / 2, root), set(last, (a + d) / 2, -root);
  }
};

template <class R>
class SchurOrder<std::complex<R>> : HessenbergForm<std::complex<R>> {
  using T = std::complex<R>;
  using Base = HessenbergForm<T>;
  using Base::block_begin, Base::h_, Base::high_, Base::low_, Base::reflector, Base::size_of, Base::values_;

 public:
  explicit SchurOrder(Matrix<T> a) : Base(std::move(a)) {}

  std::optional<std::vector<T>> values() {
    for (int64_t i = low_ + 1; i <= high_; ++i) make_real(i, low_, high_);
    for (int64_t last = high_; last >= low_;) {
      const int64_t first = deflate(last);
      if (first < 0) return std::nullopt;
      values_[static_cast<size_t>(last)] = h_(last, last);
      last = first - 1;
    }
    return values_;
  }

 private:
  // Turns basis vector i so that the element under the diagonal in column i - 1 is real.
  void make_real(int64_t i, int64_t first, int64_t last) {
    const T sub = h_(i, i - 1);
    if (sub.imag() == R(0)) return;
    const R size = std::abs(sub);
    const T turn = sub / size;
    h_(i, i - 1) = size;
    // The diagonal element stays: both turns meet there.
    h_.row(i).segment(i + 1, last - i) *= std::conj(turn);
    h_.col(i).segment(first, i - first) *= turn;
    if (i < last) h_(i + 1, i) *= turn;
  }

  // Iterates until the block that ends at `last` has one row; its place, or -1.
  int64_t deflate(int64_t last) {
    int64_t first = low_;
    const int64_t limit = 30 * std::max<int64_t>(10, high_ - low_ + 1);
    for (int64_t round = 1; round <= limit; ++round) {
      first = block_begin(first, last);
      if (first > low_) h_(first, first - 1) = 0;
      if (first >= last) return last;
      sweep(first, last, shift(first, last, round));
    }
    return -1;
  }

  // Of the last two rows the eigenvalue that is nearer to the last element. Every tenth round something else.
  T shift(int64_t first, int64_t last, int64_t round) const {
    if (round % 20 == 0) return R(0.75) * std::abs(h_(last, last - 1).real()) + h_(last, last);
    if (round % 10 == 0) return R(0.75) * std::abs(h_(first + 1, first).real()) + h_(first, first);
    const T end = h_(last, last), u = std::sqrt(h_(last - 1, last)) * std::sqrt(h_(last, last - 1));
    if (size_of(u) == R(0)) return end;
    const T x = R(0.5) * (h_(last - 1, last - 1) - end);
    const R s = std::max(size_of(u), size_of(x));
    T y = s * std::sqrt(x / s * (x / s) + u / s * (u / s));
    if (x.real() * y.real() + x.imag() * y.imag() < R(0)) y = -y;
    return end - u * (u / (x + y));
  }

  void sweep(int64_t first, int64_t last, const T& shift) {
    const R ulp = std::numeric_limits<R>::epsilon();
    Vector<T> v(2);
    int64_t m = last - 1;
    for (;; --m) {
      // The first column of H - shift, from row m on.
      const T own = h_(m, m) - shift;
      const R sub = h_(m + 1, m).real(), size = size_of(own) + std::abs(sub);
      v(0) = own / size, v(1) = sub / size;
      if (m == first) break;
      const R near = size_of(h_(m, m)) + size_of(h_(m + 1, m + 1));
      if (std::abs(h_(m, m - 1).real()) * std::abs(v(1)) <= ulp * (size_of(v(0)) * near)) break;
    }
    for (int64_t k = m; k < last; ++k) {
      Vector<T> x = k > m ? Vector<T>(h_.col(k - 1).segment(k, 2)) : v;
      const T t = reflector(x);
      if (k > m) h_(k, k - 1) = x(0), h_(k + 1, k - 1) = 0;
      x(0) = 1;
      auto across = h_.block(k, k, 2, last - k + 1);
      across -= (x * std::conj(t) * (x.adjoint() * across).eval()).eval();
      auto down = h_.block(first, k, std::min(k + 2, last) - first + 1, 2);
      down -= ((down * x).eval() * t * x.adjoint()).eval();
      if (k > m || m == first) continue;
      // The element before the block's first row was real and is no more.
      const T turn = (R(1) - t) / std::abs(R(1) - t);
      h_(m + 1, m) *= std::conj(turn);
      if (m + 2 <= last) h_(m + 2, m + 1) *= turn;
      for (int64_t j = m; j <= last; ++j) {
        if (j == m + 1) continue;
        h_.row(j).segment(j + 1, last - j) *= turn;
        h_.col(j).segment(first, j - first) *= std::conj(turn);
      }
    }
    make_real(last, first, last);
  }
};

}  // namespace toroid::library
