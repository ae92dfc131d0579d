// The matchers of contraction.h.
#include "fuse/contraction.h"

namespace toroid::fuse {
namespace {

// The load under widenings and guards.
ExprId strip(const ExprPool& pool, ExprId id, bool& guarded) {
  for (;;) {
    const Expr& expr = pool[id];
    if (expr.kind == ExprKind::op && expr.op == ScalarOp::cvt) {
      id = expr.args[0];
    } else if (expr.kind == ExprKind::op && expr.op == ScalarOp::where) {
      guarded = true;
      id = expr.args[1];
    } else {
      return expr.kind == ExprKind::load ? id : ExprId{};
    }
  }
}

// index == variable * stride + tap * dilation - padding; variables of one element are constants.
struct Window {
  int64_t stride = 1, dilation = 1, padding = 0;
};
std::optional<Window> match_window(const Sym& index, const Sym& out_var, const Sym& tap_var) {
  Window window;
  Sym rest = index;
  if (out_var.is_symbol()) {
    auto line = linear_in(rest, out_var.symbol_name());
    if (!line) return std::nullopt;
    if (auto c = line->coefficient.constant(); c && *c > 0)
      window.stride = *c;
    else if (range_of(out_var).high > 0)
      return std::nullopt;
    rest = line->rest;
  }
  if (tap_var.is_symbol()) {
    auto line = linear_in(rest, tap_var.symbol_name());
    if (!line) return std::nullopt;
    if (auto c = line->coefficient.constant(); c && *c > 0)
      window.dilation = *c;
    else if (range_of(tap_var).high > 0)
      return std::nullopt;
    rest = line->rest;
  }
  auto padding = rest.constant();
  if (!padding || *padding > 0) return std::nullopt;
  window.padding = -*padding;
  return window;
}

}  // namespace

std::optional<Factors> factors_of(const ExprPool& pool, ExprId contraction) {
  const Expr& term = pool[pool[contraction].args[0]];
  if (term.kind != ExprKind::op || term.op != ScalarOp::mul) return std::nullopt;
  Factors factors;
  factors.a = strip(pool, term.args[0], factors.guarded);
  factors.b = strip(pool, term.args[1], factors.guarded);
  if (!factors.a || !factors.b) return std::nullopt;
  return factors;
}

std::optional<ConvForm> match_conv(Program& program, TensorId id) {
  const ExprPool& pool = program.pool();
  const Loops& loops = program.loops;
  const Item& item = program[id];
  if (item.kind != Kind::contract || item.attention) return std::nullopt;
  auto factors = factors_of(pool, item.contraction);
  if (!factors) return std::nullopt;
  const LoopTensor& out = loops[id];
  const int dims = static_cast<int>(out.sizes.size()) - 2;
  if (dims < 1 || dims > 2) return std::nullopt;

  // x as PyTorch orders it, or with channels as its last dim.
  for (int attempt = 0; attempt < 4; ++attempt) {
    const bool swapped = attempt & 1, last = attempt & 2;
    const Expr& x = pool[swapped ? factors->b : factors->a];
    const Expr& w = pool[swapped ? factors->a : factors->b];
    const LoopTensor &xt = loops[x.tensor], &wt = loops[w.tensor];
    // Of a weight [oc, c, kd, kh, kw] the taps along depth are channels (kd, c) of x.
    const bool deep = dims == 2 && wt.sizes.size() == 5;
    const int weight_rank = dims + 2 + (deep ? 1 : 0);
    if (wt.kind != TensorKind::weight || xt.sizes.size() != out.sizes.size() ||
        wt.sizes.size() != static_cast<size_t>(weight_rank))
      continue;
    ConvForm form;
    form.dims = dims;
    form.x = x.tensor;
    form.weight = w.tensor;
    if (last)
      for (int d = 1; d < dims + 2; ++d) form.x_dims[d] = d == 1 ? dims + 1 : d - 1;
    auto xd = [&](int d) { return static_cast<size_t>(form.x_dims[d]); };
    form.out_channels = wt.sizes[0].value();
    if (deep) form.depth = wt.sizes[2].value();
    form.in_channels = wt.sizes[1].value() * form.depth;  // per group
    auto index = [&](const Expr& load, int d) { return pool.as_index(load.args[static_cast<size_t>(d)]); };
    bool fits = true;
    for (int d = 0; d < dims + 2; ++d) fits &= index(x, d).has_value();
    for (int d = 0; d < weight_rank; ++d) fits &= index(w, d).has_value();
    if (!fits) continue;
    // w[oc, ic, taps…] at plain variables (or 0 where there is one element).
    auto plain = [&](const Sym& sym, const Sym& size) { return sym.is_symbol() || (sym == Sym(0) && size == Sym(1)); };
    for (int d = 0; d < weight_rank; ++d) fits &= plain(*index(w, d), wt.sizes[static_cast<size_t>(d)]);
    if (!fits) continue;
    const Sym oc = *index(w, 0);
    const Sym ic = deep ? *index(w, 2) * wt.sizes[1] + *index(w, 1) : *index(w, 1);
    if (form.out_channels > 1 && (!out.vars[1].is_symbol() || oc != out.vars[1])) continue;
    if (*index(x, form.x_dims[0]) != out.vars[0] && out.sizes[0] != Sym(1)) continue;
    if (!xt.sizes[xd(1)].is_constant() || xt.sizes[xd(1)].value() % form.in_channels) continue;
    form.groups = xt.sizes[xd(1)].value() / form.in_channels;
    if (form.out_channels % form.groups) continue;
    Sym channel = floor_div(oc, form.out_channels / form.groups) * Sym(form.in_channels) + ic;
    if (*index(x, form.x_dims[1]) != channel) continue;
    for (int d = 0; d < dims; ++d) {
      const int axis = dims == 1 ? 1 : d;
      const int tap = weight_rank - dims + d;
      auto window = match_window(*index(x, form.x_dims[d + 2]), out.vars[static_cast<size_t>(d + 2)], *index(w, tap));
      if (!window) fits = false;
      if (!fits) break;
      form.kernel[axis] = wt.sizes[static_cast<size_t>(tap)].value();
      form.stride[axis] = window->stride;
      form.dilation[axis] = window->dilation;
      form.padding[axis] = window->padding;
    }
    if (fits) return form;
  }
  return std::nullopt;
}

}  // namespace toroid::fuse
