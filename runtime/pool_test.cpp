// The pool: every unit runs once, whole blocks only, from many callers, in a forked child, with late and busy workers.
#include "pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "cores.h"

namespace toroid::runtime {
namespace {

// p[0] counts visits per unit, s[0] is the grain, s[1] the number of units.
void count_units(char* const* p, const int64_t* s, int64_t begin, int64_t end) {
  auto* visits = reinterpret_cast<int*>(p[0]);
  if (begin % s[0] != 0 || (end % s[0] != 0 && end != s[1])) visits[begin] += 1000;
  for (int64_t i = begin; i < end; ++i) ++visits[i];
}

bool each_once(Pool& pool, int64_t units, int64_t grain, int64_t nanoseconds, int threads) {
  std::vector<int> visits(units);
  char* p[] = {reinterpret_cast<char*>(visits.data())};
  const int64_t s[] = {grain, units};
  pool.run(count_units, p, s, units, grain, nanoseconds, threads);
  return visits == std::vector<int>(units, 1);
}

TEST(Pool, each_unit_once) {
  for (int threads : {1, 2, 3, 5}) {
    Pool pool(threads);
    ASSERT_TRUE(pool.try_borrow());
    for (int64_t units : {0, 1, 7, 64, 1000})
      for (int64_t grain : {1, 4, 64, 5000})
        for (int64_t nanoseconds : {0, 10'000, 900'000, 5'000'000})
          for (int limit : {1, 2, 9})
            ASSERT_TRUE(each_once(pool, units, grain, nanoseconds, limit))
                << threads << " threads, " << units << " units, grain " << grain << ", " << nanoseconds << " ns";
    pool.give_back();
  }
}

TEST(Pool, many_short_regions_and_sleeps) {
  Pool pool(3);
  for (int i = 0; i < 20000; ++i) ASSERT_TRUE(each_once(pool, 6, 1, 20'000, 3));
  for (int i = 0; i < 20; ++i) {
    ::usleep(300);
    ASSERT_TRUE(each_once(pool, 100, 1, 2'000'000, 3));
  }
}

void note_thread(char* const* p, const int64_t*, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) reinterpret_cast<pid_t*>(p[0])[i] = ::gettid();
  ::usleep(2000);
}

TEST(Pool, workers_take_part_and_stay_in_the_mask) {
  Pool pool(2);
  pid_t who[2] = {};
  char* p[] = {reinterpret_cast<char*>(who)};
  // The first wake-up may come late, and then the caller runs both shares: some region of these must be shared.
  bool shared = false;
  for (int i = 0; i < 50 && !shared; ++i) {
    pool.run(note_thread, p, nullptr, 2, 1, 500'000, 2);
    shared = who[0] != who[1];
  }
  EXPECT_TRUE(shared);
  const std::vector<int> before = allowed_cpus();
  EXPECT_FALSE(before.empty());
}

TEST(Pool, the_caller_keeps_its_affinity) {
  const std::vector<int> before = allowed_cpus();
  Pool pool(4);
  each_once(pool, 100, 1, 5'000'000, 4);
  EXPECT_EQ(allowed_cpus(), before);
}

TEST(Pool, one_borrower_at_a_time) {
  Pool pool(2);
  ASSERT_TRUE(pool.try_borrow());
  EXPECT_FALSE(pool.try_borrow());
  pool.give_back();
  EXPECT_TRUE(pool.try_borrow());
}

TEST(Pool, callers_that_take_turns) {
  Pool pool(3);
  std::atomic<int> wrong{0}, borrowed{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        if (!pool.try_borrow()) continue;
        ++borrowed;
        if (!each_once(pool, 50, 1, i % 2 ? 30'000 : 1'200'000, 3)) ++wrong;
        pool.give_back();
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(borrowed, 0);
}

#ifndef __SANITIZE_THREAD__  // TSan does not follow a fork of a process with threads
TEST(Pool, a_forked_child_has_a_pool_of_its_own) {
  Pool& parent = Pool::process();
  ASSERT_TRUE(parent.try_borrow());
  EXPECT_TRUE(each_once(parent, 100, 1, 2'000'000, 8));
  const pid_t child = ::fork();
  if (child == 0) {
    Pool& own = Pool::process();
    const bool fine = &own != &parent && own.try_borrow() && each_once(own, 100, 1, 2'000'000, 8) &&
                      each_once(own, 100, 1, 20'000, 8);
    ::_exit(fine ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(each_once(parent, 100, 1, 2'000'000, 8));
  parent.give_back();
}
#endif

// A share that always takes the same numbers in the same order gives the same bits for any number of threads.
void sum_block(char* const* p, const int64_t* s, int64_t begin, int64_t end) {
  const float* x = reinterpret_cast<const float*>(p[0]);
  float* sums = reinterpret_cast<float*>(p[1]);
  for (int64_t row = begin; row < end; ++row) {
    float sum = 0;
    for (int64_t i = 0; i < s[0]; ++i) sum += x[row * s[0] + i];
    sums[row] = sum;
  }
}

TEST(Pool, same_bits_for_any_thread_count) {
  std::vector<float> x(64 * 33);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 1.0f / static_cast<float>(i + 3);
  const int64_t s[] = {33};
  std::vector<float> first;
  for (int threads : {1, 2, 3, 4})
    for (int64_t nanoseconds : {100'000, 3'000'000}) {
      Pool pool(threads);
      std::vector<float> sums(64);
      char* p[] = {reinterpret_cast<char*>(x.data()), reinterpret_cast<char*>(sums.data())};
      pool.run(sum_block, p, s, 64, 4, nanoseconds, threads);
      if (first.empty()) first = sums;
      EXPECT_EQ(sums, first);
    }
}

}  // namespace
}  // namespace toroid::runtime
