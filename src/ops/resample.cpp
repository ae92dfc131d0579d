// Upsampling: nearest, linear and cubic, from source coordinates in f32 as eager computes them.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/rules.h"
#include "ops/tap_table.h"

namespace toroid {

namespace {

struct Resample {
  size_t dims = 2;
  SymList in, out;
  std::vector<std::optional<double>> factor;  // the caller's scale factor, which then drives the coordinates
  bool align_corners = false;
  DType type = DType::f32;  // of the coordinates: f64 only for tensors of f64
};

Result<Resample> resample_of(const Call& call, size_t dims) {
  bool vec = call.op().ends_with(".vec");
  const SymList& x = call.type(vec ? "input" : "self").sizes;
  Resample r;
  r.dims = dims;
  r.in.assign(x.end() - static_cast<ptrdiff_t>(dims), x.end());
  r.factor.resize(dims);
  if (call.schema().find_arg("align_corners") >= 0) r.align_corners = call.flag("align_corners");
  if (vec && call.has("scale_factors")) {
    const Arg& arg = call.arg("scale_factors");
    std::vector<double> factors;
    if (auto list = std::get_if<std::vector<double>>(&arg)) factors = *list;
    if (auto list = std::get_if<SymList>(&arg))
      for (const Sym& s : *list) factors.push_back(static_cast<double>(s.value()));
    TD_CHECK(factors.size() == dims, "`{}`: {} scale factors", call.op(), factors.size());
    for (size_t d = 0; d < dims; ++d) r.factor[d] = factors[d];
  }
  constexpr const char* names[] = {"scales_d", "scales_h", "scales_w"};
  for (size_t d = 0; d < dims && !vec; ++d) {
    const char* name = dims == 1 ? "scales" : names[3 - dims + d];
    if (call.schema().find_arg(name) >= 0 && call.has(name)) r.factor[d] = call.number(name);
  }
  if (call.has("output_size")) {
    r.out = call.integers("output_size", dims);
    return r;
  }
  for (size_t d = 0; d < dims; ++d) {
    double factor = r.factor[d].value_or(1);
    if (r.in[d].is_constant())
      r.out.push_back(static_cast<int64_t>(std::floor(static_cast<double>(r.in[d].value()) * factor)));
    else if (factor == std::floor(factor))
      r.out.push_back(r.in[d] * static_cast<int64_t>(factor));
    else
      return fail(Kind::unsupported_op, "`{}`: a symbolic size times {}", call.op(), factor);
  }
  return r;
}

Types infer_resample(const Call& call, size_t dims) {
  TD_TRY(Resample r, resample_of(call, dims));
  const TensorType& x = call.type(call.op().ends_with(".vec") ? "input" : "self");
  SymList sizes = x.sizes;
  std::copy(r.out.begin(), r.out.end(), sizes.end() - static_cast<ptrdiff_t>(dims));
  TensorType out = contiguous_type(call, x.dtype, sizes);
  if (!is_contiguous(x)) out.strides = is_channels_last(x) && x.rank() == 4 ? channels_last_strides(sizes) : SymList{};
  return one(std::move(out));
}

// Source elements for one element of the result.
ExprId coordinate_scale(LoopBuilder& b, const Resample& r, size_t d) {
  if (r.align_corners) {
    ExprId top = b.cvt(b.index(r.in[d] - 1), r.type), bottom = b.cvt(b.index(sym_max(r.out[d] - 1, 1)), r.type);
    return is_one(r.out[d]) ? b.number(0, r.type) : b.div(top, bottom);
  }
  if (r.factor[d] && *r.factor[d] > 0)
    return b.number(r.type == DType::f64 ? 1.0 / *r.factor[d] : static_cast<float>(1.0 / *r.factor[d]), r.type);
  return b.div(b.cvt(b.index(r.in[d]), r.type), b.cvt(b.index(r.out[d]), r.type));
}

// The whole factor k for which floor(i * scale) is i // k for every i, so that the index stays plain arithmetic.
std::optional<int64_t> whole_factor(const Resample& r, size_t d) {
  double k = r.factor[d].value_or(0);
  if (!r.factor[d]) {
    if (proves_eq(r.in[d], r.out[d])) return 1;
    if (!r.in[d].is_constant() || !r.out[d].is_constant() || r.in[d].value() == 0) return std::nullopt;
    k = static_cast<double>(r.out[d].value()) / static_cast<double>(r.in[d].value());
  }
  if (k < 1 || k != std::floor(k)) return std::nullopt;
  int64_t whole = static_cast<int64_t>(k);
  if ((whole & (whole - 1)) == 0) return whole;
  if (!r.out[d].is_constant() || !r.in[d].is_constant()) return std::nullopt;
  float scale = r.factor[d] ? static_cast<float>(1.0 / k)
                            : static_cast<float>(r.in[d].value()) / static_cast<float>(r.out[d].value());
  for (int64_t i = 0; i < r.out[d].value(); ++i)
    if (static_cast<int64_t>(std::floor(static_cast<float>(i) * scale)) != i / whole) return std::nullopt;
  return whole;
}

ExprId nearest(LoopBuilder& b, const Resample& r, size_t d, ExprId i, bool exact) {
  if (auto k = exact ? std::nullopt : whole_factor(r, d))
    return *k == 1 ? i : b.op(ScalarOp::floordiv, {i, int_expr(b, *k)});
  ExprId at = b.cvt(i, DType::f32);
  if (exact) at = b.add(at, b.number(0.5, DType::f32));
  ExprId source = b.cvt(b.op(ScalarOp::floor, {b.mul(at, coordinate_scale(b, r, d))}), DType::i64);
  return b.op(ScalarOp::min, {source, b.index(r.in[d] - 1)});
}

// The source coordinate of element i; for linear it does not go below 0.
ExprId coordinate(LoopBuilder& b, const Resample& r, size_t d, ExprId i, bool cubic) {
  ExprId at = b.cvt(i, r.type), scale = coordinate_scale(b, r, d), half = b.number(0.5, r.type);
  if (r.align_corners) return b.mul(at, scale);
  ExprId source = b.sub(b.mul(b.add(at, half), scale), half);
  return cubic ? source : b.op(ScalarOp::max, {source, b.number(0, r.type)});
}

struct Tap {
  ExprId index, weight;
};

std::vector<Tap> linear_taps(LoopBuilder& b, const Resample& r, size_t d, ExprId i) {
  ExprId source = coordinate(b, r, d, i, false), last = b.index(r.in[d] - 1);
  ExprId low = b.op(ScalarOp::min, {b.cvt(source, DType::i64), last});
  ExprId high = b.op(ScalarOp::min, {b.add(low, int_expr(b, 1)), last});
  ExprId share = b.sub(source, b.cvt(low, r.type));
  share = b.op(ScalarOp::min, {b.op(ScalarOp::max, {share, b.number(0, r.type)}), b.number(1, r.type)});
  return {{low, b.sub(b.number(1, r.type), share)}, {high, share}};
}

// Keys' kernel with a = -0.75, taps clamped to the ends.
std::vector<Tap> cubic_taps(LoopBuilder& b, const Resample& r, size_t d, ExprId i) {
  auto num = [&](double v) { return b.number(v, r.type); };
  ExprId source = coordinate(b, r, d, i, true), floor = b.op(ScalarOp::floor, {source});
  ExprId t = b.sub(source, floor), base = b.cvt(floor, DType::i64), last = b.index(r.in[d] - 1);
  double a = -0.75;
  auto near = [&](ExprId x) {  // ((a+2) x - (a+3)) x^2 + 1
    return b.add(b.mul(b.mul(b.sub(b.mul(num(a + 2), x), num(a + 3)), x), x), num(1));
  };
  auto far = [&](ExprId x) {  // ((a x - 5a) x + 8a) x - 4a
    return b.sub(b.mul(b.add(b.mul(b.sub(b.mul(num(a), x), num(5 * a)), x), num(8 * a)), x), num(4 * a));
  };
  ExprId u = b.sub(num(1), t);
  ExprId weights[] = {far(b.add(t, num(1))), near(t), near(u), far(b.add(u, num(1)))};
  std::vector<Tap> taps;
  for (int k = 0; k < 4; ++k) {
    ExprId at = b.add(base, int_expr(b, k - 1));
    taps.push_back({b.op(ScalarOp::min, {b.op(ScalarOp::max, {at, int_expr(b, 0)}), last}), weights[k]});
  }
  return taps;
}

// The weighted sum over the taps of every dim, innermost dim first.
ExprId blend(LoopBuilder& b, const LoopValue& x, const std::vector<std::vector<Tap>>& taps, Index at, size_t d,
             size_t lead) {
  if (d == taps.size()) return b.cvt(x.at(at), register_type(x.dtype) == DType::f64 ? DType::f64 : DType::f32);
  std::optional<ExprId> total;
  for (const Tap& tap : taps[d]) {
    at[lead + d] = tap.index;
    ExprId part = b.mul(blend(b, x, taps, at, d + 1, lead), tap.weight);
    total = total ? b.add(*total, part) : part;
  }
  return *total;
}

Result<LoopValue> resampled_bytes(LoopBuilder& b, const LowerCall& call, const Resample& r, LoopValue x,
                                  Method method) {
  for (size_t d : {1u, 0u}) {
    if (!r.in[d].is_constant() || !r.out[d].is_constant())
      return fail(Kind::unsupported_op, "`{}` of bytes of a symbolic size", call.op());
    const Resize resize{.in = r.in[d].value(),
                        .out = r.out[d].value(),
                        .factor = r.factor[d],
                        .align = r.align_corners,
                        .method = method};
    x = bytes_by_table(b, x, x.rank() - 2 + static_cast<int64_t>(d), tap_table(resize, DType::f64));
  }
  return x;
}

OpRow& add_resample(OpTable& ops, const std::string& name, size_t dims, Method method, const std::string& sample) {
  return ops.add("aten." + name)
      .infer([dims](const Call& call) { return infer_resample(call, dims); })
      .lower([dims, method](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        TD_TRY(Resample r, resample_of(call, dims));
        LoopValue x = call.tensor(call.op().ends_with(".vec") ? "input" : "self");
        // Nearest neighbours are found in f32 for every type.
        if (x.dtype == DType::f64 && (method == Method::linear || method == Method::cubic)) r.type = DType::f64;
        SymList sizes = x.sizes;
        size_t lead = sizes.size() - dims;
        std::copy(r.out.begin(), r.out.end(), sizes.begin() + static_cast<ptrdiff_t>(lead));
        if (x.dtype == DType::u8 && dims == 2 && (method == Method::linear || method == Method::cubic))
          return resampled_bytes(b, call, r, x, method);
        LoopBuilder* p = &b;
        return b.from(x.dtype, sizes, [p, r, x, lead, method](const Index& i) {
          Index at = i;
          if (method == Method::nearest || method == Method::exact) {
            for (size_t d = 0; d < r.dims; ++d) at[lead + d] = nearest(*p, r, d, i[lead + d], method == Method::exact);
            return x.at(at);
          }
          std::vector<std::vector<Tap>> taps;
          for (size_t d = 0; d < r.dims; ++d)
            taps.push_back(method == Method::linear ? linear_taps(*p, r, d, i[lead + d])
                                                    : cubic_taps(*p, r, d, i[lead + d]));
          return p->cvt(blend(*p, x, taps, at, 0, lead), x.dtype);
        });
      })
      .sample("aten." + name + sample)
      .sample("aten." + name + replace_all(sample, "f32[", "f64["));
}

}  // namespace

void add_resample_ops(OpTable& ops) {
  for (size_t dims : {1u, 2u, 3u}) {
    std::string x = dims == 1 ? "f32[1,2,4]" : dims == 2 ? "f32[1,2,4,3]" : "f32[1,2,3,4,3]";
    std::string out = dims == 1 ? "[8]" : dims == 2 ? "[8, 5]" : "[6, 5, 3]";
    std::string factors = dims == 1 ? "[1.6]" : dims == 2 ? "[2.0, 1.6]" : "[2.0, 1.6, 1.0]";
    for (const char* exact : {"", "_exact"}) {
      std::string base = format("{}upsample_nearest{}{}d", *exact ? "_" : "", exact, dims);
      Method method = *exact ? Method::exact : Method::nearest;
      add_resample(ops, base + ".vec", dims, method, format("({}, none, {})", x, factors));
      add_resample(ops, base + ".default", dims, method, format("({}, {})", x, out));
    }
    std::string linear = dims == 1 ? "upsample_linear1d" : dims == 2 ? "upsample_bilinear2d" : "upsample_trilinear3d";
    add_resample(ops, linear + ".vec", dims, Method::linear, format("({}, {}, False, none)", x, out));
    OpRow& row = add_resample(ops, linear + ".default", dims, Method::linear, format("({}, {}, True)", x, out));
    if (dims == 2)
      row.sample("aten.upsample_bilinear2d.default(u8[1,2,4,9], [8, 5], True)")
          .sample("aten.upsample_bilinear2d.default(u8[1,2,4,9], [8, 5], False)");
  }
  add_resample(ops, "upsample_bicubic2d.vec", 2, Method::cubic, "(f32[1,2,4,3], [8, 5], False, none)");
  add_resample(ops, "upsample_bicubic2d.default", 2, Method::cubic, "(f32[1,2,4,3], [8, 5], True)")
      .sample("aten.upsample_bicubic2d.default(u8[1,2,4,9], [8, 5], True)")
      .sample("aten.upsample_bicubic2d.default(u8[1,2,4,9], [8, 5], False)");
}

}  // namespace toroid
