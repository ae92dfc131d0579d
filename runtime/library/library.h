// Functions over whole tensors that models call for what is no loop nest (TdFunction of model_abi.h). Linked into the
// models that use them, and into the compiler, whose interpreter calls the same ones.
//   nonzero             (x: any number type) -> i64[count, rank]: where x is not 0, in row-major order
//   argsort_rows        (x: [n, m]) -> i64[n]: the order that sorts the rows, the first column first; stable, NaN last;
//                       attribute 0: 1 for descending
//   inverse_permutation (order: i64[n]) -> i64[n]
//   repeat_positions    (ends: i64[n], not falling) -> i64[ends[n - 1]]: for each k the first i with ends[i] > k
//   cholesky, lu, lu_permutation, lu_solve, solve_triangular, geqrf, householder_product, svd, eigh, matrix_exp, eig,
//   ldl, ldl_solve      (linalg.cpp, svd.cpp and spectra.cpp say what each takes and gives)
#pragma once
#include <string_view>

#include "../model_abi.h"

namespace toroid::runtime {

// Null when there is no such function; its C name is td_call_<name>.
TdFunction find_library_function(std::string_view name);

}  // namespace toroid::runtime
