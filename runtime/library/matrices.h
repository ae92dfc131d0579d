// Stacks of matrices in the tensors of a call, as Eigen's; f over the element type of the first input.
#pragma once
#define EIGEN_MPL2_ONLY
#define EIGEN_NO_DEBUG
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <complex>
#include <new>
#include <type_traits>

#include "views.h"

namespace toroid::library {

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
  using Number = T;
  using Real = typename Eigen::NumTraits<T>::Real;
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
  auto run = [&](auto frame) {
    f(frame);
    return frame.failed ? no_memory(call) : 0;
  };
  try {
    switch (call->inputs[0].dtype) {
      case TD_F32: return run(Frame<float>{call});
      case TD_F64: return run(Frame<double>{call});
      case TD_C64: return run(Frame<std::complex<float>>{call});
      case TD_C128: return run(Frame<std::complex<double>>{call});
      default: return refuse(call, 5, "a factorisation of an unknown element type");
    }
  } catch (const std::bad_alloc&) {
    return no_memory(call);
  }
}

// The type that spectra are found in: as accurate as f32 can hold, and compiled once.
template <class T>
using Wide = std::conditional_t<Eigen::NumTraits<T>::IsComplex, std::complex<double>, double>;

// The size that pivots are compared by: of a complex number the sum of its parts' sizes.
inline float pivot_size(float x) { return std::abs(x); }
inline double pivot_size(double x) { return std::abs(x); }
template <class R>
R pivot_size(std::complex<R> x) {
  return std::abs(x.real()) + std::abs(x.imag());
}

}  // namespace toroid::library
