// The .npy format: a short text header that looks like a Python dict, then the elements.
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstring>
#include <optional>

#include "tensor_file.h"
#include "toroid/runtime.h"

namespace toroid::cli {

namespace {

struct Row {
  std::string_view text;  // without the byte order
  int32_t dtype;
};
constexpr std::array rows = {Row{"b1", TOROID_BOOL}, Row{"u1", TOROID_U8},   Row{"i1", TOROID_I8},
                             Row{"i2", TOROID_I16},  Row{"i4", TOROID_I32},  Row{"i8", TOROID_I64},
                             Row{"f2", TOROID_F16},  Row{"f4", TOROID_F32},  Row{"f8", TOROID_F64},
                             Row{"c8", TOROID_C64},  Row{"c16", TOROID_C128}};

Error bad(const std::string& where, const std::string& text) { return {"bad_file", where + ": " + text, {}}; }

// Reads the header's dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : text_(text) {}

  bool accept(char c) {
    blanks();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  std::optional<std::string> string() {
    blanks();
    if (text_.empty() || (text_.front() != '\'' && text_.front() != '"')) return {};
    size_t end = text_.find(text_.front(), 1);
    if (end == std::string_view::npos) return {};
    std::string out(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return out;
  }
  std::optional<bool> boolean() {
    blanks();
    for (bool value : {false, true}) {
      std::string_view word = value ? "True" : "False";
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return value;
    }
    return {};
  }
  std::optional<int64_t> integer() {
    blanks();
    int64_t value = 0;
    auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error != std::errc()) return {};
    text_.remove_prefix(static_cast<size_t>(end - text_.data()));
    return value;
  }
  std::optional<std::vector<int64_t>> tuple() {
    if (!accept('(')) return {};
    std::vector<int64_t> out;
    while (!accept(')')) {
      auto value = integer();
      if (!value || *value < 0 || out.size() > 64) return {};
      out.push_back(*value);
      if (!accept(',')) return accept(')') ? std::optional(out) : std::nullopt;
    }
    return out;
  }

 private:
  void blanks() {
    while (!text_.empty() && std::isspace(static_cast<unsigned char>(text_.front()))) text_.remove_prefix(1);
  }
  std::string_view text_;
};

struct Header {
  std::string descr;
  bool fortran = false;
  std::vector<int64_t> shape;
};

std::optional<Header> parse_header(std::string_view text) {
  HeaderReader reader(text);
  Header header;
  int seen = 0;
  if (!reader.accept('{')) return {};
  while (!reader.accept('}')) {
    auto key = reader.string();
    if (!key || !reader.accept(':')) return {};
    if (*key == "descr") {
      auto value = reader.string();
      if (!value) return {};
      header.descr = *value;
    } else if (*key == "fortran_order") {
      auto value = reader.boolean();
      if (!value) return {};
      header.fortran = *value;
    } else if (*key == "shape") {
      auto value = reader.tuple();
      if (!value) return {};
      header.shape = *value;
    } else {
      return {};
    }
    ++seen;
    reader.accept(',');
  }
  return seen == 3 ? std::optional(header) : std::nullopt;
}

std::vector<int64_t> column_major_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    strides[i] = step;
    step *= std::max<int64_t>(sizes[i], 1);
  }
  return strides;
}

void swap_bytes(std::vector<std::byte>& data, size_t unit) {
  for (size_t at = 0; at + unit <= data.size(); at += unit) {
    std::reverse(data.begin() + static_cast<ptrdiff_t>(at), data.begin() + static_cast<ptrdiff_t>(at + unit));
  }
}

}  // namespace

std::vector<int64_t> row_major_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides[i] = step;
    step *= std::max<int64_t>(sizes[i], 1);
  }
  return strides;
}

Expected<int64_t> tensor_bytes(const std::vector<int64_t>& sizes, int64_t element_bytes) {
  // A size of 0 must not hide an overflow of the others: strides are products of them.
  int64_t bytes = element_bytes, others = element_bytes;
  for (int64_t size : sizes) {
    if (size < 0 || __builtin_mul_overflow(others, std::max<int64_t>(size, 1), &others)) {
      return Error{"bad_file", "sizes beyond what memory can hold", {}};
    }
    bytes *= size;
  }
  return bytes;
}

std::string_view npy_dtype(int32_t dtype) {
  for (const Row& row : rows) {
    if (row.dtype == dtype) return row.text;
  }
  return {};
}

std::string npy_header(int32_t dtype, const std::vector<int64_t>& sizes) {
  std::string_view name = npy_dtype(dtype);
  bool one_byte = name == "b1" || name == "u1" || name == "i1";
  std::string dict =
      "{'descr': '" + std::string(one_byte ? "|" : "<") + std::string(name) + "', 'fortran_order': False, 'shape': (";
  for (int64_t size : sizes) dict += std::to_string(size) + ", ";
  if (sizes.size() > 1) dict.resize(dict.size() - 2);
  if (sizes.size() == 1) dict.pop_back();
  dict += "), }";
  // Magic, version and length take 10 bytes; the whole is a multiple of 64, with a newline at its end.
  size_t total = (10 + dict.size() + 1 + 63) / 64 * 64;
  dict.resize(total - 11, ' ');
  dict += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(dict.size() & 255);
  out += static_cast<char>(dict.size() >> 8);
  return out + dict;
}

Expected<HostTensor> parse_npy(std::string_view bytes, const std::string& where) {
  if (bytes.size() < 12 || !bytes.starts_with("\x93NUMPY")) return bad(where, "not a .npy array");
  auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(bytes[i])); };
  size_t version = byte(6);
  if (version < 1 || version > 3) return bad(where, ".npy version " + std::to_string(version) + ", expected 1 to 3");
  size_t start = version == 1 ? 10 : 12;
  size_t length = byte(8) | byte(9) << 8;
  if (version > 1) length |= byte(10) << 16 | byte(11) << 24;
  if (length > bytes.size() - start) return bad(where, "the header is longer than the file");
  auto header = parse_header(bytes.substr(start, length));
  if (!header) return bad(where, "a header that cannot be read");

  std::string_view descr = header->descr;
  char order = '<';
  if (!descr.empty() && (descr[0] == '<' || descr[0] == '>' || descr[0] == '|' || descr[0] == '=')) {
    order = descr[0];
    descr.remove_prefix(1);
  }
  auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.text == descr; });
  if (row == rows.end()) return bad(where, "elements of type `" + header->descr + "`, which no model takes");

  HostTensor tensor{where, row->dtype, header->shape, {}, {}};
  int64_t element = toroid_dtype_bytes(row->dtype);
  auto size = tensor_bytes(tensor.sizes, element);
  if (!size) return bad(where, size.error().text);
  std::string_view body = bytes.substr(start + length);
  if (static_cast<uint64_t>(*size) != body.size()) {
    return bad(where, std::to_string(body.size()) + " bytes of elements, expected " + std::to_string(*size));
  }
  tensor.strides = header->fortran ? column_major_strides(tensor.sizes) : row_major_strides(tensor.sizes);
  tensor.data.resize(body.size());
  if (!body.empty()) std::memcpy(tensor.data.data(), body.data(), body.size());
  // A complex number is two floats.
  bool complex = row->dtype == TOROID_C64 || row->dtype == TOROID_C128;
  if (order == '>') swap_bytes(tensor.data, static_cast<size_t>(complex ? element / 2 : element));
  return tensor;
}

}  // namespace toroid::cli
