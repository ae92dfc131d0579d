// GraphBuilder: puts a program together call by call, for toroid::compile. What torch.export would write is said here
// directly: inputs, size symbols with ranges, weights, calls of ATen ops by name, outputs.
//
//   toroid::GraphBuilder g("mlp");
//   g.symbol("s0", 1, 4096);
//   auto x = g.input("x", "f32", {"s0", 64});
//   auto w = g.weight("fc.weight", "f32", {10, 64}, {.data = bytes, .bytes = 10 * 64 * 4});
//   auto y = g.call("aten.linear.default", {*x, *w});
//   g.output(y->front());
//   auto package = toroid::compile(g);
//
// Calls may write to tensors and make views, as PyTorch programs do: `aten.add_.Tensor` on a weight makes it a weight
// that the compiled model updates. Result types are computed by Toroid's rules; every call says at once what is wrong
// with it. One builder is used by one thread at a time.
#pragma once
#include <complex>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "toroid/error.h"

namespace toroid {

class TOROID_CXX_API GraphBuilder {
 public:
  // A tensor of the program, of the builder that gave it.
  struct Tensor {
    int32_t index = -1;
    bool valid() const { return index >= 0; }
  };
  // A size: a number, or an expression over declared symbols (`s0`, `2*s0 + 1`, `(s0 + 7)//8`).
  struct Size {
    Size(int64_t number) : number(number) {}
    Size(int number) : number(number) {}
    Size(const char* expression) : expression(expression) {}
    Size(std::string expression) : expression(std::move(expression)) {}
    int64_t number = 0;
    std::string expression;  // empty: `number`
  };
  using Sizes = std::vector<Size>;
  // Element types are named as in Toroid's texts: f32 f64 f16 bf16 i64 i32 i16 i8 u8 u16 u32 u64 bool f8e4m3 f8e5m2 c32
  // c64 c128.
  struct Dtype {
    std::string name;
  };
  struct Format {
    std::string name;  // contiguous, channels_last, channels_last_3d, preserve
  };
  struct Place {
    std::string device;  // cpu, cuda:1
  };
  // A program that an op of control flow runs, of the builder that took it.
  struct Program {
    int32_t index = -1;
  };
  // An argument of a call. Integers, floats and so on convert by themselves; a symbolic one is a Size.
  using Value = std::variant<std::monostate, Tensor, std::vector<Tensor>, int64_t, double, bool, std::complex<double>,
                             std::string, Size, std::vector<int64_t>, std::vector<double>, std::vector<bool>,
                             std::vector<std::string>, Sizes, Dtype, Format, Place, Program>;
  struct Argument {
    Argument() = default;  // None
    Argument(Tensor v) : value(v) {}
    Argument(std::vector<Tensor> v) : value(std::move(v)) {}
    Argument(int v) : value(int64_t{v}) {}
    Argument(int64_t v) : value(v) {}
    Argument(double v) : value(v) {}
    Argument(bool v) : value(v) {}
    Argument(std::complex<double> v) : value(v) {}
    Argument(const char* v) : value(std::string(v)) {}
    Argument(std::string v) : value(std::move(v)) {}
    Argument(Size v) : value(std::move(v)) {}
    Argument(std::vector<int64_t> v) : value(std::move(v)) {}
    Argument(std::vector<double> v) : value(std::move(v)) {}
    Argument(std::vector<bool> v) : value(std::move(v)) {}
    Argument(std::vector<std::string> v) : value(std::move(v)) {}
    Argument(Sizes v) : value(std::move(v)) {}
    Argument(Dtype v) : value(std::move(v)) {}
    Argument(Format v) : value(std::move(v)) {}
    Argument(Place v) : value(std::move(v)) {}
    Argument(Program v) : value(v) {}
    Value value;
  };
  using Arguments = std::vector<Argument>;
  using Keywords = std::vector<std::pair<std::string, Argument>>;
  // Where in the user's program a call comes from; error messages name it.
  struct Source {
    Source() {}
    Source(std::string module, std::string file, int line)
        : module(std::move(module)), file(std::move(file)), line(line) {}
    std::string module;  // encoder.layer.0.fc
    std::string file;    // model.py
    int line = 0;
  };
  // What a front end expects of a result; compared with the computed type, and used where an op has no rule.
  struct Claim {
    std::string dtype;  // empty: the result is None, as a gradient that was not asked for
    Sizes sizes;
    std::optional<Sizes> strides;  // elements; row-major when left out
    std::optional<Size> offset;    // elements, from the start of the storage: a view's that depends on data
  };
  // Bytes that stay as they are while the builder, and what was built from it, are used: either `owner` keeps them, or
  // the caller promises it.
  struct Bytes {
    const void* data = nullptr;
    int64_t bytes = 0;
    std::shared_ptr<const void> owner;
  };
  enum class WeightKind : uint8_t { parameter, buffer, constant };
  struct WeightOptions {
    WeightKind kind = WeightKind::parameter;
    bool persistent = true;        // a buffer that a state dict holds
    std::optional<Sizes> strides;  // elements; row-major when left out
    int64_t offset = 0;            // elements, from the start of the storage
  };

  explicit GraphBuilder(std::string name = "model");
  ~GraphBuilder();
  GraphBuilder(GraphBuilder&&) noexcept;
  GraphBuilder& operator=(GraphBuilder&&) noexcept;

  // A size symbol with its inclusive range; `hint` is a typical value. Declared before its first use. from_data: no
  // input's size says it, but a tensor's values: the call that has it in its result (nonzero) defines it.
  Outcome symbol(const std::string& name, int64_t low = 0, int64_t high = INT64_MAX, std::optional<int64_t> hint = {},
                 bool from_data = false);
  // Inputs in call order. A tensor, which begins `offset` elements into its storage; an int that is a size; a Python
  // constant that the program was specialised for.
  Expected<Tensor> input(const std::string& name, const std::string& dtype, const Sizes& sizes,
                         const std::optional<Sizes>& strides = {}, const std::string& device = "cpu",
                         int64_t offset = 0);
  Outcome size_input(const std::string& name, const Size& size);
  Outcome constant_input(const std::string& name, const Argument& value);

  // Bytes that several weights may be views of; `copy` takes a copy of its own.
  Expected<int32_t> storage(const Bytes& bytes, bool copy = false);
  Expected<Tensor> weight(const std::string& name, const std::string& dtype, const Sizes& sizes, int32_t storage,
                          const WeightOptions& options);
  Expected<Tensor> weight(const std::string& name, const std::string& dtype, const Sizes& sizes, const Bytes& bytes);

  // A call of an op by its full name (aten.add.Tensor); arguments by position and by the schema's names. Gives the
  // results, those of a Tensor[] one after another.
  Expected<std::vector<Tensor>> call(const std::string& op, const Arguments& positional, const Keywords& keywords = {},
                                     const Source& source = {}, const std::vector<Claim>& claims = {});
  // The calls from now on stand in a region of torch.autocast for CPUs with this dtype (bf16, f16), which casts the
  // arguments of the ops on its lists; empty: in none.
  Outcome autocast(const std::string& dtype);
  // Takes the program of another builder for calls of control flow: higher_order.cond(pred, yes, no, operands),
  // while_loop(condition, body, carried, others), scan(body, carried, along, others), map_impl(body, along, others).
  // Its inputs are the operands; it has no weights and writes to nothing. Its symbols are known here, too.
  Expected<Program> program(const GraphBuilder& inner);
  // Overwrites `target` (and what it views) with the contents of `value`.
  Outcome assign(Tensor target, Tensor value);
  // Declares a symbol whose value is the only element of a tensor of integers or bools, read while the model runs.
  Outcome read_scalar(const std::string& name, Tensor tensor, int64_t low = INT64_MIN, int64_t high = INT64_MAX,
                      const Source& source = {});
  // A condition on sizes that must hold at run time (`s0 % 8 == 0`); `text` is said when it does not.
  Outcome check(const std::string& condition, const std::string& text = "");

  // Outputs in order. A tensor's contents are those at the end of the program.
  Outcome output(Tensor tensor, const std::string& name = "");
  Outcome size_output(const Size& size, const std::string& name = "");
  Outcome constant_output(const Argument& value, const std::string& name = "");

  // Why calls so far, from the `from`th refused one on, cannot be compiled; empty text: the op has no lowering. A
  // refused call gives results, so that a program can be put together to its end; compiling it names all of them.
  std::vector<std::string> refusals(size_t from = 0) const;

  // The nesting of the original call's arguments and results, as torch.utils._pytree.treespec_dumps writes it; kept in
  // the package.
  Outcome call_spec(const std::string& in_spec, const std::string& out_spec);

  // `f32[s0, 64]`
  Expected<std::string> type_text(Tensor tensor) const;
  // The whole graph as text, as `toroid compile --to=graph` prints it.
  Expected<std::string> text() const;

  struct State;
  State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

}  // namespace toroid
