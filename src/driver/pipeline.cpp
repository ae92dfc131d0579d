// The whole compiler in order, and the runner of its steps.
#include "driver/pipeline.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/file.h"
#include "driver/steps.h"

namespace toroid::driver {

// The reason for an order stands beside the step.
static constexpr Step step_list[] = {
    {"import", Form::archive, Form::graph, import_step},
    {"lower", Form::graph, Form::loops, lower_step},
    // After lower, so that constants which lowerings make (masks, tables of positions) fold too.
    {"fold", Form::loops, Form::loops, fold_step, true},
    {"fuse", Form::loops, Form::schedule, fuse_step},
    {"plan", Form::schedule, Form::plan, plan_step},
    {"emit", Form::plan, Form::sources, emit_step},
    {"build", Form::sources, Form::objects, build_step},
    {"package", Form::objects, Form::package, package_step},
};

std::span<const Step> steps() { return step_list; }

static constexpr std::string_view form_names[] = {"archive", "graph",   "loops",   "schedule",
                                                  "plan",    "sources", "objects", "package"};

std::string_view form_name(Form form) { return form_names[static_cast<size_t>(form)]; }

std::optional<Form> form_from_name(std::string_view name) {
  auto at = std::find(std::begin(form_names), std::end(form_names), name);
  if (at == std::end(form_names)) return {};
  return static_cast<Form>(at - std::begin(form_names));
}

Result<size_t> find_stage(std::string_view name) {
  std::optional<size_t> found;
  std::vector<std::string> known;
  for (size_t i = 0; i < std::size(step_list); ++i) {
    if (step_list[i].name == name) return i;
    if (form_name(step_list[i].gives) == name) found = i;
    known.emplace_back(step_list[i].name);
  }
  if (found) return *found;
  return fail(Diagnostic{Kind::bad_option, format("there is no stage `{}`", name), {"there are " + join(known, ", ")}});
}

// Calls a function of the caller's: what it throws must not be taken for a fault of ours.
template <class F, class... Args>
static void call_out(const char* name, const F& function, Args&&... args) {
  try {
    function(std::forward<Args>(args)...);
  } catch (const std::exception& e) {
    throw CallbackError(format("the function for `{}` threw: {}", name, e.what()));
  } catch (...) {
    throw CallbackError(format("the function for `{}` threw", name));
  }
}

bool Work::explains(std::string_view topic) const {
  return options.explanation && std::ranges::find(options.explain, topic) != options.explain.end();
}

void Work::explain(std::string_view topic, std::string_view line) const {
  if (explains(topic)) call_out("explanation", options.explanation, topic, line);
}

void Work::time(std::string_view step, std::string_view detail, double seconds) const {
  if (options.time) call_out("time", options.time, StepTime{std::string(step), std::string(detail), seconds});
}

void Work::progress(std::string_view step, int done, int total) const {
  if (options.progress) call_out("progress", options.progress, Progress{std::string(step), done, total});
}

void Work::warn(std::string line) {
  if (options.warning) call_out("warning", options.warning, line);
  notes.push_back(std::move(line));
}

namespace {

void verify(const Product& product) {
  if (auto graph = std::get_if<Graph>(&product)) verify_graph(*graph);
  if (auto loops = std::get_if<Loops>(&product)) verify_loops(*loops);
}

// 03-fold.loops; sources are a folder of files, 06-emit/.
Status dump(const Work& work, size_t number, std::string_view step) {
  if (work.options.dump_folder.empty()) return {};
  std::string path = format("{}/{:02}-{}", work.options.dump_folder, number, step);
  if (auto sources = std::get_if<Sources>(&work.product)) {
    TD_CHECK_OK(make_dirs(path));
    TD_CHECK_OK(write_file_atomic(path + "/wrapper.cpp", sources->wrapper));
    Status written;
    emit::each_kernel(sources->plan, sources->kernels, [&](const Kernel& kernel, const emit::KernelSource& source) {
      if (written && !source.text.empty())
        written = write_file_atomic(format("{}/{}.cpp", path, kernel.name), source.text);
    });
    return written;
  }
  auto text = print_product(work.product);
  if (!text) return {};
  TD_CHECK_OK(make_dirs(work.options.dump_folder));
  return write_file_atomic(format("{}.{}", path, form_name(work.form())), *text);
}

}  // namespace

Status run_steps(Work& work, size_t first, size_t last) {
  for (const std::string& name : work.options.skip) {
    auto step = std::ranges::find(step_list, name, &Step::name);
    if (step == std::end(step_list)) return fail(Kind::bad_option, "there is no step `{}` to skip", name);
    if (!step->optional) return fail(Kind::bad_option, "the step `{}` cannot be skipped", name);
  }
  if (work.options.stop_after > 0) last = std::min(last, static_cast<size_t>(work.options.stop_after) - 1);
  for (size_t i = first; i <= last; ++i) {
    const Step& step = step_list[i];
    if (std::ranges::find(work.options.skip, step.name) != work.options.skip.end()) continue;
    TD_CHECK_OK(work.cancel.check());
    work.progress(step.name, static_cast<int>(i - first), static_cast<int>(last - first + 1));
    TD_CHECK(work.form() == step.from, "step `{}` takes {}, got {}", step.name, form_name(step.from),
             form_name(work.form()));
    auto start = std::chrono::steady_clock::now();
    work.running = i;
    TD_CHECK_OK(step.run(work));
    TD_CHECK(work.form() == step.gives, "step `{}` gave {}", step.name, form_name(work.form()));
    verify(work.product);
    work.time(step.name, "", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    TD_CHECK_OK(dump(work, i + 1, step.name));
  }
  return {};
}

}  // namespace toroid::driver
