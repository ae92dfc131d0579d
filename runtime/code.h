// A model's code, opened from a sealed copy in memory that was hashed first.
#pragma once
#include <span>
#include <string>

#include "failure.h"
#include "file.h"

namespace toroid::runtime {

// A loaded shared object. Its descriptor stays open as long as the handle: glibc knows loaded objects by path, and the
// path is /proc/self/fd/N; were N used again, a second model would silently be the first.
class Code {
 public:
  Code() = default;
  Code(Code&& other) noexcept : file_(std::move(other.file_)), handle_(std::exchange(other.handle_, nullptr)) {}
  Code& operator=(Code&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Code();
  // The address of an exported symbol, or nullptr.
  void* symbol(const char* name) const;
  // SHA-256 of the sealed copy, as hexadecimal text; "" when it cannot be read any more.
  std::string hash() const;

 private:
  friend Outcome<Code> open_code(std::span<const std::byte>, const std::string&, bool, const char*);
  Descriptor file_;
  void* handle_ = nullptr;
};

// Copies the bytes to a sealed memfd, compares the copy's SHA-256 with `sha256`, and only then opens it. Where a memfd
// cannot execute (or no_memfd), the copy is an unlinked file in temporary_folder (NULL: /dev/shm, /tmp, /var/tmp).
Outcome<Code> open_code(std::span<const std::byte> bytes, const std::string& sha256, bool no_memfd,
                        const char* temporary_folder);

}  // namespace toroid::runtime
