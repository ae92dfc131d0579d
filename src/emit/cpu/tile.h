// The register tile shared by matrix products, convolutions and attention: C++ text for R rows times V vectors of
// accumulators, in named scalars (g++ keeps arrays in memory).
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace toroid::emit {

// Long sums over k are cut into blocks of so many steps, whose sums are added up apart from them: the rounding error of
// a running sum grows with its length. The cuts depend on the shape alone. Blocks of 256 take about 1% of the time, and
// left 3x3 convolutions of 64 channels at 1.3 times the error of PyTorch's; 128 take up to 2%, and are at 0.9 of it
// (docs/accuracy.md).
constexpr int64_t sum_block = 128;

// What the generated text may use of a CPU.
struct Isa {
  int lanes = 16;         // f32 lanes of vf32: 16 (AVX-512) or 8 (AVX2)
  bool bf16_dot = false;  // AVX512-BF16: vdpbf16ps
  bool wide() const { return lanes == 16; }
};

// A size of a loop or stride: `value` is -1 when it is known only at run time; `text` is a C++ expression over `s`.
struct Size {
  int64_t value = -1;
  std::string text;
  bool known() const { return value >= 0; }
  static Size of(int64_t value) { return {value, std::to_string(value)}; }
  static Size dynamic(std::string text) { return {-1, "(" + std::move(text) + ")"}; }
};

// Statements that consume the vf32 variable `acc` (lanes along the last index) at `index` and store it.
// `count` is empty for a full vector, else an expression for the number of valid lanes.
using Epilogue =
    std::function<std::string(const std::string& acc, const std::vector<std::string>& index, const std::string& count)>;

// Statements that fetch the memory which an epilogue of lanes from `index` on reads and writes.
using Fetch = std::function<std::string(const std::vector<std::string>& index)>;

// Text of a kernel and what its caller needs to split the work. Sizes are C++ expressions over `s`.
struct KernelText {
  std::string text;
  std::string units;
  int64_t grain = 1;  // units worth one task, at least
  std::string flops;
  std::string scratch_bytes = "0";
};

// One step of a tile works on words of 32 bits: an f32, or two bf16 that follow one another along k.
struct Tile {
  std::string name;  // prefix of all helper functions of the kernel
  Isa isa;
  DType dtype = DType::f32;

  bool pairs() const { return dtype == DType::bf16; }
  std::string element() const { return pairs() ? "u16" : "f32"; }
  // Types and functions that the texts below use; once per kernel.
  std::string helpers() const;
  // vf32 c0_0 = zero, ...
  std::string accumulators(int rows, int vectors) const;
  // Keeps loaded vectors in registers: otherwise g++ folds the load into every multiply of a small tile. Nothing where
  // they do not fit beside the accumulators.
  std::string pin(const std::vector<std::string>& names, int accumulators = 0) const;
  // c<row>_<j> += word * b<j> for all j, for the rows from `first` on whose words are given: lvalues of 32 bits.
  // `in_memory` lets the broadcast be part of the multiply, for tiles that fill all registers.
  std::string multiply(int first, int vectors, const std::vector<std::string>& words, bool in_memory) const;
  // c<row>_<j> += totals[stride * row + lanes * j]; the accumulators to `totals`; the accumulators to zero. Together
  // they end one block of a long sum.
  std::string add_totals(int rows, int vectors, const std::string& totals, int stride) const;
  std::string store_accumulators(int rows, int vectors, const std::string& totals, int stride) const;
  std::string clear(int rows, int vectors) const;
  // Elements of one block: a step is two bf16, whose own rounding hides more than that of an f32 sum.
  int64_t block_elements() const { return pairs() ? 2 * sum_block : sum_block; }
  // The word at `pointer` (an element pointer).
  std::string word(const std::string& pointer) const;
};

// L x L transpose in registers: x0..x<L-1> in place, four (three) butterfly stages.
std::string transpose_rows(const std::string& prefix, int lanes);
// Sums of `lanes` vectors at once: lane l of names[0] becomes the sum of names[l].
std::string sum_lanes(const std::vector<std::string>& names, int lanes);
// Rows split into near-equal parts of at most `limit`: the heights that occur.
std::vector<int> tile_heights(int64_t rows, int limit);

}  // namespace toroid::emit
