// Opens a package: zip directory, choice of the model, manifest, members.
#include "package.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sha256.h"
#include "toroid/runtime.h"
#include "weights_hash.h"

namespace toroid::runtime {
namespace {

constexpr std::string_view models_folder = "/data/aotinductor/";

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += cat(out.empty() ? "`" : ", `", name, "`");
  return out;
}

}  // namespace

Outcome<Package> Package::open(const std::string& path, const std::string& model) {
  Package p;
  p.file_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!p.file_) return refuse(TOROID_IO, "cannot open `", path, "`: ", std::strerror(errno));
  struct stat status;
  if (::fstat(p.file_.get(), &status) != 0)
    return refuse(TOROID_IO, "cannot read `", path, "`: ", std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return refuse(TOROID_BAD_FILE, "`", path, "` is not a file");
  const size_t bytes = static_cast<size_t>(status.st_size);
  if (bytes == 0) return refuse(TOROID_BAD_FILE, "`", path, "` is empty");
  void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, p.file_.get(), 0);
  if (data == MAP_FAILED) return refuse(TOROID_IO, "cannot map `", path, "`: ", std::strerror(errno));
  p.mapping_ = Mapping(data, bytes);
  p.bytes_ = p.mapping_.span();
  if (auto outcome = p.read(model); !outcome)
    return refuse(outcome.error().code, "`", path, "`: ", outcome.error().text);
  return p;
}

Outcome<Package> Package::from_memory(std::span<const std::byte> bytes, const std::string& model) {
  Package p;
  p.bytes_ = bytes;
  RT_CHECK(p.read(model));
  return p;
}

Outcome<std::span<const std::byte>> Package::member(const std::string& file) const {
  const auto it = std::ranges::find(members_, folder_ + file, &ZipMember::name);
  if (it == members_.end()) return refuse(TOROID_BAD_FILE, "member `", folder_, file, "` is missing");
  return bytes_.subspan(it->offset, it->bytes);
}

Outcome<void> Package::read(const std::string& wanted) {
  RT_TRY(members_, read_zip(bytes_));
  bool foreign = false;
  std::vector<std::string> folders;
  for (const ZipMember& m : members_) {
    const size_t at = m.name.find(models_folder);
    if (at == std::string::npos) continue;
    foreign = true;
    const size_t start = at + models_folder.size(), slash = m.name.find('/', start);
    if (slash == std::string::npos || m.name.substr(slash) != "/manifest.json") continue;
    models_.push_back(m.name.substr(start, slash - start));
    folders.push_back(m.name.substr(0, slash + 1));
  }
  if (models_.empty()) {
    if (foreign) return refuse(TOROID_UNSUPPORTED, "a package that Toroid did not make (it has no manifest.json)");
    return refuse(TOROID_BAD_FILE, "not a compiled package (no `data/aotinductor/` in it)");
  }
  size_t index = 0;
  if (wanted.empty()) {
    if (models_.size() > 1)
      return refuse(TOROID_BAD_OPTION, "the package holds several models, name one of ", list_of(models_));
  } else {
    index = std::ranges::find(models_, wanted) - models_.begin();
    if (index == models_.size())
      return refuse(TOROID_BAD_OPTION, "the package has no model `", wanted, "`, only ", list_of(models_));
  }
  model_ = models_[index];
  folder_ = folders[index];

  const auto manifest = std::ranges::find(members_, folder_ + "manifest.json", &ZipMember::name);
  const auto text = bytes_.subspan(manifest->offset, manifest->bytes);
  // The manifest vouches for the other members; the zip's checksum vouches for it.
  if (crc32_of(text) != manifest->crc32) return refuse(TOROID_BAD_FILE, "manifest.json is damaged (wrong CRC-32)");
  manifest_text_.assign(reinterpret_cast<const char*>(text.data()), text.size());
  RT_TRY(manifest_, read_manifest(manifest_text_));

  RT_TRY(code_, member(manifest_.code_file));
  if (code_.size() != manifest_.code_bytes)
    return refuse(TOROID_BAD_FILE, "member `", manifest_.code_file, "` has ", static_cast<uint64_t>(code_.size()),
                  " bytes, the manifest says ", manifest_.code_bytes);
  if (!manifest_.weights_file.empty()) {
    RT_TRY(weights_, member(manifest_.weights_file));
    if (weights_.size() != manifest_.weights_bytes)
      return refuse(TOROID_BAD_FILE, "member `", manifest_.weights_file, "` has ",
                    static_cast<uint64_t>(weights_.size()), " bytes, the manifest says ", manifest_.weights_bytes);
  }
  for (const ZipMember& m : members_) {
    if (!m.name.starts_with(folder_) || !m.name.ends_with("wrapper_metadata.json")) continue;
    RT_TRY(metadata_, read_metadata({reinterpret_cast<const char*>(bytes_.data() + m.offset), m.bytes}));
    break;
  }
  return {};
}

Outcome<Weights> Package::load_weights(uint64_t mutated_bytes, bool borrow) const {
  if (!file_) return Weights::from_memory(weights_, mutated_bytes, borrow);
  return Weights::map_file(file_.get(), weights_.data() - bytes_.data(), weights_.size(), mutated_bytes);
}

Outcome<void> Package::verify() const {
  const std::string code = sha256_hex(code_.data(), code_.size());
  if (code != manifest_.code_sha256)
    return refuse(TOROID_BAD_FILE, "the model's code is damaged: its SHA-256 is ", code, ", the manifest says ",
                  manifest_.code_sha256);
  // The manifest vouches for those two; for everything else the zip's checksums do.
  for (const ZipMember& m : members_) {
    if (m.name == folder_ + manifest_.code_file || m.name == folder_ + manifest_.weights_file) continue;
    if (crc32_of(bytes_.subspan(m.offset, m.bytes)) != m.crc32)
      return refuse(TOROID_BAD_FILE, "member `", m.name, "` is damaged (wrong CRC-32)");
  }
  if (manifest_.weights_file.empty()) return {};
  const std::string weights = hash_weights(weights_);
  if (weights != manifest_.weights_hash)
    return refuse(TOROID_BAD_FILE, "the weights are damaged: their hash is ", weights, ", the manifest says ",
                  manifest_.weights_hash);
  return {};
}

}  // namespace toroid::runtime
