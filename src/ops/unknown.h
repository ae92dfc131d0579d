// Sizes that no rule can know, in the types of one call's results.
#pragma once
#include <vector>

#include "graph/graph.h"

namespace toroid {

// Sizes that neither rule nor archive know (unknown_size of rules.h) become one new unbacked symbol of the graph.
void settle_unknown(Graph& graph, std::vector<TensorType>& types);

}  // namespace toroid
