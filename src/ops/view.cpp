// Views: ops that only rename indices. Their strides follow from the input's.
#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "ops/view.h"

namespace toroid {

bool has_strides(const TensorType& x) { return x.strides.size() == x.sizes.size(); }

bool is_copy_form(const std::string& name) { return name.find("_copy.") != std::string::npos; }

InferRule row_major_results(InferRule rule) {
  return [rule = std::move(rule)](const Call& call) -> Types {
    TD_TRY(std::vector<TensorType> types, rule(call));
    for (TensorType& type : types) type.strides = contiguous_strides(type.sizes);
    return types;
  };
}

OpRow& add_view(OpTable& ops, const std::string& name, InferRule infer, LowerOne lower) {
  OpRow& row = ops.add("aten." + name).lower(std::move(lower));
  if (is_copy_form(name)) return row.infer(row_major_results(std::move(infer)));
  return row.infer(std::move(infer)).view();
}

namespace {

using Dims = std::vector<int64_t>;

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

void add_view_ops(OpTable& ops) {
  add_permutations(ops);
  add_reshapes(ops);
  add_size_one_dims(ops);
  add_expands(ops);
  add_windows(ops);
}

}  // namespace toroid
