// The .safetensors format: 8 bytes with the header's length, a JSON header, then the tensors' bytes, row-major.
#include <array>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tensor_file.h"
#include "toroid/runtime.h"

namespace toroid::cli {

namespace {

using Json = nlohmann::ordered_json;

struct Row {
  std::string_view text;
  int32_t dtype;
};
constexpr std::array rows = {Row{"BOOL", TOROID_BOOL}, Row{"U8", TOROID_U8},     Row{"I8", TOROID_I8},
                             Row{"I16", TOROID_I16},   Row{"I32", TOROID_I32},   Row{"I64", TOROID_I64},
                             Row{"F16", TOROID_F16},   Row{"BF16", TOROID_BF16}, Row{"F32", TOROID_F32},
                             Row{"F64", TOROID_F64},   Row{"C64", TOROID_C64}};

Error bad(const std::string& where, const std::string& text) { return {"bad_file", where + ": " + text, {}}; }

// A list of numbers >= 0.
bool read_numbers(const Json& json, std::vector<int64_t>& out) {
  if (!json.is_array() || json.size() > 64) return false;
  for (const Json& item : json) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > INT64_MAX) return false;
    out.push_back(static_cast<int64_t>(item.get<uint64_t>()));
  }
  return true;
}

Expected<HostTensor> read_tensor(const std::string& name, const Json& entry, std::string_view body,
                                 const std::string& where) {
  std::string at = where + ", tensor `" + name + "`";
  std::vector<int64_t> offsets;
  HostTensor tensor{name, -1, {}, {}, {}};
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
      !read_numbers(entry["shape"], tensor.sizes) || !entry.contains("data_offsets") ||
      !read_numbers(entry["data_offsets"], offsets) || offsets.size() != 2) {
    return bad(at, "an entry that cannot be read");
  }
  std::string dtype = entry["dtype"];
  for (const Row& row : rows) {
    if (row.text == dtype) tensor.dtype = row.dtype;
  }
  if (tensor.dtype < 0) return bad(at, "elements of type `" + dtype + "`, which no model takes");
  auto bytes = tensor_bytes(tensor.sizes, toroid_dtype_bytes(tensor.dtype));
  if (!bytes) return bad(at, bytes.error().text);
  if (offsets[0] > offsets[1] || static_cast<uint64_t>(offsets[1]) > body.size() || offsets[1] - offsets[0] != *bytes) {
    return bad(at, "offsets that do not fit its sizes or the file");
  }
  tensor.strides = row_major_strides(tensor.sizes);
  tensor.data.resize(static_cast<size_t>(*bytes));
  if (*bytes) std::memcpy(tensor.data.data(), body.data() + offsets[0], tensor.data.size());
  return tensor;
}

}  // namespace

Expected<Tensors> parse_safetensors(std::string_view bytes, const std::string& where) {
  if (bytes.size() < 8) return bad(where, "shorter than a .safetensors header");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
  // The format's own limit on a header is 100 MB.
  if (length > bytes.size() - 8 || length > 100'000'000) return bad(where, "the header is longer than the file");
  std::string_view text = bytes.substr(8, length), body = bytes.substr(8 + length);
  // Depth is bounded before nlohmann's recursive destructor meets it: the format needs 3 levels.
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == '"')
        in_string = false;
    } else if (text[i] == '"') {
      in_string = true;
    } else if (text[i] == '{' || text[i] == '[') {
      if (++depth > 8) return bad(where, "a header that cannot be read");
    } else if (text[i] == '}' || text[i] == ']') {
      --depth;
    }
  }
  Json header = Json::parse(text, nullptr, false);
  if (!header.is_object()) return bad(where, "a header that cannot be read");
  Tensors tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    auto tensor = read_tensor(name, entry, body, where);
    if (!tensor) return tensor.error();
    tensors.push_back(std::move(*tensor));
  }
  return tensors;
}

Expected<Tensors> read_safetensors(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error{"io", "cannot read `" + path + "`: " + std::strerror(errno), {}};
  std::string bytes(std::istreambuf_iterator<char>(in), {});
  return parse_safetensors(bytes, "`" + path + "`");
}

Outcome write_safetensors(const std::string& path, const Tensors& tensors) {
  Json header = Json::object();
  uint64_t offset = 0;
  for (const HostTensor& tensor : tensors) {
    std::string_view dtype;
    for (const Row& row : rows) {
      if (row.dtype == tensor.dtype) dtype = row.text;
    }
    if (dtype.empty()) {
      const char* name = toroid_dtype_name(tensor.dtype);
      return Error{
          "bad_option", "`" + tensor.name + "` is " + (name ? name : "of a type") + " that .safetensors lacks", {}};
    }
    header[tensor.name] = {
        {"dtype", dtype}, {"shape", tensor.sizes}, {"data_offsets", {offset, offset + tensor.data.size()}}};
    offset += tensor.data.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  auto file = OutputFile::create(path);
  if (!file) return file.error();
  std::ofstream out(file->temporary(), std::ios::binary);
  for (int i = 0; i < 8; ++i) out.put(static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i)));
  out << text;
  for (const HostTensor& tensor : tensors) {
    out.write(reinterpret_cast<const char*>(tensor.data.data()), static_cast<std::streamsize>(tensor.data.size()));
  }
  out.close();
  if (!out) return Error{"io", "cannot write `" + path + "`: " + std::strerror(errno), {}};
  return file->commit();
}

}  // namespace toroid::cli
