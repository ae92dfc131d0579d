// Recipes: how each constant of weights.bin follows from the weights of the user's model. One function runs them, at
// compile time and again when a weight is replaced. A recipe is data: a small stack program per constant.
//
//   constants[3] at 4096, 65536 bytes, f32[256, 64]:  load 2; load 5; mul; pack 1
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace toroid::runtime {

// Dtypes are numbers of model_abi.h (TD_F32, ...), written in JSON by name ("f32").
std::string_view recipe_dtype_name(int32_t dtype);      // "" for a number that is no dtype
int32_t recipe_dtype_from_name(std::string_view name);  // -1 for no dtype
int64_t recipe_dtype_bytes(int32_t dtype);              // 0 for no dtype

// A weight of the user's model. strides and offset (in elements) say how it lies in its storage in the archive; a
// program sees it by index alone, so a replacement may be strided otherwise.
struct RecipeWeight {
  std::string name;
  int32_t dtype = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset = 0;
  int32_t kind = 1;  // AOTInductor's ConstantType: 1 parameter, 2 buffer, 3 tensor constant
};

enum class RecipeOp : uint8_t {
  load,        // push weight
  cast,        // pop a; push a rounded to dtype
  as_strided,  // pop a, taken as contiguous; push the view of these sizes, strides, offset (elements)
  concat,      // pop `count` values, the first pushed comes first; join along dim
  add,
  sub,
  mul,
  div,  // pop b, pop a; push a op b, broadcast
  add_scalar,
  mul_scalar,  // pop a; push a op value
  rsqrt,       // pop a; push 1 / sqrt(a)
  pack,  // pop [N, K]; push panels [N/64][ceil(K/g)][64][g], the last panel N's rest rounded up to 16 wide; zeros fill;
         // of [G, N, K] one packed matrix after another
  bytes,  // the constant's bytes are written by the compiler and follow from no weight; the only step then
};

struct RecipeStep {
  RecipeOp op = RecipeOp::load;
  int32_t weight = 0;
  int32_t dtype = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset = 0;
  int32_t count = 0;
  int32_t dim = 0;
  double value = 0;
  int32_t k_group = 1;
};

// One constant in weights.bin: at `offset`, `bytes` long. sizes are those before pack.
struct RecipeConstant {
  int64_t offset = 0;
  int64_t bytes = 0;
  int32_t dtype = 0;
  std::vector<int64_t> sizes;
  std::vector<RecipeStep> steps;
};

struct Recipes {
  std::vector<RecipeWeight> weights;
  std::vector<RecipeConstant> constants;
};

// A weight's values: `data` is the first element, strides are in elements (not offset again by RecipeWeight::offset).
// data == nullptr: not given.
struct RecipeSource {
  const void* data = nullptr;
  std::span<const int64_t> strides;
};

// Bytes of a packed [n, k] matrix.
int64_t packed_bytes(int64_t n, int64_t k, int32_t k_group, int64_t element_bytes);

// Runs one constant's program; writes constant.bytes bytes to `out` (the constant's place, not the start of
// weights.bin). Arithmetic is in double, rounded once at the end (and at each cast). sources[i] belongs to
// recipes.weights[i]. Constants are independent: many may run at once. A `bytes` constant is left alone.
bool run_recipe(const Recipes& recipes, const RecipeConstant& constant, std::span<const RecipeSource> sources,
                void* out, std::string& error);

// A constant whose program has run but for its last movement, so that any range of its bytes can be written straight
// into place, by several threads at once. Needs the sources and the recipes for as long as it lives.
class PreparedConstant {
 public:
  PreparedConstant();
  ~PreparedConstant();
  PreparedConstant& operator=(PreparedConstant&&) noexcept;
  // As run_recipe, up to the last movement of data.
  bool prepare(const Recipes& recipes, const RecipeConstant& constant, std::span<const RecipeSource> sources,
               std::string& error);
  // Bytes [begin, end) of the constant; all bytes of `out` are written. Not for a `bytes` constant.
  void write(int64_t begin, int64_t end, char* out) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The other way: writes what `constant` (its bytes at `data`) tells of weight `weight` into `out`, contiguous, and sets
// seen[i] for each element it wrote. False when the program computes (folded weights have no way back).
bool invert_recipe(const Recipes& recipes, const RecipeConstant& constant, const void* data, int32_t weight, void* out,
                   std::span<uint8_t> seen);

// The weights that a constant's program loads, in order of first use.
std::vector<int32_t> loaded_weights(const RecipeConstant& constant);

// JSON and back; the reader refuses what the writer would not write (unknown ops, bad indices, stack underflow).
std::string recipes_to_json(const Recipes& recipes);
bool recipes_from_json(std::string_view text, Recipes& recipes, std::string& error);

}  // namespace toroid::runtime
