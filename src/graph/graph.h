// Graph IR: a functional program over ATen ops in SSA form, with symbolic shapes. `%2 = aten.linear.default(%1, …)`.
// A graph is vectors addressed by typed ids. Nodes stand in execution order. Nothing in it writes to a tensor: a
// mutated buffer or input is an output with a `mutates` target.
#pragma once
#include <complex>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/id.h"
#include "base/result.h"
#include "sym/sym.h"

namespace toroid {

using ValueId = Id<struct ValueTag>;
using NodeId = Id<struct NodeTag>;
using WeightId = Id<struct WeightTag>;
using SubgraphId = Id<struct SubgraphTag>;

// A device and its memory space; every value, kernel and buffer has one. "cpu", "cuda:1", and "fake" in tests.
struct Device {
  std::string type = "cpu";
  int32_t index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};
std::string to_string(const Device& device);

struct TensorType {
  DType dtype = DType::f32;
  SymList sizes;
  SymList strides;  // in elements; what PyTorch's eager tensor would have, which outputs keep
  Device device;
  int64_t rank() const { return static_cast<int64_t>(sizes.size()); }
};
SymList contiguous_strides(const SymList& sizes);
// Strides of a tensor whose dims lie in memory in `order` (outermost first): {0,2,3,1} is channels last.
SymList strides_in_order(const SymList& sizes, const std::vector<int>& order);
bool same_list(const SymList& a, const SymList& b);  // every pair proven equal
std::string to_string(const TensorType& type);       // f32[s0, 64], f32[4, 8] strides [1, 4] on "cuda:1"

// Where in the user's program something comes from.
struct Where {
  std::string module;  // encoder.layer.0.fc
  std::string file;    // model.py
  int line = 0;
  std::string text() const;  // "encoder.fc, model.py:12"; empty when unknown
};

enum class MemoryFormat : int8_t { contiguous, channels_last, channels_last_3d, preserve };
struct None {
  friend bool operator==(None, None) = default;
};
// An argument as the schema orders them. Scalar arguments are Sym (int), double, bool or complex as written.
// A symbolic float is a Sym holding a call. Tensor lists may hold invalid ids (None in a Tensor?[]).
using Arg = std::variant<None, ValueId, std::vector<ValueId>, Sym, SymList, double, std::vector<double>, bool,
                         std::vector<bool>, std::string, std::vector<std::string>, DType, MemoryFormat, Device,
                         std::complex<double>, SubgraphId>;

struct Node {
  std::string op;                // aten.add.Tensor, higher_order.cond
  std::vector<Arg> args;         // in schema order, defaults filled in
  std::vector<ValueId> outputs;  // a Tensor[] result is flattened; an unused or None result is an invalid id
  Where where;
};

enum class ValueKind : uint8_t { input, weight, node };
struct Value {
  std::string name;  // unique in its graph
  TensorType type;
  ValueKind kind = ValueKind::node;
  NodeId producer;    // node
  WeightId weight;    // weight
  int32_t index = 0;  // input: position; node: which output
  // A scalar read on the host (item, sym_size of something data-dependent) defines this symbol; else empty.
  std::string symbol;
};

enum class WeightKind : uint8_t { parameter = 1, buffer = 2, constant = 3 };
// A tensor that comes with the model. Its bytes are a strided view of a storage that other weights may share.
struct Weight {
  std::string name;  // fully qualified: encoder.fc.weight
  WeightKind kind = WeightKind::parameter;
  bool persistent = true;
  TensorType type;             // sizes and strides are constants
  int64_t storage_offset = 0;  // elements
  int32_t storage = -1;        // index into Graph::storages
};
// Bytes that outlive the graph's users through `owner` (a file mapping, a copy, a caller's tensor).
struct Storage {
  const void* data = nullptr;
  int64_t bytes = 0;
  std::shared_ptr<const void> owner;
};

struct GraphInput {
  enum class Kind : uint8_t { tensor, symbol, constant } kind = Kind::tensor;
  std::string name;  // the user's argument name where known: x, attention_mask
  ValueId value;     // tensor
  Sym symbol = 0;    // symbol: an int argument that is a size symbol
  Arg constant;      // constant: specialised at export
};
struct GraphOutput {
  enum class Kind : uint8_t { tensor, symbol, constant } kind = Kind::tensor;
  ValueId value;
  Sym symbol = 0;
  Arg constant;
  std::string name;
  // What the value is written back to after the last read, if anything.
  enum class Mutates : uint8_t { nothing, weight, input } mutates = Mutates::nothing;
  WeightId weight;
  int32_t input = -1;
};

struct SymbolInfo {
  std::string name;
  int64_t low = 0, high = sym_infinity;
  std::optional<int64_t> hint;
  bool unbacked = false;  // u0: defined by a node
};
// A condition that the model asserts (or that the compiler needs) at run time.
struct Guard {
  Sym condition = 1;
  std::string text;  // said when it fails
};

struct Graph {
  std::string name = "model";
  std::vector<SymbolInfo> symbols;
  std::vector<GraphInput> inputs;    // tensor inputs in call order (weights are not inputs)
  std::vector<GraphOutput> outputs;  // mutations first, then user outputs
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<Weight> weights;
  std::vector<Storage> storages;
  std::vector<Guard> guards;
  std::vector<Graph> subgraphs;
  std::string in_spec, out_spec;  // pytree strings, may be empty

  Value& operator[](ValueId id) { return values[static_cast<size_t>(id.index)]; }
  const Value& operator[](ValueId id) const { return values[static_cast<size_t>(id.index)]; }
  Node& operator[](NodeId id) { return nodes[static_cast<size_t>(id.index)]; }
  const Node& operator[](NodeId id) const { return nodes[static_cast<size_t>(id.index)]; }
  const Weight& operator[](WeightId id) const { return weights[static_cast<size_t>(id.index)]; }
  ValueId add_value(Value value);  // makes the name unique by _1, _2, …
  const SymbolInfo* find_symbol(const std::string& name) const;
  // The Sym of a declared symbol, with its range.
  Sym symbol(const std::string& name) const;
  // add_value's memory: each name in use and the next number to try behind it. Rebuilt when `values` grew otherwise.
  std::unordered_map<std::string, int> taken_names;
  size_t taken_from = 0;  // how many values it covers
};

// The text form, and back (weights keep name and type; their bytes come from elsewhere). Grammar: docs/design.md.
std::string print_graph(const Graph& graph);
Result<Graph> parse_graph(std::string_view text);
// Checks what the head of verify.cpp lists; a broken rule is an internal error that names node and value.
void verify_graph(const Graph& graph);

}  // namespace toroid
