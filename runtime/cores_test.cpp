// Quotas of made-up cgroup trees.
#include "cores.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

namespace toroid::runtime {
namespace {

class Cgroups : public ::testing::Test {
 protected:
  Cgroups() : root_(::testing::TempDir() + "cgroups-" + std::to_string(::getpid())) {}
  ~Cgroups() override { std::filesystem::remove_all(root_); }
  void put(const std::string& file, const std::string& text) {
    const std::filesystem::path path = root_ + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::string root_;
};

TEST_F(Cgroups, version_2_takes_the_tightest_of_the_path) {
  EXPECT_EQ(cgroup_cpus(root_, "0::/\n"), 0);
  put("/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpus(root_, "0::/a/b\n"), 0);
  put("/a/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_cpus(root_, "0::/a/b\n"), 2);
  put("/a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_cpus(root_, "0::/a/b\n"), 1);
  put("/cpu.max", "400000 100000\n");
  EXPECT_EQ(cgroup_cpus(root_, "0::/\n"), 4);
}

TEST_F(Cgroups, version_1) {
  put("/cpu/job/cpu.cfs_quota_us", "300000\n");
  put("/cpu/job/cpu.cfs_period_us", "100000\n");
  put("/cpu/cpu.cfs_quota_us", "-1\n");
  put("/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus(root_, "4:memory:/job\n1:cpu,cpuacct:/job\n"), 3);
  EXPECT_EQ(cgroup_cpus(root_, "2:cpuset:/job\n"), 0);
  EXPECT_EQ(cgroup_cpus(root_, "nonsense\n:\n\n1:cpu"), 0);
}

TEST_F(Cgroups, this_process) {
  EXPECT_GE(usable_threads(), 1);
  EXPECT_LE(usable_threads(), static_cast<int>(allowed_cpus().size()));
}

// A thread that spins is seen; where the kernel tells nothing the count is 0.
TEST(RunnableThreads, counts_who_runs) {
  const RunnableThreads runnable;
  if (runnable.now() == 0) GTEST_SKIP() << "no /proc/loadavg";
  std::atomic<bool> done = false;
  std::atomic<bool> started = false;
  std::thread busy([&] {
    started = true;
    while (!done) {
    }
  });
  while (!started) ::sched_yield();
  EXPECT_GE(runnable.now(), 2);
  done = true;
  busy.join();
}

}  // namespace
}  // namespace toroid::runtime
