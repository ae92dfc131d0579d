// The zip reader: good archives, and hostile ones built by changing single fields.
#include "zip.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "cores.h"
#include "toroid/runtime.h"

namespace toroid::runtime {
namespace {

using Members = std::vector<std::pair<std::string, std::string>>;

// A stored archive; fields can be patched by where they stand.
struct Builder {
  std::string bytes;
  std::vector<size_t> locals, centrals;
  size_t directory = 0, end = 0;

  void number(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes += static_cast<char>(i < 8 ? value >> 8 * i : 0);
  }
  explicit Builder(const Members& members) {
    for (const auto& [name, data] : members) {
      locals.push_back(bytes.size());
      number(0x04034b50, 4), number(20, 2), number(0, 8);
      number(crc32_of(std::as_bytes(std::span(data))), 4), number(data.size(), 4), number(data.size(), 4);
      number(name.size(), 2), number(0, 2);
      bytes += name + data;
    }
    directory = bytes.size();
    for (size_t i = 0; i < members.size(); ++i) {
      const auto& [name, data] = members[i];
      centrals.push_back(bytes.size());
      number(0x02014b50, 4), number(20, 2), number(20, 2), number(0, 8);
      number(crc32_of(std::as_bytes(std::span(data))), 4), number(data.size(), 4), number(data.size(), 4);
      number(name.size(), 2), number(0, 12), number(locals[i], 4);
      bytes += name;
    }
    end = bytes.size();
    number(0x06054b50, 4), number(0, 4), number(members.size(), 2), number(members.size(), 2);
    number(end - directory, 4), number(directory, 4), number(0, 2);
  }
  Builder& patch(size_t at, uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes[at + i] = static_cast<char>(value >> 8 * i);
    return *this;
  }
};

Outcome<std::vector<ZipMember>> read(const std::string& bytes) { return read_zip(std::as_bytes(std::span(bytes))); }

std::string error_of(const std::string& bytes) {
  const auto outcome = read(bytes);
  if (outcome) return "no error";
  EXPECT_EQ(outcome.error().code, TOROID_BAD_FILE);
  return outcome.error().text;
}

const Members two = {{"p/a", "hello"}, {"p/b.bin", std::string(100, 'x')}};

TEST(Zip, reads_members) {
  Builder b(two);
  auto members = read(b.bytes);
  ASSERT_TRUE(members) << members.error().text;
  ASSERT_EQ(members->size(), 2u);
  EXPECT_EQ((*members)[0].name, "p/a");
  EXPECT_EQ(b.bytes.substr((*members)[0].offset, (*members)[0].bytes), "hello");
  EXPECT_EQ((*members)[1].bytes, 100u);
  EXPECT_EQ((*members)[0].crc32, 0x3610a686u);
  EXPECT_TRUE(read(Builder(Members{}).bytes));
  // A comment after the end, even one that looks like an end record.
  std::string commented = b.bytes + std::string("PK\5\6", 4) + std::string(30, '\0');
  commented[b.end + 20] = 34;
  EXPECT_TRUE(read(commented)) << read(commented).error().text;
}

TEST(Zip, refuses_what_is_no_archive) {
  EXPECT_EQ(error_of(""), "not a zip archive (0 bytes)");
  EXPECT_EQ(error_of(std::string(1000, 'x')), "not a zip archive, or a truncated one (no end record)");
  const Builder b(two);
  for (size_t size = 0; size < b.bytes.size(); ++size) EXPECT_NE(error_of(b.bytes.substr(0, size)), "no error");
}

TEST(Zip, refuses_lies) {
  auto lie = [](auto change) {
    Builder b(two);
    change(b);
    return error_of(b.bytes);
  };
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.end + 8, 60000, 2).patch(b.end + 10, 60000, 2); }),
            "the zip directory names 60000 members, more than its 102 bytes hold");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.end + 16, 0x7fffffff, 4); }), "the zip directory lies outside of the file");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.end + 12, 0x7fffffff, 4); }), "the zip directory lies outside of the file");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.end + 4, 1, 2); }), "a zip archive of several disks");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[1] + 24, 200, 4).patch(b.centrals[1] + 20, 200, 4); }),
            "member `p/b.bin`: 200 bytes lie outside of the file");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[0] + 24, 60, 4).patch(b.centrals[0] + 20, 60, 4); }),
            "members `p/a` and `p/b.bin` overlap");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[0] + 42, 0x7ffffff0, 4); }),
            "member `p/a`: its header lies outside of the file");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[0] + 42, 3, 4); }), "member `p/a`: its header is damaged");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[0] + 42, b.locals[1], 4); }),
            "member `p/a`: its header has another name");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.locals[0] + 28, 0xffff, 2); }),
            "member `p/a`: its header lies outside of the file");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[0] + 28, 0xffff, 2); }),
            "the zip directory is damaged at member 0");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[1], 0, 4); }), "the zip directory is damaged at member 1");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[0] + 10, 8, 2); }),
            "member `p/a` is compressed; packages are stored");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.locals[0] + 8, 8, 2); }), "member `p/a` is compressed; packages are stored");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[0] + 8, 1, 2); }), "member `p/a` is encrypted");
  EXPECT_EQ(lie([](Builder& b) { b.patch(b.centrals[0] + 24, 0xffffffff, 4); }),
            "member `p/a`: its zip64 sizes are missing");
}

TEST(Zip, refuses_names) {
  for (const char* name : {"../a", "p/../../a", "/etc/a", "p\\a", "p/..", "./a", "p//a", "p/\x01"})
    EXPECT_NE(error_of(Builder(Members{{name, "x"}}).bytes).find("unsafe member name"), std::string::npos) << name;
  EXPECT_EQ(error_of(Builder(Members{{"", "x"}}).bytes), "unsafe member name ``");
  EXPECT_EQ(error_of(Builder(Members{{"a", "x"}, {"a", "y"}}).bytes), "member `a` appears twice");
  EXPECT_EQ(error_of(Builder(Members{{"a..b/c...d", "x"}}).bytes), "no error");
}

// Random damage: any answer, but no crash (run under sanitizers).
TEST(Zip, survives_random_damage) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const Builder good(two);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = good.bytes;
    for (unsigned n = random() % 4 + 1; n-- > 0;) {
      // Most of the damage in the records, whose fields matter.
      const size_t at =
          random() % 3 ? good.directory + random() % (bytes.size() - good.directory) : random() % bytes.size();
      bytes[at] = random() % 2 ? static_cast<char>(0xff) : static_cast<char>(random());
    }
    if (auto members = read(bytes)) {
      for (const ZipMember& m : *members) EXPECT_LE(m.offset + m.bytes, bytes.size());
    }
  }
}

}  // namespace
}  // namespace toroid::runtime
