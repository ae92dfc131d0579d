// The contract between a generated model and its host, in plain C. Three parties include this file's layout:
//   - runtime/ (libtoroid_rt), which loads a model and fills the host table;
//   - runtime/model/ (the boilerplate linked into every model: AOTInductor's C ABI over this contract);
//   - the generated wrapper, whose prelude repeats these structs word for word, since it includes nothing
//     (a test compares the two).
// Structs only grow at the end. TD_ABI_MAJOR changes when old code could misread; a host refuses a newer major, and
// takes a newer minor.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define TD_ABI_MAJOR 1
#define TD_ABI_MINOR 1

#ifdef __cplusplus
extern "C" {
#endif

// dtypes by PyTorch's c10 numbering (also that of aoti_torch_dtype_*).
enum {
  TD_U8 = 0,
  TD_I8 = 1,
  TD_I16 = 2,
  TD_I32 = 3,
  TD_I64 = 4,
  TD_F16 = 5,
  TD_F32 = 6,
  TD_F64 = 7,
  TD_C32 = 8,
  TD_C64 = 9,
  TD_C128 = 10,
  TD_BOOL = 11,
  TD_BF16 = 15,
  TD_F8E5M2 = 23,
  TD_F8E4M3 = 24
};

// A strided tensor in memory that somebody else owns. `data` is the first element (storage offset included);
// strides are in elements. device_type: 0 CPU, 1 CUDA.
typedef struct TdView {
  void* data;
  const int64_t* sizes;
  const int64_t* strides;
  int32_t rank;
  int32_t dtype;
  int32_t device_type;
  int32_t device_index;
} TdView;

// Where a model leaves the text of a failure. Codes: 0 fine, 1 bad input, 2 out of memory, 3 kernel error (an index out
// of range, an integer division by zero), 4 assertion of the user's model, 5 internal.
typedef struct TdError {
  int32_t code;
  char text[1020];
} TdError;

// A kernel: works on units [begin, end) of its own index space; any split gives the same bits.
// `p` are its buffers, `s` its symbolic sizes. Returns nothing; data-dependent errors go through p (an error cell).
typedef void (*TdKernel)(char* const* p, const int64_t* s, int64_t begin, int64_t end);

// What a model may ask of its host while it runs. `host` is the host's own pointer for this run.
typedef struct TdHost {
  uint64_t size;  // sizeof(TdHost) as the host knows it
  uint32_t major, minor;
  // Runs `kernel` over [0, units) in blocks of whole multiples of `grain` units, on the caller and perhaps on others,
  // in any order, perhaps one after another; returns when all are done. units <= grain means: on the caller.
  // nanoseconds: the compiler's estimate for the whole; the host decides on threads by it.
  void (*parallel)(void* host, TdKernel kernel, char* const* p, const int64_t* s, int64_t units, int64_t grain,
                   int64_t nanoseconds);
  int32_t (*threads)(void* host);
  // Uninitialised, 64-byte aligned memory that lives until the end of the run; NULL when there is none.
  void* (*alloc)(void* host, int64_t bytes);
  // Memory for output `index`, with these sizes and strides (in elements); NULL when refused, the reason in `error`.
  void* (*output)(void* host, int32_t index, const int64_t* sizes, const int64_t* strides, TdError* error);
  uint64_t (*rng_seed)(void* host);
  // Called before (after = 0) and after (after = 1) each kernel when not NULL: `toroid bench` times kernels by it.
  void (*mark)(void* host, int32_t kernel, int32_t after);
} TdHost;

// A call of a function that is no kernel: one of the library, or a plug-in's. Inputs are strided, outputs row-major
// memory of the right size; what the function needs beside them comes from table->alloc.
typedef struct TdCall {
  uint64_t size;  // sizeof(TdCall) as the caller knows it
  const TdView* inputs;
  const TdView* outputs;
  const int64_t* attributes;  // whole numbers; doubles as their bits
  int32_t input_count, output_count, attribute_count;
  const TdHost* table;
  void* host;
  TdError* error;
} TdCall;

// 0, or the code that it left in call->error.
typedef int32_t (*TdFunction)(const TdCall* call);

// One input or output of the model's signature. `sizes` is text such as "s0, 64", for messages and `toroid info`.
typedef struct TdSlot {
  const char* name;
  const char* sizes;
  int32_t dtype;
  int32_t rank;
  int32_t device_type;
  int32_t alias_of_input;  // outputs: the input whose memory this output is, or -1
} TdSlot;

// One weight of the user's model, as state dicts know it; what the kernels read is made from these by recipes
// (manifest.json), so the offset of a derived constant stands there.
typedef struct TdWeight {
  const char* name;           // fully qualified, "encoder.fc.weight"
  const char* internal_name;  // a C identifier, "encoder_fc_weight"
  int32_t dtype;
  int32_t kind;  // AOTInductor's ConstantType: 1 parameter, 2 buffer, 3 tensor constant
  int64_t bytes;
} TdWeight;

// What a generated model is: the one symbol `toroid_model` of its wrapper.
typedef struct TdModel {
  uint64_t size;  // sizeof(TdModel) as the compiler knew it
  uint32_t major, minor;
  const char* name;
  const char* target;           // "x86-64-v4+vnni+bf16"
  const char* const* features;  // CPUID names that the code needs, NULL-terminated
  const char* in_spec;          // pytree strings of the original call
  const char* out_spec;
  int32_t input_count, output_count, weight_count, symbol_count;
  const TdSlot* inputs;
  const TdSlot* outputs;
  const TdWeight* weights;
  int64_t weights_bytes;  // size of weights.bin
  const char* recipes;    // JSON text: how weights.bin follows from the weights (the manifest holds it too)
  int32_t default_threads;
  // Checks every input and solves the symbols. `symbols` has symbol_count elements. For each output writes rank sizes
  // and then rank strides into `shapes`, outputs in order (a size that only the run finds out: -1); shapes may be NULL.
  int32_t (*check)(const TdView* inputs, int64_t* symbols, int64_t* shapes, TdError* error);
  // Runs the model: check() first, then every kernel. `weights` is weights.bin in memory (read-only but for mutated
  // buffers, which have a writable copy at the same offsets).
  int32_t (*run)(const TdHost* table, void* host, char* weights, const TdView* inputs, TdError* error);
  // JSON text for `toroid info` and `toroid bench`: kernels with their FLOPs and bytes as expressions, memory plan.
  const char* report;
  int64_t mutated_bytes;  // bytes at the start of weights.bin that the model writes (mutated buffers), or 0
  // Ops of plug-ins that the model calls, NULL-terminated ("my::op"), and where the host puts their kernels when it
  // loads the model.
  const char* const* plugin_ops;
  TdFunction* plugin_functions;
} TdModel;

// Every model's shared object exports this beside AOTInductor's functions.
typedef const TdModel* (*TdModelEntry)(void);
#define TD_MODEL_ENTRY_NAME "toroid_model_entry"

#ifdef __cplusplus
}
#endif
