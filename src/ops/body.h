// Programs that calls run (cond, while, scan): how they begin, how their results leave, and the call itself.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "ops/loop_builder.h"

namespace toroid {

// What a program gets from its call.
struct BodyInput {
  std::string name;
  DType dtype = DType::f32;
  SymList sizes;
  WeightId weight;  // valid: this weight of the outer program, which the body reads where it lies
};

// The input for an operand: a weight that nothing writes stays one.
BodyInput body_input(LoopBuilder& b, const std::string& name, const LoopValue& operand);
// A program with these inputs, which knows the outer one's symbols; `tensors` are what it reads them as.
Loops start_body(const Loops& outer, const std::string& name, const std::vector<BodyInput>& inputs,
                 std::vector<TensorId>& tensors);
// One more output, row-major, a tensor of its own.
void add_body_output(LoopBuilder& inner, const LoopValue& value, const std::string& name);
// The call. Operands from `first_other` on that no body reads are left out. Results as the bodies' last one gives them;
// a scan's are longer by its steps. Where the branches of cond give different sizes, `sizes` says how long each result
// is, by symbols that the run defines.
Result<std::vector<LoopValue>> call_bodies(LoopBuilder& b, const std::string& function, std::vector<LoopValue> operands,
                                           size_t first_other, SymList attributes, std::vector<Loops> bodies,
                                           const std::vector<SymList>& sizes = {});

// A loop over dim 0 of `walked`: `step` gives the next carried values and then a row of each further result.
struct ScanStep {
  std::vector<LoopValue> carried, rows;
};
using ScanBody = std::function<ScanStep(LoopBuilder& inner, const std::vector<LoopValue>& carried,
                                        const std::vector<LoopValue>& walked, const std::vector<LoopValue>& others)>;
Result<std::vector<LoopValue>> scan_steps(LoopBuilder& b, const std::string& name,
                                          const std::vector<LoopValue>& carried, const std::vector<LoopValue>& walked,
                                          const std::vector<LoopValue>& others, bool backwards, const ScanBody& step);

}  // namespace toroid
