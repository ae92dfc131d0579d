// What the last steps hand on: source texts, objects, a package's bytes.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "emit/cpu/kernel.h"
#include "loop/schedule.h"
#include "recipe.h"

namespace toroid::driver {

// Everything that will be compiled or written.
struct Sources {
  Plan plan;
  std::vector<emit::KernelSource> kernels;  // one per kernel of the plan; equal ones have equal symbols
  std::string wrapper;
  runtime::Recipes recipes;
  std::string recipes_json;
  std::string report;  // JSON
};

// The compiled and linked model.
struct Objects {
  Sources sources;
  std::shared_ptr<const std::string> code;  // the shared object
};

// A finished .pt2, in memory or mapped from the file it was written to; `owner` keeps it.
struct PackageBytes {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
  std::string file;  // where it was written, if anywhere
};

}  // namespace toroid::driver
