// Reads the archive's types and scalars, and where a node comes from.
#include <algorithm>

#include "import/program.h"

namespace toroid {
namespace {

// Sizes beyond these are lies; within them no product of ours overflows.
constexpr int64_t max_size = int64_t{1} << 48;
constexpr double max_elements = 1e17;
constexpr size_t max_rank = 64;

// A line break or tab inside a note would break the graph's text.
std::string one_line(std::string_view text) {
  std::string out(text);
  std::replace_if(
      out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '#'; }, '_');
  return out;
}

bool is_pytorch_file(std::string_view file) {
  return file.starts_with("torch/") || file.find("-packages/torch/") != std::string_view::npos ||
         file.find("/torch/nn/modules/") != std::string_view::npos;
}

}  // namespace

Result<DType> dtype_from_archive(int64_t number) {
  switch (number) {
    case 1: return DType::u8;
    case 2: return DType::i8;
    case 3: return DType::i16;
    case 4: return DType::i32;
    case 5: return DType::i64;
    case 6: return DType::f16;
    case 7: return DType::f32;
    case 8: return DType::f64;
    case 9: return DType::c32;
    case 10: return DType::c64;
    case 11: return DType::c128;
    case 12: return DType::b8;
    case 13: return DType::bf16;
    case 28: return DType::u16;
    case 29: return DType::f8e4m3;
    case 30: return DType::f8e5m2;
    case 34: return DType::u32;
    case 35: return DType::u64;
    default: return fail(Kind::unsupported, "element type number {} of the archive", number);
  }
}

Result<Device> device_from_archive(const Json& json) {
  Device device;
  device.type = json["type"].text();
  Json index = json.find("index");
  device.index = index.is_null() ? 0 : static_cast<int32_t>(std::clamp<int64_t>(index.integer(), 0, 1024));
  if (device.type != "cpu") return fail(Kind::unsupported, "device `{}`; export the model on the CPU", device.type);
  return device;
}

Result<Sym> MetaReader::size(const Json& json) {
  auto [tag, value] = json.tagged();
  if (tag == "as_int") return Sym(value.integer());
  if (tag == "as_bool") return Sym(value.boolean());
  if (tag == "as_float") return sym_float(value.number());
  if (tag != "as_expr") {
    json.fault("a size");
    return Sym(0);
  }
  TD_TRY(Sym size, symbols_.srepr(value["expr_str"].text()));
  Json hint = value.find("hint");
  if (!hint.is_null() && hint.find("as_int").present()) symbols_.set_hint(size, hint["as_int"].integer());
  return size;
}

Result<TensorMeta> MetaReader::tensor(const Json& json) {
  TensorMeta meta;
  constexpr int64_t strided_layout = 7;
  if (int64_t layout = json["layout"].integer(); layout != strided_layout && json.ok())
    return fail(Kind::unsupported, "a tensor of layout {} (only strided tensors are taken)", layout);
  if (!json.ok()) return meta;
  TD_TRY(meta.type.dtype, dtype_from_archive(json["dtype"].integer()));
  TD_TRY(meta.type.device, device_from_archive(json["device"]));
  Status failure;
  auto list = [&](const char* name, SymList& sizes) {
    json[name].each([&](const Json& item) {
      if (!failure) return;
      Result<Sym> size = this->size(item);
      if (size)
        sizes.push_back(std::move(*size));
      else
        failure = std::unexpected(size.error());
    });
  };
  list("sizes", meta.type.sizes);
  list("strides", meta.type.strides);
  TD_CHECK_OK(failure);
  TD_TRY(meta.storage_offset, size(json["storage_offset"]));
  if (!json.ok()) return TensorMeta{};
  if (meta.type.sizes.size() != meta.type.strides.size() || meta.type.sizes.size() > max_rank)
    return fail(Kind::bad_file, "a tensor of {} sizes and {} strides", meta.type.sizes.size(),
                meta.type.strides.size());
  double elements = 1;
  for (const Sym& size : meta.type.sizes) {
    if (!size.is_constant()) continue;
    if (size.value() < 0 || size.value() > max_size) return fail(Kind::bad_file, "a tensor of size {}", size.value());
    elements *= static_cast<double>(std::max<int64_t>(size.value(), 1));
  }
  for (const Sym& stride : meta.type.strides)
    if (stride.is_constant() && (stride.value() < 0 || stride.value() > max_size))
      return fail(Kind::bad_file, "a tensor of stride {}", stride.value());
  if (elements > max_elements) return fail(Kind::bad_file, "a tensor of {} elements", elements);
  return meta;
}

Where where_from_metadata(const Json& metadata) {
  Where where;
  // key,path,type;key,path,type;… outermost first
  if (Json stack = metadata.find("nn_module_stack"); stack.is_string()) {
    std::string_view text = stack.text();
    std::string_view last = text.substr(text.rfind(';') + 1);
    size_t first_comma = last.find(','), last_comma = last.rfind(',');
    if (first_comma != std::string_view::npos && first_comma < last_comma &&
        !last.starts_with("_empty_nn_module_stack"))
      where.module = one_line(last.substr(first_comma + 1, last_comma - first_comma - 1));
  }
  // File "…", line 12, in forward: the call itself is last
  if (Json stack = metadata.find("stack_trace"); stack.is_string()) {
    std::string_view text = stack.text();
    constexpr std::string_view mark = "File \"";
    size_t end = std::string_view::npos;
    while (true) {
      size_t at = text.rfind(mark, end);
      if (at == std::string_view::npos) break;
      std::string_view frame = text.substr(at + mark.size());
      size_t quote = frame.find('"');
      constexpr std::string_view line_mark = ", line ";
      if (quote != std::string_view::npos && frame.substr(quote + 1).starts_with(line_mark)) {
        std::string_view file = frame.substr(0, quote);
        if (!is_pytorch_file(file)) {
          where.file = one_line(file.substr(file.rfind('/') + 1));
          where.line = std::atoi(std::string(frame.substr(quote + 1 + line_mark.size(), 9)).c_str());
          break;
        }
      }
      if (at == 0) break;
      end = at - 1;
    }
  }
  return where;
}

}  // namespace toroid
