// What rows share beside LoopBuilder: result types by rule, operands that may be tensors or numbers, and small helpers.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ops/op_table.h"

namespace toroid {

using Types = Result<std::vector<TensorType>>;

// ---- types
inline bool is_one(const Sym& a) { return a.is_constant() && a.value() == 1; }
inline bool is_zero(const Sym& a) { return a.is_constant() && a.value() == 0; }
Types one(TensorType type);
// The device argument where there is one, else the first tensor's, else the CPU.
Device device_of(const Call& call);
TensorType contiguous_type(const Call& call, DType dtype, SymList sizes);
// Like contiguous_type, with strides not claimed: the importer takes the archive's.
TensorType unclaimed_type(const Call& call, DType dtype, SymList sizes);
bool is_contiguous(const TensorType& type);     // row-major, sizes of 1 apart
bool is_channels_last(const TensorType& type);  // NHWC or NDHWC in memory
SymList channels_last_strides(const SymList& sizes);
// The dims outermost first, when the elements fill a block of memory without gaps or overlap.
std::optional<std::vector<int>> dense_order(const TensorType& type);
// clone with memory_format preserve: a dense tensor keeps its strides, any other becomes dense in its stride order.
SymList preserved_strides(const TensorType& type);
// Strides of a view of `type` with these sizes; nothing when it needs a copy.
std::optional<SymList> view_strides(const TensorType& type, const SymList& sizes);
// Where a slice, select or narrow begins in what it views, in elements; nothing for any other op.
std::optional<Sym> offset_in_viewed(const Call& call);
// Strides by a memory_format argument's value: preserve (also when None) or a given format.
SymList format_strides(const Call& call, const TensorType& type);

inline DType float_dtype(DType d) { return is_float(d) || is_complex(d) ? d : DType::f32; }
inline DType sum_dtype(DType d) { return is_float(d) || is_complex(d) ? d : DType::i64; }
// The type that sums and normalisations of `d` run in.
inline DType accumulate_type(DType d) {
  if (is_complex(d)) return d == DType::c128 ? DType::c128 : DType::c64;
  return d == DType::f64 ? DType::f64 : is_float(d) ? DType::f32 : DType::i64;
}

// ---- pointwise rows
enum class Out {
  promoted,  // add: the promoted type
  floating,  // exp: integers become f32
  boolean,   // eq: computed in the promoted type, bool comes out
  first,     // clamp's neighbours that keep the first argument's type
  parts,     // abs: computed in the promoted type; of complex numbers the type of their parts comes out
  counted,   // square: truths become i64
};
bool is_tensor(const Call& call, std::string_view name);  // a tensor: neither a number nor None
DType compute_dtype(const Call& call, const std::vector<std::string>& args, Out out);
InferRule pointwise(std::vector<std::string> args, Out out = Out::promoted);
// The sizes and strides of a pointwise result of the tensors among `args`.
Result<TensorType> pointwise_type(const Call& call, const std::vector<std::string>& args, DType dtype);
DType map_result(DType compute, Out out);
// A tensor converted to dtype, or a number as a 0-d value. `round`: a number meets the storage type first, as
// comparisons and additions of low precision do; products keep it in f32.
LoopValue operand(LoopBuilder& b, const LowerCall& call, const std::string& name, DType dtype, bool round = false);

// f of the operands in the computing type; what it returns is converted to the result's type.
struct MapCall {
  LoopBuilder& b;
  LowerCall call;                     // a copy: the rule runs when the element is asked for
  DType type;                         // the computing type as storage, e.g. bf16
  ExprId number(double value) const;  // in the computing type's register
  ExprId scalar(std::string_view name) const { return call.scalar(b, name, type); }
};
using MapRule = std::function<Result<ExprId>(const MapCall&, const std::vector<ExprId>&)>;
LowerOne mapped(std::vector<std::string> args, Out out, MapRule f, bool round_numbers = false);
// Adds a row that maps `args`.
OpRow& add_map(OpTable& ops, const std::string& name, std::vector<std::string> args, Out out, MapRule f,
               bool round_numbers = false);

// ---- orders of dims
inline size_t at(int64_t dim) { return static_cast<size_t>(dim); }
std::vector<int> dim_last(int64_t rank, int64_t dim);           // the others in their order, then dim
std::vector<int> inverse_order(const std::vector<int>& order);  // what undoes the permutation

// ---- expressions
ExprId sym_expr(LoopBuilder& b, const Sym& a);  // a symbolic float as an f64 expression
ExprId number_expr(LoopBuilder& b, double value, DType dtype);
ExprId truth(LoopBuilder& b, ExprId x);      // x != 0 as bool; NaN is true
ExprId lowest(LoopBuilder& b, DType dtype);  // -inf, or the least integer
ExprId highest(LoopBuilder& b, DType dtype);
inline ExprId int_expr(LoopBuilder& b, int64_t value) { return b.index(Sym(value)); }
ExprId all_of(LoopBuilder& b, const std::vector<ExprId>& conditions);  // and; true when empty
// index wrapped when negative, then checked against [0, size).
ExprId wrapped_index(LoopBuilder& b, ExprId index, const Sym& size);
ExprId checked_index(LoopBuilder& b, ExprId index, const Sym& size);
// An integer that is not 0, or the kernel fails; a float as it is.
ExprId checked_divisor(LoopBuilder& b, ExprId divisor);
ExprId sum_expr(LoopBuilder& b, ExprId x, ExprId y);      // bool: or
ExprId product_expr(LoopBuilder& b, ExprId x, ExprId y);  // bool: and
ExprId min_expr(LoopBuilder& b, ExprId x, ExprId y);      // bool: and
ExprId max_expr(LoopBuilder& b, ExprId x, ExprId y);      // bool: or

// ---- sizes that data decide
// A size that a rule cannot know. The importer takes the archive's instead, or a new unbacked symbol.
Sym unknown_size();
bool is_unknown(const Sym& size);
// How many elements of x are not 0, as one i64.
LoopValue count_nonzero(LoopBuilder& b, const LoopValue& x);
// Their indices in row-major order, i64[count, rank]; `count` is defined or compared with what is there.
LoopValue nonzero_positions(LoopBuilder& b, const LoopValue& x, const Sym& count);

// ---- tensors
// A value with one element.
LoopValue scalar_value(LoopBuilder& b, ExprId x, DType dtype);
// f over one tensor, same sizes; computed in `compute`, stored as `result`.
LoopValue map1(LoopBuilder& b, const LoopValue& x, DType compute, DType result, const std::function<ExprId(ExprId)>& f);
// x of sizes [c] seen as [c, 1, 1, …] so that it broadcasts along dim 1 of a tensor of this rank.
LoopValue per_channel(LoopBuilder& b, const LoopValue& x, int64_t rank);
// Mean over dims in type `compute`, materialised under `suffix`.
LoopValue mean_over(LoopBuilder& b, const LoopValue& x, const std::vector<int64_t>& dims, bool keepdim, DType compute,
                    const std::string& suffix);
// sum of (x - mean)^2 over dims: two passes, since one pass cancels.
LoopValue squared_deviations(LoopBuilder& b, const LoopValue& x, const LoopValue& kept_mean,
                             const std::vector<int64_t>& dims, bool keepdim, DType compute, const std::string& suffix);
// Sizes with dims removed, or set to 1.
SymList reduced_sizes(const SymList& sizes, const std::vector<int64_t>& dims, bool keepdim);
Sym count_of(const SymList& sizes, const std::vector<int64_t>& dims);
// Sizes with one -1 solved for.
Result<SymList> solved_sizes(const SymList& wanted, const SymList& old);

}  // namespace toroid
