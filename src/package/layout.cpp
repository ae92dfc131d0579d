// Zip records (PKWARE's APPNOTE 6.3), without compression, times or comments, so that equal contents give equal bytes.
#include "package/layout.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace toroid::package {
namespace {

constexpr uint64_t local_bytes = 30, central_bytes = 46, end_bytes = 22, end64_bytes = 56, locator64_bytes = 20;
constexpr uint64_t extra_head = 4;
// Header id of the padding that aligns data; readers skip ids that they do not know. "TD" as bytes.
constexpr uint16_t padding_id = 0x4454;
// 1980-01-01, the zip format's first day.
constexpr uint16_t no_date = 0x21;

class Writer {
 public:
  Writer& u16(uint64_t value) { return number<uint16_t>(value); }
  Writer& u32(uint64_t value) { return number<uint32_t>(value); }
  Writer& u64(uint64_t value) { return number<uint64_t>(value); }
  Writer& text(const std::string& text) {
    out_ += text;
    return *this;
  }
  Writer& zeros(uint64_t count) {
    out_.append(count, '\0');
    return *this;
  }
  std::string take() { return std::move(out_); }

 private:
  template <class T>
  Writer& number(uint64_t value) {
    const T narrow = static_cast<T>(value);
    out_.append(reinterpret_cast<const char*>(&narrow), sizeof narrow);
    return *this;
  }
  std::string out_;
};

bool wide_size(const LayoutMember& m, uint64_t zip64) { return m.bytes >= zip64; }
bool wide_offset(const LayoutMember& m, uint64_t zip64) { return m.header >= zip64; }
uint64_t version_needed(const LayoutMember& m, uint64_t zip64) {
  return wide_size(m, zip64) || wide_offset(m, zip64) ? 45 : 20;
}
uint64_t local_zip64(const LayoutMember& m, uint64_t zip64) { return wide_size(m, zip64) ? extra_head + 16 : 0; }
uint64_t central_zip64(const LayoutMember& m, uint64_t zip64) {
  const uint64_t numbers = (wide_size(m, zip64) ? 16 : 0) + (wide_offset(m, zip64) ? 8 : 0);
  return numbers ? extra_head + numbers : 0;
}

struct Directory {
  uint64_t start, bytes;
  bool wide;
};

Directory directory_of(const std::vector<LayoutMember>& members, uint64_t zip64) {
  Directory d{0, 0, members.size() >= std::min<uint64_t>(zip64, 0xffff)};
  if (!members.empty()) d.start = members.back().data + members.back().bytes;
  for (const LayoutMember& m : members) d.bytes += central_bytes + m.name.size() + central_zip64(m, zip64);
  d.wide |= d.start >= zip64 || d.bytes >= zip64;
  return d;
}

}  // namespace

uint64_t place_members(std::vector<LayoutMember>& members, uint64_t zip64) {
  uint64_t at = 0;
  for (LayoutMember& m : members) {
    TD_CHECK(m.name.size() < 4096 && m.alignment <= 32768, "member `{}` cannot be laid out", m.name);
    m.header = at;
    const uint64_t plain = at + local_bytes + m.name.size() + local_zip64(m, zip64);
    uint64_t padding = (m.alignment - plain % m.alignment) % m.alignment;
    // An extra field is at least its head.
    if (padding > 0 && padding < extra_head) padding += m.alignment;
    m.data = plain + padding;
    at = m.data + m.bytes;
  }
  const Directory d = directory_of(members, zip64);
  return at + d.bytes + (d.wide ? end64_bytes + locator64_bytes : 0) + end_bytes;
}

std::string local_record(const LayoutMember& m, uint64_t zip64) {
  const bool size64 = wide_size(m, zip64);
  const uint64_t shown_size = size64 ? 0xffffffff : m.bytes;
  const uint64_t extra = m.data - m.header - local_bytes - m.name.size();
  Writer local;
  local.u32(0x04034b50).u16(version_needed(m, zip64)).u16(0).u16(0).u16(0).u16(no_date);
  local.u32(m.crc32).u32(shown_size).u32(shown_size).u16(m.name.size()).u16(extra).text(m.name);
  if (size64) local.u16(1).u16(16).u64(m.bytes).u64(m.bytes);
  if (const uint64_t padding = extra - local_zip64(m, zip64))
    local.u16(padding_id).u16(padding - extra_head).zeros(padding - extra_head);
  std::string text = local.take();
  TD_CHECK(m.header + text.size() == m.data, "the header of `{}` does not fit", m.name);
  return text;
}

std::string directory_records(const std::vector<LayoutMember>& members, uint64_t zip64) {
  const Directory d = directory_of(members, zip64);
  Writer central;
  for (const LayoutMember& m : members) {
    const bool size64 = wide_size(m, zip64), offset64 = wide_offset(m, zip64);
    const uint64_t shown_size = size64 ? 0xffffffff : m.bytes, version = version_needed(m, zip64);
    central.u32(0x02014b50).u16(version).u16(version).u16(0).u16(0).u16(0).u16(no_date);
    central.u32(m.crc32).u32(shown_size).u32(shown_size).u16(m.name.size()).u16(central_zip64(m, zip64));
    central.u16(0).u16(0).u16(0).u32(0).u32(offset64 ? 0xffffffff : m.header).text(m.name);
    if (size64 || offset64) {
      central.u16(1).u16(central_zip64(m, zip64) - extra_head);
      if (size64) central.u64(m.bytes).u64(m.bytes);
      if (offset64) central.u64(m.header);
    }
  }
  const uint64_t end64 = d.start + d.bytes;
  if (d.wide) {
    central.u32(0x06064b50).u64(end64_bytes - 12).u16(45).u16(45).u32(0).u32(0);
    central.u64(members.size()).u64(members.size()).u64(d.bytes).u64(d.start);
    central.u32(0x07064b50).u32(0).u64(end64).u32(1);
  }
  const uint64_t count = d.wide ? 0xffff : members.size();
  central.u32(0x06054b50).u16(0).u16(0).u16(count).u16(count);
  central.u32(d.wide ? 0xffffffff : d.bytes).u32(d.wide ? 0xffffffff : d.start).u16(0);
  return central.take();
}

}  // namespace toroid::package
