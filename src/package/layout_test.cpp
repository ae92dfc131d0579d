// The zip layout against the runtime's reader: alignment, zip64 (with the border lowered), odd names and sizes.
#include "package/layout.h"

#include <gtest/gtest.h>

#include <cstring>

#include "zip.h"

namespace toroid::package {
namespace {

void check(std::vector<LayoutMember> members, uint64_t zip64) {
  const uint64_t bytes = place_members(members, zip64);
  std::string archive(bytes, '\0');
  for (size_t i = 0; i < members.size(); ++i) {
    LayoutMember& m = members[i];
    std::memset(archive.data() + m.data, static_cast<int>('a' + i % 26), m.bytes);
    m.crc32 = runtime::crc32_of({reinterpret_cast<const std::byte*>(archive.data()) + m.data, m.bytes});
    EXPECT_EQ(m.data % m.alignment, 0u) << m.name;
  }
  for (const LayoutMember& m : members) {
    const std::string head = local_record(m, zip64);
    std::memcpy(archive.data() + m.header, head.data(), head.size());
  }
  const std::string tail = directory_records(members, zip64);
  std::memcpy(archive.data() + archive.size() - tail.size(), tail.data(), tail.size());
  const auto read = runtime::read_zip(std::as_bytes(std::span(archive)));
  ASSERT_TRUE(read) << read.error().text << " with zip64 from " << zip64;
  ASSERT_EQ(read->size(), members.size());
  for (size_t i = 0; i < members.size(); ++i) {
    EXPECT_EQ((*read)[i].name, members[i].name);
    EXPECT_EQ((*read)[i].offset, members[i].data);
    EXPECT_EQ((*read)[i].bytes, members[i].bytes);
    EXPECT_EQ((*read)[i].crc32, members[i].crc32);
  }
}

TEST(Layout, reads_back_with_and_without_zip64) {
  const std::vector<LayoutMember> members = {{.name = "p/code.so", .bytes = 1234},
                                             {.name = "p/empty", .bytes = 0},
                                             {.name = "p/weights.bin", .bytes = 10000, .alignment = 4096},
                                             {.name = "p/x", .bytes = 1, .alignment = 1},
                                             {.name = "p/" + std::string(300, 'n'), .bytes = 77, .alignment = 64}};
  for (uint64_t zip64 : {uint64_t{1}, uint64_t{100}, uint64_t{1500}, uint64_t{5000}, uint64_t{15000}, zip64_from})
    check(members, zip64);
  check({}, zip64_from);
}

// Every length of name gives every amount of padding, also the 1 to 3 bytes that no extra field can have.
TEST(Layout, aligns_for_any_name) {
  for (size_t length = 1; length < 140; ++length)
    check({{.name = std::string(length, 'n'), .bytes = 5}, {.name = "p", .bytes = 3}}, zip64_from);
}

TEST(Layout, many_members) {
  std::vector<LayoutMember> members(70000);
  for (size_t i = 0; i < members.size(); ++i)
    members[i] = {.name = "p/" + std::to_string(i), .bytes = i % 3, .alignment = 1};
  check(members, zip64_from);
}

}  // namespace
}  // namespace toroid::package
