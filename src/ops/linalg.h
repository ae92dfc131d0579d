// Rows of factorisations and what follows from them; shapes and calls that their files share.
#pragma once
#include <functional>
#include <initializer_list>
#include <vector>

#include "ops/rules.h"

namespace toroid {

void add_linalg_ops(OpTable& ops);
void add_composed_linalg_ops(OpTable& ops);
void add_spectral_ops(OpTable& ops);  // qr, singular values, eigenvalues, the exponential

namespace linalg {

using Values = Result<std::vector<LoopValue>>;

// Sizes of a stack of matrices.
SymList batch_of(const SymList& sizes);
SymList with(SymList batch, std::initializer_list<Sym> dims);
inline Sym rows_of(const SymList& sizes) { return sizes[sizes.size() - 2]; }
inline Sym columns_of(const SymList& sizes) { return sizes.back(); }
inline Sym rank_of(const SymList& sizes) { return sym_min(rows_of(sizes), columns_of(sizes)); }

// The argument as a matrix of a type that the library knows: real or complex, f32 or f64.
Result<LoopValue> matrix(const LowerCall& call, const char* name);
LoopValue transposed(LoopBuilder& b, const LoopValue& a);
// Transposed and conjugated.
LoopValue adjoint(LoopBuilder& b, const LoopValue& a);
// A function of runtime/library (linalg.cpp, svd.cpp, spectra.cpp).
std::vector<LoopValue> library(LoopBuilder& b, const std::string& function, const std::vector<LoopValue>& operands,
                               SymList attributes, const std::vector<LoopBuilder::CallResult>& results);
// The part on and above (or below) the diagonal, cut to `sizes`; elsewhere 0. `unit`: the diagonal is 1.
LoopValue triangle(LoopBuilder& b, const LoopValue& a, bool upper, const SymList& sizes, bool unit);

// A result whose strides are the archive's.
TensorType typed(const Call& call, DType dtype, SymList sizes);
const TensorType& first(const Call& call);
void add(OpTable& ops, const char* name, std::function<Types(const Call&)> infer,
         std::function<Values(LoopBuilder&, const LowerCall&)> lower, std::initializer_list<const char*> samples = {});

}  // namespace linalg
}  // namespace toroid
