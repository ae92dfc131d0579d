// The job graph: compilations, a link, and functions run by a few threads at once, each as soon as what it needs is
// there. Jobs may be added while others run, so kernels compile while later ones are still being written.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/id.h"
#include "base/result.h"
#include "build/cache.h"
#include "build/tools.h"

namespace toroid::build {

using JobId = Id<struct JobTag>;
using Bytes = std::shared_ptr<const std::string>;

struct BuildOptions {
  int jobs = 0;         // at once; 0: as many as this process has CPUs
  std::string version;  // of Toroid and its prelude: part of every key
  const CancelToken* cancel = nullptr;
  // Called after each job from the build's threads, one call at a time; `total` grows while jobs are added.
  std::function<void(int done, int total, const std::string& name)> progress;
};

// One job for `--time`, in the order of adding.
struct JobTime {
  std::string name;
  const char* how = "";  // "compiled", "cached", "same" (as another job of this build), "linked", "ran"
  double queued_ms = 0;  // from when it could have started
  double milliseconds = 0;
};

class Build {
 public:
  // `tools` and `cache` (may be null) must outlive the build, and may serve others at the same time.
  Build(Tools& tools, ObjectCache* cache, BuildOptions options);
  // Without wait(): kills what runs and waits for its end.
  ~Build();
  Build(const Build&) = delete;
  Build& operator=(const Build&) = delete;

  // May be called from any thread, also from a job that runs. Equal units are compiled once.
  JobId compile(Unit unit);
  // `needs` without output (functions) are waited for; the outputs of the others are linked, in order, after
  // unit.objects.
  JobId link(LinkUnit unit, std::vector<JobId> needs);
  // Work for a thread of the build, such as packing weights; it should ask the token now and then.
  // expected_ms: of ready jobs the longest starts first (a compilation counts 1 ms for each 200 bytes of text).
  JobId run(std::string name, std::function<Status(const CancelToken&)> work, std::vector<JobId> needs = {},
            double expected_ms = 10);

  // Until the job is done: its object or shared object, or why the build failed.
  Result<Bytes> output(JobId job);
  // Until all jobs are done. The first failure stops the build: what runs is killed, what waits is not started.
  // Rethrows what a function threw.
  Status wait();

  std::vector<JobTime> times() const;
  // `--explain=cache`: one line for each compilation and link, in the order of adding:
  //   hit  mlp/kernel_0          miss mlp/kernel_1: flags changed          same mlp/kernel_2: as mlp/kernel_0
  std::vector<std::string> cache_lines() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace toroid::build
