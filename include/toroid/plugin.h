/* Ops of your own for Toroid: a plug-in is a shared library that exports toroid_plugin(). Plain C11, nothing to link.
 *
 *   toroid compile model.pt2 --plugin libmyop.so         the compiler asks it for schemas and shapes
 *   toroid run model.toroid.pt2 --plugin libmyop.so      the package calls its kernels
 *
 * The model was exported with ops of the same names and schemas, registered by torch.library. A program loads a plug-in
 * by toroid_load_plugin() (runtime.h) or names it in the environment variable TOROID_PLUGINS (paths between colons),
 * which PyTorch's package loader heeds too. An example is examples/plugin. */
#ifndef TOROID_PLUGIN_H
#define TOROID_PLUGIN_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TOROID_PLUGIN_MAJOR 1
#define TOROID_PLUGIN_MINOR 0

/* A strided tensor; dtypes are those of runtime.h, strides count elements. */
typedef struct toroid_view {
  void* data;
  const int64_t* sizes;
  const int64_t* strides;
  int32_t rank;
  int32_t dtype;
  int32_t device_type;
  int32_t device_index;
} toroid_view;

/* Where a kernel leaves why it failed. Codes: 1 bad input, 2 out of memory, 3 an error in the values, 5 a fault. */
typedef struct toroid_call_error {
  int32_t code;
  char text[1020];
} toroid_call_error;

/* A piece of work on units [begin, end); `p` and `s` are yours. */
typedef void (*toroid_piece)(char* const* p, const int64_t* s, int64_t begin, int64_t end);

/* What a kernel may ask of its host. */
typedef struct toroid_host {
  uint64_t size; /* sizeof(toroid_host) as the host knows it */
  uint32_t major, minor;
  /* Runs `piece` over [0, units) in blocks of whole multiples of `grain`, on some threads, in any order, perhaps one
   * after another; returns when all are done. nanoseconds: your estimate for the whole. */
  void (*parallel)(void* host, toroid_piece piece, char* const* p, const int64_t* s, int64_t units, int64_t grain,
                   int64_t nanoseconds);
  int32_t (*threads)(void* host);
  /* Uninitialised, 64-byte aligned memory that lives until the end of the model's run; NULL when there is none. */
  void* (*alloc)(void* host, int64_t bytes);
} toroid_host;

/* One call of an op.
 *   inputs      the tensor arguments in the schema's order, each of a list; strided as they lie
 *   outputs     the results, row-major, not initialised; then, for each argument that the schema marks as written, its
 *               new value, all of which must be written (its old value is among the inputs)
 *   attributes  every other argument, in order: an integer, bool or dtype as one number; a float or Scalar as the bits
 *               of a double; a list as its length and then its elements; an optional one as 0, or as 1 and then its
 *               value. Lists of tensors and optional tensors leave their length, or 0 or 1, here too. */
typedef struct toroid_call {
  uint64_t size; /* sizeof(toroid_call) as the caller knows it */
  const toroid_view* inputs;
  const toroid_view* outputs;
  const int64_t* attributes;
  int32_t input_count, output_count, attribute_count;
  const toroid_host* table;
  void* host;
  toroid_call_error* error;
} toroid_call;

/* 0, or the code that it left in call->error. Called from many threads; keeps no pointer. */
typedef int32_t (*toroid_kernel)(const toroid_call* call);

/* A size while a model is compiled: a number or an expression over symbols, valid during the shape function. */
typedef int32_t toroid_size;

/* What a shape function sees and says. The first argument of each function is `context`. */
typedef struct toroid_shapes {
  size_t size; /* sizeof(toroid_shapes) as the compiler knows it */
  void* context;
  int32_t input_count, attribute_count; /* as the kernel will get them */
  int32_t (*dtype)(void* context, int32_t input);
  int32_t (*rank)(void* context, int32_t input);
  toroid_size (*dim)(void* context, int32_t input, int32_t dim);
  toroid_size (*attribute)(void* context, int32_t index); /* of an integer one */
  toroid_size (*number)(void* context, int64_t value);
  /* a + b, a - b, a * b, floor(a / b) as '/', its rest as '%', the smaller '<', the greater '>' */
  toroid_size (*combine)(void* context, char operation, toroid_size a, toroid_size b);
  /* 1 and its value where it is a number, 0 where it depends on a symbol */
  int32_t (*known)(void* context, toroid_size size, int64_t* value);
  /* The next result (written arguments are no results): its dtype and sizes. */
  void (*result)(void* context, int32_t dtype, int32_t rank, const toroid_size* sizes);
  /* Ends the compilation: why these arguments cannot be taken. */
  void (*refuse)(void* context, const char* text);
} toroid_shapes;

typedef struct toroid_plugin_op {
  const char* schema; /* "my::scale(Tensor x, float factor=1.0, Tensor(a!)? count=None) -> Tensor" */
  void (*shape)(const toroid_shapes* shapes); /* may be NULL where the op has no results but written arguments */
  toroid_kernel kernel;
} toroid_plugin_op;

typedef struct toroid_plugin_table {
  size_t size;           /* sizeof(toroid_plugin_table) */
  uint32_t major, minor; /* TOROID_PLUGIN_MAJOR, TOROID_PLUGIN_MINOR */
  const char* name;
  int32_t op_count;
  const toroid_plugin_op* ops;
} toroid_plugin_table;

/* What a plug-in exports; the table lives as long as the library. */
typedef const toroid_plugin_table* (*toroid_plugin_entry)(void);
#define TOROID_PLUGIN_ENTRY_NAME "toroid_plugin"

#ifdef __cplusplus
}
#endif
#endif
