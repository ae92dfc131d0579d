// Views: ops that only rename indices. Their strides follow from the input's.
#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

using Dims = std::vector<int64_t>;

bool has_strides(const TensorType& x) { return x.strides.size() == x.sizes.size(); }

// The _copy form of a view has memory of its own, in row-major order.
bool is_copy_form(const std::string& name) { return name.find("_copy.") != std::string::npos; }

InferRule row_major_results(InferRule rule) {
  return [rule = std::move(rule)](const Call& call) -> Types {
    TD_TRY(std::vector<TensorType> types, rule(call));
    for (TensorType& type : types) type.strides = contiguous_strides(type.sizes);
    return types;
  };
}

// A view is its type's rule and its value's rule over one input called `self`.
OpRow& add_view(OpTable& ops, const std::string& name, InferRule infer, LowerOne lower) {
  OpRow& row = ops.add("aten." + name).lower(std::move(lower));
  if (is_copy_form(name)) return row.infer(row_major_results(std::move(infer)));
  return row.infer(std::move(infer)).view();
}

// ---- order of dims

TensorType permuted(const TensorType& x, const std::vector<int>& order) {
  TensorType out{x.dtype, {}, {}, x.device};
  for (int d : order) {
    out.sizes.push_back(x.sizes[at(d)]);
    if (has_strides(x)) out.strides.push_back(x.strides[at(d)]);
  }
  return out;
}

using OrderRule = std::function<std::vector<int>(const Call&, int64_t rank)>;

OpRow& add_permutation(OpTable& ops, const std::string& name, OrderRule order) {
  return add_view(
      ops, name,
      [order](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        return one(permuted(x, order(call, x.rank())));
      },
      [order](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        return b.permute(x, order(call, x.rank()));
      });
}

std::vector<int> straight(int64_t rank) {
  std::vector<int> order;
  for (int64_t d = 0; d < rank; ++d) order.push_back(static_cast<int>(d));
  return order;
}

std::vector<int> swapped(int64_t rank, int64_t a, int64_t b) {
  std::vector<int> order = straight(rank);
  if (rank > 0) std::swap(order[at(a)], order[at(b)]);
  return order;
}

int64_t wrapped(const Sym& dim, int64_t rank) {
  int64_t d = dim.value();
  return d < 0 ? d + std::max<int64_t>(rank, 1) : d;
}

std::vector<int> moved(const SymList& source, const SymList& target, int64_t rank) {
  std::vector<int> order(at(rank), -1);
  std::vector<bool> used(at(rank));
  for (size_t i = 0; i < source.size(); ++i) {
    order[at(wrapped(target[i], rank))] = static_cast<int>(wrapped(source[i], rank));
    used[at(wrapped(source[i], rank))] = true;
  }
  int next = 0;
  for (int& d : order) {
    if (d >= 0) continue;
    while (used[static_cast<size_t>(next)]) ++next;
    d = next++;
  }
  return order;
}

void add_permutations(OpTable& ops) {
  for (const char* name : {"permute.default", "permute_copy.default"})
    add_permutation(ops, name, [](const Call& call, int64_t rank) {
      std::vector<int> order;
      for (const Sym& d : call.integers("dims")) order.push_back(static_cast<int>(wrapped(d, rank)));
      return order;
    }).sample(format("aten.{}(f32[2,3,4], [2, 0, -2])", name));
  for (const char* name : {"transpose.int", "swapdims.default", "transpose_copy.int"})
    add_permutation(ops, name, [](const Call& call, int64_t rank) {
      return swapped(rank, call.dim("dim0", rank), call.dim("dim1", rank));
    }).sample(format("aten.{}(f32[2,3,4], 1, -1)", name));
  add_permutation(ops, "swapaxes.default", [](const Call& call, int64_t rank) {
    return swapped(rank, call.dim("axis0", rank), call.dim("axis1", rank));
  }).sample("aten.swapaxes.default(f32[2,3,4], 1, -1)");
  for (const char* name : {"t.default", "t_copy.default"})
    add_permutation(ops, name, [](const Call&, int64_t rank) { return swapped(rank, 0, rank - 1); })
        .sample(format("aten.{}(f32[2,3])", name))
        .sample(format("aten.{}(f32[3])", name));
  for (const char* name : {"mT.default", "mH.default", "matrix_H.default", "adjoint.default"}) {
    const bool conjugates = std::string(name) != "mT.default";
    OpRow& row =
        add_permutation(ops, name, [](const Call&, int64_t rank) { return swapped(rank, rank - 2, rank - 1); });
    row.sample(format("aten.{}(f32[2,3])", name));
    if (!conjugates) continue;
    row.lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
      LoopValue x = call.tensor("self");
      x = b.permute(x, swapped(x.rank(), x.rank() - 2, x.rank() - 1));
      return b.conjugate(x);
    });
  }
  add_permutation(ops, "numpy_T.default", [](const Call&, int64_t rank) {
    std::vector<int> order = straight(rank);
    std::reverse(order.begin(), order.end());
    return order;
  }).sample("aten.numpy_T.default(f32[2,3,4])");
  for (const char* base : {"movedim", "moveaxis"})
    for (const char* form : {"int", "intlist"})
      add_permutation(ops, format("{}.{}", base, form),
                      [](const Call& call, int64_t rank) {
                        return moved(call.integers("source"), call.integers("destination"), rank);
                      })
          .sample(format("aten.{}.{}(f32[2,3,4], {})", base, form,
                         std::string(form) == "int" ? "0, -1" : "[0, 1], [1, 2]"));
}

// ---- shape

using SizesRule = std::function<Result<SymList>(const Call&)>;

// A view where strides allow, else a copy in row-major order; either way only indices change here.
OpRow& add_reshape(OpTable& ops, const std::string& name, SizesRule rule) {
  return add_view(
      ops, name,
      [rule](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        TD_TRY(SymList sizes, rule(call));
        TensorType out{x.dtype, sizes, {}, x.device};
        if (auto strides = view_strides(x, sizes))
          out.strides = *strides;
        else
          out.strides = contiguous_strides(sizes);
        return one(std::move(out));
      },
      [rule](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        TD_TRY(SymList sizes, rule(call));
        return b.reshape(call.tensor("self"), sizes);
      });
}

SizesRule sizes_argument(const char* name) {
  return [name](const Call& call) { return solved_sizes(call.integers(name), call.type("self").sizes); };
}

void add_reshapes(OpTable& ops) {
  add_reshape(ops, "view.default", sizes_argument("size")).sample("aten.view.default(f32[4,6], [2, -1, 3])");
  add_reshape(ops, "_unsafe_view.default", sizes_argument("size")).sample("aten._unsafe_view.default(f32[4,6], [24])");
  add_reshape(ops, "view_copy.default", sizes_argument("size")).sample("aten.view_copy.default(f32[4,6], [24])");
  add_reshape(ops, "reshape.default", sizes_argument("shape"))
      .sample("aten.reshape.default(f32[4,6], [8, -1])")
      .sample("aten.reshape.default(f32[4,6,0], [3, 0, 2])");
  SizesRule as_other = [](const Call& call) -> Result<SymList> { return call.type("other").sizes; };
  add_reshape(ops, "view_as.default", as_other).sample("aten.view_as.default(f32[4,6], f32[8,3])");
  add_reshape(ops, "reshape_as.default", as_other).sample("aten.reshape_as.default(f32[4,6], f32[8,3])");
  add_reshape(ops, "flatten.using_ints",
              [](const Call& call) -> Result<SymList> {
                const SymList& old = call.type("self").sizes;
                int64_t rank = static_cast<int64_t>(old.size());
                if (rank == 0) return SymList{1};
                int64_t first = call.dim("start_dim", rank), last = call.dim("end_dim", rank);
                if (first == last) return old;
                SymList out(old.begin(), old.begin() + first);
                out.push_back(product(SymList(old.begin() + first, old.begin() + last + 1)));
                out.insert(out.end(), old.begin() + last + 1, old.end());
                return out;
              })
      .sample("aten.flatten.using_ints(f32[2,3,4], 1)")
      .sample("aten.flatten.using_ints(f32[])");
  add_reshape(ops, "ravel.default",
              [](const Call& call) -> Result<SymList> { return SymList{product(call.type("self").sizes)}; })
      // Made contiguous first, so that even steps do not stay.
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        return one(TensorType{x.dtype, {product(x.sizes)}, {1}, x.device});
      })
      .sample("aten.ravel.default(f32[2,3])");
  add_reshape(ops, "unflatten.int", [](const Call& call) -> Result<SymList> {
    const SymList& old = call.type("self").sizes;
    int64_t dim = call.dim("dim", static_cast<int64_t>(old.size()));
    TD_TRY(SymList inner, solved_sizes(call.integers("sizes"), {old[at(dim)]}));
    SymList out(old.begin(), old.begin() + dim);
    out.insert(out.end(), inner.begin(), inner.end());
    out.insert(out.end(), old.begin() + dim + 1, old.end());
    return out;
  }).sample("aten.unflatten.int(f32[4,6], 1, [2, -1])");
}

// The dims that squeeze drops: of size 1, among the asked.
Dims squeezed_dims(const Call& call) {
  const TensorType& x = call.type("self");
  Dims dims;
  Dims asked(x.sizes.size());
  std::iota(asked.begin(), asked.end(), 0);
  if (call.schema().find_arg("dim") >= 0) asked = call.integers("dim").empty() ? Dims{} : call.dims("dim", x.rank());
  for (int64_t d : asked)
    if (is_one(x.sizes[at(d)])) dims.push_back(d);
  return dims;
}

void add_size_one_dims(OpTable& ops) {
  for (const char* form :
       {"squeeze.default", "squeeze.dim", "squeeze.dims", "squeeze_copy.default", "squeeze_copy.dim"}) {
    std::string name = form;
    add_view(
        ops, name,
        [](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          Dims gone = squeezed_dims(call);
          TensorType out{x.dtype, reduced_sizes(x.sizes, gone, false), {}, x.device};
          if (has_strides(x)) out.strides = reduced_sizes(x.strides, gone, false);
          return one(std::move(out));
        },
        [](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          Dims gone = squeezed_dims(call);
          for (size_t i = gone.size(); i-- > 0;) x = b.squeeze(x, gone[i]);
          return x;
        })
        .sample("aten." + name + "(f32[1,3,1]" +
                (name.ends_with("dim")    ? ", 0)"
                 : name.ends_with("dims") ? ", [0, -1])"
                                          : ")"));
  }
  for (const char* form : {"unsqueeze.default", "unsqueeze_copy.default"})
    add_view(
        ops, form,
        [](const Call& call) -> Types {
          TensorType x = call.type("self");
          int64_t dim = call.dim("dim", x.rank() + 1);
          if (has_strides(x))
            x.strides.insert(x.strides.begin() + dim, dim < x.rank() ? x.sizes[at(dim)] * x.strides[at(dim)] : Sym(1));
          x.sizes.insert(x.sizes.begin() + dim, 1);
          return one(std::move(x));
        },
        [](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          return b.unsqueeze(x, call.dim("dim", x.rank() + 1));
        })
        .sample(format("aten.{}(f32[2,3], -1)", form))
        .sample(format("aten.{}(f32[2,3], 0)", form));
}

// ---- expand

Result<SymList> expanded_sizes(const Call& call) {
  const SymList& old = call.type("self").sizes;
  if (is_tensor(call, "other")) return call.type("other").sizes;
  SymList sizes = call.integers("size");
  if (sizes.size() < old.size())
    return fail(Kind::bad_graph, "expand of [{}] to [{}]", to_string(old), to_string(sizes));
  size_t new_dims = sizes.size() - old.size();
  for (size_t i = new_dims; i < sizes.size(); ++i)
    if (sizes[i] == Sym(-1)) sizes[i] = old[i - new_dims];
  return sizes;
}

void add_expands(OpTable& ops) {
  for (const char* form : {"expand.default", "expand_as.default", "broadcast_to.default", "expand_copy.default"}) {
    std::string name = form;
    add_view(
        ops, name,
        [](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          TD_TRY(SymList sizes, expanded_sizes(call));
          TensorType out{x.dtype, sizes, {}, x.device};
          if (!has_strides(x)) return one(std::move(out));
          out.strides.assign(sizes.size(), 0);
          for (size_t i = sizes.size(); i-- > 0;) {
            int64_t d = static_cast<int64_t>(i) - static_cast<int64_t>(sizes.size()) + x.rank();
            Sym size = d >= 0 ? x.sizes[at(d)] : Sym(1);
            Sym stride = d >= 0 ? x.strides[at(d)] : i + 1 < sizes.size() ? sizes[i + 1] * out.strides[i + 1] : Sym(1);
            out.strides[i] = is_one(size) && !is_one(sizes[i]) ? Sym(0) : stride;
          }
          return one(std::move(out));
        },
        [](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          TD_TRY(SymList sizes, expanded_sizes(call));
          return b.broadcast(call.tensor("self"), sizes);
        })
        .sample("aten." + name + "(f32[3,1], " + (name.starts_with("expand_as") ? "f32[2,3,4])" : "[2, 3, 4])"));
  }
}

// ---- slices

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

// ---- windows and diagonals

void add_windows(OpTable& ops) {
  struct Diagonal {
    int64_t a, b;
    Sym row, column, length;
  };
  auto read = [](const Call& call) {
    const TensorType& x = call.type(call.schema().find_arg("self") >= 0 ? "self" : "A");
    Diagonal d{call.dim("dim1", x.rank()), call.dim("dim2", x.rank()), 0, 0, 0};
    Sym offset = call.integer("offset");
    d.row = sym_max(-offset, 0);
    d.column = sym_max(offset, 0);
    d.length = sym_max(sym_min(x.sizes[at(d.a)] - d.row, x.sizes[at(d.b)] - d.column), 0);
    return d;
  };
  for (const char* form : {"diagonal.default", "diagonal_copy.default"})
    add_view(
        ops, form,
        [read](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          Diagonal d = read(call);
          TensorType out{x.dtype, reduced_sizes(x.sizes, {d.a, d.b}, false), {}, x.device};
          out.sizes.push_back(d.length);
          if (has_strides(x)) {
            out.strides = reduced_sizes(x.strides, {d.a, d.b}, false);
            out.strides.push_back(x.strides[at(d.a)] + x.strides[at(d.b)]);
          }
          return one(std::move(out));
        },
        [read](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          Diagonal d = read(call);
          SymList sizes = reduced_sizes(x.sizes, {d.a, d.b}, false);
          sizes.push_back(d.length);
          LoopBuilder* p = &b;
          return b.from(x.dtype, sizes, [p, x, d](const Index& i) {
            Index xi(i.begin(), i.end() - 1);
            int64_t low = std::min(d.a, d.b), high = std::max(d.a, d.b);
            xi.insert(xi.begin() + low, ExprId{});
            xi.insert(xi.begin() + high, ExprId{});
            xi[at(d.a)] = p->add(i.back(), p->index(d.row));
            xi[at(d.b)] = p->add(i.back(), p->index(d.column));
            return x.at(xi);
          });
        })
        .sample(format("aten.{}(f32[3,4], 1)", form))
        .sample(format("aten.{}(f32[2,3,4], 0, 1, 2)", form));
  for (const char* form : {"unfold.default", "unfold_copy.default"})
    add_view(
        ops, form,
        [](const Call& call) -> Types {
          TensorType x = call.type("self");
          if (x.rank() == 0) return one({x.dtype, {call.integer("size")}, {1}, x.device});
          size_t dim = at(call.dim("dimension", x.rank()));
          Sym size = call.integer("size"), step = call.integer("step");
          x.sizes[dim] = floor_div(x.sizes[dim] - size, step) + 1;
          x.sizes.push_back(size);
          if (!x.strides.empty()) {
            x.strides.push_back(x.strides[dim]);
            x.strides[dim] *= step;
          }
          return one(std::move(x));
        },
        [](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          if (x.rank() == 0) return b.from(x.dtype, {call.integer("size")}, [x](const Index&) { return x.at({}); });
          size_t dim = at(call.dim("dimension", x.rank()));
          Sym size = call.integer("size"), step = call.integer("step");
          SymList sizes = x.sizes;
          sizes[dim] = floor_div(sizes[dim] - size, step) + 1;
          sizes.push_back(size);
          LoopBuilder* p = &b;
          return b.from(x.dtype, sizes, [p, x, dim, step](const Index& i) {
            Index xi(i.begin(), i.end() - 1);
            xi[dim] = p->add(p->mul(xi[dim], p->index(step)), i.back());
            return x.at(xi);
          });
        })
        .sample(format("aten.{}(f32[], 0, 1, 1)", form))
        .sample(format("aten.{}(f32[2,7], 1, 3, 2)", form));
  // Over the base's memory: known here when the base is dense, its elements then are that memory in dim order.
  for (const char* form : {"as_strided.default", "as_strided_copy.default"})
    add_view(
        ops, form,
        [](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          if (!has_strides(x) || !dense_order(x))
            return fail(Kind::unsupported_op, "as_strided of a tensor whose memory has gaps: {}", to_string(x));
          return one({x.dtype, call.integers("size"), call.integers("stride"), x.device});
        },
        [](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          const TensorType& type = call.type("self");
          LoopValue memory = b.permute(call.tensor("self"), *dense_order(type));
          SymList strides = call.integers("stride");
          Sym offset = call.has("storage_offset") ? call.integer("storage_offset") : Sym(0);
          LoopBuilder* p = &b;
          return b.from(type.dtype, call.integers("size"), [p, memory, strides, offset](const Index& i) {
            ExprId place = p->index(offset);
            for (size_t d = 0; d < i.size(); ++d) place = p->add(place, p->mul(i[d], p->index(strides[d])));
            return memory.at(p->unflatten(place, memory.sizes));
          });
        })
        .sample(format("aten.{}(f32[4,5], [3, 2], [5, 1], 1)", form));
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

void add_view_ops(OpTable& ops) {
  add_permutations(ops);
  add_reshapes(ops);
  add_size_one_dims(ops);
  add_expands(ops);
  add_slices(ops);
  add_splits(ops);
  add_windows(ops);
}

}  // namespace toroid
