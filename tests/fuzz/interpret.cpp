// What the interpreter makes of an exported program: `interpret MODEL.pt2 IN.npz OUT.npz`. Outputs come in the
// program's order, written inputs included; every float is computed and written as f64.
#include <iostream>

#include "driver/weights.h"
#include "import/import.h"
#include "interp/interp.h"
#include "lower/lower.h"
#include "tensor_file.h"

namespace toroid {
namespace {

Result<std::vector<InterpTensor>> run(const std::string& model, const cli::Tensors& given) {
  TD_TRY(Graph graph, import_model(model));
  TD_TRY(Loops loops, lower_graph(std::move(graph)));
  std::vector<InterpTensor> inputs;
  for (const cli::HostTensor& tensor : given)
    inputs.push_back({static_cast<DType>(tensor.dtype), tensor.sizes, tensor.data, {}});
  return interpret(loops, inputs, {.exact = true});
}

int fail_with(const std::string& text) {
  std::cerr << "error: " << text << "\n";
  return 1;
}

int main_of(int argc, char** argv) {
  if (argc != 4) return fail_with("usage: interpret MODEL.pt2 IN.npz OUT.npz");
  auto inputs = cli::read_tensors(argv[2]);
  if (!inputs) return fail_with(inputs.error().text);
  auto results = run(argv[1], *inputs);
  if (!results) return fail_with(results.error().to_string());
  cli::Tensors outputs;
  for (size_t i = 0; i < results->size(); ++i) {
    InterpTensor& result = (*results)[i];
    outputs.push_back({format("out{}", i), static_cast<int32_t>(result.dtype), result.sizes,
                       cli::row_major_strides(result.sizes), std::move(result.data)});
  }
  auto written = cli::write_tensors(argv[3], outputs);
  return written ? 0 : fail_with(written.error().text);
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) { return toroid::main_of(argc, argv); }
