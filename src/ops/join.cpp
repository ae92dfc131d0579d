// Tensors joined, padded, repeated and turned: cat, stack, pad, repeat, roll, flip, pixel_shuffle.
#include <algorithm>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

// ---- cat and stack

// The tensors that count: an empty 1-d one is skipped, as it always was.
std::vector<ValueId> parts_of(const Call& call) {
  std::vector<ValueId> all = call.values("tensors"), kept;
  for (ValueId id : all) {
    const TensorType& type = call.type(id);
    if (!(type.rank() == 1 && is_zero(type.sizes[0]))) kept.push_back(id);
  }
  return kept.empty() ? std::vector<ValueId>{all[0]} : kept;
}

DType joined_dtype(const Call& call) {
  std::optional<DType> dtype;
  for (ValueId id : call.values("tensors")) {
    DType d = call.type(id).dtype;
    dtype = dtype ? promote(*dtype, d) : d;
  }
  return *dtype;
}

Types infer_cat(const Call& call) {
  std::vector<ValueId> parts = parts_of(call);
  const TensorType& first = call.type(parts[0]);
  int64_t dim = call.dim("dim", first.rank());
  SymList sizes = first.sizes;
  sizes[at(dim)] = 0;
  bool channels_last = true, known = true;
  for (ValueId id : parts) {
    const TensorType& type = call.type(id);
    if (type.rank() != first.rank())
      return fail(Kind::bad_graph, "`{}` of ranks {} and {}", call.op(), first.rank(), type.rank());
    sizes[at(dim)] += type.sizes[at(dim)];
    bool last = is_channels_last(type) && !is_contiguous(type);
    channels_last = channels_last && last;
    known = known && (last || is_contiguous(type));
  }
  TensorType out = contiguous_type(call, joined_dtype(call), sizes);
  if (channels_last) out.strides = channels_last_strides(sizes);
  if (!channels_last && !known) out.strides.clear();
  return one(std::move(out));
}

Result<LoopValue> lower_cat(LoopBuilder& b, const LowerCall& call) {
  std::vector<LoopValue> parts;
  for (ValueId id : parts_of(call)) parts.push_back(b.convert(call.tensor(id), joined_dtype(call)));
  return b.cat(parts, call.dim("dim", parts[0].rank()));
}

void add_joins(OpTable& ops) {
  for (const char* name : {"aten.cat.default", "aten.concat.default", "aten.concatenate.default"})
    ops.add(name)
        .infer(infer_cat)
        .lower(lower_cat)
        .sample(std::string(name) + "([f32[2,3], f32[2,4], f32[2,1]], 1)")
        .sample(std::string(name) + "([i64[2], f32[3]], 0)");
  ops.add("aten.stack.default")
      .infer([](const Call& call) -> Types {
        std::vector<ValueId> parts = call.values("tensors");
        const TensorType& first = call.type(parts[0]);
        bool known = true;
        for (ValueId id : parts) known = known && is_contiguous(call.type(id));
        TensorType out = contiguous_type(call, joined_dtype(call), first.sizes);
        out.sizes.insert(out.sizes.begin() + call.dim("dim", first.rank() + 1), static_cast<int64_t>(parts.size()));
        out.strides = known ? contiguous_strides(out.sizes) : SymList{};
        return one(std::move(out));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        std::vector<LoopValue> parts;
        for (ValueId id : call.values("tensors")) {
          LoopValue x = b.convert(call.tensor(id), joined_dtype(call));
          parts.push_back(b.unsqueeze(x, call.dim("dim", x.rank() + 1)));
        }
        return b.cat(parts, call.dim("dim", parts[0].rank()));
      })
      .sample("aten.stack.default([f32[2,3], f32[2,3]], -1)");
  // Along dim 1 of matrices, dim 0 of vectors; and along dim 0 of tensors of rank 2 at least.
  for (bool horizontal : {true, false})
    for (const char* name : {horizontal ? "hstack" : "vstack", horizontal ? "column_stack" : "row_stack"}) {
      std::string base = name;
      auto shaped = [base](SymList sizes) {
        if (sizes.empty()) sizes = {1};
        if (sizes.size() == 1 && base == "column_stack") return SymList{sizes[0], 1};
        if (sizes.size() == 1 && base != "hstack") return SymList{1, sizes[0]};
        return sizes;
      };
      auto dim = [base](const SymList& shape) -> size_t {
        return base == "column_stack" || (base == "hstack" && shape.size() > 1) ? 1 : 0;
      };
      ops.add("aten." + base + ".default")
          .infer([shaped, dim](const Call& call) -> Types {
            std::vector<ValueId> parts = call.values("tensors");
            SymList sizes = shaped(call.type(parts[0]).sizes);
            size_t d = dim(sizes);
            sizes[d] = 0;
            for (ValueId id : parts) sizes[d] += shaped(call.type(id).sizes)[d];
            return one(unclaimed_type(call, joined_dtype(call), sizes));
          })
          .lower([shaped, dim](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
            std::vector<LoopValue> parts;
            for (ValueId id : call.values("tensors")) {
              LoopValue x = b.convert(call.tensor(id), joined_dtype(call));
              parts.push_back(b.reshape(x, shaped(x.sizes)));
            }
            return b.cat(parts, static_cast<int64_t>(dim(parts[0].sizes)));
          })
          .sample("aten." + base + ".default([f32[2,3], f32[2,3]])")
          .sample("aten." + base + ".default([f32[3], f32[3]])");
    }
  // Each 1-d tensor along a dim of its own; "xy" swaps the first two.
  for (const char* form : {"default", "indexing"})
    ops.add(format("aten.meshgrid.{}", form))
        .infer([](const Call& call) -> Types {
          std::vector<ValueId> parts = call.values("tensors");
          bool swap = call.schema().find_arg("indexing") >= 0 && call.text("indexing") == "xy" && parts.size() > 1;
          SymList sizes;
          for (ValueId id : parts) sizes.push_back(call.type(id).rank() ? call.type(id).sizes[0] : Sym(1));
          if (swap) std::swap(sizes[0], sizes[1]);
          return std::vector<TensorType>(parts.size(), unclaimed_type(call, call.type(parts[0]).dtype, sizes));
        })
        .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          std::vector<ValueId> parts = call.values("tensors");
          bool swap = call.schema().find_arg("indexing") >= 0 && call.text("indexing") == "xy" && parts.size() > 1;
          SymList sizes;
          for (ValueId id : parts) sizes.push_back(call.type(id).rank() ? call.type(id).sizes[0] : Sym(1));
          if (swap) std::swap(sizes[0], sizes[1]);
          std::vector<LoopValue> out;
          for (size_t k = 0; k < parts.size(); ++k) {
            LoopValue x = call.tensor(parts[k]);
            size_t d = swap && k < 2 ? 1 - k : k;
            out.push_back(
                b.from(x.dtype, sizes, [x, d](const Index& i) { return x.rank() ? x.at({i[d]}) : x.at({}); }));
          }
          return out;
        })
        .view()
        .sample(format("aten.meshgrid.{}([f32[3], f32[4]]{})", form, form[0] == 'i' ? ", indexing=\"xy\"" : ""));
}

// ---- padding

struct Pads {
  SymList before, after;  // per dim
};

// The list runs from the last dim: (before, after) pairs.
Pads pads_of(const Call& call) {
  SymList list = call.integers("pad");
  size_t rank = call.type("self").sizes.size();
  Pads p{SymList(rank, 0), SymList(rank, 0)};
  for (size_t i = 0; i + 1 < list.size(); i += 2) {
    p.before[rank - 1 - i / 2] = list[i];
    p.after[rank - 1 - i / 2] = list[i + 1];
  }
  return p;
}

std::string pad_mode(const Call& call) { return call.schema().find_arg("mode") >= 0 ? call.text("mode") : "constant"; }

Types infer_pad(const Call& call) {
  const TensorType& x = call.type("self");
  Pads pads = pads_of(call);
  SymList sizes = x.sizes;
  for (size_t d = 0; d < sizes.size(); ++d) sizes[d] += pads.before[d] + pads.after[d];
  TensorType out = contiguous_type(call, x.dtype, sizes);
  if (!is_contiguous(x) || pad_mode(call) != "constant") out.strides.clear();
  return one(std::move(out));
}

// The position in x of a padded position beyond its ends.
ExprId folded(LoopBuilder& b, ExprId i, const Sym& size, const std::string& mode) {
  ExprId last = b.index(size - 1), zero = int_expr(b, 0);
  if (mode == "replicate") return b.op(ScalarOp::min, {b.op(ScalarOp::max, {i, zero}), last});
  if (mode == "circular") return b.op(ScalarOp::remainder, {i, b.index(size)});
  // reflect: |i|, then from the far end; each at most once.
  ExprId near = b.op(ScalarOp::max, {i, b.sub(zero, i)});
  return b.op(ScalarOp::min, {near, b.sub(b.index((size - 1) * 2), near)});
}

Result<LoopValue> lower_pad(LoopBuilder& b, const LowerCall& call) {
  LoopValue x = call.tensor("self");
  Pads pads = pads_of(call);
  std::string mode = pad_mode(call);
  if (mode == "constant") {
    ExprId value = call.has("value") ? call.scalar(b, "value", x.dtype) : number_expr(b, 0, x.dtype);
    return b.pad(x, pads.before, pads.after, value);
  }
  SymList sizes = x.sizes;
  for (size_t d = 0; d < sizes.size(); ++d) sizes[d] += pads.before[d] + pads.after[d];
  LoopBuilder* p = &b;
  return b.from(x.dtype, sizes, [p, x, pads, mode](const Index& i) {
    Index xi = i;
    for (size_t d = 0; d < xi.size(); ++d)
      if (!is_zero(pads.before[d]) || !is_zero(pads.after[d]))
        xi[d] = folded(*p, p->sub(xi[d], p->index(pads.before[d])), x.sizes[d], mode);
    return x.at(xi);
  });
}

void add_pads(OpTable& ops) {
  ops.add("aten.constant_pad_nd.default")
      .infer(infer_pad)
      .lower(lower_pad)
      .sample("aten.constant_pad_nd.default(f32[2,5], [1, 2, 0, 1], 0.5)")
      .sample("aten.constant_pad_nd.default(f32[2,5], [-1, 2])");
  OpRow& pad = ops.add("aten.pad.default").infer(infer_pad).lower(lower_pad);
  for (const char* mode : {"constant", "reflect", "replicate", "circular"})
    pad.sample(format("aten.pad.default(f32[1,2,5], [2, 1], \"{}\")", mode));
  for (const char* mode : {"reflection", "replication"})
    for (int dims : {1, 2, 3}) {
      std::string name = format("aten.{}_pad{}d.default", mode, dims), pads = "1, 1", plane = "5";
      for (int d = 1; d < dims; ++d) pads += ", 1, 1", plane += ",4";
      std::string fold = *mode == 'r' && std::string(mode) == "reflection" ? "reflect" : "replicate";
      ops.add(name)
          .infer([](const Call& call) -> Types {
            const TensorType& x = call.type("self");
            SymList list = call.integers("padding"), sizes = x.sizes;
            for (size_t i = 0; i + 1 < list.size(); i += 2) sizes[sizes.size() - 1 - i / 2] += list[i] + list[i + 1];
            return one(unclaimed_type(call, x.dtype, sizes));
          })
          .lower([fold](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
            LoopValue x = call.tensor("self");
            SymList list = call.integers("padding"), sizes = x.sizes;
            for (size_t i = 0; i + 1 < list.size(); i += 2) sizes[sizes.size() - 1 - i / 2] += list[i] + list[i + 1];
            LoopBuilder* p = &b;
            return b.from(x.dtype, sizes, [p, x, list, fold](const Index& i) {
              Index xi = i;
              for (size_t k = 0; k + 1 < list.size(); k += 2) {
                size_t d = xi.size() - 1 - k / 2;
                xi[d] = folded(*p, p->sub(xi[d], p->index(list[k])), x.sizes[d], fold);
              }
              return x.at(xi);
            });
          })
          .sample(format("{}(f32[1,2,{}], [{}])", name, plane, pads));
    }
}

// ---- repeats and turns

void add_repeats(OpTable& ops) {
  for (const char* form : {"repeat", "tile"}) {
    const char* arg = *form == 'r' ? "repeats" : "dims";
    auto repeats = [arg](const Call& call) {
      SymList r = call.integers(arg);
      size_t rank = call.type("self").sizes.size();
      if (r.size() < rank) r.insert(r.begin(), rank - r.size(), 1);
      return r;
    };
    ops.add(format("aten.{}.default", form))
        .infer([repeats](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          SymList sizes = repeats(call);
          for (size_t d = 0; d < x.sizes.size(); ++d) sizes[sizes.size() - x.sizes.size() + d] *= x.sizes[d];
          return one(contiguous_type(call, x.dtype, sizes));
        })
        .lower([repeats](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          SymList times = repeats(call), sizes = times;
          size_t lead = sizes.size() - x.sizes.size();
          for (size_t d = 0; d < x.sizes.size(); ++d) sizes[lead + d] *= x.sizes[d];
          LoopBuilder* p = &b;
          return b.from(x.dtype, sizes, [p, x, times, lead](const Index& i) {
            Index xi(i.begin() + static_cast<ptrdiff_t>(lead), i.end());
            for (size_t d = 0; d < xi.size(); ++d)
              if (is_one(x.sizes[d]))
                xi[d] = int_expr(*p, 0);
              else if (!is_one(times[lead + d]))
                xi[d] = p->op(ScalarOp::remainder, {xi[d], p->index(x.sizes[d])});
            return x.at(xi);
          });
        })
        .sample(format("aten.{}.default(f32[2,3], [2, 1, 3])", form));
  }
  // Each element `repeats` times in a row; without dim, of the flattened tensor.
  ops.add("aten.repeat_interleave.self_int")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        SymList sizes = call.has("dim") ? x.sizes : SymList{product(x.sizes)};
        sizes[call.has("dim") ? at(call.dim("dim", x.rank())) : 0] *= call.integer("repeats");
        return one(unclaimed_type(call, x.dtype, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        size_t dim = call.has("dim") ? at(call.dim("dim", x.rank())) : 0;
        if (!call.has("dim")) x = b.reshape(x, {product(x.sizes)});
        Sym repeats = call.integer("repeats");
        SymList sizes = x.sizes;
        sizes[dim] *= repeats;
        LoopBuilder* p = &b;
        return b.from(x.dtype, sizes, [p, x, dim, repeats](const Index& i) {
          Index xi = i;
          xi[dim] = p->op(ScalarOp::floordiv, {xi[dim], p->index(repeats)});
          return x.at(xi);
        });
      })
      .sample("aten.repeat_interleave.self_int(f32[2,3], 2, 1)")
      .sample("aten.repeat_interleave.self_int(f32[2,3], 2)");
  ops.add("aten.flip.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        return one({x.dtype, x.sizes, is_contiguous(x) ? contiguous_strides(x.sizes) : SymList{}, x.device});
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        if (call.integers("dims").empty()) return x;
        return b.flip(x, call.dims("dims", x.rank()));
      })
      .sample("aten.flip.default(f32[2,3,4], [0, -1])");
  // Element (i - shift) mod n; without dims over the flattened tensor.
  ops.add("aten.roll.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        return one({x.dtype, x.sizes, is_contiguous(x) ? contiguous_strides(x.sizes) : SymList{}, x.device});
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        SymList shifts = call.integers("shifts"), dims = call.integers("dims"), shape = x.sizes;
        bool flat = dims.empty();
        if (flat) x = b.reshape(x, {product(shape)}), dims = {0};
        int64_t rank = x.rank();
        LoopBuilder* p = &b;
        LoopValue y = b.from(x.dtype, x.sizes, [p, x, shifts, dims, rank](const Index& i) {
          Index xi = i;
          for (size_t k = 0; k < dims.size(); ++k) {
            size_t d = at(dims[k].value() < 0 ? dims[k].value() + rank : dims[k].value());
            if (is_zero(x.sizes[d])) continue;
            // A position is below n, so that one choice does what the remainder would.
            Sym shift = mod(shifts[k], x.sizes[d]);
            ExprId back = p->sub(xi[d], p->index(shift));
            ExprId wraps = p->op(ScalarOp::lt, {xi[d], p->index(shift)});
            xi[d] = is_zero(shift) ? xi[d] : p->where(wraps, p->add(back, p->index(x.sizes[d])), back);
          }
          return x.at(xi);
        });
        return flat ? b.reshape(y, shape) : y;
      })
      .sample("aten.roll.default(f32[4,5], [1, -2], [0, 1])")
      .sample("aten.roll.default(f32[4,5], 3)")
      .sample("aten.roll.default(f32[2,0], [1], [1])");
  for (bool up : {true, false}) {
    std::string name = up ? "aten.pixel_shuffle.default" : "aten.pixel_unshuffle.default";
    const char* arg = up ? "upscale_factor" : "downscale_factor";
    auto sizes_of = [up, arg](const Call& call) {
      SymList sizes = call.type("self").sizes;
      Sym r = call.integer(arg);
      size_t c = sizes.size() - 3;
      sizes[c] = up ? floor_div(sizes[c], r * r) : sizes[c] * r * r;
      for (size_t d : {c + 1, c + 2}) sizes[d] = up ? sizes[d] * r : floor_div(sizes[d], r);
      return sizes;
    };
    ops.add(name)
        .infer([sizes_of](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          SymList sizes = sizes_of(call);
          return one({x.dtype, sizes, is_contiguous(x) ? contiguous_strides(sizes) : SymList{}, x.device});
        })
        .lower([up, arg, sizes_of](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self");
          Sym r = call.integer(arg);
          SymList sizes = sizes_of(call);
          size_t c = sizes.size() - 3;
          LoopBuilder* p = &b;
          // Channel ch of the larger side splits as [channel, row in the block, column in the block].
          return b.from(x.dtype, sizes, [=](const Index& i) {
            Index xi = i;
            ExprId rr = p->index(r);
            auto rem = [&](ExprId a) { return p->op(ScalarOp::remainder, {a, rr}); };
            auto div = [&](ExprId a) { return p->op(ScalarOp::floordiv, {a, rr}); };
            if (up) {
              xi[c] = p->add(p->mul(p->add(p->mul(i[c], rr), rem(i[c + 1])), rr), rem(i[c + 2]));
              xi[c + 1] = div(i[c + 1]);
              xi[c + 2] = div(i[c + 2]);
            } else {
              xi[c + 1] = p->add(p->mul(i[c + 1], rr), rem(div(i[c])));
              xi[c + 2] = p->add(p->mul(i[c + 2], rr), rem(i[c]));
              xi[c] = div(div(i[c]));
            }
            return x.at(xi);
          });
        })
        .sample(name + (up ? "(f32[2,8,3,4], 2)" : "(f32[2,2,6,4], 2)"));
  }
  ops.add("aten.channel_shuffle.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        return one({x.dtype, x.sizes, is_contiguous(x) ? contiguous_strides(x.sizes) : SymList{}, x.device});
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        Sym groups = call.integer("groups");
        SymList split{x.sizes[0], groups, floor_div(x.sizes[1], groups)};
        split.insert(split.end(), x.sizes.begin() + 2, x.sizes.end());
        return b.reshape(b.transpose(b.reshape(x, split), 1, 2), x.sizes);
      })
      .sample("aten.channel_shuffle.default(f32[2,6,3,3], 3)");
}

}  // namespace

void add_join_ops(OpTable& ops) {
  add_joins(ops);
  add_pads(ops);
  add_repeats(ops);
}

}  // namespace toroid
