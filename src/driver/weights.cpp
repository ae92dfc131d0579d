// Recipes of a plan's constants, and the constants made by them from the mapped archive.
#include "driver/weights.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/check.h"

namespace toroid::driver {

namespace {

using runtime::RecipeOp;

constexpr std::array<std::string_view, 13> op_names = {"load",  "cast", "as_strided", "concat",     "add",
                                                       "sub",   "mul",  "div",        "add_scalar", "mul_scalar",
                                                       "rsqrt", "pack", "bytes"};

runtime::RecipeStep make_step(const RecipeStep& from, const std::string& buffer) {
  auto name = std::ranges::find(op_names, from.op);
  TD_CHECK(name != op_names.end(), "constant `{}` has a recipe step `{}`", buffer, from.op);
  runtime::RecipeStep step;
  step.op = static_cast<RecipeOp>(name - op_names.begin());
  step.weight = static_cast<int32_t>(from.weight);
  step.dtype = static_cast<int32_t>(from.dtype);
  step.sizes = from.sizes;
  step.strides = from.strides;
  step.offset = from.offset;
  step.count = static_cast<int32_t>(from.count);
  step.dim = static_cast<int32_t>(from.dim);
  step.value = from.value;
  step.k_group = static_cast<int32_t>(from.k_group);
  return step;
}

std::vector<int64_t> numbers(const SymList& list) {
  std::vector<int64_t> out;
  for (const Sym& sym : list) out.push_back(sym.value());
  return out;
}

// Calls `visit` with each constant buffer that lies in weights.bin.
template <class F>
void each_constant(const Plan& plan, F visit) {
  for (size_t b = 0; b < plan.schedule.buffers.size(); ++b) {
    const Buffer& buffer = plan.schedule.buffers[b];
    if (buffer.kind == BufferKind::constant && plan.offsets[b].value() >= 0) visit(buffer, plan.offsets[b].value());
  }
}

// First elements and strides of the model's weights, as recipes read them.
class WeightSources {
 public:
  explicit WeightSources(const Loops& loops) {
    for (const Weight& weight : loops.weights) strides_.push_back(numbers(weight.type.strides));
    for (size_t i = 0; i < loops.weights.size(); ++i) {
      const Weight& weight = loops.weights[i];
      runtime::RecipeSource source;
      if (weight.storage >= 0 && loops.storages[static_cast<size_t>(weight.storage)].data) {
        source.data = static_cast<const std::byte*>(loops.storages[static_cast<size_t>(weight.storage)].data) +
                      weight.storage_offset * dtype_bytes(weight.type.dtype);
        source.strides = strides_[i];
      }
      sources_.push_back(source);
    }
  }
  std::span<const runtime::RecipeSource> all() const { return sources_; }

 private:
  std::vector<std::vector<int64_t>> strides_;
  std::vector<runtime::RecipeSource> sources_;
};

}  // namespace

runtime::Recipes make_recipes(const Plan& plan) {
  runtime::Recipes recipes;
  for (const Weight& weight : plan.schedule.loops.weights) {
    recipes.weights.push_back({weight.name, static_cast<int32_t>(weight.type.dtype), numbers(weight.type.sizes),
                               numbers(weight.type.strides), weight.storage_offset, static_cast<int32_t>(weight.kind)});
  }
  each_constant(plan, [&](const Buffer& buffer, int64_t offset) {
    runtime::RecipeConstant constant;
    constant.offset = offset;
    constant.bytes = buffer.elements.value() * dtype_bytes(buffer.dtype);
    constant.dtype = static_cast<int32_t>(buffer.dtype);
    constant.sizes = buffer.constant_sizes;
    for (const RecipeStep& step : buffer.recipe) constant.steps.push_back(make_step(step, buffer.name));
    recipes.constants.push_back(std::move(constant));
  });
  return recipes;
}

Status write_weights(const Plan& plan, const runtime::Recipes& recipes, std::span<std::byte> bytes, int jobs,
                     const CancelToken& cancel) {
  TD_CHECK(static_cast<int64_t>(bytes.size()) == plan.weights_bytes, "weights.bin has {} bytes, planned were {}",
           bytes.size(), plan.weights_bytes);
  std::vector<const Buffer*> buffers;
  each_constant(plan, [&](const Buffer& buffer, int64_t) { buffers.push_back(&buffer); });
  TD_CHECK(buffers.size() == recipes.constants.size(), "{} recipes for {} constants", recipes.constants.size(),
           buffers.size());
  WeightSources sources(plan.schedule.loops);
  for (const runtime::RecipeConstant& constant : recipes.constants) {
    for (int32_t weight : runtime::loaded_weights(constant)) {
      if (sources.all()[static_cast<size_t>(weight)].data || constant.bytes == 0) continue;
      return fail(Diagnostic{Kind::bad_option,
                             format("the weight `{}` has no bytes", recipes.weights[weight].name),
                             {"hint: --weights m.pt2 gives a stage text its weights"}});
    }
  }

  std::atomic<size_t> next = 0;
  std::mutex mutex;
  Status status;
  auto stop = [&](Status why) {
    std::lock_guard lock(mutex);
    if (status) status = std::move(why);
    next = buffers.size();
  };
  auto worker = [&] {
    for (size_t i; (i = next++) < buffers.size();) {
      if (Status asked = cancel.check(); !asked) return stop(asked);
      const runtime::RecipeConstant& constant = recipes.constants[i];
      std::byte* out = bytes.data() + constant.offset;
      if (!buffers[i]->bytes.empty()) {
        std::memcpy(out, buffers[i]->bytes.data(), buffers[i]->bytes.size());
        continue;
      }
      std::string error;
      if (!runtime::run_recipe(recipes, constant, sources.all(), out, error)) {
        return stop(fail(Kind::internal, "constant `{}`: {}", buffers[i]->name, error));
      }
    }
  };
  std::vector<std::thread> helpers;
  int count = std::clamp<int>(jobs, 1, static_cast<int>(std::max<size_t>(buffers.size(), 1)));
  for (int i = 1; i < count; ++i) helpers.emplace_back(worker);
  worker();
  for (std::thread& helper : helpers) helper.join();
  return status;
}

}  // namespace toroid::driver
