// Reads the text forms of Schedule and Plan. Grammar: docs/grammar-schedule.md.
#include <algorithm>

#include "base/check.h"
#include "loop/expr_parser.h"
#include "loop/head_text.h"
#include "loop/routines.h"
#include "loop/schedule.h"

namespace toroid {
namespace {

class Parser {
 public:
  explicit Parser(LoopsHead head)
      : lexer_(std::move(head.lexer)), symbols_(std::move(head.symbols)), tensors_(std::move(head.tensors)) {
    schedule_.loops = std::move(head.loops);
    schedule_.places.resize(schedule_.loops.tensors.size());
  }

  Result<Schedule> schedule() {
    TD_CHECK_OK(parse_storage());
    TD_CHECK_OK(lexer_.expect("}"));
    TD_CHECK_OK(parse_kernels());
    return std::move(schedule_);
  }
  const Lexer& lexer() const { return lexer_; }

  Result<Plan> plan() {
    TD_CHECK_OK(parse_storage());
    Plan plan;
    planned_ = true;
    TD_CHECK_OK(parse_sums(plan));
    TD_CHECK_OK(lexer_.expect("}"));
    TD_CHECK_OK(parse_kernels());
    for (size_t a = 0; a < plan.arenas.size(); ++a) {
      if (arenas_after_[a].empty()) continue;
      auto found = std::ranges::find(schedule_.kernels, arenas_after_[a], &Kernel::name);
      if (found == schedule_.kernels.end()) return fail(error(format("no kernel `@{}`", arenas_after_[a])));
      plan.arenas[a].after = static_cast<int32_t>(found - schedule_.kernels.begin());
    }
    plan.bodies = std::move(bodies_);
    plan.offsets = std::move(offsets_);
    plan.schedule = std::move(schedule_);
    list_operations(plan);
    return plan;
  }

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

  Status parse_storage() {
    while (lexer_.accept("buffer")) TD_CHECK_OK(parse_buffer());
    while (lexer_.accept("place")) TD_CHECK_OK(parse_place());
    while (lexer_.accept("copy")) TD_CHECK_OK(parse_copy());
    return {};
  }

  // @w.packed = constant : f32[4096] sizes [64, 64] { load weight "w"; pack k_group 1 } at 128
  Status parse_buffer() {
    Buffer buffer;
    TD_TRY(buffer.name, lexer_.expect_kind(TokenKind::global, "a buffer"));
    if (buffers_.contains(buffer.name)) return fail(error(format("`@{}` defined twice", buffer.name)));
    TD_CHECK_OK(lexer_.expect("="));
    if (lexer_.accept("input")) {
      buffer.kind = BufferKind::input;
      TD_TRY(buffer.input, parse_position(schedule_.loops.inputs.size()));
    } else if (lexer_.accept("output")) {
      buffer.kind = BufferKind::output;
      TD_TRY(buffer.output, parse_position(schedule_.loops.outputs.size()));
    } else if (lexer_.accept("constant")) {
      buffer.kind = BufferKind::constant;
      buffer.mutated = lexer_.accept("mutated");
    } else {
      TD_CHECK_OK(lexer_.expect("temporary"));
    }
    TD_CHECK_OK(lexer_.expect(":"));
    TD_TRY(buffer.dtype, parse_dtype());
    TD_CHECK_OK(lexer_.expect("["));
    TD_TRY(buffer.elements, parse_size());
    TD_CHECK_OK(lexer_.expect("]"));
    TD_TRY(buffer.device, parse_device());
    if (buffer.kind == BufferKind::constant) {
      if (!buffer.elements.is_constant()) return fail(error("a constant of unknown size"));
      TD_CHECK_OK(lexer_.expect("sizes"));
      TD_TRY(buffer.constant_sizes, parse_numbers());
      TD_CHECK_OK(parse_recipe(buffer));
    }
    TD_TRY(Sym offset, parse_optional("at", symbols_, -1));
    offsets_.push_back(std::move(offset));
    const std::string name = buffer.name;
    buffers_.emplace(name, schedule_.add(std::move(buffer)));
    return {};
  }
  Result<int32_t> parse_position(size_t count) {
    TD_TRY(int64_t position, lexer_.expect_integer());
    if (position < 0 || position >= static_cast<int64_t>(count)) return fail(error("no such position"));
    return static_cast<int32_t>(position);
  }

  Status parse_recipe(Buffer& buffer) {
    TD_CHECK_OK(lexer_.expect("{"));
    while (!lexer_.accept("}")) {
      if (!buffer.recipe.empty()) TD_CHECK_OK(lexer_.expect(";"));
      RecipeStep step;
      TD_TRY(step.op, lexer_.expect_kind(TokenKind::word, "a step"));
      if (std::ranges::find(recipe_ops, step.op) == std::end(recipe_ops))
        return fail(error(format("there is no step `{}`", step.op)));
      if (step.op == "bytes") {
        TD_TRY(TensorId tensor, parse_tensor());
        buffer.bytes = schedule_.loops[tensor].data;
      }
      TD_CHECK_OK(parse_step(step));
      buffer.recipe.push_back(std::move(step));
    }
    return {};
  }
  Status parse_step(RecipeStep& step) {
    if (lexer_.accept("weight")) {
      TD_TRY(std::string name, lexer_.expect_kind(TokenKind::string, "a weight's name"));
      const std::vector<Weight>& weights = schedule_.loops.weights;
      auto found = std::ranges::find(weights, name, &Weight::name);
      if (found == weights.end()) return fail(error(format("no weight `{}`", name)));
      step.weight = found - weights.begin();
    }
    if (lexer_.accept("as")) {
      TD_TRY(step.dtype, parse_dtype());
    }
    if (lexer_.accept("sizes")) {
      TD_TRY(step.sizes, parse_numbers());
    }
    if (lexer_.accept("strides")) {
      TD_TRY(step.strides, parse_numbers());
    }
    for (auto [word, field] : {std::pair("offset", &RecipeStep::offset), std::pair("count", &RecipeStep::count),
                               std::pair("dim", &RecipeStep::dim), std::pair("k_group", &RecipeStep::k_group)}) {
      if (!lexer_.accept(word)) continue;
      TD_TRY(step.*field, lexer_.expect_integer());
    }
    if (lexer_.accept("value")) {
      TD_TRY(step.value, lexer_.expect_number());
    }
    return {};
  }

  // %h = @h strides [256, 1] offset 64
  Status parse_place() {
    TD_TRY(TensorId id, parse_tensor());
    Place place;
    TD_CHECK_OK(lexer_.expect("="));
    TD_TRY(place.buffer, parse_buffer_name());
    TD_CHECK_OK(parse_strides(id, place));
    TD_TRY(place.offset, parse_optional("offset", symbols_, 0));
    schedule_.place(id) = std::move(place);
    return {};
  }
  Status parse_strides(TensorId id, Place& place) {
    TD_CHECK_OK(lexer_.expect("strides"));
    TD_TRY(place.strides, parse_sizes());
    if (place.strides.size() != schedule_.loops[id].sizes.size()) return fail(error("as many strides as sizes wanted"));
    return {};
  }

  // copy %a to %b before @k3
  Status parse_copy() {
    Copy copy;
    TD_TRY(copy.from, parse_stored());
    TD_CHECK_OK(lexer_.expect("to"));
    TD_TRY(copy.to, parse_stored());
    TD_TRY(int64_t before, parse_number("before"));
    copy.before = static_cast<int32_t>(before);
    schedule_.copies.push_back(copy);
    return {};
  }

  Status parse_sums(Plan& plan) {
    while (lexer_.accept("arena")) {
      Arena arena;
      TD_TRY(arena.bytes, parse_size());
      TD_TRY(arena.device, parse_device());
      std::string after;
      if (lexer_.accept("after")) {
        TD_TRY(after, lexer_.expect_kind(TokenKind::global, "a kernel"));
      }
      arenas_after_.push_back(std::move(after));
      plan.arenas.push_back(std::move(arena));
    }
    // Streams and operations follow from the kernels and copies.
    while (lexer_.at("stream") || lexer_.at("launch") || lexer_.at("copy") || lexer_.at("wait") || lexer_.at("read"))
      lexer_.rest_of_line();
    for (auto [word, field] :
         {std::pair("peak", &Plan::peak_bytes), std::pair("lower_bound", &Plan::lower_bound_bytes),
          std::pair("weights", &Plan::weights_bytes), std::pair("mutated", &Plan::mutated_bytes),
          std::pair("intermediate", &Plan::intermediate_bytes), std::pair("moved", &Plan::bytes_moved)}) {
      TD_TRY(plan.*field, parse_number(word));
    }
    return {};
  }

  // ---- kernels ------------------------------------------------------------------------------------------------------

  Status parse_kernels() {
    // A call's program ends where the call's text goes on.
    while (!lexer_.at_end() && !lexer_.at("}")) {
      TD_CHECK_OK(lexer_.expect("kernel"));
      Kernel kernel;
      locals_.clear();
      TD_TRY(kernel.name, lexer_.expect_kind(TokenKind::global, "a kernel's name"));
      TD_CHECK_OK(parse_operands(kernel));
      TD_TRY(kernel.device, parse_device());
      TD_CHECK_OK(lexer_.expect("{"));
      if (lexer_.accept("@")) kernel.where = where_from_text(lexer_.rest_of_line());
      Scope scope = symbols_;
      if (lexer_.accept("matmul")) {
        TD_CHECK_OK(parse_matmul(kernel, scope));
      } else if (lexer_.at("conv") || lexer_.at("depthwise")) {
        TD_CHECK_OK(parse_conv(kernel, scope));
      } else if (lexer_.accept("attention")) {
        TD_CHECK_OK(parse_attention(kernel, scope));
      } else if (lexer_.accept("call")) {
        TD_CHECK_OK(parse_call(kernel));
      } else if (lexer_.accept("routine")) {
        TD_CHECK_OK(parse_routine(kernel));
      } else {
        LoopKernel nest;
        TD_CHECK_OK(parse_nest(nest));
        kernel.work = std::move(nest);
      }
      TD_CHECK_OK(parse_epilogue(kernel, scope));
      if (lexer_.accept("note")) {
        TD_TRY(kernel.note, lexer_.expect_kind(TokenKind::string, "a text"));
      }
      for (auto [word, field] : {std::pair("flops", &Kernel::flops), std::pair("bytes", &Kernel::bytes),
                                 std::pair("nanoseconds", &Kernel::nanoseconds)}) {
        TD_CHECK_OK(lexer_.expect(word));
        TD_TRY(kernel.*field, parse_size());
      }
      TD_CHECK_OK(lexer_.expect("}"));
      schedule_.kernels.push_back(std::move(kernel));
    }
    return {};
  }

  Status parse_epilogue(Kernel& kernel, Scope& scope) {
    if (!lexer_.accept("epilogue")) return {};
    TD_CHECK_OK(lexer_.expect("{"));
    while (!lexer_.accept("}")) {
      TD_TRY(StoreTo store, parse_store(scope));
      kernel.epilogue.push_back(std::move(store));
    }
    return {};
  }

  // (in %x: f32[s0, 64], out %y: f32[s0, 64]); the types are for the reader's eye.
  Status parse_operands(Kernel& kernel) {
    TD_CHECK_OK(lexer_.expect("("));
    while (!lexer_.accept(")")) {
      if (!kernel.reads.empty() || !kernel.writes.empty()) TD_CHECK_OK(lexer_.expect(","));
      const bool in = lexer_.accept("in");
      if (!in) TD_CHECK_OK(lexer_.expect("out"));
      TD_TRY(TensorId id, parse_stored());
      (in ? kernel.reads : kernel.writes).push_back(id);
      TD_CHECK_OK(lexer_.expect(":"));
      const LoopTensor& tensor = schedule_.loops[id];
      TD_TRY(DType dtype, parse_dtype());
      TD_TRY(SymList sizes, parse_sizes());
      if (dtype != tensor.dtype || sizes != tensor.sizes)
        return fail(
            error(format("`%{}` is declared {}[{}]", tensor.name, dtype_name(tensor.dtype), to_string(tensor.sizes))));
    }
    return {};
  }

  // Tensors that a kernel may load: those in memory, and its rows.
  Result<ExprId> parse_expr(const Scope& scope) {
    const size_t line = static_cast<size_t>(lexer_.peek().line);
    TD_TRY(ExprId id, parse_body(lexer_, schedule_.loops, tensors_, scope, locals_));
    const ExprPool& pool = schedule_.loops.pool;
    for (ExprId part : pool.postorder({id})) {
      const Expr& e = pool[part];
      if (e.kind == ExprKind::load && schedule_.place(e.tensor).strides.size() != e.args.size())
        return fail(error(format("`%{}`, which line {} reads, has no place", schedule_.loops[e.tensor].name, line)));
    }
    return id;
  }
  Result<StoreTo> parse_store(const Scope& scope) {
    StoreTo store;
    const bool into = lexer_.accept("into");
    if (!into) TD_CHECK_OK(lexer_.expect("store"));
    TD_TRY(store.tensor, parse_tensor());
    TD_CHECK_OK(lexer_.expect("["));
    while (!lexer_.accept("]")) {
      if (!store.index.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(ExprId index, parse_expr(scope));
      if (schedule_.loops.pool[index].dtype != DType::i64) return fail(error("an index that is no i64"));
      store.index.push_back(index);
    }
    const LoopTensor& tensor = schedule_.loops[store.tensor];
    if (store.index.size() != tensor.sizes.size() ||
        schedule_.place(store.tensor).strides.size() != tensor.sizes.size())
      return fail(error(format("`%{}` cannot be stored so", tensor.name)));
    TD_CHECK_OK(lexer_.expect(","));
    if (into) {
      TD_TRY(std::string op, lexer_.expect_kind(TokenKind::word, "a reduction"));
      store.into = reduce_op_from_name(op);
      if (!store.into) return fail(error(format("`{}` does not reduce", op)));
      TD_CHECK_OK(lexer_.expect("("));
    }
    TD_TRY(store.value, parse_expr(scope));
    if (into) TD_CHECK_OK(lexer_.expect(")"));
    if (schedule_.loops.pool[store.value].dtype != register_type(tensor.dtype))
      return fail(error(format("{} stored in `%{}` of {}", dtype_name(schedule_.loops.pool[store.value].dtype),
                               tensor.name, dtype_name(tensor.dtype))));
    return store;
  }

  // `o0 in s0`; adds the variable to the scope.
  Result<Sym> parse_variable(Scope& scope) {
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::word, "an index variable"));
    if (symbols_.contains(name)) return fail(error(format("`{}` is taken", name)));
    TD_CHECK_OK(lexer_.expect("in"));
    TD_TRY(Sym extent, parse_size(scope));
    Sym var = Sym::index(name, extent);
    scope.insert_or_assign(std::move(name), var);
    return var;
  }

  // Outer loops stay open until behind the last phase; the one that runs over vector lanes says `lanes`. An inner loop
  // says `vector`, `running` or `serial`. `then` stands between two phases without loops.
  Status parse_nest(LoopKernel& nest) {
    Scope scope = symbols_;
    nest.scalar = lexer_.accept("scalar");
    if (lexer_.at("blocks")) {
      TD_TRY(nest.blocks, parse_number("blocks"));
    }
    while (lexer_.accept("total")) {
      TD_TRY(TensorId id, parse_tensor());
      if (schedule_.place(id).buffer) return fail(error("a total that has a place"));
      TD_CHECK_OK(parse_strides(id, schedule_.place(id)));
      nest.totals.push_back(id);
    }
    if (nest.totals.empty() != (nest.blocks < 1)) return fail(error("`blocks` and totals go together"));
    TD_CHECK_OK(parse_phases(nest, nest.phases, scope));
    for (size_t i = 0; i < nest.outer.size(); ++i) TD_CHECK_OK(lexer_.expect("}"));
    if (lexer_.accept("finish")) {
      TD_CHECK_OK(lexer_.expect("{"));
      Scope outside = symbols_;
      const size_t loops = nest.outer.size();
      TD_CHECK_OK(parse_phases(nest, nest.finish, outside));
      if (nest.outer.size() != loops) return fail(error("expected `vector` or `serial` on a loop of `finish`"));
      TD_CHECK_OK(lexer_.expect("}"));
    }
    for (size_t i = 0; i < locals_.size(); ++i) {
      auto local = locals_.find(static_cast<int32_t>(i));
      if (local == locals_.end()) return fail(error("locals are numbered from 0 without gaps"));
      nest.locals.push_back(local->second);
    }
    return {};
  }
  Status parse_phases(LoopKernel& nest, std::vector<Phase>& phases, Scope& scope) {
    bool fresh = true;  // the next statement opens a phase without variables
    for (;;) {
      if (lexer_.accept("for")) {
        Phase phase;
        Scope inner = scope;
        do {
          TD_TRY(Sym var, parse_variable(inner));
          phase.vars.push_back(std::move(var));
        } while (lexer_.accept(","));
        const bool lanes = lexer_.accept("lanes");
        phase.running = !lanes && lexer_.accept("running");
        if (lanes || !(phase.running || lexer_.accept("vector") || lexer_.accept("serial"))) {
          TD_CHECK_OK(open_outer(nest, phase.vars, lanes));
          scope = std::move(inner);
          continue;
        }
        TD_CHECK_OK(lexer_.expect("{"));
        while (!lexer_.accept("}")) TD_CHECK_OK(parse_statement(phase, inner));
        phases.push_back(std::move(phase));
        fresh = true;
      } else if (lexer_.accept("row")) {
        TD_TRY(TensorId id, parse_tensor());
        if (schedule_.place(id).buffer) return fail(error("a row that has a place"));
        TD_CHECK_OK(parse_strides(id, schedule_.place(id)));
        nest.rows.push_back(id);
      } else if (lexer_.accept("then")) {
        fresh = true;
      } else if (lexer_.at("store") || lexer_.at("into") || lexer_.peek().kind == TokenKind::value) {
        if (fresh) phases.emplace_back();
        fresh = false;
        TD_CHECK_OK(parse_statement(phases.back(), scope));
      } else {
        return {};
      }
    }
  }
  Status open_outer(LoopKernel& nest, const SymList& vars, bool lanes) {
    if (!nest.phases.empty()) return fail(error("expected `vector`, `running` or `serial` on an inner loop"));
    if (vars.size() != 1) return fail(error("one variable to an outer loop"));
    nest.outer.push_back(vars[0]);
    if (lanes) nest.vector_outer = vars[0].symbol_name();
    return lexer_.expect("{");
  }

  // %l0 = max(value), or a store.
  Status parse_statement(Phase& phase, const Scope& scope) {
    if (lexer_.at("store") || lexer_.at("into")) {
      TD_TRY(StoreTo store, parse_store(scope));
      phase.stores.push_back(std::move(store));
      return {};
    }
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::value, "a local or a store"));
    Reduction reduction{};
    reduction.local = -1;
    if (name.size() > 1 && name.size() < 9 && name[0] == 'l' &&
        name.find_first_not_of("0123456789", 1) == std::string::npos)
      reduction.local = std::atoi(name.c_str() + 1);
    if (reduction.local < 0 || locals_.contains(reduction.local))
      return fail(error("expected a new local %l0, %l1, …"));
    TD_CHECK_OK(lexer_.expect("="));
    TD_TRY(std::string op, lexer_.expect_kind(TokenKind::word, "a reduction"));
    auto reduce = reduce_op_from_name(op);
    if (!reduce) return fail(error(format("`{}` does not reduce", op)));
    reduction.op = *reduce;
    TD_CHECK_OK(lexer_.expect("("));
    TD_TRY(reduction.value, parse_expr(scope));
    TD_CHECK_OK(lexer_.expect(")"));
    const bool position = *reduce == ReduceOp::argmin || *reduce == ReduceOp::argmax;
    reduction.dtype = position ? DType::i64 : schedule_.loops.pool[reduction.value].dtype;
    locals_.emplace(reduction.local, reduction.dtype);
    phase.reductions.push_back(reduction);
    return {};
  }

  // ---- templates ----------------------------------------------------------------------------------------------------

  // [b0 in 8, m0 in s0, …]: the extents in order; the variables come into scope.
  Result<SymList> parse_space(Scope& scope, size_t count) {
    locals_ = {{0, DType::f32}};
    TD_CHECK_OK(lexer_.expect("["));
    SymList extents;
    while (!lexer_.accept("]")) {
      if (!extents.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(Sym var, parse_variable(scope));
      extents.push_back(extent_of(var));
    }
    if (extents.size() != count) return fail(error(format("a space of {} dims wanted", count)));
    return extents;
  }
  Result<Sym> parse_wanted(const char* word, const Scope& scope) {
    TD_CHECK_OK(lexer_.expect(word));
    return parse_size(scope);
  }
  Result<int64_t> as_number(const Sym& size) {
    if (!size.is_constant()) return fail(error(format("`{}` must be a number", to_string(size))));
    return size.value();
  }

  Status parse_matmul(Kernel& kernel, Scope& scope) {
    MatmulKernel work;
    TD_TRY(SymList space, parse_space(scope, 3));
    work.batch = space[0], work.m = space[1];
    TD_TRY(work.k, parse_wanted("over", scope));
    TD_CHECK_OK(lexer_.expect("of"));
    TD_TRY(work.dtype, parse_dtype());
    TD_CHECK_OK(lexer_.expect("a"));
    TD_TRY(work.a, parse_stored());
    TD_TRY(work.a_offset, parse_wanted("offset", scope));
    TD_TRY(work.a_batch_offset, parse_wanted("batch", scope));
    TD_TRY(work.a_row_stride, parse_wanted("row", scope));
    TD_TRY(work.a_k_stride, parse_wanted("k", scope));
    bool all_packed = true;
    do {
      MatmulKernel::Columns columns;
      if (work.columns.empty()) {
        columns.n = space[2];
      } else {
        TD_TRY(SymList beside, parse_space(scope, 1));
        columns.n = beside[0];
      }
      TD_CHECK_OK(lexer_.expect("b"));
      do {
        MatmulKernel::Right b;
        TD_TRY(b.tensor, parse_stored());
        if (lexer_.accept("packed")) {
          TD_TRY(b.packed, parse_buffer_name());
        }
        TD_TRY(b.offset, parse_wanted("offset", scope));
        TD_TRY(b.batch_offset, parse_wanted("batch", scope));
        TD_TRY(b.n_stride, parse_wanted("column", scope));
        TD_TRY(b.k_stride, parse_wanted("k", scope));
        all_packed &= b.packed.valid();
        locals_[static_cast<int32_t>(columns.right.size())] = DType::f32;
        columns.right.push_back(std::move(b));
      } while (lexer_.accept("b"));
      const size_t before = kernel.epilogue.size();
      TD_CHECK_OK(parse_epilogue(kernel, scope));
      columns.stores = kernel.epilogue.size() - before;
      work.columns.push_back(std::move(columns));
    } while (lexer_.accept("beside"));
    if (!all_packed && (work.columns.size() > 1 || work.columns[0].right.size() > 1))
      return fail(error("products that share a kernel are packed"));
    kernel.work = std::move(work);
    return {};
  }

  Status parse_pair(const char* word, int64_t (&pair)[2]) {
    TD_CHECK_OK(lexer_.expect(word));
    TD_TRY(std::vector<int64_t> numbers, parse_numbers());
    if (numbers.size() != 2) return fail(error("two numbers wanted"));
    pair[0] = numbers[0], pair[1] = numbers[1];
    return {};
  }
  Status parse_conv(Kernel& kernel, Scope& scope) {
    ConvKernel work;
    work.depthwise = lexer_.next().text == "depthwise";
    TD_TRY(SymList space, parse_space(scope, 4));
    work.batch = space[0], work.out_h = space[1], work.out_w = space[2];
    TD_TRY(work.out_channels, as_number(space[3]));
    TD_CHECK_OK(lexer_.expect("over"));
    TD_TRY(SymList image, parse_sizes());
    if (image.size() != 3) return fail(error("height, width and channels wanted"));
    work.in_h = image[0], work.in_w = image[1];
    TD_TRY(work.in_channels, as_number(image[2]));
    TD_CHECK_OK(lexer_.expect("of"));
    TD_TRY(work.dtype, parse_dtype());
    TD_CHECK_OK(parse_pair("kernel", work.kernel));
    TD_CHECK_OK(parse_pair("stride", work.stride));
    TD_CHECK_OK(parse_pair("padding", work.padding));
    TD_CHECK_OK(parse_pair("dilation", work.dilation));
    TD_TRY(work.groups, parse_number("groups"));
    TD_CHECK_OK(lexer_.expect("x"));
    TD_TRY(work.x, parse_stored());
    TD_TRY(work.x_offset, parse_wanted("offset", scope));
    TD_TRY(work.x_batch_stride, parse_wanted("batch", scope));
    TD_TRY(work.x_row_stride, parse_wanted("row", scope));
    TD_TRY(work.x_column_stride, parse_wanted("column", scope));
    TD_CHECK_OK(lexer_.expect("weight"));
    TD_CHECK_OK(lexer_.expect("packed"));
    TD_TRY(work.packed, parse_buffer_name());
    kernel.work = std::move(work);
    return {};
  }

  // routine argsort of f32 into %i inputs [%x] integers [s0, 4] numbers [0.5]
  Status parse_routine(Kernel& kernel) {
    RoutineKernel work;
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::word, "a routine"));
    auto number = routine_from_name(name);
    if (!number) return fail(error(format("no routine `{}`", name)));
    work.routine = *number;
    TD_CHECK_OK(lexer_.expect("of"));
    TD_TRY(work.dtype, parse_dtype());
    TD_CHECK_OK(lexer_.expect("into"));
    TD_TRY(work.output, parse_stored());
    TD_CHECK_OK(lexer_.expect("inputs"));
    TD_CHECK_OK(lexer_.expect("["));
    while (!lexer_.accept("]")) {
      if (!work.inputs.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(TensorId id, parse_stored());
      work.inputs.push_back(id);
    }
    TD_CHECK_OK(lexer_.expect("integers"));
    TD_TRY(work.integers, parse_sizes());
    TD_CHECK_OK(lexer_.expect("numbers"));
    TD_CHECK_OK(lexer_.expect("["));
    while (!lexer_.accept("]")) {
      if (!work.numbers.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(double value, lexer_.expect_number());
      work.numbers.push_back(value);
    }
    kernel.work = std::move(work);
    return {};
  }

  Status parse_attention(Kernel& kernel, Scope& scope) {
    AttentionKernel work;
    TD_TRY(SymList space, parse_space(scope, 4));
    work.batch = space[0], work.heads = space[1], work.queries = space[2];
    if (!work.heads.is_constant()) return fail(error("the number of heads must be a number"));
    TD_TRY(work.value_size, as_number(space[3]));
    TD_TRY(work.keys, parse_wanted("over", scope));
    TD_CHECK_OK(lexer_.expect("keys"));
    TD_TRY(work.head_size, parse_number("size"));
    TD_CHECK_OK(lexer_.expect("of"));
    TD_TRY(work.dtype, parse_dtype());
    TD_TRY(work.group, parse_number("group"));
    if (work.group < 1) return fail(error("a group of at least one head wanted"));
    TD_CHECK_OK(lexer_.expect("scale"));
    TD_TRY(work.scale, lexer_.expect_number());
    work.causal = lexer_.accept("causal");
    work.zero_masked_rows = lexer_.accept("zero_masked_rows");
    auto operand = [&](const char* word, TensorId& tensor, AttentionKernel::Strides& strides) -> Status {
      TD_CHECK_OK(lexer_.expect(word));
      TD_TRY(tensor, parse_stored());
      TD_TRY(strides.offset, parse_wanted("offset", scope));
      TD_TRY(strides.batch, parse_wanted("batch", scope));
      TD_TRY(strides.head, parse_wanted("head", scope));
      TD_TRY(strides.row, parse_wanted("row", scope));
      return {};
    };
    TD_CHECK_OK(operand("q", work.q, work.q_strides));
    TD_CHECK_OK(operand("k", work.k, work.k_strides));
    TD_CHECK_OK(operand("v", work.v, work.v_strides));
    if (lexer_.accept("score")) {
      Scope inner = scope;
      inner.insert_or_assign("t0", Sym::index("t0", work.keys));
      TD_TRY(work.score, parse_expr(inner));
    }
    kernel.work = std::move(work);
    return {};
  }

  // call "f" (%x) to (%y) [attributes] scratch @s, then { the programs }
  Status parse_call(Kernel& kernel) {
    CallKernel work;
    TD_TRY(work.function, lexer_.expect_kind(TokenKind::string, "a function's name"));
    for (std::vector<TensorId>* list : {&work.operands, &work.results}) {
      if (list == &work.results) TD_CHECK_OK(lexer_.expect("to"));
      TD_CHECK_OK(lexer_.expect("("));
      while (!lexer_.accept(")")) {
        if (!list->empty()) TD_CHECK_OK(lexer_.expect(","));
        TD_TRY(TensorId id, parse_stored());
        list->push_back(id);
      }
    }
    TD_TRY(work.attributes, parse_sizes());
    if (lexer_.accept("scratch")) {
      TD_TRY(work.scratch, parse_buffer_name());
    }
    while (lexer_.accept("body")) {
      TD_CHECK_OK(lexer_.expect("{"));
      TD_TRY(LoopsHead head, parse_head(lexer_, planned_ ? "plan" : "schedule"));
      Parser inner(std::move(head));
      if (planned_) {
        TD_TRY(Plan body, inner.plan());
        bodies_[static_cast<int32_t>(schedule_.kernels.size())].push_back(std::move(body));
      } else {
        TD_TRY(Schedule body, inner.schedule());
        work.bodies.push_back(std::move(body));
      }
      lexer_ = inner.lexer();
      TD_CHECK_OK(lexer_.expect("}"));
    }
    kernel.work = std::move(work);
    return {};
  }

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

}  // namespace

Result<Schedule> parse_schedule(std::string_view text) {
  TD_TRY(LoopsHead head, parse_head(Lexer(text), "schedule"));
  Parser parser(std::move(head));
  TD_TRY(Schedule schedule, parser.schedule());
  if (!parser.lexer().at_end()) return fail(parser.lexer().error("expected a kernel"));
  return schedule;
}

Result<Plan> parse_plan(std::string_view text) {
  TD_TRY(LoopsHead head, parse_head(Lexer(text), "plan"));
  Parser parser(std::move(head));
  TD_TRY(Plan plan, parser.plan());
  if (!parser.lexer().at_end()) return fail(parser.lexer().error("expected a kernel"));
  return plan;
}

}  // namespace toroid
