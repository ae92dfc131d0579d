// Results whose sizes follow from data: nonzero, masked_select, unique, repeat_interleave. A count is computed first
// and read on the host as the result's size; then the library finds positions, and gathers at them are loops like any
// other.
#include <algorithm>

#include "base/check.h"
#include "ops/rules.h"
#include "ops/unknown.h"

namespace toroid {

Sym unknown_size() { return Sym::symbol("?", 0, sym_infinity); }

Sym add_unbacked_symbol(std::vector<SymbolInfo>& symbols, const std::string& prefix, int64_t low, int64_t high) {
  SymbolInfo info{.low = low, .high = high, .unbacked = true};
  for (int n = 0; info.name.empty(); ++n) {
    std::string name = format("{}{}", prefix, n);
    if (std::ranges::find(symbols, name, &SymbolInfo::name) == symbols.end()) info.name = std::move(name);
  }
  symbols.push_back(info);
  return Sym::symbol(info.name, low, high);
}

void settle_unknown(Graph& graph, std::vector<TensorType>& types) {
  auto unknown = [](const Sym& sym) { return depends_on(sym, "?"); };
  std::optional<Sym> symbol;
  for (TensorType& type : types) {
    if (std::ranges::none_of(type.sizes, unknown) && std::ranges::none_of(type.strides, unknown)) continue;
    if (!symbol) symbol = add_unbacked_symbol(graph.symbols);
    for (Sym& size : type.sizes) size = substitute(size, {{"?", *symbol}});
    for (Sym& stride : type.strides) stride = substitute(stride, {{"?", *symbol}});
  }
}

bool is_unknown(const Sym& size) { return size.is_symbol() && size.symbol_name() == "?"; }

LoopValue count_nonzero(LoopBuilder& b, const LoopValue& x) {
  LoopValue flags =
      b.from(DType::i64, x.sizes, [&b, x](const Index& i) { return b.cvt(truth(b, x.at(i)), DType::i64); });
  if (x.rank() == 0) return flags;
  return b.reduce(ReduceOp::sum, flags, {}, false, DType::i64, DType::i64, ".count");
}

LoopValue nonzero_positions(LoopBuilder& b, const LoopValue& x, const Sym& count) {
  LoopValue flags = b.from(DType::b8, x.sizes, [&b, x](const Index& i) { return truth(b, x.at(i)); });
  flags = b.materialize(flags, ".flags");
  b.define_size(count, count_nonzero(b, flags));
  return b.call("nonzero", {flags}, {}, {{DType::i64, {count, x.rank()}}})[0];
}

namespace {

Sym numel(const SymList& sizes) { return product(sizes); }

LoopValue flattened(LoopBuilder& b, const LoopValue& x) { return b.reshape(x, {numel(x.sizes)}); }

// nonzero's result lies column by column in eager PyTorch.
void add_nonzero(OpTable& ops) {
  for (const char* name : {"aten.nonzero.default", "aten.argwhere.default"})
    ops.add(name)
        .infer([](const Call& call) -> Types {
          const TensorType& x = call.type("self");
          return one(unclaimed_type(call, DType::i64, {unknown_size(), x.rank()}));
        })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          return nonzero_positions(b, call.tensor("self"), call.result().sizes[0]);
        })
        .sample(format("{}(f32[3,4])", name))
        .sample(format("{}(bool[])", name));
  for (const char* name : {"aten.nonzero_numpy.default", "aten.where.default"}) {
    const char* input = std::string_view(name).starts_with("aten.where") ? "condition" : "self";
    ops.add(name)
        .infer([input](const Call& call) -> Types {
          const int64_t columns = std::max<int64_t>(call.type(input).rank(), 1);
          return std::vector<TensorType>(static_cast<size_t>(columns),
                                         unclaimed_type(call, DType::i64, {unknown_size()}));
        })
        .lower_many([input](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          LoopValue x = call.tensor(input);
          if (x.rank() == 0) x = b.unsqueeze(x, 0);
          LoopValue positions = nonzero_positions(b, x, call.result().sizes[0]);
          std::vector<LoopValue> columns;
          for (int64_t d = 0; d < x.rank(); ++d) columns.push_back(b.select(positions, 1, d));
          return columns;
        })
        .sample(format("{}(f32[3,4])", name));
  }
  ops.add("aten.masked_select.default")
      .infer([](const Call& call) -> Types {
        TD_TRY([[maybe_unused]] SymList sizes, broadcast_sizes(call.type("self").sizes, call.type("mask").sizes));
        return one(contiguous_type(call, call.type("self").dtype, {unknown_size()}));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        TD_TRY(SymList sizes, broadcast_sizes(call.type("self").sizes, call.type("mask").sizes));
        LoopValue x = b.broadcast(call.tensor("self"), sizes), mask = b.broadcast(call.tensor("mask"), sizes);
        const Sym count = call.result().sizes[0];
        LoopValue positions = nonzero_positions(b, mask, count);
        return b.from(x.dtype, {count}, [&b, x, positions](const Index& i) {
          Index at;
          for (size_t d = 0; d < x.sizes.size(); ++d)
            at.push_back(checked_index(b, positions.at({i[0], int_expr(b, static_cast<int64_t>(d))}), x.sizes[d]));
          return x.at(at);
        });
      })
      .sample("aten.masked_select.default(f32[3,4], bool[3,4])")
      .sample("aten.masked_select.default(f32[3,1], bool[4])");
  ops.add("aten.nonzero_static.default")
      .infer([](const Call& call) -> Types {
        return one(unclaimed_type(call, DType::i64, {call.integer("size"), call.type("self").rank()}));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self");
        const Sym found = b.read_size(count_nonzero(b, x));
        LoopValue positions = nonzero_positions(b, x, found);
        const ExprId fill = b.index(call.integer("fill_value"));
        return b.from(DType::i64, call.result().sizes, [&b, positions, found, fill](const Index& i) {
          const ExprId inside = b.op(ScalarOp::lt, {i[0], b.index(found)});
          return b.where(inside, positions.at({b.where(inside, i[0], int_expr(b, 0)), i[1]}), fill);
        });
      })
      .sample("aten.nonzero_static.default(f32[3,4], size=5)")
      .sample("aten.nonzero_static.default(f32[3,4], size=20, fill_value=-2)");
}

// ------------------------------------------------------------------------------------------------------- repeats

// out[k] = the first i with repeats[0] + … + repeats[i] > k
void add_repeats(OpTable& ops) {
  auto positions = [](LoopBuilder& b, const LoopValue& repeats, const Sym& total) {
    LoopValue ends = b.materialize(b.scan(ReduceOp::sum, repeats, 0, DType::i64, DType::i64), ".ends");
    LoopValue last = proves_eq(repeats.sizes[0], 0) ? b.full({}, int_expr(b, 0), DType::i64)
                                                    : b.select(ends, 0, sym_max(repeats.sizes[0] - Sym(1), 0));
    b.define_size(total, last);
    return b.call("repeat_positions", {ends}, {}, {{DType::i64, {total}}})[0];
  };
  ops.add("aten.repeat_interleave.Tensor")
      .infer([](const Call& call) -> Types {
        const Sym size = call.has("output_size") ? call.integer("output_size") : unknown_size();
        return one(contiguous_type(call, call.type("repeats").dtype, {size}));
      })
      .lower([positions](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        return b.convert(positions(b, call.tensor("repeats"), call.result().sizes[0]), call.result().dtype);
      });
  ops.add("aten.repeat_interleave.self_Tensor")
      .infer([](const Call& call) -> Types {
        const TensorType& x = call.type("self");
        SymList sizes = x.sizes;
        int64_t dim = 0;
        if (call.has("dim"))
          dim = call.dim("dim", x.rank());
        else
          sizes = {numel(sizes)};
        if (sizes.empty()) sizes = {1};
        sizes[static_cast<size_t>(dim)] = call.has("output_size") ? call.integer("output_size") : unknown_size();
        return one(unclaimed_type(call, x.dtype, sizes));
      })
      .lower([positions](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self"), repeats = call.tensor("repeats");
        int64_t dim = 0;
        if (call.has("dim"))
          dim = call.dim("dim", x.rank());
        else
          x = flattened(b, x);
        if (x.rank() == 0) x = b.unsqueeze(x, 0);
        const Sym size = x.sizes[static_cast<size_t>(dim)];
        if (repeats.rank() == 0) repeats = b.unsqueeze(repeats, 0);
        if (!proves_eq(repeats.sizes[0], size)) repeats = b.broadcast(repeats, {size});
        const Sym total = call.result().sizes[static_cast<size_t>(dim)];
        LoopValue from = positions(b, repeats, total);
        return b.from(x.dtype, call.result().sizes, [&b, x, from, dim, size](const Index& i) {
          Index at = i;
          at[static_cast<size_t>(dim)] = checked_index(b, from.at({i[static_cast<size_t>(dim)]}), size);
          return x.at(at);
        });
      })
      .sample("aten.repeat_interleave.self_Tensor(f32[3,2], i64[3], 0, output_size=none)");
}

// --------------------------------------------------------------------------------------------------------- unique

struct Unique {
  LoopValue values, inverse, counts;
};

// Equal rows of x [n, m] that stand next to each other in `order` are one; `count` groups.
Unique unique_rows(LoopBuilder& b, const LoopValue& x, const std::optional<LoopValue>& order, const Sym& count) {
  const Sym n = x.sizes[0], m = x.sizes[1];
  LoopBuilder* p = &b;
  auto place = [p, order, n](ExprId i) { return order ? checked_index(*p, order->at({i}), n) : i; };
  // Differs from the row before in some column.
  LoopValue differs = b.from(DType::b8, {n, m}, [=](const Index& i) {
    const ExprId first = p->op(ScalarOp::eq, {i[0], int_expr(*p, 0)});
    const ExprId before = p->where(first, int_expr(*p, 0), p->sub(i[0], int_expr(*p, 1)));
    return p->op(ScalarOp::lor, {first, p->op(ScalarOp::ne, {x.at({place(i[0]), i[1]}), x.at({place(before), i[1]})})});
  });
  LoopValue starts = b.materialize(b.reduce(ReduceOp::any, differs, {1}, false, DType::b8, DType::b8, ".starts"), "");
  LoopValue firsts = b.select(nonzero_positions(b, starts, count), 1, 0);
  Unique result;
  result.values = b.from(x.dtype, {count, m}, [=](const Index& i) {
    return x.at({place(checked_index(*p, firsts.at({i[0]}), n)), i[1]});
  });
  result.counts = b.from(DType::i64, {count}, [=](const Index& i) {
    const ExprId last = p->op(ScalarOp::eq, {i[0], p->index(count - Sym(1))});
    const ExprId next = p->where(last, i[0], p->add(i[0], int_expr(*p, 1)));
    return p->sub(p->where(last, p->index(n), firsts.at({next})), firsts.at({i[0]}));
  });
  LoopValue group = b.materialize(b.scan(ReduceOp::sum, starts, 0, DType::i64, DType::i64), ".group");
  if (order) {
    LoopValue back = b.call("inverse_permutation", {*order}, {}, {{DType::i64, {n}}})[0];
    result.inverse = b.from(DType::i64, {n}, [=](const Index& i) {
      return p->sub(group.at({checked_index(*p, back.at({i[0]}), n)}), int_expr(*p, 1));
    });
  } else {
    result.inverse = b.from(DType::i64, {n}, [=](const Index& i) { return p->sub(group.at({i[0]}), int_expr(*p, 1)); });
  }
  return result;
}

LoopValue sorted_order(LoopBuilder& b, const LoopValue& rows) {
  return b.call("argsort_rows", {rows}, {0}, {{DType::i64, {rows.sizes[0]}}})[0];
}

// Values (flat, or slices along `dim`), inverse and counts, the last two empty where they are not wanted.
Types infer_unique(const Call& call, bool along_dim) {
  const TensorType& x = call.type("self");
  SymList values{unknown_size()}, inverse = x.sizes;
  if (along_dim) {
    const auto dim = static_cast<size_t>(call.dim("dim", x.rank()));
    values = x.sizes;
    values[dim] = unknown_size();
    inverse = {x.sizes[dim]};
  }
  if (!call.flag("return_inverse")) inverse = {0};
  return std::vector<TensorType>{
      unclaimed_type(call, x.dtype, values), unclaimed_type(call, DType::i64, inverse),
      contiguous_type(call, DType::i64, {call.flag("return_counts") ? unknown_size() : Sym(0)})};
}

Result<std::vector<LoopValue>> lower_unique(LoopBuilder& b, const LowerCall& call, bool along_dim, bool sorts) {
  LoopValue x = call.tensor("self");
  if (is_complex(x.dtype)) return fail(Kind::unsupported_op, "`{}` of complex numbers", call.op());
  int64_t dim = 0;
  LoopValue rows;
  SymList slice_sizes;
  if (along_dim) {
    dim = call.dim("dim", x.rank());
    LoopValue front = x;
    for (int64_t d = dim; d > 0; --d) front = b.transpose(front, d, d - 1);
    slice_sizes = {front.sizes.begin() + 1, front.sizes.end()};
    rows = b.reshape(front, {front.sizes[0], product(slice_sizes)});
  } else {
    rows = b.reshape(x, {numel(x.sizes), 1});
  }
  rows = b.materialize(rows, ".rows");
  const Sym count = call.result().sizes[static_cast<size_t>(dim)];
  std::optional<LoopValue> order;
  if (sorts) order = sorted_order(b, rows);
  Unique unique = unique_rows(b, rows, order, count);
  std::vector<LoopValue> out;
  if (along_dim) {
    SymList sizes = slice_sizes;
    sizes.insert(sizes.begin(), count);
    LoopValue values = b.reshape(unique.values, sizes);
    for (int64_t d = 0; d < dim; ++d) values = b.transpose(values, d, d + 1);
    out.push_back(values);
    out.push_back(unique.inverse);
  } else {
    out.push_back(b.reshape(unique.values, {count}));
    out.push_back(b.reshape(unique.inverse, x.sizes));
  }
  out.push_back(unique.counts);
  LoopValue nothing = b.full({0}, int_expr(b, 0), DType::i64);
  if (!call.flag("return_inverse")) out[1] = nothing;
  if (!call.flag("return_counts")) out[2] = nothing;
  return out;
}

void add_unique(OpTable& ops) {
  struct Row {
    const char* name;
    bool along_dim, sorts;
    const char* samples[2];
  };
  for (Row row : {Row{"aten._unique2.default", false, true, {"(i64[3,4], True, True, True)", "(f32[6])"}},
                  Row{"aten.unique_dim.default",
                      true,
                      true,
                      {"(i64[4,2], 0, True, True, True)", "(i64[2,5], 1, True, True, True)"}},
                  Row{"aten.unique_consecutive.default", false, false, {"(i64[9], True, True)", "(i64[9])"}},
                  Row{"aten.unique_dim_consecutive.default", true, false, {"(i64[4,1], 0, True, True)", ""}}}) {
    OpRow& added =
        ops.add(row.name)
            .infer([row](const Call& call) {
              return infer_unique(call, row.along_dim || (call.schema().find_arg("dim") >= 0 && call.has("dim")));
            })
            .lower_many([row](LoopBuilder& b, const LowerCall& call) {
              const bool dim = row.along_dim || (call.schema().find_arg("dim") >= 0 && call.has("dim"));
              return lower_unique(b, call, dim, row.sorts);
            });
    for (const char* sample : row.samples)
      if (*sample) added.sample(std::string(row.name) + sample);
  }
}

// ----------------------------------------------------------------------------------------------------- assertions

void add_assertions(OpTable& ops) {
  for (const char* name : {"aten._assert_async.default", "aten._assert_async.msg"})
    ops.add(name)
        .infer([](const Call&) -> Types { return std::vector<TensorType>(); })
        .lower_many([](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
          LoopValue x = call.tensor("self");
          std::string text = "an assertion of the model does not hold";
          if (call.schema().find_arg("assert_msg") >= 0) text = call.text("assert_msg");
          LoopValue truth_of = b.from(DType::i64, {}, [&b, x](const Index&) {
            return b.cvt(truth(b, x.at(Index(x.sizes.size(), int_expr(b, 0)))), DType::i64);
          });
          b.loops().guards.push_back({sym_ne(b.read_size(truth_of), 0), text});
          return std::vector<LoopValue>();
        });
}

}  // namespace

void add_dynamic_ops(OpTable& ops) {
  add_nonzero(ops);
  add_repeats(ops);
  add_unique(ops);
  add_assertions(ops);
}

}  // namespace toroid
