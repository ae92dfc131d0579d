// Hashes: known values, and fields that cannot run into each other.
#include "base/hash.h"

#include <gtest/gtest.h>

namespace toroid {
namespace {

TEST(Hash, KnownValues) {
  // XXH3-128 of the empty input, seed 0: from the reference implementation's published vectors.
  EXPECT_EQ(hash_text("").hex(), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_text("toroid").hex().size(), 32u);
  EXPECT_NE(hash_text("toroid"), hash_text("toroie"));
}

TEST(Hash, FieldsKeepTheirBorders) {
  EXPECT_NE(Hasher().add("ab").add("c").hex(), Hasher().add("a").add("bc").hex());
  EXPECT_NE(Hasher().add("").add("x").hex(), Hasher().add("x").add("").hex());
  EXPECT_NE(Hasher().add(int64_t{1}).hex(), Hasher().add(std::string_view("\1\0\0\0\0\0\0\0", 8)).hex());
  EXPECT_NE(Hasher().add("x").hex(), Hasher().add("x").add("").hex());
}

TEST(Hash, PiecesOfRawBytesDoNotMatter) {
  std::string bytes(100000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 >> 3);
  Hasher pieces;
  for (size_t at = 0; at < bytes.size(); at += 777) {
    std::string_view piece = std::string_view(bytes).substr(at, 777);
    pieces.add_raw(piece.data(), piece.size());
  }
  EXPECT_EQ(pieces.finish(), hash_text(bytes));
}

TEST(Hash, GoesOnAfterFinish) {
  Hasher hasher;
  hasher.add("a");
  std::string first = hasher.hex();
  EXPECT_EQ(hasher.hex(), first);
  EXPECT_EQ(hasher.add("b").hex(), Hasher().add("a").add("b").hex());
}

}  // namespace
}  // namespace toroid
