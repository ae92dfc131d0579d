// Takes a package whose inputs all are f32[8]; prints the nanoseconds of one toroid_run on caller-owned buffers: the
// 5th percentile of short blocks. scripts/bench_calls.py compares it with calls from Python.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "toroid/runtime.h"

int main(int argc, char** argv) {
  toroid_model* model = nullptr;
  if (argc != 2 || toroid_load(argv[1], nullptr, &model) != TOROID_OK) {
    std::fprintf(stderr, "usage: call_bench PACKAGE (%s)\n", toroid_last_error());
    return 1;
  }
  const size_t inputs = static_cast<size_t>(toroid_input_count(model));
  const size_t outputs = static_cast<size_t>(toroid_output_count(model));
  const int64_t sizes[] = {8};
  std::vector<float> memory((inputs + outputs) * 8, 1.0f);
  std::vector<toroid_tensor> tensors;
  for (size_t i = 0; i < inputs + outputs; ++i)
    tensors.push_back({sizeof(toroid_tensor), &memory[i * 8], sizes, nullptr, 1, TOROID_F32, 0, 0, nullptr});
  constexpr int calls = 100, blocks = 2000;
  std::vector<double> times;
  for (int block = 0; block < blocks; ++block) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i)
      if (toroid_run(model, tensors.data(), inputs, tensors.data() + inputs, outputs) != TOROID_OK) {
        std::fprintf(stderr, "%s\n", toroid_last_error());
        return 1;
      }
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    times.push_back(took.count() / calls);
  }
  std::nth_element(times.begin(), times.begin() + blocks / 20, times.end());
  std::printf("%.0f\n", times[blocks / 20]);
  toroid_unload(model);
}
