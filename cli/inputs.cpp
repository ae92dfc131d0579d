// Tensors for a model: read from a file, or made up from its signature; and the runtime's outputs as tensors.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "model.h"

namespace toroid::cli {

namespace {

// Round-half-even from float to the upper 16 bits.
uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Values of a normal distribution need no subnormals or infinities of f16.
uint16_t to_f16(float value) {
  _Float16 half = static_cast<_Float16>(value);
  uint16_t bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}

// Standard normal, by Box and Muller: std::normal_distribution differs between standard libraries.
class Normal {
 public:
  explicit Normal(uint64_t seed) : bits_(seed) {}
  double next() {
    double u = (static_cast<double>(bits_() >> 11) + 1) * 0x1p-53, v = static_cast<double>(bits_() >> 11) * 0x1p-53;
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v);
  }

 private:
  std::mt19937_64 bits_;
};

template <class T>
void put(HostTensor& tensor, int64_t i, T value) {
  std::memcpy(tensor.data.data() + static_cast<size_t>(i) * sizeof value, &value, sizeof value);
}

// Floats are normal, integers and booleans 0.
void fill(HostTensor& tensor, int64_t count, Normal& normal) {
  for (int64_t i = 0; i < count; ++i) {
    switch (tensor.dtype) {
      case TOROID_F32: put(tensor, i, static_cast<float>(normal.next())); break;
      case TOROID_F64: put(tensor, i, normal.next()); break;
      case TOROID_BF16: put(tensor, i, to_bf16(static_cast<float>(normal.next()))); break;
      case TOROID_F16: put(tensor, i, to_f16(static_cast<float>(normal.next()))); break;
      case TOROID_C64:
        put(tensor, 2 * i, static_cast<float>(normal.next()));
        put(tensor, 2 * i + 1, static_cast<float>(normal.next()));
        break;
      case TOROID_C128:
        put(tensor, 2 * i, normal.next());
        put(tensor, 2 * i + 1, normal.next());
        break;
      default: return;
    }
  }
}

Expected<Tensors> random_inputs(const Model& model, const InputArgs& args) {
  CLI_TRY(SymbolValues symbols, symbol_values(model.report(), args.sizes));
  Normal normal(args.seed);
  // Asked for, memory is promised; taken, the system may kill the program instead of refusing.
  const int64_t memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  int64_t total = 0;
  Tensors tensors;
  for (const toroid_slot& slot : model.inputs()) {
    HostTensor tensor{"arg" + std::to_string(tensors.size()), slot.dtype, {}, {}, {}};
    for (const std::string& size : split_sizes(slot.sizes ? slot.sizes : "")) {
      CLI_TRY(int64_t value, evaluate_size(size, symbols));
      tensor.sizes.push_back(value);
    }
    CLI_TRY(int64_t bytes, tensor_bytes(tensor.sizes, toroid_dtype_bytes(slot.dtype)));
    tensor.strides = row_major_strides(tensor.sizes);
    total += bytes;
    if (total > memory) {
      return Error{"bad_option",
                   "inputs of more than " + std::to_string(memory >> 20) + " MiB, all the memory of this machine",
                   {"at `" + std::string(slot.name ? slot.name : "") + "`, hint: give smaller ones by --size"}};
    }
    tensor.data.resize(static_cast<size_t>(bytes));
    fill(tensor, bytes / toroid_dtype_bytes(slot.dtype), normal);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

Expected<Tensors> file_inputs(const Model& model, const std::string& path) {
  CLI_TRY(Tensors found, read_tensors(path));
  Tensors tensors;
  for (const toroid_slot& slot : model.inputs()) {
    std::string name = "arg" + std::to_string(tensors.size());
    auto match = std::find_if(found.begin(), found.end(), [&](const HostTensor& t) { return t.name == name; });
    if (match == found.end()) {
      return Error{"bad_input",
                   "`" + path + "` has no `" + name + "` (the model's `" + slot.name + "`)",
                   {"the model takes " + std::to_string(model.inputs().size()) + " inputs: arg0, arg1, …"}};
    }
    tensors.push_back(std::move(*match));
    match->name.clear();
  }
  for (const HostTensor& left : found) {
    const bool numbered = left.name.starts_with("arg") && left.name.size() > 3 &&
                          left.name.find_first_not_of("0123456789", 3) == std::string::npos;
    if (!numbered) continue;
    return Error{"bad_input",
                 "`" + path + "` has `" + left.name + "`, and the model takes " + std::to_string(tensors.size()) +
                     (tensors.size() == 1 ? " input" : " inputs"),
                 {}};
  }
  return tensors;
}

}  // namespace

Expected<Tensors> make_inputs(const Model& model, const InputArgs& args) {
  if (args.random == !args.inputs.empty()) {
    return Error{"bad_option", "give either --inputs FILE or --random", {}};
  }
  if (!args.random && !args.sizes.empty()) return Error{"bad_option", "--size goes with --random", {}};
  return args.random ? random_inputs(model, args) : file_inputs(model, args.inputs);
}

std::vector<toroid_tensor> c_tensors(Tensors& tensors) {
  std::vector<toroid_tensor> out;
  for (HostTensor& tensor : tensors) {
    toroid_tensor c = {};
    c.size = sizeof c;
    c.data = tensor.data.data();
    c.sizes = tensor.sizes.data();
    c.strides = tensor.strides.data();
    c.rank = static_cast<int32_t>(tensor.sizes.size());
    c.dtype = tensor.dtype;
    out.push_back(c);
  }
  return out;
}

Outputs::Outputs(size_t count) : tensors_(count) {
  for (toroid_tensor& tensor : tensors_) {
    tensor = {};
    tensor.size = sizeof tensor;
  }
}

namespace {

// Copies dimension `dim` and those inside it, row by row.
void copy_rows(const toroid_tensor& from, int32_t dim, const std::byte* source, std::byte*& target, size_t element) {
  if (dim == from.rank) {
    std::memcpy(target, source, element);
    target += element;
    return;
  }
  if (dim == from.rank - 1 && from.strides[dim] == 1) {
    size_t bytes = static_cast<size_t>(from.sizes[dim]) * element;
    if (bytes) std::memcpy(target, source, bytes);
    target += bytes;
    return;
  }
  ptrdiff_t step = from.strides[dim] * static_cast<ptrdiff_t>(element);
  for (int64_t i = 0; i < from.sizes[dim]; ++i) copy_rows(from, dim + 1, source + i * step, target, element);
}

}  // namespace

Tensors Outputs::copy() const {
  Tensors out;
  for (const toroid_tensor& from : tensors_) {
    HostTensor tensor{"out" + std::to_string(out.size()), from.dtype, {from.sizes, from.sizes + from.rank}, {}, {}};
    tensor.strides = row_major_strides(tensor.sizes);
    size_t element = static_cast<size_t>(toroid_dtype_bytes(from.dtype)), bytes = element;
    for (int64_t size : tensor.sizes) bytes *= static_cast<size_t>(size);
    tensor.data.resize(bytes);
    std::byte* target = tensor.data.data();
    if (bytes) copy_rows(from, 0, static_cast<const std::byte*>(from.data), target, element);
    out.push_back(std::move(tensor));
  }
  return out;
}

}  // namespace toroid::cli
