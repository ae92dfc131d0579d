// Sizes that no rule can know: symbols that depend on data.
#pragma once
#include <vector>

#include "graph/graph.h"

namespace toroid {

// A new unbacked symbol among those of a graph or its loops: the prefix and the first free number (u0).
Sym add_unbacked_symbol(std::vector<SymbolInfo>& symbols, const std::string& prefix = "u", int64_t low = 0,
                        int64_t high = sym_infinity);

// Sizes in the types of one call's results that neither rule nor archive know (unknown_size of rules.h) become one new
// unbacked symbol of the graph.
void settle_unknown(Graph& graph, std::vector<TensorType>& types);

}  // namespace toroid
