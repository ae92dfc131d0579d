// What the steps of fusion share: per tensor its body after inlining, its kind, who reads it; and groups of tensors
// that become one kernel.
#pragma once
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "fuse/fuse.h"

namespace toroid::fuse {

enum class Kind : uint8_t {
  source,     // input, weight, constant: nothing to compute
  map,        // one expression an element
  reduction,  // a reduce or scan somewhere in the body
  contract,   // the sum of a product of two loads: a matrix product or convolution
  copy,       // a tensor of another device, as it is
  call,       // a result of a call
  routine,    // a routine on whole tensors
};

// One load of a tensor inside a body.
struct Use {
  TensorId tensor;
  std::vector<ExprId> index;
};

struct Item {
  Kind kind = Kind::source;
  ExprId body;  // after inlining
  // The loop variables of one element, at first the tensor's own; split_var makes two of one. `index` is the element, a
  // Sym over them per dim, and `parts` the way back: variable v is index[dim] // divisor, modulo its extent except for
  // the outermost part of a dim.
  struct Part {
    int dim;
    int64_t divisor = 1;
    bool outermost = true;
  };
  SymList vars, index;
  std::vector<Part> parts;
  bool inlined = false;  // lives only in its readers' expressions
  bool stored = false;   // has a place in memory
  bool is_output = false;
  std::vector<Use> uses;          // loads in the body
  std::vector<TensorId> readers;  // tensors whose bodies load this one (after inlining)
  int32_t group = -1;
  ExprId contraction;              // contract: the reduce node in the body
  bool attention = false;          // contract: made by find_attention
  bool zero_masked = false;        // attention: a row that sees no key is 0
  bool hidden = false;             // inside an attention kernel: computed nowhere
  std::vector<RecipeStep> recipe;  // source: a constant that follows from weights
};

// Tensors computed by one kernel. In a nest every member is computed row by row: `outer` are the extents that all
// members share, and outer_dims tells which of a member's variables (positions in Item::vars) they are; its other
// variables are the row.
struct Group {
  std::vector<TensorId> members;  // producers first
  bool is_template = false;       // members[0] is the contraction, the others its epilogue
  bool closed = false;            // a scan: nothing joins it
  bool flexible = true;           // only maps: any subset of the shared dims may become the outer ones
  SymList outer;
  std::map<TensorId, std::vector<int>> outer_dims;
  // Reductions over the outer points themselves (a column sum beside row sums), and small tensors that follow from
  // their results; not among the members. For the reductions: which of their variables walk the outer ones.
  std::vector<TensorId> finish;
  std::map<TensorId, std::vector<std::string>> across;

  bool finishes(TensorId id) const { return std::find(finish.begin(), finish.end(), id) != finish.end(); }
  std::vector<TensorId> all() const {
    std::vector<TensorId> list = members;
    list.insert(list.end(), finish.begin(), finish.end());
    return list;
  }
  // Template: for each member its variables as functions of the contraction's. `plain`: these are its variables.
  std::map<TensorId, std::map<std::string, Sym>> follows;
  bool plain = true;
};

// A template kernel for `reader` needs an operand elsewhere in memory: a convolution's input (`source`), or one factor
// of its product.
struct CopyWish {
  TensorId reader, source;
  bool second = false;
};

struct Program {
  Loops& loops;
  const Target& target;
  std::map<std::string, int64_t> hint_values;
  std::vector<Item> items;
  std::vector<Group> groups;
  std::vector<std::string> explanations;
  bool explain = false;
  std::vector<CopyWish> wishes = {};
  // Contractions that fit no template: what reads them at other indices than theirs is no epilogue.
  std::set<std::string> plain_epilogue = {};
  std::vector<std::vector<TensorId>> symbol_sources = {};  // per tensor: what the symbols in it are read from

  Item& operator[](TensorId id) { return items[static_cast<size_t>(id.index)]; }
  const Item& operator[](TensorId id) const { return items[static_cast<size_t>(id.index)]; }
  ExprPool& pool() { return loops.pool; }
  // The value at the export's sizes, at least 0.
  int64_t at_hints(const Sym& sym) const;
  int64_t elements_at_hints(TensorId id) const;
  // The extent of a computed tensor's variable, and that variable's value where the tensor is read at an index.
  Sym extent(TensorId id, int var) const;
  std::optional<Sym> var_at(TensorId id, int var, const std::vector<ExprId>& index) const;
  // Variable `var` becomes two: var = high * divisor + low. The divisor divides its extent.
  void split_var(TensorId id, int var, int64_t divisor);
  void say(std::string text) {
    if (explain) explanations.push_back(std::move(text));
  }
  void find_symbol_sources();
  // Fills uses and readers from the bodies.
  void find_uses();
};

// Every load in an expression (each distinct one once), and every reduce or scan.
void collect_loads(const ExprPool& pool, ExprId id, std::vector<ExprId>& loads);
void collect_reductions(const ExprPool& pool, ExprId id, std::vector<ExprId>& reductions);
// Replaces whole subexpressions.
ExprId replace_exprs(ExprPool& pool, ExprId id, const std::map<ExprId, ExprId>& replacements);
// Scalar work of one evaluation: 1 an operation, 10 a transcendental, 20 a division by a variable integer.
int64_t expression_cost(const ExprPool& pool, ExprId id);
bool is_index_symbol(const ExprPool& pool, ExprId id, std::string* name = nullptr);
// A tensor's variables of more than one value.
std::vector<int> real_dims(const Program& program, TensorId id);

// inverse.cpp: the reader's variables as functions of the producer's, when each element of the reader reads one of the
// producer and the other way round.
std::optional<std::map<std::string, Sym>> inverse_index(const Program& program, TensorId producer, TensorId reader);

// The steps, in order.
void classify(Program& program);                           // inline.cpp: kinds
void inline_maps(Program& program);                        // inline.cpp
void fold_weights(Program& program);                       // fold_weights.cpp
void reindex_reductions(Program& program);                 // reindex.cpp
void group_tensors(Program& program);                      // group.cpp
void choose_places(Program& program, Schedule& schedule);  // layout.cpp
// join_products.cpp: of kernels that all have been built.
void join_products(Program& program, Schedule& schedule, std::vector<Kernel>& kernels);
// share_packed.cpp: of kernels that all have been built.
void share_packed(Program& program, Schedule& schedule, std::vector<Kernel>& kernels);

// templates.cpp: the template kernel for a contraction with these places, or nothing when its operands do not fit.
std::optional<Kernel> match_template(Program& program, Schedule& schedule, const Group& group);
// How many runs the outer points of a kernel with totals fall into: enough to share out, little to combine.
int64_t across_blocks(int64_t points, int64_t bytes);
// nest.cpp
Kernel build_nest(Program& program, Schedule& schedule, const Group& group);

}  // namespace toroid::fuse
