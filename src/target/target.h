// A CPU to compile for: `BASE[+feature…]` in, lanes, features, compiler flags and cache sizes out.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace toroid {

enum class CompilerKind { gcc, clang };

struct CacheSizes {
  int64_t l1d = 32 << 10;
  int64_t l2 = 1 << 20;
  int64_t l3 = 16 << 20;
};

// x86-64-v4+vnni+bf16. Two targets are the same exactly when their texts are: the text is canonical (the highest base
// whose features are all there, then what goes beyond it, in the table's order).
class Target {
 public:
  // The plain base x86-64.
  Target();
  // "native", or BASE[+feature…] with BASE one of x86-64, x86-64-v2, x86-64-v3, x86-64-v4. A feature brings those that
  // it stands on: x86-64-v3+avx512vl has avx512f. Kind::bad_option names what is unknown and lists what is known.
  static Result<Target> parse(std::string_view text);
  // This machine, as far as generated code makes use of it; with its microarchitecture and cache sizes.
  static Target host();

  const std::string& text() const { return text_; }
  bool has(std::string_view feature) const;
  // float32 values in the widest vector: 16, 8 or 4.
  int lanes() const;
  // -march, one -m for each feature beyond the base, and the vector width that the lanes need.
  std::vector<std::string> compiler_flags(CompilerKind kind) const;
  // Every feature that code for this target may use, the base's too: what a loader compares with CPUID.
  std::vector<std::string> cpuid_features() const;
  // "zen4", "sapphirerapids", …; "generic" for a target that is given by its text.
  const std::string& microarchitecture() const { return microarchitecture_; }
  // May steer block sizes, never the order of a sum: results depend on text() alone.
  const CacheSizes& caches() const { return caches_; }
  // True when this machine can run code for the target.
  bool runs_here() const;

  friend bool operator==(const Target& a, const Target& b) { return a.features_ == b.features_; }

 private:
  explicit Target(uint64_t features);

  uint64_t features_ = 0;  // bit i: row i of the feature table
  std::string text_;
  std::string microarchitecture_ = "generic";
  CacheSizes caches_;
};

}  // namespace toroid
