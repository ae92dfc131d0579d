// manifest.json: what a package says about its model. The runtime reads the few fields below; the rest is for people.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "failure.h"

namespace toroid::runtime {

// The package format that this runtime reads. A newer major is refused, a newer minor taken.
inline constexpr int64_t format_major = 1, format_minor = 0;

struct Manifest {
  std::string model;
  std::string target;
  std::vector<std::string> features;  // CPUID names that the code needs
  std::string code_file, code_sha256;
  uint64_t code_bytes = 0;
  std::string weights_file, weights_hash;  // file is "" when the model has none
  uint64_t weights_bytes = 0;
};

Outcome<Manifest> read_manifest(std::string_view text);

// A flat JSON object of strings (wrapper_metadata.json), in its order.
Outcome<std::vector<std::pair<std::string, std::string>>> read_metadata(std::string_view text);

}  // namespace toroid::runtime
