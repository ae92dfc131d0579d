// A zip archive: stored members are mapped in place, deflated ones inflated. Only the central directory is believed.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace toroid {

// A member's bytes, alive as long as `owner`.
struct Member {
  std::string_view bytes;
  std::shared_ptr<const void> owner;
};

class Archive {
 public:
  static Result<Archive> open(const std::string& path);

  // Names are without the archive's leading folder: models/model.json.
  bool has(const std::string& name) const { return entries_.contains(name); }
  // `checked` compares the CRC, which reads every byte; weights are mapped unread.
  Result<Member> read(const std::string& name, bool checked) const;
  const std::vector<std::string>& names() const { return names_; }
  const std::string& path() const { return path_; }

 private:
  struct Entry {
    uint64_t position = 0, number = 0;  // in the central directory
    uint64_t data = 0;                  // offset of a stored member's bytes
    uint64_t stored_bytes = 0, bytes = 0;
    uint32_t crc = 0;
    bool stored = true;
  };
  Result<Member> inflate(const std::string& name, const Entry& entry) const;

  std::string path_;
  std::shared_ptr<const void> mapping_;
  const char* data_ = nullptr;
  uint64_t size_ = 0;
  std::unordered_map<std::string, Entry> entries_;
  std::vector<std::string> names_;
};

}  // namespace toroid
