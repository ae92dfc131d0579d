// Maps weights.bin and rewrites parts of it when weights are replaced.
#include "weights.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "toroid/runtime.h"

namespace toroid::runtime {
namespace {

// A model without weights still gets a pointer, so that generated code never sees NULL.
alignas(64) char no_weights[64];

size_t page_bytes() {
  static const size_t bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

std::unexpected<Failure> cannot_map() {
  return refuse(errno == ENOMEM ? TOROID_OUT_OF_MEMORY : TOROID_IO, "cannot map the weights: ", std::strerror(errno));
}

Outcome<Mapping> anonymous(uint64_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return cannot_map();
  if (bytes >= 4u << 20) ::madvise(data, bytes, MADV_HUGEPAGE);
  return Mapping(data, bytes);
}

}  // namespace

Outcome<Weights> Weights::map_file(int fd, uint64_t offset, uint64_t bytes, uint64_t mutated_bytes) {
  Weights w;
  w.bytes_ = bytes;
  w.data_ = no_weights;
  if (bytes == 0) return w;
  if (offset % page_bytes() == 0) {
    void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, static_cast<off_t>(offset));
    if (data == MAP_FAILED) return cannot_map();
    w.mapping_ = Mapping(data, bytes);
    if (mutated_bytes > 0 && ::mprotect(data, std::min(mutated_bytes, bytes), PROT_READ | PROT_WRITE) != 0)
      return cannot_map();
  } else {
    RT_TRY(w.mapping_, anonymous(bytes));
    for (uint64_t done = 0; done < bytes;) {
      const ssize_t n = ::pread(fd, w.mapping_.data() + done, bytes - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0)
        return refuse(TOROID_IO, "cannot read the weights: ", n < 0 ? std::strerror(errno) : "truncated file");
      done += n;
    }
  }
  w.data_ = w.mapping_.data();
  return w;
}

Outcome<Weights> Weights::from_memory(std::span<const std::byte> data, uint64_t mutated_bytes, bool borrow) {
  Weights w;
  w.bytes_ = data.size();
  w.data_ = no_weights;
  if (data.empty()) return w;
  if (borrow && mutated_bytes == 0 && reinterpret_cast<uintptr_t>(data.data()) % 64 == 0) {
    // Never written: make_writable copies first.
    w.data_ = const_cast<char*>(reinterpret_cast<const char*>(data.data()));
    w.borrowed_ = true;
    return w;
  }
  RT_TRY(w.mapping_, anonymous(data.size()));
  std::memcpy(w.mapping_.data(), data.data(), data.size());
  w.data_ = w.mapping_.data();
  return w;
}

bool Weights::make_writable() {
  if (bytes_ == 0) return true;
  if (!borrowed_) return ::mprotect(mapping_.data(), bytes_, PROT_READ | PROT_WRITE) == 0;
  auto copy = anonymous(bytes_);
  if (!copy) return false;
  std::memcpy(copy->data(), data_, bytes_);
  mapping_ = std::move(*copy);
  data_ = mapping_.data();
  borrowed_ = false;
  return true;
}

int64_t weight_bytes(const RecipeWeight& weight) {
  int64_t bytes = recipe_dtype_bytes(weight.dtype);
  for (int64_t size : weight.sizes) bytes *= size;
  return bytes;
}

Outcome<void> check_recipes(const Recipes& recipes, uint64_t weights_bytes) {
  for (size_t i = 0; i < recipes.constants.size(); ++i) {
    const RecipeConstant& c = recipes.constants[i];
    if (static_cast<uint64_t>(c.offset) > weights_bytes || static_cast<uint64_t>(c.bytes) > weights_bytes - c.offset)
      return refuse(TOROID_BAD_FILE, "recipes: constant ", static_cast<uint64_t>(i), " lies outside of the weights");
  }
  return {};
}

Outcome<void> extract_weight(const Recipes& recipes, int32_t weight, const Weights& weights, void* out) {
  const RecipeWeight& info = recipes.weights[weight];
  std::vector<uint8_t> seen(weight_bytes(info) / recipe_dtype_bytes(info.dtype));
  auto complete = [&] { return std::ranges::find(seen, 0) == seen.end(); };
  for (const RecipeConstant& c : recipes.constants) {
    if (complete()) return {};
    if (std::ranges::count(loaded_weights(c), weight) > 0)
      invert_recipe(recipes, c, weights.data() + c.offset, weight, out, seen);
  }
  if (complete()) return {};
  return refuse(TOROID_UNSUPPORTED, "weight `", info.name, "` was folded into other constants and cannot be read back");
}

Outcome<void> replace_weights(const Recipes& recipes, std::span<const NewWeight> given, Weights& weights) {
  std::vector<RecipeSource> sources(recipes.weights.size());
  std::vector<bool> is_given(recipes.weights.size());
  for (const NewWeight& weight : given) {
    const auto it = std::ranges::find(recipes.weights, weight.name, &RecipeWeight::name);
    if (it == recipes.weights.end()) return refuse(TOROID_BAD_INPUT, "the model has no weight `", weight.name, "`");
    if (it->dtype != weight.dtype)
      return refuse(TOROID_BAD_INPUT, "weight `", it->name, "`: dtype is ", recipe_dtype_name(weight.dtype),
                    ", must be ", recipe_dtype_name(it->dtype));
    if (!std::ranges::equal(it->sizes, weight.sizes)) {
      std::string want, got;
      for (int64_t size : it->sizes) want += cat(want.empty() ? "" : ", ", size);
      for (int64_t size : weight.sizes) got += cat(got.empty() ? "" : ", ", size);
      return refuse(TOROID_BAD_INPUT, "weight `", it->name, "`: sizes are [", got, "], must be [", want, "]");
    }
    const size_t index = it - recipes.weights.begin();
    sources[index] = {weight.data, weight.strides};
    is_given[index] = true;
  }

  // Read back what the touched constants need besides, before anything is written.
  struct ReadBack {
    std::unique_ptr<char[]> data;
    std::vector<int64_t> strides;
  };
  std::vector<ReadBack> read_back;
  read_back.reserve(recipes.weights.size());
  std::vector<const RecipeConstant*> touched;
  for (const RecipeConstant& c : recipes.constants) {
    const std::vector<int32_t> loaded = loaded_weights(c);
    if (std::ranges::none_of(loaded, [&](int32_t w) { return is_given[w]; })) continue;
    touched.push_back(&c);
    for (int32_t w : loaded) {
      if (sources[w].data || weight_bytes(recipes.weights[w]) == 0) continue;
      ReadBack back;
      back.data.reset(new char[weight_bytes(recipes.weights[w])]);
      if (auto outcome = extract_weight(recipes, w, weights, back.data.get()); !outcome) {
        std::string names;
        for (int32_t i : loaded) names += cat(names.empty() ? "`" : ", `", recipes.weights[i].name, "`");
        return refuse(TOROID_BAD_INPUT,
                      "these weights were folded together and can only be replaced together: ", names);
      }
      const std::vector<int64_t>& sizes = recipes.weights[w].sizes;
      back.strides.resize(sizes.size());
      int64_t step = 1;
      for (size_t d = sizes.size(); d-- > 0;) back.strides[d] = step, step *= sizes[d];
      read_back.push_back(std::move(back));
      sources[w] = {read_back.back().data.get(), read_back.back().strides};
    }
  }
  // Weights of no elements need strides all the same.
  static constexpr int64_t zeros[64] = {};
  for (size_t w = 0; w < sources.size(); ++w)
    if (!sources[w].data) sources[w].strides = std::span(zeros).first(recipes.weights[w].sizes.size());

  if (!weights.make_writable()) return refuse(TOROID_OUT_OF_MEMORY, "no memory for a writable copy of the weights");
  for (const RecipeConstant* c : touched) {
    std::string error;
    if (!run_recipe(recipes, *c, sources, weights.data() + c->offset, error))
      return refuse(TOROID_INTERNAL, "cannot make a constant again: ", error);
  }
  return {};
}

}  // namespace toroid::runtime
