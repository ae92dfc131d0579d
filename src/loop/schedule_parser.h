// Reads the text forms of Schedule and Plan: what parse_schedule.cpp and parse_templates.cpp share.
#pragma once
#include "base/check.h"
#include "loop/head_text.h"
#include "loop/schedule.h"

namespace toroid {

class ScheduleParser {
 public:
  explicit ScheduleParser(LoopsHead head)
      : lexer_(std::move(head.lexer)), symbols_(std::move(head.symbols)), tensors_(std::move(head.tensors)) {
    schedule_.loops = std::move(head.loops);
    schedule_.places.resize(schedule_.loops.tensors.size());
  }
  Result<Schedule> schedule();
  Result<Plan> plan();
  const Lexer& lexer() const { return lexer_; }

 private:
  using Scope = std::map<std::string, Sym>;

  // ---- words, numbers, sizes ----------------------------------------------------------------------------------------

  Diagnostic error(std::string text) const { return lexer_.error(std::move(text)); }

  Result<Sym> parse_size(const Scope& scope) {
    return parse_sym(lexer_, [&](const std::string& name) -> Result<Sym> {
      auto it = scope.find(name);
      if (it == scope.end()) return fail(error(format("unknown symbol `{}`", name)));
      return it->second;
    });
  }
  Result<Sym> parse_size() { return parse_size(symbols_); }
  Result<SymList> parse_sizes() {
    TD_CHECK_OK(lexer_.expect("["));
    SymList list;
    while (!lexer_.accept("]")) {
      if (!list.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(Sym size, parse_size());
      list.push_back(std::move(size));
    }
    return list;
  }
  Result<std::vector<int64_t>> parse_numbers() {
    TD_CHECK_OK(lexer_.expect("["));
    std::vector<int64_t> list;
    while (!lexer_.accept("]")) {
      if (!list.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(int64_t number, lexer_.expect_integer());
      list.push_back(number);
    }
    return list;
  }
  // `word` and a size, or the size that stands for its absence.
  Result<Sym> parse_optional(const char* word, const Scope& scope, const Sym& otherwise) {
    if (!lexer_.accept(word)) return otherwise;
    return parse_size(scope);
  }
  Result<int64_t> parse_number(const char* word) {
    TD_CHECK_OK(lexer_.expect(word));
    return lexer_.expect_integer();
  }
  Result<DType> parse_dtype() {
    std::optional<DType> dtype = dtype_from_name(lexer_.peek().text);
    if (lexer_.peek().kind != TokenKind::word || !dtype) return fail(error("expected an element type"));
    lexer_.next();
    return *dtype;
  }
  Result<Device> parse_device() {
    if (!lexer_.accept("on")) return Device{};
    TD_TRY(std::string text, lexer_.expect_kind(TokenKind::string, "a device"));
    return device_from_text(text);
  }
  Result<TensorId> parse_tensor() {
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::value, "a tensor"));
    auto found = tensors_.find(name);
    if (found == tensors_.end()) return fail(error(format("`%{}` is not defined", name)));
    return found->second;
  }
  Result<TensorId> parse_stored() {
    TD_TRY(TensorId id, parse_tensor());
    if (!schedule_.place(id).buffer) return fail(error(format("`%{}` has no place", schedule_.loops[id].name)));
    return id;
  }
  Result<BufferId> parse_buffer_name() {
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::global, "a buffer"));
    auto found = buffers_.find(name);
    if (found == buffers_.end()) return fail(error(format("`@{}` is not defined", name)));
    return found->second;
  }

  // ---- buffers and places -------------------------------------------------------------------------------------------

  Status parse_storage();
  // @w.packed = constant : f32[4096] sizes [64, 64] { load weight "w"; pack k_group 1 } at 128
  Status parse_buffer();
  Result<int32_t> parse_position(size_t count);
  Status parse_recipe(Buffer& buffer);
  Status parse_step(RecipeStep& step);
  // %h = @h strides [256, 1] offset 64
  Status parse_place();
  Status parse_strides(TensorId id, Place& place);
  // copy %a to %b before @k3
  Status parse_copy();
  Status parse_sums(Plan& plan);

  // ---- kernels ------------------------------------------------------------------------------------------------------

  Status parse_kernels();
  Status parse_epilogue(Kernel& kernel, Scope& scope);
  // (in %x: f32[s0, 64], out %y: f32[s0, 64]); the types are for the reader's eye.
  Status parse_operands(Kernel& kernel);
  // Tensors that a kernel may load: those in memory, and its rows.
  Result<ExprId> parse_expr(const Scope& scope);
  Result<StoreTo> parse_store(const Scope& scope);
  // `o0 in s0`; adds the variable to the scope.
  Result<Sym> parse_variable(Scope& scope);
  // Outer loops stay open until behind the last phase; the one that runs over vector lanes says `lanes`. An inner loop
  // says `vector`, `running` or `serial`. `then` stands between two phases without loops.
  Status parse_nest(LoopKernel& nest);
  Status parse_phases(LoopKernel& nest, std::vector<Phase>& phases, Scope& scope);
  Status open_outer(LoopKernel& nest, const SymList& vars, bool lanes);
  // %l0 = max(value), or a store.
  Status parse_statement(Phase& phase, const Scope& scope);

  // ---- templates, routines, calls -----------------------------------------------------------------------------------

  // [b0 in 8, m0 in s0, …]: the extents in order; the variables come into scope.
  Result<SymList> parse_space(Scope& scope, size_t count);
  Result<Sym> parse_wanted(const char* word, const Scope& scope);
  Result<int64_t> as_number(const Sym& size);
  Status parse_matmul(Kernel& kernel, Scope& scope);
  Status parse_pair(const char* word, int64_t (&pair)[2]);
  Status parse_conv(Kernel& kernel, Scope& scope);
  // routine argsort of f32 into %i inputs [%x] integers [s0, 4] numbers [0.5]
  Status parse_routine(Kernel& kernel);
  Status parse_attention(Kernel& kernel, Scope& scope);
  // call "f" (%x) to (%y) [attributes] scratch @s, then { the programs }
  Status parse_call(Kernel& kernel);

  Lexer lexer_;
  bool planned_ = false;
  std::vector<std::string> arenas_after_;
  std::map<int32_t, std::vector<Plan>> bodies_;
  Schedule schedule_;
  Scope symbols_;
  std::unordered_map<std::string, TensorId> tensors_;
  std::map<std::string, BufferId> buffers_;
  std::vector<Sym> offsets_;
  std::map<int32_t, DType> locals_;  // of the kernel that is read
};

}  // namespace toroid
