// The op table: one row per op. A row says what the result's type is and how it becomes loops; everything else about
// the op (argument names, defaults, which results are views, which arguments are written) is its schema's.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/graph.h"
#include "ops/loop_builder.h"
#include "ops/schema.h"

namespace toroid {

// A node's arguments by schema name, with types of the tensors they name. Getters with a wrong kind are internal
// errors, since the importer has checked them against the schema.
class Call {
 public:
  Call(const Graph& graph, const Node& node, const Schema& schema) : graph_(graph), node_(node), schema_(schema) {}
  const Graph& graph() const { return graph_; }
  const Node& node() const { return node_; }
  const Schema& schema() const { return schema_; }
  const std::string& op() const { return node_.op; }

  bool has(std::string_view name) const;  // the schema has it and it is not None
  const Arg& arg(std::string_view name) const;
  ValueId value(std::string_view name) const;
  std::vector<ValueId> values(std::string_view name) const;
  const TensorType& type(std::string_view name) const;
  const TensorType& type(ValueId id) const { return graph_[id].type; }
  Sym integer(std::string_view name) const;                      // int, bool as 0/1
  int64_t constant(std::string_view name) const;                 // an integer that must be known
  SymList integers(std::string_view name) const;                 // a single int is a list of one
  SymList integers(std::string_view name, size_t length) const;  // int[2]: one stands for all
  double number(std::string_view name) const;                    // float or int
  bool flag(std::string_view name) const;
  std::string text(std::string_view name) const;
  std::optional<DType> dtype(std::string_view name) const;
  // The type category of a Scalar argument: 0 bool, 1 integer, 2 float, 3 complex.
  int scalar_category(std::string_view name) const;
  int64_t dim(std::string_view name, int64_t rank) const;                // wrapped to [0, rank)
  std::vector<int64_t> dims(std::string_view name, int64_t rank) const;  // wrapped, sorted; all when empty or None

 private:
  const Graph& graph_;
  const Node& node_;
  const Schema& schema_;
};

// What a lowering sees beside the call: the LoopValue of each tensor argument.
class LowerCall : public Call {
 public:
  using Read = std::function<LoopValue(ValueId)>;
  LowerCall(const Graph& graph, const Node& node, const Schema& schema, Read read)
      : Call(graph, node, schema), read_(std::move(read)) {}
  LoopValue tensor(std::string_view name) const { return read_(value(name)); }
  LoopValue tensor(ValueId id) const { return read_(id); }
  // A Scalar argument as an expression of register_type(dtype); symbolic values too.
  ExprId scalar(LoopBuilder& b, std::string_view name, DType dtype) const;
  const TensorType& result(size_t i = 0) const { return graph().operator[](node().outputs[i]).type; }

 private:
  Read read_;
};

using InferRule = std::function<Result<std::vector<TensorType>>(const Call&)>;
using LowerRule = std::function<Result<std::vector<LoopValue>>(LoopBuilder&, const LowerCall&)>;
using LowerOne = std::function<Result<LoopValue>(LoopBuilder&, const LowerCall&)>;
// The inverse of a view op for writes through it: the base's new contents when `value` is written to view(base).
using ScatterRule =
    std::function<Result<LoopValue>(LoopBuilder&, const LowerCall&, const LoopValue& base, const LoopValue& value)>;

struct OpRow {
  std::string name;
  InferRule infer_rule;  // result types: dtype, sizes, strides
  LowerRule lower_rule;
  bool is_view = false;                        // lowering only substitutes indices; nothing is materialised
  std::function<bool(const Call&)> view_if;    // is_view holds for some calls only: `to` that keeps the dtype
  bool is_random = false;                      // never merged or folded
  std::function<bool(const Call&)> random_if;  // is_random holds for some calls only: attention with dropout
  bool no_result = false;            // assertions and the like: dropped after import, their condition is a guard
  std::vector<std::string> samples;  // graph texts of one node for the generic test, see tests/ops

  // lower_rule, with what it refuses below as its failure.
  Result<std::vector<LoopValue>> lowered(LoopBuilder& b, const LowerCall& call) const;

  // For chaining in add_…_ops.
  OpRow& infer(InferRule rule) {
    infer_rule = std::move(rule);
    return *this;
  }
  OpRow& lower(LowerOne rule);
  OpRow& lower_many(LowerRule rule) {
    lower_rule = std::move(rule);
    return *this;
  }
  OpRow& view() {
    is_view = true;
    return *this;
  }
  OpRow& view_when(std::function<bool(const Call&)> rule) {
    view_if = std::move(rule);
    return view();
  }
  bool views(const Call& call) const { return is_view && (!view_if || view_if(call)); }
  // The call draws random numbers: dropout in evaluation is a view.
  bool draws(const Call& call) const {
    return is_random && !(view_if && view_if(call)) && (!random_if || random_if(call));
  }
  OpRow& random_when(std::function<bool(const Call&)> rule) {
    random_if = std::move(rule);
    return random();
  }
  OpRow& random() {
    is_random = true;
    return *this;
  }
  OpRow& sample(std::string text) {
    samples.push_back(std::move(text));
    return *this;
  }
};

class OpTable {
 public:
  // The whole table; built once, then constant.
  static const OpTable& all();
  OpRow& add(std::string name);  // aten.relu.default
  const OpRow* find(std::string_view name) const;
  std::vector<std::string> names() const;  // sorted
  std::vector<std::string> like(std::string_view part) const;

 private:
  std::unordered_map<std::string, std::unique_ptr<OpRow>> rows_;
};

// One function per file of rows; op_table.cpp calls each by name.
void add_pointwise_ops(OpTable& ops);
void add_compare_ops(OpTable& ops);  // comparisons, logic, bits, where, masked_fill
void add_activation_ops(OpTable& ops);
void add_creation_ops(OpTable& ops);
void add_view_ops(OpTable& ops);
void add_slice_ops(OpTable& ops);  // slice, select, split, …
void add_join_ops(OpTable& ops);   // cat, stack, pad, …
void add_reduction_ops(OpTable& ops);
void add_norm_ops(OpTable& ops);
void add_matmul_ops(OpTable& ops);
void add_conv_ops(OpTable& ops);
void add_pool_ops(OpTable& ops);
void add_pool_gradient_ops(OpTable& ops);      // and of padding
void add_resample_gradient_ops(OpTable& ops);  // and antialiased resizing
void add_resample_ops(OpTable& ops);           // upsample_…
void add_index_ops(OpTable& ops);
void add_attention_ops(OpTable& ops);
void add_recurrent_ops(OpTable& ops);
void add_scatter_ops(OpTable& ops);  // slice_scatter, select_scatter, copy, index_put
void add_loss_ops(OpTable& ops);
void add_dynamic_ops(OpTable& ops);  // nonzero, unique, …: results whose sizes data decide
void add_special_ops(OpTable& ops);  // special functions, bits of floats
void add_sort_ops(OpTable& ops);     // sort, top-k, kth value, median, mode, searches
void add_scan_ops(OpTable& ops);     // running maxima, log-sum-exp
void add_random_ops(OpTable& ops);
void add_complex_ops(OpTable& ops);
void add_fft_ops(OpTable& ops);
void add_composed_view_ops(OpTable& ops);
void add_composed_math_ops(OpTable& ops);
void add_composed_loss_ops(OpTable& ops);
void add_composed_index_ops(OpTable& ops);
void add_composed_norm_ops(OpTable& ops);
void add_composed_gradient_ops(OpTable& ops);
void add_grid_ops(OpTable& ops);  // reads at computed coordinates
void add_window_ops(OpTable& ops);
void add_bit_ops(OpTable& ops);  // the same bytes as another type
void add_aliases(OpTable& ops);  // second names; after all others

// Type promotion (c10's table): of two dtypes, and of a call's tensors and scalars by PyTorch's rule that a wrapped
// number or a 0-d tensor of the same or a lower category does not widen.
DType promote(DType a, DType b);
DType promoted(const Call& call, const std::vector<std::string>& args);
// Broadcast of sizes; an error names both.
Result<SymList> broadcast_sizes(const SymList& a, const SymList& b);
// The strides that TensorIterator gives a pointwise result of these inputs: their common memory order, else row-major.
SymList pointwise_strides(const SymList& sizes, const std::vector<const TensorType*>& inputs);

}  // namespace toroid
