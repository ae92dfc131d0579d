// An opened package: which models it holds, one model's members, and its manifest. Nothing of it has run yet.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "failure.h"
#include "file.h"
#include "manifest.h"
#include "weights.h"
#include "zip.h"

namespace toroid::runtime {

class Package {
 public:
  // `model` picks one where there are several; "" is the only one.
  static Outcome<Package> open(const std::string& path, const std::string& model);
  // The bytes must stay valid as long as the Package is used.
  static Outcome<Package> from_memory(std::span<const std::byte> bytes, const std::string& model);

  const std::string& model() const { return model_; }
  const std::vector<std::string>& models() const { return models_; }
  const Manifest& manifest() const { return manifest_; }
  const std::string& manifest_text() const { return manifest_text_; }
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }

  std::span<const std::byte> code() const { return code_; }
  std::span<const std::byte> weights_bytes() const { return weights_; }
  // From a file: mapped in place. From memory: in place when `borrow`, else copied.
  Outcome<Weights> load_weights(uint64_t mutated_bytes, bool borrow) const;

  // Hashes code and weights against the manifest, every other member against the zip's checksum.
  Outcome<void> verify() const;

 private:
  Outcome<void> read(const std::string& model);
  Outcome<std::span<const std::byte>> member(const std::string& file) const;

  Descriptor file_;
  Mapping mapping_;
  std::span<const std::byte> bytes_;
  std::vector<ZipMember> members_;
  std::vector<std::string> models_;
  std::string model_, folder_;
  Manifest manifest_;
  std::string manifest_text_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::span<const std::byte> code_, weights_;
};

}  // namespace toroid::runtime
