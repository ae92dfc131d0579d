// Files by plain system calls; every failure names the path and the reason.
#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace toroid {
namespace {

std::unexpected<Diagnostic> io(const char* what, const std::string& path, int error) {
  return fail(Kind::io, "cannot {} `{}`: {}", what, path, system_error_text(error));
}

std::string random_suffix() {
  uint64_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) number = static_cast<uint64_t>(getpid());
  return format("{:016x}", number);
}

}  // namespace

std::string system_error_text(int error) { return std::error_code(error, std::generic_category()).message(); }

void Fd::reset(int fd) {
  // EINTR from close leaves the number free on Linux: a second close could hit somebody else's file.
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<std::string> read_fd(int fd, const std::string& name) {
  struct stat status;
  if (fstat(fd, &status) != 0) return io("read", name, errno);
  std::string text;
  text.resize(status.st_size > 0 ? static_cast<size_t>(status.st_size) : 0);
  size_t have = 0;
  for (;;) {
    // The size is a hint: files of /proc and /sys say 0, and files grow.
    if (have == text.size()) text.resize(have < 4096 ? have + 4096 : have + 65536);
    ssize_t count = pread(fd, text.data() + have, text.size() - have, static_cast<off_t>(have));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io("read", name, errno);
    if (count == 0) break;
    have += static_cast<size_t>(count);
  }
  text.resize(have);
  return text;
}

Result<std::string> read_file(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return io("open", path, errno);
  return read_fd(fd.get(), path);
}

Status write_fd(int fd, std::string_view bytes, const std::string& name) {
  while (!bytes.empty()) {
    ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io("write", name, errno);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return {};
}

AtomicFile::AtomicFile(std::string path, std::string temporary, Fd fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)), fd_(std::move(other.fd_)) {
  other.temporary_.clear();
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<std::string> output_path(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    const char* what = S_ISDIR(status.st_mode)    ? "a folder"
                       : S_ISFIFO(status.st_mode) ? "a pipe"
                       : S_ISSOCK(status.st_mode) ? "a socket"
                                                  : "a device";
    return fail(Kind::io, "cannot write `{}`: it is {}, not a regular file", path, what);
  }
  // By hand, since the last link may lead to a file that is not there yet.
  std::filesystem::path at = path;
  std::error_code none;
  for (int links = 0; std::filesystem::is_symlink(at, none); ++links) {
    if (links == 40) return io("write", path, ELOOP);
    at = at.parent_path() / std::filesystem::read_symlink(at, none);
  }
  return at.string();
}

Result<AtomicFile> AtomicFile::create(const std::string& given, int mode) {
  TD_TRY(const std::string path, output_path(given));
  size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  // Not built from the name of the file, which may already be as long as names can be.
  for (int attempt = 0;; ++attempt) {
    std::string temporary = folder + ".tmp-" + random_suffix();
    Fd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (fd.valid()) return AtomicFile(path, std::move(temporary), std::move(fd));
    if (errno != EEXIST || attempt == 8) return io("create", path, errno);
  }
}

Status AtomicFile::commit(bool sync) {
  if (sync && fsync(fd_.get()) != 0) return io("write", path_, errno);
  // Some file systems report a full disk only at close.
  if (::close(fd_.release()) != 0) return io("write", path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return io("create", path_, errno);
  temporary_.clear();
  return {};
}

Status write_file_atomic(const std::string& path, std::string_view bytes, bool sync, int mode) {
  TD_TRY(AtomicFile file, AtomicFile::create(path, mode));
  TD_CHECK_OK(file.write(bytes));
  return file.commit(sync);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return io("open", path, errno);
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return io("read", path, errno);
  if (!S_ISREG(status.st_mode)) return fail(Kind::io, "cannot read `{}`: not a regular file", path);
  MappedFile file;
  file.size_ = static_cast<size_t>(status.st_size);
  if (file.size_ == 0) return file;
  void* data = mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) {
    file.size_ = 0;
    return io("map", path, errno);
  }
  file.data_ = data;
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept : data_(other.data_), size_(other.size_) {
  other.data_ = nullptr;
  other.size_ = 0;
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Status make_dirs(const std::string& path, int mode) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    std::string part = path.substr(0, end);
    // EEXIST is fine here; that it is a folder shows at the next step or at the end.
    if (!part.empty() && ::mkdir(part.c_str(), static_cast<mode_t>(mode)) != 0 && errno != EEXIST) {
      int error = errno;
      struct stat status;
      // A folder above may be one that may not be written to, and still lead on (EROFS, EACCES).
      if (::stat(part.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) return io("create folder", part, error);
    }
    if (end == std::string::npos) break;
  }
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return io("create folder", path, errno);
  if (!S_ISDIR(status.st_mode)) return io("create folder", path, ENOTDIR);
  return {};
}

Result<TempFolder> TempFolder::create(const std::string& parent, const std::string& prefix) {
  std::string path = parent + "/" + prefix + "XXXXXX";
  if (mkdtemp(path.data()) == nullptr) return io("create a folder in", parent, errno);
  return TempFolder(std::move(path));
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Result<int> high_descriptor(int fd, const std::string& name) {
  const int higher = fcntl(fd, F_DUPFD_CLOEXEC, 10);
  // EINVAL, "Invalid argument": the limit itself is 10 or less.
  if (higher < 0) return io("create", name, errno == EINVAL ? EMFILE : errno);
  return higher;
}

Result<Fd> scratch_file(const std::string& name) {
  Fd fd(memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!fd.valid()) {
    std::string path = "/tmp/.toroid-XXXXXX";
    fd.reset(mkostemp(path.data(), O_CLOEXEC));
    if (!fd.valid()) return io("create", path, errno);
    ::unlink(path.c_str());
  }
  if (fd.get() < 10) {
    // Numbers below 10 are where a child process finds its files: see run_process.
    TD_TRY(const int higher, high_descriptor(fd.get(), name));
    return Fd(higher);
  }
  return fd;
}

std::optional<std::string> find_executable(const std::string& name, std::string_view search_path) {
  auto runs = [](const std::string& path) {
    struct stat status;
    return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && ::access(path.c_str(), X_OK) == 0;
  };
  if (name.empty()) return std::nullopt;
  if (name.find('/') != std::string::npos) return runs(name) ? std::optional(name) : std::nullopt;
  for (const std::string& folder : split(search_path, ':')) {
    std::string path = (folder.empty() ? "." : folder) + "/" + name;
    if (runs(path)) return path;
  }
  return std::nullopt;
}

}  // namespace toroid
