// Singular values and vectors of matrices, over batches, found in double whatever the matrices are of.
#include "matrices.h"

#include <Eigen/SVD>

#include "library.h"

using namespace toroid::library;

extern "C" {

// (a [m, n]) -> u, s, v^T (the adjoint of v), or s alone; attributes: full matrices, all three
int32_t td_call_svd(const TdCall* call) {
  return over_type(call, [](auto& frame) {
    auto a = frame.in(0);
    const bool full = frame.flag(0), all = frame.flag(1);
    auto s = frame.template out<typename std::decay_t<decltype(frame)>::Real>(all ? 1 : 0, 1);
    using T = typename std::decay_t<decltype(frame)>::Number;
    for (int64_t i = 0; i < a.count() && !frame.failed; ++i) {
      const Matrix<Wide<T>> matrix = a[i].template cast<Wide<T>>();
      const int options = !all   ? 0
                          : full ? Eigen::ComputeFullU | Eigen::ComputeFullV
                                 : Eigen::ComputeThinU | Eigen::ComputeThinV;
      if (matrix.size() == 0) {
        if (all) frame.out(0)[i].setIdentity(), frame.out(2)[i].setIdentity();
        continue;
      }
      if (!matrix.allFinite()) {
        for (int64_t k = 0; k < s.rows(); ++k) s.at(i)[k] = std::nanf("");
        if (all) frame.out(0)[i].setConstant(T(std::nanf(""))), frame.out(2)[i].setConstant(T(std::nanf("")));
        continue;
      }
      const Eigen::BDCSVD<Matrix<Wide<T>>> svd(matrix, options);
      for (int64_t k = 0; k < s.rows(); ++k)
        s.at(i)[k] = static_cast<typename std::decay_t<decltype(frame)>::Real>(svd.singularValues()(k));
      if (!all) continue;
      frame.out(0)[i] = svd.matrixU().template cast<T>();
      frame.out(2)[i] = svd.matrixV().adjoint().template cast<T>();
    }
  });
}
}
