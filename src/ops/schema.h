// ATen schemas: what a call of an op may say. The facts of all ops stand in data/aten_schemas.txt (made by
// scripts/dump_schemas.py), which is compiled in.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace toroid {

enum class ArgKind : uint8_t {
  tensor,
  tensors,
  optional_tensors,
  integer,
  integers,
  number,
  numbers,
  boolean,
  booleans,
  text,
  texts,
  scalar,
  scalars,
  dtype,
  layout,
  device,
  memory_format,
  generator,
  other
};

struct SchemaArg {
  std::string name;
  ArgKind kind = ArgKind::tensor;
  bool optional = false;  // T?
  bool keyword_only = false;
  bool written = false;      // (a!)
  bool aliased = false;      // (a), (a!), (a -> *): a result may share its memory
  int32_t fixed_length = 0;  // int[2]: one integer stands for two
  std::optional<Arg> default_value;
};
struct SchemaReturn {
  std::string name;
  ArgKind kind = ArgKind::tensor;
  bool aliased = false, written = false;
};

struct Schema {
  std::string name;  // aten.add.Tensor (default overloads: aten.relu.default)
  std::vector<SchemaArg> args;
  std::vector<SchemaReturn> returns;
  std::vector<std::string> tags;
  bool has_tag(std::string_view tag) const;
  int find_arg(std::string_view name) const;  // -1 when there is none
  bool mutates() const;                       // some argument is written
};

// Parses one line of the data file: `aten::add.Tensor(Tensor self, …) -> Tensor`.
Result<Schema> parse_schema(std::string_view text);
// The data file, a schema a line.
std::vector<std::string> schema_lines();
// The schema of `aten.add.Tensor` from the data file, or null. Thread-safe; built on first use.
const Schema* find_schema(std::string_view name);
// The functional op that an in-place or out op computes: aten.add_.Tensor -> aten.add.Tensor; nothing when none exists.
std::optional<std::string> functional_name(std::string_view name);

}  // namespace toroid
