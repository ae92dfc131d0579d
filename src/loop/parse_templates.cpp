// Reads the kernels of a schedule's text that are no nests: templates, routines, calls.
#include "base/check.h"
#include "loop/routines.h"
#include "loop/schedule_parser.h"

namespace toroid {

Result<SymList> ScheduleParser::parse_space(Scope& scope, size_t count) {
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

Result<Sym> ScheduleParser::parse_wanted(const char* word, const Scope& scope) {
  TD_CHECK_OK(lexer_.expect(word));
  return parse_size(scope);
}

Result<int64_t> ScheduleParser::as_number(const Sym& size) {
  if (!size.is_constant()) return fail(error(format("`{}` must be a number", to_string(size))));
  return size.value();
}

Status ScheduleParser::parse_matmul(Kernel& kernel, Scope& scope) {
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

Status ScheduleParser::parse_pair(const char* word, int64_t (&pair)[2]) {
  TD_CHECK_OK(lexer_.expect(word));
  TD_TRY(std::vector<int64_t> numbers, parse_numbers());
  if (numbers.size() != 2) return fail(error("two numbers wanted"));
  pair[0] = numbers[0], pair[1] = numbers[1];
  return {};
}

Status ScheduleParser::parse_conv(Kernel& kernel, Scope& scope) {
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

Status ScheduleParser::parse_routine(Kernel& kernel) {
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

Status ScheduleParser::parse_attention(Kernel& kernel, Scope& scope) {
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

Status ScheduleParser::parse_call(Kernel& kernel) {
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
    ScheduleParser inner(std::move(head));
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

}  // namespace toroid
