// Loop IR: a program as tensors given by scalar expressions over index spaces; no storage, no order of loops.
//   %m[i0] = sum(j0 in 64: %x[i0, j0]) / 64.0        i0 in s0
// Expressions live in one pool, hash-consed, so equal expressions have equal ids. A view has no tensor of its own: it
// is an index substitution in the loads of whoever reads it.
//
// Registers: bf16, f16 and float8 tensors load as f32 and round once where a tensor is stored (Tensor::dtype); the
// types of expressions are thus f32, f64, the integers and bool.
#pragma once
#include <deque>
#include <functional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/id.h"
#include "graph/graph.h"
#include "sym/sym.h"

namespace toroid {

using ExprId = Id<struct ExprTag>;
using TensorId = Id<struct LoopTensorTag>;
using CallId = Id<struct CallTag>;

enum class ScalarOp : uint8_t {
#define SCALAR_OP(name, args, type) name,
#include "loop/scalar_ops.def"
#undef SCALAR_OP
};
const char* scalar_op_name(ScalarOp op);
int scalar_op_args(ScalarOp op);
std::optional<ScalarOp> scalar_op_from_name(std::string_view name);
enum class ScalarType : uint8_t { same, floating, integer, logical, compare, choose, special };
ScalarType scalar_op_type(ScalarOp op);

// argmax and argmin reduce (value) to the int64 position in the flattened reduced space: first on ties, first NaN wins.
enum class ReduceOp : uint8_t { sum, prod, min, max, any, all, argmin, argmax };
const char* reduce_op_name(ReduceOp op);
std::optional<ReduceOp> reduce_op_from_name(std::string_view name);

enum class ExprKind : uint8_t {
  constant,  // number (floats, bool) of type dtype; integers are `index` expressions without symbols
  index,     // sym, of type i64
  load,      // tensor at args (each of type i64)
  op,        // op(args)
  reduce,    // reduce over vars of args[0]; only at the root of a tensor's body or inside an op there
  scan,      // inclusive running reduce along one var: args[0] over vars[0], read at args[1] (an index expression)
  local,     // Schedule only: a named scalar of the kernel, %l0
  // The whole of a tensor's body: what a routine (routines.h, number `local`) makes of whole tensors. args: a load of
  // each at index 0, then its integers (index expressions), then its numbers (f64 constants).
  routine,
};

struct Expr {
  ExprKind kind = ExprKind::constant;
  DType dtype = DType::f32;  // register type: never bf16, f16
  double number = 0;
  Sym sym = 0;
  ScalarOp op = ScalarOp::add;
  DType rounding = DType::f32;  // round_to: the storage type
  ReduceOp reduce = ReduceOp::sum;
  TensorId tensor;
  int32_t local = -1;
  std::vector<ExprId> args;
  SymList vars;  // reduce, scan: index variables, outermost first
};

// The type a tensor of this dtype has in a register.
DType register_type(DType dtype);
// The type of a complex type's parts (c64: f32), or the type itself.
DType part_type(DType dtype);
DType complex_of_parts(DType part);

// What a lowering cannot do, found where no Result can travel; caught where lowerings are called.
struct Refused {
  Diagnostic diagnostic;
};
[[noreturn]] void refuse(std::string text);

// Bound variables (of reduce and scan) are named by the pool: j0, j1, … upwards from the innermost, each above every
// name bound inside its body and none that is free there. So reduces that differ in names alone are one expression, and
// a variable that is substituted into a body never falls under a binder inside it. Callers may give any names, best
// those of `fresh`.
class ExprPool {
 public:
  // The reference stays good while expressions are added.
  const Expr& operator[](ExprId id) const { return exprs_[static_cast<size_t>(id.index)]; }
  size_t size() const { return exprs_.size(); }
  ExprId add(Expr expr);  // finds an equal one first

  ExprId constant(double number, DType dtype);  // an integer as `integer` makes it
  ExprId integer(int64_t value, DType dtype);   // an index expression for i64, a cvt of one for other integers
  ExprId index(const Sym& sym);                 // type i64
  ExprId load(TensorId tensor, DType dtype, std::vector<ExprId> indices);
  // Builds an op with light simplification: constants fold, x-0, x*1, where of a constant; i64 arithmetic on index
  // expressions becomes Sym arithmetic, and what sym.h proves of them becomes true or false. x+0.0 stays (it turns -0.0
  // to 0.0). Argument types must already agree (the op's row tells). Not for cvt and round_to.
  ExprId op(ScalarOp op, std::vector<ExprId> args);
  ExprId cvt(ExprId x, DType to);  // to a register type; the identity when equal
  ExprId round_to(ExprId x, DType storage);
  ExprId bitcast(ExprId x, DType to);  // between register types of one size; the identity when equal
  ExprId routine(int32_t number, DType dtype, std::vector<ExprId> args);
  // Complex numbers (complex.cpp): a pair of parts, and its parts again.
  ExprId pair(ExprId re, ExprId im);
  ExprId real(ExprId x);
  ExprId imag(ExprId x);
  // A variable of extent 1 disappears; so does a reduce without variables.
  ExprId reduce(ReduceOp op, SymList vars, ExprId body);
  ExprId scan(ReduceOp op, const Sym& var, ExprId body, ExprId at);
  // An index variable with a name that nothing else has.
  Sym fresh(const Sym& extent);

  std::optional<Sym> as_index(ExprId id) const;        // when it is an index expression
  std::optional<double> as_constant(ExprId id) const;  // numbers, bools, integers without symbols
  std::optional<int64_t> as_integer(ExprId id) const;  // integers without symbols, exactly

  // A copy with index symbols replaced, and each load replaced by what `on_load` returns (when it returns a valid id).
  // Under a reduce, `on_load` sees the bound variables by fresh names.
  ExprId rewrite(ExprId id, const std::map<std::string, Sym>& symbols,
                 const std::function<ExprId(const Expr& load, const std::vector<ExprId>& indices)>& on_load = nullptr);
  // Replaces index symbols by expressions of type i64 (for data-dependent indices).
  ExprId substitute(ExprId id, const std::map<std::string, ExprId>& symbols);

  // Every expression below the roots and they themselves, arguments first, each once.
  std::vector<ExprId> postorder(const std::vector<ExprId>& roots) const;
  // The symbols that occur in it and are not bound in it, sorted; sizes (s0) as well as index variables.
  std::vector<std::string> free_symbols(ExprId id) const;
  bool depends_on(ExprId id, const std::string& symbol) const;
  bool has_kind(ExprId id, ExprKind kind) const;  // somewhere in it

 private:
  friend struct Rewriter;
  struct Info {
    std::vector<int32_t> free;  // indices into names_, sorted
    int32_t height = 0;         // one more than the greatest j number bound in it
    uint8_t kinds = 0;          // a bit per ExprKind that occurs in it
  };
  int32_t name_id(const std::string& name);
  bool is_free(int32_t name, ExprId id) const;
  Info describe(const Expr& expr);
  ExprId index_op(ScalarOp op, const std::vector<ExprId>& args);  // invalid when it stays an op
  ExprId simplified(ScalarOp op, const std::vector<ExprId>& args);
  ExprId complex_op(ScalarOp op, const std::vector<ExprId>& args);
  ExprId complex_cvt(ExprId x, DType to);
  SymList bind(SymList vars, ExprId& body);

  std::deque<Expr> exprs_;
  std::deque<Info> info_;
  std::unordered_multimap<size_t, int32_t> by_hash_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, int32_t> name_ids_;
  int64_t fresh_count_ = 0;
};

// The extent of an index variable.
Sym extent_of(const Sym& var);

enum class TensorKind : uint8_t { input, weight, constant, computed, called };

struct LoopTensor {
  std::string name;  // as in the graph; helpers of a lowering are name.mean, name.max
  TensorKind kind = TensorKind::computed;
  DType dtype = DType::f32;  // storage type
  SymList sizes;
  SymList vars;     // computed: one index variable per dim (i0 in s0, …)
  ExprId body;      // computed
  CallId call;      // called: which call gives it
  SymList strides;  // input, weight: memory layout; computed: the layout the graph's value has in PyTorch (a wish)
  // Complex numbers: of dtype f32, f64 or f16, with a last dim of two, real and imaginary part.
  bool pairs = false;
  Device device;
  int32_t input = -1;           // input: position in Loops::inputs
  WeightId weight;              // weight
  std::vector<std::byte> data;  // constant: contiguous elements
  Where where;
};

struct LoopOutput {
  GraphOutput target;  // name, kind, mutation target; its ValueId is not used here
  TensorId tensor;     // invalid for scalar outputs
  SymList strides;     // the strides that the caller gets
  // When `alias_input` >= 0, the output is memory of that input, returned without a copy: `sizes` and `strides` from
  // element `offset` on; `tensor` is then the input's tensor. `sizes` and `offset` are not used otherwise.
  int32_t alias_input = -1;
  SymList sizes;
  Sym offset = 0;
};

// What is no loop nest: whole tensors in, whole tensors (row-major) out. `function` is one of the library (calls.h,
// e.g. "nonzero"), a plug-in's op ("my::op"), or control flow over programs of its own, each of which reads operands as
// its inputs and gives its outputs:
//   cond   operands...; attributes: the condition, or none when operand 0 is it; bodies: if true, if false
//   while  carried..., others...; attributes: how many are carried; bodies: the condition, the step
//   scan   carried..., walked..., others...; attributes: how many are carried, how many are walked along dim 0, how
//   many
//          steps, 1 for backwards; body: the step, which gives the carried ones and then a row of each other result
struct Loops;
struct LoopCall {
  std::string function;
  std::vector<TensorId> operands, results;
  SymList attributes;  // a float is a call over doubles, as in sym.h
  std::vector<Loops> bodies;
  Where where;
};

// A symbol whose value is read from a tensor of one element (an integer, a bool, or a double as its bits) once that is
// there.
struct SymbolRead {
  std::string symbol;
  TensorId tensor;
};

// A whole program after lowering.
struct Loops {
  std::string name = "model";
  std::vector<SymbolInfo> symbols;
  std::vector<GraphInput> inputs;       // as in the graph (ValueId unused); tensors point back by LoopTensor::input
  std::vector<TensorId> input_tensors;  // per input; invalid for scalars
  std::vector<LoopOutput> outputs;
  // Inputs in their order, then weights in the order of `weights` (those in use), then the rest, producers before
  // users.
  std::vector<LoopTensor> tensors;
  std::vector<LoopCall> calls;  // in the order of their results
  std::vector<SymbolRead> symbol_reads;
  std::vector<Weight> weights;
  std::vector<Storage> storages;
  std::vector<Guard> guards;
  std::string in_spec, out_spec;
  ExprPool pool;

  LoopCall& operator[](CallId id) { return calls[static_cast<size_t>(id.index)]; }
  const LoopCall& operator[](CallId id) const { return calls[static_cast<size_t>(id.index)]; }
  LoopTensor& operator[](TensorId id) { return tensors[static_cast<size_t>(id.index)]; }
  const LoopTensor& operator[](TensorId id) const { return tensors[static_cast<size_t>(id.index)]; }
  TensorId add(LoopTensor tensor);
};

// Sizes and strides of complex elements as pairs of parts, and back.
SymList pair_sizes(SymList sizes);
SymList pair_strides(const SymList& strides);
// What a tensor is to the caller: complex where it holds pairs.
TensorType outer_type(const LoopTensor& tensor);
SymList outer_strides(const LoopTensor& tensor, const SymList& strides);

// Names of shared parts are t0, t1, … from `first_name` on.
std::string print_expr(const Loops& loops, ExprId id, int first_name = 0);
// The text form, and back. Grammar: docs/grammar-loops.md. Weights keep name and type; their bytes come from elsewhere.
std::string print_loops(const Loops& loops);
Result<Loops> parse_loops(std::string_view text);
// Checks what the head of verify.cpp lists; a broken rule is an internal error that names the tensor.
void verify_loops(const Loops& loops);
// Removes tensors that no output needs (inputs stay) and expressions that no tensor uses. Tensor and expression ids
// change.
void drop_dead(Loops& loops);
// The symbols that a call needs from outside: in its attributes, in the programs it runs.
void collect_call_symbols(const LoopCall& call, std::set<std::string>& names);
// The tensors that a computed or called tensor is made from, each once.
std::vector<TensorId> sources_of(const Loops& loops, TensorId id);
// The tensors that id loads from, each once.
std::vector<TensorId> loaded_tensors(const Loops& loops, ExprId id);

}  // namespace toroid
