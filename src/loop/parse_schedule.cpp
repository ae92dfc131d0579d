// Reads the text forms of Schedule and Plan: buffers, places, nests. Grammar: docs/grammar-schedule.md.
#include <algorithm>

#include "base/check.h"
#include "loop/expr_parser.h"
#include "loop/schedule_parser.h"

namespace toroid {

Result<Schedule> ScheduleParser::schedule() {
  TD_CHECK_OK(parse_storage());
  TD_CHECK_OK(lexer_.expect("}"));
  TD_CHECK_OK(parse_kernels());
  return std::move(schedule_);
}

Result<Plan> ScheduleParser::plan() {
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

// ---- buffers and places ---------------------------------------------------------------------------------------------

Status ScheduleParser::parse_storage() {
  while (lexer_.accept("buffer")) TD_CHECK_OK(parse_buffer());
  while (lexer_.accept("place")) TD_CHECK_OK(parse_place());
  while (lexer_.accept("copy")) TD_CHECK_OK(parse_copy());
  return {};
}

Status ScheduleParser::parse_buffer() {
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

Result<int32_t> ScheduleParser::parse_position(size_t count) {
  TD_TRY(int64_t position, lexer_.expect_integer());
  if (position < 0 || position >= static_cast<int64_t>(count)) return fail(error("no such position"));
  return static_cast<int32_t>(position);
}

Status ScheduleParser::parse_recipe(Buffer& buffer) {
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

Status ScheduleParser::parse_step(RecipeStep& step) {
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

Status ScheduleParser::parse_place() {
  TD_TRY(TensorId id, parse_tensor());
  Place place;
  TD_CHECK_OK(lexer_.expect("="));
  TD_TRY(place.buffer, parse_buffer_name());
  TD_CHECK_OK(parse_strides(id, place));
  TD_TRY(place.offset, parse_optional("offset", symbols_, 0));
  schedule_.place(id) = std::move(place);
  return {};
}

Status ScheduleParser::parse_strides(TensorId id, Place& place) {
  TD_CHECK_OK(lexer_.expect("strides"));
  TD_TRY(place.strides, parse_sizes());
  if (place.strides.size() != schedule_.loops[id].sizes.size()) return fail(error("as many strides as sizes wanted"));
  return {};
}

Status ScheduleParser::parse_copy() {
  Copy copy;
  TD_TRY(copy.from, parse_stored());
  TD_CHECK_OK(lexer_.expect("to"));
  TD_TRY(copy.to, parse_stored());
  TD_TRY(int64_t before, parse_number("before"));
  copy.before = static_cast<int32_t>(before);
  schedule_.copies.push_back(copy);
  return {};
}

Status ScheduleParser::parse_sums(Plan& plan) {
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

// ---- kernels --------------------------------------------------------------------------------------------------------

Status ScheduleParser::parse_kernels() {
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

Status ScheduleParser::parse_epilogue(Kernel& kernel, Scope& scope) {
  if (!lexer_.accept("epilogue")) return {};
  TD_CHECK_OK(lexer_.expect("{"));
  while (!lexer_.accept("}")) {
    TD_TRY(StoreTo store, parse_store(scope));
    kernel.epilogue.push_back(std::move(store));
  }
  return {};
}

Status ScheduleParser::parse_operands(Kernel& kernel) {
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

Result<ExprId> ScheduleParser::parse_expr(const Scope& scope) {
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

Result<StoreTo> ScheduleParser::parse_store(const Scope& scope) {
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
  if (store.index.size() != tensor.sizes.size() || schedule_.place(store.tensor).strides.size() != tensor.sizes.size())
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

Result<Sym> ScheduleParser::parse_variable(Scope& scope) {
  TD_TRY(std::string name, lexer_.expect_kind(TokenKind::word, "an index variable"));
  if (symbols_.contains(name)) return fail(error(format("`{}` is taken", name)));
  TD_CHECK_OK(lexer_.expect("in"));
  TD_TRY(Sym extent, parse_size(scope));
  Sym var = Sym::index(name, extent);
  scope.insert_or_assign(std::move(name), var);
  return var;
}

Status ScheduleParser::parse_nest(LoopKernel& nest) {
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

Status ScheduleParser::parse_phases(LoopKernel& nest, std::vector<Phase>& phases, Scope& scope) {
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

Status ScheduleParser::open_outer(LoopKernel& nest, const SymList& vars, bool lanes) {
  if (!nest.phases.empty()) return fail(error("expected `vector`, `running` or `serial` on an inner loop"));
  if (vars.size() != 1) return fail(error("one variable to an outer loop"));
  nest.outer.push_back(vars[0]);
  if (lanes) nest.vector_outer = vars[0].symbol_name();
  return lexer_.expect("{");
}

Status ScheduleParser::parse_statement(Phase& phase, const Scope& scope) {
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
  if (reduction.local < 0 || locals_.contains(reduction.local)) return fail(error("expected a new local %l0, %l1, …"));
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

Result<Schedule> parse_schedule(std::string_view text) {
  TD_TRY(LoopsHead head, parse_head(Lexer(text), "schedule"));
  ScheduleParser parser(std::move(head));
  TD_TRY(Schedule schedule, parser.schedule());
  if (!parser.lexer().at_end()) return fail(parser.lexer().error("expected a kernel"));
  return schedule;
}

Result<Plan> parse_plan(std::string_view text) {
  TD_TRY(LoopsHead head, parse_head(Lexer(text), "plan"));
  ScheduleParser parser(std::move(head));
  TD_TRY(Plan plan, parser.plan());
  if (!parser.lexer().at_end()) return fail(parser.lexer().error("expected a kernel"));
  return plan;
}

}  // namespace toroid
