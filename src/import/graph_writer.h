// Takes calls as the user's program made them (in-place ops, views, assertions) and writes a functional graph.
//
// A program's tensor is a handle. It has a storage and, if it is a view, the tensor it is a view of. Writing to a
// tensor gives its storage a new version: `base.add_(1)` becomes `%add = aten.add.Tensor(%base, 1)`, and a write
// through a view scatters into the viewed tensor. A view made before the write is made again when it is next read. The
// importer and the GraphBuilder both stand on this class.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ops/op_table.h"

namespace toroid {

// A tensor of the program: an index of GraphWriter, not a value of the graph. Arguments of calls name handles by
// ValueId.
using Handle = ValueId;

// What is known of one result of a call beforehand.
struct ResultNote {
  std::string name;                // empty: named after the op
  std::optional<TensorType> type;  // what the archive claims; checked against our rule
  bool claimed = true;             // false: `type` only stands in where there is no rule
  std::optional<Sym> storage_offset;
  std::string symbol;  // the size symbol that a host read defines
  bool used = true;    // false: no value is made
};

class GraphWriter {
 public:
  // Ops without a row are kept where `allow_unknown`, and fail status() otherwise.
  GraphWriter(Graph& graph, bool allow_unknown) : graph_(graph), allow_unknown_(allow_unknown) {}

  Handle add_input(const std::string& name, const std::string& user_name, const TensorType& type,
                   const Sym& storage_offset = 0);
  // Weights that are the same view of one storage are one tensor.
  Handle add_weight(Weight weight, const std::string& value_name);

  // One call of the program; `args` in schema order, with handles. Gives a handle for each result (Tensor[] flattened).
  // `notes` may be fewer than the results.
  Result<std::vector<Handle>> call(const std::string& op, const std::vector<Arg>& args,
                                   const std::vector<ResultNote>& notes, const Where& where);
  // The dtype of the region of torch.autocast that the calls from now on stand in; none: outside of any.
  void set_autocast(std::optional<DType> dtype) { autocast_ = dtype; }
  std::optional<DType> autocast() const { return autocast_; }
  // Notes that the program knows the symbols in a size.
  void meet(const Sym& size) { collect_symbols(size, met_); }
  // Overwrites a tensor, as output_specs' mutations ask.
  Status assign(Handle target, ValueId contents);
  // The graph's value that holds the tensor's contents now.
  ValueId read(Handle handle);
  const TensorType& type(Handle handle) const { return tensors_[static_cast<size_t>(handle.index)].type; }
  // A tensor for what an unsupported op would have made, so that the rest of the program can be read.
  Handle placeholder(const ResultNote& note);
  size_t handles() const { return tensors_.size(); }

  // Asserts a condition: nothing when proven, bad_graph when it cannot hold, else a guard.
  Status assert_condition(const Sym& condition, const std::string& text);
  void note_unsupported(const std::string& op, const std::vector<Arg>& args, const std::string& reason,
                        const Where& where);
  void note_unsupported_node(const Node& node, const std::string& reason);
  // Why each refused call was refused, in order; empty: the op has no row.
  const std::vector<std::string>& refusals() const { return refusals_; }
  // The outputs that write weights and inputs back. All unsupported ops of the program are the error. finish() places
  // them before the outputs added so far.
  Result<std::vector<GraphOutput>> write_backs() const;
  // Puts what is known of sizes that depend on data in the place of their names; write_backs() comes before.
  void settle_symbols(Graph& graph) const;
  Status finish();
  // Sizes of symbols at which claims are compared where no proof is found.
  void set_hints(std::map<std::string, int64_t> hints) { hints_ = std::move(hints); }

 private:
  struct Storage {
    ValueId value;  // of the whole, as of `version`
    int64_t version = 0;
    Handle root;                 // the tensor that is the whole
    GraphOutput target;          // mutates: nothing unless it is a weight's or an input's
    bool shared_memory = false;  // another weight overlaps it in another shape
  };
  struct Tensor {
    int32_t storage = -1;
    Handle viewed;  // invalid: the whole storage
    std::string view_op;
    std::vector<Arg> view_args;  // handles; [0] is `viewed`
    size_t view_result = 0;      // which of the view's results
    size_t view_results = 1;
    std::vector<TensorType> view_types;
    ValueId value;
    int64_t version = 0;
    TensorType type;
    Sym storage_offset = 0;
    std::string name;
    Where where;
  };
  struct Unsupported {
    std::string op, reason, place;
    int more = 0;
  };

  void add_unsupported(const std::string& op, const std::string& reason, const Where& where,
                       const std::vector<std::string>& inputs);
  static const Schema& schema_of(const std::string& op);
  Tensor& at(Handle handle) { return tensors_[static_cast<size_t>(handle.index)]; }
  Handle add_storage(ValueId value, const std::string& name);
  // Emits a node over graph values; checks or computes its types.
  Result<std::vector<ValueId>> emit(const std::string& op, std::vector<Arg> args, const std::vector<ResultNote>& notes,
                                    const Where& where);
  Result<std::vector<TensorType>> infer(const Node& node, const std::vector<ResultNote>& notes);
  Result<TensorType> agree(const Node& node, size_t index, TensorType computed, const ResultNote& note, bool views);
  std::vector<Arg> read_args(const std::vector<Arg>& args);
  Result<ValueId> like(ValueId value, const TensorType& wanted, ValueId old, const Where& where);

  Result<std::vector<Handle>> call_view(const Schema& schema, const std::string& op, const std::vector<Arg>& args,
                                        const std::vector<ResultNote>& notes, const Where& where);
  Result<std::vector<Handle>> call_mutating(const Schema& schema, const std::string& op, const std::vector<Arg>& args,
                                            const std::vector<ResultNote>& notes, const Where& where);
  Result<std::vector<Handle>> call_instance_norm(const std::vector<Arg>& args, const std::vector<ResultNote>& notes,
                                                 const Where& where);
  Result<std::vector<Handle>> call_batch_norm(const Schema& schema, const std::vector<Arg>& args,
                                              const std::vector<ResultNote>& notes, const Where& where);
  // The arguments as autocast casts them.
  Result<std::vector<Arg>> autocast(const std::string& op, std::vector<Arg> args, const std::vector<ResultNote>& notes,
                                    const Where& where);
  // An op of several steps that autocast would cast between.
  bool casts_inside(const std::string& op, const std::vector<Arg>& args) const;
  Result<std::vector<Handle>> call_as_given(const std::string& op, const std::vector<Arg>& args,
                                            const std::vector<ResultNote>& notes, const Where& where);
  // tensor_split(self, tensor_indices_or_sections, dim) at places that a tensor holds: slices between what is read of
  // it.
  Result<std::vector<Handle>> call_tensor_split(const std::vector<Arg>& args, const std::vector<ResultNote>& notes,
                                                const Where& where);
  // An op that changes the shape of its own argument: squeeze_, t_.
  Result<std::vector<Handle>> call_view_in_place(const std::string& op, const std::vector<Arg>& args,
                                                 const std::vector<ResultNote>& notes, const Where& where);
  // Whether the results of an op that is marked as a view share the argument's memory.
  bool aliases(const std::string& op, const std::vector<Arg>& args, const TensorType& viewed,
               const TensorType& result) const;
  // Where `claimed` is the name of a size that depends on data, met for the first time: it is `computed` from now on.
  void settle(const Sym& claimed, const Sym& computed);
  void drop_last_node();
  // Puts `value` into the tensor: into its storage, or scattered into what it views.
  Status write(Handle target, ValueId value, const Where& where);
  Result<ValueId> scatter(Handle target, ValueId value, const Where& where);
  std::string describe(const Node& node) const;

  Graph& graph_;
  bool allow_unknown_;
  std::vector<Tensor> tensors_;
  std::vector<Storage> storages_;
  std::map<std::string, int> weights_by_place_;
  std::map<std::string, Unsupported> unsupported_;
  std::vector<std::string> unsupported_order_;
  std::vector<std::string> refusals_;
  std::map<std::string, int64_t> hints_;
  std::optional<DType> autocast_;
  std::set<std::string> met_;  // symbols that the program knows so far
  std::map<std::string, Sym> settled_;
};

// A name that the graph text can hold.
std::string printable_name(std::string name);

// The op and arguments that undo a view of a tensor typed `viewed`: a value of the view's shape (result `index` of the
// view) becomes the viewed tensor's new contents. Arguments name graph values: `base` is the viewed tensor's contents.
struct Inverse {
  std::string op;
  std::vector<Arg> args;
};
std::optional<Inverse> invert_view(const Schema& schema, const std::vector<Arg>& view_args,
                                   const std::vector<TensorType>& results, size_t index, const TensorType& viewed,
                                   ValueId base, ValueId value);

}  // namespace toroid
