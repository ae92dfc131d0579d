// Reads at indices that are data: embedding, index, gather, index_select, embedding_bag.
#include <algorithm>
#include <map>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

// ---------------------------------------------------------------------------------------------- index.Tensor

struct Advanced {
  std::vector<int64_t> dims;     // the indexed dims of self
  std::vector<ValueId> indices;  // their index tensors; a mask's stands once for each dim that it covers
  std::vector<int64_t> columns;  // which dim of the mask, -1: an index tensor
  SymList shape;                 // the index tensors, broadcast
  size_t place = 0;              // where `shape` stands in the result
  SymList sizes;                 // of the result
};

// Adjacent indexed dims keep their place, separated ones move to the front.
Result<Advanced> advanced_of(const Call& call) {
  Advanced a;
  const TensorType& self = call.type("self");
  std::vector<ValueId> list = call.values("indices");
  int64_t next = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].valid()) {
      ++next;
      continue;
    }
    const TensorType& index = call.type(list[i]);
    if (is_bool(index.dtype) || index.dtype == DType::u8) {
      for (int64_t column = 0; column < index.rank(); ++column) {
        a.dims.push_back(next++);
        a.indices.push_back(list[i]);
        a.columns.push_back(column);
      }
      if (index.rank() == 0) return fail(Kind::unsupported_op, "`{}` by a mask without dims", call.op());
      if (a.shape.empty() || is_unknown(a.shape[0])) {
        a.shape = {unknown_size()};
        continue;
      }
      TD_TRY(a.shape, broadcast_sizes(a.shape, {unknown_size()}));
      continue;
    }
    a.dims.push_back(next++);
    a.indices.push_back(list[i]);
    a.columns.push_back(-1);
    // An index beside a mask has as many elements as the mask has, or one.
    const bool masked = a.shape.size() == 1 && is_unknown(a.shape[0]) && index.rank() <= 1;
    if (!masked) {
      TD_TRY(a.shape, broadcast_sizes(a.shape, index.sizes));
    }
  }
  if (a.dims.empty()) return fail(Kind::bad_graph, "`{}` without indices", call.op());
  bool adjacent = a.dims.back() - a.dims.front() + 1 == static_cast<int64_t>(a.dims.size());
  a.place = adjacent ? static_cast<size_t>(a.dims.front()) : 0;
  a.sizes = reduced_sizes(self.sizes, a.dims, false);
  a.sizes.insert(a.sizes.begin() + static_cast<ptrdiff_t>(a.place), a.shape.begin(), a.shape.end());
  return a;
}

void add_advanced(OpTable& ops) {
  for (const char* form : {"index.Tensor", "_unsafe_index.Tensor"})
    ops.add(format("aten.{}", form))
        .infer([](const Call& call) -> Types {
          TD_TRY(Advanced a, advanced_of(call));
          const TensorType& self = call.type("self");
          TensorType out = unclaimed_type(call, self.dtype, a.sizes);
          bool from_first = a.dims.front() == 0 && a.dims.back() + 1 == static_cast<int64_t>(a.dims.size());
          for (ValueId id : a.indices) from_first = from_first && is_contiguous(call.type(id));
          if (from_first && is_contiguous(self)) out.strides = contiguous_strides(a.sizes);
          return one(std::move(out));
        })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          TD_TRY(Advanced a, advanced_of(call));
          LoopValue x = call.tensor("self");
          std::vector<LoopValue> indices;
          std::map<ValueId, LoopValue> positions;
          for (Sym& size : a.shape)
            if (is_unknown(size)) size = call.result().sizes[a.place];
          a.sizes = call.result().sizes;
          for (size_t k = 0; k < a.indices.size(); ++k) {
            const ValueId id = a.indices[k];
            LoopValue index = call.tensor(id);
            if (a.columns[k] >= 0) {
              if (!positions.contains(id)) positions.emplace(id, nonzero_positions(b, index, a.shape.back()));
              index = b.select(positions.at(id), 1, a.columns[k]);
            }
            indices.push_back(b.broadcast(index, a.shape));
          }
          LoopBuilder* p = &b;
          return b.from(x.dtype, a.sizes, [p, a, x, indices](const Index& i) {
            Index shared(i.begin() + static_cast<ptrdiff_t>(a.place),
                         i.begin() + static_cast<ptrdiff_t>(a.place + a.shape.size()));
            Index rest(i.begin(), i.begin() + static_cast<ptrdiff_t>(a.place));
            rest.insert(rest.end(), i.begin() + static_cast<ptrdiff_t>(a.place + a.shape.size()), i.end());
            Index xi(x.sizes.size());
            size_t next = 0, k = 0;
            for (size_t d = 0; d < xi.size(); ++d) {
              if (k < a.dims.size() && a.dims[k] == static_cast<int64_t>(d)) {
                xi[d] = wrapped_index(*p, indices[k].at(shared), x.sizes[d]);
                ++k;
              } else {
                xi[d] = rest[next++];
              }
            }
            return x.at(xi);
          });
        })
        .sample(format("aten.{}(f32[4,5], [none, i64[3]])", form))
        .sample(format("aten.{}(f32[4,5,2], [i64[3,1], i64[2]])", form))
        .sample(format("aten.{}(f32[4,5,2], [i64[3], none, i64[3]])", form));
}

// -------------------------------------------------------------------------------- embedding, gather, index_select

void add_selects(OpTable& ops) {
  ops.add("aten.embedding.default")
      .infer([](const Call& call) -> Types {
        const TensorType& w = call.type("weight");
        SymList sizes = call.type("indices").sizes;
        sizes.insert(sizes.end(), w.sizes.begin() + 1, w.sizes.end());
        return one(contiguous_type(call, w.dtype, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue w = call.tensor("weight"), index = call.tensor("indices");
        SymList sizes = index.sizes;
        sizes.insert(sizes.end(), w.sizes.begin() + 1, w.sizes.end());
        LoopBuilder* p = &b;
        return b.from(w.dtype, sizes, [p, w, index](const Index& i) {
          auto split = i.begin() + static_cast<ptrdiff_t>(index.sizes.size());
          Index wi{checked_index(*p, index.at(Index(i.begin(), split)), w.sizes[0])};
          wi.insert(wi.end(), split, i.end());
          return w.at(wi);
        });
      })
      .sample("aten.embedding.default(f32[5,3], i64[2,4])")
      .sample("aten.embedding.default(bf16[5,3], i32[4])");
  for (const char* form : {"index_select.default"}) {
    ops.add(format("aten.{}", form))
        .infer([](const Call& call) -> Types {
          const TensorType &x = call.type("self"), &index = call.type("index");
          SymList sizes = x.sizes;
          if (!sizes.empty())
            sizes[static_cast<size_t>(call.dim("dim", x.rank()))] = index.rank() ? index.sizes[0] : Sym(1);
          return one(contiguous_type(call, x.dtype, sizes));
        })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self"), index = call.tensor("index");
          if (x.rank() == 0) return x;
          size_t dim = static_cast<size_t>(call.dim("dim", x.rank()));
          SymList sizes = x.sizes;
          sizes[dim] = index.rank() ? index.sizes[0] : Sym(1);
          LoopBuilder* p = &b;
          return b.from(x.dtype, sizes, [p, x, index, dim](const Index& i) {
            Index xi = i;
            xi[dim] = checked_index(*p, index.rank() ? index.at({i[dim]}) : index.at({}), x.sizes[dim]);
            return x.at(xi);
          });
        })
        .sample(format("aten.{}(f32[4,5], 1, i64[3])", form));
  }
  ops.add("aten.gather.default")
      .infer([](const Call& call) -> Types {
        return one(contiguous_type(call, call.type("self").dtype, call.type("index").sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self"), index = call.tensor("index");
        if (x.rank() == 0) return b.from(x.dtype, index.sizes, [x](const Index&) { return x.at({}); });
        // An index without elements may have any rank.
        if (std::ranges::any_of(index.sizes, is_zero)) return b.full(index.sizes, number_expr(b, 0, x.dtype), x.dtype);
        size_t dim = static_cast<size_t>(call.dim("dim", x.rank()));
        LoopBuilder* p = &b;
        return b.from(x.dtype, index.sizes, [p, x, index, dim](const Index& i) {
          Index xi = i;
          xi.resize(x.sizes.size());  // an index without dims is one of one element
          xi[dim] = checked_index(*p, index.at(i), x.sizes[dim]);
          return x.at(xi);
        });
      })
      .sample("aten.gather.default(f32[4,5], 1, i64[3,2])")
      .sample("aten.gather.default(f32[5], 0, i64[2,0])")
      .sample("aten.gather.default(f32[5], 0, i64[])");
  // As gather, with broadcast and negative indices; without dim on the flattened tensor.
  ops.add("aten.take_along_dim.default")
      .infer([](const Call& call) -> Types {
        const TensorType &x = call.type("self"), &index = call.type("indices");
        if (!call.has("dim")) return one(contiguous_type(call, x.dtype, {product(index.sizes)}));
        size_t dim = static_cast<size_t>(call.dim("dim", x.rank()));
        SymList lead = x.sizes;
        lead[dim] = 1;
        TD_TRY(SymList sizes, broadcast_sizes(lead, index.sizes));
        return one(contiguous_type(call, x.dtype, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self"), index = call.tensor("indices");
        LoopBuilder* p = &b;
        if (!call.has("dim")) {
          LoopValue flat = b.reshape(x, {product(x.sizes)}), list = b.reshape(index, {product(index.sizes)});
          return b.from(x.dtype, list.sizes, [p, flat, list](const Index& i) {
            return flat.at({wrapped_index(*p, list.at(i), flat.sizes[0])});
          });
        }
        size_t dim = static_cast<size_t>(call.dim("dim", x.rank()));
        SymList lead = x.sizes;
        lead[dim] = 1;
        TD_TRY(SymList sizes, broadcast_sizes(lead, index.sizes));
        SymList x_sizes = sizes;
        x_sizes[dim] = x.sizes[dim];
        LoopValue wide = b.broadcast(x, x_sizes), list = b.broadcast(index, sizes);
        return b.from(x.dtype, sizes, [p, wide, list, dim](const Index& i) {
          Index xi = i;
          xi[dim] = wrapped_index(*p, list.at(i), wide.sizes[dim]);
          return wide.at(xi);
        });
      })
      .sample("aten.take_along_dim.default(f32[4,5], i64[1,2], 1)")
      .sample("aten.take_along_dim.default(f32[4,5], i64[3])");
  ops.add("aten.take.default")
      .infer([](const Call& call) -> Types {
        return one(contiguous_type(call, call.type("self").dtype, call.type("index").sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self"), index = call.tensor("index");
        LoopValue flat = b.reshape(x, {product(x.sizes)});
        LoopBuilder* p = &b;
        return b.from(x.dtype, index.sizes, [p, flat, index](const Index& i) {
          return flat.at({wrapped_index(*p, index.at(i), flat.sizes[0])});
        });
      })
      .sample("aten.take.default(f32[4,5], i64[3,2])");
  ops.add("aten.one_hot.default")
      .infer([](const Call& call) -> Types {
        SymList sizes = call.type("self").sizes;
        Sym classes = call.integer("num_classes");
        if (!proves_le(1, classes))
          return fail(Kind::unsupported_op, "`{}` without num_classes: the result's size depends on data", call.op());
        sizes.push_back(classes);
        return one(contiguous_type(call, DType::i64, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        SymList sizes = x.sizes;
        sizes.push_back(call.integer("num_classes"));
        LoopBuilder* p = &b;
        return b.from(DType::i64, sizes, [p, x, sizes](const Index& i) {
          ExprId wanted = checked_index(*p, x.at(Index(i.begin(), i.end() - 1)), sizes.back());
          return p->cvt(p->op(ScalarOp::eq, {wanted, i.back()}), DType::i64);
        });
      })
      .sample("aten.one_hot.default(i64[4], 5)");
}

// ------------------------------------------------------------------------------------------------- embedding_bag

// Bag g holds indices [offsets[g], offsets[g + 1]), the last one to the end. Written as a masked sum over all indices:
// a range of the sum that depends on data has no form of its own.
struct Bags {
  LoopValue weight, indices, offsets;
  std::optional<LoopValue> scales;  // per sample
  Sym count = 0;
  int64_t mode = 0;  // 0 sum, 1 mean, 2 max
  Sym padding = -1;
};

ExprId in_bag(LoopBuilder& b, const Bags& bags, ExprId bag, ExprId at) {
  Sym last = bags.offsets.sizes[0] - 1;
  ExprId starts = b.op(ScalarOp::le, {b.cvt(bags.offsets.at({bag}), DType::i64), at});
  ExprId next = b.op(ScalarOp::min, {b.add(bag, int_expr(b, 1)), b.index(last)});
  ExprId is_last = b.op(ScalarOp::ge, {b.add(bag, int_expr(b, 1)), b.index(last + 1)});
  ExprId before_next = b.op(ScalarOp::lt, {at, b.cvt(bags.offsets.at({next}), DType::i64)});
  ExprId inside = b.op(ScalarOp::land, {starts, b.op(ScalarOp::lor, {is_last, before_next})});
  if (bags.padding == Sym(-1)) return inside;
  ExprId is_padding = b.op(ScalarOp::eq, {b.cvt(bags.indices.at({at}), DType::i64), b.index(bags.padding)});
  return b.op(ScalarOp::land, {inside, b.op(ScalarOp::lnot, {is_padding})});
}

struct BagResults {
  LoopValue sums;
  LoopValue sizes;    // without padding
  LoopValue highest;  // of each bag and column, the row with the maximum; mode 2
};

BagResults embedding_bag(LoopBuilder& b, const Bags& bags) {
  LoopBuilder* p = &b;
  DType dtype = bags.weight.dtype, compute = accumulate_type(dtype);
  Sym n = bags.indices.sizes[0], width = bags.weight.sizes[1];
  ExprId neutral = bags.mode == 2 ? lowest(b, compute) : number_expr(b, 0, compute);
  LoopValue rows = b.from(compute, {bags.count, n, width}, [=](const Index& i) {
    ExprId row = checked_index(*p, bags.indices.at({i[1]}), bags.weight.sizes[0]);
    ExprId value = p->cvt(bags.weight.at({row, i[2]}), compute);
    if (bags.scales) value = p->mul(value, p->cvt(bags.scales->at({i[1]}), compute));
    return p->where(in_bag(*p, bags, i[0], i[1]), value, neutral);
  });
  LoopValue total = b.reduce(bags.mode == 2 ? ReduceOp::max : ReduceOp::sum, rows, {1}, false, compute, compute, "");
  LoopValue members =
      b.from(compute, {bags.count, n}, [=](const Index& i) { return p->cvt(in_bag(*p, bags, i[0], i[1]), compute); });
  LoopValue size = b.reduce(ReduceOp::sum, members, {1}, true, compute, compute, ".size");
  BagResults results{.sizes = b.squeeze(size, 1)};
  if (bags.mode == 0) {
    results.sums = map1(b, total, compute, dtype, [](ExprId v) { return v; });
    return results;
  }
  results.sums = b.map({total, size}, total.sizes, compute, dtype, [=](const std::vector<ExprId>& v) {
    // An empty bag is 0.
    ExprId zero = number_expr(*p, 0, compute);
    ExprId empty = p->op(ScalarOp::eq, {v[1], zero});
    return p->where(empty, zero, bags.mode == 1 ? p->div(v[0], v[1]) : v[0]);
  });
  if (bags.mode == 2) {
    LoopValue best = b.reduce(ReduceOp::argmax, rows, {1}, false, compute, DType::i64, ".best");
    results.highest = b.from(DType::i64, best.sizes, [=](const Index& i) {
      ExprId empty = p->op(ScalarOp::eq, {results.sizes.at({i[0]}), number_expr(*p, 0, compute)});
      return p->where(empty, int_expr(*p, 0), p->cvt(bags.indices.at({best.at(i)}), DType::i64));
    });
  }
  return results;
}

Sym bag_count(const Call& call) {
  Sym n = call.type("offsets").sizes[0];
  return call.flag("include_last_offset") ? n - 1 : n;
}

// The other results serve the gradient: offset2bag, the bag of each index, which eager leaves out where its fast path
// needs none; bag_size; max_indices.
std::vector<TensorType> side_results(const Call& call) {
  const TensorType &w = call.type("weight"), &indices = call.type("indices"), &offsets = call.type("offsets");
  int64_t mode = call.constant("mode");
  bool padded = call.schema().find_arg("padding_idx") >= 0 && call.has("padding_idx") &&
                !proves_lt(call.integer("padding_idx"), 0);
  bool fast_sum = mode == 0 && !padded && (w.dtype == DType::f32 || w.dtype == DType::f16) && is_contiguous(w);
  SymList bags{bag_count(call)};
  SymList most = mode == 2 ? SymList{bags[0], w.sizes[1]} : bags;
  auto type = [&](SymList sizes) { return contiguous_type(call, offsets.dtype, std::move(sizes)); };
  return {type({fast_sum ? Sym(0) : indices.sizes[0]}), type(bags), type(most)};
}

void add_bags(OpTable& ops) {
  for (const char* form : {"embedding_bag.padding_idx", "embedding_bag.default", "_embedding_bag.default",
                           "_embedding_bag_forward_only.default"})
    ops.add(format("aten.{}", form))
        .infer([](const Call& call) -> Types {
          const TensorType& w = call.type("weight");
          std::vector<TensorType> out{contiguous_type(call, w.dtype, {bag_count(call), w.sizes[1]})};
          for (TensorType& side : side_results(call)) out.push_back(std::move(side));
          return out;
        })
        .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          Bags bags{
              .weight = call.tensor("weight"), .indices = call.tensor("indices"), .offsets = call.tensor("offsets")};
          bags.count = bag_count(call);
          bags.mode = call.constant("mode");
          bool has_padding = call.schema().find_arg("padding_idx") >= 0 && call.has("padding_idx");
          if (has_padding) bags.padding = call.integer("padding_idx");
          if (has_padding && bags.padding.is_constant() && bags.padding.value() < -1)
            bags.padding += bags.weight.sizes[0];
          if (is_tensor(call, "per_sample_weights")) bags.scales = call.tensor("per_sample_weights");
          BagResults results = embedding_bag(b, bags);
          std::vector<TensorType> sides = side_results(call);
          LoopBuilder* p = &b;
          LoopValue begun = b.from(DType::i64, {sides[0].sizes[0], bags.offsets.sizes[0]}, [=](const Index& i) {
            return p->cvt(p->op(ScalarOp::le, {p->cvt(bags.offsets.at({i[1]}), DType::i64), i[0]}), DType::i64);
          });
          LoopValue place = b.reduce(ReduceOp::sum, begun, {1}, false, DType::i64, DType::i64, ".bags");
          place = map1(b, place, DType::i64, sides[0].dtype, [p](ExprId v) { return p->sub(v, int_expr(*p, 1)); });
          LoopValue sizes = b.convert(results.sizes, sides[1].dtype);
          return std::vector<LoopValue>{results.sums, place, sizes,
                                        bags.mode == 2 ? b.convert(results.highest, sides[2].dtype) : sizes};
        })
        .sample(format("aten.{}(f32[5,3], i64[7], i64[3], False, 1, False, none, False{})", form,
                       std::string(form).ends_with("bag.default") && *form == 'e' ? "" : ", 1"));
}

}  // namespace

void add_index_ops(OpTable& ops) {
  add_advanced(ops);
  add_selects(ops);
  add_bags(ops);
}

}  // namespace toroid
