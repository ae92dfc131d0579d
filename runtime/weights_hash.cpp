// The hash of weights.bin, over xxhash.
#define XXH_INLINE_ALL
#include "weights_hash.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "sha256.h"

namespace toroid::runtime {

PieceHash hash_piece(std::span<const std::byte> piece) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(piece.data(), piece.size()));
  PieceHash hash;
  static_assert(sizeof canonical.digest == sizeof hash);
  std::memcpy(hash.data(), canonical.digest, sizeof hash);
  return hash;
}

std::string hash_of_pieces(std::span<const PieceHash> pieces) {
  const PieceHash all = hash_piece(std::as_bytes(pieces));
  return hex_text(all.data(), all.size());
}

std::string hash_weights(std::span<const std::byte> weights) {
  std::vector<PieceHash> pieces;
  for (size_t at = 0; at < weights.size(); at += weights_piece_bytes)
    pieces.push_back(hash_piece(weights.subspan(at, std::min(weights_piece_bytes, weights.size() - at))));
  return hash_of_pieces(pieces);
}

}  // namespace toroid::runtime
