// The byte layout of a stored zip archive: where each member's data begins, and the records around it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace toroid::package {

struct LayoutMember {
  std::string name;
  uint64_t bytes = 0;
  uint64_t alignment = 64;  // of the data in the file
  uint32_t crc32 = 0;       // needed by write_records only
  // Set by place_members.
  uint64_t header = 0, data = 0;
};

// From where on sizes and offsets need zip64 records; tests lower it.
inline constexpr uint64_t zip64_from = 0xffffffff;

// Sets each member's header and data offsets, in order; returns the size of the whole archive.
uint64_t place_members(std::vector<LayoutMember>& members, uint64_t zip64 = zip64_from);

// What stands before a member's data, from its header's offset on.
std::string local_record(const LayoutMember& member, uint64_t zip64 = zip64_from);
// What stands behind the last member's data, up to the end.
std::string directory_records(const std::vector<LayoutMember>& members, uint64_t zip64 = zip64_from);

}  // namespace toroid::package
