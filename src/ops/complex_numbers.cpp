// Complex numbers: made of parts, taken apart, conjugated.
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;
using Args = std::vector<ExprId>;

LoopValue each(LoopBuilder& b, const LoopValue& x, DType result, const std::function<ExprId(ExprId)>& f) {
  return b.from(result, x.sizes, [x, f](const Index& i) { return f(x.at(i)); });
}

void add_parts(OpTable& ops) {
  for (bool polar : {false, true})
    lowered(ops, polar ? "polar.default" : "complex.default",
            [polar](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              const char* first = polar ? "abs" : "real";
              const char* second = polar ? "angle" : "imag";
              LoopValue x = call.tensor(first), y = call.tensor(second);
              const DType part = promote(x.dtype, y.dtype), type = register_type(part);
              TD_TRY(SymList sizes, broadcast_sizes(x.sizes, y.sizes));
              LoopValue u = b.broadcast(x, sizes), v = b.broadcast(y, sizes);
              LoopBuilder* p = &b;
              return Values{b.from(complex_of_parts(part), sizes, [=](const Index& i) {
                ExprId r = p->cvt(u.at(i), type), a = p->cvt(v.at(i), type);
                if (!polar) return p->pool().pair(r, a);
                return p->pool().pair(p->mul(r, p->op(ScalarOp::cos, {a})), p->mul(r, p->op(ScalarOp::sin, {a})));
              })};
            })
        .sample(polar ? "aten.polar.default(f32[4,5], f32[4,5])" : "aten.complex.default(f32[4,5], f32[4,5])");
  lowered(
      ops, "view_as_real.default",
      [](LoopBuilder& b, const LowerCall& call) -> Result<Values> { return Values{b.parts_of(call.tensor("self"))}; })
      .view()
      .sample("aten.view_as_real.default(c64[4])");
  lowered(
      ops, "view_as_complex.default",
      [](LoopBuilder& b, const LowerCall& call) -> Result<Values> { return Values{b.complex_of(call.tensor("self"))}; })
      .view()
      .sample("aten.view_as_complex.default(f32[4,2])");
  for (bool imaginary : {false, true})
    lowered(ops, imaginary ? "imag.default" : "real.default",
            [imaginary](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue x = call.tensor("self");
              if (!is_complex(x.dtype)) return Values{x};
              LoopBuilder* p = &b;
              return Values{each(b, x, part_type(x.dtype),
                                 [=](ExprId z) { return imaginary ? p->pool().imag(z) : p->pool().real(z); })};
            })
        .view()
        .sample(imaginary ? "aten.imag.default(c64[4])" : "aten.real.default(c64[4])");
  for (const char* name : {"_conj", "conj", "_conj_physical", "conj_physical"}) {
    OpRow& row = lowered(ops, format("{}.default", name), [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      return Values{b.conjugate(call.tensor("self"))};
    });
    if (std::string(name).find("physical") == std::string::npos) row.view();
    row.sample(format("aten.{}.default(c64[4,5])", name));
  }
  // Of real numbers 0 or pi, NaN where they are.
  lowered(ops, "angle.default",
          [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
            LoopValue x = call.tensor("self");
            LoopBuilder* p = &b;
            if (is_complex(x.dtype)) {
              return Values{each(b, x, part_type(x.dtype), [p](ExprId z) {
                return p->op(ScalarOp::atan2, {p->pool().imag(z), p->pool().real(z)});
              })};
            }
            const DType result = float_dtype(x.dtype), type = register_type(result);
            return Values{each(b, x, result, [=](ExprId v) {
              v = p->cvt(v, type);
              ExprId half = p->where(p->op(ScalarOp::lt, {v, number_expr(*p, 0, type)}), number_expr(*p, M_PI, type),
                                     number_expr(*p, 0, type));
              return p->where(p->op(ScalarOp::isnan, {v}), v, half);
            })};
          })
      .sample("aten.angle.default(f32[4,5])")
      .sample("aten.angle.default(i64[4])");
  lowered(ops, "isreal.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue x = call.tensor("self");
    LoopBuilder* p = &b;
    return Values{each(b, x, DType::b8, [p](ExprId z) {
      if (!is_complex(p->type(z))) return p->pool().constant(1, DType::b8);
      ExprId im = p->pool().imag(z);
      return p->op(ScalarOp::eq, {im, number_expr(*p, 0, p->type(im))});
    })};
  }).sample("aten.isreal.default(f32[4,5])");
  compose(ops, "chalf.default", [](Compose& c) -> Composed {
    return c.to(c.tensor("self"), DType::c32);
  }).sample("aten.chalf.default(f32[4])");
}

}  // namespace

void add_complex_ops(OpTable& ops) { add_parts(ops); }

}  // namespace toroid
