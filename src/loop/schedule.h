// Schedule: which loops share a kernel, in which order kernels run, and where every tensor lies. A kernel is a nest of
// loops with stores, or one of the templates (matrix product, convolution, attention) with an epilogue.
//   kernel @k0 (in %x: f32[s0, 64], out %y: f32[s0, 64]) {
//     for i0 in s0 {
//       %max = max(j0 in 64 vector: %x[i0, j0])
//       for j0 in 64 vector { store %y[i0, j0], exp(%x[i0, j0] - %max) }
//     }
//   }
// Grammar of the whole text: docs/grammar-schedule.md. Expressions live in the pool of the Loops that the schedule was
// made from; loads name tensors, and `places` says where a tensor lies.
#pragma once
#include <map>
#include <string_view>
#include <variant>

#include "loop/loops.h"

namespace toroid {

using BufferId = Id<struct BufferTag>;

// One step of the recipe that makes a constant from the model's weights; see docs/design.md for the list. Fields that a
// step does not use are empty.
inline constexpr std::string_view recipe_ops[] = {"load", "cast",       "as_strided", "concat", "add",  "sub",  "mul",
                                                  "div",  "add_scalar", "mul_scalar", "rsqrt",  "pack", "bytes"};
struct RecipeStep {
  std::string op;  // one of recipe_ops
  int64_t weight = -1;
  DType dtype = DType::f32;
  std::vector<int64_t> sizes, strides;
  int64_t offset = 0, count = 0, dim = 0, k_group = 0;
  double value = 0;
};

enum class BufferKind : uint8_t {
  input,      // the caller's memory (or a contiguous copy of it)
  constant,   // in weights.bin, made by a recipe
  output,     // the host's memory for an output
  temporary,  // in the arena
};
struct Buffer {
  std::string name;
  BufferKind kind = BufferKind::temporary;
  DType dtype = DType::f32;
  Device device;
  Sym elements = 0;                     // how many, gaps included
  int32_t input = -1;                   // input: position
  int32_t output = -1;                  // output: position
  std::vector<RecipeStep> recipe;       // constant
  std::vector<std::byte> bytes;         // constant whose recipe is `bytes`
  std::vector<int64_t> constant_sizes;  // constant: shape before packing, for the report
  bool mutated = false;                 // constant that the model writes (a mutated buffer)
};

// Where a tensor lies: element [i…] at offset + sum(i * stride) elements of the buffer.
struct Place {
  BufferId buffer;
  Sym offset = 0;
  SymList strides;
};

struct StoreTo {
  TensorId tensor;
  std::vector<ExprId> index;  // of type i64
  ExprId value;
  std::optional<ReduceOp> into = {};  // combined with what is there; the tensor is one of LoopKernel::totals
};
struct Reduction {
  int32_t local;  // names the result: an Expr of kind local
  ReduceOp op;
  ExprId value;
  DType dtype;
};
// One loop over `vars` (outermost first; none: once), inside the kernel's outer loops.
struct Phase {
  SymList vars;
  std::vector<Reduction> reductions;
  std::vector<StoreTo> stores;  // to tensors with a place, or to rows of the kernel (LoopKernel::rows)
  bool running = false;         // a scan: stores see the reductions' values so far, in order of the one variable
};
// For each point of `outer`: the phases, one after another. With totals, which reduce over the outer points themselves,
// the points fall into `blocks` runs, each with copies of the totals of its own; whoever ends last combines the copies
// in order and then does `finish`, which may load the totals. So results depend on the sizes alone, not on threads.
struct LoopKernel {
  SymList outer;
  std::vector<Phase> phases;
  int64_t blocks = 0;
  std::vector<TensorId> totals;
  std::vector<Phase> finish;
  std::vector<TensorId> rows;  // tensors that live only for one outer point, in scratch of the kernel
  std::vector<DType> locals;   // register types of the reductions' results
  // The vectorised variable: the innermost of each phase (empty), or this outer one.
  std::string vector_outer;
  bool scalar = false;  // no vector form
  std::vector<const Phase*> all_phases() const {
    std::vector<const Phase*> all;
    for (const Phase& phase : phases) all.push_back(&phase);
    for (const Phase& phase : finish) all.push_back(&phase);
    return all;
  }
};

// C[batch, m, n] = sum over k of A[batch, m, k] B[batch, k, n]; index variables b0, m0, n0 in the epilogue.
struct MatmulKernel {
  struct Right {
    TensorId tensor;
    // Element offsets of B at (b0, k = 0, n0) as Syms over b0, n0.
    Sym batch_offset = 0, n_stride = 1, k_stride = 1, offset = 0;
    BufferId packed;  // valid: B is this packed constant
  };
  // Columns with one epilogue. Several B: so many products of the same n, accumulators %l0, %l1, … of one epilogue.
  struct Columns {
    Sym n = 1;
    std::vector<Right> right;
    size_t stores = 0;  // of the kernel's epilogue, which holds those of all columns in order
  };
  Sym batch = 1, m = 1, k = 1;
  TensorId a;
  DType dtype = DType::f32;  // storage type of all operands
  // Element offsets of A at (b0, m0, k = 0) as Syms over b0, m0.
  Sym a_batch_offset = 0, a_row_stride = 0, a_k_stride = 1, a_offset = 0;
  std::vector<Columns> columns;  // side by side; where there are more than one, or more than one B, all B are packed
};
// Convolution, activations with channels innermost; index variables n0, h0, w0, c0 in the epilogue.
struct ConvKernel {
  Sym batch = 1, in_h = 1, in_w = 1, out_h = 1, out_w = 1;
  int64_t in_channels = 1, out_channels = 1, groups = 1;
  int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};
  TensorId x;
  Sym x_batch_stride = 0, x_row_stride = 0, x_column_stride = 0, x_offset = 0;
  BufferId packed;
  bool depthwise = false;
  DType dtype = DType::f32;
};
// softmax(scale * q k^T, masked) v; index variables b0, h0, m0, d0 in the epilogue; b0, h0, m0, t0 in the score.
struct AttentionKernel {
  Sym batch = 1, heads = 1, queries = 1, keys = 1;
  int64_t group = 1;  // query heads per key head
  int64_t head_size = 64, value_size = 64;
  TensorId q, k, v;
  struct Strides {
    Sym offset = 0, batch = 0, head = 0, row = 0;
  } q_strides, k_strides, v_strides;
  double scale = 1;
  bool causal = false;
  bool zero_masked_rows = true;
  ExprId score;  // over local 0 (the scaled score); invalid when there is no mask
  DType dtype = DType::f32;
};
// A routine (routines.h) on whole tensors, all of them row by row in memory. It has integers[0] units.
struct RoutineKernel {
  int32_t routine = 0;
  DType dtype = DType::f32;  // what it is instantiated for: its first input's elements
  std::vector<TensorId> inputs;
  TensorId output;
  SymList integers;
  std::vector<double> numbers;
};

// A call (LoopCall): its programs are scheduled on their own, with kernels of their own. Every tensor lies as its place
// says; a program's inputs and outputs are row-major.
struct Schedule;
struct CallKernel {
  std::string function;
  std::vector<TensorId> operands, results;
  SymList attributes;
  std::vector<Schedule> bodies;
  BufferId scratch;  // what its programs work in; from the plan on, where they need anything
};

struct Kernel {
  std::string name;  // k0, k1, …
  std::variant<LoopKernel, MatmulKernel, ConvKernel, AttentionKernel, CallKernel, RoutineKernel> work;
  // Templates: what happens to the accumulator (local 0; several of a matrix product: locals 0, 1, …).
  std::vector<StoreTo> epilogue;
  std::vector<TensorId> reads, writes;
  Device device;
  Where where;
  Sym flops = 0;        // floating-point operations
  Sym bytes = 0;        // memory moved: every pass over every operand
  Sym nanoseconds = 0;  // estimate on one core of the target
  std::string note;     // what it is made of: "linear + gelu"
};

// A tensor goes to another device's memory as it is, element by element: both tensors have the same dtype and sizes.
struct Copy {
  TensorId from, to;
  int32_t before = 0;  // the kernel that comes next; the number of kernels: at the end
};

// Copies and launches in order; on one device only launches.
struct Schedule {
  Loops loops;
  std::vector<Buffer> buffers;
  std::vector<Place> places;  // per tensor of loops; an invalid buffer means the tensor is never stored
  std::vector<Kernel> kernels;
  std::vector<Copy> copies;               // by `before`
  std::vector<std::string> explanations;  // --explain=fuse: why each neighbour did not fuse

  Buffer& operator[](BufferId id) { return buffers[static_cast<size_t>(id.index)]; }
  const Buffer& operator[](BufferId id) const { return buffers[static_cast<size_t>(id.index)]; }
  Place& place(TensorId id) { return places[static_cast<size_t>(id.index)]; }
  const Place& place(TensorId id) const { return places[static_cast<size_t>(id.index)]; }
  BufferId add(Buffer buffer);
};

// The memory for a device's temporaries whose sizes are known at the same time: from the start, or once the symbols are
// read that follow a kernel.
struct Arena {
  Device device;
  Sym bytes = 0;
  int32_t after = -1;  // position of that kernel
};

// One entry of the plan's list. Each device works through a queue of its own, its stream; where the list goes on to
// another stream, that one first waits for the stream before it.
struct Operation {
  enum class Kind : uint8_t { launch, copy, wait, read } kind = Kind::launch;
  int32_t stream = 0;
  int32_t subject = 0;  // launch: the kernel; copy: of Schedule::copies; wait: the stream that must have come this far;
                        // read: of Loops::symbol_reads
};

// Every temporary at an offset of its arena, and what that costs.
struct Plan {
  Schedule schedule;
  std::map<int32_t, std::vector<Plan>> bodies;  // of the kernels that are calls; their schedules lie here
  std::vector<Sym> offsets;   // per buffer: bytes in its arena (temporaries) or in weights.bin (constants)
  std::vector<Arena> arenas;  // of the devices that have temporaries
  std::vector<Device> streams;
  std::vector<Operation> operations;
  int64_t weights_bytes = 0;
  int64_t mutated_bytes = 0;       // mutated constants stand first in weights.bin
  int64_t peak_bytes = 0;          // arenas at the hints
  int64_t lower_bound_bytes = 0;   // the most that is alive at once, at the hints
  int64_t intermediate_bytes = 0;  // written by kernels beyond the outputs, at the hints
  int64_t bytes_moved = 0;         // at the hints
};

// The element of its buffer that a load or store at these indices meets, when they are all index expressions; a store's
// always are.
std::optional<Sym> element_address(const ExprPool& pool, const Place& place, const std::vector<ExprId>& index);
Sym store_address(const Schedule& schedule, const StoreTo& store);

// Fills streams and operations from the schedule: a copy runs on the stream of the device that it goes to, or comes
// from when it goes to the CPU.
void list_operations(Plan& plan);

// The position of the kernel after which every symbol in `sym` has its value: -1 from the start.
int32_t known_after(const Schedule& schedule, const Sym& sym);

// Tensors that a kernel reads as they lie, as operands of a template, routine or call: not those that its expressions
// load, nor weights that it has packed.
std::vector<TensorId> operands_of(const Kernel& kernel);

// visit(value) for every expression that a kernel evaluates; of a Kernel that is not const it may replace them.
template <class AnyKernel, class F>
void each_expression(AnyKernel& kernel, F visit) {
  if (auto* nest = std::get_if<LoopKernel>(&kernel.work))
    for (auto* phases : {&nest->phases, &nest->finish})
      for (auto& phase : *phases) {
        for (auto& reduction : phase.reductions) visit(reduction.value);
        for (auto& store : phase.stores) visit(store.value);
      }
  if (auto* work = std::get_if<AttentionKernel>(&kernel.work); work && work->score) visit(work->score);
  for (auto& store : kernel.epilogue) visit(store.value);
}

std::string print_schedule(const Schedule& schedule);
std::string print_plan(const Plan& plan);
// Back again; weights' bytes come from elsewhere.
Result<Schedule> parse_schedule(std::string_view text);
Result<Plan> parse_plan(std::string_view text);
// The values of the size symbols that the export was made with (1 where none is known, within the range).
std::map<std::string, int64_t> hints(const Loops& loops);

}  // namespace toroid
