// Scalar expressions as C++ text over the prelude, for one value or for LANES values at once.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "loop/schedule.h"

namespace toroid::emit {

// What a kernel takes: buffers `p[k]` and symbols `s[k]`, numbered by first use, so that equal kernels have equal text.
class KernelParams {
 public:
  // `symbols` have the first numbers, whether they are used or not.
  explicit KernelParams(const Schedule& schedule, std::vector<std::string> symbols = {})
      : schedule_(schedule), symbols_(std::move(symbols)) {}
  // Which p[k] or s[k] it is.
  size_t buffer_slot(BufferId id);
  size_t symbol_slot(const std::string& name);
  // The names that declarations() gives them.
  std::string buffer(BufferId id) { return "buf" + std::to_string(buffer_slot(id)); }
  std::string symbol(const std::string& name) { return "dim" + std::to_string(symbol_slot(name)); }
  // An i64 that a kernel sets, from any thread and to nothing but 1: which one says what happened.
  enum class Failure { index, division };
  std::string error_cell(Failure failure);
  std::string scratch();  // a char* of the kernel's own memory
  // f32* const buf0 = (f32*)p[0]; …
  std::string declarations() const;

  struct Slot {
    BufferId buffer;  // invalid: the error cell or scratch
    bool is_scratch = false;
  };
  const std::vector<Slot>& slots() const { return slots_; }
  const std::vector<std::string>& symbols() const { return symbols_; }

 private:
  const Schedule& schedule_;
  std::vector<Slot> slots_;
  std::vector<std::string> symbols_;
};

std::string c_type(DType dtype);         // storage: f32, bf16, b8
std::string register_name(DType dtype);  // f32, i64, …, b8 for bool
std::string vector_type(DType dtype);    // vf32, vm

// Where the emitter's text stands: names of variables, which one is the vector, which lanes are valid.
struct EmitScope {
  std::map<std::string, std::string> variables;  // index variable -> C text
  std::string vector_variable;                   // its lanes are text, text + 1, …; empty: one value
  int64_t run = 0;                               // a vector begins at a multiple of this and is no longer; 0: anywhere
  std::string count;                             // valid lanes, or empty for all
  // Locals: C text and whether it is a vector.
  struct Local {
    std::string text;
    bool is_vector = false;
    DType dtype = DType::f32;
  };
  std::map<int32_t, Local> locals;
  std::map<TensorId, std::string> rows;     // scratch rows: pointer text
  std::map<TensorId, std::string> streams;  // stores past the cache: the condition's text
  std::map<ExprId, std::string> tiles;      // loads whose vector was turned round beforehand: pointer text
};

class ExprEmitter {
 public:
  ExprEmitter(const Loops& loops, const Schedule& schedule, KernelParams& params, EmitScope scope, int* counter)
      : loops_(loops),
        pool_(loops.pool),
        schedule_(schedule),
        params_(params),
        scope_(std::move(scope)),
        counter_(*counter) {}

  struct Value {
    std::string text;
    bool is_vector = false;
    DType dtype = DType::f32;
  };
  Value emit(ExprId id);
  Value as_vector(const Value& value);
  void store(const StoreTo& store);
  // Fetches ahead of time what `store` reads and writes, where its lanes lie in one line that other variables move.
  void fetch(const StoreTo& store);
  // C text of a size or address; symbols become parameters.
  std::string index_text(const Sym& sym);
  void line(std::string text) { out_ += indent_ + text + "\n"; }
  std::string take() { return std::move(out_); }
  std::string fresh(const char* prefix) { return prefix + std::to_string(counter_++); }

 private:
  Value emit_new(const Expr& expr);
  Value emit_op(const Expr& expr);
  std::optional<Value> emit_fused(const Expr& expr);
  Value emit_where(const Expr& expr);
  Value emit_sides(const Expr& expr);
  // C conditions that all lanes, or none, meet a comparison of indices; nothing where that is not so easy to tell.
  struct Uniform {
    std::string all, none;
    bool is_vector = false;
  };
  std::optional<Uniform> uniform(ExprId condition);
  Value emit_branches(const std::vector<std::pair<std::string, std::function<Value()>>>& branches, DType dtype);
  Value emit_load(const Expr& expr);
  Value emit_index(const Sym& sym);
  Value vector_index(const Sym& sym);
  Value check_index(const Expr& expr);
  Value check_divisor(const Expr& expr);
  // Of lanes that are bad, those that somebody reads.
  std::string reported(const std::string& bad) const;
  Value define(const std::string& text, bool is_vector, DType dtype);
  bool has_loads(ExprId id) const;
  std::string pointer(TensorId id);
  // ", n", ", mask" or nothing: the last argument of a load or store.
  std::string mask_argument() const;
  // How far apart an address is from lane to lane, when that is the same for all.
  std::optional<Sym> step(const Sym& address) const { return step_in_run(address, scope_.vector_variable, scope_.run); }

  const Loops& loops_;
  const ExprPool& pool_;
  const Schedule& schedule_;
  KernelParams& params_;
  EmitScope scope_;
  int& counter_;
  std::string mask_;  // a vm, when only some lanes may touch memory
  int branched_ = 0;  // how often the text has been written in alternatives
  std::map<ExprId, Value> done_;
  std::string out_, indent_ = "    ";
};

}  // namespace toroid::emit
