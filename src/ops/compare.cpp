// Comparisons, logic, bits, and choices: where and masked_fill.
#include "ops/rules.h"

namespace toroid {

namespace {

using Args = std::vector<ExprId>;

void add_comparisons(OpTable& ops) {
  struct Row {
    std::vector<const char*> names;
    ScalarOp op;
  };
  const Row rows[] = {{{"eq"}, ScalarOp::eq},
                      {{"ne", "not_equal"}, ScalarOp::ne},
                      {{"lt", "less"}, ScalarOp::lt},
                      {{"le", "less_equal"}, ScalarOp::le},
                      {{"gt", "greater"}, ScalarOp::gt},
                      {{"ge", "greater_equal"}, ScalarOp::ge}};
  for (const Row& row : rows)
    for (const char* base : row.names)
      for (const char* form : {"Tensor", "Scalar"}) {
        std::string name = format("aten.{}.{}", base, form);
        // A number is rounded to the tensor's type first: an i8 tensor of 1 equals 257.
        OpRow& added = add_map(
            ops, name, {"self", "other"}, Out::boolean,
            [op = row.op](const MapCall& m, const Args& x) {
              return m.b.op(op, {x[0], x[1]});
            },
            true);
        if (*form == 'T') added.sample(name + "(f32[4,5], f32[5])").sample(name + "(i64[4], i32[4])");
        added.sample(name + "(f32[4,5], 0.25)").sample(name + "(i64[4], 1)").sample(name + "(bool[4], True)");
      }
  struct Test {
    const char* name;
    std::vector<ScalarOp> any;
    bool invert;
  };
  const Test tests[] = {{"isnan", {ScalarOp::isnan}, false},
                        {"isinf", {ScalarOp::isinf}, false},
                        {"isfinite", {ScalarOp::isnan, ScalarOp::isinf}, true}};
  for (const Test& test : tests) {
    std::string name = format("aten.{}.default", test.name);
    add_map(ops, name, {"self"}, Out::boolean,
            [test](const MapCall& m, const Args& x) {
              ExprId y = m.b.pool().constant(0, DType::b8);
              if (is_float(m.type)) {
                y = m.b.op(test.any[0], {x[0]});
                for (size_t i = 1; i < test.any.size(); ++i)
                  y = m.b.op(ScalarOp::lor, {y, m.b.op(test.any[i], {x[0]})});
              }
              return test.invert ? m.b.op(ScalarOp::lnot, {y}) : y;
            })
        .sample(name + "(f32[4,5])")
        .sample(name + "(i64[4])");
  }
  add_map(ops, "aten.signbit.default", {"self"}, Out::boolean,
          [](const MapCall& m, const Args& x) {
            if (is_float(m.type)) return m.b.op(ScalarOp::signbit, {x[0]});
            if (is_unsigned(m.type)) return m.b.pool().constant(0, DType::b8);
            return m.b.op(ScalarOp::lt, {x[0], m.number(0)});
          })
      .sample("aten.signbit.default(f32[4,5])")
      .sample("aten.signbit.default(i64[4])");
}

void add_logic(OpTable& ops) {
  struct Row {
    const char* name;
    ScalarOp op;
  };
  for (Row row :
       {Row{"logical_and", ScalarOp::land}, Row{"logical_or", ScalarOp::lor}, Row{"logical_xor", ScalarOp::lxor}}) {
    std::string name = format("aten.{}.default", row.name);
    add_map(ops, name, {"self", "other"}, Out::boolean,
            [op = row.op](const MapCall& m, const Args& x) {
              return m.b.op(op, {truth(m.b, x[0]), truth(m.b, x[1])});
            })
        .sample(name + "(bool[4], bool[4])")
        .sample(name + "(f32[4,5], i64[5])");
  }
  add_map(ops, "aten.logical_not.default", {"self"}, Out::boolean,
          [](const MapCall& m, const Args& x) { return m.b.op(ScalarOp::lnot, {truth(m.b, x[0])}); })
      .sample("aten.logical_not.default(bool[4])")
      .sample("aten.logical_not.default(f32[4])");

  struct Bits {
    std::vector<const char*> names;
    ScalarOp bits, logic;
  };
  const Bits rows[] = {{{"bitwise_and", "__and__"}, ScalarOp::band, ScalarOp::land},
                       {{"bitwise_or", "__or__"}, ScalarOp::bor, ScalarOp::lor},
                       {{"bitwise_xor", "__xor__"}, ScalarOp::bxor, ScalarOp::lxor}};
  for (const Bits& row : rows)
    for (const char* base : row.names)
      for (std::string form : {"Tensor", "Scalar", "Scalar_Tensor"}) {
        const bool number_first = form == "Scalar_Tensor";
        if (number_first && *base == '_') continue;
        std::string name = format("aten.{}.{}", base, form);
        add_map(ops, name, {"self", "other"}, Out::promoted,
                [row](const MapCall& m, const Args& x) -> Result<ExprId> {
                  if (is_float(m.type)) return fail(Kind::bad_graph, "`{}` of floats", m.call.op());
                  return m.b.op(is_bool(m.type) ? row.logic : row.bits, {x[0], x[1]});
                })
            .sample(name + (number_first       ? "(True, bool[4,5])"
                            : form == "Tensor" ? "(bool[4,5], bool[5])"
                                               : "(bool[4,5], True)"))
            .sample(name + (number_first       ? "(6, i32[4])"
                            : form == "Tensor" ? "(i64[4], i32[4])"
                                               : "(i64[4], 6)"));
      }
  add_map(
      ops, "aten.bitwise_not.default", {"self"}, Out::promoted,
      [](const MapCall& m, const Args& x) { return m.b.op(is_bool(m.type) ? ScalarOp::lnot : ScalarOp::bnot, {x[0]}); })
      .sample("aten.bitwise_not.default(bool[4])")
      .sample("aten.bitwise_not.default(i64[4])");
  for (Bits row : {Bits{{"bitwise_left_shift", "__lshift__"}, ScalarOp::shl, ScalarOp::shl},
                   Bits{{"bitwise_right_shift", "__rshift__"}, ScalarOp::shr, ScalarOp::shr}})
    for (const char* base : row.names)
      for (std::string form : {"Tensor", "Scalar", "Scalar_Tensor"}) {
        const bool number_first = form == "Scalar_Tensor";
        if (number_first && *base == '_') continue;
        std::string overload = form == "Scalar" && *base == 'b' ? "Tensor_Scalar" : form;
        std::string name = format("aten.{}.{}", base, overload);
        add_map(ops, name, {"self", "other"}, Out::promoted,
                [row](const MapCall& m, const Args& x) {
                  return m.b.op(row.bits, {x[0], x[1]});
                })
            .sample(name + (number_first       ? "(9, i64[4])"
                            : form == "Tensor" ? "(i64[4], i64[4])"
                                               : "(i64[4], 2)"));
      }
}

// where(condition, self, other): the condition has no part in the promotion but in the sizes.
void add_where(OpTable& ops) {
  for (const char* form : {"self", "ScalarOther", "ScalarSelf", "Scalar"}) {
    std::string name = format("aten.where.{}", form);
    auto row = [](const Call& call) -> Types {
      DType dtype = promoted(call, {"self", "other"});
      TD_TRY(TensorType type, pointwise_type(call, {"condition", "self", "other"}, dtype));
      return one(std::move(type));
    };
    OpRow& added = ops.add(name).infer(row).lower([row](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
      TD_TRY(auto types, row(call));
      DType dtype = types[0].dtype;
      LoopValue condition = b.convert(call.tensor("condition"), DType::b8);
      LoopValue x = b.broadcast(operand(b, call, "self", dtype), types[0].sizes);
      LoopValue y = b.broadcast(operand(b, call, "other", dtype), types[0].sizes);
      LoopValue c = b.broadcast(condition, types[0].sizes);
      LoopBuilder* p = &b;
      return b.from(dtype, types[0].sizes,
                    [p, c, x, y](const Index& i) { return p->where(c.at(i), x.at(i), y.at(i)); });
    });
    std::string f = form;
    added.sample(name + "(bool[4,5], " + (f == "self" || f == "ScalarOther" ? "f32[5]" : "1.5") + ", " +
                 (f == "self" || f == "ScalarSelf" ? "f32[4,1]" : "2.0") + ")");
  }
  // self where the mask is false, else value in self's type.
  for (const char* form : {"Scalar", "Tensor"}) {
    std::string name = format("aten.masked_fill.{}", form);
    ops.add(name)
        .infer([](const Call& call) -> Types {
          TD_TRY(SymList sizes, broadcast_sizes(call.type("self").sizes, call.type("mask").sizes));
          return one(contiguous_type(call, call.type("self").dtype, sizes));
        })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue self = call.tensor("self"), mask = b.convert(call.tensor("mask"), DType::b8);
          TD_TRY(SymList sizes, broadcast_sizes(self.sizes, mask.sizes));
          LoopValue value = b.broadcast(operand(b, call, "value", self.dtype), sizes);
          LoopValue x = b.broadcast(self, sizes), m = b.broadcast(mask, sizes);
          LoopBuilder* p = &b;
          return b.from(self.dtype, sizes,
                        [p, m, x, value](const Index& i) { return p->where(m.at(i), value.at(i), x.at(i)); });
        })
        .sample(name + "(f32[4,5], bool[5], " + (*form == 'S' ? "-1e9" : "f32[]") + ")")
        .sample(name + "(i64[4,5], bool[4,5], " + (*form == 'S' ? "2.5" : "f32[]") + ")");
  }
}

}  // namespace

void add_compare_ops(OpTable& ops) {
  add_comparisons(ops);
  add_logic(ops);
  add_where(ops);
}

}  // namespace toroid
