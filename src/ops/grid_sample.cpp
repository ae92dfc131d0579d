// Reading an image at computed coordinates: grid sampling in two and three dims, and resizing with antialiasing.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"
#include "ops/scattered.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;

// Coordinates along one dim of size n, in f32 or f64.
struct Axis {
  LoopBuilder* p;
  DType type;
  Sym n;
  int64_t padding;  // 0 zeros, 1 border, 2 reflection
  bool align;

  ExprId num(double v) const { return number_expr(*p, v, type); }
  ExprId size() const { return p->cvt(p->index(n), type); }
  ExprId op(ScalarOp o, ExprId a, ExprId b) const { return p->op(o, {a, b}); }
  // From [-1, 1] to elements.
  ExprId unnormalised(ExprId g) const {
    ExprId up = p->add(g, num(1));
    if (align) return p->mul(p->mul(up, num(0.5)), p->sub(size(), num(1)));
    return p->mul(p->sub(p->mul(up, size()), num(1)), num(0.5));
  }
  ExprId clipped(ExprId x) const {
    // A NaN goes to the border, too.
    return op(ScalarOp::fmin, op(ScalarOp::fmax, x, num(0)), p->sub(size(), num(1)));
  }
  ExprId reflected(ExprId x) const {
    ExprId low = num(align ? 0 : -0.5), span = align ? p->sub(size(), num(1)) : size();
    ExprId in = p->op(ScalarOp::abs, {p->sub(x, low)});
    ExprId flips = p->op(ScalarOp::floor, {p->div(in, span)}), extra = op(ScalarOp::fmod, in, span);
    ExprId even = op(ScalarOp::eq, op(ScalarOp::fmod, flips, num(2)), num(0));
    ExprId y = p->where(even, p->add(extra, low), p->add(p->sub(span, extra), low));
    return p->where(op(ScalarOp::le, span, num(0)), num(0), y);
  }
  ExprId padded(ExprId x) const {
    if (padding == 1) return clipped(x);
    return padding == 2 ? clipped(reflected(x)) : x;
  }
};

// An element's place along one dim and its weight; a place outside counts as 0.
struct Tap {
  ExprId place, weight;
};

std::vector<Tap> taps_of(const Axis& a, ExprId g, int64_t mode) {
  LoopBuilder& b = *a.p;
  ExprId x = a.unnormalised(g);
  auto whole = [&](ExprId v) { return b.cvt(v, DType::i64); };
  if (mode == 1) return {{whole(b.op(ScalarOp::round, {a.padded(x)})), a.num(1)}};
  if (mode == 0) {
    x = a.padded(x);
    ExprId low = b.op(ScalarOp::floor, {x}), t = b.sub(x, low);
    return {{whole(low), b.sub(a.num(1), t)}, {whole(b.add(low, a.num(1))), t}};
  }
  // Keys' cubic with a = -0.75; each of the four places is padded by itself.
  ExprId low = b.op(ScalarOp::floor, {x}), t = b.sub(x, low);
  const double k = -0.75;
  auto near = [&](ExprId v) {
    return b.add(b.mul(b.mul(b.sub(b.mul(a.num(k + 2), v), a.num(k + 3)), v), v), a.num(1));
  };
  auto far = [&](ExprId v) {
    ExprId inner = b.sub(b.mul(a.num(k), v), a.num(5 * k));
    return b.sub(b.mul(b.add(b.mul(inner, v), a.num(8 * k)), v), a.num(4 * k));
  };
  ExprId u = b.sub(a.num(1), t);
  ExprId weights[] = {far(b.add(t, a.num(1))), near(t), near(u), far(b.add(u, a.num(1)))};
  std::vector<Tap> taps;
  for (int i = 0; i < 4; ++i) taps.push_back({whole(a.padded(b.add(low, a.num(i - 1)))), weights[i]});
  return taps;
}

Result<Values> grid_sample(LoopBuilder& b, const LowerCall& call) {
  LoopValue x = call.tensor("input"), grid = call.tensor("grid");
  const size_t dims = x.sizes.size() - 2;
  const int64_t mode = call.constant("interpolation_mode"), padding = call.constant("padding_mode");
  if (mode == 2 && dims != 2) return fail(Kind::unsupported_op, "`{}`: cubic in three dims", call.op());
  const bool align = call.flag("align_corners");
  const DType type = register_type(x.dtype);
  LoopBuilder* p = &b;
  SymList sizes{x.sizes[0], x.sizes[1]};
  sizes.insert(sizes.end(), grid.sizes.begin() + 1, grid.sizes.end() - 1);
  return Values{b.from(x.dtype, sizes, [=](const Index& i) {
    std::vector<std::vector<Tap>> taps;
    for (size_t d = 0; d < dims; ++d) {
      Index gi{i[0]};
      gi.insert(gi.end(), i.begin() + 2, i.end());
      // The grid names the last dim first.
      gi.push_back(int_expr(*p, static_cast<int64_t>(dims - 1 - d)));
      const Axis axis{p, type, x.sizes[2 + d], padding, align};
      taps.push_back(taps_of(axis, p->cvt(grid.at(gi), type), mode));
    }
    std::vector<size_t> at(dims, 0);
    ExprId sum;
    for (;;) {
      Index xi{i[0], i[1]};
      std::vector<ExprId> inside;
      ExprId weight;
      for (size_t d = 0; d < dims; ++d) {
        const Tap& tap = taps[d][at[d]];
        inside.push_back(p->op(ScalarOp::le, {int_expr(*p, 0), tap.place}));
        inside.push_back(p->op(ScalarOp::lt, {tap.place, p->index(x.sizes[2 + d])}));
        xi.push_back(tap.place);
        weight = weight.valid() ? p->mul(weight, tap.weight) : tap.weight;
      }
      ExprId value = p->where(all_of(*p, inside), p->cvt(x.at(xi), type), number_expr(*p, 0, type));
      ExprId term = mode == 1 ? value : p->mul(value, weight);
      sum = sum.valid() ? p->add(sum, term) : term;
      size_t d = 0;
      while (d < dims && ++at[d] == taps[d].size()) at[d++] = 0;
      if (d == dims) break;
    }
    return sum;
  })};
}

// ------------------------------------------------------------------------------------------------------ antialiasing

double filter(double x, bool cubic) {
  x = std::fabs(x);
  if (!cubic) return x < 1 ? 1 - x : 0;
  const double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// One dim resized: each element a weighted mean of those that its widened filter covers.
LoopValue resized(LoopBuilder& b, const LoopValue& x, int64_t dim, int64_t out, std::optional<double> factor,
                  bool align, bool cubic) {
  const size_t d = static_cast<size_t>(dim);
  const int64_t in = x.sizes[d].value();
  const double n = static_cast<double>(in), m = static_cast<double>(out);
  const double scale = align ? (out > 1 ? (n - 1) / (m - 1) : 0) : factor && *factor > 0 ? 1 / *factor : n / m;
  const double wide = std::max(scale, 1.0), support = (cubic ? 2 : 1) * wide;
  std::vector<int64_t> starts;
  std::vector<std::vector<double>> weights;
  size_t most = 1;
  for (int64_t i = 0; i < out; ++i) {
    const double center = scale * (static_cast<double>(i) + 0.5);
    const int64_t low = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t high = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), in);
    std::vector<double> row;
    double total = 0;
    for (int64_t j = low; j < high; ++j)
      total += row.emplace_back(filter((static_cast<double>(j) - center + 0.5) / wide, cubic));
    for (double& w : row) w = total != 0 ? w / total : w;
    starts.push_back(std::min(low, in - 1));
    weights.push_back(row);
    most = std::max(most, row.size());
  }
  LoopBuilder* p = &b;
  const DType type = register_type(x.dtype);
  // Tables as constants, one element after another.
  auto table = [&](DType dtype, size_t columns, auto number) {
    LoopTensor t;
    t.name = format("table{}", b.loops().tensors.size());
    t.kind = TensorKind::constant;
    t.dtype = dtype;
    t.sizes = {out, static_cast<int64_t>(columns)};
    t.strides = contiguous_strides(t.sizes);
    const auto bytes = static_cast<size_t>(dtype_bytes(dtype));
    t.data.resize(static_cast<size_t>(out) * columns * bytes);
    for (size_t i = 0; i < static_cast<size_t>(out); ++i)
      for (size_t j = 0; j < columns; ++j) number(i, j, &t.data[(i * columns + j) * bytes]);
    return b.read(b.loops().add(std::move(t)));
  };
  LoopValue first = table(DType::i64, 1, [&](size_t i, size_t, std::byte* to) { std::memcpy(to, &starts[i], 8); });
  LoopValue weight = table(type, most, [&](size_t i, size_t j, std::byte* to) {
    const double w = j < weights[i].size() ? weights[i][j] : 0;
    const float single = static_cast<float>(w);
    if (type == DType::f64)
      std::memcpy(to, &w, 8);
    else
      std::memcpy(to, &single, 4);
  });
  SymList sizes = x.sizes;
  sizes[d] = out;
  const Sym taps = static_cast<int64_t>(most);
  SymList all = sizes;
  all.push_back(taps);
  LoopValue terms = b.from(type, all, [=](const Index& i) {
    Index xi(i.begin(), i.end() - 1);
    ExprId place = p->add(first.at({i[d], int_expr(*p, 0)}), i.back());
    xi[d] = p->op(ScalarOp::min, {place, int_expr(*p, in - 1)});
    return p->mul(p->cvt(x.at(xi), type), weight.at({i[d], i.back()}));
  });
  return b.reduce(ReduceOp::sum, terms, {static_cast<int64_t>(all.size()) - 1}, false, type, type,
                  format(".axis{}", dim));
}

void add_antialiased(OpTable& ops) {
  for (bool cubic : {false, true})
    for (bool vec : {false, true}) {
      const std::string name = format("_upsample_{}2d_aa.{}", cubic ? "bicubic" : "bilinear", vec ? "vec" : "default");
      lowered(ops, name, [=](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
        LoopValue x = call.tensor(vec ? "input" : "self");
        if (!is_float(x.dtype)) return fail(Kind::unsupported_op, "`{}` of {}", call.op(), dtype_name(x.dtype));
        if (!x.sizes[2].is_constant() || !x.sizes[3].is_constant())
          return fail(Kind::unsupported_op, "`{}` of a symbolic size", call.op());
        std::optional<double> factors[2];
        if (vec && call.has("scale_factors")) {
          const Arg& arg = call.arg("scale_factors");
          for (size_t d = 0; d < 2; ++d)
            factors[d] = std::holds_alternative<std::vector<double>>(arg)
                             ? std::get<std::vector<double>>(arg).at(d)
                             : static_cast<double>(std::get<SymList>(arg).at(d).value());
        }
        if (!vec && call.has("scales_h")) factors[0] = call.number("scales_h");
        if (!vec && call.has("scales_w")) factors[1] = call.number("scales_w");
        int64_t out[2];
        for (size_t d = 0; d < 2; ++d)
          out[d] = call.has("output_size") ? call.integers("output_size", 2)[d].value()
                                           : static_cast<int64_t>(std::floor(
                                                 static_cast<double>(x.sizes[2 + d].value()) * factors[d].value_or(1)));
        const bool align = call.flag("align_corners");
        LoopValue y = resized(b, x, 3, out[1], factors[1], align, cubic);
        return Values{b.convert(resized(b, y, 2, out[0], factors[0], align, cubic), x.dtype)};
      }).sample("aten." + name + (vec ? "(f32[1,2,6,7], [3, 10], False, none)" : "(f32[1,2,6,7], [3, 10], False)"));
    }
}

}  // namespace

void add_grid_ops(OpTable& ops) {
  for (const char* name : {"grid_sampler", "grid_sampler_2d", "grid_sampler_3d"}) {
    OpRow& row = lowered(ops, format("{}.default", name), grid_sample);
    if (std::string(name) == "grid_sampler_3d")
      row.sample("aten.grid_sampler_3d.default(f32[1,2,3,4,5], f32[1,2,3,2,3], 0, 1, False)");
    else
      for (const char* modes : {"0, 0, False", "1, 1, True", "2, 2, False", "0, 2, True"})
        row.sample(format("aten.{}.default(f32[1,2,4,5], f32[1,3,2,2], {})", name, modes));
  }
  add_antialiased(ops);
}

}  // namespace toroid
