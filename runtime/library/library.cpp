// The table of library functions by name.
#include "library.h"

#include <algorithm>
#include <iterator>

// clang-format would move its rows at each run.
// clang-format off
#define TD_LIBRARY(F) \
  F(nonzero) \
  F(argsort_rows) \
  F(inverse_permutation) \
  F(repeat_positions) \
  F(cholesky) \
  F(lu) \
  F(lu_permutation) \
  F(lu_solve) \
  F(solve_triangular) \
  F(geqrf) \
  F(householder_product) \
  F(svd) \
  F(eigh) \
  F(matrix_exp) \
  F(eig) \
  F(ldl) \
  F(ldl_solve)
// clang-format on

#define TD_DECLARE(name) extern "C" int32_t td_call_##name(const TdCall* call);
TD_LIBRARY(TD_DECLARE)

namespace toroid::runtime {

TdFunction find_library_function(std::string_view name) {
  struct Row {
    std::string_view name;
    TdFunction function;
  };
#define TD_ROW(name) {#name, td_call_##name},
  static constexpr Row rows[] = {TD_LIBRARY(TD_ROW)};
  const Row* row = std::find_if(std::begin(rows), std::end(rows), [&](const Row& r) { return r.name == name; });
  return row == std::end(rows) ? nullptr : row->function;
}

}  // namespace toroid::runtime
