// The members of a stored (uncompressed) zip archive in memory: a bounds-checked reader that trusts nothing.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "failure.h"

namespace toroid::runtime {

struct ZipMember {
  std::string name;
  uint64_t offset = 0;  // of the data, from the start of the archive
  uint64_t bytes = 0;
  uint32_t crc32 = 0;
};

// All members, in the order of the central directory. Takes zip64. Refuses, with the member's name: compression,
// encryption, unsafe or duplicate names, sizes and offsets outside of the file, members that overlap.
Outcome<std::vector<ZipMember>> read_zip(std::span<const std::byte> archive);

// CRC-32 as zip uses it.
uint32_t crc32_of(std::span<const std::byte> data);

}  // namespace toroid::runtime
