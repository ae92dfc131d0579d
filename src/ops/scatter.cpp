// Writes, functionally: the new contents of a tensor of which a part is replaced. Slices compute the part's index from
// the whole's; writes at indices that are data go through the routine `scatter`, in order.
#include <algorithm>

#include "base/check.h"
#include "ops/rules.h"
#include "ops/scattered.h"

namespace toroid {

namespace {

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
  // Over the base's memory, as as_strided reads it.
  ops.add("aten.as_strided_scatter.default")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        if (x.strides.size() != x.sizes.size() || !dense_order(x))
          return fail(Kind::unsupported_op, "`{}` of a tensor whose memory has gaps: {}", call.op(), to_string(x));
        return one(x);
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        const std::vector<int> order = *dense_order(call.type("self"));
        LoopValue x = call.tensor("self"), memory = b.permute(x, order);
        const SymList sizes = call.integers("size"), strides = call.integers("stride");
        LoopValue src = b.broadcast(b.convert(call.tensor("src"), x.dtype), sizes);
        const Sym offset = call.has("storage_offset") ? call.integer("storage_offset") : Sym(0);
        const Sym n = product(x.sizes), m = product(sizes);
        LoopBuilder* p = &b;
        LoopValue y = scattered(
            b, b.reshape(memory, {1, n}), {1, m},
            [=](const Index& i) {
              const Index at = p->unflatten(i[1], sizes);
              ExprId place = p->index(offset);
              for (size_t d = 0; d < at.size(); ++d) place = p->add(place, p->mul(at[d], p->index(strides[d])));
              return checked_index(*p, place, n);
            },
            [=](const Index& i) { return src.at(p->unflatten(i[1], sizes)); }, Join::set, true);
        std::vector<int> back(order.size());
        for (size_t d = 0; d < order.size(); ++d) back[static_cast<size_t>(order[d])] = static_cast<int>(d);
        return b.permute(b.reshape(y, memory.sizes), back);
      })
      .sample("aten.as_strided_scatter.default(f32[4,5], f32[3,2], [3, 2], [5, 1], 1)");
  ops.add("aten.copy.default")
      .infer([](const Call& call) -> Types { return one(call.type("self")); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        const TensorType& x = call.type("self");
        return b.broadcast(b.convert(call.tensor("src"), x.dtype), x.sizes);
      })
      .sample("aten.copy.default(f32[2,3], i64[3])");
}

// ------------------------------------------------------------------------------- writes at indices that are data

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
          if (list.size() == 1 && list[0].valid() && is_bool(call.type(list[0]).dtype) && !accumulate &&
              is_one(product(values.sizes))) {
            LoopValue mask = call.tensor(list[0]);
            return b.from(x.dtype, x.sizes, [=](const Index& i) {
              Index mi(i.begin(), i.begin() + static_cast<ptrdiff_t>(mask.sizes.size()));
              Index zero(values.sizes.size(), int_expr(*p, 0));
              return p->where(mask.at(mi), values.at(zero), x.at(i));
            });
          }
          // A mask stands for the positions that it selects, one index for each of its dims.
          std::vector<size_t> dims;
          std::vector<LoopValue> indices;
          SymList shape;
          size_t next = 0;
          for (ValueId id : list) {
            if (!id.valid()) {
              ++next;
              continue;
            }
            LoopValue index = call.tensor(id);
            if (!is_bool(index.dtype) && index.dtype != DType::u8) {
              dims.push_back(next++);
              indices.push_back(index);
              TD_TRY(shape, broadcast_sizes(shape, index.sizes));
              continue;
            }
            if (index.rank() == 0) return fail(Kind::unsupported_op, "`{}` by a mask without dims", call.op());
            index = b.materialize(index, ".mask");
            // As many as there are values for, where it is the only index; else as many as there are.
            const int64_t place = static_cast<int64_t>(next), rank = x.rank() - index.rank() + 1;
            const int64_t column_of = place - (rank - values.rank());
            const bool alone = std::ranges::count_if(list, [](ValueId v) { return v.valid(); }) == 1;
            const bool counted = alone && column_of >= 0 && !is_one(values.sizes[at(column_of)]);
            const Sym count = counted ? values.sizes[at(column_of)] : b.read_size(count_nonzero(b, index));
            LoopValue positions = nonzero_positions(b, index, count);
            for (int64_t column = 0; column < index.rank(); ++column) {
              dims.push_back(next++);
              indices.push_back(b.select(positions, 1, column));
            }
            TD_TRY(shape, broadcast_sizes(shape, {count}));
          }
          if (dims.empty()) return fail(Kind::bad_graph, "`{}` without indices", call.op());
          bool adjacent = dims.back() - dims.front() + 1 == dims.size();
          size_t place = adjacent ? dims.front() : 0;
          for (LoopValue& index : indices) index = b.broadcast(index, shape);
          std::vector<int64_t> indexed(dims.begin(), dims.end());
          SymList source = reduced_sizes(x.sizes, indexed, false);
          source.insert(source.begin() + static_cast<ptrdiff_t>(place), shape.begin(), shape.end());
          LoopValue src = b.broadcast(values, source);
          // The dims that are not indexed, in order, behind the position.
          std::vector<size_t> kept;
          SymList extent{product(shape)};
          for (size_t d = 0; d < x.sizes.size(); ++d)
            if (std::find(dims.begin(), dims.end(), d) == dims.end()) {
              kept.push_back(d);
              extent.push_back(x.sizes[d]);
            }
          const Sym n = product(x.sizes), m = product(extent);
          auto parts = [=](const Index& i) { return p->unflatten(i[1], extent); };
          LoopValue y = scattered(
              b, b.reshape(x, {1, n}), {1, m},
              [=](const Index& i) {
                const Index at = parts(i), j = p->unflatten(at[0], shape);
                Index xi(x.sizes.size());
                for (size_t k = 0; k < dims.size(); ++k)
                  xi[dims[k]] = wrapped_index(*p, indices[k].at(j), x.sizes[dims[k]]);
                for (size_t k = 0; k < kept.size(); ++k) xi[kept[k]] = at[1 + k];
                return p->linear(xi, x.sizes);
              },
              [=](const Index& i) {
                const Index at = parts(i), j = p->unflatten(at[0], shape);
                Index si(at.begin() + 1, at.end());
                si.insert(si.begin() + static_cast<ptrdiff_t>(place), j.begin(), j.end());
                return src.at(si);
              },
              accumulate ? Join::add : Join::set, true);
          return b.reshape(y, x.sizes);
        })
        .sample(std::string(name) + "(f32[4,5], [i64[3]], f32[3,5])")
        .sample(std::string(name) + "(f32[4,5], [none, i64[3]], f32[], True)")
        .sample(std::string(name) + "(f32[4,5], [bool[4,5]], f32[])")
        .sample(std::string(name) + "(f32[4,5], [bool[4]], f32[5], True)");
}

// A line's dim last: x as [rows, line], so that rows are written apart from each other.
struct Lines {
  std::vector<int> order, back;
  SymList moved;  // the sizes in that order
  Sym rows = 1;

  Lines(const SymList& sizes, size_t dim)
      : order(dim_last(static_cast<int64_t>(sizes.size()), static_cast<int64_t>(dim))), back(inverse_order(order)) {
    for (int d : order) moved.push_back(sizes[at(d)]);
    rows = product(SymList(moved.begin(), moved.end() - 1));
  }
  // x's own index of a line's number and a place in it.
  Index whole_index(LoopBuilder& b, const Index& i) const {
    Index line = b.unflatten(i[0], SymList(moved.begin(), moved.end() - 1));
    line.push_back(i[1]);
    Index whole(line.size());
    for (size_t d = 0; d < line.size(); ++d) whole[at(order[d])] = line[d];
    return whole;
  }
};

Result<Join> join_of(const Call& call, const std::string& how) {
  if (how == "sum" || how == "add" || how == "mean") return Join::add;
  if (how == "prod" || how == "multiply") return Join::multiply;
  if (how == "amax") return Join::most;
  if (how == "amin") return Join::least;
  return fail(Kind::bad_graph, "`{}` with reduce `{}`", call.op(), how);
}

// The mean of what met at each place: sums over counts, floored for integers.
LoopValue averaged(LoopBuilder& b, const LoopValue& sum, const LoopValue& count, DType result) {
  LoopBuilder* p = &b;
  const DType type = register_type(sum.dtype);
  return b.map({sum, count}, sum.sizes, type, result, [=](const std::vector<ExprId>& v) {
    ExprId n = p->op(ScalarOp::max, {v[1], number_expr(*p, 1, type)});
    return is_float(type) || is_complex(type) ? p->div(v[0], n) : p->op(ScalarOp::floordiv, {v[0], n});
  });
}

struct Joining {
  Join join;
  bool mean = false, include = true;  // include: what was there takes part
};
using Element = std::function<ExprId(const Index&)>;

// x with k values for each of its lines joined to the elements at their places.
LoopValue joined(LoopBuilder& b, const LoopValue& x, const Lines& l, const Joining& how, const Sym& k,
                 const Element& place, const Element& value) {
  const DType type = register_type(x.dtype);
  auto written = [&](const LoopValue& base, const Element& what, Join join, bool include, const char* suffix) {
    LoopValue lines = b.reshape(b.permute(base, l.order), {l.rows, l.moved.back()});
    LoopValue y = scattered(b, lines, {l.rows, k}, place, what, join, include, suffix);
    return b.permute(b.reshape(y, l.moved), l.back);
  };
  LoopValue y = written(how.mean ? b.convert(x, type) : x, value, how.join, how.include, ".written");
  if (!how.mean) return y;
  LoopBuilder* p = &b;
  LoopValue first = b.full(x.sizes, number_expr(b, how.include ? 1 : 0, type), type);
  LoopValue count = written(
      first, [=](const Index&) { return number_expr(*p, 1, type); }, Join::add, true, ".count");
  return averaged(b, y, count, x.dtype);
}

// scatter along dim: position j of index writes element index[…j…] of its line.
void add_scatters(OpTable& ops) {
  struct Row {
    const char *name, *sample;
  };
  for (Row row :
       {Row{"scatter.src", "(f32[4,5], 1, i64[4,3], f32[4,3])"}, Row{"scatter.value", "(f32[4,5], 1, i64[4,3], 2.5)"},
        Row{"scatter.reduce", "(f32[4,5], 1, i64[4,3], f32[4,3], reduce=\"add\")"},
        Row{"scatter.value_reduce", "(f32[4,5], 1, i64[4,3], 2.5, reduce=\"multiply\")"},
        Row{"scatter_add.default", "(f32[4,5], 0, i64[3,5], f32[3,5])"},
        Row{"scatter_reduce.two", "(f32[4,5], 1, i64[4,3], f32[4,3], \"amax\")"}})
    ops.add(format("aten.{}", row.name))
        .infer([](const Call& call) -> Types {
          return one(contiguous_type(call, call.type("self").dtype, call.type("self").sizes));
        })
        .lower([row](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue x = call.tensor("self"), index = call.tensor("index");
          LoopBuilder* p = &b;
          std::optional<LoopValue> source;
          if (is_tensor(call, "src")) source = b.convert(call.tensor("src"), x.dtype);
          const bool scalar = x.rank() == 0;
          if (scalar) x = b.unsqueeze(x, 0);
          if (index.rank() == 0) index = b.unsqueeze(index, 0);
          if (source && source->rank() == 0) source = b.unsqueeze(*source, 0);
          LoopValue src =
              source ? *source : b.broadcast(scalar_value(b, call.scalar(b, "value", x.dtype), x.dtype), index.sizes);
          const size_t dim = scalar ? 0 : at(call.dim("dim", x.rank()));
          std::string how = call.schema().find_arg("reduce") >= 0            ? call.text("reduce")
                            : std::string(row.name) == "scatter_add.default" ? "sum"
                                                                             : "";
          TD_TRY(const Join join, how.empty() ? Result<Join>(Join::set) : join_of(call, how));
          const bool include = call.schema().find_arg("include_self") < 0 || call.flag("include_self");
          // The index may be smaller than self: its own lines only.
          const Lines l(x.sizes, dim);
          const Sym n = x.sizes[dim], k = index.sizes[dim];
          auto inside = [=](const Index& xi) {
            std::vector<ExprId> conditions;
            for (size_t d = 0; d < xi.size(); ++d)
              if (d != dim && !proves_eq(index.sizes[d], x.sizes[d]))
                conditions.push_back(p->op(ScalarOp::lt, {xi[d], p->index(index.sizes[d])}));
            return all_of(*p, conditions);
          };
          auto place = [=](const Index& i) {
            const Index xi = l.whole_index(*p, i);
            return p->where(inside(xi), checked_index(*p, index.at(xi), n), int_expr(*p, -1));
          };
          const DType type = register_type(x.dtype);
          auto value = [=](const Index& i) {
            const Index xi = l.whole_index(*p, i);
            return p->where(inside(xi), p->cvt(src.at(xi), type), number_expr(*p, 0, type));
          };
          LoopValue y = joined(b, x, l, {join, how == "mean", include}, k, place, value);
          return scalar ? b.squeeze(y, 0) : y;
        })
        .sample(format("aten.{}{}", row.name, row.sample));
}

// index_add, index_copy, index_fill, index_reduce: whole slices of dim at index[j].
void add_slice_writes(OpTable& ops) {
  struct Row {
    const char *name, *sample, *source;
  };
  for (Row row :
       {Row{"index_add.default", "(f32[4,5], 0, i64[3], f32[3,5], alpha=2)", "source"},
        Row{"index_copy.default", "(f32[4,5], 1, i64[3], f32[4,3])", "source"},
        Row{"index_reduce.default", "(f32[4,5], 1, i64[3], f32[4,3], \"mean\", include_self=False)", "source"},
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
          const DType type = register_type(x.dtype);
          const bool scalar = x.rank() == 0;
          if (scalar) x = b.unsqueeze(x, 0);
          if (index.rank() == 0) index = b.unsqueeze(index, 0);
          const size_t dim = scalar ? 0 : at(call.dim("dim", x.rank()));
          const std::string kind = row.name;
          const bool fills = kind.starts_with("index_fill"), adds = kind.starts_with("index_add");
          LoopBuilder* p = &b;
          LoopValue src = fills ? operand(b, call, "value", x.dtype) : b.convert(call.tensor(row.source), x.dtype);
          if (!fills && src.rank() == 0) src = b.unsqueeze(src, 0);
          std::string how = kind.starts_with("index_reduce") ? call.text("reduce") : adds ? "sum" : "";
          TD_TRY(const Join join, how.empty() ? Result<Join>(Join::set) : join_of(call, how));
          const bool include = call.schema().find_arg("include_self") < 0 || call.flag("include_self");
          const Lines l(x.sizes, dim);
          const Sym n = x.sizes[dim], k = index.sizes[0];
          std::optional<ExprId> alpha;
          if (adds) alpha = call.scalar(b, "alpha", type);
          auto place = [=](const Index& i) {
            ExprId target = index.at({i[1]});
            return fills ? wrapped_index(*p, target, n) : checked_index(*p, target, n);
          };
          auto value = [=](const Index& i) {
            if (fills) return p->cvt(src.at(Index(src.sizes.size(), int_expr(*p, 0))), type);
            ExprId v = p->cvt(src.at(l.whole_index(*p, i)), type);
            return alpha ? product_expr(*p, v, *alpha) : v;
          };
          LoopValue y = joined(b, x, l, {join, how == "mean", include}, k, place, value);
          return scalar ? b.squeeze(y, 0) : y;
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
