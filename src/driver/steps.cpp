// The steps up to the plan: thin calls into each folder.
#include "driver/steps.h"

#include "fuse/fuse.h"
#include "import/import.h"
#if __has_include("lower/lower.h")
#include "lower/lower.h"
#endif

namespace toroid::driver {

Status import_step(Work& work) {
  TD_TRY(work.product, import_model(work.input, {.model = work.options.model}));
  return {};
}

Status lower_step(Work& work) {
#if __has_include("lower/lower.h")
  TD_TRY(work.product, lower_graph(std::get<Graph>(work.product)));
  return {};
#else
  return fail(Kind::internal, "`{}` has no lowering in this build", work.input);
#endif
}

Status fuse_step(Work& work) {
  fuse::FuseOptions options{.explain = work.explains("fuse")};
  TD_TRY(Schedule schedule, fuse::fuse_loops(std::get<Loops>(std::move(work.product)), work.target, options));
  for (const std::string& line : schedule.explanations) work.explain("fuse", line);
  work.product = std::move(schedule);
  return {};
}

}  // namespace toroid::driver
