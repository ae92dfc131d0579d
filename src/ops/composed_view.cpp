// Views and rearrangements that are made of slices, flips, reshapes and joins.
#include <algorithm>

#include "base/check.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

LoopValue part(Compose& c, const LoopValue& x, int64_t dim, const Sym& start, const Sym& end) {
  return c("slice.Tensor", {x, dim, start, end});
}

// Pieces that end at the given places; the last one takes the rest.
std::vector<LoopValue> cut(Compose& c, const LoopValue& x, int64_t dim, const SymList& places) {
  std::vector<LoopValue> parts;
  Sym start = 0;
  for (const Sym& place : places) {
    parts.push_back(part(c, x, dim, start, place));
    start = place;
  }
  parts.push_back(part(c, x, dim, start, INT64_MAX));
  return parts;
}

// hsplit cuts the second dim (the only one of a 1-d tensor), vsplit the first, dsplit the third.
void add_splits(OpTable& ops) {
  for (auto [name, fixed] : {std::pair{"hsplit", 1}, std::pair{"vsplit", 0}, std::pair{"dsplit", 2}}) {
    auto dim_of = [fixed = fixed](const LoopValue& x) -> int64_t { return fixed == 1 && x.rank() == 1 ? 0 : fixed; };
    compose(ops, format("{}.int", name),
            [=](Compose& c) -> Composed {
              LoopValue x = c.tensor("self");
              return c.all("tensor_split.sections", {x, c["sections"], dim_of(x)});
            })
        .view()
        .sample(format("aten.{}.int(f32[4,6,2], 2)", name));
    compose(ops, format("{}.array", name),
            [=](Compose& c) -> Composed {
              LoopValue x = c.tensor("self");
              return cut(c, x, dim_of(x), c.call.integers("indices"));
            })
        .view()
        .sample(format("aten.{}.array(f32[4,6,5], [1, 3])", name));
  }
  compose(ops, "tensor_split.indices",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("self");
            return cut(c, x, c.call.dim("dim", x.rank()), c.call.integers("indices"));
          })
      .view()
      .sample("aten.tensor_split.indices(f32[6,2], [1, 4])");
}

void add_ranks(OpTable& ops) {
  for (int64_t rank : {1, 2, 3}) {
    auto raised = [rank](Compose& c, LoopValue x) {
      if (x.rank() == 0) return c("reshape.default", {x, SymList(at(rank), Sym(1))});
      if (rank >= 2 && x.rank() == 1) x = c("unsqueeze.default", {x, 0});
      if (rank == 3 && x.rank() == 2) x = c("unsqueeze.default", {x, 2});
      return x;
    };
    compose(ops, format("atleast_{}d.default", rank),
            [raised](Compose& c) -> Composed { return raised(c, c.tensor("self")); })
        .view()
        .sample(format("aten.atleast_{}d.default(f32[3])", rank))
        .sample(format("aten.atleast_{}d.default(f32[])", rank));
    compose(ops, format("atleast_{}d.Sequence", rank),
            [raised](Compose& c) -> Composed {
              std::vector<LoopValue> list;
              for (const LoopValue& x : c.tensors("tensors")) list.push_back(raised(c, x));
              return list;
            })
        .view()
        .sample(format("aten.atleast_{}d.Sequence([f32[3], f32[]])", rank));
  }
  compose(ops, "broadcast_tensors.default",
          [](Compose& c) -> Composed {
            std::vector<LoopValue> list = c.tensors("tensors");
            SymList sizes;
            for (const LoopValue& x : list) {
              auto both = broadcast_sizes(sizes, x.sizes);
              if (!both) throw Compose::Refused{both.error()};
              sizes = *both;
            }
            for (LoopValue& x : list) x = c("expand.default", {x, sizes});
            return list;
          })
      .view()
      .sample("aten.broadcast_tensors.default([f32[3,1], f32[4]])");
  compose(ops, "linalg_diagonal.default",
          [](Compose& c) -> Composed {
            return c("diagonal.default", {c["A"], c["offset"], c["dim1"], c["dim2"]});
          })
      .view()
      .sample("aten.linalg_diagonal.default(f32[2,3,4], offset=1)");
  // Sums over what broadcasting to self's shape would repeat.
  compose(ops, "sum_to_size.default",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("self");
            SymList wanted = c.call.integers("size"), dims;
            const size_t added = x.sizes.size() - wanted.size();
            for (size_t d = 0; d < x.sizes.size(); ++d)
              if (d < added || (is_one(wanted[d - added]) && !is_one(x.sizes[d])))
                dims.push_back(static_cast<int64_t>(d));
            if (wanted.empty()) return c("sum.default", {x});
            if (dims.empty()) return x;
            LoopValue sum = c("sum.dim_IntList", {x, dims, true});
            return c("reshape.default", {sum, wanted});
          })
      .sample("aten.sum_to_size.default(f32[2,3,4], [3, 1])")
      .sample("aten.sum_to_size.default(bool[], [])")
      .sample("aten.sum_to_size.default(i32[2,3], [3])");
}

void add_flips(OpTable& ops) {
  compose(ops, "flipud.default", [](Compose& c) -> Composed {
    return c("flip.default", {c["self"], SymList{0}});
  }).sample("aten.flipud.default(f32[3,4])");
  compose(ops, "fliplr.default", [](Compose& c) -> Composed {
    return c("flip.default", {c["self"], SymList{1}});
  }).sample("aten.fliplr.default(f32[3,4])");
  // k quarter turns from the first dim towards the second.
  compose(ops, "rot90.default",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("self");
            SymList dims = c.call.integers("dims");
            const int64_t turns = ((c.call.constant("k") % 4) + 4) % 4;
            if (turns == 0) return c("clone.default", {x});
            if (turns == 2) return c("flip.default", {x, dims});
            const Sym& flipped = turns == 1 ? dims[1] : dims[0];
            return c("transpose.int", {c("flip.default", {x, SymList{flipped}}), dims[0], dims[1]});
          })
      .sample("aten.rot90.default(f32[3,4])")
      .sample("aten.rot90.default(f32[3,4], 3)")
      .sample("aten.rot90.default(f32[3,4], 2)");
  // Moves the zero frequency to the middle, and back.
  for (bool inverse : {false, true})
    compose(ops, inverse ? "fft_ifftshift.default" : "fft_fftshift.default", [inverse](Compose& c) -> Composed {
      LoopValue x = c.tensor("self");
      SymList shifts, dims;
      std::vector<int64_t> all;
      if (c.call.has("dim"))
        for (const Sym& d : c.call.integers("dim")) all.push_back(d.value() < 0 ? d.value() + x.rank() : d.value());
      else
        for (int64_t d = 0; d < x.rank(); ++d) all.push_back(d);
      for (int64_t d : all) {
        dims.push_back(d);
        const Sym& n = x.sizes[at(d)];
        shifts.push_back(inverse ? floor_div(n + 1, 2) : floor_div(n, 2));
      }
      if (dims.empty()) return x;
      return c("roll.default", {x, shifts, dims});
    }).sample(inverse ? "aten.fft_ifftshift.default(f32[5,4])" : "aten.fft_fftshift.default(f32[5,4], [0])");
}

// A vector on a diagonal of zeros, `offset` above the main one; batch dims before stay.
LoopValue on_diagonal(Compose& c, const LoopValue& x, int64_t offset, int64_t dim1, int64_t dim2) {
  LoopBuilder* p = &c.b;
  const int64_t rank = x.rank() + 1;
  const Sym side = x.sizes.back() + Sym(offset < 0 ? -offset : offset);
  SymList sizes;
  size_t next = 0;
  for (int64_t d = 0; d < rank; ++d) sizes.push_back(d == dim1 || d == dim2 ? side : x.sizes[next++]);
  return c.b.from(x.dtype, sizes, [=](const Index& i) {
    ExprId row = i[at(dim1)], column = i[at(dim2)];
    Index xi;
    for (int64_t d = 0; d < rank; ++d)
      if (d != dim1 && d != dim2) xi.push_back(i[at(d)]);
    xi.push_back(offset < 0 ? column : row);
    return p->where(p->op(ScalarOp::eq, {p->sub(column, row), int_expr(*p, offset)}), x.at(xi),
                    number_expr(*p, 0, x.dtype));
  });
}

void add_diagonals(OpTable& ops) {
  compose(ops, "diag_embed.default",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("self");
            return on_diagonal(c, x, c.call.constant("offset"), c.call.dim("dim1", x.rank() + 1),
                               c.call.dim("dim2", x.rank() + 1));
          })
      .sample("aten.diag_embed.default(f32[2,3], 1)")
      .sample("aten.diag_embed.default(f32[2,3], -1, 0, 2)");
  compose(ops, "diag.default",
          [](Compose& c) -> Composed {
            LoopValue x = c.tensor("self");
            if (x.rank() == 1) return on_diagonal(c, x, c.call.constant("diagonal"), 0, 1);
            return c("diagonal_copy.default", {x, c["diagonal"]});
          })
      .sample("aten.diag.default(f32[3], 1)")
      .sample("aten.diag.default(f32[3,4], -1)");
  compose(ops, "diagflat.default", [](Compose& c) -> Composed {
    LoopValue flat = c("reshape.default", {c["self"], SymList{-1}});
    return on_diagonal(c, flat, c.call.constant("offset"), 0, 1);
  }).sample("aten.diagflat.default(f32[2,2], -1)");
}

void add_joins(OpTable& ops) {
  // Each block between zeros, one below another.
  compose(ops, "block_diag.default", [](Compose& c) -> Composed {
    std::vector<LoopValue> blocks = c.tensors("tensors");
    DType dtype = blocks.at(0).dtype;
    Sym width = 0, before = 0;
    for (LoopValue& x : blocks) {
      dtype = promote(dtype, x.dtype);
      if (x.rank() < 2) x = c("reshape.default", {x, SymList{1, product(x.sizes)}});
      width += x.sizes[1];
    }
    for (LoopValue& x : blocks) {
      const Sym own = x.sizes[1];
      x = c("constant_pad_nd.default", {c.to(x, dtype), SymList{before, width - before - own}, 0});
      before += own;
    }
    return c("cat.default", {blocks, 0});
  }).sample("aten.block_diag.default([f32[2,3], f32[2], f32[]])");
  compose(ops, "dstack.default", [](Compose& c) -> Composed {
    std::vector<LoopValue> list = c.tensors("tensors");
    for (LoopValue& x : list) x = c("atleast_3d.default", {x});
    return c("cat.default", {list, 2});
  }).sample("aten.dstack.default([f32[2,3], f32[2,3]])");
  // Every tensor cut into equal chunks along dim (the last one padded by zeros); what is behind dim is flat.
  compose(ops, "_chunk_cat.default", [](Compose& c) -> Composed {
    std::vector<LoopValue> list = c.tensors("tensors");
    const int64_t dim = c.call.dim("dim", list.at(0).rank());
    const Sym chunks = c.call.integer("num_chunks");
    for (LoopValue& x : list) {
      const Sym size = x.sizes[at(dim)], per = ceil_div(size, chunks);
      SymList pad(2 * at(x.rank() - dim), Sym(0));
      pad.back() = per * chunks - size;
      x = c("constant_pad_nd.default", {x, pad, 0});
      SymList sizes(x.sizes.begin(), x.sizes.begin() + dim);
      sizes.push_back(chunks);
      sizes.push_back(per * product(SymList(x.sizes.begin() + dim + 1, x.sizes.end())));
      x = c("reshape.default", {x, sizes});
    }
    return c("cat.default", {list, dim + 1});
  }).sample("aten._chunk_cat.default([f32[5,2], f32[3,2]], 0, 2)");
  // Padded to the longest one and stacked.
  compose(ops, "pad_sequence.default",
          [](Compose& c) -> Composed {
            std::vector<LoopValue> list = c.tensors("sequences");
            Sym longest = 0;
            for (const LoopValue& x : list) longest = sym_max(longest, x.sizes.at(0));
            const bool left = c.call.text("padding_side") == "left";
            for (LoopValue& x : list) {
              SymList pad(2 * x.sizes.size(), Sym(0));
              pad[pad.size() - (left ? 2 : 1)] = longest - x.sizes[0];
              x = c("constant_pad_nd.default", {x, pad, c["padding_value"]});
            }
            return c("stack.default", {list, c.call.flag("batch_first") ? 0 : 1});
          })
      .sample("aten.pad_sequence.default([f32[4,3], f32[2,3], f32[3,3]], True, 0.5)")
      .sample("aten.pad_sequence.default([f32[4], f32[2]], False, 0.0, \"left\")");
  compose(ops, "flatten_dense_tensors.default", [](Compose& c) -> Composed {
    std::vector<LoopValue> list = c.tensors("tensors");
    for (LoopValue& x : list) x = c("reshape.default", {x, SymList{-1}});
    return c("cat.default", {list, 0});
  }).sample("aten.flatten_dense_tensors.default([f32[2,3], f32[4]])");
  compose(ops, "cartesian_prod.default", [](Compose& c) -> Composed {
    std::vector<LoopValue> list = c.tensors("tensors");
    if (list.size() == 1) return list[0];
    std::vector<LoopValue> grids = c.all("meshgrid.indexing", {list, "ij"});
    for (LoopValue& x : grids) x = c("reshape.default", {x, SymList{-1}});
    return c("stack.default", {grids, 1});
  }).sample("aten.cartesian_prod.default([f32[3], f32[2]])");
  // Rows of `r` positions in increasing order, each combination once: known when the size is.
  compose(ops, "combinations.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self");
    const int64_t r = c.call.constant("r");
    const bool repeats = c.call.flag("with_replacement");
    if (!x.sizes[0].is_constant()) c.refuse("a symbolic size");
    const int64_t n = x.sizes[0].value();
    if (r == 0) return c.b.from(x.dtype, {0}, [x](const Index& i) { return x.at(i); });
    std::vector<std::vector<int64_t>> rows;
    std::vector<int64_t> row(at(r));
    std::function<void(size_t, int64_t)> fill = [&](size_t k, int64_t least) {
      if (k == row.size()) return void(rows.push_back(row));
      for (row[k] = least; row[k] < n; ++row[k]) fill(k + 1, row[k] + (repeats ? 0 : 1));
    };
    fill(0, 0);
    if (rows.size() > 4096) c.refuse(format("{} combinations", rows.size()));
    std::vector<LoopValue> columns;
    for (size_t k = 0; k < row.size(); ++k) {
      std::vector<LoopValue> places;
      for (const auto& one : rows) places.push_back(c("select.int", {x, 0, one[k]}));
      if (places.empty())
        columns.push_back(part(c, x, 0, 0, 0));
      else
        columns.push_back(c("stack.default", {places, 0}));
    }
    return c("stack.default", {columns, 1});
  }).sample("aten.combinations.default(f32[4])");
  // Both with a dim of 1 beside each of their own, multiplied and merged.
  compose(ops, "kron.default", [](Compose& c) -> Composed {
    LoopValue x = c.tensor("self"), y = c.tensor("other");
    const int64_t rank = std::max(x.rank(), y.rank());
    SymList xs, ys, merged;
    for (int64_t d = 0; d < rank; ++d) {
      auto size = [&](const LoopValue& v) {
        int64_t i = d - (rank - v.rank());
        return i < 0 ? Sym(1) : v.sizes[at(i)];
      };
      xs.insert(xs.end(), {size(x), 1});
      ys.insert(ys.end(), {1, size(y)});
      merged.push_back(size(x) * size(y));
    }
    LoopValue product = c.mul(c("reshape.default", {x, xs}), c("reshape.default", {y, ys}));
    return c("reshape.default", {product, merged});
  }).sample("aten.kron.default(f32[2,3], f32[4])");
}

}  // namespace

void add_composed_view_ops(OpTable& ops) {
  add_splits(ops);
  add_ranks(ops);
  add_flips(ops);
  add_diagonals(ops);
  add_joins(ops);
}

}  // namespace toroid
