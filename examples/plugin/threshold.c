/* A plug-in with two ops: one with a result of another size, and one that writes to its argument.
 *   cc -shared -fPIC -O2 threshold.c -o libthreshold.so          (with Toroid's include folder by -I)
 * example.py registers the same ops with PyTorch and exports a model that calls them. */
#include <math.h>
#include <string.h>
#include <toroid/plugin.h>
#include <toroid/runtime.h>

/* Element `at` (in row-major order) of a strided tensor of float32. */
static float element(const toroid_view* x, int64_t at) {
  int64_t offset = 0;
  for (int32_t d = x->rank - 1; d >= 0; --d) {
    offset += at % x->sizes[d] * x->strides[d];
    at /= x->sizes[d];
  }
  return ((const float*)x->data)[offset];
}

static int64_t count(const toroid_view* x) {
  int64_t n = 1;
  for (int32_t d = 0; d < x->rank; ++d) n *= x->sizes[d];
  return n;
}

static double number(int64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* soft_pairs: of x [n, m] the maximum of each two rows, shrunk towards 0 by `limit`: [n / 2, m] */
static void soft_pairs_shape(const toroid_shapes* s) {
  if (s->rank(s->context, 0) != 2) {
    s->refuse(s->context, "x must have two dims");
    return;
  }
  if (s->dtype(s->context, 0) != TOROID_F32) {
    s->refuse(s->context, "x must be float32");
    return;
  }
  const toroid_size sizes[] = {s->combine(s->context, '/', s->dim(s->context, 0, 0), s->number(s->context, 2)),
                               s->dim(s->context, 0, 1)};
  s->result(s->context, TOROID_F32, 2, sizes);
}

static int32_t soft_pairs(const toroid_call* call) {
  const toroid_view *x = &call->inputs[0], *y = &call->outputs[0];
  const float limit = (float)number(call->attributes[0]);
  const int64_t columns = y->sizes[1], n = count(y);
  if (limit < 0) {
    call->error->code = TOROID_BAD_INPUT;
    strcpy(call->error->text, "soft_pairs: the limit is negative");
    return call->error->code;
  }
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = i / columns, column = i % columns;
    const float a = element(x, 2 * row * columns + column), b = element(x, (2 * row + 1) * columns + column);
    const float most = a > b ? a : b, size = fabsf(most) - limit;
    ((float*)y->data)[i] = size > 0 ? copysignf(size, most) : 0;
  }
  return 0;
}

/* accumulate_: adds x to total; its new value is the output. */
static int32_t accumulate(const toroid_call* call) {
  const toroid_view *total = &call->inputs[0], *x = &call->inputs[1], *next = &call->outputs[0];
  for (int64_t i = 0, n = count(next); i < n; ++i) ((float*)next->data)[i] = element(total, i) + element(x, i);
  return 0;
}

const toroid_plugin_table* toroid_plugin(void) {
  static const toroid_plugin_op ops[] = {
      {"threshold::soft_pairs(Tensor x, float limit=0.5) -> Tensor", soft_pairs_shape, soft_pairs},
      {"threshold::accumulate_(Tensor(a!) total, Tensor x) -> ()", NULL, accumulate},
  };
  static const toroid_plugin_table table = {
      sizeof(toroid_plugin_table), TOROID_PLUGIN_MAJOR, TOROID_PLUGIN_MINOR, "threshold", 2, ops};
  return &table;
}
