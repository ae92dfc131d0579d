// Files: read, write at once or not at all, map, temporary folders, programs on a search path. Failures are Kind::io
// with the path and the system's reason.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace toroid {

// "No such file or directory" for ENOENT: strerror, safe among threads.
std::string system_error_text(int error);

// A file descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// The whole file. Folders and other things that are not files are refused.
Result<std::string> read_file(const std::string& path);
// What can be read from `fd` at offset 0 onwards; `name` is for the message.
Result<std::string> read_fd(int fd, const std::string& name);
// Writes all of `bytes` at the descriptor's position.
Status write_fd(int fd, std::string_view bytes, const std::string& name);

// The file that writing to `path` would change: links are followed, or the link would be replaced and what it leads to
// stay as it was. Refuses what exists and is no regular file: a device or pipe would be replaced too.
Result<std::string> output_path(const std::string& path);

// A file that appears under its name only when complete: written to a temporary in the same folder, then renamed.
// Whatever happens before commit(), the temporary is removed and an older file of that name stays as it was.
// `path` is as output_path takes it.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path, int mode = 0644);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;

  int fd() const { return fd_.get(); }
  Status write(std::string_view bytes) { return write_fd(fd_.get(), bytes, path_); }
  // sync: the bytes are on disk before the name is (slow; against power loss, not against a killed process).
  Status commit(bool sync = false);

 private:
  AtomicFile(std::string path, std::string temporary, Fd fd);
  std::string path_, temporary_;
  Fd fd_;
};
Status write_file_atomic(const std::string& path, std::string_view bytes, bool sync = false, int mode = 0644);

// A file in memory, read-only; empty files have an empty span.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// The folder and those above it; fine where it exists already.
Status make_dirs(const std::string& path, int mode = 0777);

// A fresh folder, removed with all that is in it.
class TempFolder {
 public:
  static Result<TempFolder> create(const std::string& parent = "/tmp", const std::string& prefix = "toroid-");
  ~TempFolder();
  TempFolder(TempFolder&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  TempFolder& operator=(TempFolder&&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit TempFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// A copy of the descriptor, closed on exec, whose number leaves 0..9 free; `name` is for the message.
Result<int> high_descriptor(int fd, const std::string& name);

// An anonymous file (memory, or an unlinked temporary), closed on exec, whose number leaves 0..9 free.
Result<Fd> scratch_file(const std::string& name);

// The path of a program: `name` itself where it has a slash, else the first hit among the colon-separated folders.
std::optional<std::string> find_executable(const std::string& name, std::string_view search_path);

}  // namespace toroid
