// From bytes to a loaded shared object: copy, seal, hash, open.
#include "code.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "sha256.h"
#include "toroid/runtime.h"

namespace toroid::runtime {
namespace {

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes = bytes.subspan(n);
  }
  return true;
}

Descriptor sealed_memfd(std::span<const std::byte> bytes) {
  // Kernels from 6.3 on want to be told that a memfd may execute; older ones refuse the flag.
  Descriptor fd(::memfd_create("toroid-model", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
  if (!fd) fd = Descriptor(::memfd_create("toroid-model", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || !write_all(fd.get(), bytes)) return {};
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return {};
  return fd;
}

// Written, then opened again for reading and unlinked: only this process can reach it.
Descriptor unlinked_file(std::span<const std::byte> bytes, const std::string& folder) {
  std::string path = folder + "/toroid-XXXXXX";
  Descriptor writer(::mkostemp(path.data(), O_CLOEXEC));
  if (!writer) return {};
  const bool written = write_all(writer.get(), bytes) && ::fchmod(writer.get(), 0500) == 0;
  Descriptor reader(written ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC) : -1);
  ::unlink(path.c_str());
  return reader;
}

Outcome<std::string> hash_of(int fd) {
  struct stat status;
  if (::fstat(fd, &status) != 0) return refuse(TOROID_IO, "cannot read the model's code: ", std::strerror(errno));
  const size_t bytes = static_cast<size_t>(status.st_size);
  void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) return refuse(TOROID_IO, "cannot map the model's code: ", std::strerror(errno));
  const Mapping mapping(data, bytes);
  return sha256_hex(mapping.data(), bytes);
}

}  // namespace

Code::~Code() {
  if (handle_) ::dlclose(handle_);
}

void* Code::symbol(const char* name) const { return ::dlsym(handle_, name); }

std::string Code::hash() const {
  auto hash = hash_of(file_.get());
  return hash ? *hash : std::string();
}

Outcome<Code> open_code(std::span<const std::byte> bytes, const std::string& sha256, bool no_memfd,
                        const char* temporary_folder) {
  std::string reason;
  // Takes a copy of the code; false: not executable here, try the next place.
  auto open = [&](Descriptor file, Code& code) -> Outcome<bool> {
    if (!file) {
      reason = std::strerror(errno);
      return false;
    }
    RT_TRY(const std::string found, hash_of(file.get()));
    if (found != sha256)
      return refuse(TOROID_BAD_FILE, "the model's code is damaged: its SHA-256 is ", found, ", the manifest says ",
                    sha256);
    const std::string path = cat("/proc/self/fd/", file.get());
    code.handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!code.handle_) {
      const char* text = ::dlerror();
      reason = text ? text : "dlopen failed";
      return false;
    }
    code.file_ = std::move(file);
    return true;
  };
  Code code;
  if (!no_memfd) {
    RT_TRY(const bool done, open(sealed_memfd(bytes), code));
    if (done) return code;
  }
  const char* const folders[] = {"/dev/shm", "/tmp", "/var/tmp"};
  for (const char* folder : folders) {
    RT_TRY(const bool done, open(unlinked_file(bytes, temporary_folder ? temporary_folder : folder), code));
    if (done) return code;
    if (temporary_folder) break;
  }
  return refuse(TOROID_UNSUPPORTED, "cannot open the model's code: ", reason);
}

}  // namespace toroid::runtime
