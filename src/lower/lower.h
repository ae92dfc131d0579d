// Graph in, Loops out: every op becomes scalar expressions by its row.
#pragma once
#include "graph/graph.h"
#include "loop/loops.h"

namespace toroid {

// The result of each node that is no view is a tensor under its value's name, in its value's dtype and strides. Ops
// that cannot be lowered are gathered in one unsupported_op Diagnostic. Tensors that nothing uses are gone.
Result<Loops> lower_graph(const Graph& graph);

}  // namespace toroid
