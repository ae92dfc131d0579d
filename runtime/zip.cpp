// Reads the directory of a zip archive in memory. PKWARE's APPNOTE 6.3 names the records; every number read from the
// file is checked against the file's size before it is used.
#include "zip.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "toroid/runtime.h"

namespace toroid::runtime {
namespace {

constexpr uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, end_signature = 0x06054b50;
constexpr uint32_t end64_signature = 0x06064b50, locator64_signature = 0x07064b50;
constexpr size_t local_bytes = 30, central_bytes = 46, end_bytes = 22, end64_bytes = 56, locator64_bytes = 20;

template <class T>
T number(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
uint16_t u16(const std::byte* at) { return number<uint16_t>(at); }
uint32_t u32(const std::byte* at) { return number<uint32_t>(at); }
uint64_t u64(const std::byte* at) { return number<uint64_t>(at); }

template <class... Parts>
std::unexpected<Failure> bad(const Parts&... parts) {
  return refuse(TOROID_BAD_FILE, parts...);
}

struct Directory {
  uint64_t offset, bytes, count;
};

// A name for a message: what cannot be printed becomes '?', and long ones are cut.
std::string shown(std::string_view name) {
  std::string out(name.substr(0, 120));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
  return out;
}

bool safe_name(std::string_view name) {
  if (name.empty() || name.front() == '/' || name.size() > 4096) return false;
  for (char c : name)
    if (static_cast<unsigned char>(c) < 32 || c == '\\' || c == 127) return false;
  for (size_t start = 0; start <= name.size();) {
    const size_t end = std::min(name.find('/', start), name.size());
    const std::string_view part = name.substr(start, end - start);
    if (part == ".." || part == "." || (part.empty() && end != name.size())) return false;
    start = end + 1;
  }
  return true;
}

Outcome<Directory> find_directory(std::span<const std::byte> file) {
  if (file.size() < end_bytes) return bad("not a zip archive (", static_cast<uint64_t>(file.size()), " bytes)");
  // The end record lies before a comment of at most 65535 bytes.
  const size_t lowest = file.size() - std::min<size_t>(file.size(), end_bytes + 65535);
  size_t end = file.size() - end_bytes;
  for (;; --end) {
    const std::byte* at = file.data() + end;
    if (u32(at) == end_signature && end + end_bytes + u16(at + 20) == file.size()) break;
    if (end == lowest) return bad("not a zip archive, or a truncated one (no end record)");
  }
  const std::byte* at = file.data() + end;
  if (u16(at + 4) != 0 || u16(at + 6) != 0 || u16(at + 8) != u16(at + 10)) return bad("a zip archive of several disks");
  Directory d{u32(at + 16), u32(at + 12), u16(at + 10)};
  uint64_t limit = end;
  const bool wants64 = d.offset == UINT32_MAX || d.bytes == UINT32_MAX || d.count == UINT16_MAX;
  if (wants64 && end >= locator64_bytes && u32(at - locator64_bytes) == locator64_signature) {
    const uint64_t where = u64(at - locator64_bytes + 8);
    if (where > end - locator64_bytes || end - locator64_bytes - where < end64_bytes)
      return bad("the zip64 end record lies outside of the file");
    const std::byte* end64 = file.data() + where;
    if (u32(end64) != end64_signature) return bad("the zip64 end record is missing");
    d = {u64(end64 + 48), u64(end64 + 40), u64(end64 + 32)};
    limit = where;
  }
  if (d.offset > limit || d.bytes > limit - d.offset) return bad("the zip directory lies outside of the file");
  if (d.count > d.bytes / central_bytes)
    return bad("the zip directory names ", d.count, " members, more than its ", d.bytes, " bytes hold");
  return d;
}

// The zip64 extra field replaces each number that is all ones, in this order: size, packed size, offset.
bool read_zip64(std::span<const std::byte> extra, uint64_t* const* fields, size_t count) {
  for (size_t i = 0; i + 4 <= extra.size();) {
    const uint16_t id = u16(extra.data() + i);
    const size_t size = u16(extra.data() + i + 2);
    if (size > extra.size() - i - 4) return false;
    if (id == 1) {
      size_t at = i + 4;
      for (size_t f = 0; f < count; ++f) {
        if (*fields[f] != UINT32_MAX) continue;
        if (at + 8 > i + 4 + size) return false;
        *fields[f] = u64(extra.data() + at);
        at += 8;
      }
      return true;
    }
    i += 4 + size;
  }
  return false;
}

// Where the data of a member begins, from its local header, which must agree with the directory.
Outcome<uint64_t> data_offset(std::span<const std::byte> file, uint64_t header, uint64_t limit,
                              const ZipMember& member) {
  if (header > limit || limit - header < local_bytes)
    return bad("member `", shown(member.name), "`: its header lies outside of the file");
  const std::byte* at = file.data() + header;
  if (u32(at) != local_signature) return bad("member `", shown(member.name), "`: its header is damaged");
  const uint64_t name_bytes = u16(at + 26), extra_bytes = u16(at + 28);
  if (limit - header - local_bytes < name_bytes + extra_bytes)
    return bad("member `", shown(member.name), "`: its header lies outside of the file");
  if (name_bytes != member.name.size() || std::memcmp(at + local_bytes, member.name.data(), name_bytes) != 0)
    return bad("member `", shown(member.name), "`: its header has another name");
  if (u16(at + 8) != 0) return bad("member `", shown(member.name), "` is compressed; packages are stored");
  return header + local_bytes + name_bytes + extra_bytes;
}

}  // namespace

Outcome<std::vector<ZipMember>> read_zip(std::span<const std::byte> file) {
  RT_TRY(const Directory directory, find_directory(file));
  std::vector<ZipMember> members;
  members.reserve(directory.count);
  uint64_t at = directory.offset;
  const uint64_t end = directory.offset + directory.bytes;
  for (uint64_t i = 0; i < directory.count; ++i) {
    if (end - at < central_bytes || u32(file.data() + at) != central_signature)
      return bad("the zip directory is damaged at member ", i);
    const std::byte* record = file.data() + at;
    const uint64_t name_bytes = u16(record + 28), extra_bytes = u16(record + 30), comment_bytes = u16(record + 32);
    if (end - at - central_bytes < name_bytes + extra_bytes + comment_bytes)
      return bad("the zip directory is damaged at member ", i);
    ZipMember member;
    member.name.assign(reinterpret_cast<const char*>(record + central_bytes), name_bytes);
    if (!safe_name(member.name)) return bad("unsafe member name `", shown(member.name), "`");
    uint64_t packed = u32(record + 20), size = u32(record + 24), header = u32(record + 42);
    uint64_t* const fields[] = {&size, &packed, &header};
    if ((packed == UINT32_MAX || size == UINT32_MAX || header == UINT32_MAX) &&
        !read_zip64({record + central_bytes + name_bytes, extra_bytes}, fields, 3))
      return bad("member `", shown(member.name), "`: its zip64 sizes are missing");
    if (u16(record + 8) & 1) return bad("member `", shown(member.name), "` is encrypted");
    if (u16(record + 10) != 0 || packed != size)
      return bad("member `", shown(member.name), "` is compressed; packages are stored");
    member.crc32 = u32(record + 16);
    member.bytes = size;
    RT_TRY(member.offset, data_offset(file, header, directory.offset, member));
    if (member.bytes > directory.offset - member.offset)
      return bad("member `", shown(member.name), "`: ", member.bytes, " bytes lie outside of the file");
    members.push_back(std::move(member));
    at += central_bytes + name_bytes + extra_bytes + comment_bytes;
  }
  std::vector<const ZipMember*> order;
  for (const ZipMember& member : members) order.push_back(&member);
  std::ranges::sort(order, {}, &ZipMember::name);
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i]->name == order[i - 1]->name) return bad("member `", shown(order[i]->name), "` appears twice");
  std::ranges::sort(order, {}, [](const ZipMember* m) { return std::pair(m->offset, m->bytes); });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes)
      return bad("members `", shown(order[i - 1]->name), "` and `", shown(order[i]->name), "` overlap");
  return members;
}

uint32_t crc32_of(std::span<const std::byte> data) {
  static constexpr auto table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (std::byte b : data) crc = crc >> 8 ^ table[(crc ^ static_cast<uint32_t>(b)) & 255];
  return ~crc;
}

}  // namespace toroid::runtime
