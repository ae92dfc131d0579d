// The steps from archive to sources: thin calls into each folder.
#include "driver/steps.h"

#include <map>
#include <string>

#include "driver/weights.h"
#include "emit/wrapper/wrapper.h"
#include "fuse/fuse.h"
#include "import/import.h"
#include "interp/interp.h"
#include "lower/lower.h"
#include "plan/plan.h"

namespace toroid::driver {

Status import_step(Work& work) {
  TD_TRY(work.product, import_model(work.input, {.model = work.options.model}));
  return {};
}

Status lower_step(Work& work) {
  TD_TRY(work.product, lower_graph(std::get<Graph>(work.product)));
  return {};
}

Status fold_step(Work& work) {
  Loops& loops = std::get<Loops>(work.product);
  TD_CHECK_OK(fold_constants(loops));
  drop_dead(loops);
  return {};
}

Status fuse_step(Work& work) {
  fuse::FuseOptions options{.explain = work.explains("fuse")};
  TD_TRY(Schedule schedule, fuse::fuse_loops(std::get<Loops>(std::move(work.product)), work.target, options));
  for (const std::string& line : schedule.explanations) work.explain("fuse", line);
  work.product = std::move(schedule);
  return {};
}

Status plan_step(Work& work) {
  TD_TRY(Plan plan, plan::plan_memory(std::get<Schedule>(std::move(work.product))));
  for (const Guard& guard : plan.schedule.loops.guards) {
    work.explain("guard", format("{}{}{}", to_string(guard.condition), guard.text.empty() ? "" : ": ", guard.text));
  }
  work.product = std::move(plan);
  return {};
}

// Of a program and of those that its calls run.
static Status emit_kernels(Work& work, const Plan& plan, std::vector<emit::KernelSource>& sources,
                           std::map<std::string, std::string>& texts) {
  for (size_t k = 0; k < plan.schedule.kernels.size(); ++k) {
    TD_CHECK_OK(work.cancel.check());
    emit::KernelSource source = emit::emit_kernel(plan.schedule, plan.schedule.kernels[k], work.target, &texts);
    if (auto bodies = plan.bodies.find(static_cast<int32_t>(k)); bodies != plan.bodies.end())
      for (const Plan& body : bodies->second)
        TD_CHECK_OK(emit_kernels(work, body, source.bodies.emplace_back(), texts));
    sources.push_back(std::move(source));
  }
  return {};
}

Status emit_step(Work& work) {
  Sources sources;
  sources.plan = std::get<Plan>(std::move(work.product));
  std::map<std::string, std::string> texts;
  TD_CHECK_OK(emit_kernels(work, sources.plan, sources.kernels, texts));
  sources.recipes = make_recipes(sources.plan);
  sources.recipes_json = runtime::recipes_to_json(sources.recipes);
  emit::WrapperOptions options;
  options.target = work.target.text();
  options.features = work.target.cpuid_features();
  options.threads = work.options.threads;
  options.recipes = sources.recipes_json;
  TD_TRY(sources.wrapper, emit::emit_wrapper(sources.plan, sources.kernels, options));
  sources.report = emit::report_json(sources.plan, sources.kernels);
  work.product = std::move(sources);
  return {};
}

}  // namespace toroid::driver
