// Recipes as JSON, and back. The reader checks all that run_recipe relies on.
#include <nlohmann/json.hpp>

#include "recipe.h"

namespace toroid::runtime {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view op_names[] = {"load", "cast",       "as_strided", "concat", "add",  "sub",  "mul",
                                         "div",  "add_scalar", "mul_scalar", "rsqrt",  "pack", "bytes"};

Json step_to_json(const RecipeStep& step) {
  Json j{{"op", op_names[static_cast<int>(step.op)]}};
  switch (step.op) {
    case RecipeOp::load: j["weight"] = step.weight; break;
    case RecipeOp::cast: j["dtype"] = recipe_dtype_name(step.dtype); break;
    case RecipeOp::as_strided: j["sizes"] = step.sizes, j["strides"] = step.strides, j["offset"] = step.offset; break;
    case RecipeOp::concat: j["count"] = step.count, j["dim"] = step.dim; break;
    case RecipeOp::add_scalar:
    case RecipeOp::mul_scalar: j["value"] = step.value; break;
    case RecipeOp::pack: j["k_group"] = step.k_group; break;
    default: break;
  }
  return j;
}

// Reads with a remembered first mistake: after it every read gives a default.
struct Reader {
  std::string error;

  void mistake(std::string text) {
    if (error.empty()) error = "recipes: " + std::move(text);
  }
  int64_t integer(const Json& j, const char* key, int64_t low, int64_t high) {
    const auto it = j.is_object() ? j.find(key) : j.end();
    if (!j.is_object() || it == j.end() || !it->is_number_integer())
      return mistake(std::string(key) + " is missing"), low;
    const int64_t value = it->get<int64_t>();
    if (value < low || value > high) return mistake(std::string(key) + " is out of range"), low;
    return value;
  }
  std::vector<int64_t> integers(const Json& j, const char* key, int64_t low) {
    std::vector<int64_t> out;
    const auto it = j.is_object() ? j.find(key) : j.end();
    if (!j.is_object() || it == j.end() || !it->is_array() || it->size() > 64)
      return mistake(std::string(key) + " is missing"), out;
    int64_t product = 1;
    for (const Json& e : *it) {
      if (!e.is_number_integer()) return mistake(std::string(key) + " holds no integer"), out;
      out.push_back(e.get<int64_t>());
      if (out.back() < low || out.back() > INT64_C(1) << 46) mistake(std::string(key) + " is out of range");
      if (low == 0 && __builtin_mul_overflow(product, std::max<int64_t>(out.back(), 1), &product))
        mistake(std::string(key) + " overflow");
    }
    if (product > INT64_C(1) << 46) mistake(std::string(key) + " are out of range");
    return out;
  }
  std::string text(const Json& j, const char* key) {
    const auto it = j.is_object() ? j.find(key) : j.end();
    if (!j.is_object() || it == j.end() || !it->is_string()) return mistake(std::string(key) + " is missing"), "";
    return it->get<std::string>();
  }
  int32_t dtype(const Json& j) {
    const std::string name = text(j, "dtype");
    const int32_t dtype = recipe_dtype_from_name(name);
    if (dtype < 0) return mistake("unknown dtype `" + name + "`"), 6;
    return dtype;
  }
  const Json& list(const Json& j, const char* key) {
    static const Json empty = Json::array();
    const auto it = j.is_object() ? j.find(key) : j.end();
    if (!j.is_object() || it == j.end() || !it->is_array()) return mistake(std::string(key) + " is missing"), empty;
    return *it;
  }

  RecipeStep step(const Json& j, size_t weight_count) {
    RecipeStep step;
    const std::string name = text(j, "op");
    size_t op = 0;
    while (op < std::size(op_names) && op_names[op] != name) ++op;
    if (op == std::size(op_names)) return mistake("unknown op `" + name + "`"), step;
    step.op = static_cast<RecipeOp>(op);
    switch (step.op) {
      case RecipeOp::load:
        step.weight = static_cast<int32_t>(integer(j, "weight", 0, static_cast<int64_t>(weight_count) - 1));
        break;
      case RecipeOp::cast: step.dtype = dtype(j); break;
      case RecipeOp::as_strided:
        step.sizes = integers(j, "sizes", 0);
        step.strides = integers(j, "strides", -(INT64_C(1) << 46));
        step.offset = integer(j, "offset", 0, INT64_C(1) << 46);
        if (step.sizes.size() != step.strides.size()) mistake("as_strided has as many strides as sizes");
        break;
      case RecipeOp::concat:
        step.count = static_cast<int32_t>(integer(j, "count", 1, 1 << 20));
        step.dim = static_cast<int32_t>(integer(j, "dim", 0, 63));
        break;
      case RecipeOp::add_scalar:
      case RecipeOp::mul_scalar:
        if (!j.contains("value") || !j["value"].is_number())
          mistake("value is missing");
        else
          step.value = j["value"].get<double>();
        break;
      case RecipeOp::pack: {
        const int64_t group = integer(j, "k_group", 1, 4);
        if (group == 3) mistake("k_group is 1, 2 or 4");
        step.k_group = static_cast<int32_t>(group);
        break;
      }
      default: break;
    }
    return step;
  }
};

}  // namespace

std::string recipes_to_json(const Recipes& recipes) {
  Json weights = Json::array(), constants = Json::array();
  for (const RecipeWeight& w : recipes.weights)
    weights.push_back({{"name", w.name},
                       {"dtype", recipe_dtype_name(w.dtype)},
                       {"sizes", w.sizes},
                       {"strides", w.strides},
                       {"offset", w.offset},
                       {"kind", w.kind}});
  for (const RecipeConstant& c : recipes.constants) {
    Json steps = Json::array();
    for (const RecipeStep& step : c.steps) steps.push_back(step_to_json(step));
    constants.push_back({{"offset", c.offset},
                         {"bytes", c.bytes},
                         {"dtype", recipe_dtype_name(c.dtype)},
                         {"sizes", c.sizes},
                         {"steps", std::move(steps)}});
  }
  return Json{{"weights", std::move(weights)}, {"constants", std::move(constants)}}.dump(
      -1, ' ', false, Json::error_handler_t::replace);
}

bool recipes_from_json(std::string_view text, Recipes& recipes, std::string& error) {
  const Json j = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  Reader reader;
  if (!j.is_object()) reader.mistake("not a JSON object");
  recipes = {};
  for (const Json& w : reader.list(j, "weights"))
    recipes.weights.push_back({reader.text(w, "name"), reader.dtype(w), reader.integers(w, "sizes", 0),
                               reader.integers(w, "strides", -(INT64_C(1) << 46)),
                               reader.integer(w, "offset", 0, INT64_C(1) << 46),
                               static_cast<int32_t>(reader.integer(w, "kind", 0, 4))});
  for (const Json& c : reader.list(j, "constants")) {
    RecipeConstant constant;
    constant.offset = reader.integer(c, "offset", 0, INT64_C(1) << 46);
    constant.bytes = reader.integer(c, "bytes", 0, INT64_C(1) << 46);
    constant.dtype = reader.dtype(c);
    constant.sizes = reader.integers(c, "sizes", 0);
    for (const Json& s : reader.list(c, "steps")) constant.steps.push_back(reader.step(s, recipes.weights.size()));
    if (constant.steps.empty()) reader.mistake("a constant has no steps");
    recipes.constants.push_back(std::move(constant));
  }
  error = reader.error;
  return error.empty();
}

}  // namespace toroid::runtime
