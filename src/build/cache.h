// A folder of objects by the hash of all that they were made from. Safe under many processes and a kill at any moment;
// an entry that is cut or changed is dropped, never given out; the folder stays under a size.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"

namespace toroid::build {

// What an object is made from. The key is over all parts; kept apart to say which one changed.
struct KeyParts {
  Hash128 text, flags, compiler, target, version;
  Hash128 key() const;
};

struct CacheOptions {
  std::string folder;  // empty: nothing is kept
  int64_t limit_bytes = int64_t{2} << 30;
};

class ObjectCache {
 public:
  // Never fails: a folder that cannot be made or written to is noted, and the build goes on without.
  explicit ObjectCache(CacheOptions options);

  // The object, or nothing. A hit counts as a use for what is dropped first.
  std::optional<std::string> find(const Hash128& key);
  void store(const Hash128& key, std::string_view object);

  // Why find() failed for the job `name`, in words: `text changed`, `flags and compiler changed`,
  // `nothing under this name`, `the entry was dropped`. Then remembers `parts` as the job's last.
  std::string explain(std::string_view name, const KeyParts& parts);
  // After a hit: remembers `parts` as the job's last.
  void remember(std::string_view name, const KeyParts& parts);

  // Drops what was used longest ago where this cache stored something and is over its share of the limit; stops after
  // some milliseconds, and goes on in the next build.
  void trim(int budget_ms = 20);

  // What went wrong, a line each, at most one for each kind of trouble.
  std::vector<std::string> notes() const;

 private:
  std::string object_path(const Hash128& key) const;
  std::string record_path(std::string_view name) const;
  void note(std::string line);
  bool trim_shard(int shard);
  bool write(const std::string& path, std::string_view bytes);

  CacheOptions options_;
  // Shards that this cache stored into.
  std::atomic<uint32_t> touched_ = 0;
  std::atomic<bool> writable_ = false;
  mutable std::mutex mutex_;
  std::vector<std::string> notes_;
};

}  // namespace toroid::build
