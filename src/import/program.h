// Inside the importer: reading one Graph object of the exported program into a GraphWriter.
#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "import/archive.h"
#include "import/arguments.h"
#include "import/graph_writer.h"
#include "import/import.h"
#include "import/json.h"
#include "import/symbols.h"

namespace toroid {

// TensorMeta of the archive.
struct TensorMeta {
  TensorType type;
  Sym storage_offset = 0;
};

// Reads scalars and tensor types. Faults of form go to the JSON document, others are returned.
class MetaReader {
 public:
  explicit MetaReader(Symbols& symbols) : symbols_(symbols) {}
  Result<Sym> size(const Json& sym_int);  // SymInt, SymFloat and SymBool are alike
  Result<TensorMeta> tensor(const Json& meta);
  Symbols& symbols() { return symbols_; }

 private:
  Symbols& symbols_;
};
// The archive's own numbering of element types.
Result<DType> dtype_from_archive(int64_t number);
Result<Device> device_from_archive(const Json& device);

// How deep graphs may lie in graphs; each level takes stack.
constexpr int max_nesting = 32;

// One Graph object: its name space and its nodes.
class GraphReader {
 public:
  GraphReader(Json json, JsonDocument& document, MetaReader& meta, GraphWriter& writer, Graph& graph, int depth);

  // Binds a name to a tensor handle or scalar.
  void bind(std::string_view name, Arg value) { names_[std::string(name)] = std::move(value); }
  Result<TensorMeta> tensor_meta(std::string_view name);
  // The tensor or scalar that a name stands for.
  Result<Arg> lookup(std::string_view name);
  Result<Arg> argument(const Json& json);
  Status read_nodes();
  Json json() const { return json_; }

 private:
  Result<Arg> argument(std::string_view tag, const Json& value);
  Result<Arg> symbolic(const Json& value);  // SymIntArgument and kin: as_name, or a number
  Result<Arg> symbolic_list(const Json& value);
  Result<Arg> nested_graph(const Json& value);
  Status read_list(const std::vector<Json>& nodes);
  Status read_node(const Json& node);
  // The nodes of a region of torch.vmap.
  Status read_vmap(const std::vector<Json>& nodes, const Where& where);
  SubgraphId add_subgraph(Graph inner);
  Status read_call(const std::string& op, const Json& node, const Where& where);
  Status read_host_value(const std::string& op, const Json& node, const Where& where);
  Status read_number(const Json& output, Handle tensor, const Where& where);
  Status read_assertion(const std::string& op, const Json& node);
  Status read_functionalized(const std::string& op, const Json& node, const Where& where);
  Status read_inlined(const std::string& op, const Json& node);
  Status read_wide(const Json& node, const Where& where);
  Status refuse(const std::string& op, const Json& node, const std::string& reason, const Where& where);
  Result<Arg> input(const Json& node, size_t index);
  // Names and claims of a node's tensor results, flattened; `names` has an empty name for a None.
  Status results(const Json& node, std::vector<ResultNote>& notes, std::vector<std::string>& names);

  Json json_;
  JsonDocument& document_;
  MetaReader& meta_;
  GraphWriter& writer_;
  Graph& graph_;
  int depth_;
  bool claims_ = true;  // false: strides are of a batch that the graph does not have
  std::unordered_map<std::string, Arg> names_;
  std::unordered_map<std::string_view, Json> tensors_, scalars_;
};

// Where a node comes from: the innermost module, and the last line of the user's own files.
Where where_from_metadata(const Json& metadata);

// Weights by their fully qualified names, from the two payload configs.
class Payloads {
 public:
  static Result<Payloads> open(const Archive& archive, const std::string& model);
  // The weight; its storage is added to `storages` once for all that share it.
  Result<Weight> weight(const std::string& name, WeightKind kind, bool persistent, std::vector<Storage>& storages,
                        MetaReader& meta);

 private:
  struct Config {
    std::string folder;
    std::unique_ptr<JsonDocument> document;
    std::unordered_map<std::string_view, Json> entries;
  };
  const Archive* archive_ = nullptr;
  std::vector<Config> configs_;
  std::unordered_map<std::string, int32_t> storages_;  // by member
};

// Names of the leaves of a pytree spec: `d.a`, `xs.0`. Empty where the spec is not understood.
std::vector<std::string> input_leaf_names(std::string_view in_spec, const std::vector<std::string>& argument_names);
std::vector<std::string> output_leaf_names(std::string_view out_spec);

}  // namespace toroid
