// Resizing by tables of weights: with antialiasing, and the gradients of every resizing.
#include <cmath>

#include "ops/compose.h"
#include "ops/rules.h"
#include "ops/tap_table.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;

// The scale factors that a call names, first dim first.
std::vector<std::optional<double>> factors_of(const Call& call, size_t dims) {
  std::vector<std::optional<double>> factors(dims);
  if (call.schema().find_arg("scale_factors") >= 0) {
    if (!call.has("scale_factors")) return factors;
    const Arg& arg = call.arg("scale_factors");
    for (size_t d = 0; d < dims; ++d)
      factors[d] = std::holds_alternative<std::vector<double>>(arg)
                       ? std::get<std::vector<double>>(arg).at(d)
                       : static_cast<double>(std::get<SymList>(arg).at(d).value());
    return factors;
  }
  constexpr const char* names[] = {"scales_d", "scales_h", "scales_w"};
  for (size_t d = 0; d < dims; ++d) {
    const char* name = dims == 1 ? "scales" : names[3 - dims + d];
    if (call.has(name)) factors[d] = call.number(name);
  }
  return factors;
}

Status known_sizes(const Call& call, const SymList& sizes) {
  for (const Sym& size : sizes)
    if (!size.is_constant()) return fail(Kind::unsupported_op, "`{}` of a symbolic size", call.op());
  return {};
}

void add_antialiased(OpTable& ops) {
  for (bool cubic : {false, true})
    for (bool vec : {false, true}) {
      const std::string name = format("_upsample_{}2d_aa.{}", cubic ? "bicubic" : "bilinear", vec ? "vec" : "default");
      lowered(ops, name,
              [=](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
                LoopValue x = call.tensor(vec ? "input" : "self");
                const bool bytes = x.dtype == DType::u8;
                if (!is_float(x.dtype) && !bytes)
                  return fail(Kind::unsupported_op, "`{}` of {}", call.op(), dtype_name(x.dtype));
                TD_CHECK_OK(known_sizes(call, {x.sizes[2], x.sizes[3]}));
                const auto factors = factors_of(call, 2);
                LoopValue y = x;
                for (size_t d : {1u, 0u}) {
                  Resize r{.in = x.sizes[2 + d].value(), .factor = factors[d], .align = call.flag("align_corners")};
                  r.out = call.has("output_size")
                              ? call.integers("output_size", 2)[d].value()
                              : static_cast<int64_t>(std::floor(static_cast<double>(r.in) * factors[d].value_or(1)));
                  r.method = cubic ? Method::cubic : Method::linear;
                  r.antialias = true;
                  const TapTable table = tap_table(r, bytes ? DType::f64 : x.dtype);
                  y = (bytes ? bytes_by_table : by_table)(b, y, static_cast<int64_t>(2 + d), table);
                }
                return Values{b.convert(y, x.dtype)};
              })
          .sample("aten." + name + (vec ? "(u8[1,2,6,7], [3, 10], False, none)" : "(u8[1,2,6,7], [9, 3], False)"))
          .sample("aten." + name + (vec ? "(f32[1,2,6,7], [3, 10], False, none)" : "(f32[1,2,6,7], [3, 10], False)"));
    }
}

}  // namespace

void add_resample_gradient_ops(OpTable& ops) {
  add_antialiased(ops);
  struct Row {
    std::string name;
    size_t dims;
    Method method;
    bool antialias = false;
  };
  std::vector<Row> rows;
  for (size_t dims : {1u, 2u, 3u}) {
    rows.push_back({format("upsample_nearest{}d", dims), dims, Method::nearest});
    rows.push_back({format("_upsample_nearest_exact{}d", dims), dims, Method::exact});
    rows.push_back({dims == 1   ? "upsample_linear1d"
                    : dims == 2 ? "upsample_bilinear2d"
                                : "upsample_trilinear3d",
                    dims, Method::linear});
  }
  rows.push_back({"upsample_bicubic2d", 2, Method::cubic});
  rows.push_back({"_upsample_bilinear2d_aa", 2, Method::linear, true});
  rows.push_back({"_upsample_bicubic2d_aa", 2, Method::cubic, true});
  for (const Row& row : rows) {
    const std::string name = row.name + "_backward.default";
    OpRow& op = lowered(ops, name, [row](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
      LoopValue grad = call.tensor("grad_output");
      const SymList in = call.integers("input_size"), out = call.integers("output_size", row.dims);
      TD_CHECK_OK(known_sizes(call, SymList(in.begin() + 2, in.end())));
      TD_CHECK_OK(known_sizes(call, out));
      const auto factors = factors_of(call, row.dims);
      LoopValue y = grad;
      for (size_t d = row.dims; d-- > 0;) {
        Resize r{.in = in[2 + d].value(), .out = out[d].value(), .factor = factors[d]};
        r.align = call.schema().find_arg("align_corners") >= 0 && call.flag("align_corners");
        r.method = row.method;
        r.antialias = row.antialias;
        y = by_table(b, y, static_cast<int64_t>(2 + d), transposed(tap_table(r, grad.dtype), r.in));
      }
      return Values{b.convert(y, grad.dtype)};
    });
    const bool aligns = row.method == Method::linear || row.method == Method::cubic;
    const std::string grad = row.dims == 1 ? "f32[1,2,6]" : row.dims == 2 ? "f32[1,2,6,3]" : "f32[1,2,6,3,5]";
    const std::string out = row.dims == 1 ? "[6]" : row.dims == 2 ? "[6, 3]" : "[6, 3, 5]";
    const std::string in = row.dims == 1 ? "[1, 2, 4]" : row.dims == 2 ? "[1, 2, 4, 7]" : "[1, 2, 4, 7, 2]";
    op.sample(format("aten.{}({}, {}, {}{})", name, grad, out, in, aligns ? ", False" : ""));
    if (aligns) op.sample(format("aten.{}({}, {}, {}, True)", name, grad, out, in));
  }
}

}  // namespace toroid
