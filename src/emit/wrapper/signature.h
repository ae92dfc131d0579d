// What a model's callers see: input slots, results and their sizes; and the function that checks what they pass.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "loop/loops.h"

namespace toroid::emit {

struct Signature {
  explicit Signature(const Loops& program);
  // Tensor of an input slot, invalid for an integer.
  TensorId tensor_of(size_t slot) const { return loops.input_tensors[slots[slot]]; }
  // A symbol in it is read from a tensor while the model runs.
  bool is_read(const Sym& sym) const;
  SymList sizes_of(const LoopOutput& output) const;
  SymList strides_of(const LoopOutput& output) const;
  // As the caller sees them.
  SymList outer_sizes(const LoopOutput& output) const;
  SymList outer_strides_of(const LoopOutput& output) const;

  const Loops& loops;
  std::vector<size_t> slots;    // input slots: positions in loops.inputs
  std::vector<size_t> results;  // result slots: positions in loops.outputs
  std::set<std::string> read_symbols;
};

// check_inputs: the inputs' types and sizes; the values of the symbols and the sizes of the results, where asked for.
Result<std::string> check_function(const Signature& signature);

std::string c_string(std::string_view text);
std::string c_text(const Sym& sym);                 // symbols are variables
std::string range_text(int64_t low, int64_t high);  // "1..64"
// The line that fails where the condition does not hold, or nothing.
std::string guard_text(const Guard& guard);

}  // namespace toroid::emit
