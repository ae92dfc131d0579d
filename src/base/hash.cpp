// The cover over xxhash.
#define XXH_INLINE_ALL
#include "base/hash.h"

#include <xxhash.h>

#include "base/text.h"

namespace toroid {

struct Hasher::State {
  XXH3_state_t xxh;
};

std::string Hash128::hex() const { return format("{:016x}{:016x}", high, low); }

Hash128 hash_bytes(const void* data, size_t size) {
  XXH128_hash_t hash = XXH3_128bits(data, size);
  return {hash.high64, hash.low64};
}

Hasher::Hasher() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh); }
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::add_raw(const void* data, size_t size) {
  XXH3_128bits_update(&state_->xxh, data, size);
  return *this;
}

Hasher& Hasher::add(std::string_view field) {
  // The head is the kind of field and, in little endian by hand, its length.
  unsigned char head[9] = {'t'};
  for (int i = 0; i < 8; ++i) head[1 + i] = static_cast<unsigned char>(static_cast<uint64_t>(field.size()) >> (8 * i));
  return add_raw(head, sizeof head).add_raw(field.data(), field.size());
}

Hasher& Hasher::add(int64_t field) {
  unsigned char bytes[9] = {'i'};
  for (int i = 0; i < 8; ++i) bytes[1 + i] = static_cast<unsigned char>(static_cast<uint64_t>(field) >> (8 * i));
  return add_raw(bytes, sizeof bytes);
}

Hasher& Hasher::add(const Hash128& field) {
  return add(static_cast<int64_t>(field.high)).add(static_cast<int64_t>(field.low));
}

Hash128 Hasher::finish() const {
  XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return {hash.high64, hash.low64};
}

}  // namespace toroid
