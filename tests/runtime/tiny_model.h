// A tiny model written by hand as the compiler would write it, compiled by g++ and packed, for tests of package and
// runtime:
//   calls += 1;  y = relu(x @ weight.T + bias) + bias * scale        x: f32[s0, 4], 1 <= s0 <= 4096; y: f32[s0, 8]
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "package/package.h"
#include "recipe.h"

namespace toroid::tests {

struct TinyModel {
  std::vector<float> weight = std::vector<float>(32), bias = std::vector<float>(8), scale = std::vector<float>(8);
  std::string name = "tiny";
  // Buffers that the model writes: counts its runs, and adds the count to y[0][0] when on.
  bool mutates = false;
  // The scale also stands in the weights as it is, not only folded with the bias.
  bool keeps_scale = false;

  TinyModel();
  // The shared object; compiled once per distinct text.
  std::string code() const;
  runtime::Recipes recipes() const;
  package::PackageContents contents(const std::string& code_bytes) const;
  // What the model must give for x[rows][4].
  std::vector<float> expect(const std::vector<float>& x) const;
};

// x[i] = a few small numbers with a pattern.
std::vector<float> pattern(size_t count);

}  // namespace toroid::tests
