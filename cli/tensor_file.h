// Tensors in files: .npz and .safetensors, read and written. Everything read is checked against the file's true size.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "toroid/error.h"

namespace toroid::cli {

// A tensor that owns its bytes. dtype is a toroid_dtype; strides are in elements (Fortran order keeps its own).
struct HostTensor {
  std::string name;
  int32_t dtype = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  std::vector<std::byte> data;
};
using Tensors = std::vector<HostTensor>;

std::vector<int64_t> row_major_strides(const std::vector<int64_t>& sizes);
// sizes multiplied with bytes per element; an Error when that is more than int64 holds or a size is negative.
Expected<int64_t> tensor_bytes(const std::vector<int64_t>& sizes, int64_t element_bytes);

// By the file's ending: .npz or .safetensors.
Expected<Tensors> read_tensors(const std::string& path);
// The tensors' data are row-major. The file appears whole or not at all.
Outcome write_tensors(const std::string& path, const Tensors& tensors);

// The formats themselves; `where` names the file in messages.
Expected<HostTensor> parse_npy(std::string_view bytes, const std::string& where);
std::string npy_header(int32_t dtype, const std::vector<int64_t>& sizes);
// The letters of a dtype in a .npy header ("<f4"); empty for one that numpy lacks (bf16).
std::string_view npy_dtype(int32_t dtype);
Expected<Tensors> read_npz(const std::string& path);
Outcome write_npz(const std::string& path, const Tensors& tensors);
Expected<Tensors> parse_safetensors(std::string_view bytes, const std::string& where);
Expected<Tensors> read_safetensors(const std::string& path);
Outcome write_safetensors(const std::string& path, const Tensors& tensors);

// Writes to a temporary file beside `path`, renames it at commit(); removes it otherwise. Links are followed; what
// exists and is no regular file is refused.
class OutputFile {
 public:
  static Expected<OutputFile> create(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();
  const std::string& temporary() const { return temporary_; }
  Outcome commit();

 private:
  OutputFile(std::string path, std::string temporary) : path_(std::move(path)), temporary_(std::move(temporary)) {}
  std::string path_, temporary_;
};

}  // namespace toroid::cli
