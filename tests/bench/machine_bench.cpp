// Prints what this machine's cores can do, as JSON: fused multiply-adds of float per second, and bytes per second read
// from and copied within memory far larger than the caches; with one thread and with two. For ./dev bench.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Vector [[gnu::vector_size(64)]] = float;
using Words [[gnu::vector_size(64)]] = uint64_t;

// Runs `slice(thread, round)` in all threads for a while; the sum of what each does a second in its best slice. Slices
// are shorter than the scheduler's, so that another program on the same core costs rounds, not speed.
double best_rate(int threads, double work_per_slice, const std::function<void(int, int)>& slice) {
  std::vector<double> best(static_cast<size_t>(threads), 1e30);
  auto run = [&](int t) {
    const auto end = Clock::now() + std::chrono::milliseconds(400);
    for (int round = 0; round < 20 || Clock::now() < end; ++round) {
      const auto start = Clock::now();
      slice(t, round);
      double& mine = best[static_cast<size_t>(t)];
      mine = std::min(mine, std::chrono::duration<double>(Clock::now() - start).count());
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(run, t);
  run(0);
  for (std::thread& other : others) other.join();
  double rate = 0;
  for (const double seconds : best) rate += work_per_slice / seconds;
  return rate;
}

constexpr int64_t steps = 50000;

// Twelve chains, enough to hide the latency of an addition and a product; the compiler fuses each pair into one.
__attribute__((noinline)) float multiply_add(float seed) {
  Vector a[12];
  const Vector m = Vector{} + 0.999f + seed, d = Vector{} + 0.5f;
  for (int i = 0; i < 12; ++i) a[i] = d * static_cast<float>(i);
  for (int64_t s = 0; s < steps; ++s)
    for (Vector& x : a) x = x * m + d;
  Vector sum = a[0];
  for (int i = 1; i < 12; ++i) sum += a[i];
  return sum[0];
}

// Each thread walks through its share of a region, a slice at a time.
constexpr size_t region = size_t{512} << 20, slice_bytes = size_t{16} << 20;

char* memory(size_t bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) std::abort();
  ::madvise(at, bytes, MADV_HUGEPAGE);
  std::memset(at, 1, bytes);
  return static_cast<char*>(at);
}

// Four streams far apart keep more lines on their way than one.
__attribute__((noinline)) uint64_t read_all(const char* data, size_t bytes) {
  Words sums[4] = {};
  const size_t quarter = bytes / 4;
  for (size_t i = 0; i < quarter; i += 64)
    for (size_t s = 0; s < 4; ++s) {
      Words v;
      std::memcpy(&v, data + s * quarter + i, 64);
      sums[s] += v;
    }
  const Words all = sums[0] + sums[1] + sums[2] + sums[3];
  return all[0];
}

}  // namespace

int main() {
  char* from = memory(region);
  char* to = memory(region);
  volatile double sink = 0;
  double flops[3], reads[3], copies[3];
  for (int threads : {1, 2}) {
    const size_t share = region / static_cast<size_t>(threads);
    auto place = [&](int t, int round) {
      return static_cast<size_t>(t) * share + static_cast<size_t>(round) * slice_bytes % share;
    };
    flops[threads] = best_rate(threads, static_cast<double>(steps) * 12 * 16 * 2,
                               [&](int t, int) { sink = multiply_add(1e-9f * static_cast<float>(t)); });
    reads[threads] = best_rate(threads, slice_bytes, [&](int t, int round) {
      sink = static_cast<double>(read_all(from + place(t, round), slice_bytes));
    });
    copies[threads] = best_rate(threads, 2.0 * slice_bytes, [&](int t, int round) {
      std::memcpy(to + place(t, round), from + place(t, round), slice_bytes);
    });
  }
  std::printf(
      "{\"gflops\": {\"1\": %.1f, \"2\": %.1f}, \"read_gbs\": {\"1\": %.2f, \"2\": %.2f}, \"copy_gbs\": {\"1\": %.2f, "
      "\"2\": %.2f}}\n",
      flops[1] / 1e9, flops[2] / 1e9, reads[1] / 1e9, reads[2] / 1e9, copies[1] / 1e9, copies[2] / 1e9);
}
