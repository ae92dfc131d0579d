// Sources to a linked model, and the model with its weights to a package.
#include <sched.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "build/build.h"
#include "build/cache.h"
#include "driver/model_parts.h"
#include "driver/steps.h"
#include "driver/weights.h"
#include "emit/wrapper/calls.h"
#include "package/package.h"
#include "recipe.h"

namespace toroid::driver {

namespace {

using Json = nlohmann::ordered_json;

int job_count(const CompileOptions& options) {
  if (options.jobs > 0) return options.jobs;
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : std::max(CPU_COUNT(&allowed), 1);
}

Status find_tools(Work& work) {
  if (!work.compiler) {
    TD_TRY(work.compiler, find_compiler(work.options.compiler, work.options.search_path));
  }
  return {};
}

// A Python value that the program was specialised for, or that it returns. JSON has no infinities and NaNs.
Json constant_json(const Arg& arg) {
  if (std::holds_alternative<None>(arg)) return nullptr;
  if (auto flag = std::get_if<bool>(&arg)) return *flag;
  if (auto text = std::get_if<std::string>(&arg)) return *text;
  if (auto number = std::get_if<Sym>(&arg); number && number->is_constant()) return number->value();
  if (auto number = std::get_if<double>(&arg))
    return std::isfinite(*number) ? Json(*number) : Json{{"float", format("{}", *number)}};
  return Json{{"other", true}};
}

Json texts(const SymList& list) {
  Json out = Json::array();
  for (const Sym& sym : list) out.push_back(to_string(sym));
  return out;
}

// Inputs and outputs as the user knows them.
std::string signature_json(const Loops& loops) {
  Json inputs = Json::array(), outputs = Json::array();
  for (size_t i = 0; i < loops.inputs.size(); ++i) {
    const GraphInput& input = loops.inputs[i];
    Json row = {{"name", input.name}};
    if (input.kind == GraphInput::Kind::tensor) {
      const TensorType tensor = outer_type(loops[loops.input_tensors[i]]);
      row["dtype"] = dtype_name(tensor.dtype);
      row["sizes"] = to_string(tensor.sizes);
      row["strides"] = texts(tensor.strides);
      row["device"] = to_string(tensor.device);
    } else if (input.kind == GraphInput::Kind::symbol) {
      row["size"] = to_string(input.symbol);
    } else {
      row["constant"] = constant_json(input.constant);
    }
    inputs.push_back(row);
  }
  for (const LoopOutput& output : loops.outputs) {
    Json row = {{"name", output.target.name}};
    if (output.tensor) {
      const TensorType tensor = outer_type(loops[output.tensor]);
      row["dtype"] = dtype_name(tensor.dtype);
      row["sizes"] = to_string(output.alias_input >= 0 ? output.sizes : tensor.sizes);
      row["strides"] =
          to_string(output.alias_input >= 0 ? output.strides : outer_strides(loops[output.tensor], output.strides));
      row["device"] = to_string(tensor.device);
      if (output.alias_input >= 0) row["alias_of_input"] = output.alias_input;
    } else if (output.target.kind == GraphOutput::Kind::symbol) {
      row["size"] = to_string(output.target.symbol);
    } else if (output.target.kind == GraphOutput::Kind::constant) {
      row["constant"] = constant_json(output.target.constant);
    }
    if (output.alias_input >= 0) {
      // A view of that input's memory, from this element on.
      row["alias_input"] = output.alias_input;
      row["alias_offset"] = to_string(output.offset);
    }
    if (output.target.mutates == GraphOutput::Mutates::weight) {
      row["mutates"] = loops.weights[static_cast<size_t>(output.target.weight.index)].name;
    } else if (output.target.mutates == GraphOutput::Mutates::input) {
      row["mutates_input"] = output.target.input;
    }
    outputs.push_back(row);
  }
  return Json{{"inputs", inputs}, {"outputs", outputs}, {"in_spec", loops.in_spec}, {"out_spec", loops.out_spec}}
      .dump();
}

// "g++ (Debian 12.2.0-14) 12.2.0": what `--version` says first.
std::string compiler_text(const Compiler& compiler) { return compiler.version; }

Result<build::Bytes> run_build(Work& work, const Sources& sources) {
  auto tools = build::make_tools(*work.compiler, {.reproducer_parent = work.options.temporary_folder});
  build::ObjectCache cache({.folder = work.options.cache_folder, .limit_bytes = work.options.cache_bytes});
  build::BuildOptions options;
  options.jobs = job_count(work.options);
  options.version = TOROID_VERSION;
  options.cancel = &work.cancel;
  options.progress = [&](int done, int total, const std::string&) { work.progress("build", done, total); };
  build::Build build(*tools, &cache, options);

  const std::string& model = sources.plan.schedule.loops.name;
  std::vector<build::JobId> needs;
  std::set<std::string> seen;
  // The wrapper only checks sizes and calls kernels: optimising it costs time and gains none.
  needs.push_back(
      build.compile({.name = model + "/wrapper", .text = sources.wrapper, .target = work.target, .flags = {"-O1"}}));
  bool library = false;
  emit::each_kernel(sources.plan, sources.kernels, [&](const Kernel& kernel, const emit::KernelSource& source) {
    if (auto* call = std::get_if<CallKernel>(&kernel.work))
      return void(library |= source.bodies.empty() && !emit::is_plugin_op(*call));
    if (!seen.insert(source.symbol).second) return;
    std::string name = format("{}/{}", model, kernel.name);
    needs.push_back(build.compile({.name = name, .text = source.text, .target = work.target, .flags = {}}));
  });
  build::LinkUnit link{.name = model + "/link"};
  link.objects.push_back(std::make_shared<const std::string>(model_abi_object()));
  if (library) link.objects.push_back(std::make_shared<const std::string>(model_library_object()));
  link.version_script = model_version_script();
  build::JobId linked = build.link(link, needs);
  TD_CHECK_OK(build.wait());

  int compiled = 0, reused = 0;
  for (const build::JobTime& job : build.times()) {
    work.time("build", format("{} ({})", job.name, job.how), job.milliseconds / 1e3);
    std::string_view how = job.how;
    compiled += how == "compiled";
    reused += how == "cached" || how == "same";
  }
  work.notes.push_back(format("{} kernels", sources.kernels.size()));
  work.notes.push_back(format("{} files compiled, {} reused", compiled, reused));
  for (const std::string& line : build.cache_lines()) work.explain("cache", line);
  for (const std::string& line : cache.notes()) work.warn(line);
  return build.output(linked);
}

}  // namespace

Status build_step(Work& work) {
  Objects objects;
  objects.sources = std::get<Sources>(std::move(work.product));
  TD_CHECK_OK(find_tools(work));
  TD_TRY(objects.code, run_build(work, objects.sources));
  work.product = std::move(objects);
  return {};
}

Status package_step(Work& work) {
  const Objects objects = std::get<Objects>(std::move(work.product));
  const Sources& sources = objects.sources;
  const Plan& plan = sources.plan;
  package::ModelContents model;
  model.code = *objects.code;
  model.weights_bytes = plan.weights_bytes;
  model.mutated_bytes = plan.mutated_bytes;
  TD_TRY(auto weights, WeightsMaker::create(plan, sources.recipes));
  model.write_weights = [&](uint64_t begin, std::span<std::byte> out) -> Status {
    TD_CHECK_OK(work.cancel.check());
    return weights->write(begin, out);
  };
  model.jobs = job_count(work.options);
  model.target = work.target.text();
  model.features = work.target.cpuid_features();
  model.compiler = compiler_text(*work.compiler);
  model.default_threads = work.options.threads;
  model.signature = signature_json(plan.schedule.loops);
  model.recipes = sources.recipes_json;
  model.report = sources.report;
  package::PackageContents contents;
  contents.prefix = plan.schedule.loops.name;
  contents.toroid_version = TOROID_VERSION;
  contents.models.push_back(std::move(model));

  package::PackageTimes times;
  PackageBytes result;
  if (work.options.output.empty()) {
    TD_TRY(package::MemoryPackage bytes, package::write_package_to_memory(contents, &times));
    auto owner = std::make_shared<package::MemoryPackage>(std::move(bytes));
    result.bytes = owner->bytes();
    result.owner = owner;
  } else {
    TD_CHECK_OK(package::write_package(contents, work.options.output, &times));
    TD_TRY(MappedFile file, MappedFile::open(work.options.output));
    auto owner = std::make_shared<MappedFile>(std::move(file));
    result.bytes = owner->bytes();
    result.owner = owner;
    result.file = work.options.output;
  }
  work.time("package", "packing of weights", times.weights_ms / 1e3);
  work.time("package", "hashing", times.hash_ms / 1e3);
  work.time("package", "writing", times.file_ms / 1e3);
  work.notes.insert(work.notes.begin(), bytes_text(static_cast<int64_t>(result.bytes.size())));
  work.product = std::move(result);
  return {};
}

}  // namespace toroid::driver
