// Evaluates a call: a library function, or control flow over programs that `run` runs.
#pragma once
#include <functional>
#include <vector>

#include "interp/evaluator.h"
#include "interp/interp.h"

namespace toroid {

using RunBody = std::function<Result<std::vector<InterpTensor>>(const Loops& body, const std::vector<InterpTensor>&)>;

// The call's results from its operands, all row-major.
Result<std::vector<InterpTensor>> evaluate_call(const Loops& loops, const LoopCall& call,
                                                std::vector<InterpTensor> operands, const Evaluator& evaluator,
                                                const RunBody& run);

}  // namespace toroid
