// .npy, .npz and .safetensors: what is written reads back; what lies about itself is refused.
#include "tensor_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "toroid/runtime.h"

namespace toroid::cli {
namespace {

HostTensor tensor(std::string name, int32_t dtype, std::vector<int64_t> sizes) {
  HostTensor t{std::move(name), dtype, std::move(sizes), {}, {}};
  t.strides = row_major_strides(t.sizes);
  t.data.resize(static_cast<size_t>(*tensor_bytes(t.sizes, toroid_dtype_bytes(dtype))));
  for (size_t i = 0; i < t.data.size(); ++i) t.data[i] = std::byte(dtype == TOROID_BOOL ? i & 1 : i * 7 + 3);
  return t;
}

std::string temporary(const std::string& ending) {
  return (std::filesystem::temp_directory_path() / ("tensor_file_test." + std::to_string(getpid()) + ending)).string();
}

void expect_same(const Tensors& a, const Tensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    EXPECT_EQ(a[i].dtype, b[i].dtype);
    EXPECT_EQ(a[i].sizes, b[i].sizes);
    EXPECT_EQ(a[i].strides, b[i].strides);
    EXPECT_EQ(a[i].data, b[i].data);
  }
}

std::string npy(const std::string& dict, const std::string& body, char version = 1) {
  std::string out("\x93NUMPY", 6);
  out += version;
  out += '\0';
  out += static_cast<char>(dict.size());
  out += '\0';
  if (version > 1) out += std::string(2, '\0');
  return out + dict + body;
}

TEST(Npz, EveryDtypeReadsBack) {
  Tensors tensors;
  for (int32_t dtype : {TOROID_U8, TOROID_I8, TOROID_I16, TOROID_I32, TOROID_I64, TOROID_F16, TOROID_F32, TOROID_F64,
                        TOROID_C64, TOROID_C128, TOROID_BOOL}) {
    for (std::vector<int64_t> sizes : {std::vector<int64_t>{}, {1}, {5}, {0, 4}, {2, 3, 4}}) {
      tensors.push_back(tensor("t" + std::to_string(tensors.size()), dtype, sizes));
    }
  }
  std::string path = temporary(".npz");
  auto written = write_tensors(path, tensors);
  ASSERT_TRUE(written) << written.error().to_string();
  auto back = read_tensors(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(back) << back.error().to_string();
  expect_same(*back, tensors);
}

TEST(Npz, RefusesBfloat16WithAHint) {
  auto written = write_tensors(temporary(".npz"), {tensor("out0", TOROID_BF16, {2})});
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().text.find("bf16"), std::string::npos);
  EXPECT_NE(written.error().to_string().find("safetensors"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(temporary(".npz")));
}

TEST(Npy, FortranOrderKeepsItsStrides) {
  auto t = parse_npy(npy("{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }\n", std::string(12, 'x')), "t");
  ASSERT_TRUE(t) << t.error().to_string();
  EXPECT_EQ(t->strides, (std::vector<int64_t>{1, 2}));
}

TEST(Npy, BigEndianIsSwapped) {
  auto t = parse_npy(npy("{'descr': '>i4', 'fortran_order': False, 'shape': (1,)}", {'\0', '\0', '\1', '\2'}), "t");
  ASSERT_TRUE(t) << t.error().to_string();
  int32_t value;
  std::memcpy(&value, t->data.data(), 4);
  EXPECT_EQ(value, 258);
  t = parse_npy(npy("{'descr': '>c8', 'fortran_order': False, 'shape': ()}", {'\x3f', '\x80', 0, 0, '\x40', 0, 0, 0}),
                "t");
  ASSERT_TRUE(t) << t.error().to_string();
  float parts[2];
  std::memcpy(parts, t->data.data(), 8);
  EXPECT_EQ(parts[0], 1.0f);
  EXPECT_EQ(parts[1], 2.0f);
}

TEST(Npy, RefusesWhatItCannotTrust) {
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
  EXPECT_TRUE(parse_npy(npy(good, std::string(8, 'x')), "t"));
  EXPECT_TRUE(parse_npy(npy(good, std::string(8, 'x'), 2), "t"));
  std::string longer = npy(good, std::string(8, 'x'));
  longer[8] = '\xff';
  longer[9] = '\xff';
  for (const std::string& bytes : {
           std::string(),
           std::string("\x93NUMPY\1"),
           npy(good, std::string(7, 'x')),
           npy(good, std::string(9, 'x')),
           npy(good, std::string(8, 'x'), 4),
           longer,
           npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", "x"),
           npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904, 4), }", ""),
           npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", "x"),
           npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", std::string(8, 'x')),
           npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "xxxx"),
           npy("{'descr': '<f4', 'shape': (2,), }", std::string(8, 'x')),
           npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,", std::string(8, 'x')),
           npy("import os", std::string(8, 'x')),
       }) {
    auto t = parse_npy(bytes, "t");
    ASSERT_FALSE(t);
    EXPECT_EQ(t.error().kind, "bad_file");
  }
}

TEST(Npz, CutAndDamagedFilesAreRefused) {
  std::string path = temporary(".npz");
  ASSERT_TRUE(write_tensors(path, {tensor("arg0", TOROID_F32, {300}), tensor("arg1", TOROID_I64, {4, 4})}));
  std::ifstream in(path, std::ios::binary);
  std::string whole(std::istreambuf_iterator<char>(in), {});
  auto write = [&](const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; };
  for (size_t cut = 0; cut < whole.size(); cut += 97) {
    write(whole.substr(0, cut));
    EXPECT_FALSE(read_tensors(path)) << "cut at " << cut;
  }
  // One changed byte of the elements: the checksum tells.
  std::string changed = whole;
  changed[200] ^= 1;
  write(changed);
  EXPECT_FALSE(read_tensors(path));
  std::filesystem::remove(path);
  auto missing = read_tensors(path);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, "io");
}

TEST(Safetensors, ReadsBackAndHasBfloat16) {
  Tensors tensors = {tensor("out0", TOROID_BF16, {3, 2}), tensor("out1", TOROID_F32, {}),
                     tensor("out2", TOROID_BOOL, {0, 7})};
  std::string path = temporary(".safetensors");
  ASSERT_TRUE(write_tensors(path, tensors));
  auto back = read_tensors(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(back) << back.error().to_string();
  expect_same(*back, tensors);
}

std::string safetensors(const std::string& header, const std::string& body) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  return out + header + body;
}

TEST(Safetensors, RefusesWhatItCannotTrust) {
  EXPECT_TRUE(parse_safetensors(safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "xxxx"), "t"));
  for (const std::string& bytes : {
           std::string("1234567"),
           std::string(8, '\xff') + "{}",
           safetensors("[]", ""),
           safetensors("{", ""),
           safetensors(R"({"a":1})", ""),
           safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,5]}})", "xxxxx"),
           safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "xxxx"),
           safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "xxxx"),
           safetensors(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", "xxxx"),
           safetensors(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "xxxx"),
           safetensors(R"({"a":{"dtype":"F32","shape":[9223372036854775807,3],"data_offsets":[0,4]}})", "xxxx"),
           safetensors(std::string(100'000, '['), ""),
       }) {
    auto t = parse_safetensors(bytes, "t");
    ASSERT_FALSE(t) << bytes.substr(8, 60);
    EXPECT_EQ(t.error().kind, "bad_file");
  }
}

}  // namespace
}  // namespace toroid::cli
