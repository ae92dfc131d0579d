// Opens a zip archive by minizip and a file mapping.
#include "import/archive.h"

#include <minizip/unzip.h>
#include <zlib.h>

#include <algorithm>

#include "base/file.h"

namespace toroid {
namespace {

constexpr uint16_t method_stored = 0, method_deflated = 8;
// Deflate cannot do better than 1032 to 1; who claims more lies about the size.
constexpr uint64_t best_deflate_ratio = 1032;

struct Unzip {
  unzFile file;
  explicit Unzip(unzFile f) : file(f) {}
  Unzip(const Unzip&) = delete;
  Unzip& operator=(const Unzip&) = delete;
  ~Unzip() {
    if (file) unzClose(file);
  }
};

Status check_name(const std::string& path, const std::string& name) {
  bool bad =
      name.empty() || name[0] == '/' || name.find('\\') != std::string::npos || name.find('\0') != std::string::npos;
  for (const std::string& part : split(name, '/')) bad |= part == "..";
  if (bad) return fail(Kind::bad_file, "`{}`: member name `{}` leaves the archive's folder", path, name);
  return {};
}

}  // namespace

Result<Archive> Archive::open(const std::string& path) {
  Archive archive;
  archive.path_ = path;
  TD_TRY(MappedFile mapped, MappedFile::open(path));
  auto mapping = std::make_shared<const MappedFile>(std::move(mapped));
  archive.data_ = mapping->text().data();
  archive.size_ = mapping->text().size();
  archive.mapping_ = mapping;
  Unzip zip(unzOpen64(path.c_str()));
  if (!zip.file) return fail(Kind::bad_file, "`{}` is not a zip archive, or is cut short", path);
  unz_global_info64 global{};
  if (unzGetGlobalInfo64(zip.file, &global) != UNZ_OK || global.number_entry == 0)
    return fail(Kind::bad_file, "`{}` is a zip archive without members", path);
  // A central entry takes 46 bytes at least.
  if (global.number_entry > archive.size_ / 46)
    return fail(Kind::bad_file, "`{}` claims {} members, more than its {} can hold", path, global.number_entry,
                bytes_text(static_cast<int64_t>(archive.size_)));
  std::string prefix;
  int status = unzGoToFirstFile(zip.file);
  for (uint64_t i = 0; i < global.number_entry; ++i) {
    if (status != UNZ_OK)
      return fail(Kind::bad_file, "`{}`: member {} of {} cannot be read", path, i, global.number_entry);
    unz_file_info64 info{};
    char buffer[4096];
    if (unzGetCurrentFileInfo64(zip.file, &info, buffer, sizeof buffer, nullptr, 0, nullptr, 0) != UNZ_OK)
      return fail(Kind::bad_file, "`{}`: member {} cannot be read", path, i);
    if (info.size_filename >= sizeof buffer)
      return fail(Kind::bad_file, "`{}`: the name of member {} is too long", path, i);
    std::string name(buffer, info.size_filename);
    TD_CHECK_OK(check_name(path, name));
    if (i == 0) prefix = name.substr(0, name.find('/') == std::string::npos ? 0 : name.find('/') + 1);
    if (!name.starts_with(prefix))
      return fail(Kind::bad_file, "`{}`: member `{}` is outside the archive's folder `{}`", path, name, prefix);
    name.erase(0, prefix.size());
    Entry entry;
    unz64_file_pos position{};
    unzGetFilePos64(zip.file, &position);
    entry.position = position.pos_in_zip_directory, entry.number = position.num_of_file;
    entry.stored_bytes = info.compressed_size, entry.bytes = info.uncompressed_size;
    entry.crc = static_cast<uint32_t>(info.crc);
    entry.stored = info.compression_method == method_stored;
    if (info.flag & 1) return fail(Kind::unsupported, "`{}`: member `{}` is encrypted", path, name);
    if (!entry.stored && info.compression_method != method_deflated)
      return fail(Kind::unsupported, "`{}`: member `{}` is compressed by method {}", path, name,
                  info.compression_method);
    if (entry.stored_bytes > archive.size_ || (entry.stored && entry.bytes != entry.stored_bytes))
      return fail(Kind::bad_file, "`{}`: member `{}` claims {} bytes of {} in the file", path, name, entry.bytes,
                  archive.size_);
    if (!entry.stored && entry.bytes / best_deflate_ratio > entry.stored_bytes + 64)
      return fail(Kind::bad_file, "`{}`: member `{}` claims to inflate {} bytes to {}", path, name, entry.stored_bytes,
                  entry.bytes);
    // The raw form only reads the local header, which gives the place of the data.
    int method = 0, level = 0;
    if (unzOpenCurrentFile2(zip.file, &method, &level, 1) != UNZ_OK)
      return fail(Kind::bad_file, "`{}`: member `{}` has no local header", path, name);
    entry.data = unzGetCurrentFileZStreamPos64(zip.file);
    unzCloseCurrentFile(zip.file);
    if (entry.data > archive.size_ || entry.stored_bytes > archive.size_ - entry.data)
      return fail(Kind::bad_file, "`{}`: member `{}` ends behind the end of the file", path, name);
    if (!archive.entries_.emplace(name, entry).second)
      return fail(Kind::bad_file, "`{}` has two members named `{}`", path, name);
    archive.names_.push_back(std::move(name));
    status = unzGoToNextFile(zip.file);
  }
  return archive;
}

Result<Member> Archive::read(const std::string& name, bool checked) const {
  auto found = entries_.find(name);
  if (found == entries_.end()) return fail(Kind::bad_file, "`{}` has no member `{}`", path_, name);
  const Entry& entry = found->second;
  if (!entry.stored) return inflate(name, entry);
  Member member{std::string_view(data_ + entry.data, entry.bytes), mapping_};
  if (checked && crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const Bytef*>(member.bytes.data()),
                         member.bytes.size()) != entry.crc)
    return fail(Kind::bad_file, "`{}`: member `{}` is damaged (its CRC does not fit)", path_, name);
  return member;
}

Result<Member> Archive::inflate(const std::string& name, const Entry& entry) const {
  auto bytes = std::make_shared<std::string>();
  bytes->resize(entry.bytes);
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return fail(Kind::internal, "zlib does not start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data_ + entry.data));
  stream.next_out = reinterpret_cast<Bytef*>(bytes->data());
  uint64_t left_in = entry.stored_bytes, left_out = entry.bytes;
  int status = Z_OK;
  // zlib counts in 32 bits, so long members go in pieces.
  while (status == Z_OK) {
    constexpr uint64_t piece = 1u << 30;
    if (stream.avail_in == 0) stream.avail_in = static_cast<uInt>(std::min(left_in, piece)), left_in -= stream.avail_in;
    if (stream.avail_out == 0)
      stream.avail_out = static_cast<uInt>(std::min(left_out, piece)), left_out -= stream.avail_out;
    status = ::inflate(&stream, Z_NO_FLUSH);
  }
  const bool whole = status == Z_STREAM_END && left_out == 0 && stream.avail_out == 0;
  inflateEnd(&stream);
  if (!whole ||
      crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const Bytef*>(bytes->data()), bytes->size()) != entry.crc)
    return fail(Kind::bad_file, "`{}`: member `{}` cannot be inflated to its {} bytes", path_, name, entry.bytes);
  return Member{std::string_view(*bytes), bytes};
}

}  // namespace toroid
