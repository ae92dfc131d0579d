// Affinity and cgroup quotas, read from the kernel's files.
#include "cores.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

namespace toroid::runtime {
namespace {

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Folds one quota into `cpus`; "max", -1 and nonsense mean no quota.
void apply_quota(int& cpus, const std::string& quota, const std::string& period) {
  const double q = std::atof(quota.c_str()), p = std::atof(period.c_str());
  if (q <= 0 || p <= 0) return;
  const int limit = std::max(1, static_cast<int>(q / p));
  cpus = cpus == 0 ? limit : std::min(cpus, limit);
}

}  // namespace

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  // The kernel refuses a mask smaller than its own: grow until it fits.
  for (int count = 1024; count <= 1 << 18; count *= 2) {
    cpu_set_t* set = CPU_ALLOC(count);
    if (!set) break;
    const size_t bytes = CPU_ALLOC_SIZE(count);
    CPU_ZERO_S(bytes, set);
    if (::sched_getaffinity(0, bytes, set) == 0)
      for (int cpu = 0; cpu < count; ++cpu)
        if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    CPU_FREE(set);
    if (!cpus.empty()) return cpus;
  }
  return {0};
}

int cgroup_cpus(const std::string& root, std::string_view membership) {
  int cpus = 0;
  while (!membership.empty()) {
    const size_t end = std::min(membership.find('\n'), membership.size());
    const std::string_view line = membership.substr(0, end);
    membership.remove_prefix(std::min(end + 1, membership.size()));
    // hierarchy:controllers:path; version 2 has no controllers.
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
    const bool version2 = controllers == ",,";
    if (!version2 && controllers.find(",cpu,") == controllers.npos) continue;
    std::string path(line.substr(second + 1));
    for (;;) {
      if (version2) {
        for (const char* mount : {"", "/unified"}) {
          const std::string text = read_text(root + mount + path + "/cpu.max");
          if (const size_t space = text.find(' '); space != text.npos)
            apply_quota(cpus, text.substr(0, space), text.substr(space + 1));
        }
      } else {
        for (const char* mount : {"/cpu", "/cpu,cpuacct"}) {
          const std::string folder = root + mount + path;
          apply_quota(cpus, read_text(folder + "/cpu.cfs_quota_us"), read_text(folder + "/cpu.cfs_period_us"));
        }
      }
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/') == path.npos ? 0 : path.rfind('/'));
    }
  }
  return cpus;
}

int usable_threads() {
  const int cpus = static_cast<int>(allowed_cpus().size());
  const int quota = cgroup_cpus("/sys/fs/cgroup", read_text("/proc/self/cgroup"));
  return quota > 0 ? std::min(cpus, quota) : cpus;
}

RunnableThreads::RunnableThreads() : file_(::open("/proc/loadavg", O_RDONLY | O_CLOEXEC)) {}
RunnableThreads::~RunnableThreads() {
  if (file_ >= 0) ::close(file_);
}

// "0.20 0.18 0.12 1/80 11206": the fourth field is runnable/all.
int RunnableThreads::now() const {
  char text[128];
  const ssize_t length = file_ < 0 ? -1 : ::pread(file_, text, sizeof(text) - 1, 0);
  if (length <= 0) return 0;
  text[length] = 0;
  const char* field = text;
  for (int i = 0; i < 3 && field; ++i) {
    field = std::strchr(field, ' ');
    if (field) ++field;
  }
  return field ? std::atoi(field) : 0;
}

}  // namespace toroid::runtime
