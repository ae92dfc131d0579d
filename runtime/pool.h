// The process's thread pool: one for all models. A run borrows it whole, or runs on its caller's thread when another
// run has it. Results never depend on it: kernels give the same bits for any split.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "cores.h"
#include "model_abi.h"

namespace toroid::runtime {

class Pool {
 public:
  // The pool of this process; after fork the child gets a fresh one. Never destroyed: workers sleep until exit.
  static Pool& process();

  // `threads` participants, the caller of a region among them. For tests; others use process().
  explicit Pool(int threads);
  ~Pool();

  int threads() const { return threads_; }

  // At most one borrower at a time. A borrower that already has it does not ask again.
  bool try_borrow();
  void give_back();

  // Runs kernel over [0, units) in blocks of whole multiples of grain on up to `threads` threads, the caller included.
  // Only for the borrower. `nanoseconds` estimates the whole.
  void run(TdKernel kernel, char* const* p, const int64_t* s, int64_t units, int64_t grain, int64_t nanoseconds,
           int threads);

 private:
  struct Worker;
  struct Region {
    TdKernel kernel;
    char* const* p;
    const int64_t* s;
    int64_t units, grain, blocks;
    int64_t chunk;  // blocks taken at a time; 0: each participant has one static share
    int shares;
  };
  static void* work(void* worker);
  void start_workers();
  void place_workers();
  bool alone(int64_t time);
  void run_share(int share);
  void await(Worker& worker, uint32_t ticket);

  const int threads_;
  Region region_{};
  alignas(64) std::atomic<int64_t> next_block_{0};
  alignas(64) std::atomic<bool> borrowed_{false};
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<int> cpus_;
  int spare_cpu_ = -1;  // the allowed CPU that no worker is pinned to: the caller's
  bool started_ = false;
  RunnableThreads runnable_;
  int64_t looked_ = 0;  // when alone() last asked, and how often in a row it saw nobody
  int quiet_looks_ = 0;
};

}  // namespace toroid::runtime
