// Fourier transforms: one line at a time by the routine `fourier`; real and Hermitian forms around it.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Values = std::vector<LoopValue>;
// sum over k of x[k] exp(-+2 pi i j k / n) along dim, times scale.
LoopValue transform(LoopBuilder& b, const LoopValue& x, int64_t dim, bool backwards, double scale) {
  const DType part = part_type(x.dtype);
  if (part != DType::f32 && part != DType::f64) refuse(format("a Fourier transform of {}", dtype_name(x.dtype)));
  const std::vector<int> order = dim_last(x.rank(), dim);
  LoopValue moved = b.permute(x, order);
  const Sym n = moved.sizes.back();
  LoopBuilder* p = &b;
  LoopValue roots = b.from(DType::f64, {n, 2}, [p, n](const Index& i) {
    ExprId turn = p->div(p->cvt(i[0], DType::f64), p->cvt(p->index(n), DType::f64));
    ExprId angle = p->mul(turn, number_expr(*p, -2 * M_PI, DType::f64));
    return p->where(p->op(ScalarOp::eq, {i[1], int_expr(*p, 0)}), p->op(ScalarOp::cos, {angle}),
                    p->op(ScalarOp::sin, {angle}));
  });
  SymList sizes(moved.sizes.begin(), moved.sizes.end() - 1);
  const Sym rows = product(sizes);
  sizes.insert(sizes.end(), {2, n, 2});
  LoopValue done =
      b.routine("fourier", part, sizes, {b.parts_of(moved), roots}, {rows, n, backwards ? 1 : 0}, {scale}, ".fft");
  LoopValue y = b.from(x.dtype, moved.sizes, [=](const Index& i) {
    Index re(i.begin(), i.end() - 1);
    re.insert(re.end(), {int_expr(*p, 0), i.back(), int_expr(*p, 0)});
    Index im = re;
    im.back() = int_expr(*p, 1);
    return p->pool().pair(done.at(re), done.at(im));
  });
  return b.permute(y, inverse_order(order));
}

LoopValue to_complex(LoopBuilder& b, const LoopValue& x) {
  return is_complex(x.dtype) ? x : b.convert(x, complex_of_parts(float_dtype(x.dtype)));
}

// Of a real line the first half; the rest follows from it. Its first and middle elements are real: with a zero of
// either sign beside them, an angle would be pi or -pi.
LoopValue one_sided(LoopBuilder& b, const LoopValue& x, int64_t dim) {
  const Sym n = x.sizes[at(dim)];
  const LoopValue half = b.slice(x, dim, 0, floor_div(n, 2) + 1);
  LoopBuilder* p = &b;
  return b.from(half.dtype, half.sizes, [=](const Index& i) {
    ExprId z = half.at(i), k = i[at(dim)], zero = number_expr(*p, 0, part_type(half.dtype));
    ExprId middle = p->op(ScalarOp::eq, {p->mul(k, int_expr(*p, 2)), p->index(n)});
    ExprId im = p->where(middle, zero, p->where(p->op(ScalarOp::eq, {k, int_expr(*p, 0)}), zero, p->pool().imag(z)));
    return p->pool().pair(p->pool().real(z), im);
  });
}

// The whole line of n that a half gives, x[n - k] = conj(x[k]); the first and middle elements count as real.
LoopValue whole_line(LoopBuilder& b, const LoopValue& x, int64_t dim, const Sym& n) {
  LoopBuilder* p = &b;
  SymList sizes = x.sizes;
  const Sym given = sizes[at(dim)];
  sizes[at(dim)] = n;
  return b.from(x.dtype, sizes, [=](const Index& i) {
    ExprId k = i[at(dim)], mirror = p->sub(p->index(n), k);
    ExprId direct = p->op(ScalarOp::le, {k, p->index(floor_div(n, 2))});
    ExprId place = p->where(direct, k, mirror);
    Index xi = i;
    xi[at(dim)] = p->op(ScalarOp::min, {place, p->index(given - 1)});
    ExprId z = x.at(xi), re = p->pool().real(z), im = p->pool().imag(z);
    const DType type = p->type(im);
    ExprId zero = number_expr(*p, 0, type);
    ExprId lone = p->op(ScalarOp::lor, {p->op(ScalarOp::eq, {k, int_expr(*p, 0)}), p->op(ScalarOp::eq, {mirror, k})});
    im = p->where(lone, zero, p->where(direct, im, p->op(ScalarOp::neg, {im})));
    ExprId inside = p->op(ScalarOp::lt, {place, p->index(given)});
    return p->pool().pair(p->where(inside, re, zero), p->where(inside, im, zero));
  });
}

double scale_of(int64_t mode, const Sym& count) {
  if (mode == 0) return 1;
  if (!count.is_constant()) refuse("a scaled Fourier transform of a symbolic size");
  const double n = static_cast<double>(std::max<int64_t>(count.value(), 1));
  return mode == 1 ? 1 / std::sqrt(n) : 1 / n;
}

std::vector<int64_t> wrapped(const SymList& dims, int64_t rank) {
  std::vector<int64_t> out;
  for (const Sym& d : dims) out.push_back(d.value() < 0 ? d.value() + rank : d.value());
  return out;
}

LoopValue over_dims(LoopBuilder& b, LoopValue x, const std::vector<int64_t>& dims, bool backwards, double scale) {
  for (size_t k = 0; k < dims.size(); ++k) x = transform(b, x, dims[k], backwards, k + 1 == dims.size() ? scale : 1);
  return x;
}

void add_kernels(OpTable& ops) {
  lowered(ops, "_fft_c2c.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue x = call.tensor("self");
    const std::vector<int64_t> dims = wrapped(call.integers("dim"), x.rank());
    return Values{over_dims(b, x, dims, !call.flag("forward"),
                            scale_of(call.constant("normalization"), count_of(x.sizes, dims)))};
  }).sample("aten._fft_c2c.default(c64[3,6], [0, 1], 1, True)");
  lowered(ops, "_fft_r2c.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue x = to_complex(b, call.tensor("self"));
    std::vector<int64_t> dims = wrapped(call.integers("dim"), x.rank());
    const double scale = scale_of(call.constant("normalization"), count_of(x.sizes, dims));
    const int64_t half = dims.back();
    // The half first: the others have less to do.
    LoopValue y = transform(b, x, half, false, dims.size() == 1 ? scale : 1);
    if (call.flag("onesided")) y = one_sided(b, y, half);
    dims.pop_back();
    return Values{over_dims(b, y, dims, false, scale)};
  }).sample("aten._fft_r2c.default(f32[3,7], [0, 1], 0, True)");
  lowered(ops, "_fft_c2r.default", [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
    LoopValue x = call.tensor("self");
    std::vector<int64_t> dims = wrapped(call.integers("dim"), x.rank());
    const int64_t half = dims.back();
    const Sym n = call.integer("last_dim_size");
    SymList sizes = x.sizes;
    sizes[at(half)] = n;
    const double scale = scale_of(call.constant("normalization"), count_of(sizes, dims));
    dims.pop_back();
    x = over_dims(b, x, dims, true, 1);
    LoopValue y = transform(b, whole_line(b, x, half, n), half, true, scale);
    LoopBuilder* p = &b;
    return Values{b.from(part_type(y.dtype), y.sizes, [=](const Index& i) { return p->pool().real(y.at(i)); })};
  }).sample("aten._fft_c2r.default(c64[3,4], [0, 1], 2, 6)");
}

// Cut or filled with zeros to n along dim.
LoopValue fitted(LoopBuilder& b, const LoopValue& x, int64_t dim, const Sym& n) {
  const Sym& old = x.sizes[at(dim)];
  if (proves_eq(old, n)) return x;
  if (proves_le(n, old)) return b.slice(x, dim, 0, n);
  SymList before(x.sizes.size(), Sym(0)), after(x.sizes.size(), Sym(0));
  after[at(dim)] = n - old;
  return b.pad(x, before, after, number_expr(b, 0, x.dtype));
}

// What a call of fft_… asks for: dims in order, each with its size (of the result of inverse real forms).
struct Wanted {
  std::vector<int64_t> dims;
  std::vector<std::optional<Sym>> sizes;
};

Wanted wanted_of(const Call& call, int64_t rank) {
  Wanted w;
  const bool many = call.schema().find_arg("s") >= 0;
  if (!many) {
    w.dims = wrapped({call.integer("dim")}, rank);
    w.sizes.resize(1);
    if (call.has("n")) w.sizes[0] = call.integer("n");
    return w;
  }
  SymList sizes;
  if (call.has("s")) sizes = call.integers("s");
  if (call.has("dim")) {
    w.dims = wrapped(call.integers("dim"), rank);
  } else {
    const int64_t count = call.has("s") ? static_cast<int64_t>(sizes.size()) : rank;
    for (int64_t d = rank - count; d < rank; ++d) w.dims.push_back(d);
  }
  w.sizes.resize(w.dims.size());
  for (size_t k = 0; k < sizes.size() && k < w.sizes.size(); ++k)
    if (sizes[k] != Sym(-1)) w.sizes[k] = sizes[k];
  return w;
}

// The scale that `norm` gives a transform in this direction over `count` elements.
double norm_scale(const Call& call, bool backwards, const Sym& count) {
  const std::string norm = call.has("norm") ? call.text("norm") : "backward";
  if (norm == "ortho") return scale_of(1, count);
  return scale_of((norm == "forward") == backwards ? 0 : 2, count);
}

void add_composites(OpTable& ops) {
  struct Row {
    const char* name;
    enum Kind { complex, real, inverse_real, hermitian, inverse_hermitian } kind;
    bool backwards;
  };
  for (Row row : {Row{"fft", Row::complex, false}, Row{"ifft", Row::complex, true}, Row{"rfft", Row::real, false},
                  Row{"irfft", Row::inverse_real, true}, Row{"hfft", Row::hermitian, false},
                  Row{"ihfft", Row::inverse_hermitian, true}})
    for (const char* form : {"", "2", "n"})
      lowered(ops, format("fft_{}{}.default", row.name, form),
              [row](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
                LoopValue x = call.tensor("self");
                const Wanted w = wanted_of(call, x.rank());
                if (w.dims.empty()) return Values{row.kind == Row::complex ? to_complex(b, x) : x};
                const bool to_real = row.kind == Row::inverse_real || row.kind == Row::hermitian;
                LoopBuilder* p = &b;
                x = to_complex(b, x);
                const int64_t half = w.dims.back();
                Sym line = w.sizes.back().value_or(to_real ? (x.sizes[at(half)] - 1) * 2 : x.sizes[at(half)]);
                Sym count = line;
                for (size_t k = 0; k < w.dims.size(); ++k) {
                  const bool is_last = k + 1 == w.dims.size();
                  if (!is_last) {
                    x = fitted(b, x, w.dims[k], w.sizes[k].value_or(x.sizes[at(w.dims[k])]));
                    count *= x.sizes[at(w.dims[k])];
                  } else if (!to_real) {
                    x = fitted(b, x, half, line);
                  } else if (w.sizes[k]) {
                    x = fitted(b, x, half, floor_div(line, 2) + 1);
                  }
                }
                const double scale = norm_scale(call, row.backwards, count);
                std::vector<int64_t> others(w.dims.begin(), w.dims.end() - 1);
                auto real_part = [&](const LoopValue& y) {
                  return b.from(part_type(y.dtype), y.sizes, [=](const Index& i) { return p->pool().real(y.at(i)); });
                };
                switch (row.kind) {
                  case Row::complex: {
                    others.push_back(half);
                    return Values{over_dims(b, x, others, row.backwards, scale)};
                  }
                  case Row::real: {
                    LoopValue y = one_sided(b, transform(b, x, half, false, others.empty() ? scale : 1), half);
                    return Values{over_dims(b, y, others, false, scale)};
                  }
                  // The transform of a Hermitian line is real: the inverse one of its conjugate.
                  case Row::inverse_real:
                  case Row::hermitian: {
                    x = over_dims(b, x, others, row.backwards, 1);
                    LoopValue whole = whole_line(b, x, half, line);
                    return Values{real_part(transform(b, whole, half, row.backwards, scale))};
                  }
                  case Row::inverse_hermitian: {
                    LoopValue y = one_sided(b, transform(b, x, half, true, others.empty() ? scale : 1), half);
                    return Values{over_dims(b, y, others, true, scale)};
                  }
                }
                return Values{};
              })
          .sample(format("aten.fft_{}{}.default({}[4,6])", row.name, form,
                         row.kind == Row::real || row.kind == Row::inverse_hermitian ? "f32" : "c64"));
  // k / (n d) for the frequencies in order, the upper half as negative ones.
  for (bool real : {false, true})
    lowered(ops, real ? "fft_rfftfreq.default" : "fft_fftfreq.default",
            [real](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              const int64_t n = call.constant("n");
              const DType dtype = call.dtype("dtype").value_or(DType::f32), type = register_type(dtype);
              const double step = 1.0 / (static_cast<double>(n) * call.number("d"));
              LoopBuilder* p = &b;
              return Values{b.from(dtype, {real ? n / 2 + 1 : n}, [=](const Index& i) {
                ExprId upper = p->op(ScalarOp::ge, {i[0], int_expr(*p, (n + 1) / 2)});
                ExprId k = real ? i[0] : p->where(upper, p->sub(i[0], int_expr(*p, n)), i[0]);
                return p->mul(p->cvt(k, type), number_expr(*p, step, type));
              })};
            })
        .sample(real ? "aten.fft_rfftfreq.default(5, 0.5)" : "aten.fft_fftfreq.default(5, 0.5)");
}

// ------------------------------------------------------------------------------------------- short-time transforms

// The window in the middle of n_fft, ones where none is given.
std::optional<LoopValue> full_window(LoopBuilder& b, const LowerCall& call, int64_t n_fft, int64_t length) {
  if (!is_tensor(call, "window") && length == n_fft) return std::nullopt;
  LoopValue w =
      is_tensor(call, "window") ? call.tensor("window") : b.full({length}, number_expr(b, 1, DType::f32), DType::f32);
  if (length == n_fft) return w;
  const int64_t left = (n_fft - length) / 2;
  return b.pad(w, {left}, {n_fft - length - left}, number_expr(b, 0, w.dtype));
}

void add_short_time(OpTable& ops) {
  for (bool with_center : {false, true})
    lowered(ops, with_center ? "stft.center" : "stft.default",
            [with_center](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
              LoopValue x = call.tensor("self");
              const int64_t n = call.constant("n_fft");
              const int64_t hop = call.has("hop_length") ? call.constant("hop_length") : n / 4;
              const int64_t length = call.has("win_length") ? call.constant("win_length") : n;
              const bool single = x.rank() == 1;
              const bool was_complex =
                  is_complex(x.dtype) || (is_tensor(call, "window") && is_complex(call.type("window").dtype));
              if (single) x = b.unsqueeze(x, 0);
              LoopBuilder* p = &b;
              if (with_center && call.flag("center")) {
                const Sym size = x.sizes[1];
                const std::string mode = call.text("pad_mode");
                const int64_t side = n / 2;
                LoopValue inner = x;
                if (mode == "constant") {
                  x = b.pad(x, {0, side}, {0, side}, number_expr(b, 0, x.dtype));
                } else if (mode == "reflect") {
                  x = b.from(x.dtype, {x.sizes[0], size + 2 * side}, [=](const Index& i) {
                    ExprId k = p->op(ScalarOp::abs, {p->sub(i[1], int_expr(*p, side))});
                    ExprId top = p->index(size - 1);
                    ExprId over = p->op(ScalarOp::gt, {k, top});
                    return inner.at({i[0], p->where(over, p->sub(p->add(top, top), k), k)});
                  });
                } else {
                  return fail(Kind::unsupported_op, "`{}` with pad_mode `{}`", call.op(), mode);
                }
              }
              const Sym frames = floor_div(x.sizes[1] - n, hop) + 1;
              auto window = full_window(b, call, n, length);
              LoopValue source = x;
              const DType type = window ? promote(x.dtype, window->dtype) : x.dtype;
              LoopValue pieces = b.from(type, {x.sizes[0], frames, n}, [=](const Index& i) {
                ExprId v = p->cvt(source.at({i[0], p->add(p->mul(i[1], int_expr(*p, hop)), i[2])}), type);
                return window ? p->mul(v, p->cvt(window->at({i[2]}), type)) : v;
              });
              const bool onesided = call.has("onesided") ? call.flag("onesided") : !was_complex;
              LoopValue y = transform(b, to_complex(b, pieces), 2, false,
                                      call.flag("normalized") ? 1 / std::sqrt(static_cast<double>(n)) : 1);
              if (onesided) y = one_sided(b, y, 2);
              y = b.transpose(y, 1, 2);
              if (single) y = b.squeeze(y, 0);
              if (call.has("return_complex") ? call.flag("return_complex") : was_complex) return Values{y};
              return Values{b.parts_of(y)};
            })
        .sample(with_center ? "aten.stft.center(f32[20], 8, 4, 6, f32[6], return_complex=True)"
                            : "aten.stft.default(f32[2,20], 8, 4, 8, f32[8], return_complex=True)");
  // Frames back to their places, added up and divided by the windows' squares that met there.
  lowered(
      ops, "istft.default",
      [](LoopBuilder& b, const LowerCall& call) -> Result<Values> {
        LoopValue x = call.tensor("self");
        if (!is_complex(x.dtype)) return fail(Kind::unsupported_op, "`{}` of real pairs", call.op());
        if (call.flag("return_complex")) return fail(Kind::unsupported_op, "`{}` with a complex result", call.op());
        const int64_t n = call.constant("n_fft");
        const int64_t hop = call.has("hop_length") ? call.constant("hop_length") : n / 4;
        const int64_t length = call.has("win_length") ? call.constant("win_length") : n;
        const bool single = x.rank() == 2;
        if (single) x = b.unsqueeze(x, 0);
        LoopBuilder* p = &b;
        const bool onesided = call.has("onesided") ? call.flag("onesided") : !proves_eq(x.sizes[1], n);
        LoopValue lines = b.transpose(x, 1, 2);
        const double scale =
            call.flag("normalized") ? 1 / std::sqrt(static_cast<double>(n)) : 1.0 / static_cast<double>(n);
        // Of a whole line the first half alone is read, as the result is real.
        if (!onesided) lines = b.slice(lines, 2, 0, n / 2 + 1);
        LoopValue z = transform(b, whole_line(b, lines, 2, n), 2, true, scale);
        const DType type = part_type(z.dtype);
        auto window = full_window(b, call, n, length);
        const Sym frames = z.sizes[1], total = (frames - 1) * hop + n;
        const int64_t start = call.flag("center") ? n / 2 : 0;
        const Sym wanted = call.has("length")    ? call.integer("length")
                           : call.flag("center") ? total - 2 * start
                                                 : total;
        auto weight = [=](ExprId place) {
          return window ? p->cvt(window->at({place}), type) : number_expr(*p, 1, type);
        };
        // Frame f covers [f hop, f hop + n): at most ceil(n / hop) of them meet at a place.
        const int64_t most = (n + hop - 1) / hop;
        auto gathered = [&](bool envelope) {
          SymList sizes{envelope ? Sym(1) : z.sizes[0], wanted, most};
          LoopValue terms = b.from(type, sizes, [=](const Index& i) {
            ExprId t = p->add(i[1], int_expr(*p, start));
            ExprId f = p->sub(p->op(ScalarOp::floordiv, {t, int_expr(*p, hop)}), i[2]);
            ExprId place = p->sub(t, p->mul(f, int_expr(*p, hop)));
            std::vector<ExprId> inside{p->op(ScalarOp::le, {int_expr(*p, 0), f}),
                                       p->op(ScalarOp::lt, {f, p->index(frames)}),
                                       p->op(ScalarOp::lt, {place, int_expr(*p, n)})};
            ExprId w = weight(place);
            ExprId v = envelope ? p->mul(w, w) : p->mul(w, p->pool().real(z.at({i[0], f, place})));
            return p->where(all_of(*p, inside), v, number_expr(*p, 0, type));
          });
          return b.reduce(ReduceOp::sum, terms, {2}, false, type, type, envelope ? ".envelope" : ".sum");
        };
        LoopValue sum = gathered(false), envelope = gathered(true);
        LoopValue y = b.from(type, {z.sizes[0], wanted}, [=](const Index& i) {
          ExprId e = envelope.at({int_expr(*p, 0), i[1]}), none = p->op(ScalarOp::eq, {e, number_expr(*p, 0, type)});
          return p->div(sum.at(i), p->where(none, number_expr(*p, 1, type), e));
        });
        return Values{single ? b.squeeze(y, 0) : y};
      })
      .sample("aten.istft.default(c64[5,6], 8, 4, 8, f32[8])")
      .sample("aten.istft.default(c64[8,6], 8)");
}

}  // namespace

void add_fft_ops(OpTable& ops) {
  add_kernels(ops);
  add_composites(ops);
  add_short_time(ops);
}

}  // namespace toroid
