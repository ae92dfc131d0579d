// A loaded package and tensors for it: what `run`, `bench`, `info` and `verify` share.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "tensor_file.h"
#include "toroid/runtime.h"

namespace toroid::cli {

// The Error of a runtime call that returned `status`.
Error runtime_error(int status);

// Owns a toroid_model.
class Model {
 public:
  static Expected<Model> load(const std::string& path, const std::string& model, int threads, uint32_t flags = 0);
  // Its plug-ins first.
  static Expected<Model> load(const InputArgs& args);
  Model(Model&& other) noexcept : model_(other.model_) { other.model_ = nullptr; }
  Model& operator=(Model&&) = delete;
  ~Model() { toroid_unload(model_); }

  toroid_model* get() const { return model_; }
  std::vector<toroid_slot> inputs() const;
  std::vector<toroid_slot> outputs() const;
  // The report and the manifest, as JSON objects (empty ones where the package has none).
  nlohmann::ordered_json report() const;
  nlohmann::ordered_json manifest() const;

 private:
  explicit Model(toroid_model* model) : model_(model) {}
  toroid_model* model_ = nullptr;
};

// Symbols of the report with their hints, replaced by what the user gave as `s0=128`.
Expected<SymbolValues> symbol_values(const nlohmann::ordered_json& report, const std::vector<std::string>& sizes);
// Symbols solved from inputs as they are.
SymbolValues solve_symbols(const Model& model, const Tensors& inputs);
// "s0, min(s1, 8)" as its parts.
std::vector<std::string> split_sizes(const std::string& text);
// A number, or an expression over symbols; nothing where neither or it cannot be evaluated.
std::optional<int64_t> report_number(const nlohmann::ordered_json& value, const SymbolValues& symbols);

// The model's inputs, from a file (arg0, arg1, …) or made up.
Expected<Tensors> make_inputs(const Model& model, const InputArgs& args);

// For the C interface; points into `tensors`, which must stay where it is.
std::vector<toroid_tensor> c_tensors(Tensors& tensors);

// Outputs that the runtime made; freed with it.
class Outputs {
 public:
  explicit Outputs(size_t count);
  ~Outputs() { toroid_free_outputs(tensors_.data(), tensors_.size()); }
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  toroid_tensor* data() { return tensors_.data(); }
  size_t size() const { return tensors_.size(); }
  // Row-major copies named out0, out1, …
  Tensors copy() const;

 private:
  std::vector<toroid_tensor> tensors_;
};

}  // namespace toroid::cli
