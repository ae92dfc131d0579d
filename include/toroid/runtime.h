/* libtoroid_rt: loads a package that Toroid compiled and runs it. Plain C11; needs neither PyTorch nor a compiler.
 *
 *   toroid_model* model;
 *   if (toroid_load("bert.toroid.pt2", NULL, &model)) puts(toroid_last_error());
 *   toroid_run(model, inputs, 2, outputs, 1);
 *   toroid_unload(model);
 *
 * Every function that can fail returns a status, 0 for success; toroid_last_error() then has the text, one line, for
 * the calling thread. Structs begin with their size: set it to sizeof, so that old programs go on working with newer
 * libraries. A model may be run from many threads at once. */
#ifndef TOROID_RUNTIME_H
#define TOROID_RUNTIME_H
#include <stddef.h>
#include <stdint.h>

#define TOROID_API __attribute__((visibility("default")))
#ifdef __cplusplus
extern "C" {
#endif

enum toroid_status {
  TOROID_OK = 0,
  TOROID_BAD_INPUT = 1, /* a tensor does not fit the model */
  TOROID_OUT_OF_MEMORY = 2,
  TOROID_KERNEL_ERROR = 3, /* an index out of range, an integer division by zero */
  TOROID_ASSERTION = 4,    /* an assertion of the user's own model failed */
  TOROID_INTERNAL = 5,     /* a fault of Toroid's */
  TOROID_BAD_FILE = 6,     /* not a package, or a damaged one */
  TOROID_UNSUPPORTED = 7,  /* this machine or library cannot run the package */
  TOROID_IO = 8,           /* a file cannot be opened, mapped or read */
  TOROID_BAD_OPTION = 9    /* a null pointer, an unknown flag, a model name that the package does not have */
};

/* Element types, numbered as PyTorch's c10::ScalarType. */
enum toroid_dtype {
  TOROID_U8 = 0,
  TOROID_I8 = 1,
  TOROID_I16 = 2,
  TOROID_I32 = 3,
  TOROID_I64 = 4,
  TOROID_F16 = 5,
  TOROID_F32 = 6,
  TOROID_F64 = 7,
  TOROID_C64 = 9,
  TOROID_C128 = 10,
  TOROID_BOOL = 11,
  TOROID_BF16 = 15,
  TOROID_F8E5M2 = 23,
  TOROID_F8E4M3 = 24
};

/* A strided tensor in memory. `data` is its first element; strides are in elements, NULL means contiguous. The runtime
 * keeps no pointer after a call returns. `owner` is the runtime's own mark: set it to NULL. device_type: 0 is the CPU.
 */
typedef struct toroid_tensor {
  size_t size; /* sizeof(toroid_tensor), in every element of an array */
  void* data;
  const int64_t* sizes;
  const int64_t* strides;
  int32_t rank;
  int32_t dtype;
  int32_t device_type;
  int32_t device_index;
  void* owner;
} toroid_tensor;

/* One input or output as the model declares it. `sizes` is text such as "s0, 64". The strings live with the model. */
typedef struct toroid_slot {
  size_t size;
  const char* name;
  const char* sizes;
  int32_t dtype;
  int32_t rank;
  int32_t device_type;
  int32_t alias_of_input; /* outputs: the input whose memory this output is, or -1 */
} toroid_slot;

enum toroid_load_flags {
  TOROID_LOAD_BORROW =
      1, /* toroid_load_memory: the bytes stay valid and unchanged until toroid_unload; no copy of weights */
  TOROID_LOAD_VERIFY = 2,   /* hash the weights too (code is always hashed) */
  TOROID_LOAD_NO_MEMFD = 4, /* open the code from an unlinked temporary file, as where a memfd cannot execute */
  TOROID_LOAD_DESCRIBE = 8  /* read the manifest only: for packages of any CPU; no code is loaded, nothing can be run */
};

typedef struct toroid_load_options {
  size_t size;
  const char* model; /* which model, where a package holds several; NULL: the only one */
  int32_t threads;   /* the most threads a run may use; 0: as the package says, or else all of the pool */
  uint32_t flags;    /* toroid_load_flags */
  const char*
      temporary_folder; /* where TOROID_LOAD_NO_MEMFD and the fallback may write; NULL: /dev/shm, /tmp, /var/tmp */
} toroid_load_options;

/* Called on the running thread before (after = 0) and after (after = 1) each kernel, numbered as in the report. */
typedef void (*toroid_mark)(void* user, int32_t kernel, int32_t after);

/* Called on the running thread for each output: gives memory for these sizes and strides (rank numbers each, in
 * elements, valid during the call), not NULL even where there are no elements; NULL ends the run as out of memory. */
typedef void* (*toroid_place)(void* user, int32_t output, const int64_t* sizes, const int64_t* strides);

typedef struct toroid_run_options {
  size_t size;
  int32_t threads; /* the most threads for this run; 0: the model's */
  int32_t has_seed;
  uint64_t seed; /* for random ops, when has_seed is 1; else each run draws a fresh one */
  toroid_mark mark;
  void* mark_user;
  toroid_place place; /* toroid_run_with: makes the outputs; the array of outputs is then empty */
  void* place_user;
} toroid_run_options;

typedef struct toroid_model toroid_model;

/* The version of this interface: major * 65536 + minor. */
TOROID_API uint32_t toroid_abi_version(void);
/* The library's version, such as "0.1.0". */
TOROID_API const char* toroid_version(void);
/* Why the last call of this thread failed, one line; "" after a success. Valid until the thread's next call. */
TOROID_API const char* toroid_last_error(void);
/* "ok", "bad_input", ...; the kind in `error: <kind>: <text>`. */
TOROID_API const char* toroid_status_name(int status);
/* "f32", and 4; NULL and 0 for a number that is no dtype. */
TOROID_API const char* toroid_dtype_name(int32_t dtype);
TOROID_API int64_t toroid_dtype_bytes(int32_t dtype);

/* Loads a plug-in (plugin.h) for the packages that call its ops: a path, or a name to look for as the linker does. It
 * stays until the process ends. */
TOROID_API int toroid_load_plugin(const char* path);
/* Loads one model of a package. options may be NULL. */
TOROID_API int toroid_load(const char* path, const toroid_load_options* options, toroid_model** model);
/* The same from bytes in memory, which may be freed after the call unless TOROID_LOAD_BORROW is set. */
TOROID_API int toroid_load_memory(const void* data, size_t bytes, const toroid_load_options* options,
                                  toroid_model** model);
/* Releases everything; no run may be under way. NULL is allowed. */
TOROID_API void toroid_unload(toroid_model* model);

TOROID_API int32_t toroid_input_count(const toroid_model* model);
TOROID_API int32_t toroid_output_count(const toroid_model* model);
/* Describes input or output `index`; slot->size must be set. */
TOROID_API int toroid_input(const toroid_model* model, int32_t index, toroid_slot* slot);
TOROID_API int toroid_output(const toroid_model* model, int32_t index, toroid_slot* slot);

/* Checks the inputs and writes what the outputs will be: for each output its sizes, then its strides (rank numbers
 * each); -1 is a size that only the run finds out. `count` is how many numbers fit into shapes: the sum of 2 * rank. */
TOROID_API int toroid_output_shapes(toroid_model* model, const toroid_tensor* inputs, size_t input_count,
                                    int64_t* shapes, size_t count);

/* Runs the model on the caller's buffers, both sides strided as the caller likes; outputs must have the sizes and
 * dtypes that the model gives, and must not overlap inputs. A steady sequence of runs allocates nothing. */
TOROID_API int toroid_run(toroid_model* model, const toroid_tensor* inputs, size_t input_count,
                          const toroid_tensor* outputs, size_t output_count);
TOROID_API int toroid_run_with(toroid_model* model, const toroid_tensor* inputs, size_t input_count,
                               const toroid_tensor* outputs, size_t output_count, const toroid_run_options* options);
/* The same, but the runtime makes each output: it fills outputs[i] (whose `size` must be set), sizes and strides too.
 * Give them back with toroid_free_outputs; they outlive the model. options may be NULL. */
TOROID_API int toroid_run_alloc(toroid_model* model, const toroid_tensor* inputs, size_t input_count,
                                toroid_tensor* outputs, size_t output_count, const toroid_run_options* options);
TOROID_API void toroid_free_outputs(toroid_tensor* outputs, size_t output_count);

/* The most threads of later runs: 0 is the whole pool. toroid_threads: what a run uses now. toroid_pool_threads: the
 * pool's size, from the affinity mask and the cgroup's quota. */
TOROID_API int toroid_set_threads(toroid_model* model, int32_t threads);
TOROID_API int32_t toroid_threads(const toroid_model* model);
TOROID_API int32_t toroid_pool_threads(void);

/* Replaces weights, named as in the state dict: what kernels read is made again from them. Weights that were folded
 * together must be given together; otherwise nothing is changed and the text names them. No run may be under way. */
TOROID_API int toroid_set_weights(toroid_model* model, const char* const* names, const toroid_tensor* tensors,
                                  size_t count);

/* Hashes code and weights of the loaded package against its manifest, its other members against the zip's checksums. */
TOROID_API int toroid_verify(toroid_model* model);

/* JSON texts that live with the model: the manifest; the report (kernels with FLOPs and bytes, memory plan). */
TOROID_API const char* toroid_manifest(const toroid_model* model);
TOROID_API const char* toroid_report(const toroid_model* model);
/* A value of the package's metadata ("AOTI_DEVICE_KEY", ...), or NULL. */
TOROID_API const char* toroid_metadata(const toroid_model* model, const char* key);
/* The model's name, and the target its code was compiled for. */
TOROID_API const char* toroid_model_name(const toroid_model* model);
TOROID_API const char* toroid_model_target(const toroid_model* model);

#ifdef __cplusplus
}
#endif
#endif
