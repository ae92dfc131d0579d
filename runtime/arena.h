// Temporary memory of one run: bump allocation from blocks that are kept for the next run.
#pragma once
#include <cstdint>
#include <vector>

#include "file.h"

namespace toroid::runtime {

class Arena {
 public:
  // Uninitialised, 64-byte aligned; nullptr when there is no memory.
  void* alloc(int64_t bytes);
  // Ends a run: all memory is free again. A run that needed several blocks leaves one that would have held them all, so
  // that the next run of the same size allocates nothing.
  void reset();

 private:
  bool add_block(size_t bytes);
  std::vector<Mapping> blocks_;
  size_t used_ = 0;   // of the last block
  size_t total_ = 0;  // of this run
};

}  // namespace toroid::runtime
