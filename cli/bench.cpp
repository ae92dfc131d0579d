// `toroid bench`: how long a package takes, as a whole and by kernel, with the work it does per second.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "model.h"

namespace toroid::cli {

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

// The value below which `part` of the samples lie.
double quantile(std::vector<double> samples, double part) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  size_t at = static_cast<size_t>(part * static_cast<double>(samples.size() - 1) + 0.5);
  return samples[at];
}

// Marks of one run: when each kernel began, and the sum of what it took (a kernel may be launched several times).
struct Marks {
  std::vector<Clock::time_point> began;
  std::vector<double> ms;
  std::vector<bool> seen;
};

void mark(void* user, int32_t kernel, int32_t after) {
  Clock::time_point now = Clock::now();
  Marks& marks = *static_cast<Marks*>(user);
  if (kernel < 0) return;
  size_t k = static_cast<size_t>(kernel);
  if (k >= marks.began.size()) {
    marks.began.resize(k + 1);
    marks.ms.resize(k + 1);
    marks.seen.resize(k + 1);
  }
  if (after) {
    marks.ms[k] += milliseconds(now - marks.began[k]);
    marks.seen[k] = true;
  } else {
    marks.began[k] = now;
  }
}

struct Call {
  toroid_model* model;
  std::vector<toroid_tensor> inputs;
  toroid_tensor* outputs;
  size_t output_count;

  int run(const toroid_run_options* options) const {
    return toroid_run_with(model, inputs.data(), inputs.size(), outputs, output_count, options);
  }
};

// Work per second of something that takes `ms`, added to `json` where the report knows the work.
void add_rates(Json& json, const Json& from, const SymbolValues& symbols, double ms) {
  if (ms <= 0) return;
  auto flops = report_number(from.value("flops", Json()), symbols);
  auto bytes = report_number(from.value("bytes", Json()), symbols);
  if (flops) json["gflops"] = static_cast<double>(*flops) / ms / 1e6;
  if (bytes) json["gbs"] = static_cast<double>(*bytes) / ms / 1e6;
}

void print_row(const std::string& name, const Json& row) {
  auto number = [&](const char* key) {
    char text[32] = "";
    if (row.contains(key)) std::snprintf(text, sizeof text, "%.2f", row[key].get<double>());
    return std::string(text);
  };
  std::printf("%-48.48s %10.4f %10s %10s\n", name.c_str(), row["median_ms"].get<double>(), number("gflops").c_str(),
              number("gbs").c_str());
}

}  // namespace

Outcome bench_command(const BenchArgs& args) {
  if (args.runs < 0) return Error{"bad_option", "`--runs " + std::to_string(args.runs) + "` is below 0", {}};
  if (!(args.seconds >= 0) || !std::isfinite(args.seconds))
    return Error{"bad_option", "`--seconds` must be a number from 0", {}};
  CLI_TRY(Model model, Model::load(args));
  InputArgs input_args = args;
  input_args.random = args.random || args.inputs.empty();
  CLI_TRY(Tensors inputs, make_inputs(model, input_args));
  Json report = model.report();
  SymbolValues symbols = solve_symbols(model, inputs);

  Outputs outputs(static_cast<size_t>(toroid_output_count(model.get())));
  Call call{model.get(), c_tensors(inputs), outputs.data(), outputs.size()};
  toroid_run_options options = {};
  options.size = sizeof options;
  options.has_seed = 1;
  options.seed = args.seed;
  // The first run makes the outputs that the timed runs write to.
  if (int status = toroid_run_alloc(model.get(), call.inputs.data(), call.inputs.size(), outputs.data(), outputs.size(),
                                    &options)) {
    return runtime_error(status);
  }
  if (int status = call.run(&options)) return runtime_error(status);

  std::vector<double> times;
  Clock::time_point start = Clock::now();
  auto enough = [&](double seconds, size_t least) {
    if (args.runs > 0) return times.size() >= static_cast<size_t>(args.runs);
    return times.size() >= 100'000 || (times.size() >= least && milliseconds(Clock::now() - start) >= seconds * 1e3);
  };
  while (!enough(args.seconds, 5)) {
    Clock::time_point before = Clock::now();
    if (int status = call.run(&options)) return runtime_error(status);
    times.push_back(milliseconds(Clock::now() - before));
  }

  // Kernels apart, since reading the clock costs a little.
  Marks marks;
  options.mark = mark;
  options.mark_user = &marks;
  std::vector<std::vector<double>> kernel_times;
  size_t kernel_runs = std::clamp<size_t>(times.size() / 2, 3, 200);
  for (size_t i = 0; i < kernel_runs; ++i) {
    std::fill(marks.ms.begin(), marks.ms.end(), 0.0);
    if (int status = call.run(&options)) return runtime_error(status);
    kernel_times.resize(marks.ms.size());
    for (size_t k = 0; k < marks.ms.size(); ++k) kernel_times[k].push_back(marks.ms[k]);
  }

  double median = quantile(times, 0.5);
  Json out = {{"model", toroid_model_name(model.get())},
              {"target", toroid_model_target(model.get())},
              {"threads", toroid_threads(model.get())},
              {"runs", times.size()},
              {"median_ms", median},
              {"min_ms", quantile(times, 0)},
              {"p99_ms", quantile(times, 0.99)}};
  Json sizes = Json::object();
  for (const auto& [name, value] : symbols) sizes[name] = value;
  out["sizes"] = sizes;

  const Json kernels = report.value("kernels", Json::array());
  Json rows = Json::array();
  int64_t flops = 0, bytes = 0;
  for (size_t k = 0; k < kernel_times.size(); ++k) {
    const Json kernel = k < kernels.size() ? kernels[k] : Json::object();
    const std::vector<double>& taken = kernel_times[k];
    const double ms = quantile(taken, 0.5);
    Json row = {{"name", kernel.value("name", "kernel " + std::to_string(k))},
                {"median_ms", ms},
                {"min_ms", quantile(taken, 0)},
                {"p99_ms", quantile(taken, 0.99)}};
    if (kernel.contains("source")) row["source"] = kernel["source"];
    add_rates(row, kernel, symbols, ms);
    rows.push_back(row);
  }
  for (const Json& kernel : kernels) {
    flops += report_number(kernel.value("flops", Json()), symbols).value_or(0);
    bytes += report_number(kernel.value("bytes", Json()), symbols).value_or(0);
  }
  add_rates(out, Json{{"flops", flops}, {"bytes", bytes}}, symbols, median);
  out["kernels"] = rows;
  if (args.json) {
    std::cout << out.dump(1) << "\n";
    return Nothing{};
  }
  std::printf("%s, target %s, %d threads, %zu runs: median %.4f ms, min %.4f ms, p99 %.4f ms\n",
              toroid_model_name(model.get()), toroid_model_target(model.get()), toroid_threads(model.get()),
              times.size(), median, out["min_ms"].get<double>(), out["p99_ms"].get<double>());
  std::printf("%-48s %10s %10s %10s\n", "kernel", "ms", "GFLOP/s", "GB/s");
  for (const Json& row : rows) {
    print_row(row["name"].get<std::string>() + (row.contains("source") ? "  " + row["source"].get<std::string>() : ""),
              row);
  }
  print_row("whole", out);
  return Nothing{};
}

}  // namespace toroid::cli
