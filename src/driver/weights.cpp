// Recipes of a plan's constants, and the constants made by them from the mapped archive.
#include "driver/weights.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <set>

#include "base/check.h"

namespace toroid::driver {

namespace {

using runtime::RecipeOp;

constexpr std::array<std::string_view, 13> op_names = {"load",  "cast", "as_strided", "concat",     "add",
                                                       "sub",   "mul",  "div",        "add_scalar", "mul_scalar",
                                                       "rsqrt", "pack", "bytes"};

// `weights`: those of the whole model; a call's program knows those that it reads.
runtime::RecipeStep make_step(const RecipeStep& from, const std::string& buffer, const std::vector<Weight>& own,
                              const std::vector<Weight>& weights) {
  auto name = std::ranges::find(op_names, from.op);
  TD_CHECK(name != op_names.end(), "constant `{}` has a recipe step `{}`", buffer, from.op);
  runtime::RecipeStep step;
  step.op = static_cast<RecipeOp>(name - op_names.begin());
  step.weight = static_cast<int32_t>(from.weight);
  if (from.weight >= 0 && &own != &weights) {
    auto found = std::ranges::find(weights, own[static_cast<size_t>(from.weight)].name, &Weight::name);
    TD_CHECK(found != weights.end(), "constant `{}` is of a weight that the model has not", buffer);
    step.weight = static_cast<int32_t>(found - weights.begin());
  }
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

// Calls `visit` with each constant buffer that lies in weights.bin, once for each place, and the program it is of.
template <class F>
void each_constant(const Plan& plan, F visit, std::set<int64_t>& seen) {
  for (size_t b = 0; b < plan.schedule.buffers.size(); ++b) {
    const Buffer& buffer = plan.schedule.buffers[b];
    if (buffer.kind != BufferKind::constant || plan.offsets[b].value() < 0) continue;
    // Empty constants take no room.
    if (buffer.elements == Sym(0) || seen.insert(plan.offsets[b].value()).second)
      visit(buffer, plan.offsets[b].value(), plan.schedule.loops);
  }
  for (const auto& [kernel, bodies] : plan.bodies)
    for (const Plan& body : bodies) each_constant(body, visit, seen);
}
template <class F>
void each_constant(const Plan& plan, F visit) {
  std::set<int64_t> seen;
  each_constant(plan, visit, seen);
}

}  // namespace

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

runtime::Recipes make_recipes(const Plan& plan) {
  runtime::Recipes recipes;
  for (const Weight& weight : plan.schedule.loops.weights) {
    recipes.weights.push_back({weight.name, static_cast<int32_t>(weight.type.dtype), numbers(weight.type.sizes),
                               numbers(weight.type.strides), weight.storage_offset, static_cast<int32_t>(weight.kind)});
  }
  each_constant(plan, [&](const Buffer& buffer, int64_t offset, const Loops& program) {
    runtime::RecipeConstant constant;
    constant.offset = offset;
    constant.bytes = buffer.elements.value() * dtype_bytes(buffer.dtype);
    constant.dtype = static_cast<int32_t>(buffer.dtype);
    constant.sizes = buffer.constant_sizes;
    for (const RecipeStep& step : buffer.recipe)
      constant.steps.push_back(make_step(step, buffer.name, program.weights, plan.schedule.loops.weights));
    recipes.constants.push_back(std::move(constant));
  });
  return recipes;
}

// One constant while it is made: its program runs when its first byte is asked for, and what that holds in memory goes
// when its last byte is written.
struct WeightsMaker::Constant {
  const Buffer* buffer;
  const runtime::RecipeConstant* recipe;
  std::once_flag once;
  runtime::PreparedConstant prepared;
  std::string error;
  std::atomic<int64_t> left;
};

WeightsMaker::WeightsMaker() = default;
WeightsMaker::~WeightsMaker() = default;

Result<std::unique_ptr<WeightsMaker>> WeightsMaker::create(const Plan& plan, const runtime::Recipes& recipes) {
  std::unique_ptr<WeightsMaker> maker(new WeightsMaker);
  maker->recipes_ = &recipes;
  maker->sources_ = std::make_unique<WeightSources>(plan.schedule.loops);
  each_constant(plan, [&](const Buffer& buffer, int64_t, const Loops&) {
    auto constant = std::make_unique<Constant>();
    constant->buffer = &buffer;
    constant->recipe = &recipes.constants[maker->constants_.size()];
    constant->left = constant->recipe->bytes;
    maker->constants_.push_back(std::move(constant));
  });
  std::ranges::stable_sort(maker->constants_, {}, [](const auto& c) { return c->recipe->offset; });
  for (const auto& constant : maker->constants_) {
    for (int32_t weight : runtime::loaded_weights(*constant->recipe)) {
      if (maker->sources_->all()[static_cast<size_t>(weight)].data || constant->recipe->bytes == 0) continue;
      return fail(Diagnostic{Kind::bad_option,
                             format("the weight `{}` has no bytes", recipes.weights[weight].name),
                             {"hint: --weights m.pt2 gives a stage text its weights"}});
    }
  }
  return maker;
}

Status WeightsMaker::write(uint64_t begin, std::span<std::byte> out) {
  const int64_t first = static_cast<int64_t>(begin), last = first + static_cast<int64_t>(out.size());
  int64_t at = first;
  // Constants do not overlap: their ends are in order too.
  auto next = std::ranges::partition_point(
      constants_, [&](const auto& c) { return c->recipe->offset + c->recipe->bytes <= first; });
  for (; next != constants_.end() && (*next)->recipe->offset < last; ++next) {
    Constant& constant = **next;
    const runtime::RecipeConstant& recipe = *constant.recipe;
    const int64_t from = std::max(recipe.offset, first), to = std::min(recipe.offset + recipe.bytes, last);
    if (from >= to) continue;
    TD_CHECK(from >= at, "constant `{}` overlaps the one before it", constant.buffer->name);
    std::memset(out.data() + (at - first), 0, static_cast<size_t>(from - at));
    at = to;
    char* to_bytes = reinterpret_cast<char*>(out.data()) + (from - first);
    if (!constant.buffer->bytes.empty()) {
      std::memcpy(to_bytes, constant.buffer->bytes.data() + (from - recipe.offset), static_cast<size_t>(to - from));
      continue;
    }
    std::call_once(constant.once, [&] {
      if (!constant.prepared.prepare(*recipes_, recipe, sources_->all(), constant.error) && constant.error.empty())
        constant.error = "its recipe fails";
    });
    if (!constant.error.empty())
      return fail(Kind::internal, "constant `{}`: {}", constant.buffer->name, constant.error);
    constant.prepared.write(from - recipe.offset, to - recipe.offset, to_bytes);
    if ((constant.left -= to - from) == 0) constant.prepared = {};
  }
  std::memset(out.data() + (at - first), 0, static_cast<size_t>(last - at));
  return {};
}

}  // namespace toroid::driver
