// Tensors as functions of their indices: views as index substitutions, pointwise maps, reductions, and the tensors that
// hold results.
#include "ops/loop_builder.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "loop/routines.h"
#include "ops/unknown.h"

namespace toroid {
namespace {

bool is_one(const Sym& size) { return proves_eq(size, 1); }

bool same_sizes(const SymList& a, const SymList& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), proves_eq);
}

int64_t wrap_dim(int64_t dim, int64_t rank) {
  int64_t wrapped = dim < 0 ? dim + rank : dim;
  TD_CHECK(wrapped >= 0 && wrapped < rank, "dim {} of a tensor of rank {}", dim, rank);
  return wrapped;
}

// The position that a variable stands for; of a dim of size 1 always 0, so that equal elements have equal expressions.
ExprId position(ExprPool& pool, const Sym& var) { return pool.index(is_one(extent_of(var)) ? Sym(0) : var); }

}  // namespace

LoopBuilder::LoopBuilder(Loops& loops) : loops_(loops) {
  for (size_t i = 0; i < loops.tensors.size(); ++i)
    names_.emplace(loops.tensors[i].name, TensorId{static_cast<int32_t>(i)});
}

void LoopBuilder::enter(std::string name, Where where) {
  name_ = std::move(name);
  where_ = std::move(where);
}

std::string LoopBuilder::unique(const std::string& name) const {
  std::string result = name;
  for (int n = 1; names_.contains(result); ++n) result = format("{}_{}", name, n);
  return result;
}

void LoopBuilder::rename(TensorId tensor, const std::string& name) {
  LoopTensor& t = loops_[tensor];
  if (t.name == name) return;
  if (auto it = names_.find(name); it != names_.end()) {
    const TensorId other = it->second;
    loops_[other].name = unique(name + ".part");
    names_.emplace(loops_[other].name, other);
  }
  names_.erase(t.name);
  names_[name] = tensor;
  t.name = name;
}

ExprId LoopBuilder::number(double value, DType storage) { return pool().constant(value, register_type(storage)); }
ExprId LoopBuilder::cvt(ExprId x, DType to) { return pool().cvt(x, register_type(to)); }

LoopValue LoopBuilder::read(TensorId tensor) {
  const LoopTensor& t = loops_[tensor];
  return t.pairs ? complex_of(read_parts(tensor)) : read_parts(tensor);
}

LoopValue LoopBuilder::complex_of(const LoopValue& parts) {
  return {complex_of_parts(parts.dtype), SymList(parts.sizes.begin(), parts.sizes.end() - 1),
          [this, parts](const Index& index) {
            Index at = index;
            at.push_back(pool().index(0));
            const ExprId re = parts.at(at);
            at.back() = pool().index(1);
            return pool().pair(re, parts.at(at));
          }};
}

LoopValue LoopBuilder::read_parts(TensorId tensor) {
  const LoopTensor& t = loops_[tensor];
  return {t.dtype, t.sizes, [this, tensor, dtype = t.dtype, sizes = t.sizes](const Index& index) {
            TD_CHECK(index.size() == sizes.size(), "{} indices into `{}`", index.size(), loops_[tensor].name);
            Index at = index;
            for (size_t k = 0; k < at.size(); ++k)
              if (is_one(sizes[k]) && pool().as_index(at[k])) at[k] = pool().index(0);
            return pool().load(tensor, dtype, std::move(at));
          }};
}

LoopValue LoopBuilder::parts_of(const LoopValue& x) {
  if (!is_complex(x.dtype)) return x;
  return {part_type(x.dtype), pair_sizes(x.sizes), [this, x](const Index& index) {
            const ExprId z = x.at(Index(index.begin(), index.end() - 1));
            // Both parts of one element of memory: the load itself.
            const Expr re = pool()[pool().real(z)], im = pool()[pool().imag(z)];
            if (re.kind == ExprKind::load && im.kind == ExprKind::load && re.tensor == im.tensor && !re.args.empty() &&
                std::equal(re.args.begin(), re.args.end() - 1, im.args.begin(), im.args.end() - 1) &&
                re.args.back() == pool().index(0) && im.args.back() == pool().index(1)) {
              Index at(re.args.begin(), re.args.end() - 1);
              at.push_back(index.back());
              return pool().load(re.tensor, re.dtype, std::move(at));
            }
            const ExprId first = op(ScalarOp::eq, {index.back(), pool().index(0)});
            return where(first, pool().real(z), pool().imag(z));
          }};
}

LoopValue LoopBuilder::full(const SymList& sizes, ExprId value, DType dtype) {
  return {dtype, sizes, [value](const Index&) { return value; }};
}

LoopValue LoopBuilder::broadcast(const LoopValue& x, const SymList& sizes) {
  if (same_sizes(x.sizes, sizes)) return x;
  TD_CHECK(x.sizes.size() <= sizes.size(), "cannot broadcast [{}] to [{}]", to_string(x.sizes), to_string(sizes));
  const size_t added = sizes.size() - x.sizes.size();
  std::vector<bool> repeats(x.sizes.size());
  for (size_t k = 0; k < x.sizes.size(); ++k) {
    const Sym &from = x.sizes[k], &to = sizes[added + k];
    repeats[k] = is_one(from);
    if (repeats[k] || proves_eq(from, to)) continue;
    TD_CHECK(!proves_ne(from, to), "cannot broadcast [{}] to [{}]", to_string(x.sizes), to_string(sizes));
    loops_.guards.push_back(
        {sym_eq(from, to), format("sizes {} and {} must be equal", to_string(from), to_string(to))});
  }
  return {x.dtype, sizes, [this, x, added, repeats](const Index& index) {
            Index at(index.begin() + static_cast<ptrdiff_t>(added), index.end());
            for (size_t k = 0; k < at.size(); ++k)
              if (repeats[k]) at[k] = pool().index(0);
            return x.at(at);
          }};
}

LoopValue LoopBuilder::map(const std::vector<LoopValue>& inputs, const SymList& sizes, DType compute, DType result,
                           std::function<ExprId(const std::vector<ExprId>&)> f) {
  std::vector<LoopValue> spread;
  for (const LoopValue& input : inputs) spread.push_back(broadcast(input, sizes));
  return {result, sizes, [this, spread, compute, result, f](const Index& index) {
            std::vector<ExprId> args;
            for (const LoopValue& input : spread) args.push_back(cvt(input.at(index), compute));
            return cvt(f(args), result);
          }};
}

LoopValue LoopBuilder::convert(const LoopValue& x, DType to) {
  if (x.dtype == to) return x;
  return {to, x.sizes, [this, x, to](const Index& index) {
            ExprId value = cvt(x.at(index), to);
            return is_low_precision(to) || to == DType::c32 ? pool().round_to(value, to) : value;
          }};
}

LoopValue LoopBuilder::conjugate(const LoopValue& x) {
  if (!is_complex(x.dtype)) return x;
  return from(x.dtype, x.sizes, [this, x](const Index& i) {
    const ExprId z = x.at(i);
    return pool().pair(pool().real(z), op(ScalarOp::neg, {pool().imag(z)}));
  });
}

LoopValue LoopBuilder::permute(const LoopValue& x, const std::vector<int>& order) {
  TD_CHECK(order.size() == x.sizes.size(), "{} dims permute a tensor of rank {}", order.size(), x.rank());
  std::vector<size_t> source;
  SymList sizes;
  for (int dim : order) {
    source.push_back(static_cast<size_t>(wrap_dim(dim, x.rank())));
    sizes.push_back(x.sizes[source.back()]);
  }
  return {x.dtype, sizes, [x, source](const Index& index) {
            Index at(index.size());
            for (size_t k = 0; k < index.size(); ++k) at[source[k]] = index[k];
            return x.at(at);
          }};
}

LoopValue LoopBuilder::transpose(const LoopValue& x, int64_t a, int64_t b) {
  if (x.rank() == 0) return x;
  std::vector<int> order(x.sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[static_cast<size_t>(wrap_dim(a, x.rank()))], order[static_cast<size_t>(wrap_dim(b, x.rank()))]);
  return permute(x, order);
}

ExprId LoopBuilder::linear(const Index& index, const SymList& sizes) {
  ExprId at = pool().index(0);
  for (size_t k = 0; k < index.size(); ++k) at = add(mul(at, pool().index(sizes[k])), index[k]);
  return at;
}

Index LoopBuilder::unflatten(ExprId linear, const SymList& sizes) {
  Index index(sizes.size());
  // Sym division even where a size may be 0: then there is no element to compute, nor where it is 0.
  auto divided = [&](ScalarOp by, const Sym& size, Sym (*exact)(const Sym&, const Sym&)) {
    if (auto at = pool().as_index(linear)) return pool().index(exact(*at, size));
    return op(by, {linear, pool().index(size)});
  };
  for (size_t k = sizes.size(); k-- > 0;) {
    if (is_one(sizes[k]) || sizes[k] == Sym(0)) {
      index[k] = pool().index(0);
    } else if (std::all_of(sizes.begin(), sizes.begin() + static_cast<ptrdiff_t>(k), is_one)) {
      index[k] = linear;  // nothing is left above this dim
    } else {
      index[k] = divided(ScalarOp::remainder, sizes[k], mod);
      linear = divided(ScalarOp::floordiv, sizes[k], floor_div);
    }
  }
  return index;
}

LoopValue LoopBuilder::reshape(const LoopValue& x, const SymList& sizes) {
  if (same_sizes(x.sizes, sizes)) return x;
  // Cuts both shapes wherever the products of the dims before are proven equal. Between two cuts the positions agree,
  // so that only dims of one group mix: [s0, 64, 8] as [s0, 512] never divides by s0.
  struct Group {
    size_t from, from_end, to, to_end;
  };
  std::vector<Group> groups;
  auto prefixes = [](const SymList& dims) {
    SymList products = {1};
    for (const Sym& dim : dims) products.push_back(products.back() * dim);
    return products;
  };
  const SymList a = prefixes(x.sizes), b = prefixes(sizes);
  for (size_t i = 0, j = 0; i < x.sizes.size() || j < sizes.size();) {
    Group group{i, x.sizes.size(), j, sizes.size()};
    // The nearest next cut; without one, all that is left is one group.
    const size_t reach = x.sizes.size() - i + sizes.size() - j;
    bool found = false;
    for (size_t steps = 1; steps < reach && !found; ++steps) {
      for (size_t di = std::min(steps, x.sizes.size() - i) + 1; di-- > 0 && !found;) {
        const size_t dj = steps - di;
        if (j + dj > sizes.size() || !proves_eq(a[i + di], b[j + dj])) continue;
        group = {i, i + di, j, j + dj};
        found = true;
      }
    }
    groups.push_back(group);
    i = group.from_end, j = group.to_end;
  }
  return {x.dtype, sizes, [this, x, sizes, groups](const Index& index) {
            Index at;
            for (const Group& g : groups) {
              auto part = [](const auto& list, size_t begin, size_t end) {
                return std::decay_t<decltype(list)>(list.begin() + static_cast<ptrdiff_t>(begin),
                                                    list.begin() + static_cast<ptrdiff_t>(end));
              };
              const Index in = part(index, g.to, g.to_end);
              const SymList in_sizes = part(sizes, g.to, g.to_end), out_sizes = part(x.sizes, g.from, g.from_end);
              const Index out = same_sizes(in_sizes, out_sizes) ? in : unflatten(linear(in, in_sizes), out_sizes);
              at.insert(at.end(), out.begin(), out.end());
            }
            return x.at(at);
          }};
}

LoopValue LoopBuilder::slice(const LoopValue& x, int64_t dim, const Sym& start, const Sym& length, const Sym& step) {
  const size_t d = static_cast<size_t>(wrap_dim(dim, x.rank()));
  SymList sizes = x.sizes;
  sizes[d] = length;
  return {x.dtype, sizes, [this, x, d, start, step](const Index& index) {
            Index at = index;
            at[d] = add(mul(at[d], pool().index(step)), pool().index(start));
            return x.at(at);
          }};
}

LoopValue LoopBuilder::select(const LoopValue& x, int64_t dim, const Sym& at) {
  return squeeze(slice(x, dim, at, 1), dim);
}

LoopValue LoopBuilder::unsqueeze(const LoopValue& x, int64_t dim) {
  const auto d = static_cast<ptrdiff_t>(wrap_dim(dim, x.rank() + 1));
  SymList sizes = x.sizes;
  sizes.insert(sizes.begin() + d, 1);
  return {x.dtype, sizes, [x, d](const Index& index) {
            Index at = index;
            at.erase(at.begin() + d);
            return x.at(at);
          }};
}

LoopValue LoopBuilder::squeeze(const LoopValue& x, int64_t dim) {
  const auto d = static_cast<ptrdiff_t>(wrap_dim(dim, x.rank()));
  SymList sizes = x.sizes;
  sizes.erase(sizes.begin() + d);
  return {x.dtype, sizes, [this, x, d](const Index& index) {
            Index at = index;
            at.insert(at.begin() + d, pool().index(0));
            return x.at(at);
          }};
}

LoopValue LoopBuilder::flip(const LoopValue& x, const std::vector<int64_t>& dims) {
  std::vector<size_t> flipped;
  for (int64_t dim : dims) flipped.push_back(static_cast<size_t>(wrap_dim(dim, x.rank())));
  return {x.dtype, x.sizes, [this, x, flipped](const Index& index) {
            Index at = index;
            for (size_t d : flipped) at[d] = sub(pool().index(x.sizes[d] - Sym(1)), at[d]);
            return x.at(at);
          }};
}

LoopValue LoopBuilder::cat(const std::vector<LoopValue>& parts, int64_t dim) {
  TD_CHECK(!parts.empty(), "cat of nothing");
  const size_t d = static_cast<size_t>(wrap_dim(dim, parts[0].rank()));
  SymList sizes = parts[0].sizes;
  std::vector<LoopValue> kept;
  SymList starts = {0};
  for (const LoopValue& part : parts) {
    if (proves_eq(part.sizes[d], 0)) continue;
    kept.push_back(part);
    starts.push_back(starts.back() + part.sizes[d]);
  }
  if (kept.empty()) return parts[0];
  sizes[d] = starts.back();
  // Halves, so that an element is found in log(parts) comparisons.
  auto choose = [this, kept, starts, d](const auto& self, const Index& index, size_t begin, size_t end) -> ExprId {
    if (end - begin == 1) {
      Index at = index;
      at[d] = sub(at[d], pool().index(starts[begin]));
      return kept[begin].at(at);
    }
    const size_t middle = (begin + end) / 2;
    const ExprId before = op(ScalarOp::lt, {index[d], pool().index(starts[middle])});
    return where(before, self(self, index, begin, middle), self(self, index, middle, end));
  };
  return {parts[0].dtype, sizes,
          [choose, count = kept.size()](const Index& index) { return choose(choose, index, 0, count); }};
}

LoopValue LoopBuilder::pad(const LoopValue& x, const SymList& before, const SymList& after, ExprId value) {
  TD_CHECK(before.size() == x.sizes.size() && after.size() == x.sizes.size(), "pad amounts for each dim");
  SymList sizes;
  for (size_t k = 0; k < x.sizes.size(); ++k) sizes.push_back(x.sizes[k] + before[k] + after[k]);
  return {x.dtype, sizes, [this, x, before, value](const Index& index) {
            Index at = index;
            ExprId inside = pool().constant(1, DType::b8);
            for (size_t k = 0; k < at.size(); ++k) {
              at[k] = sub(at[k], pool().index(before[k]));
              const ExprId low = op(ScalarOp::le, {pool().index(0), at[k]});
              const ExprId high = op(ScalarOp::lt, {at[k], pool().index(x.sizes[k])});
              inside = op(ScalarOp::land, {inside, op(ScalarOp::land, {low, high})});
            }
            return where(inside, x.at(at), value);
          }};
}

TensorId LoopBuilder::compute(DType dtype, const SymList& sizes, const std::function<ExprId(const Index&)>& at,
                              std::string name, SymList strides) {
  if (is_complex(dtype)) {
    const LoopValue whole{dtype, sizes, [this, at, dtype](const Index& i) { return cvt(at(i), dtype); }};
    const LoopValue parts = parts_of(whole);
    if (!strides.empty()) strides = pair_strides(strides);
    const TensorId id = compute(parts.dtype, parts.sizes, parts.at, std::move(name), std::move(strides));
    loops_[id].pairs = true;
    return id;
  }
  LoopTensor tensor;
  tensor.dtype = dtype;
  tensor.sizes = sizes;
  Index index;
  for (size_t k = 0; k < sizes.size(); ++k) {
    tensor.vars.push_back(Sym::index(format("i{}", k), sizes[k]));
    index.push_back(position(pool(), tensor.vars.back()));
  }
  tensor.body = cvt(at(index), dtype);
  if (strides.empty() && !sizes.empty()) {
    strides.assign(sizes.size(), 1);
    for (size_t k = sizes.size() - 1; k-- > 0;) strides[k] = strides[k + 1] * sym_max(sizes[k + 1], 1);
  }
  tensor.strides = std::move(strides);
  tensor.where = where_;
  tensor.name = unique(name);
  const TensorId id = loops_.add(std::move(tensor));
  names_.emplace(loops_[id].name, id);
  return id;
}

LoopValue LoopBuilder::reduce(ReduceOp reduce_op, const LoopValue& x, std::vector<int64_t> dims, bool keepdim,
                              DType compute_type, DType result, const std::string& suffix) {
  // Of truths the greatest is "any", the least "all".
  if (is_bool(compute_type) && reduce_op == ReduceOp::max) reduce_op = ReduceOp::any;
  if (is_bool(compute_type) && reduce_op == ReduceOp::min) reduce_op = ReduceOp::all;
  std::vector<bool> reduced(x.sizes.size(), dims.empty());
  for (int64_t dim : dims) reduced[static_cast<size_t>(wrap_dim(dim, x.rank()))] = true;
  // The extremes of truths are truths about all of them: kernels have no order of masks.
  if (is_bool(compute_type) && reduce_op == ReduceOp::min) reduce_op = ReduceOp::all;
  if (is_bool(compute_type) && reduce_op == ReduceOp::max) reduce_op = ReduceOp::any;
  if (is_complex(compute_type) && reduce_op == ReduceOp::prod)
    return convert(complex_products(x, reduced, keepdim, compute_type, false, suffix), result);
  const bool logical = reduce_op == ReduceOp::any || reduce_op == ReduceOp::all;
  SymList sizes;
  for (size_t k = 0; k < x.sizes.size(); ++k)
    if (!reduced[k] || keepdim) sizes.push_back(reduced[k] ? Sym(1) : x.sizes[k]);
  auto body = [&](const Index& index) {
    Index at;
    SymList vars;
    size_t next = 0;
    for (size_t k = 0; k < x.sizes.size(); ++k) {
      if (!reduced[k]) {
        at.push_back(index[next++]);
        continue;
      }
      vars.push_back(pool().fresh(x.sizes[k]));
      at.push_back(position(pool(), vars.back()));
      if (keepdim) ++next;
    }
    return pool().reduce(reduce_op, vars, cvt(x.at(at), logical ? DType::b8 : compute_type));
  };
  return read(compute(result, sizes, body, name_ + suffix));
}

// A product's parts depend on both parts of every factor, so that it is no reduction of either: a routine's work.
LoopValue LoopBuilder::complex_products(const LoopValue& x, const std::vector<bool>& over, bool keepdim, DType compute,
                                        bool running, const std::string& suffix) {
  std::vector<int> order, back(over.size());
  SymList outer, kept;
  Sym n = 1;
  for (bool last : {false, true})
    for (size_t d = 0; d < over.size(); ++d)
      if (over[d] == last) order.push_back(static_cast<int>(d));
  for (size_t d = 0; d < over.size(); ++d) {
    if (over[d]) n *= x.sizes[d];
    if (!over[d]) outer.push_back(x.sizes[d]);
    if (!over[d] || keepdim) kept.push_back(over[d] ? Sym(1) : x.sizes[d]);
    back[static_cast<size_t>(order[d])] = static_cast<int>(d);
  }
  Sym rows = 1;
  for (const Sym& size : outer) rows *= size;
  LoopValue factors = parts_of(reshape(permute(convert(x, compute), order), {rows, n}));
  const SymList sizes = running ? SymList{rows, n, 2} : SymList{rows, 2};
  LoopValue y = complex_of(routine("complex_product", part_type(compute), sizes, {factors}, {rows, n, running ? 1 : 0},
                                   {}, suffix + ".run"));
  if (!running) return reshape(y, kept);
  outer.push_back(n);
  return permute(reshape(y, outer), back);
}

LoopValue LoopBuilder::scan(ReduceOp scan_op, const LoopValue& x, int64_t dim, DType compute_type, DType result) {
  if (x.rank() == 0) return convert(x, result);
  const size_t d = static_cast<size_t>(wrap_dim(dim, x.rank()));
  if (proves_eq(x.sizes[d], 1)) return convert(x, result);  // nothing runs
  if (is_complex(compute_type) && scan_op == ReduceOp::prod) {
    std::vector<bool> over(x.sizes.size());
    over[d] = true;
    return convert(complex_products(x, over, true, compute_type, true, ""), result);
  }
  auto body = [&](const Index& index) {
    Index at = index;
    const Sym var = pool().fresh(x.sizes[d]);
    at[d] = pool().index(var);
    return pool().scan(scan_op, var, cvt(x.at(at), compute_type), index[d]);
  };
  return read(compute(result, x.sizes, body, name_));
}

LoopValue LoopBuilder::contract(DType dtype, const SymList& sizes, const SymList& k,
                                std::function<ExprId(const Index& out, const Index& k)> f, const std::string& suffix) {
  auto body = [&](const Index& index) {
    SymList vars;
    Index at;
    for (const Sym& extent : k) {
      vars.push_back(pool().fresh(extent));
      at.push_back(position(pool(), vars.back()));
    }
    return pool().reduce(ReduceOp::sum, vars, f(index, at));
  };
  return read(compute(dtype, sizes, body, name_ + suffix));
}

TensorId LoopBuilder::whole_tensor(const LoopValue& x) {
  Index index;
  for (const Sym& size : x.sizes) index.push_back(position(pool(), pool().fresh(size)));
  if (is_complex(x.dtype)) {
    const ExprId z = x.at(index);
    const Expr &re = pool()[pool().real(z)], &im = pool()[pool().imag(z)];
    Index first = index, second = index;
    first.push_back(pool().index(0));
    second.push_back(pool().index(1));
    if (re.kind != ExprKind::load || im.kind != ExprKind::load || re.tensor != im.tensor || re.args != first ||
        im.args != second)
      return {};
    const LoopTensor& tensor = loops_[re.tensor];
    return tensor.pairs && tensor.dtype == part_type(x.dtype) && same_sizes(tensor.sizes, pair_sizes(x.sizes))
               ? re.tensor
               : TensorId{};
  }
  const Expr& e = pool()[x.at(index)];
  if (e.kind != ExprKind::load || e.args != index) return {};
  const LoopTensor& tensor = loops_[e.tensor];
  // The parts of complex numbers are no whole tensor: that one is of complex numbers.
  return !tensor.pairs && tensor.dtype == x.dtype && same_sizes(tensor.sizes, x.sizes) ? e.tensor : TensorId{};
}

std::vector<LoopValue> LoopBuilder::call(const std::string& function, const std::vector<LoopValue>& operands,
                                         SymList attributes, const std::vector<CallResult>& results,
                                         std::vector<Loops> bodies, bool takes_complex) {
  const bool complex = std::ranges::any_of(operands, [](const LoopValue& x) { return is_complex(x.dtype); }) ||
                       std::ranges::any_of(results, [](const CallResult& r) { return is_complex(r.dtype); });
  if (complex && !takes_complex) throw Refused{{Kind::unsupported_op, format("`{}` of complex numbers", function), {}}};
  LoopCall call;
  call.function = function;
  call.attributes = std::move(attributes);
  call.bodies = std::move(bodies);
  call.where = where_;
  for (const LoopValue& operand : operands) call.operands.push_back(whole_tensor(materialize(operand, ".in")));
  const CallId id{static_cast<int32_t>(loops_.calls.size())};
  std::vector<LoopValue> values;
  for (const CallResult& result : results) {
    LoopTensor tensor;
    tensor.kind = TensorKind::called;
    tensor.call = id;
    tensor.pairs = is_complex(result.dtype);
    tensor.dtype = part_type(result.dtype);
    tensor.sizes = tensor.pairs ? pair_sizes(result.sizes) : result.sizes;
    tensor.strides = contiguous_strides(tensor.sizes);
    tensor.where = where_;
    tensor.name = unique(name_);
    const TensorId made = loops_.add(std::move(tensor));
    names_.emplace(loops_[made].name, made);
    call.results.push_back(made);
    values.push_back(read(made));
  }
  loops_.calls.push_back(std::move(call));
  return values;
}

TensorId LoopBuilder::one_number(const LoopValue& count) {
  const LoopValue one = reshape(count, {});
  const TensorId tensor = whole_tensor(one);
  if (tensor.valid() && loops_[tensor].kind == TensorKind::computed) return tensor;
  return compute(count.dtype, {}, one.at, name_ + ".size");
}

void LoopBuilder::define_size(const Sym& wanted, const LoopValue& count) {
  auto defined = [&](const std::string& symbol) {
    return std::ranges::any_of(loops_.symbol_reads, [&](const SymbolRead& read) { return read.symbol == symbol; });
  };
  if (wanted.is_symbol() && !defined(wanted.symbol_name())) {
    auto info = std::ranges::find(loops_.symbols, wanted.symbol_name(), &SymbolInfo::name);
    if (info != loops_.symbols.end() && info->unbacked)
      return loops_.symbol_reads.push_back({wanted.symbol_name(), one_number(count)});
  }
  loops_.guards.push_back(
      {sym_eq(read_size(count), wanted), format("`{}` makes a size that is not {}", name_, to_string(wanted))});
}

Sym LoopBuilder::read_size(const LoopValue& count) {
  const TensorId tensor = one_number(count);
  for (const SymbolRead& read : loops_.symbol_reads)
    if (read.tensor == tensor)
      if (auto known = std::ranges::find(loops_.symbols, read.symbol, &SymbolInfo::name); known->low <= 0)
        return Sym::symbol(known->name, known->low, known->high);
  const Sym symbol = add_unbacked_symbol(loops_.symbols);
  loops_.symbol_reads.push_back({symbol.symbol_name(), tensor});
  return symbol;
}

LoopValue LoopBuilder::routine(const std::string& name, DType dtype, const SymList& sizes,
                               const std::vector<LoopValue>& inputs, const SymList& integers,
                               const std::vector<double>& numbers, const std::string& suffix) {
  auto number = routine_from_name(name);
  TD_CHECK(number.has_value(), "no routine `{}`", name);
  std::vector<ExprId> args;
  for (const LoopValue& x : inputs) {
    TensorId tensor = whole_tensor(x);
    // What lies otherwise, or is the caller's, is copied row by row.
    if (!tensor.valid() || !same_list(loops_[tensor].strides, contiguous_strides(x.sizes)))
      tensor = compute(x.dtype, x.sizes, x.at, name_ + suffix + ".in");
    args.push_back(pool().load(tensor, x.dtype, Index(x.sizes.size(), pool().index(0))));
  }
  for (const Sym& n : integers) args.push_back(pool().index(n));
  for (double d : numbers) args.push_back(pool().constant(d, DType::f64));
  const ExprId body = pool().routine(*number, dtype, std::move(args));
  return read(compute(
      dtype, sizes, [body](const Index&) { return body; }, name_ + suffix));
}

LoopValue LoopBuilder::random_key() {
  const int64_t number = random_ops_++;
  if (!random_state_.valid()) {
    const ExprId fixed = op(ScalarOp::random_bits, {pool().index(0), pool().index(number)});
    return read(compute(
        DType::i64, {}, [fixed](const Index&) { return fixed; }, name_ + ".key"));
  }
  const LoopValue state = read(random_state_);
  auto body = [&](const Index&) {
    const ExprId calls = state.at({pool().index(1)});
    const ExprId place = add(mul(calls, pool().index(int64_t{1} << 20)), pool().index(number));
    return op(ScalarOp::random_bits, {state.at({pool().index(0)}), place});
  };
  return read(compute(DType::i64, {}, body, name_ + ".key"));
}

LoopValue LoopBuilder::materialize(const LoopValue& x, const std::string& suffix) {
  if (whole_tensor(x)) return x;
  return read(compute(x.dtype, x.sizes, x.at, name_ + suffix));
}

}  // namespace toroid
