// The folder: objects/<first digit of the key>/<key>, and jobs/<first digit>/<hash of a job's name> with the parts of
// its last key. Files are written aside and renamed; each carries its own length and hash.
#include "build/cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/file.h"
#include "base/text.h"

namespace toroid::build {
namespace {

constexpr int shards = 16;
constexpr std::string_view magic = "TDOBJ01\n";
constexpr size_t head_size = 8 + 8 + 16;
// A temporary of a writer that was killed; a living writer takes less than an hour.
constexpr int64_t stale_seconds = 3600;

void put(std::string& out, uint64_t value) {
  for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i));
}

// Over the key too: an entry under another entry's name is not served.
Hash128 seal(std::string_view key, std::string_view body) { return Hasher().add(key).add(body).finish(); }

std::string with_head(std::string_view key, std::string_view body) {
  std::string out(magic);
  out.reserve(head_size + body.size());
  put(out, body.size());
  Hash128 hash = seal(key, body);
  put(out, hash.high);
  put(out, hash.low);
  out += body;
  return out;
}

bool head_is_right(std::string_view key, std::string_view entry) {
  return entry.size() >= head_size &&
         entry.substr(0, head_size) == std::string_view(with_head(key, entry.substr(head_size))).substr(0, head_size);
}

}  // namespace

Hash128 KeyParts::key() const { return Hasher().add(text).add(flags).add(compiler).add(target).add(version).finish(); }

ObjectCache::ObjectCache(CacheOptions options) : options_(std::move(options)) {
  if (options_.folder.empty()) return;
  for (const char* kind : {"objects", "jobs"}) {
    // Only its owner may put code where others will run it.
    if (Status made = make_dirs(options_.folder + "/" + kind, 0700); !made) {
      note(format("no cache: {}", made.error().text));
      return;
    }
  }
  // A folder that can be read but not written still serves hits.
  if (::access((options_.folder + "/objects").c_str(), W_OK) != 0) {
    note(format("nothing new is cached: `{}` is not writable", options_.folder));
    return;
  }
  writable_ = true;
}

std::string ObjectCache::object_path(const Hash128& key) const {
  std::string name = key.hex();
  return format("{}/objects/{}/{}", options_.folder, name[0], name);
}

std::string ObjectCache::record_path(std::string_view name) const {
  std::string hash = hash_text(name).hex();
  return format("{}/jobs/{}/{}", options_.folder, hash[0], hash);
}

void ObjectCache::note(std::string line) {
  std::lock_guard lock(mutex_);
  notes_.push_back(std::move(line));
}

std::vector<std::string> ObjectCache::notes() const {
  std::lock_guard lock(mutex_);
  return notes_;
}

std::optional<std::string> ObjectCache::find(const Hash128& key) {
  if (options_.folder.empty()) return std::nullopt;
  std::string path = object_path(key);
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return std::nullopt;
  struct stat status;
  // What another user wrote is not run as ours.
  if (fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) || (status.st_uid != geteuid() && status.st_uid != 0))
    return std::nullopt;
  auto entry = read_fd(fd.get(), path);
  if (!entry || !head_is_right(key.hex(), *entry)) {
    // A name that was renamed over in the meantime would be lost too: it is only made once more.
    if (entry) ::unlink(path.c_str());
    return std::nullopt;
  }
  // The time of the last use; fails where the folder is read-only, and then nothing is dropped either.
  futimens(fd.get(), nullptr);
  entry->erase(0, head_size);
  return std::move(*entry);
}

bool ObjectCache::write(const std::string& path, std::string_view bytes) {
  if (!writable_) return false;
  Status written = write_file_atomic(path, bytes, false, 0600);
  if (!written) {
    // The first entry of a shard, or the folder was removed under our hands.
    Status made = make_dirs(path.substr(0, path.rfind('/')), 0700);
    written = made ? write_file_atomic(path, bytes, false, 0600) : made;
  }
  // One failure stands for all: a full disk will not be tried again for each object.
  if (!written && writable_.exchange(false)) note(format("nothing more is cached: {}", written.error().text));
  return written.has_value();
}

void ObjectCache::store(const Hash128& key, std::string_view object) {
  if (!writable_) return;
  if (write(object_path(key), with_head(key.hex(), object))) touched_ |= 1u << (key.high >> 60);
}

void ObjectCache::remember(std::string_view name, const KeyParts& parts) {
  if (!writable_) return;
  std::string record;
  for (const Hash128* part : {&parts.text, &parts.flags, &parts.compiler, &parts.target, &parts.version})
    append(record, "{}\n", part->hex());
  std::string path = record_path(name);
  std::string entry = with_head(name, record);
  auto old = read_file(path);
  if (!old || *old != entry) write(path, entry);
}

std::string ObjectCache::explain(std::string_view name, const KeyParts& parts) {
  if (options_.folder.empty()) return "there is no cache folder";
  std::string reason = "nothing under this name";
  auto old = read_file(record_path(name));
  if (old && head_is_right(name, *old)) {
    std::vector<std::string> lines = split(std::string_view(*old).substr(head_size), '\n');
    std::vector<std::string> changed;
    if (lines[0] != parts.text.hex()) changed.emplace_back("text");
    if (lines[1] != parts.flags.hex()) changed.emplace_back("flags");
    if (lines[2] != parts.compiler.hex()) changed.emplace_back("compiler");
    if (lines[3] != parts.target.hex()) changed.emplace_back("target");
    if (lines[4] != parts.version.hex()) changed.emplace_back("version");
    reason = changed.empty() ? "the entry was dropped" : join(changed, " and ") + " changed";
  }
  remember(name, parts);
  return reason;
}

void ObjectCache::trim(int budget_ms) {
  if (!writable_) return;
  using Clock = std::chrono::steady_clock;
  Clock::time_point end = Clock::now() + std::chrono::milliseconds(budget_ms);
  uint32_t touched = touched_.exchange(0);
  // Begin anywhere, so that a short budget does not always fall to the same shards.
  int first = static_cast<int>(Clock::now().time_since_epoch().count() / 1000 % shards);
  for (int i = 0; i < shards; ++i) {
    int shard = (first + i) % shards;
    if (!((touched >> shard) & 1)) continue;
    trim_shard(shard);
    if (Clock::now() >= end) return;
  }
}

// True when something was dropped.
bool ObjectCache::trim_shard(int shard) {
  struct Entry {
    int64_t seconds, nanoseconds, bytes;
    std::string name;
  };
  std::string folder = format("{}/objects/{:x}", options_.folder, shard);
  DIR* listing = opendir(folder.c_str());
  if (listing == nullptr) return false;
  std::vector<Entry> entries;
  int64_t total = 0;
  int64_t now = static_cast<int64_t>(::time(nullptr));
  while (dirent* item = readdir(listing)) {
    std::string name = item->d_name;
    struct stat status;
    if (fstatat(dirfd(listing), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode)) continue;
    if (name.starts_with(".tmp-")) {
      if (now - status.st_mtim.tv_sec > stale_seconds) unlinkat(dirfd(listing), name.c_str(), 0);
      continue;
    }
    // What the disk holds, not what the file says: small objects take a block.
    int64_t bytes = std::max<int64_t>(status.st_size, status.st_blocks * 512);
    entries.push_back({status.st_mtim.tv_sec, status.st_mtim.tv_nsec, bytes, std::move(name)});
    total += bytes;
  }
  int64_t share = options_.limit_bytes / shards;
  bool dropped = false;
  if (total > share) {
    std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
      return std::tie(a.seconds, a.nanoseconds, a.name) < std::tie(b.seconds, b.nanoseconds, b.name);
    });
    // Down to four fifths, so that the next build does not drop again.
    for (const Entry& entry : entries) {
      if (total <= share / 5 * 4) break;
      unlinkat(dirfd(listing), entry.name.c_str(), 0);
      total -= entry.bytes;
      dropped = true;
    }
  }
  closedir(listing);
  return dropped;
}

}  // namespace toroid::build
