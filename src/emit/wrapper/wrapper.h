// Plan in, the text of the model's wrapper out: it includes nothing and defines `toroid_model` (runtime/model_abi.h).
#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "emit/cpu/kernel.h"
#include "loop/schedule.h"

namespace toroid::emit {

struct WrapperOptions {
  std::string target;                 // canonical text
  std::vector<std::string> features;  // CPUID names
  int threads = 0;                    // the package's default; 0: the host decides
  std::string recipes;                // how weights.bin follows from the weights, as JSON (runtime/recipe.h)
};

// The model's report (docs/design.md): signature, symbols, kernels and sums, as JSON.
std::string report_json(const Plan& plan, const std::vector<KernelSource>& kernels);

Result<std::string> emit_wrapper(const Plan& plan, const std::vector<KernelSource>& kernels,
                                 const WrapperOptions& options);

}  // namespace toroid::emit
