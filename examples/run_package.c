/* Runs a compiled package from C11: run_package digits.toroid.pt2 */
#include <stdio.h>

#include "toroid/runtime.h"

/* A four, as the model was trained to see it: one value a pixel, 32 rows of 32. */
static void draw_four(float* image) {
  static const char* rows[] = {"00010", "00110", "01010", "10010", "11111", "00010", "00010"};
  for (int i = 0; i < 32 * 32; ++i) image[i] = 0.0f;
  for (int y = 0; y < 21; ++y) {
    for (int x = 0; x < 15; ++x) image[(y + 5) * 32 + x + 8] = rows[y / 3][x / 3] == '1' ? 1.0f : 0.0f;
  }
}

static int complain(void) {
  fprintf(stderr, "error: %s\n", toroid_last_error());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: run_package digits.toroid.pt2\n");
    return 1;
  }
  toroid_model* model = NULL;
  if (toroid_load(argv[1], NULL, &model)) return complain();

  toroid_slot slot = {.size = sizeof slot};
  if (toroid_input(model, 0, &slot)) return complain();
  printf("input %s: %s[%s]\n", slot.name, toroid_dtype_name(slot.dtype), slot.sizes);

  float image[32 * 32], scores[10];
  draw_four(image);
  const int64_t image_sizes[] = {1, 1, 32, 32}, score_sizes[] = {1, 10};
  toroid_tensor input = {.size = sizeof input, .data = image, .sizes = image_sizes, .rank = 4, .dtype = TOROID_F32};
  toroid_tensor output = {.size = sizeof output, .data = scores, .sizes = score_sizes, .rank = 2, .dtype = TOROID_F32};
  if (toroid_run(model, &input, 1, &output, 1)) return complain();
  toroid_unload(model);

  int best = 0;
  for (int digit = 1; digit < 10; ++digit) {
    if (scores[digit] > scores[best]) best = digit;
  }
  printf("it reads a %d\n", best);
  return 0;
}
