// What op rows lower with: tensors as functions from indices to scalar expressions. A view is a new function around an
// old one; nothing is stored until `materialize`, and the fuser may undo that too.
#pragma once
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "loop/loops.h"

namespace toroid {

using Index = std::vector<ExprId>;  // each of type i64

// A tensor while lowering: `at(index)` is the element's expression (in register type). Copies are cheap.
struct LoopValue {
  DType dtype = DType::f32;  // storage type, as PyTorch sees it
  SymList sizes;
  std::function<ExprId(const Index&)> at;
  int64_t rank() const { return static_cast<int64_t>(sizes.size()); }
};

// Every LoopValue made by a builder refers to it, so the builder must outlive them.
class LoopBuilder {
 public:
  explicit LoopBuilder(Loops& loops);
  Loops& loops() { return loops_; }
  ExprPool& pool() { return loops_.pool; }

  // Scalar expressions. Binary ops convert both sides to `type` first where a DType is given.
  ExprId number(double value, DType storage);  // of register_type(storage)
  ExprId index(const Sym& sym) { return pool().index(sym); }
  ExprId cvt(ExprId x, DType to);  // to register_type(to)
  ExprId op(ScalarOp op, std::vector<ExprId> args) { return pool().op(op, std::move(args)); }
  ExprId add(ExprId a, ExprId b) { return op(ScalarOp::add, {a, b}); }
  ExprId sub(ExprId a, ExprId b) { return op(ScalarOp::sub, {a, b}); }
  ExprId mul(ExprId a, ExprId b) { return op(ScalarOp::mul, {a, b}); }
  ExprId div(ExprId a, ExprId b) { return op(ScalarOp::div, {a, b}); }
  ExprId where(ExprId condition, ExprId a, ExprId b) { return op(ScalarOp::where, {condition, a, b}); }
  DType type(ExprId x) { return pool()[x].dtype; }

  // Tensors.
  LoopValue read(TensorId tensor);
  LoopValue read_parts(TensorId tensor);         // of pairs the parts, not complex numbers
  LoopValue parts_of(const LoopValue& x);        // complex [n] as [n, 2] of its parts; a real one as it is
  LoopValue complex_of(const LoopValue& parts);  // [n, 2] as complex [n]
  LoopValue full(const SymList& sizes, ExprId value, DType dtype);
  LoopValue from(DType dtype, SymList sizes, std::function<ExprId(const Index&)> at) { return {dtype, sizes, at}; }
  // Broadcasts to `sizes` by PyTorch's rule (size 1 or missing dims repeat).
  LoopValue broadcast(const LoopValue& x, const SymList& sizes);
  // One element for each index, all inputs broadcast to `sizes` first and converted to register_type(compute).
  LoopValue map(const std::vector<LoopValue>& inputs, const SymList& sizes, DType compute, DType result,
                std::function<ExprId(const std::vector<ExprId>&)> f);
  LoopValue conjugate(const LoopValue& x);          // a real one as it is
  LoopValue convert(const LoopValue& x, DType to);  // as Tensor.to: rounds to a low-precision type here

  // Views.
  LoopValue permute(const LoopValue& x, const std::vector<int>& order);
  LoopValue transpose(const LoopValue& x, int64_t a, int64_t b);
  LoopValue reshape(const LoopValue& x, const SymList& sizes);  // same number of elements, row-major order
  LoopValue slice(const LoopValue& x, int64_t dim, const Sym& start, const Sym& length, const Sym& step = 1);
  LoopValue select(const LoopValue& x, int64_t dim, const Sym& at);
  LoopValue unsqueeze(const LoopValue& x, int64_t dim);
  LoopValue squeeze(const LoopValue& x, int64_t dim);
  LoopValue flip(const LoopValue& x, const std::vector<int64_t>& dims);
  LoopValue cat(const std::vector<LoopValue>& parts, int64_t dim);
  // Elements outside are `value`; negative amounts cut. before/after: per dim.
  LoopValue pad(const LoopValue& x, const SymList& before, const SymList& after, ExprId value);

  // Reduces over dims (sorted, no duplicates; all when empty). `compute` is the accumulate type.
  LoopValue reduce(ReduceOp op, const LoopValue& x, std::vector<int64_t> dims, bool keepdim, DType compute,
                   DType result, const std::string& suffix);
  LoopValue scan(ReduceOp op, const LoopValue& x, int64_t dim, DType compute, DType result);
  // sum over `k` of f(output index, k indices); the form that matrix products and convolutions are recognised in.
  LoopValue contract(DType dtype, const SymList& sizes, const SymList& k,
                     std::function<ExprId(const Index& out, const Index& k)> f, const std::string& suffix);

  // A tensor that the routine of this name (loop/routines.h) computes from whole tensors, each stored row by row first.
  LoopValue routine(const std::string& name, DType dtype, const SymList& sizes, const std::vector<LoopValue>& inputs,
                    const SymList& integers, const std::vector<double>& numbers = {}, const std::string& suffix = "");
  // A 0-d i64 that differs from call to call of the model and from op to op: the key of an op's random numbers.
  LoopValue random_key();
  void set_random_state(TensorId tensor) { random_state_ = tensor; }  // i64[2]: seed, count of calls
  // Gives x a tensor of its own (named current node's name + suffix) and reads from it. A whole tensor stays as it is.
  LoopValue materialize(const LoopValue& x, const std::string& suffix = "");
  // The tensor that x is the whole of, index by index and of its dtype; else invalid.
  TensorId whole_tensor(const LoopValue& x);
  // A computed tensor with this element at each index; `strides` row-major when empty.
  TensorId compute(DType dtype, const SymList& sizes, const std::function<ExprId(const Index&)>& at, std::string name,
                   SymList strides = {});
  // The results of a call (LoopCall), of these types, from whole tensors; named after the current node. Most functions
  // know no complex numbers, and refuse them.
  struct CallResult {
    DType dtype = DType::f32;
    SymList sizes;
  };
  std::vector<LoopValue> call(const std::string& function, const std::vector<LoopValue>& operands, SymList attributes,
                              const std::vector<CallResult>& results, std::vector<Loops> bodies = {},
                              bool takes_complex = false);
  // The size that `count` (one integer) says: `wanted` when that is a symbol which nothing has defined yet, which is
  // then read from it; else `wanted` is compared with it when the program runs.
  void define_size(const Sym& wanted, const LoopValue& count);
  // A new symbol that is read from `count`.
  Sym read_size(const LoopValue& count);

  // sum, as Sym, of index expressions: linear position in row-major order.
  ExprId linear(const Index& index, const SymList& sizes);
  Index unflatten(ExprId linear, const SymList& sizes);

  // Weights that the program writes: only they may differ from the model's while it runs.
  void set_written(std::set<WeightId> weights) { written_ = std::move(weights); }
  bool is_written(WeightId weight) const { return written_.contains(weight); }
  const std::string& name() const { return name_; }

  // Names and notes of what is made now (set by the lowering for each node).
  void enter(std::string name, Where where);
  // Gives the tensor this name; another tensor that has it is renamed.
  void rename(TensorId tensor, const std::string& name);

 private:
  LoopValue complex_products(const LoopValue& x, const std::vector<bool>& over, bool keepdim, DType compute,
                             bool running, const std::string& suffix);
  std::string unique(const std::string& name) const;
  TensorId one_number(const LoopValue& count);  // the computed tensor of one element that holds it
  Loops& loops_;
  std::unordered_map<std::string, TensorId> names_;
  std::string name_;
  Where where_;
  std::set<WeightId> written_;
  TensorId random_state_;  // invalid: one fixed stream, for samples and types
  int64_t random_ops_ = 0;
};

// Recipes that several rows share (ops/recipes.cpp).
LoopValue softmax(LoopBuilder& b, const LoopValue& x, int64_t dim, DType result, bool log);
// x W^T + bias: x [..., k], weight [n, k].
LoopValue matmul_nt(LoopBuilder& b, const LoopValue& x, const LoopValue& weight, const LoopValue* bias, DType result);
// Batched a[..., m, k] b[..., k, n] with broadcast leading dims.
LoopValue matmul(LoopBuilder& b, const LoopValue& a, const LoopValue& w, DType result);

}  // namespace toroid
