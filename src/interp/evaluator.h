// Evaluates the computed tensors of Loops, one at a time, once symbols have values.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "interp/interp.h"
#include "loop/loops.h"
#include "loop/scalar.h"

namespace toroid {

// The bytes of a tensor while a program runs.
struct Memory {
  DType dtype = DType::f32;
  std::vector<int64_t> sizes, strides;  // strides in elements
  const std::byte* base = nullptr;
  std::shared_ptr<const void> owner;
  int64_t count() const;
};

// Its elements, row-major.
InterpTensor copy_out(const Memory& memory);

// Thrown inside the evaluator when data is at fault (an index out of range, a division by zero); never leaves this
// folder.
struct EvaluationFailure {
  Diagnostic diagnostic;
};

class Evaluator {
 public:
  Evaluator(const Loops& loops, bool exact) : loops_(loops), exact_(exact), memory_(loops.tensors.size()) {}

  const std::map<std::string, int64_t>& symbols() const { return symbols_; }
  void set_symbol(const std::string& name, int64_t value) { symbols_[name] = value; }
  void set(TensorId tensor, Memory memory) { memory_[static_cast<size_t>(tensor.index)] = std::move(memory); }
  const Memory& memory(TensorId tensor) const { return memory_[static_cast<size_t>(tensor.index)]; }
  bool has(TensorId tensor) const { return !!memory(tensor).owner; }

  // Computes a tensor whose loads are all set. Throws EvaluationFailure.
  void compute(TensorId tensor);
  // Takes a constant tensor's or a weight's bytes as they are.
  void set_constant(TensorId tensor);
  void set_weight(TensorId tensor);

  int64_t evaluate(const Sym& sym) const { return toroid::evaluate(sym, symbols_); }
  std::vector<int64_t> evaluate(const SymList& list) const;

 private:
  void run_routine(TensorId tensor, Memory memory);
  const Loops& loops_;
  bool exact_;
  std::vector<Memory> memory_;
  std::map<std::string, int64_t> symbols_;
};

std::vector<int64_t> row_major(const std::vector<int64_t>& sizes);
// Calls f(index) for each index, the last dim fastest.
template <class F>
void for_each_index(const std::vector<int64_t>& sizes, F f) {
  for (int64_t size : sizes)
    if (size <= 0) return;
  std::vector<int64_t> index(sizes.size());
  for (;;) {
    f(index);
    size_t k = sizes.size();
    while (k > 0 && ++index[k - 1] == sizes[k - 1]) index[--k] = 0;
    if (k == 0) return;
  }
}

}  // namespace toroid
