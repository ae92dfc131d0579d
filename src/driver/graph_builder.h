// The graph that a GraphBuilder holds.
#pragma once
#include "graph/graph.h"
#include "toroid/graph_builder.h"

namespace toroid {

// The finished graph: outputs read, write-backs added, verified. All ops without a row are one unsupported_op.
Result<Graph> build_graph(const GraphBuilder& builder);

}  // namespace toroid
