// The hash of weights.bin: XXH3-128 of the XXH3-128 hashes of its pieces, so that pieces can be hashed in any order, by
// several threads, while they are still in a core's cache.
#pragma once
#include <array>
#include <cstddef>
#include <span>
#include <string>

namespace toroid::runtime {

// The last piece is what is left.
inline constexpr size_t weights_piece_bytes = 256 << 10;

using PieceHash = std::array<unsigned char, 16>;
PieceHash hash_piece(std::span<const std::byte> piece);
// 32 lower-case digits.
std::string hash_of_pieces(std::span<const PieceHash> pieces);
std::string hash_weights(std::span<const std::byte> weights);

}  // namespace toroid::runtime
