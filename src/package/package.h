// Compiled models to a `.pt2` archive: a zip of stored, aligned members that opens as data.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace toroid::package {

// One compiled model. The JSON texts are put into the manifest as they are; "" leaves the field out.
struct ModelContents {
  std::string name = "model";  // its folder; PyTorch's aoti_load_package takes "model" unless told otherwise
  std::string_view code;       // the shared object
  int64_t weights_bytes = 0;
  int64_t mutated_bytes = 0;  // at the start of the weights: buffers that the model writes
  // Writes all of `out`, the bytes of weights.bin from `begin` on. Called for one piece after another, each once, in
  // any order, by `jobs` threads.
  std::function<Status(uint64_t begin, std::span<std::byte> out)> write_weights;
  int jobs = 1;
  std::string target;                 // "x86-64-v4+vnni+bf16"
  std::vector<std::string> features;  // CPUID names that the loader checks
  std::string compiler;               // which compiler made the code, "g++ 12.2.0"
  int32_t default_threads = 0;
  std::string signature;                                      // JSON: inputs and outputs
  std::string recipes;                                        // JSON: runtime/recipe.h
  std::string report;                                         // JSON: kernels, memory plan
  std::vector<std::pair<std::string, std::string>> metadata;  // more strings for get_metadata()
  std::vector<std::pair<std::string, std::string>> texts;     // more members: file name (not .cpp or .so), text
};

struct PackageContents {
  std::string prefix;  // the folder that all members lie in, by custom the archive's name: "bert"
  std::string toroid_version;
  std::vector<ModelContents> models;
};

// Where the time went, for `--time`. The three go on at once, piece by piece: each has its share of the whole.
struct PackageTimes {
  double weights_ms = 0;  // write_weights
  double hash_ms = 0;     // hash and CRC-32 of the weights, SHA-256 of the code
  double file_ms = 0;     // writing the file and putting it in place
};

// Writes the archive. The same contents give the same bytes. The file appears under its name only when complete; on
// failure nothing is left, a full disk included.
Status write_package(const PackageContents& contents, const std::string& path, PackageTimes* times = nullptr);

// An archive in memory; data() is page-aligned.
class MemoryPackage {
 public:
  MemoryPackage(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
  MemoryPackage(MemoryPackage&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MemoryPackage& operator=(MemoryPackage&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MemoryPackage();
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), bytes_}; }

 private:
  void* data_;
  size_t bytes_;
};
Result<MemoryPackage> write_package_to_memory(const PackageContents& contents, PackageTimes* times = nullptr);

}  // namespace toroid::package
