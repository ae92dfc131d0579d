// The .npz format: a zip of .npy members, stored or deflated.
#include <fcntl.h>
#include <minizip/unzip.h>
#include <minizip/zip.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "tensor_file.h"
#include "toroid/runtime.h"

namespace toroid::cli {

namespace {

Error bad(const std::string& path, const std::string& text) { return {"bad_file", "`" + path + "`: " + text, {}}; }
Error io(const std::string& path, const std::string& what) {
  return {"io", "cannot " + what + " `" + path + "`: " + std::strerror(errno), {}};
}

struct CloseUnzip {
  void operator()(void* zip) const { unzClose(zip); }
};

// The member that is open now. Its claimed size is not trusted: memory grows with what is really there.
Expected<std::string> read_member(unzFile zip, const std::string& path, const std::string& name) {
  if (unzOpenCurrentFile(zip) != UNZ_OK) return bad(path, "member `" + name + "` cannot be opened");
  std::string bytes;
  constexpr unsigned step = 1 << 20;
  for (;;) {
    size_t have = bytes.size();
    bytes.resize(have + step);
    int got = unzReadCurrentFile(zip, bytes.data() + have, step);
    bytes.resize(have + static_cast<size_t>(std::max(got, 0)));
    if (got < 0) {
      unzCloseCurrentFile(zip);
      return bad(path, "member `" + name + "` is damaged");
    }
    if (got == 0) break;
  }
  if (unzCloseCurrentFile(zip) != UNZ_OK) return bad(path, "member `" + name + "` has a wrong checksum");
  return bytes;
}

bool can_read(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info)) return false;
  if (S_ISDIR(info.st_mode)) {
    errno = EISDIR;
    return false;
  }
  return access(path.c_str(), R_OK) == 0;
}

}  // namespace

Expected<Tensors> read_npz(const std::string& path) {
  if (!can_read(path)) return io(path, "read");
  std::unique_ptr<void, CloseUnzip> zip(unzOpen64(path.c_str()));
  if (!zip) return bad(path, "not a zip archive");
  Tensors tensors;
  for (int step = unzGoToFirstFile(zip.get()); step != UNZ_END_OF_LIST_OF_FILE; step = unzGoToNextFile(zip.get())) {
    char name[512];
    unz_file_info64 info;
    if (step != UNZ_OK || unzGetCurrentFileInfo64(zip.get(), &info, name, sizeof name, nullptr, 0, nullptr, 0)) {
      return bad(path, "a damaged list of members");
    }
    name[sizeof name - 1] = 0;
    std::string key = name;
    if (info.flag & 1) return bad(path, "member `" + key + "` is encrypted");
    if (!key.ends_with(".npy")) return bad(path, "member `" + key + "` is no .npy array");
    key.resize(key.size() - 4);
    auto bytes = read_member(zip.get(), path, name);
    if (!bytes) return bytes.error();
    auto tensor = parse_npy(*bytes, "`" + path + "`, array `" + key + "`");
    if (!tensor) return tensor.error();
    tensor->name = key;
    tensors.push_back(std::move(*tensor));
  }
  return tensors;
}

Outcome write_npz(const std::string& path, const Tensors& tensors) {
  for (const HostTensor& tensor : tensors) {
    if (!npy_dtype(tensor.dtype).empty()) continue;
    const char* name = toroid_dtype_name(tensor.dtype);
    return Error{"bad_option",
                 "`" + tensor.name + "` is " + (name ? name : "of a type") + " that .npz lacks",
                 {"hint: give --outputs a name that ends in .safetensors"}};
  }
  auto file = OutputFile::create(path);
  if (!file) return file.error();
  zipFile zip = zipOpen64(file->temporary().c_str(), APPEND_STATUS_CREATE);
  if (!zip) return io(path, "write");
  bool fine = true;
  for (const HostTensor& tensor : tensors) {
    // No date, so that equal outputs are equal files.
    zip_fileinfo info = {};
    info.dosDate = 0x00210000;  // 1980-01-01
    bool zip64 = tensor.data.size() > 0xF0000000u;
    fine = fine && zipOpenNewFileInZip64(zip, (tensor.name + ".npy").c_str(), &info, nullptr, 0, nullptr, 0, nullptr, 0,
                                         Z_NO_COMPRESSION, zip64) == ZIP_OK;
    std::string header = npy_header(tensor.dtype, tensor.sizes);
    fine = fine && zipWriteInFileInZip(zip, header.data(), static_cast<unsigned>(header.size())) == ZIP_OK;
    for (size_t at = 0; at < tensor.data.size() && fine;) {
      size_t piece = std::min<size_t>(tensor.data.size() - at, 1 << 28);
      fine = zipWriteInFileInZip(zip, tensor.data.data() + at, static_cast<unsigned>(piece)) == ZIP_OK;
      at += piece;
    }
    fine = fine && zipCloseFileInZip(zip) == ZIP_OK;
  }
  fine = zipClose(zip, nullptr) == ZIP_OK && fine;
  if (!fine) return io(path, "write");
  return file->commit();
}

Expected<OutputFile> OutputFile::create(const std::string& given) {
  // A device or pipe would be replaced, and so would a link instead of what it leads to.
  struct stat status;
  if (stat(given.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
    return Error{"io", "cannot write `" + given + "`: it is not a regular file", {}};
  std::filesystem::path at = given;
  std::error_code none;
  for (int links = 0; std::filesystem::is_symlink(at, none); ++links) {
    if (links == 40) {
      errno = ELOOP;
      return io(given, "write");
    }
    at = at.parent_path() / std::filesystem::read_symlink(at, none);
  }
  const std::string path = at.string();
  std::string temporary = path + ".XXXXXX";
  int fd = mkstemp(temporary.data());
  if (fd < 0) return io(path, "write");
  // mkstemp makes it for the owner alone; a plain file follows the umask.
  mode_t mask = umask(0);
  umask(mask);
  fchmod(fd, 0666 & ~mask);
  close(fd);
  return OutputFile(path, temporary);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)) {
  other.temporary_.clear();
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Outcome OutputFile::commit() {
  if (std::rename(temporary_.c_str(), path_.c_str())) return io(path_, "write");
  temporary_.clear();
  return Nothing{};
}

Expected<Tensors> read_tensors(const std::string& path) {
  if (path.ends_with(".npz")) return read_npz(path);
  if (path.ends_with(".safetensors")) return read_safetensors(path);
  return Error{"bad_option", "`" + path + "` must end in .npz or .safetensors", {}};
}

Outcome write_tensors(const std::string& path, const Tensors& tensors) {
  if (path.ends_with(".npz")) return write_npz(path, tensors);
  if (path.ends_with(".safetensors")) return write_safetensors(path, tensors);
  return Error{"bad_option", "`" + path + "` must end in .npz or .safetensors", {}};
}

}  // namespace toroid::cli
