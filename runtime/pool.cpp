// Workers wait on a ticket word each: spin for 50 us, then sleep on a futex. An even ticket offers a share of the
// current region; whoever makes it odd, the worker or the borrower, runs that share, so a worker that wakes up late (or
// sits on a busy core) delays nobody.
#include "pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "cores.h"

namespace toroid::runtime {
namespace {

// Measured (two-core Zen 4): a region costs 0.2 us on an awake pool and 20 us on a sleeping one.
constexpr int64_t spin_nanoseconds = 50'000;
constexpr int64_t worth_sharing = 8'000;
// Longer regions are cut into chunks that participants take as they go.
constexpr int64_t dynamic_from = 1'000'000;
// A worker that lost this part of its time to other programs stays away for a while.
constexpr int64_t shortest_absence = 20'000'000, longest_absence = 320'000'000;
// It comes back sooner when nobody else has run at so many looks in a row, so far apart. Other libraries' threads spin
// for a while after their work, and then are gone.
constexpr int quiet_looks = 3;
constexpr int64_t between_looks = 200'000;

int64_t now() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1'000'000'000) + t.tv_nsec;
}

int64_t thread_time() {
  timespec t;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * INT64_C(1'000'000'000) + t.tv_nsec;
}

long futex(std::atomic<uint32_t>* word, int op, uint32_t value) {
  return ::syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

void pause() { __builtin_ia32_pause(); }

std::atomic<Pool*> process_pool{nullptr};

}  // namespace

struct alignas(64) Pool::Worker {
  // Odd: nothing to do. Even: share `index` of the region is on offer. Taking a share adds 1, offering one adds 1.
  std::atomic<uint32_t> ticket{1};
  std::atomic<uint32_t> asleep{0};
  // The ticket (odd) of the last share that this worker finished.
  alignas(64) std::atomic<uint32_t> finished{1};
  // Not offered shares before this time, since its core is busy with other work.
  std::atomic<int64_t> away_until{0};
  int64_t absence = 0;
  int64_t spent = 0, lost = 0;  // nanoseconds since the last look at how much of its core it gets
  std::atomic<bool> quit{false};
  Pool* pool = nullptr;
  int index = 0;
  int cpu = -1;
  pthread_t thread{};
  bool running = false;

  bool take() {
    uint32_t seen = ticket.load(std::memory_order_acquire);
    return (seen & 1) == 0 && ticket.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel);
  }
  void note_time(int64_t wall, int64_t cpu_time);
};

// A core shared with a busy program gives a worker half of its time in slices of milliseconds, and a region waits for a
// worker that lost the core in the middle of a share: such a worker is worse than none.
void Pool::Worker::note_time(int64_t wall, int64_t cpu_time) {
  spent += wall;
  lost += std::max<int64_t>(wall - cpu_time, 0);
  if (spent < 4'000'000) return;
  if (lost * 4 > spent) {
    absence = std::clamp(absence * 2, shortest_absence, longest_absence);
    away_until.store(now() + absence, std::memory_order_relaxed);
  } else {
    absence = 0;
  }
  spent = lost = 0;
}

Pool& Pool::process() {
  if (Pool* pool = process_pool.load(std::memory_order_acquire)) return *pool;
  // The child of a fork has no workers: it forgets the parent's pool (and leaks it) and makes its own.
  static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { process_pool.store(nullptr, std::memory_order_release); });
  static_cast<void>(registered);
  Pool* fresh = new Pool(usable_threads());
  Pool* expected = nullptr;
  if (process_pool.compare_exchange_strong(expected, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *expected;
}

Pool::Pool(int threads) : threads_(std::max(threads, 1)) {}

Pool::~Pool() {
  for (auto& worker : workers_) {
    if (!worker->running) continue;
    worker->quit.store(true);
    worker->ticket.fetch_add(1);
    futex(&worker->ticket, FUTEX_WAKE, 1);
    ::pthread_join(worker->thread, nullptr);
  }
}

bool Pool::try_borrow() { return !borrowed_.exchange(true, std::memory_order_acquire); }
void Pool::give_back() { borrowed_.store(false, std::memory_order_release); }

// Threads start with the first parallel region, so that a process that never needs them has none. All signals are
// blocked in them: the host's handlers run on the host's threads.
void Pool::start_workers() {
  started_ = true;
  cpus_ = allowed_cpus();
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 1; i < threads_; ++i) {
    auto worker = std::make_unique<Worker>();
    worker->pool = this;
    worker->index = i;
    worker->running = ::pthread_create(&worker->thread, nullptr, work, worker.get()) == 0;
    if (!worker->running) break;
    workers_.push_back(std::move(worker));
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  place_workers();
}

// One worker per allowed CPU, never on the caller's: a woken worker that shared it would wait for the caller. Pinned,
// since an unpinned one is often woken just there. Where there are more threads than CPUs nothing is pinned.
void Pool::place_workers() {
  const int here = ::sched_getcpu();
  if (here == spare_cpu_) return;
  auto pin = [](Worker& worker, int cpu) {
    cpu_set_t* set = CPU_ALLOC(cpu + 1);
    if (!set) return;
    const size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S(cpu, bytes, set);
    if (::pthread_setaffinity_np(worker.thread, bytes, set) == 0) worker.cpu = cpu;
    CPU_FREE(set);
  };
  if (workers_.size() >= cpus_.size()) return;
  if (spare_cpu_ < 0) {
    size_t next = 0;
    for (auto& worker : workers_) {
      if (cpus_[next] == here) ++next;
      pin(*worker, cpus_[next++]);
    }
    spare_cpu_ = here;
    return;
  }
  // The caller has moved onto a worker's CPU: that worker goes where the caller was.
  for (auto& worker : workers_)
    if (worker->cpu == here) {
      pin(*worker, spare_cpu_);
      break;
    }
  spare_cpu_ = here;
}

// No thread of any other program, and no other one of this one, wants a core.
bool Pool::alone(int64_t time) {
  if (time - looked_ < between_looks) return false;
  looked_ = time;
  int ours = 1;
  for (const auto& worker : workers_) ours += worker->asleep.load(std::memory_order_relaxed) == 0;
  const int all = runnable_.now();
  quiet_looks_ = all > 0 && all <= ours ? quiet_looks_ + 1 : 0;
  return quiet_looks_ >= quiet_looks;
}

void* Pool::work(void* argument) {
  Worker& worker = *static_cast<Worker*>(argument);
  ::pthread_setname_np(::pthread_self(), "toroid");
  for (;;) {
    const int64_t start = now();
    for (int turn = 1; worker.ticket.load(std::memory_order_acquire) & 1; ++turn) {
      pause();
      if (turn % 16 != 0 || now() - start < spin_nanoseconds) continue;
      worker.asleep.store(1);
      const uint32_t seen = worker.ticket.load();
      if (seen & 1) futex(&worker.ticket, FUTEX_WAIT, seen);
      worker.asleep.store(0);
    }
    if (worker.quit.load()) return nullptr;
    if (!worker.take()) continue;
    const uint32_t mine = worker.ticket.load(std::memory_order_relaxed);
    const int64_t wall = now(), cpu = thread_time();
    worker.pool->run_share(worker.index);
    worker.note_time(now() - wall, thread_time() - cpu);
    worker.finished.store(mine, std::memory_order_release);
  }
}

void Pool::run_share(int share) {
  const Region& r = region_;
  auto blocks = [&](int64_t begin, int64_t end) {
    r.kernel(r.p, r.s, begin * r.grain, std::min(end * r.grain, r.units));
  };
  if (r.chunk == 0) {
    const int64_t begin = r.blocks * share / r.shares, end = r.blocks * (share + 1) / r.shares;
    if (begin < end) blocks(begin, end);
    return;
  }
  for (;;) {
    const int64_t begin = next_block_.fetch_add(r.chunk, std::memory_order_relaxed);
    if (begin >= r.blocks) return;
    blocks(begin, std::min(begin + r.chunk, r.blocks));
  }
}

void Pool::run(TdKernel kernel, char* const* p, const int64_t* s, int64_t units, int64_t grain, int64_t nanoseconds,
               int threads) {
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = units / grain + (units % grain != 0);
  int64_t shares = std::min<int64_t>(std::min(threads, threads_), blocks);
  // Each participant should have at least half of what makes sharing worth it.
  shares = std::min(shares, nanoseconds / (worth_sharing / 2));
  if (shares < 2 || nanoseconds < worth_sharing) return kernel(p, s, 0, units);
  if (!started_) start_workers();
  place_workers();

  Worker* chosen[256];
  int count = 0;
  const int64_t time = now();
  for (auto& worker : workers_) {
    if (count + 1 >= shares || count == 256) break;
    if (worker->away_until.load(std::memory_order_relaxed) > time) {
      if (!alone(time)) continue;
      worker->away_until.store(0, std::memory_order_relaxed);
    }
    chosen[count++] = worker.get();
  }
  if (count == 0) return kernel(p, s, 0, units);
  shares = count + 1;
  region_ = {kernel, p, s, units, grain, blocks, 0, static_cast<int>(shares)};
  if (nanoseconds >= dynamic_from) {
    // Chunks of some 50 us, at least 4 and at most 64 for each participant.
    const int64_t chunks = std::clamp(nanoseconds / 50'000, shares * 4, shares * 64);
    region_.chunk = std::max<int64_t>(1, blocks / chunks);
    next_block_.store(0, std::memory_order_relaxed);
  }
  uint32_t tickets[256];
  for (int i = 0; i < count; ++i) {
    Worker& worker = *chosen[i];
    worker.index = i + 1;
    tickets[i] = worker.ticket.load(std::memory_order_relaxed) + 1;
    worker.ticket.store(tickets[i]);
    if (worker.asleep.load()) futex(&worker.ticket, FUTEX_WAKE, 1);
  }
  run_share(0);
  for (int i = 0; i < count; ++i) {
    Worker& worker = *chosen[i];
    if (worker.take()) {
      // It never came. In a region of chunks nothing is left to do; else its share is ours.
      if (region_.chunk == 0) run_share(i + 1);
      tickets[i] = 0;
    }
  }
  for (int i = 0; i < count; ++i)
    if (tickets[i] != 0) await(*chosen[i], tickets[i] + 1);
}

void Pool::await(Worker& worker, uint32_t ticket) {
  for (int turn = 1; worker.finished.load(std::memory_order_acquire) != ticket; ++turn) {
    pause();
    // The worker lost its core: let it have ours.
    if (turn > 20'000) ::sched_yield();
  }
}

}  // namespace toroid::runtime
