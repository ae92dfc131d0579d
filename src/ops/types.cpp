// Result types: what dtype, sizes and strides PyTorch gives a result of these inputs.
#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "ops/op_table.h"
#include "ops/rules.h"

namespace toroid {

namespace {

// Of two float types the one that holds both; f16 and bf16 only meet in f32.
DType wider_float(DType a, DType b) {
  if (a == b) return a;
  if (a == DType::f64 || b == DType::f64) return DType::f64;
  return DType::f32;
}

DType wider_integer(DType a, DType b) {
  int64_t x = dtype_bytes(a), y = dtype_bytes(b);
  if (is_unsigned(a) == is_unsigned(b)) return x >= y ? a : b;
  if (is_unsigned(a)) std::swap(a, b), std::swap(x, y);
  if (x > y) return a;  // a is signed and holds all of b
  return y == 1 ? DType::i16 : y == 2 ? DType::i32 : DType::i64;
}

DType real_part(DType d) {
  switch (d) {
    case DType::c32: return DType::f16;
    case DType::c64: return DType::f32;
    case DType::c128: return DType::f64;
    default: return d;
  }
}

DType complex_of(DType d) { return d == DType::f64 ? DType::c128 : d == DType::f16 ? DType::c32 : DType::c64; }

// The lower class (0-d tensors below tensors, numbers below both) counts only with a higher category.
std::optional<DType> combine(std::optional<DType> higher, std::optional<DType> lower) {
  if (!higher) return lower;
  if (!lower) return higher;
  if (is_complex(*higher)) return higher;
  if (is_float(*higher)) return is_complex(*lower) ? complex_of(*higher) : *higher;
  if (is_bool(*higher) || is_float(*lower) || is_complex(*lower)) return promote(*higher, *lower);
  return higher;
}

bool is_contiguous_in(const TensorType& type, const std::vector<int>& order) {
  Sym expected = 1;
  for (size_t i = order.size(); i-- > 0;) {
    size_t d = static_cast<size_t>(order[i]);
    if (is_one(type.sizes[d])) continue;
    if (!proves_eq(type.strides[d], expected)) return false;
    expected *= type.sizes[d];
  }
  return true;
}

std::vector<int> row_major(int64_t rank) {
  std::vector<int> order(static_cast<size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

}  // namespace

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_complex(a) || is_complex(b)) return complex_of(promote(real_part(a), real_part(b)));
  if (is_float(a) && is_float(b)) return wider_float(a, b);
  if (is_float(a)) return a;
  if (is_float(b)) return b;
  if (is_bool(a)) return b;
  if (is_bool(b)) return a;
  return wider_integer(a, b);
}

DType promoted(const Call& call, const std::vector<std::string>& args) {
  std::optional<DType> tensors, zero_dims, numbers;
  auto join = [](std::optional<DType>& state, DType d) { state = state ? promote(*state, d) : d; };
  for (const std::string& name : args) {
    if (!call.has(name)) continue;
    if (is_tensor(call, name)) {
      const TensorType& type = call.type(name);
      join(type.rank() > 0 ? tensors : zero_dims, type.dtype);
    } else {
      constexpr DType of_category[] = {DType::b8, DType::i64, DType::f32, DType::c64};
      join(numbers, of_category[call.scalar_category(name)]);
    }
  }
  auto result = combine(tensors, combine(zero_dims, numbers));
  TD_CHECK(result.has_value(), "`{}` has no arguments to take a dtype from", call.op());
  return *result;
}

Result<SymList> broadcast_sizes(const SymList& a, const SymList& b) {
  SymList out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {  // from the last dim
    size_t at = out.size() - 1 - i;
    if (i >= a.size()) {
      out[at] = b[b.size() - 1 - i];
    } else if (i >= b.size()) {
      out[at] = a[a.size() - 1 - i];
    } else {
      const Sym &x = a[a.size() - 1 - i], &y = b[b.size() - 1 - i];
      if (is_one(x)) {
        out[at] = y;
      } else if (is_one(y)) {
        out[at] = x;
      } else if (proves_ne(x, y) && !(range_of(x).low <= 1 || range_of(y).low <= 1)) {
        return fail(Kind::bad_graph, "sizes [{}] and [{}] do not broadcast", to_string(a), to_string(b));
      } else if (x.is_constant() && y.is_constant() && x.value() != y.value()) {
        return fail(Kind::bad_graph, "sizes [{}] and [{}] do not broadcast", to_string(a), to_string(b));
      } else {
        // Equal, or claimed equal by whoever made the graph: the known one says more.
        out[at] = y.is_constant() ? y : x;
      }
    }
  }
  return out;
}

bool is_contiguous(const TensorType& type) { return is_contiguous_in(type, row_major(type.rank())); }

bool is_channels_last(const TensorType& type) {
  if (type.rank() == 4) return is_contiguous_in(type, {0, 2, 3, 1});
  if (type.rank() == 5) return is_contiguous_in(type, {0, 2, 3, 4, 1});
  return false;
}

SymList channels_last_strides(const SymList& sizes) {
  return strides_in_order(sizes, sizes.size() == 5 ? std::vector<int>{0, 2, 3, 4, 1} : std::vector<int>{0, 2, 3, 1});
}

std::vector<int> dim_last(int64_t rank, int64_t dim) {
  std::vector<int> order;
  for (int64_t d = 0; d < rank; ++d)
    if (d != dim) order.push_back(static_cast<int>(d));
  order.push_back(static_cast<int>(dim));
  return order;
}

std::vector<int> inverse_order(const std::vector<int>& order) {
  std::vector<int> back(order.size());
  for (size_t i = 0; i < order.size(); ++i) back[static_cast<size_t>(order[i])] = static_cast<int>(i);
  return back;
}

namespace {

// Each dim behind the one whose stride is its size times its stride; none where that chain breaks.
std::vector<int> chained_order(const TensorType& type) {
  std::vector<int> left, inner_first, ones;
  for (int d : row_major(type.rank())) (is_one(type.sizes[static_cast<size_t>(d)]) ? ones : left).push_back(d);
  for (Sym next = 1; !left.empty();) {
    auto found =
        std::ranges::find_if(left, [&](int d) { return proves_eq(type.strides[static_cast<size_t>(d)], next); });
    if (found == left.end()) return {};
    next *= type.sizes[static_cast<size_t>(*found)];
    inner_first.push_back(*found);
    left.erase(found);
  }
  std::vector<int> order(inner_first.rbegin(), inner_first.rend());
  order.insert(order.end(), ones.begin(), ones.end());
  return order;
}

}  // namespace

std::optional<std::vector<int>> dense_order(const TensorType& type) {
  // Dims of size 1 may carry any stride; they go last in their own order.
  std::vector<int> order = row_major(type.rank());
  bool known = true;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    const Sym &x = type.strides[static_cast<size_t>(a)], &y = type.strides[static_cast<size_t>(b)];
    if (x == y) {
      bool one_a = is_one(type.sizes[static_cast<size_t>(a)]), one_b = is_one(type.sizes[static_cast<size_t>(b)]);
      return !one_a && one_b;
    }
    if (proves_lt(y, x)) return true;
    if (!proves_le(x, y)) known = false;
    return false;
  });
  // 8*s0 and 8*s0*s0 cannot be compared where s0 may be 1; that one follows on the other can be seen.
  if (!known) order = chained_order(type);
  if ((!known && order.empty()) || !is_contiguous_in(type, order)) return std::nullopt;
  return order;
}

SymList pointwise_strides(const SymList& sizes, const std::vector<const TensorType*>& inputs) {
  size_t rank = sizes.size();
  // All of one shape: their common layout as it is.
  bool same_shape = true, contiguous = true, channels_last = true, same_strides = true;
  for (const TensorType* t : inputs) {
    if (t->strides.size() != t->sizes.size()) return rank == 0 ? SymList{} : contiguous_strides(sizes);
    same_shape = same_shape && t->sizes.size() == rank && same_list(t->sizes, sizes);
  }
  if (same_shape && !inputs.empty()) {
    for (const TensorType* t : inputs) {
      contiguous = contiguous && is_contiguous(*t);
      channels_last = channels_last && is_channels_last(*t);
      same_strides = same_strides && same_list(t->strides, inputs[0]->strides);
    }
    if (contiguous) return contiguous_strides(sizes);
    if (channels_last) return channels_last_strides(sizes);
    if (same_strides && dense_order(*inputs[0])) return inputs[0]->strides;
  }
  // Else sort the dims by their strides, first input first; a broadcast dim has no say.
  auto stride = [&](const TensorType& t, int dim) -> Sym {
    int64_t at = dim - static_cast<int64_t>(rank) + t.rank();
    if (at < 0) return 0;
    size_t i = static_cast<size_t>(at);
    return is_one(t.sizes[i]) && !is_one(sizes[static_cast<size_t>(dim)]) ? Sym(0) : t.strides[i];
  };
  auto compare = [&](int a, int b) {
    for (const TensorType* t : inputs) {
      Sym x = stride(*t, a), y = stride(*t, b);
      if (x == Sym(0) || y == Sym(0)) continue;
      if (proves_lt(x, y)) return -1;
      if (proves_lt(y, x)) return 1;
      if (proves_eq(x, y) && proves_lt(sizes[static_cast<size_t>(b)], sizes[static_cast<size_t>(a)])) return 1;
    }
    return 0;
  };
  std::vector<int> inner_first(rank);
  for (size_t i = 0; i < rank; ++i) inner_first[i] = static_cast<int>(rank - 1 - i);
  for (size_t i = 1; i < rank; ++i) {
    size_t at = i;
    for (size_t j = i; j-- > 0;) {
      int order = compare(inner_first[j], inner_first[at]);
      if (order > 0) {
        std::swap(inner_first[j], inner_first[at]);
        at = j;
      } else if (order < 0) {
        break;
      }
    }
  }
  std::vector<int> outer_first(inner_first.rbegin(), inner_first.rend());
  if (outer_first == row_major(static_cast<int64_t>(rank))) return contiguous_strides(sizes);
  SymList out(rank);
  Sym next = 1;
  for (int d : inner_first) {
    out[static_cast<size_t>(d)] = next;
    next *= sizes[static_cast<size_t>(d)];
  }
  return out;
}

SymList preserved_strides(const TensorType& type) {
  if (type.strides.size() == type.sizes.size() && dense_order(type)) return type.strides;
  return pointwise_strides(type.sizes, {&type});
}

std::optional<SymList> view_strides(const TensorType& type, const SymList& sizes) {
  if (type.strides.size() != type.sizes.size()) return std::nullopt;
  if (range_of(product(type.sizes)).high == 0) {
    if (same_list(type.sizes, sizes)) return type.strides;
    return contiguous_strides(sizes);
  }
  if (type.rank() == 0) return SymList(sizes.size(), Sym(1));
  // Walks both shapes from the inside: a chunk of old dims that lie evenly in memory takes whole new dims.
  SymList out(sizes.size());
  int64_t at = static_cast<int64_t>(sizes.size()) - 1;
  Sym base = type.strides.back(), old_count = 1, new_count = 1;
  for (int64_t d = type.rank() - 1; d >= 0; --d) {
    size_t i = static_cast<size_t>(d);
    old_count *= type.sizes[i];
    bool chunk_ends = d == 0 || (!is_one(type.sizes[i - 1]) && !proves_eq(type.strides[i - 1], old_count * base));
    if (!chunk_ends) continue;
    while (at >= 0 && (!proves_eq(new_count, old_count) || is_one(sizes[static_cast<size_t>(at)]))) {
      // The chunk is used up in this dim's middle when more were taken than there are.
      if (proves_lt(old_count, new_count)) return std::nullopt;
      out[static_cast<size_t>(at)] = new_count * base;
      new_count *= sizes[static_cast<size_t>(at)];
      --at;
    }
    if (!proves_eq(new_count, old_count)) return std::nullopt;
    if (d > 0) {
      base = type.strides[i - 1];
      old_count = new_count = 1;
    }
  }
  if (at != -1) return std::nullopt;
  return out;
}

}  // namespace toroid
