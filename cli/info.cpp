// `toroid info`: what a package takes, gives, holds and does.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <set>

#include "model.h"

namespace toroid::cli {

namespace {

using Json = nlohmann::ordered_json;

// Inputs or outputs of the manifest's signature, each with a name.
Json named(Json slots, const std::string& prefix) {
  for (size_t i = 0; i < slots.size(); ++i)
    if (slots[i].value("name", "").empty()) slots[i]["name"] = prefix + std::to_string(i);
  return slots;
}

// An object inside an object; an empty one where there is none.
Json part(const Json& object, const char* key) {
  return object.contains(key) && object[key].is_object() ? object[key] : Json::object();
}

// The sums over a run, as numbers at `symbols` where they are expressions.
constexpr const char* sums[] = {"intermediate_bytes", "bytes_moved", "peak_bytes", "lower_bound_bytes"};

// The sizes that a report's totals are for: the plan adds them up for those of the export alone. Empty where the totals
// hold for every size.
Json totals_at(const Json& report) {
  Json at = Json::object();
  const bool fixed = std::any_of(std::begin(sums), std::end(sums),
                                 [&](const char* sum) { return report.value(sum, Json()).is_number(); });
  for (const Json& symbol : report.value("symbols", Json::array()))
    if (fixed)
      at[symbol.value("name", "")] = symbol.value("hint", std::max<int64_t>(symbol.value("low", int64_t{1}), 1));
  return at;
}

std::string amount(int64_t bytes) {
  char text[40];
  if (bytes < 10'000)
    std::snprintf(text, sizeof text, "%lld B", static_cast<long long>(bytes));
  else if (bytes < 10'000'000)
    std::snprintf(text, sizeof text, "%.1f KiB", static_cast<double>(bytes) / 1024);
  else
    std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / 1048576);
  return text;
}

void print_slots(const char* title, const Json& slots) {
  std::cout << title << "\n";
  for (const Json& slot : slots) {
    std::cout << "  " << slot["name"].get<std::string>();
    if (slot.contains("dtype"))
      std::cout << ": " << slot["dtype"].get<std::string>() << "[" << slot.value("sizes", "") << "]";
    else
      std::cout << ": int " << slot.value("size", "");
    if (slot.contains("alias_of_input")) std::cout << ", the memory of input " << slot["alias_of_input"];
    std::cout << "\n";
  }
}

void print_info(const Json& info) {
  std::cout << info["model"].get<std::string>() << "\n";
  print_slots("inputs", info["inputs"]);
  print_slots("outputs", info["outputs"]);
  if (!info["symbols"].empty()) std::cout << "sizes\n";
  for (const Json& symbol : info["symbols"]) {
    std::cout << "  " << symbol.value("name", "") << " in " << symbol.value("low", int64_t{0}) << "..";
    if (symbol.contains("high") && symbol["high"].is_number()) std::cout << symbol["high"];
    std::cout << ", counted with " << symbol.value("value", int64_t{0}) << "\n";
  }
  std::cout << "target   " << info["target"].get<std::string>() << "\n";
  std::cout << "compiler " << info["compiler"].get<std::string>() << "\n";
  std::cout << "threads  " << info["threads"] << "\n";
  std::cout << "weights  " << info["weights"].size() << ", " << amount(info["weights_bytes"]) << "\n";
  std::cout << "code     " << amount(info["code_bytes"]) << "\n";
  std::cout << "kernels  " << info["kernels"] << "\n";
  for (const Json& op : info["plugin_ops"]) std::cout << "plug-in  " << op.get<std::string>() << "\n";
  std::string at;
  for (const auto& [name, value] : info["totals_at"].items())
    at += (at.empty() ? " at " : ", ") + name + "=" + value.dump();
  for (const char* sum : sums) {
    if (info.contains(sum)) std::cout << sum << "  " << amount(info[sum]) << at << "\n";
  }
}

}  // namespace

Outcome info_command(const InfoArgs& args) {
  // From the manifest alone: the package may be for a CPU that this one is not.
  CLI_TRY(Model model, Model::load(args.package, args.model, 0, TOROID_LOAD_DESCRIBE));
  const Json manifest = model.manifest(), report = part(manifest, "report"), signature = part(manifest, "signature");
  CLI_TRY(SymbolValues symbols, symbol_values(report, args.sizes));
  const int32_t threads = manifest.value("default_threads", 0);
  Json info = {{"model", toroid_model_name(model.get())},
               {"target", toroid_model_target(model.get())},
               {"threads", threads > 0 ? std::min(threads, toroid_pool_threads()) : toroid_pool_threads()},
               {"toroid", toroid_version()}};
  info["inputs"] = named(signature.value("inputs", Json::array()), "input");
  info["outputs"] = named(signature.value("outputs", Json::array()), "output");
  info["symbols"] = report.value("symbols", Json::array());
  for (size_t i = 0; i < info["symbols"].size(); ++i) info["symbols"][i]["value"] = symbols[i].second;
  info["compiler"] = manifest.value("compiler", "");
  info["code_bytes"] = part(manifest, "code").value("bytes", int64_t{0});
  info["weights_bytes"] = part(manifest, "weights").value("bytes", int64_t{0});
  info["weights"] = part(manifest, "recipes").value("weights", Json::array());
  const Json kernels = report.value("kernels", Json::array());
  info["kernels"] = kernels.size();
  for (const char* sum : sums) {
    if (auto number = report_number(report.value(sum, Json()), symbols)) info[sum] = *number;
  }
  info["totals_at"] = totals_at(report);
  Json details = Json::array();
  for (Json kernel : kernels) {
    for (const char* key : {"flops", "bytes"}) {
      if (auto number = report_number(kernel.value(key, Json()), symbols)) kernel[key] = *number;
    }
    details.push_back(kernel);
  }
  info["kernel_list"] = details;
  std::set<std::string> plugin_ops;
  for (const Json& kernel : kernels)
    if (const std::string note = kernel.value("note", "");
        kernel.value("kind", "") == "call" && note.find("::") != note.npos)
      plugin_ops.insert(note);
  info["plugin_ops"] = plugin_ops;
  if (args.json) {
    std::cout << info.dump(1) << "\n";
  } else {
    print_info(info);
  }
  return Nothing{};
}

}  // namespace toroid::cli
