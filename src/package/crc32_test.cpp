// Our CRC-32 against zlib's: every length around the block's, and pieces joined.
#include "package/crc32.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <string>

namespace toroid::package {
namespace {

std::string noise(size_t bytes) {
  std::mt19937 random(7);
  std::string text(bytes, ' ');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

uint32_t zlib_crc(const char* data, size_t bytes) {
  return static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(data), static_cast<uInt>(bytes)));
}

TEST(Crc32, agrees_with_zlib_for_every_length) {
  const std::string text = noise(5000);
  EXPECT_EQ(crc32("123456789", 9), 0xcbf43926u);  // the check value of the CRC's specification
  for (size_t bytes = 0; bytes < 400; ++bytes)
    ASSERT_EQ(crc32(text.data() + bytes % 13, bytes), zlib_crc(text.data() + bytes % 13, bytes)) << bytes;
  EXPECT_EQ(crc32(text.data(), text.size()), zlib_crc(text.data(), text.size()));
}

TEST(Crc32, joins_pieces) {
  const std::string text = noise(1000);
  for (size_t cut : {0, 1, 64, 500, 1000})
    EXPECT_EQ(crc32_joined(crc32(text.data(), cut), crc32(text.data() + cut, 1000 - cut), 1000 - cut),
              zlib_crc(text.data(), 1000));
}

}  // namespace
}  // namespace toroid::package
