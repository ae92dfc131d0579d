// Writes, functionally: the new contents of a tensor of which a part is replaced. Slices compute the part's index from
// the whole's; writes at indices that are data search the indices for the last one that hits an element.
#include <algorithm>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

size_t at(int64_t dim) { return static_cast<size_t>(dim); }

TensorType like_self(const Call& call) {
  const TensorType& x = call.type("self");
  return {x.dtype, x.sizes, preserved_strides(x), x.device};
}

// A bound of a slice as Python reads it.
Sym clamped(const Sym& bound, const Sym& size) {
  if (bound.is_constant() && bound.value() == INT64_MAX) return size;
  if (proves_le(0, bound)) return sym_min(bound, size);
  Sym from_end = sym_max(bound + size, 0);
  if (proves_lt(bound, 0)) return from_end;
  return sym_choose(sym_lt(bound, 0), from_end, sym_min(bound, size));
}

// Results lie as self does, gaps too.
void add_region_writes(OpTable& ops) {
  ops.add("aten.slice_scatter.default")
      .infer([](const Call& call) -> Types { return one(call.type("self")); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        int64_t dim = call.dim("dim", x.rank());
        const Sym& size = x.sizes[at(dim)];
        Sym start = call.has("start") ? clamped(call.integer("start"), size) : Sym(0);
        Sym end = call.has("end") ? clamped(call.integer("end"), size) : size, step = call.integer("step");
        Sym length = ceil_div(sym_max(end - start, 0), step);
        SymList part = x.sizes;
        part[at(dim)] = length;
        LoopValue src = b.broadcast(b.convert(call.tensor("src"), x.dtype), part);
        LoopBuilder* p = &b;
        return b.from(x.dtype, x.sizes, [=](const Index& i) {
          ExprId offset = p->sub(i[at(dim)], p->index(start));
          std::vector<ExprId> hits;
          if (!is_zero(start)) hits.push_back(p->op(ScalarOp::le, {p->index(start), i[at(dim)]}));
          if (!proves_eq(end, size)) hits.push_back(p->op(ScalarOp::lt, {i[at(dim)], p->index(end)}));
          Index si = i;
          si[at(dim)] = offset;
          if (!is_one(step)) {
            hits.push_back(
                p->op(ScalarOp::eq, {p->op(ScalarOp::remainder, {offset, p->index(step)}), int_expr(*p, 0)}));
            si[at(dim)] = p->op(ScalarOp::floordiv, {offset, p->index(step)});
          }
          return p->where(all_of(*p, hits), src.at(si), x.at(i));
        });
      })
      .sample("aten.slice_scatter.default(f32[4,6], f32[4,2], 1, 1, 5, 2)")
      .sample("aten.slice_scatter.default(f32[4,6], f32[2,6], 0, -2)");
  ops.add("aten.select_scatter.default")
      .infer([](const Call& call) -> Types { return one(call.type("self")); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        int64_t dim = call.dim("dim", x.rank());
        Sym place = call.integer("index");
        if (proves_lt(place, 0))
          place += x.sizes[at(dim)];
        else if (!proves_le(0, place))
          place = sym_choose(sym_lt(place, 0), place + x.sizes[at(dim)], place);
        SymList part = x.sizes;
        part.erase(part.begin() + dim);
        LoopValue src = b.broadcast(b.convert(call.tensor("src"), x.dtype), part);
        LoopBuilder* p = &b;
        return b.from(x.dtype, x.sizes, [=](const Index& i) {
          Index si = i;
          si.erase(si.begin() + dim);
          return p->where(p->op(ScalarOp::eq, {i[at(dim)], p->index(place)}), src.at(si), x.at(i));
        });
      })
      .sample("aten.select_scatter.default(f32[4,6], f32[4], 1, -2)");
  ops.add("aten.diagonal_scatter.default")
      .infer([](const Call& call) -> Types { return one(call.type("self")); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self"), src = b.convert(call.tensor("src"), x.dtype);
        int64_t d1 = call.dim("dim1", x.rank()), d2 = call.dim("dim2", x.rank());
        Sym offset = call.integer("offset");
        LoopBuilder* p = &b;
        return b.from(x.dtype, x.sizes, [=](const Index& i) {
          ExprId gap = p->sub(i[at(d2)], i[at(d1)]);
          Index si;
          for (size_t d = 0; d < i.size(); ++d)
            if (d != at(d1) && d != at(d2)) si.push_back(i[d]);
          si.push_back(p->sub(i[at(d1)], p->index(sym_max(-offset, 0))));
          return p->where(p->op(ScalarOp::eq, {gap, p->index(offset)}), src.at(si), x.at(i));
        });
      })
      .sample("aten.diagonal_scatter.default(f32[3,4], f32[3], 1)");
  ops.add("aten.copy.default")
      .infer([](const Call& call) -> Types { return one(call.type("self")); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        const TensorType& x = call.type("self");
        return b.broadcast(b.convert(call.tensor("src"), x.dtype), x.sizes);
      })
      .sample("aten.copy.default(f32[2,3], i64[3])");
}

// ------------------------------------------------------------------------------- writes at indices that are data

// For each element of self, over positions j of `extent`: hit(i, j) says whether position j writes element i.
using Hit = std::function<ExprId(const Index& i, const Index& j)>;

// The last position that hits, or -1; linear over `extent`.
LoopValue last_hit(LoopBuilder& b, const SymList& sizes, const SymList& extent, const Hit& hit) {
  SymList all = sizes;
  all.insert(all.end(), extent.begin(), extent.end());
  LoopBuilder* p = &b;
  size_t rank = sizes.size();
  LoopValue hits = b.from(DType::i64, all, [=](const Index& i) {
    Index xi(i.begin(), i.begin() + static_cast<ptrdiff_t>(rank)), j(i.begin() + static_cast<ptrdiff_t>(rank), i.end());
    return p->where(hit(xi, j), p->linear(j, extent), int_expr(*p, -1));
  });
  std::vector<int64_t> dims;
  for (size_t d = 0; d < extent.size(); ++d) dims.push_back(static_cast<int64_t>(rank + d));
  return b.reduce(ReduceOp::max, hits, dims, false, DType::i64, DType::i64, ".last");
}

// The sum (or another reduction) over all positions that hit.
LoopValue reduced_hits(LoopBuilder& b, ReduceOp op, const SymList& sizes, const SymList& extent, DType compute,
                       const Hit& hit, const std::function<ExprId(const Index& i, const Index& j)>& value,
                       ExprId neutral, const std::string& suffix) {
  SymList all = sizes;
  all.insert(all.end(), extent.begin(), extent.end());
  LoopBuilder* p = &b;
  size_t rank = sizes.size();
  LoopValue hits = b.from(compute, all, [=](const Index& i) {
    Index xi(i.begin(), i.begin() + static_cast<ptrdiff_t>(rank)), j(i.begin() + static_cast<ptrdiff_t>(rank), i.end());
    return p->where(hit(xi, j), p->cvt(value(xi, j), compute), neutral);
  });
  std::vector<int64_t> dims;
  for (size_t d = 0; d < extent.size(); ++d) dims.push_back(static_cast<int64_t>(rank + d));
  return b.reduce(op, hits, dims, false, compute, compute, suffix);
}

void add_index_put(OpTable& ops) {
  for (const char* name : {"aten.index_put.default", "aten._unsafe_index_put.default"})
    ops.add(name)
        .infer([](const Call& call) -> Types { return one(like_self(call)); })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self"), values = b.convert(call.tensor("values"), x.dtype);
          bool accumulate = call.flag("accumulate");
          std::vector<ValueId> list = call.values("indices");
          LoopBuilder* p = &b;
          // One mask over leading dims with one value: a choice.
          if (list.size() == 1 && list[0].valid() && is_bool(call.type(list[0]).dtype)) {
            LoopValue mask = call.tensor(list[0]);
            if (!is_one(product(values.sizes)) || accumulate)
              return fail(Kind::unsupported_op, "`{}` by a mask with as many values as it selects", call.op());
            return b.from(x.dtype, x.sizes, [=](const Index& i) {
              Index mi(i.begin(), i.begin() + static_cast<ptrdiff_t>(mask.sizes.size()));
              Index zero(values.sizes.size(), int_expr(*p, 0));
              return p->where(mask.at(mi), values.at(zero), x.at(i));
            });
          }
          std::vector<size_t> dims;
          SymList shape;
          for (size_t d = 0; d < list.size(); ++d) {
            if (!list[d].valid()) continue;
            const TensorType& index = call.type(list[d]);
            if (is_bool(index.dtype) || index.dtype == DType::u8)
              return fail(Kind::unsupported_op, "`{}` by a mask beside other indices", call.op());
            dims.push_back(d);
            TD_TRY(shape, broadcast_sizes(shape, index.sizes));
          }
          if (dims.empty()) return fail(Kind::bad_graph, "`{}` without indices", call.op());
          bool adjacent = dims.back() - dims.front() + 1 == dims.size();
          size_t place = adjacent ? dims.front() : 0;
          std::vector<LoopValue> indices;
          for (size_t d : dims) indices.push_back(b.broadcast(call.tensor(list[d]), shape));
          std::vector<int64_t> indexed(dims.begin(), dims.end());
          SymList source = reduced_sizes(x.sizes, indexed, false);
          source.insert(source.begin() + static_cast<ptrdiff_t>(place), shape.begin(), shape.end());
          LoopValue src = b.broadcast(values, source);
          Hit hit = [=](const Index& i, const Index& j) {
            std::vector<ExprId> same;
            for (size_t k = 0; k < dims.size(); ++k)
              same.push_back(p->op(ScalarOp::eq, {wrapped_index(*p, indices[k].at(j), x.sizes[dims[k]]), i[dims[k]]}));
            return all_of(*p, same);
          };
          // The value that position j writes at element i.
          auto value = [=](const Index& i, const Index& j) {
            Index si;
            for (size_t d = 0; d < i.size(); ++d)
              if (std::find(dims.begin(), dims.end(), d) == dims.end()) si.push_back(i[d]);
            si.insert(si.begin() + static_cast<ptrdiff_t>(place), j.begin(), j.end());
            return src.at(si);
          };
          if (accumulate) {
            DType compute = is_float(x.dtype) ? accumulate_type(x.dtype) : x.dtype;
            LoopValue added = reduced_hits(b, ReduceOp::sum, x.sizes, shape, compute, hit, value,
                                           number_expr(b, 0, compute), ".added");
            return b.map({x, added}, x.sizes, compute, x.dtype,
                         [p](const std::vector<ExprId>& v) { return sum_expr(*p, v[0], v[1]); });
          }
          if (shape.empty() || is_one(product(shape))) {
            Index zero(shape.size(), int_expr(b, 0));
            return b.from(x.dtype, x.sizes,
                          [=](const Index& i) { return p->where(hit(i, zero), value(i, zero), x.at(i)); });
          }
          LoopValue last = last_hit(b, x.sizes, shape, hit);
          return b.from(x.dtype, x.sizes, [=](const Index& i) {
            ExprId j = last.at(i);
            ExprId written = p->op(ScalarOp::ge, {j, int_expr(*p, 0)});
            // The load is in the side that is chosen only where j is a position.
            return p->where(written, value(i, p->unflatten(j, shape)), x.at(i));
          });
        })
        .sample(std::string(name) + "(f32[4,5], [i64[3]], f32[3,5])")
        .sample(std::string(name) + "(f32[4,5], [none, i64[3]], f32[], True)")
        .sample(std::string(name) + "(f32[4,5], [bool[4,5]], f32[])");
}

// scatter along dim: position j of index writes element index[…j…] of its line.
void add_scatters(OpTable& ops) {
  enum class Mode { set, add, reduce };
  struct Row {
    const char *name, *sample;
    Mode mode;
  };
  for (Row row : {Row{"scatter.src", "(f32[4,5], 1, i64[4,3], f32[4,3])", Mode::set},
                  Row{"scatter.value", "(f32[4,5], 1, i64[4,3], 2.5)", Mode::set},
                  Row{"scatter_add.default", "(f32[4,5], 0, i64[3,5], f32[3,5])", Mode::add},
                  Row{"scatter_reduce.two", "(f32[4,5], 1, i64[4,3], f32[4,3], \"amax\")", Mode::reduce}})
    ops.add(format("aten.{}", row.name))
        .infer([](const Call& call) -> Types {
          return one(contiguous_type(call, call.type("self").dtype, call.type("self").sizes));
        })
        .lower([mode = row.mode](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self"), index = call.tensor("index");
          if (x.rank() == 0) return fail(Kind::unsupported_op, "`{}` of a 0-d tensor", call.op());
          size_t dim = at(call.dim("dim", x.rank()));
          LoopBuilder* p = &b;
          bool has_source = is_tensor(call, "src");
          LoopValue src = has_source
                              ? call.tensor("src")
                              : b.broadcast(scalar_value(b, call.scalar(b, "value", x.dtype), x.dtype), index.sizes);
          auto source_index = [dim](const Index& i, const Index& j) {
            Index si = i;
            si[dim] = j[0];
            return si;
          };
          Hit hit = [=](const Index& i, const Index& j) {
            std::vector<ExprId> conditions;
            for (size_t d = 0; d < i.size(); ++d)
              if (d != dim && !proves_eq(index.sizes[d], x.sizes[d]))
                conditions.push_back(p->op(ScalarOp::lt, {i[d], p->index(index.sizes[d])}));
            ExprId target = checked_index(*p, index.at(source_index(i, j)), x.sizes[dim]);
            ExprId same = p->op(ScalarOp::eq, {target, i[dim]});
            // The index is read only where it has an element.
            return conditions.empty() ? same : p->where(all_of(*p, conditions), same, p->pool().constant(0, DType::b8));
          };
          auto value = [=](const Index& i, const Index& j) { return src.at(source_index(i, j)); };
          SymList extent{index.sizes[dim]};
          if (mode == Mode::set) {
            LoopValue last = last_hit(b, x.sizes, extent, hit);
            return b.from(x.dtype, x.sizes, [=](const Index& i) {
              ExprId j = last.at(i);
              return p->where(p->op(ScalarOp::ge, {j, int_expr(*p, 0)}), value(i, {j}), x.at(i));
            });
          }
          std::string how = mode == Mode::add ? "sum" : call.text("reduce");
          bool include = mode == Mode::add || call.flag("include_self");
          if (how == "mean" || !include)
            return fail(Kind::unsupported_op, "`{}` with reduce `{}`, include_self={}", call.op(), how, include);
          ReduceOp op = how == "sum"    ? ReduceOp::sum
                        : how == "prod" ? ReduceOp::prod
                        : how == "amax" ? ReduceOp::max
                                        : ReduceOp::min;
          DType compute = is_float(x.dtype) ? accumulate_type(x.dtype) : x.dtype;
          ExprId neutral = op == ReduceOp::sum    ? number_expr(b, 0, compute)
                           : op == ReduceOp::prod ? number_expr(b, 1, compute)
                           : op == ReduceOp::max  ? lowest(b, compute)
                                                  : highest(b, compute);
          LoopValue joined = reduced_hits(b, op, x.sizes, extent, compute, hit, value, neutral, ".joined");
          return b.map({x, joined}, x.sizes, compute, x.dtype, [p, op](const std::vector<ExprId>& v) {
            switch (op) {
              case ReduceOp::sum: return sum_expr(*p, v[0], v[1]);
              case ReduceOp::prod: return product_expr(*p, v[0], v[1]);
              case ReduceOp::max: return max_expr(*p, v[0], v[1]);
              default: return min_expr(*p, v[0], v[1]);
            }
          });
        })
        .sample(format("aten.{}{}", row.name, row.sample));
}

// index_add, index_copy, index_fill: whole slices of dim at index[j].
void add_slice_writes(OpTable& ops) {
  struct Row {
    const char *name, *sample, *source;
  };
  for (Row row : {Row{"index_add.default", "(f32[4,5], 0, i64[3], f32[3,5], alpha=2)", "source"},
                  Row{"index_copy.default", "(f32[4,5], 1, i64[3], f32[4,3])", "source"},
                  Row{"index_fill.int_Scalar", "(f32[4,5], 1, i64[3], 2.5)", "value"},
                  Row{"index_fill.int_Tensor", "(f32[4,5], 1, i64[3], f32[])", "value"}})
    ops.add(format("aten.{}", row.name))
        .infer([](const Call& call) -> Types {
          TensorType type = like_self(call);
          // Eager's copy of self is row-major in some of these.
          if (!is_contiguous(type)) type.strides.clear();
          return one(std::move(type));
        })
        .lower([row](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self"), index = call.tensor("index");
          if (x.rank() == 0) return fail(Kind::unsupported_op, "`{}` of a 0-d tensor", call.op());
          if (index.rank() == 0) index = b.unsqueeze(index, 0);
          size_t dim = at(call.dim("dim", x.rank()));
          std::string kind = row.name;
          bool fills = kind.starts_with("index_fill");
          LoopBuilder* p = &b;
          Hit hit = [=](const Index& i, const Index& j) {
            ExprId target = index.at({j[0]});
            target = fills ? wrapped_index(*p, target, x.sizes[dim]) : checked_index(*p, target, x.sizes[dim]);
            return p->op(ScalarOp::eq, {target, i[dim]});
          };
          SymList extent{index.sizes[0]};
          LoopValue src = fills ? operand(b, call, "value", x.dtype) : b.convert(call.tensor(row.source), x.dtype);
          auto value = [=](const Index& i, const Index& j) {
            if (fills) return src.at(Index(src.sizes.size(), int_expr(*p, 0)));
            Index si = i;
            si[dim] = j[0];
            return src.at(si);
          };
          if (kind.starts_with("index_add")) {
            DType compute = is_float(x.dtype) ? accumulate_type(x.dtype) : x.dtype;
            LoopValue added = reduced_hits(b, ReduceOp::sum, x.sizes, extent, compute, hit, value,
                                           number_expr(b, 0, compute), ".added");
            ExprId alpha = call.scalar(b, "alpha", compute);
            return b.map({x, added}, x.sizes, compute, x.dtype, [p, alpha](const std::vector<ExprId>& v) {
              return sum_expr(*p, v[0], product_expr(*p, v[1], alpha));
            });
          }
          LoopValue last = last_hit(b, x.sizes, extent, hit);
          return b.from(x.dtype, x.sizes, [=](const Index& i) {
            ExprId j = last.at(i);
            return p->where(p->op(ScalarOp::ge, {j, int_expr(*p, 0)}), value(i, {j}), x.at(i));
          });
        })
        .sample(format("aten.{}{}", row.name, row.sample));
}

}  // namespace

void add_scatter_ops(OpTable& ops) {
  add_region_writes(ops);
  add_index_put(ops);
  add_scatters(ops);
  add_slice_writes(ops);
}

}  // namespace toroid
