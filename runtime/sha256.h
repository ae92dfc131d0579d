// SHA-256 (FIPS 180-4) of a byte range.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace toroid::runtime {

std::array<uint8_t, 32> sha256(const void* data, size_t bytes);
// The same as 64 lower-case hexadecimal digits.
std::string sha256_hex(const void* data, size_t bytes);
// Any bytes as lower-case hexadecimal digits.
std::string hex_text(const uint8_t* data, size_t bytes);

}  // namespace toroid::runtime
