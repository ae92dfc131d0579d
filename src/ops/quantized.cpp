// Integer layers: quantising and back (`quantized_decomposed`, what PyTorch's quantisation leaves in exported
// programs), parameters chosen at run time, products of 8-bit integers, and products whose rows choose their matrix.
#include "ops/quantized.h"

#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {
namespace {

using Values = std::vector<LoopValue>;
using Args = std::vector<ExprId>;

// One element, as a 0-d value: a number argument or a tensor of one element.
LoopValue single(Compose& c, const char* name, DType dtype) {
  if (is_tensor(c.call, name)) return c.b.reshape(c.tensor(name), {});
  return scalar_value(c.b, c.call.scalar(c.b, name, dtype), dtype);
}

LoopValue in_float(Compose& c, const LoopValue& x) {
  return x.dtype == DType::bf16 || x.dtype == DType::f16 ? c.to(x, DType::f32) : x;
}

// round(x / scale) + zero_point, limited. The reciprocal of a scale is taken in f64, as Python's number or item() is.
LoopValue quantized(Compose& c) {
  LoopBuilder* b = &c.b;
  LoopValue x = in_float(c, c.tensor("input"));
  const DType result = *c.call.dtype("dtype");
  LoopValue inverse = map1(*b, single(c, "scale", DType::f64), DType::f64, DType::f64,
                           [b](ExprId s) { return b->div(b->number(1, DType::f64), s); });
  LoopValue zero = single(c, "zero_point", DType::i64), low = single(c, "quant_min", DType::i64),
            high = single(c, "quant_max", DType::i64);
  return b->map({x, inverse, zero, low, high}, x.sizes, DType::f32, result, [=](const Args& v) {
    ExprId q = b->add(b->op(ScalarOp::round, {b->mul(v[0], v[1])}), v[2]);
    return b->cvt(min_expr(*b, max_expr(*b, q, v[3]), v[4]), result);
  });
}

LoopValue dequantized(Compose& c) {
  const DType result = c.call.has("out_dtype") ? *c.call.dtype("out_dtype") : DType::f32;
  LoopValue x = c.tensor("input"), scale = single(c, "scale", DType::f64), zero = single(c, "zero_point", DType::i64);
  // Every operation rounds to a low-precision result.
  x = c.to(x, result);
  return c.mul(c.sub(x, c.to(zero, result)), c.to(scale, result));
}

// A parameter of each index of `axis`, so that it broadcasts.
LoopValue along(Compose& c, const LoopValue& x, const LoopValue& parameter) {
  SymList sizes(x.sizes.size(), Sym(1));
  sizes.at(static_cast<size_t>(c.call.dim("axis", x.rank()))) = parameter.sizes.at(0);
  return c.b.reshape(parameter, sizes);
}

LoopValue limited(Compose& c, const LoopValue& x) { return c("clamp.default", {x, c["quant_min"], c["quant_max"]}); }

LoopValue quantized_per_channel(Compose& c) {
  LoopValue x = in_float(c, c.tensor("input"));
  LoopValue inverse = c("reciprocal.default", {along(c, x, c.tensor("scales"))});
  LoopValue q = c.add(c("round.default", {c.mul(x, inverse)}), along(c, x, c.tensor("zero_points")));
  return c.to(limited(c, q), *c.call.dtype("dtype"));
}

LoopValue dequantized_per_channel(Compose& c) {
  LoopValue x = c.tensor("input"), scales = along(c, x, c.tensor("scales"));
  if (is_tensor(c.call, "zero_points")) x = c.sub(x, along(c, x, c.tensor("zero_points")));
  return c.to(c.mul(x, scales), c.call.has("out_dtype") ? *c.call.dtype("out_dtype") : DType::f32);
}

// Rows (tokens), or runs of a row: the zero point is added before rounding.
LoopValue quantized_rows(Compose& c, const LoopValue& x, const LoopValue& scales, const LoopValue& zeros) {
  LoopValue q = c("round.default", {c.add(c.mul(x, c("reciprocal.default", {scales})), zeros)});
  return c.to(limited(c, q), *c.call.dtype("dtype"));
}

// x as rows of group_size elements.
LoopValue grouped(Compose& c, const LoopValue& x, const LoopValue& scales) {
  Sym size = c.call.integer("group_size");
  if (is_one(scales.sizes.back()) && proves_lt(x.sizes.back(), size)) size = x.sizes.back();
  return c("reshape.default", {x, SymList{-1, size}});
}
LoopValue column(Compose& c, const LoopValue& x) { return c("reshape.default", {x, SymList{-1, 1}}); }

void add_quantizing(OpTable& ops) {
  const std::string space = "quantized_decomposed.";
  for (const char* form : {"default", "tensor"}) {
    OpRow& to =
        compose(ops, space + "quantize_per_tensor." + form, [](Compose& c) -> Composed { return quantized(c); });
    OpRow& from =
        compose(ops, space + "dequantize_per_tensor." + form, [](Compose& c) -> Composed { return dequantized(c); });
    if (std::string_view(form) == "default") {
      to.sample("quantized_decomposed.quantize_per_tensor.default(f32[4,5], 0.02, 3, -128, 127, i8)")
          .sample("quantized_decomposed.quantize_per_tensor.default(f32[4,5], 0.013, 128, 0, 255, u8)");
      from.sample("quantized_decomposed.dequantize_per_tensor.default(i8[4,5], 0.02, 3, -128, 127, i8)");
    } else {
      to.sample("quantized_decomposed.quantize_per_tensor.tensor(f32[4,5], f64[1], i64[1], -128, 127, i8)");
      from.sample("quantized_decomposed.dequantize_per_tensor.tensor(i8[4,5], f64[1], i64[1], -128, 127, i8)");
    }
  }
  compose(ops, space + "quantize_per_channel.default", [](Compose& c) -> Composed {
    return quantized_per_channel(c);
  }).sample("quantized_decomposed.quantize_per_channel.default(f32[4,5], f32[4], i64[4], 0, -128, 127, i8)");
  compose(ops, space + "dequantize_per_channel.default", [](Compose& c) -> Composed {
    return dequantized_per_channel(c);
  }).sample("quantized_decomposed.dequantize_per_channel.default(i8[4,5], f32[5], i64[5], 1, -128, 127, i8)");
  compose(ops, space + "quantize_per_token.default", [](Compose& c) -> Composed {
    return quantized_rows(c, c.tensor("input"), c.tensor("scales"), c.tensor("zero_points"));
  }).sample("quantized_decomposed.quantize_per_token.default(f32[4,5], f32[4,1], i64[4,1], -128, 127, i8)");
  compose(ops, space + "dequantize_per_token.default", [](Compose& c) -> Composed {
    return c.to(c.mul(c.sub(c["input"], c["zero_points"]), c["scales"]), *c.call.dtype("output_dtype"));
  }).sample("quantized_decomposed.dequantize_per_token.default(i8[4,5], f32[4,1], i64[4,1], -128, 127, i8, f32)");
  compose(ops, space + "quantize_per_channel_group.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("input"), scales = c.tensor("scales");
    LoopValue q = quantized_rows(c, grouped(c, x, scales), column(c, scales), column(c, c.tensor("zero_points")));
    return c.b.reshape(q, x.sizes);
  }).sample("quantized_decomposed.quantize_per_channel_group.default(f32[4,6], f32[4,2], i64[4,2], -128, 127, i8, 3)");
  compose(ops, space + "dequantize_per_channel_group.default",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("input"), scales = c.tensor("scales"), rows = grouped(c, x, scales);
            if (is_tensor(c.call, "zero_points")) rows = c.sub(rows, column(c, c.tensor("zero_points")));
            return c.to(c.b.reshape(c.mul(rows, column(c, scales)), x.sizes), *c.call.dtype("output_dtype"));
          })
      .sample(
          "quantized_decomposed.dequantize_per_channel_group.default(i8[4,6], f32[4,2], i64[4,2], -128, 127, i8, 3, "
          "f32)");
  compose(ops, space + "convert_element_type.no_fuse", [](Compose& c) -> Composed {
    return c.to(c.tensor("input"), *c.call.dtype("dtype"));
  }).sample("quantized_decomposed.convert_element_type.no_fuse(f32[4,5], bf16)");
}

// Scale and zero point from what a tensor, or each row, reaches; 0 is always within.
void add_choosing(OpTable& ops) {
  const std::string space = "quantized_decomposed.";
  for (bool symmetric : {false, true}) {
    const char* name = symmetric ? "choose_qparams_symmetric.tensor" : "choose_qparams.tensor";
    OpRow& row = compose(ops, space + name, [symmetric](Compose& c) -> Composed {
      LoopBuilder* b = &c.b;
      LoopValue x = c.tensor("input");
      LoopValue low = c("reshape.default", {c("amin.default", {x}), SymList{1}}),
                high = c("reshape.default", {c("amax.default", {x}), SymList{1}});
      low = c("clamp.default", {low, None{}, 0});
      high = c("clamp.default", {high, 0});
      const Sym first = c.call.integer("quant_min"), last = c.call.integer("quant_max");
      auto span = (last - first).constant();
      if (!span) c.refuse("limits that are not known");
      LoopValue eps = b->full({1}, b->number(c.call.number("eps"), DType::f32), DType::f32);
      auto scale_of = [&](const LoopValue& reach, double steps) {
        return c("maximum.default", {c("div.Scalar", {reach, steps}), eps});
      };
      if (symmetric) {
        LoopValue scale =
            scale_of(c("maximum.default", {c("neg.default", {low}), high}), static_cast<double>(*span) / 2);
        const int64_t middle = *c.call.dtype("dtype") == DType::u8 ? 128 : 0;
        return Values{c.to(scale, DType::f64), b->full({1}, int_expr(*b, middle), DType::i64)};
      }
      LoopValue scale = scale_of(c.sub(high, low), static_cast<double>(*span));
      LoopValue steps = c.to(c("round.default", {c.div(low, scale)}), DType::i32);
      LoopValue zero = c("clamp.default", {c("rsub.Scalar", {steps, first}), first, last});
      return Values{c.to(scale, DType::f64), c.to(zero, DType::i64)};
    });
    row.sample(format("quantized_decomposed.{}(f32[4,5], -128, 127, 1e-06, i8)", name));
  }
  compose(ops, space + "choose_qparams_per_token.default", [](Compose& c) -> Composed {
    if (*c.call.dtype("dtype") != DType::i8) c.refuse("another type than int8");
    LoopValue reach = c("amax.default", {c("abs.default", {c["input"]}), SymList{-1}, true});
    if (reach.dtype == DType::f16) reach = c.to(reach, DType::f32);
    LoopValue scale = c("div.Scalar", {c("clamp.default", {reach, 1e-5}), 127});
    return Values{scale, c.b.full(scale.sizes, number_expr(c.b, 0, scale.dtype), scale.dtype)};
  }).sample("quantized_decomposed.choose_qparams_per_token.default(f32[4,5], i8)");
  for (const char* name : {"choose_qparams_per_token_asymmetric", "_choose_qparams_per_token_asymmetric_impl"})
    compose(ops, space + name + ".default", [](Compose& c) -> Composed {
      LoopValue low = c("clamp.default", {c("amin.default", {c["input"], SymList{-1}, true}), None{}, 0});
      LoopValue high = c("clamp.default", {c("amax.default", {c["input"], SymList{-1}, true}), 0});
      LoopValue scale = c("clamp.default", {c("div.Scalar", {c.sub(high, low), 255.0}), 1.1920928955078125e-07});
      LoopValue a = c.div(low, scale), b = c.div(high, scale);
      // Whichever end the rounding of its zero point moves less.
      LoopValue sum = c.add(c("add.Scalar", {a, -128}), c("add.Scalar", {b, 127}));
      LoopValue zero =
          c("where.self", {c("gt.Scalar", {sum, 0}), c("rsub.Scalar", {a, -128}), c("rsub.Scalar", {b, 127})});
      zero = c("round.default", {c("clamp.default", {zero, -128, 127})});
      return Values{c.to(scale, DType::f64), c.to(zero, DType::i64)};
    }).sample(format("quantized_decomposed.{}.default(f32[4,5], i8)", name));
}

void add_products(OpTable& ops) {
  compose(ops, "_int_mm.default", [](Compose& c) -> Composed {
    LoopBuilder* b = &c.b;
    LoopValue x = c.to(c.tensor("self"), DType::i32), w = c.to(c.tensor("mat2"), DType::i32);
    return b->contract(
        DType::i32, {x.sizes[0], w.sizes[1]}, {x.sizes[1]},
        [=](const Index& o, const Index& k) {
          return b->mul(x.at({o[0], k[0]}), w.at({k[0], o[1]}));
        },
        "");
  }).sample("aten._int_mm.default(i8[20,8], i8[8,16])");
  compose(ops, "_weight_int8pack_mm.default", [](Compose& c) -> Composed {
    LoopBuilder* b = &c.b;
    LoopValue x = c.tensor("self"), w = c.to(c.tensor("mat2"), DType::f32), scales = c.tensor("scales");
    LoopValue y = matmul_nt(*b, c.to(x, DType::f32), w, nullptr, DType::f32);
    return b->map({y, scales}, y.sizes, DType::f32, x.dtype,
                  [=](const Args& v) { return b->cvt(b->mul(v[0], v[1]), x.dtype); });
  }).sample("aten._weight_int8pack_mm.default(f32[4,32], i8[16,32], f32[16])");

  // Row s of x [s, k] times the matrix of its group: w[g, k, n], g the number of ends at or before s. Rows behind the
  // last end are 0.
  auto by_groups = [](Compose& c, const LoopValue& x, const LoopValue& w, const LoopValue& ends,
                      DType result) -> LoopValue {
    LoopBuilder* b = &c.b;
    const Sym rows = x.sizes[0], groups = w.sizes[0];
    LoopValue ended = b->from(DType::i64, {rows, groups}, [=](const Index& i) {
      return b->cvt(b->op(ScalarOp::le, {b->cvt(ends.at({i[1]}), DType::i64), i[0]}), DType::i64);
    });
    LoopValue group = b->reduce(ReduceOp::sum, ended, {1}, false, DType::i64, DType::i64, ".group");
    const DType acc = accumulate_type(x.dtype);
    LoopValue y = b->contract(
        acc, {rows, w.sizes[2]}, {x.sizes[1]},
        [=](const Index& o, const Index& k) {
          ExprId g = min_expr(*b, group.at({o[0]}), b->index(groups - 1));
          return b->mul(x.at({o[0], k[0]}), w.at({g, k[0], o[1]}));
        },
        "");
    LoopValue own = b->unsqueeze(group, 1);
    return b->map({y, b->from(DType::b8, {rows, 1},
                              [=](const Index& i) {
                                return b->op(ScalarOp::lt, {own.at({i[0], i[1]}), b->index(groups)});
                              })},
                  y.sizes, acc, result,
                  [=](const Args& v) { return b->cvt(b->where(truth(*b, v[1]), v[0], b->number(0, acc)), result); });
  };
  compose(ops, "transformers.grouped_mm_fallback.default", [by_groups](Compose& c) -> Composed {
    LoopValue x = c.tensor("input");
    return by_groups(c, x, c.tensor("weight"), c.tensor("offs"), x.dtype);
  });
  compose(ops, "_grouped_mm.default", [by_groups](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), w = c.tensor("mat2");
    if (is_tensor(c.call, "bias")) c.refuse("a bias");
    const DType result = c.call.has("out_dtype") ? *c.call.dtype("out_dtype") : x.dtype;
    if (x.rank() == 3 && w.rank() == 3) return matmul(c.b, x, w, result);
    if (x.rank() != 2 || w.rank() != 3) c.refuse("groups that are not of rows");
    return by_groups(c, x, w, c.tensor("offs"), result);
  }).sample("aten._grouped_mm.default(bf16[3,16,8], bf16[3,8,16])");
}

// Quantised and back at once, by the reciprocal of the scale; the count of steps is whole before it is limited.
LoopValue quantized_and_back(Compose& c, const LoopValue& scale, const LoopValue& zero) {
  LoopBuilder* b = &c.b;
  LoopValue x = c.tensor("self");
  if (x.dtype != DType::f32 || is_float(zero.dtype)) c.refuse("other than f32 with whole zero points");
  const int64_t low = c.call.constant("quant_min"), high = c.call.constant("quant_max");
  return b->map({x, c.to(scale, DType::f32), c.to(zero, DType::f32)}, x.sizes, DType::f32, x.dtype, [=](const Args& v) {
    const ExprId steps = b->op(ScalarOp::round, {b->mul(v[0], b->div(b->number(1, DType::f32), v[1]))});
    ExprId q = b->cvt(b->add(steps, v[2]), DType::i64);
    q = b->op(ScalarOp::min, {b->op(ScalarOp::max, {q, b->index(low)}), b->index(high)});
    return b->mul(b->sub(b->cvt(q, DType::f32), v[2]), v[1]);
  });
}

void add_faking(OpTable& ops) {
  for (const char* form : {"default", "tensor_qparams"})
    compose(ops, format("fake_quantize_per_tensor_affine.{}", form),
            [](Compose& c) -> Composed {
              const DType whole = is_tensor(c.call, "zero_point") ? c.call.type("zero_point").dtype : DType::i64;
              return quantized_and_back(c, single(c, "scale", DType::f32), single(c, "zero_point", whole));
            })
        .sample(format("aten.fake_quantize_per_tensor_affine.{}({}, 0, 255)", form,
                       *form == 'd' ? "f32[4,5], 0.0125, 3" : "f32[4,5], f32[1], i32[1]"));
  compose(ops, "fake_quantize_per_channel_affine.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self");
    return quantized_and_back(c, along(c, x, c.tensor("scale")), along(c, x, c.tensor("zero_point")));
  }).sample("aten.fake_quantize_per_channel_affine.default(f32[4,5], f32[5], i32[5], 1, -128, 127)");
}

}  // namespace

void add_quantized_ops(OpTable& ops) {
  add_faking(ops);
  add_quantizing(ops);
  add_choosing(ops);
  add_products(ops);
}

}  // namespace toroid
