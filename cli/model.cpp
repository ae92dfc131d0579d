// Loading a package, its signature and its report.
#include "model.h"

#include <charconv>
#include <cstring>
#include <map>
#include <optional>

namespace toroid::cli {

using Json = nlohmann::ordered_json;

Error runtime_error(int status) { return {toroid_status_name(status), toroid_last_error(), {}}; }

Expected<Model> Model::load(const std::string& path, const std::string& model, int threads, uint32_t flags) {
  toroid_load_options options = {};
  options.size = sizeof options;
  options.model = model.empty() ? nullptr : model.c_str();
  options.threads = threads;
  options.flags = flags;
  toroid_model* handle = nullptr;
  if (int status = toroid_load(path.c_str(), &options, &handle)) return runtime_error(status);
  return Model(handle);
}

Expected<Model> Model::load(const InputArgs& args) {
  for (const std::string& plugin : args.plugins)
    if (int status = toroid_load_plugin(plugin.c_str())) return runtime_error(status);
  return load(args.package, args.model, args.threads);
}

std::vector<toroid_slot> Model::inputs() const {
  std::vector<toroid_slot> slots(static_cast<size_t>(toroid_input_count(model_)));
  for (size_t i = 0; i < slots.size(); ++i) {
    slots[i].size = sizeof(toroid_slot);
    toroid_input(model_, static_cast<int32_t>(i), &slots[i]);
  }
  return slots;
}

std::vector<toroid_slot> Model::outputs() const {
  std::vector<toroid_slot> slots(static_cast<size_t>(toroid_output_count(model_)));
  for (size_t i = 0; i < slots.size(); ++i) {
    slots[i].size = sizeof(toroid_slot);
    toroid_output(model_, static_cast<int32_t>(i), &slots[i]);
  }
  return slots;
}

namespace {

Json object_from(const char* text) {
  Json json = Json::parse(text ? text : "{}", nullptr, false);
  return json.is_object() ? json : Json::object();
}

std::string trimmed(const std::string& text) {
  size_t start = text.find_first_not_of(' '), end = text.find_last_not_of(' ');
  return start == std::string::npos ? "" : text.substr(start, end - start + 1);
}

}  // namespace

Json Model::report() const { return object_from(toroid_report(model_)); }
Json Model::manifest() const { return object_from(toroid_manifest(model_)); }

std::vector<std::string> split_sizes(const std::string& text) {
  std::vector<std::string> parts;
  std::string part;
  int depth = 0;
  // A comma inside min(s0, 8) does not end a size.
  for (char c : text) {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (c == ',' && depth == 0) {
      parts.push_back(trimmed(part));
      part.clear();
    } else {
      part += c;
    }
  }
  if (!trimmed(part).empty()) parts.push_back(trimmed(part));
  return parts;
}

Expected<SymbolValues> symbol_values(const Json& report, const std::vector<std::string>& sizes) {
  SymbolValues symbols;
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const Json& symbol : report.value("symbols", Json::array())) {
    int64_t low = symbol.value("low", int64_t{1});
    symbols.emplace_back(symbol.value("name", ""), symbol.contains("hint") ? symbol.value("hint", low) : low);
    ranges.emplace_back(low, symbol.value("high", int64_t{INT64_MAX}));
  }
  for (const std::string& size : sizes) {
    size_t equal = size.find('=');
    std::string name = size.substr(0, equal), value = equal == std::string::npos ? "" : size.substr(equal + 1);
    int64_t number = 0;
    auto [end, bad] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (bad != std::errc() || end != value.data() + value.size() || value.empty()) {
      return Error{"bad_option", "`--size " + size + "` must look like s0=128", {}};
    }
    bool found = false;
    std::string known;
    for (size_t i = 0; i < symbols.size(); ++i) {
      const std::string& symbol = symbols[i].first;
      known += (known.empty() ? "" : ", ") + symbol;
      if (symbol != name) continue;
      const auto [low, high] = ranges[i];
      if (number < low || number > high) {
        return Error{"bad_option",
                     "`--size " + size + "` is outside of what the model takes: " + std::to_string(low) + ".." +
                         (high == INT64_MAX ? "" : std::to_string(high)),
                     {}};
      }
      symbols[i].second = number;
      found = true;
    }
    if (!found) {
      return Error{"bad_option",
                   "the model has no size `" + name + "`",
                   {known.empty() ? "every size of it is fixed" : "it has " + known}};
    }
  }
  return symbols;
}

SymbolValues solve_symbols(const Model& model, const Tensors& inputs) {
  std::map<std::string, int64_t> solved;
  auto slots = model.inputs();
  for (const Json& symbol : model.report().value("symbols", Json::array())) {
    std::string name = symbol.value("name", "");
    for (size_t i = 0; i < slots.size() && i < inputs.size(); ++i) {
      std::vector<std::string> parts = split_sizes(slots[i].sizes ? slots[i].sizes : "");
      for (size_t d = 0; d < parts.size() && d < inputs[i].sizes.size() && !solved.contains(name); ++d) {
        // An expression in this symbol alone evaluates once the symbol has a value: a * s + b by two points.
        auto at0 = evaluate_size(parts[d], {{name, 0}}), at1 = evaluate_size(parts[d], {{name, 1}});
        if (!at0 || !at1 || *at0 == *at1) continue;
        int64_t value = (inputs[i].sizes[d] - *at0) / (*at1 - *at0);
        auto check = evaluate_size(parts[d], {{name, value}});
        if (check && *check == inputs[i].sizes[d]) solved[name] = value;
      }
    }
  }
  return {solved.begin(), solved.end()};
}

std::optional<int64_t> report_number(const Json& value, const SymbolValues& symbols) {
  if (value.is_number()) return static_cast<int64_t>(value.get<double>());
  if (!value.is_string()) return {};
  auto number = evaluate_size(value.get<std::string>(), symbols);
  return number ? std::optional(*number) : std::nullopt;
}

}  // namespace toroid::cli
