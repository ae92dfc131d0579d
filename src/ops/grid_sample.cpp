// Reading an image at computed coordinates: grid sampling in two and three dims.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"
#include "ops/scattered.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;

// Coordinates along one dim of size n, in f32 or f64.
struct GridAxis {
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
  // How fast the padded place moves with the coordinate: 0 where it is clipped, -1 where it is reflected.
  ExprId clipped_slope(ExprId x) const {
    ExprId inside = p->op(ScalarOp::land, {op(ScalarOp::gt, x, num(0)), op(ScalarOp::lt, x, p->sub(size(), num(1)))});
    return p->where(inside, num(1), num(0));
  }
  ExprId reflected_slope(ExprId x) const {
    ExprId low = num(align ? 0 : -0.5), span = align ? p->sub(size(), num(1)) : size(), from = p->sub(x, low);
    ExprId flips = p->op(ScalarOp::floor, {p->div(p->op(ScalarOp::abs, {from}), span)});
    ExprId even = op(ScalarOp::eq, op(ScalarOp::fmod, flips, num(2)), num(0));
    ExprId side = p->where(op(ScalarOp::lt, from, num(0)), num(-1), num(1));
    ExprId slope = p->where(even, side, p->op(ScalarOp::neg, {side}));
    return p->where(op(ScalarOp::le, span, num(0)), num(0), slope);
  }
  ExprId padded_slope(ExprId x) const {
    if (padding == 0) return num(1);
    return padding == 1 ? clipped_slope(x) : p->mul(clipped_slope(reflected(x)), reflected_slope(x));
  }
  // Of the coordinate in elements by the one in [-1, 1].
  ExprId unnormalised_slope() const { return p->mul(align ? p->sub(size(), num(1)) : size(), num(0.5)); }
  ExprId padded(ExprId x) const {
    if (padding == 1) return clipped(x);
    return padding == 2 ? clipped(reflected(x)) : x;
  }
};

// An element's place along one dim, its weight, and how that moves with the coordinate; a place outside counts as 0.
struct GridTap {
  ExprId place, weight, slope;
};

std::vector<GridTap> grid_taps(const GridAxis& a, ExprId g, int64_t mode) {
  LoopBuilder& b = *a.p;
  ExprId x = a.unnormalised(g);
  auto whole = [&](ExprId v) { return b.cvt(v, DType::i64); };
  if (mode == 1) return {{whole(b.op(ScalarOp::round, {a.padded(x)})), a.num(1), a.num(0)}};
  if (mode == 0) {
    ExprId slope = b.mul(a.padded_slope(x), a.unnormalised_slope());
    x = a.padded(x);
    ExprId low = b.op(ScalarOp::floor, {x}), t = b.sub(x, low);
    return {{whole(low), b.sub(a.num(1), t), b.op(ScalarOp::neg, {slope})}, {whole(b.add(low, a.num(1))), t, slope}};
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
  std::vector<GridTap> taps;
  // d/dt of near: (3 (a+2) t - 2 (a+3)) t, of far: (3a t - 10a) t + 8a; the taps at and before t move against u.
  auto near_slope = [&](ExprId v) { return b.mul(b.sub(b.mul(a.num(3 * (k + 2)), v), a.num(2 * (k + 3))), v); };
  auto far_slope = [&](ExprId v) {
    return b.add(b.mul(b.sub(b.mul(a.num(3 * k), v), a.num(10 * k)), v), a.num(8 * k));
  };
  auto negative = [&](ExprId v) { return b.op(ScalarOp::neg, {v}); };
  ExprId slopes[] = {far_slope(b.add(t, a.num(1))), near_slope(t), negative(near_slope(u)),
                     negative(far_slope(b.add(u, a.num(1))))};
  for (int i = 0; i < 4; ++i)
    taps.push_back({whole(a.padded(b.add(low, a.num(i - 1)))), weights[i], b.mul(slopes[i], a.unnormalised_slope())});
  return taps;
}

// The taps of every dim of the input, at one point (n, then its place in the grid).
std::vector<std::vector<GridTap>> taps_at(LoopBuilder& b, const Call& call, const LoopValue& x, const LoopValue& grid,
                                          Index point) {
  const DType type = register_type(x.dtype);
  const size_t dims = x.sizes.size() - 2;
  std::vector<std::vector<GridTap>> taps;
  point.emplace_back();
  for (size_t d = 0; d < dims; ++d) {
    // The grid names the last dim first.
    point.back() = int_expr(b, static_cast<int64_t>(dims - 1 - d));
    const GridAxis axis{&b, type, x.sizes[2 + d], call.constant("padding_mode"), call.flag("align_corners")};
    taps.push_back(grid_taps(axis, b.cvt(grid.at(point), type), call.constant("interpolation_mode")));
  }
  return taps;
}

ExprId is_inside(LoopBuilder& b, ExprId place, const Sym& size) {
  return b.op(ScalarOp::land,
              {b.op(ScalarOp::le, {int_expr(b, 0), place}), b.op(ScalarOp::lt, {place, b.index(size)})});
}

Result<Values> grid_sample(LoopBuilder& b, const LowerCall& call) {
  LoopValue x = call.tensor("input"), grid = call.tensor("grid");
  const size_t dims = x.sizes.size() - 2;
  const int64_t mode = call.constant("interpolation_mode");
  if (mode == 2 && dims != 2) return fail(Kind::unsupported_op, "`{}`: cubic in three dims", call.op());
  const DType type = register_type(x.dtype);
  LoopBuilder* p = &b;
  auto kept = std::make_shared<LowerCall>(call);
  SymList sizes{x.sizes[0], x.sizes[1]};
  sizes.insert(sizes.end(), grid.sizes.begin() + 1, grid.sizes.end() - 1);
  return Values{b.from(x.dtype, sizes, [=](const Index& i) {
    Index point{i[0]};
    point.insert(point.end(), i.begin() + 2, i.end());
    const auto taps = taps_at(*p, *kept, x, grid, point);
    std::vector<size_t> at(dims, 0);
    ExprId sum;
    for (;;) {
      Index xi{i[0], i[1]};
      std::vector<ExprId> inside;
      ExprId weight;
      for (size_t d = 0; d < dims; ++d) {
        const GridTap& tap = taps[d][at[d]];
        inside.push_back(is_inside(*p, tap.place, x.sizes[2 + d]));
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

// Of the image: each point's gradient, weighted, added at its taps. Of the grid: the sum over channels and taps of what
// moves with the coordinate.
Result<Values> grid_sample_backward(LoopBuilder& b, const LowerCall& call) {
  LoopValue grad = call.tensor("grad_output"), x = call.tensor("input"), grid = call.tensor("grid");
  const size_t dims = x.sizes.size() - 2;
  const int64_t mode = call.constant("interpolation_mode");
  if (mode == 2 && dims != 2) return fail(Kind::unsupported_op, "`{}`: cubic in three dims", call.op());
  const DType type = register_type(x.dtype);
  LoopBuilder* p = &b;
  auto kept = std::make_shared<LowerCall>(call);
  const SymList points(grid.sizes.begin() + 1, grid.sizes.end() - 1), image(x.sizes.begin() + 2, x.sizes.end());
  const int64_t each = mode == 0 ? 2 : mode == 1 ? 1 : 4;
  const SymList choice(dims, Sym(each));
  int64_t count = 1;
  for (size_t d = 0; d < dims; ++d) count *= each;
  // One tap a dim, chosen by its number.
  struct Chosen {
    Index place;
    std::vector<ExprId> weights, slopes;
    ExprId inside;
  };
  auto chosen = [=](const Index& point, ExprId number) {
    const auto taps = taps_at(*p, *kept, x, grid, point);
    const Index which = p->unflatten(number, choice);
    Chosen c;
    std::vector<ExprId> inside;
    for (size_t d = 0; d < dims; ++d) {
      GridTap tap = taps[d][0];
      for (size_t k = 1; k < taps[d].size(); ++k) {
        ExprId is = p->op(ScalarOp::eq, {which[d], int_expr(*p, static_cast<int64_t>(k))});
        tap = {p->where(is, taps[d][k].place, tap.place), p->where(is, taps[d][k].weight, tap.weight),
               p->where(is, taps[d][k].slope, tap.slope)};
      }
      c.place.push_back(tap.place);
      c.weights.push_back(tap.weight);
      c.slopes.push_back(tap.slope);
      inside.push_back(is_inside(*p, tap.place, image[d]));
    }
    c.inside = all_of(*p, inside);
    return c;
  };
  const Sym samples = x.sizes[0], channels = x.sizes[1], n = product(points), taps = count;
  SymList grads{samples * channels};
  grads.push_back(n);
  LoopValue flat = b.reshape(grad, grads);
  auto point_of = [=](ExprId sample, ExprId place) {
    Index point = p->unflatten(place, points);
    point.insert(point.begin(), sample);
    return point;
  };
  auto split = [=](const Index& i) { return p->unflatten(i[1], {n, taps}); };
  LoopValue image_grad = scattered(
      b, b.full({samples * channels, product(image)}, number_expr(b, 0, type), type), {samples * channels, n * taps},
      [=](const Index& i) {
        const Index s = split(i);
        const Chosen c = chosen(point_of(p->op(ScalarOp::floordiv, {i[0], p->index(channels)}), s[0]), s[1]);
        return p->where(c.inside, p->linear(c.place, image), int_expr(*p, -1));
      },
      [=](const Index& i) {
        const Index s = split(i);
        const Chosen c = chosen(point_of(p->op(ScalarOp::floordiv, {i[0], p->index(channels)}), s[0]), s[1]);
        ExprId v = p->cvt(flat.at({i[0], s[0]}), type);
        for (ExprId w : c.weights) v = p->mul(v, w);
        return v;
      },
      Join::add, true, ".image");
  SymList terms_sizes = {samples, n, grid.sizes.back(), channels, taps};
  LoopValue terms = b.from(type, terms_sizes, [=](const Index& i) {
    const Chosen c = chosen(point_of(i[0], i[1]), i[4]);
    Index xi{i[0], i[3]};
    xi.insert(xi.end(), c.place.begin(), c.place.end());
    ExprId value = p->where(c.inside, p->cvt(x.at(xi), type), number_expr(*p, 0, type));
    ExprId g = p->cvt(flat.at({p->add(p->mul(i[0], p->index(channels)), i[3]), i[1]}), type);
    // The coordinate's number counts from the last dim.
    ExprId moved;
    for (size_t d = 0; d < dims; ++d) {
      ExprId w = c.slopes[d];
      for (size_t e = 0; e < dims; ++e)
        if (e != d) w = p->mul(w, c.weights[e]);
      ExprId is = p->op(ScalarOp::eq, {i[2], int_expr(*p, static_cast<int64_t>(dims - 1 - d))});
      moved = moved.valid() ? p->where(is, w, moved) : w;
    }
    return p->mul(p->mul(g, value), moved);
  });
  LoopValue grid_grad = b.reduce(ReduceOp::sum, terms, {3, 4}, false, type, type, ".grid");
  return Values{b.convert(b.reshape(image_grad, x.sizes), x.dtype),
                b.convert(b.reshape(grid_grad, grid.sizes), grid.dtype)};
}

// theta applied to a grid of points in [-1, 1], the last dim's coordinate first. Without align_corners the points are
// the middles of the pixels. An axis of one point has it in the middle.
Result<Values> affine_grid(LoopBuilder& b, const LowerCall& call) {
  const LoopValue theta = call.tensor("theta");
  const SymList size = call.integers("size");
  const size_t dims = size.size() - 2;
  const bool aligned = call.flag("align_corners");
  if ((dims != 2 && dims != 3) || theta.rank() != 3)
    return fail(Kind::unsupported_op, "`{}` for {} dims", call.op(), size.size());
  SymList sizes{size[0]};
  sizes.insert(sizes.end(), size.begin() + 2, size.end());
  sizes.push_back(static_cast<int64_t>(dims));
  const DType type = accumulate_type(theta.dtype);
  LoopBuilder* p = &b;
  return Values{b.from(theta.dtype, sizes, [=](const Index& i) {
    auto number = [p](double v) { return p->number(v, DType::f64); };
    auto entry = [&](size_t k) {
      return p->cvt(theta.at({i[0], i.back(), int_expr(*p, static_cast<int64_t>(k))}), type);
    };
    ExprId total = entry(dims);
    for (size_t k = 0; k < dims; ++k) {
      const size_t d = dims - 1 - k;
      const Sym n = size[2 + d];
      const ExprId twice = p->cvt(p->mul(i[1 + d], int_expr(*p, 2)), DType::f64);
      const ExprId count = p->cvt(p->index(aligned ? sym_max(n - 1, 1) : n), DType::f64);
      ExprId point = p->sub(p->div(aligned ? twice : p->add(twice, number(1)), count), number(1));
      if (aligned) point = p->where(p->op(ScalarOp::eq, {p->index(n), int_expr(*p, 1)}), number(0), point);
      total = p->add(p->mul(entry(k), p->cvt(point, type)), total);
    }
    return p->cvt(total, theta.dtype);
  })};
}

}  // namespace

void add_grid_ops(OpTable& ops) {
  OpRow& grid = lowered(ops, "affine_grid_generator.default", affine_grid);
  for (const char* args : {"f32[2,2,3], [2, 1, 4, 5], False", "f32[2,2,3], [2, 1, 4, 5], True",
                           "f32[1,3,4], [1, 2, 3, 4, 1], True", "f32[1,3,4], [1, 2, 3, 1, 2], False"})
    grid.sample(format("aten.affine_grid_generator.default({})", std::string(args)));
  for (const char* name : {"grid_sampler", "grid_sampler_2d", "grid_sampler_3d"}) {
    OpRow& row = lowered(ops, format("{}.default", name), grid_sample);
    if (std::string(name) == "grid_sampler_3d")
      row.sample("aten.grid_sampler_3d.default(f32[1,2,3,4,5], f32[1,2,3,2,3], 0, 1, False)");
    else
      for (const char* modes : {"0, 0, False", "1, 1, True", "2, 2, False", "0, 2, True"})
        row.sample(format("aten.{}.default(f32[1,2,4,5], f32[1,3,2,2], {})", name, modes));
  }
  OpRow& flat = lowered(ops, "grid_sampler_2d_backward.default", grid_sample_backward);
  for (const char* modes : {"0, 0, False", "0, 1, True", "0, 2, False", "1, 0, True", "2, 0, False", "2, 2, True"})
    flat.sample(format(
        "aten.grid_sampler_2d_backward.default(f32[1,2,3,2], f32[1,2,4,5], f32[1,3,2,2], {}, [True, True])", modes));
  lowered(ops, "grid_sampler_3d_backward.default", grid_sample_backward)
      .sample(
          "aten.grid_sampler_3d_backward.default(f32[2,2,3,2,1], f32[2,2,4,5,3], f32[2,3,2,1,3], 0, 2, True, [True, "
          "True])");
}

}  // namespace toroid
