// How many threads this process may use: its affinity mask and its cgroup's CPU quota.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace toroid::runtime {

// The CPUs of the calling thread's affinity mask, in order; never empty.
std::vector<int> allowed_cpus();

// CPUs that the quotas of a cgroup and of those above it leave (at least 1); 0 when there is no quota. `root` is where
// cgroups are mounted, `membership` the text of /proc/self/cgroup. Reads version 2 (cpu.max) and 1 (cpu.cfs_quota_us).
int cgroup_cpus(const std::string& root, std::string_view membership);

// min(affinity, quota) of this process.
int usable_threads();

// How many threads of the whole machine run or could run now, the caller among them: /proc/loadavg, which costs about a
// microsecond to read. 0 where the kernel does not say.
class RunnableThreads {
 public:
  RunnableThreads();
  ~RunnableThreads();
  RunnableThreads(const RunnableThreads&) = delete;
  RunnableThreads& operator=(const RunnableThreads&) = delete;
  int now() const;

 private:
  int file_;
};

}  // namespace toroid::runtime
