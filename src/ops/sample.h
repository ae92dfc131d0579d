// A row's sample, such as `aten.gelu.default(f32[4,5], approximate="tanh")`, as a graph of one node and as loops.
#pragma once
#include <string_view>

#include "ops/op_table.h"

namespace toroid {

// Tensors written as `f32[4,5]` become the graph's inputs, in order; keyword arguments and defaults go by the schema;
// result types come from the row's rule.
Result<Graph> graph_of_sample(std::string_view text);
// Lowers a graph by the rows alone: each result of each node has a tensor of its own.
Result<Loops> loops_of_sample(const Graph& graph);

}  // namespace toroid
