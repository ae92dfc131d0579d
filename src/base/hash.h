// XXH3-128 of bytes, texts and sequences of fields: cache keys and names of weights. Not for hostile input (SHA-256
// is).
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace toroid {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  // 32 lower-case digits, the same on every machine.
  std::string hex() const;
  friend constexpr auto operator<=>(const Hash128&, const Hash128&) = default;
};

Hash128 hash_bytes(const void* data, size_t size);
inline Hash128 hash_text(std::string_view text) { return hash_bytes(text.data(), text.size()); }

// A hash over fields. Every field goes in with its kind and length, so that ("ab", "c") and ("a", "bc") differ:
//   Hasher().add(text).add(count).finish()
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  Hasher& add(std::string_view field);
  Hasher& add(const char* field) { return add(std::string_view(field)); }
  Hasher& add(int64_t field);
  Hasher& add(int field) { return add(static_cast<int64_t>(field)); }
  Hasher& add(size_t field) { return add(static_cast<int64_t>(field)); }
  Hasher& add(const Hash128& field);
  // Bytes as they are, for data that comes in pieces: without length, so that the pieces' borders do not matter.
  Hasher& add_raw(const void* data, size_t size);

  // The hash of what was added so far; more may be added afterwards.
  Hash128 finish() const;
  std::string hex() const { return finish().hex(); }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace toroid
