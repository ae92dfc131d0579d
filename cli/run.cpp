// `toroid run`: one call of a package.
#include <iostream>

#include "model.h"

namespace toroid::cli {

Outcome run_command(const RunArgs& args) {
  CLI_TRY(Model model, Model::load(args));
  CLI_TRY(Tensors inputs, make_inputs(model, args));
  std::vector<toroid_tensor> in = c_tensors(inputs);
  Outputs outputs(static_cast<size_t>(toroid_output_count(model.get())));
  toroid_run_options options = {};
  options.size = sizeof options;
  options.has_seed = args.random;
  options.seed = args.seed;
  if (int status = toroid_run_alloc(model.get(), in.data(), in.size(), outputs.data(), outputs.size(), &options)) {
    return runtime_error(status);
  }
  Tensors results = outputs.copy();
  if (!args.outputs.empty()) return write_tensors(args.outputs, results);
  for (const HostTensor& result : results) {
    const char* dtype = toroid_dtype_name(result.dtype);
    std::cout << result.name << " " << (dtype ? dtype : "of an unknown type") << "[";
    for (size_t i = 0; i < result.sizes.size(); ++i) std::cout << (i ? ", " : "") << result.sizes[i];
    std::cout << "]\n";
  }
  return Nothing{};
}

}  // namespace toroid::cli
