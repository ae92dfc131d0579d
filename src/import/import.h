// From an archive that torch.export.save wrote, a Graph: functional, typed by our own rules, its weights mapped in
// place.
#pragma once
#include <string>

#include "graph/graph.h"

namespace toroid {

struct ImportOptions {
  std::string model;               // which one, where the archive holds several
  bool allow_unknown_ops = false;  // keep ops without a row, with the types that the archive claims for them
};
Result<Graph> import_model(const std::string& path, const ImportOptions& options = {});

// The models that an archive holds, in its order.
Result<std::vector<std::string>> archive_models(const std::string& path);

// Gives the weights of `graph` (read from a text) their bytes, by name, from an archive.
Status attach_weights(Graph& graph, const std::string& path, const std::string& model = "");

}  // namespace toroid
