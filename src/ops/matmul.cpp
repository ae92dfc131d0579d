// Matrix products: linear, mm, addmm, matmul, einsum and their relatives, each one contraction (the form is in
// recipes.cpp).
#include <algorithm>
#include <map>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

DType product_dtype(const TensorType& a) { return a.dtype; }

Result<SymList> matmul_sizes(const SymList& a, const SymList& b) {
  if (a.empty() || b.empty()) return fail(Kind::bad_graph, "matmul of a 0-d tensor");
  const Sym &k = a.back(), &other = b.size() == 1 ? b[0] : b[b.size() - 2];
  if (proves_ne(k, other)) return fail(Kind::bad_graph, "matmul of [{}] and [{}]", to_string(a), to_string(b));
  SymList a_lead(a.begin(), a.end() - std::min<ptrdiff_t>(2, static_cast<ptrdiff_t>(a.size())));
  SymList b_lead(b.begin(), b.end() - std::min<ptrdiff_t>(2, static_cast<ptrdiff_t>(b.size())));
  TD_TRY(SymList out, broadcast_sizes(a_lead, b_lead));
  if (a.size() > 1) out.push_back(a[a.size() - 2]);
  if (b.size() > 1) out.push_back(b.back());
  return out;
}

Types infer_matmul(const Call& call, const char* first, const char* second) {
  const TensorType &a = call.type(first), &b = call.type(second);
  if (a.dtype != b.dtype)
    return fail(Kind::bad_graph, "`{}` of {} and {}", call.op(), dtype_name(a.dtype), dtype_name(b.dtype));
  TD_TRY(SymList sizes, matmul_sizes(a.sizes, b.sizes));
  return one(contiguous_type(call, product_dtype(a), sizes));
}

void add_product(OpTable& ops, const std::string& name, const char* first, const char* second,
                 std::vector<std::string> samples) {
  OpRow& row = ops.add("aten." + name);
  row.infer([first, second](const Call& call) { return infer_matmul(call, first, second); })
      .lower([first, second](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        return matmul(b, call.tensor(first), call.tensor(second), call.type(first).dtype);
      });
  for (const std::string& sample : samples) row.sample("aten." + name + sample);
}

void add_linear(OpTable& ops) {
  ops.add("aten.linear.default")
      .infer([](const Call& call) -> Types {
        const TensorType &x = call.type("input"), &w = call.type("weight");
        SymList sizes(x.sizes.begin(), x.sizes.end() - 1);
        if (w.rank() == 2) sizes.push_back(w.sizes[0]);
        return one(contiguous_type(call, product_dtype(x), sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("input"), w = call.tensor("weight");
        if (w.rank() == 1) {
          LoopValue y = matmul(b, x, w, x.dtype);
          if (!call.has("bias")) return y;
          LoopBuilder* p = &b;
          return b.map({y, call.tensor("bias")}, y.sizes, x.dtype, x.dtype,
                       [p](const std::vector<ExprId>& v) { return p->add(v[0], v[1]); });
        }
        if (!call.has("bias")) return matmul_nt(b, x, w, nullptr, x.dtype);
        LoopValue bias = call.tensor("bias");
        return matmul_nt(b, x, w, &bias, x.dtype);
      })
      .sample("aten.linear.default(f32[2,3,4], f32[5,4], f32[5])")
      .sample("aten.linear.default(f32[3,4], f32[5,4])")
      .sample("aten.linear.default(bf16[3,4], bf16[5,4], bf16[5])")
      .sample("aten.linear.default(f32[4], f32[5,4], f32[5])");
}

// beta * self + alpha * product, rounded once; beta = 0 leaves self out, NaN and all.
LoopValue with_addend(LoopBuilder& b, const LowerCall& call, const LoopValue& product, DType result) {
  DType acc = product.dtype;
  ExprId beta = call.scalar(b, "beta", acc), alpha = call.scalar(b, "alpha", acc);
  auto known = [&](const char* name, double value) {
    const Arg& arg = call.arg(name);
    auto sym = std::get_if<Sym>(&arg);
    if (std::holds_alternative<std::complex<double>>(arg)) return false;
    return (!sym || sym->is_constant()) && call.number(name) == value;
  };
  bool no_addend = known("beta", 0), plain_beta = known("beta", 1), plain_alpha = known("alpha", 1);
  LoopBuilder* p = &b;
  auto scaled = [=](ExprId x) { return plain_alpha ? x : product_expr(*p, x, alpha); };
  if (no_addend) return map1(b, product, acc, result, scaled);
  return b.map({product, call.tensor("self")}, product.sizes, acc, result, [=](const std::vector<ExprId>& v) {
    return p->cvt(sum_expr(*p, scaled(v[0]), plain_beta ? v[1] : product_expr(*p, v[1], beta)), result);
  });
}

DType accumulator(DType d) { return is_float(d) ? accumulate_type(d) : d; }

void add_with_addend(OpTable& ops) {
  struct Row {
    const char *name, *a, *b, *sample;
  };
  for (Row row : {Row{"addmm", "mat1", "mat2", "(f32[5], f32[3,4], f32[4,5], beta=0.5, alpha=2)"},
                  Row{"addmm", "mat1", "mat2", "(f32[5], f32[3,4], f32[4,5])"},
                  Row{"baddbmm", "batch1", "batch2", "(f32[2,1,5], f32[2,3,4], f32[2,4,5])"},
                  Row{"addmv", "mat", "vec", "(f32[3], f32[3,4], f32[4])"}}) {
    std::string name = format("aten.{}.default", row.name);
    if (ops.find(name)) continue;
    ops.add(name)
        .infer([row](const Call& call) { return infer_matmul(call, row.a, row.b); })
        .lower([row](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          DType dtype = call.type(row.a).dtype;
          return with_addend(b, call, matmul(b, call.tensor(row.a), call.tensor(row.b), accumulator(dtype)), dtype);
        })
        .sample(name + row.sample);
  }
  // The batch is summed as well.
  ops.add("aten.addbmm.default")
      .infer([](const Call& call) -> Types {
        const TensorType &a = call.type("batch1"), &b = call.type("batch2");
        return one(contiguous_type(call, a.dtype, {a.sizes[1], b.sizes[2]}));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("batch1"), y = call.tensor("batch2");
        LoopBuilder* p = &b;
        LoopValue sum = b.contract(
            accumulator(x.dtype), {x.sizes[1], y.sizes[2]}, {x.sizes[0], x.sizes[2]},
            [p, x, y](const Index& o, const Index& k) {
              return product_expr(*p, x.at({k[0], o[0], k[1]}), y.at({k[0], k[1], o[1]}));
            },
            "");
        return with_addend(b, call, sum, x.dtype);
      })
      .sample("aten.addbmm.default(f32[3,5], f32[2,3,4], f32[2,4,5])");
  // beta * self + alpha * u v^T
  ops.add("aten.addr.default")
      .infer([](const Call& call) -> Types {
        const TensorType &u = call.type("vec1"), &v = call.type("vec2");
        return one(unclaimed_type(call, promoted(call, {"self", "vec1", "vec2"}), {u.sizes[0], v.sizes[0]}));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue u = call.tensor("vec1"), v = call.tensor("vec2");
        DType dtype = promoted(call, {"self", "vec1", "vec2"});
        LoopBuilder* p = &b;
        LoopValue outer = b.map({b.unsqueeze(u, 1), v}, {u.sizes[0], v.sizes[0]}, dtype, accumulator(dtype),
                                [p](const std::vector<ExprId>& x) { return product_expr(*p, x[0], x[1]); });
        return with_addend(b, call, outer, dtype);
      })
      .sample("aten.addr.default(f32[3,4], f32[3], f32[4])")
      .sample("aten.addr.default(bool[3,4], bool[3], bool[4])");
}

void add_vectors(OpTable& ops) {
  for (const char* base : {"outer", "ger"})
    ops.add(format("aten.{}.default", base))
        .infer([](const Call& call) -> Types {
          const TensorType &u = call.type("self"), &v = call.type("vec2");
          return one(contiguous_type(call, promoted(call, {"self", "vec2"}), {u.sizes[0], v.sizes[0]}));
        })
        .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
          LoopValue u = call.tensor("self"), v = call.tensor("vec2");
          DType dtype = promoted(call, {"self", "vec2"});
          LoopBuilder* p = &b;
          return b.map({b.unsqueeze(u, 1), v}, {u.sizes[0], v.sizes[0]}, dtype, dtype,
                       [p](const std::vector<ExprId>& x) { return product_expr(*p, x[0], x[1]); });
        })
        .sample(format("aten.{}.default(f32[3], f32[4])", base));
  // x1 [..., i], W [k, i, j], x2 [..., j]
  ops.add("aten.bilinear.default")
      .infer([](const Call& call) -> Types {
        SymList sizes = call.type("input1").sizes;
        sizes.back() = call.type("weight").sizes[0];
        return one(contiguous_type(call, call.type("input1").dtype, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("input1"), y = call.tensor("input2"), w = call.tensor("weight");
        SymList sizes = x.sizes;
        sizes.back() = w.sizes[0];
        LoopBuilder* p = &b;
        DType acc = accumulator(x.dtype);
        LoopValue sum = b.contract(
            acc, sizes, {w.sizes[1], w.sizes[2]},
            [p, x, y, w](const Index& o, const Index& k) {
              Index xi = o, yi = o;
              xi.back() = k[0];
              yi.back() = k[1];
              return p->mul(p->mul(x.at(xi), w.at({o.back(), k[0], k[1]})), y.at(yi));
            },
            "");
        if (!call.has("bias")) return map1(b, sum, acc, x.dtype, [](ExprId v) { return v; });
        return b.map({sum, call.tensor("bias")}, sizes, acc, x.dtype,
                     [p](const std::vector<ExprId>& v) { return p->add(v[0], v[1]); });
      })
      .sample("aten.bilinear.default(f32[3,4], f32[3,5], f32[2,4,5], f32[2])");
  // The product over the last dims of both.
  ops.add("aten.inner.default")
      .infer([](const Call& call) -> Types {
        const TensorType &a = call.type("self"), &b = call.type("other");
        if (a.rank() == 0 || b.rank() == 0)
          return one(unclaimed_type(call, a.dtype, a.rank() == 0 ? b.sizes : a.sizes));
        SymList sizes(a.sizes.begin(), a.sizes.end() - 1);
        sizes.insert(sizes.end(), b.sizes.begin(), b.sizes.end() - 1);
        return one(unclaimed_type(call, a.dtype, sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        LoopValue x = call.tensor("self"), y = call.tensor("other");
        if (x.rank() == 0 || y.rank() == 0)
          return b.map({x, y}, x.rank() == 0 ? y.sizes : x.sizes, x.dtype, x.dtype,
                       [p = &b](const std::vector<ExprId>& v) { return product_expr(*p, v[0], v[1]); });
        SymList sizes(x.sizes.begin(), x.sizes.end() - 1);
        size_t split = sizes.size();
        sizes.insert(sizes.end(), y.sizes.begin(), y.sizes.end() - 1);
        LoopBuilder* p = &b;
        LoopValue sum = b.contract(
            accumulator(x.dtype), sizes, {x.sizes.back()},
            [p, x, y, split](const Index& o, const Index& k) {
              Index xi(o.begin(), o.begin() + static_cast<ptrdiff_t>(split));
              Index yi(o.begin() + static_cast<ptrdiff_t>(split), o.end());
              xi.push_back(k[0]);
              yi.push_back(k[0]);
              return product_expr(*p, x.at(xi), y.at(yi));
            },
            "");
        return map1(b, sum, sum.dtype, x.dtype, [](ExprId v) { return v; });
      })
      .sample("aten.inner.default(f32[2,3,4], f32[5,4])")
      .sample("aten.inner.default(f32[2,3], f32[])");
}

// ------------------------------------------------------------------------------------------------------- einsum

struct Einsum {
  std::vector<std::string> operands;  // one letter a dim; dims under an ellipsis get letters of their own
  std::string output;
};

// "bij,bjk->bik". Ellipsis dims are named by control characters, the last dim first, so that they align from the right.
Result<Einsum> parse_einsum(std::string text, const std::vector<int64_t>& ranks) {
  text = replace_all(replace_all(text, " ", ""), "...", ".");
  auto arrow = text.find("->");
  std::vector<std::string> parts = split(text.substr(0, arrow), ',');
  if (parts.size() != ranks.size())
    return fail(Kind::bad_graph, "einsum `{}` has {} operands, the call {}", text, parts.size(), ranks.size());
  Einsum e;
  int64_t widest = 0;
  std::map<char, int> seen;
  auto ellipsis = [](int64_t count) {
    std::string dims;
    for (int64_t i = count; i > 0; --i) dims += static_cast<char>(i);
    return dims;
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    int64_t hidden = ranks[i] - static_cast<int64_t>(parts[i].size());
    if (parts[i].find('.') != std::string::npos) {
      ++hidden;
      widest = std::max(widest, hidden);
      parts[i] = replace_all(parts[i], ".", ellipsis(hidden));
    } else if (hidden != 0) {
      return fail(Kind::bad_graph, "einsum `{}`: operand {} has rank {}", text, i, ranks[i]);
    }
    for (char c : parts[i]) ++seen[c];
    e.operands.push_back(parts[i]);
  }
  if (arrow != std::string::npos) {
    e.output = replace_all(text.substr(arrow + 2), ".", ellipsis(widest));
  } else {
    // Without an output: the ellipsis, then the letters that stand once, in order.
    e.output = ellipsis(widest);
    for (auto [c, count] : seen)
      if (c >= 'A' && count == 1) e.output += c;
  }
  return e;
}

Result<std::pair<Einsum, std::map<char, Sym>>> einsum_of(const Call& call) {
  std::vector<int64_t> ranks;
  std::vector<ValueId> tensors = call.values("tensors");
  for (ValueId id : tensors) ranks.push_back(call.type(id).rank());
  TD_TRY(Einsum e, parse_einsum(call.text("equation"), ranks));
  std::map<char, Sym> sizes;
  for (size_t i = 0; i < tensors.size(); ++i)
    for (size_t d = 0; d < e.operands[i].size(); ++d) {
      const Sym& size = call.type(tensors[i]).sizes[d];
      auto [at, fresh] = sizes.try_emplace(e.operands[i][d], size);
      if (!fresh && is_one(at->second)) at->second = size;
    }
  return std::pair{std::move(e), std::move(sizes)};
}

// Integers and truths become i64 where a letter is summed in one operand alone; products of two keep their type.
DType einsum_dtype(const Call& call, const Einsum& e) {
  const std::vector<ValueId> tensors = call.values("tensors");
  const DType dtype = call.type(tensors[0]).dtype;
  if (is_float(dtype) || is_complex(dtype)) return dtype;
  for (size_t i = 0; i < tensors.size(); ++i)
    for (size_t d = 0; d < e.operands[i].size(); ++d) {
      const char c = e.operands[i][d];
      if (e.output.find(c) != std::string::npos) continue;
      if (tensors.size() == 1) return DType::i64;
      bool alone = !is_one(call.type(tensors[i]).sizes[d]);
      for (size_t other = 0; other < tensors.size(); ++other) {
        const size_t at = e.operands[other].find(c);
        if (other != i && at != std::string::npos && !is_one(call.type(tensors[other]).sizes[at])) alone = false;
      }
      if (alone) return DType::i64;
    }
  return dtype;
}

void add_einsum(OpTable& ops) {
  ops.add("aten.einsum.default")
      .infer([](const Call& call) -> Types {
        TD_TRY(auto parsed, einsum_of(call));
        SymList sizes;
        for (char c : parsed.first.output) sizes.push_back(parsed.second[c]);
        return one(unclaimed_type(call, einsum_dtype(call, parsed.first), sizes));
      })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        TD_TRY(auto parsed, einsum_of(call));
        auto [e, sizes] = parsed;
        std::vector<LoopValue> operands;
        for (ValueId id : call.values("tensors")) operands.push_back(call.tensor(id));
        if (operands.size() > 2)
          return fail(Kind::unsupported_op, "einsum of {} operands (`{}`)", operands.size(), call.text("equation"));
        SymList out_sizes, k_sizes;
        std::string summed;
        for (char c : e.output) out_sizes.push_back(sizes[c]);
        for (auto [c, size] : sizes)
          if (e.output.find(c) == std::string::npos) summed += c, k_sizes.push_back(size);
        LoopBuilder* p = &b;
        const DType dtype = einsum_dtype(call, e);
        if (dtype != operands[0].dtype)
          for (LoopValue& x : operands) x = b.convert(x, dtype);
        auto term = [p, operands, e, summed](const Index& out, const Index& k) {
          std::optional<ExprId> product;
          for (size_t i = 0; i < operands.size(); ++i) {
            Index at;
            for (size_t d = 0; d < e.operands[i].size(); ++d) {
              char c = e.operands[i][d];
              size_t o = e.output.find(c);
              bool repeats = is_one(operands[i].sizes[d]);
              at.push_back(repeats ? int_expr(*p, 0) : o != std::string::npos ? out[o] : k[summed.find(c)]);
            }
            ExprId x = operands[i].at(at);
            product = product ? product_expr(*p, *product, x) : x;
          }
          return *product;
        };
        DType acc = accumulator(dtype);
        if (summed.empty()) return b.from(dtype, out_sizes, [term](const Index& out) { return term(out, {}); });
        LoopValue sum = b.contract(acc, out_sizes, k_sizes, term, "");
        return map1(b, sum, acc, dtype, [](ExprId v) { return v; });
      })
      .sample("aten.einsum.default(\"bij,bjk->bik\", [f32[2,3,4], f32[2,4,5]])")
      .sample("aten.einsum.default(\"...ij,kj->...ik\", [f32[2,3,4], f32[5,4]])")
      .sample("aten.einsum.default(\"ii->i\", [f32[3,3]])")
      .sample("aten.einsum.default(\"ij->i\", [i32[3,4]])")
      .sample("aten.einsum.default(\"ij->\", [bool[3,4]])")
      .sample("aten.einsum.default(\"ij,jk->ik\", [i32[3,4], i32[4,5]])")
      .sample("aten.einsum.default(\"ij,jk->ik\", [u8[3,4], u8[4,5]])")
      .sample("aten.einsum.default(\"ij,k->ik\", [i8[3,4], i8[5]])")
      .sample("aten.einsum.default(\"ij,j->i\", [i8[3,1], i8[4]])")
      .sample("aten.einsum.default(\"i,j->ij\", [f32[3], f32[4]])");
}

}  // namespace

void add_matmul_ops(OpTable& ops) {
  add_linear(ops);
  add_product(ops, "mm.default", "self", "mat2", {"(f32[3,4], f32[4,5])", "(bf16[3,4], bf16[4,5])"});
  add_product(ops, "bmm.default", "self", "mat2", {"(f32[2,3,4], f32[2,4,5])"});
  add_product(ops, "matmul.default", "self", "other",
              {"(f32[2,1,3,4], f32[6,4,5])", "(f32[2,3,4], f32[4,5])", "(f32[4], f32[4])", "(f32[4], f32[2,4,5])",
               "(f32[2,3,4], f32[4])", "(i64[3,4], i64[4,5])"});
  add_product(ops, "mv.default", "self", "vec", {"(f32[3,4], f32[4])"});
  add_product(ops, "dot.default", "self", "tensor", {"(f32[4], f32[4])"});
  ops.add("aten.vdot.default")
      .infer([](const Call& call) { return infer_matmul(call, "self", "other"); })
      .lower([](LoopBuilder& b, const LowerCall& call) -> Result<LoopValue> {
        return matmul(b, b.conjugate(call.tensor("self")), call.tensor("other"), call.type("self").dtype);
      })
      .sample("aten.vdot.default(f32[4], f32[4])")
      .sample("aten.vdot.default(c64[4], c64[4])");
  add_with_addend(ops);
  add_vectors(ops);
  add_einsum(ops);
}

}  // namespace toroid
