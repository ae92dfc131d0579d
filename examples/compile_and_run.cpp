// Compiles an exported program and runs it, all in one C++ program: compile_and_run digits.pt2
#include <algorithm>
#include <cstdio>
#include <vector>

#include "toroid/compiler.h"
#include "toroid/runtime.h"

// A four, as the model was trained to see it: one value a pixel, 32 rows of 32.
static std::vector<float> draw_four() {
  const char* rows[] = {"00010", "00110", "01010", "10010", "11111", "00010", "00010"};
  std::vector<float> image(32 * 32, 0.0f);
  for (int y = 0; y < 21; ++y) {
    for (int x = 0; x < 15; ++x) image[(y + 5) * 32 + x + 8] = rows[y / 3][x / 3] == '1' ? 1.0f : 0.0f;
  }
  return image;
}

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: compile_and_run digits.pt2\n"), 1;

  toroid::CompileOptions options;
  options.jobs = 2;
  auto package = toroid::compile(argv[1], options);
  if (!package) return std::fprintf(stderr, "%s\n", package.error().to_string().c_str()), 1;
  std::printf("compiled: %s\n", package->summary().c_str());

  // The runtime borrows the package's bytes: nothing is copied, nothing is written to disk.
  toroid_load_options load = {};
  load.size = sizeof load;
  load.flags = TOROID_LOAD_BORROW;
  toroid_model* model = nullptr;
  if (toroid_load_memory(package->data(), package->size(), &load, &model)) {
    return std::fprintf(stderr, "%s\n", toroid_last_error()), 1;
  }

  std::vector<float> image = draw_four(), scores(10);
  const int64_t image_sizes[] = {1, 1, 32, 32}, score_sizes[] = {1, 10};
  toroid_tensor input = {}, output = {};
  input.size = output.size = sizeof(toroid_tensor);
  input.dtype = output.dtype = TOROID_F32;
  input.data = image.data(), input.sizes = image_sizes, input.rank = 4;
  output.data = scores.data(), output.sizes = score_sizes, output.rank = 2;
  if (toroid_run(model, &input, 1, &output, 1)) return std::fprintf(stderr, "%s\n", toroid_last_error()), 1;
  toroid_unload(model);

  std::printf("it reads a %d\n", static_cast<int>(std::max_element(scores.begin(), scores.end()) - scores.begin()));
}
