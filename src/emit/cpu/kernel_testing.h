// Helpers of the kernel tests and the kernel benchmark: text of kernels in, callable functions out; values, comparison.
#pragma once
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/text.h"
#include "emit/cpu/prelude.h"
#include "emit/cpu/tile.h"

namespace toroid::emit::testing {

using KernelFunction = void (*)(char* const* p, const int64_t* s, int64_t begin, int64_t end);

struct TestTarget {
  Isa isa;
  std::string flags, label;
};

inline TestTarget avx512_target() {
  return {{.lanes = 16, .bf16_dot = true}, "-march=x86-64-v4 -mavx512bf16", "avx512"};
}
inline TestTarget avx512_plain_target() {
  return {{.lanes = 16, .bf16_dot = false}, "-march=x86-64-v4", "avx512_plain"};
}
inline TestTarget plain_target() { return {{.lanes = 4, .bf16_dot = false}, "-march=x86-64", "plain"}; }
inline TestTarget avx2_target() { return {{.lanes = 8, .bf16_dot = false}, "-march=x86-64-v3", "avx2"}; }

// The targets that this machine runs.
inline std::vector<TestTarget> host_targets() {
  std::vector<TestTarget> out;
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    if (__builtin_cpu_supports("avx512bf16")) out.push_back(avx512_target());
    out.push_back(avx512_plain_target());
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out.push_back(avx2_target());
  out.push_back(plain_target());
  return out;
}

// The kernel with `NAME_units` beside it.
inline std::string with_units(const KernelText& kernel, const std::string& name) {
  return kernel.text +
         format("extern \"C\" i64 {}_units(const i64* s) {{ (void)s; return {}; }}\n", name, kernel.units);
}

// One loaded library with many kernels.
class KernelLibrary {
 public:
  KernelLibrary(const std::string& source, const TestTarget& target, const std::string& compiler = "g++",
                const std::string& level = "-O1") {
    char folder[] = "/tmp/toroid-kernels-XXXXXX";
    if (!mkdtemp(folder)) throw std::runtime_error("mkdtemp");
    const std::string base = folder;
    std::ofstream(base + "/k.cpp") << prelude_for(source, {.lanes = target.isa.lanes}) << source << prelude_end();
    const auto start = std::chrono::steady_clock::now();
    const std::string command = format(
        "{} -std=c++17 {} -ffp-contract=off -Wall -Wextra -Wno-psabi -Wno-unused-function -fno-exceptions -fno-rtti "
        "-fno-asynchronous-unwind-tables -fPIC -shared -nostdlib {} {}/k.cpp -o {}/k.so",
        compiler, level, target.flags, base, base);
    const int status = std::system(command.c_str());
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (status == 0) handle_ = dlopen((base + "/k.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) throw std::runtime_error("kernels did not compile or load: " + base + "/k.cpp");
    if (!std::getenv("TOROID_KEEP_KERNELS")) {
      unlink((base + "/k.cpp").c_str());
      unlink((base + "/k.so").c_str());
      rmdir(base.c_str());
    }
  }
  KernelLibrary(const KernelLibrary&) = delete;
  ~KernelLibrary() { dlclose(handle_); }
  KernelFunction kernel(const std::string& name) const { return reinterpret_cast<KernelFunction>(symbol(name)); }
  int64_t units(const std::string& name, const int64_t* s) const {
    return reinterpret_cast<int64_t (*)(const int64_t*)>(symbol(name + "_units"))(s);
  }
  double seconds() const { return seconds_; }

 private:
  void* symbol(const std::string& name) const {
    void* found = dlsym(handle_, name.c_str());
    if (!found) throw std::runtime_error("no symbol " + name);
    return found;
  }
  void* handle_ = nullptr;
  double seconds_ = 0;
};

inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float from_bf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

// Values of one operand: as f32 (exact also when stored as bf16) and as stored, with a guard of NaN at the end.
struct Operand {
  std::vector<float> values;
  std::vector<char> bytes;
  char* data() { return bytes.data(); }
};

class Values {
 public:
  explicit Values(uint64_t seed) : state_(seed * 2654435769u + 12345) {}
  // Uniform in [-1, 1), the same on every run.
  float next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<int64_t>(state_ >> 33) - (int64_t{1} << 30)) / static_cast<float>(1 << 30);
  }
  Operand operand(size_t n, DType dtype) {
    Operand out;
    out.values.resize(n);
    for (float& x : out.values) {
      x = next();
      if (dtype == DType::bf16) x = from_bf16(to_bf16(x));
    }
    store(out, dtype);
    return out;
  }
  static void store(Operand& o, DType dtype) {
    const float guard = std::nanf("");
    const size_t n = o.values.size();
    o.bytes.resize((n + 64) * static_cast<size_t>(dtype_bytes(dtype)));
    for (size_t i = 0; i < n + 64; ++i) {
      const float x = i < n ? o.values[i] : guard;
      const uint16_t half = to_bf16(x) | (i < n ? 0 : 0x40);
      if (dtype == DType::bf16)
        std::memcpy(o.bytes.data() + 2 * i, &half, 2);
      else
        std::memcpy(o.bytes.data() + 4 * i, &x, 4);
    }
  }

 private:
  uint64_t state_;
};

// Runs `run(begin, end)` over all units at once, then piece by piece from the end: "" or what differs.
template <class Run>
std::string differs_in_pieces(Run run, int64_t units, std::vector<float>& output) {
  std::fill(output.begin(), output.end(), -77.0f);
  run(0, units);
  const std::vector<float> whole = output;
  std::fill(output.begin(), output.end(), -77.0f);
  int64_t end = units;
  for (int64_t piece = 1; end > 0; piece = piece % 3 + 1) {
    const int64_t begin = std::max<int64_t>(0, end - piece);
    run(begin, end);
    end = begin;
  }
  return std::memcmp(whole.data(), output.data(), whole.size() * sizeof(float)) ? "pieces give other bits" : "";
}

// Largest difference over the largest reference value (infinite where a NaN appears).
inline double relative_error(const std::vector<float>& got, const std::vector<double>& want) {
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = std::abs(got[i] - want[i]);
    if (!(difference <= 1e30)) return INFINITY;
    worst = std::max(worst, difference);
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / largest;
}

}  // namespace toroid::emit::testing
