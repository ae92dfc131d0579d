// Threads take the longest ready job, look into the cache, run the tools, store, and release the jobs that wait for it.
#include "build/build.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <queue>
#include <system_error>
#include <thread>

#include "base/check.h"
#include "base/text.h"

namespace toroid::build {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

int available_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

enum class Form { compile, link, function, same };

struct Job {
  Form form = Form::function;
  std::string name;
  Unit unit;
  LinkUnit link;
  std::function<Status(const CancelToken&)> work;
  std::vector<JobId> needs;
  KeyParts parts;
  double expected_ms = 0;

  int missing = 0;  // needs that are not done
  std::vector<int> dependents;
  bool done = false;
  Bytes output;
  Clock::time_point ready_time;
  JobTime time;
  std::string cache_line;
};

}  // namespace

struct Build::State {
  State(Tools& tools, ObjectCache* cache, BuildOptions options)
      : tools(tools), cache(cache), options(std::move(options)), stop(this->options.cancel) {
    limit = this->options.jobs > 0 ? this->options.jobs : available_cpus();
  }

  JobId add(std::unique_ptr<Job> job, std::unique_lock<std::mutex>& lock);
  void release(int index);
  void start_threads();
  void work(bool until_idle);
  void run_one(int index, std::unique_lock<std::mutex>& lock);
  void report(const std::string& name, std::unique_lock<std::mutex>& lock);
  Status perform(Job& job);
  Status perform_cached(Job& job, const std::function<Result<std::string>()>& make, const char* made);
  void set_failure(int index, Diagnostic diagnostic);
  bool idle() const { return finished == static_cast<int>(jobs.size()); }

  Tools& tools;
  ObjectCache* cache;
  BuildOptions options;
  CancelToken stop;  // the caller's wish, or ours after a failure
  int limit = 1;

  mutable std::mutex mutex;
  std::mutex progress_mutex;  // guards the two counters below
  int reported = 0, most_reported = 0;
  std::condition_variable work_wake, done_wake;
  // Addresses stay while jobs are added.
  std::deque<std::unique_ptr<Job>> jobs;
  // The longest first; among equals, in the order of adding.
  std::priority_queue<std::pair<double, int>> ready;
  std::map<Hash128, int> by_key;
  std::vector<std::thread> threads;
  int sleeping = 0, running = 0, finished = 0;
  bool closing = false;
  // The failure of the lowest job, so that which message comes depends on threads as little as can be.
  std::optional<std::pair<int, Diagnostic>> failure;
  std::exception_ptr thrown;
};

JobId Build::State::add(std::unique_ptr<Job> job, std::unique_lock<std::mutex>&) {
  int index = static_cast<int>(jobs.size());
  job->time.name = job->name;
  for (JobId need : job->needs) {
    TD_CHECK(need.index >= 0 && need.index < index, "job `{}` needs a job that does not exist", job->name);
    if (jobs[need.index]->done) continue;
    ++job->missing;
    jobs[need.index]->dependents.push_back(index);
  }
  jobs.push_back(std::move(job));
  if (jobs.back()->missing == 0) release(index);
  return JobId{index};
}

void Build::State::release(int index) {
  Job& job = *jobs[index];
  job.ready_time = Clock::now();
  ready.emplace(job.expected_ms, -index);
  if (sleeping == 0) start_threads();
  work_wake.notify_one();
}

// One thread more, up to the limit. Where the system gives none, wait() and output() do the work themselves.
void Build::State::start_threads() {
  if (static_cast<int>(threads.size()) >= limit) return;
  // The host's signal handlers run on the host's threads.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  try {
    threads.emplace_back([this] { work(false); });
  } catch (const std::system_error&) {
    limit = std::max(1, static_cast<int>(threads.size()));
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void Build::State::work(bool until_idle) {
  std::unique_lock lock(mutex);
  for (;;) {
    while (ready.empty()) {
      if (closing || (until_idle && idle())) return;
      ++sleeping;
      work_wake.wait(lock);
      --sleeping;
    }
    int index = -ready.top().second;
    ready.pop();
    run_one(index, lock);
  }
}

void Build::State::set_failure(int index, Diagnostic diagnostic) {
  // What ends because the build stops is not the reason why it stops.
  bool consequence = failure && diagnostic.kind == Kind::cancelled;
  bool replaces = !failure || failure->second.kind == Kind::cancelled || index < failure->first;
  if (!consequence && replaces) failure = {index, std::move(diagnostic)};
  stop.cancel();
}

void Build::State::run_one(int index, std::unique_lock<std::mutex>& lock) {
  Job& job = *jobs[index];
  ++running;
  bool skip = failure.has_value() || thrown != nullptr;
  lock.unlock();
  Clock::time_point start = Clock::now();
  Status status;
  std::exception_ptr exception;
  if (!skip) {
    try {
      status = stop.check();
      if (status) status = perform(job);
    } catch (...) {
      exception = std::current_exception();
    }
  }
  Clock::time_point end = Clock::now();
  lock.lock();
  job.time.queued_ms = milliseconds(start - job.ready_time);
  job.time.milliseconds = milliseconds(end - start);
  if (exception) {
    if (!thrown) thrown = exception;
    stop.cancel();
  } else if (!status) {
    set_failure(index, std::move(status).error());
  }
  job.done = true;
  ++finished;
  for (int dependent : job.dependents) {
    if (--jobs[dependent]->missing == 0) release(dependent);
  }
  done_wake.notify_all();
  if (idle()) work_wake.notify_all();
  if (options.progress && !skip && status && !exception) report(job.name, lock);
  // Not before: after wait() no call of the caller's functions is under way.
  --running;
  done_wake.notify_all();
}

void Build::State::report(const std::string& name, std::unique_lock<std::mutex>& lock) {
  int total = static_cast<int>(jobs.size());
  std::exception_ptr exception;
  lock.unlock();
  {
    std::lock_guard one_at_a_time(progress_mutex);
    // Counted here and not with `finished`, so that the numbers come in order.
    most_reported = std::max(most_reported, total);
    try {
      options.progress(++reported, most_reported, name);
    } catch (...) {
      exception = std::current_exception();
    }
  }
  lock.lock();
  if (exception && !thrown) thrown = exception;
  if (exception) stop.cancel();
}

// Takes the output from the cache, or makes and stores it.
Status Build::State::perform_cached(Job& job, const std::function<Result<std::string>()>& make, const char* made) {
  Hash128 key = job.parts.key();
  if (cache != nullptr) {
    if (std::optional<std::string> object = cache->find(key)) {
      cache->remember(job.name, job.parts);
      job.cache_line = format("hit  {}", job.name);
      job.time.how = "cached";
      job.output = std::make_shared<const std::string>(std::move(*object));
      return {};
    }
    job.cache_line = format("miss {}: {}", job.name, cache->explain(job.name, job.parts));
  }
  job.time.how = made;
  TD_TRY(std::string object, make());
  if (cache != nullptr) cache->store(key, object);
  job.output = std::make_shared<const std::string>(std::move(object));
  return {};
}

Status Build::State::perform(Job& job) {
  switch (job.form) {
    case Form::compile:
      return perform_cached(
          job, [&] { return tools.compile(job.unit, stop); }, "compiled");
    case Form::link: {
      Hasher texts;
      texts.add("link").add(job.link.version_script);
      {
        std::lock_guard lock(mutex);
        for (JobId need : job.needs) {
          if (jobs[need.index]->output) job.link.objects.push_back(jobs[need.index]->output);
        }
      }
      for (const Bytes& object : job.link.objects) texts.add(hash_text(*object));
      job.parts.text = texts.finish();
      return perform_cached(
          job, [&] { return tools.link(job.link, stop); }, "linked");
    }
    case Form::same: {
      std::lock_guard lock(mutex);
      const Job& first = *jobs[job.needs[0].index];
      job.output = first.output;
      job.cache_line = format("same {}: as {}", job.name, first.name);
      job.time.how = "same";
      return {};
    }
    case Form::function: job.time.how = "ran"; return job.work(stop);
  }
  return {};
}

namespace {

Hash128 hash_words(const std::vector<std::string>& words) {
  Hasher hasher;
  for (const std::string& word : words) hasher.add(word);
  return hasher.finish();
}

}  // namespace

Build::Build(Tools& tools, ObjectCache* cache, BuildOptions options)
    : state_(std::make_unique<State>(tools, cache, std::move(options))) {}

Build::~Build() {
  {
    std::lock_guard lock(state_->mutex);
    if (!state_->idle()) {
      state_->set_failure(static_cast<int>(state_->jobs.size()), {Kind::cancelled, "the build was given up", {}});
    }
    state_->closing = true;
    state_->work_wake.notify_all();
  }
  for (std::thread& thread : state_->threads) thread.join();
}

JobId Build::compile(Unit unit) {
  auto job = std::make_unique<Job>();
  job->form = Form::compile;
  job->name = unit.name;
  job->expected_ms = static_cast<double>(unit.text.size()) / 200;
  job->parts = {.text = hash_text(unit.text),
                .flags = hash_words(state_->tools.flags(unit)),
                .compiler = hash_text(state_->tools.identity()),
                .target = hash_text(unit.target.text()),
                .version = hash_text(state_->options.version)};
  Hash128 key = job->parts.key();
  job->unit = std::move(unit);
  std::unique_lock lock(state_->mutex);
  auto [known, fresh] = state_->by_key.try_emplace(key, static_cast<int>(state_->jobs.size()));
  if (!fresh) {
    job->form = Form::same;
    job->unit = {};
    job->expected_ms = 0;
    job->needs = {JobId{known->second}};
  }
  return state_->add(std::move(job), lock);
}

JobId Build::link(LinkUnit unit, std::vector<JobId> needs) {
  auto job = std::make_unique<Job>();
  job->form = Form::link;
  job->name = unit.name;
  job->needs = std::move(needs);
  job->parts = {.text = {},
                .flags = hash_words(state_->tools.flags(unit)),
                .compiler = hash_text(state_->tools.identity()),
                .target = {},
                .version = hash_text(state_->options.version)};
  job->link = std::move(unit);
  job->expected_ms = 50;
  std::unique_lock lock(state_->mutex);
  return state_->add(std::move(job), lock);
}

JobId Build::run(std::string name, std::function<Status(const CancelToken&)> work, std::vector<JobId> needs,
                 double expected_ms) {
  auto job = std::make_unique<Job>();
  job->form = Form::function;
  job->name = std::move(name);
  job->work = std::move(work);
  job->needs = std::move(needs);
  job->expected_ms = expected_ms;
  std::unique_lock lock(state_->mutex);
  return state_->add(std::move(job), lock);
}

Result<Bytes> Build::output(JobId id) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  TD_CHECK(id.index >= 0 && id.index < static_cast<int>(state.jobs.size()), "no job {}", id.index);
  const Job& job = *state.jobs[id.index];
  if (state.threads.empty()) {
    lock.unlock();
    state.work(true);
    lock.lock();
  }
  state.done_wake.wait(lock, [&] { return job.done; });
  if (state.thrown) std::rethrow_exception(state.thrown);
  if (job.output) return job.output;
  if (state.failure) return fail(state.failure->second);
  TD_CHECK(false, "job `{}` has no output", job.name);
}

Status Build::wait() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (state.threads.empty()) {
    lock.unlock();
    state.work(true);
    lock.lock();
  }
  state.done_wake.wait(lock, [&] { return state.idle() && state.running == 0; });
  if (state.cache != nullptr) {
    lock.unlock();
    state.cache->trim();
    lock.lock();
  }
  if (state.thrown) std::rethrow_exception(state.thrown);
  if (state.failure) return fail(state.failure->second);
  return {};
}

std::vector<JobTime> Build::times() const {
  std::lock_guard lock(state_->mutex);
  std::vector<JobTime> times;
  for (const auto& job : state_->jobs) {
    if (job->done) times.push_back(job->time);
  }
  return times;
}

std::vector<std::string> Build::cache_lines() const {
  std::lock_guard lock(state_->mutex);
  std::vector<std::string> lines;
  for (const auto& job : state_->jobs) {
    if (job->done && !job->cache_line.empty()) lines.push_back(job->cache_line);
  }
  return lines;
}

}  // namespace toroid::build
