// CRC-32 of zip archives, at the speed of memory.
#pragma once
#include <cstddef>
#include <cstdint>

namespace toroid::package {

uint32_t crc32(const void* data, size_t bytes);
// Of two texts joined, from each one's and the second's length.
uint32_t crc32_joined(uint32_t first, uint32_t second, uint64_t second_bytes);

}  // namespace toroid::package
