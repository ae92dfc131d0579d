// Views of a part: slices, one element along a dim, and lists of them. Bounds are counted as in Python.
#include <algorithm>

#include "base/check.h"
#include "ops/view.h"

namespace toroid {
namespace {

// A bound as Python reads it: negative from the end, then clamped into [0, size].
Sym clamped(const Sym& bound, const Sym& size) {
  if (bound.is_constant() && bound.value() == INT64_MAX) return size;
  if (proves_le(0, bound)) return sym_min(bound, size);
  Sym from_end = sym_max(bound + size, 0);
  if (proves_lt(bound, 0)) return from_end;
  return sym_choose(sym_lt(bound, 0), from_end, sym_min(bound, size));
}

struct Span {
  int64_t dim = 0;
  Sym start = 0, length = 0, step = 1;
};

Span slice_span(const Call& call) {
  const TensorType& x = call.type("self");
  Span s;
  s.dim = call.dim("dim", x.rank());
  const Sym& size = x.sizes[at(s.dim)];
  s.step = call.integer("step");
  s.start = call.has("start") ? clamped(call.integer("start"), size) : Sym(0);
  Sym end = call.has("end") ? clamped(call.integer("end"), size) : size;
  s.length = ceil_div(sym_max(end - s.start, 0), s.step);
  return s;
}

TensorType sliced(const TensorType& x, const Span& s) {
  TensorType out = x;
  out.sizes[at(s.dim)] = s.length;
  if (has_strides(x)) out.strides[at(s.dim)] *= s.step;
  return out;
}

// An index that may count from the end.
Sym wrapped_at(const Sym& index, const Sym& size) {
  if (proves_le(0, index)) return index;
  if (proves_lt(index, 0)) return index + size;
  return sym_choose(sym_lt(index, 0), index + size, index);
}

TensorType selected(const TensorType& x, int64_t dim) {
  TensorType out = x;
  out.sizes.erase(out.sizes.begin() + dim);
  if (has_strides(x)) out.strides.erase(out.strides.begin() + dim);
  return out;
}

Span narrow_span(const Call& call) {
  const TensorType& x = call.type("self");
  int64_t dim = call.dim("dim", x.rank());
  return {dim, wrapped_at(call.integer("start"), x.sizes[at(dim)]), call.integer("length"), 1};
}

void add_slices(OpTable& ops) {
  for (const char* form : {"slice.Tensor", "slice_copy.Tensor"})
    add_view(
        ops, form, [](const Call& call) -> Types { return one(sliced(call.type("self"), slice_span(call))); },
        [](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          Span s = slice_span(call);
          return b.slice(call.tensor("self"), s.dim, s.start, s.length, s.step);
        })
        .sample(format("aten.{}(f32[4,5], 1, 1, 4)", form))
        .sample(format("aten.{}(f32[4,7], 1, -6, 9223372036854775807, 2)", form));
  for (const char* form : {"select.int", "select_copy.int"})
    add_view(
        ops, form,
        [](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          return one(selected(x, call.dim("dim", x.rank())));
        },
        [](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          int64_t dim = call.dim("dim", x.rank());
          return b.select(x, dim, wrapped_at(call.integer("index"), x.sizes[at(dim)]));
        })
        .sample(format("aten.{}(f32[4,5], 1, -2)", form));
  for (const char* form : {"narrow.default", "narrow_copy.default"}) {
    add_view(
        ops, form, [](const Call& call) -> Types { return one(sliced(call.type("self"), narrow_span(call))); },
        [](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          Span s = narrow_span(call);
          return b.slice(call.tensor("self"), s.dim, s.start, s.length, s.step);
        })
        .sample(format("aten.{}(f32[4,5], 1, 1, 3)", form));
  }
}

// ---- lists of slices

using SpansRule = std::function<std::vector<Span>(const Call&)>;

// Pieces of `size` each, the last one shorter. Of symbolic sizes the graph tells how many there are, or else
// `expected`.
std::vector<Span> even_spans(const Call& call, int64_t dim, const Sym& size, const Sym& expected) {
  const Sym& whole = call.type("self").sizes[at(dim)];
  std::vector<Span> spans;
  SymRange range = is_zero(size) ? SymRange{1, 1} : range_of(ceil_div(whole, size));
  size_t pieces = call.node().outputs.size();
  if (range.low == range.high)
    pieces = static_cast<size_t>(std::max<int64_t>(1, range.low));
  else if (pieces == 0 && proves_lt(0, expected) && expected.is_constant())
    pieces = static_cast<size_t>(expected.value());
  for (size_t i = 0; i < pieces; ++i) {
    Sym start = size * Sym(static_cast<int64_t>(i));
    spans.push_back({dim, start, i + 1 < pieces ? size : whole - start, 1});
  }
  return spans;
}

OpRow& add_split(OpTable& ops, const std::string& name, SpansRule rule) {
  InferRule infer = [rule](const Call& call) -> Types {
    std::vector<TensorType> out;
    for (const Span& s : rule(call)) out.push_back(sliced(call.type("self"), s));
    if (out.empty()) return fail(Kind::unsupported_op, "`{}` into a symbolic number of pieces", call.op());
    return out;
  };
  OpRow& row = ops.add("aten." + name);
  row.infer(is_copy_form(name) ? row_major_results(std::move(infer)) : std::move(infer))
      .lower_many([rule](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
        LoopValue x = call.tensor("self");
        std::vector<LoopValue> out;
        for (const Span& s : rule(call)) out.push_back(b.slice(x, s.dim, s.start, s.length));
        return out;
      });
  if (!is_copy_form(name)) row.view();
  return row;
}

void add_splits(OpTable& ops) {
  for (const char* form : {"split.Tensor", "unsafe_split.Tensor", "split_copy.Tensor"})
    add_split(ops, form, [](const Call& call) {
      return even_spans(call, call.dim("dim", call.type("self").rank()), call.integer("split_size"), -1);
    }).sample(format("aten.{}(f32[5,4], 2)", form));
  for (const char* form : {"chunk.default", "unsafe_chunk.default"})
    add_split(ops, form, [](const Call& call) {
      int64_t dim = call.dim("dim", call.type("self").rank());
      return even_spans(call, dim, ceil_div(call.type("self").sizes[at(dim)], call.integer("chunks")),
                        call.integer("chunks"));
    }).sample(format("aten.{}(f32[5,4], 4)", form));
  for (const char* form : {"split_with_sizes.default", "split.sizes", "unsafe_split_with_sizes.default",
                           "split_with_sizes_copy.default"}) {
    const char* arg = std::string(form) == "split.sizes" ? "split_size" : "split_sizes";
    add_split(ops, form, [arg](const Call& call) {
      int64_t dim = call.dim("dim", call.type("self").rank());
      std::vector<Span> spans;
      Sym start = 0;
      for (const Sym& size : call.integers(arg)) {
        spans.push_back({dim, start, size, 1});
        start += size;
      }
      return spans;
    }).sample(format("aten.{}(f32[5,4], [1, 3, 1])", form));
  }
  // n mod k pieces are one longer than the rest.
  add_split(ops, "tensor_split.sections", [](const Call& call) {
    int64_t dim = call.dim("dim", call.type("self").rank()), sections = call.constant("sections");
    const Sym& size = call.type("self").sizes[at(dim)];
    Sym base = floor_div(size, sections), longer = mod(size, sections), start = 0;
    std::vector<Span> spans;
    for (int64_t i = 0; i < sections; ++i) {
      Sym length = base + sym_lt(Sym(i), longer);
      spans.push_back({dim, start, length, 1});
      start += length;
    }
    return spans;
  }).sample("aten.tensor_split.sections(f32[5,4], 3)");
  for (std::string form : {"unbind.int", "unbind_copy.int"}) {
    InferRule infer = [](const Call& call) -> Types {
      const TensorType& x = call.type("self");
      int64_t dim = call.dim("dim", x.rank());
      const Sym& size = x.sizes[at(dim)];
      size_t pieces = size.is_constant() ? at(size.value()) : call.node().outputs.size();
      return std::vector<TensorType>(pieces, selected(x, dim));
    };
    OpRow& row = ops.add("aten." + form);
    row.infer(is_copy_form(form) ? row_major_results(infer) : infer)
        .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          LoopValue x = call.tensor("self");
          int64_t dim = call.dim("dim", x.rank());
          std::vector<LoopValue> out;
          for (size_t i = 0; i < call.node().outputs.size(); ++i)
            out.push_back(b.select(x, dim, static_cast<int64_t>(i)));
          return out;
        })
        .sample(format("aten.{}(f32[3,4])", form));
    if (!is_copy_form(form)) row.view();
  }
}

}  // namespace

std::optional<Sym> offset_in_viewed(const Call& call) {
  const std::string base = call.op().substr(0, call.op().rfind('.'));
  const bool slice = base == "aten.slice", select = base == "aten.select", narrow = base == "aten.narrow";
  if (!slice && !select && !narrow) return {};
  const TensorType& x = call.type("self");
  if (!has_strides(x)) return {};
  const int64_t dim = call.dim("dim", x.rank());
  const Sym start = slice    ? slice_span(call).start
                    : narrow ? narrow_span(call).start
                             : wrapped_at(call.integer("index"), x.sizes[at(dim)]);
  return start * x.strides[at(dim)];
}

void add_slice_ops(OpTable& ops) {
  add_slices(ops);
  add_splits(ops);
}

}  // namespace toroid
