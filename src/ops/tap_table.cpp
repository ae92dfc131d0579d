// See tap_table.h.
#include "ops/tap_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "loop/scalar.h"
#include "ops/rules.h"

namespace toroid {

void TapTable::add(int64_t start, std::vector<double> row) {
  starts.push_back(start);
  most = std::max(most, row.size());
  weights.push_back(std::move(row));
}

namespace {

template <class T>
T scale_of(const Resize& r) {
  const T n = static_cast<T>(r.in), m = static_cast<T>(r.out);
  if (r.align) return r.out > 1 ? (n - 1) / (m - 1) : 0;
  return r.factor && *r.factor > 0 ? static_cast<T>(1 / *r.factor) : n / m;
}

// Keys' cubic.
template <class T>
T cubic(T x, T a) {
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

template <class T>
TapTable antialiased(const Resize& r) {
  const bool is_cubic = r.method == Method::cubic;
  TapTable table;
  const T scale = scale_of<T>(r), half = T(0.5);
  const T support = (is_cubic ? 2 : 1) * (scale >= 1 ? scale : T(1)), shrink = scale >= 1 ? 1 / scale : T(1);
  for (int64_t i = 0; i < r.out; ++i) {
    const T center = scale * (static_cast<T>(i) + half);
    const int64_t low = std::max<int64_t>(static_cast<int64_t>(center - support + half), 0);
    const int64_t high = std::min<int64_t>(static_cast<int64_t>(center + support + half), r.in);
    std::vector<double> row;
    T total = 0;
    for (int64_t j = low; j < high; ++j) {
      const T x = (static_cast<T>(j) - center + half) * shrink;
      const T w = is_cubic ? cubic(x, -half) : std::fabs(x) < 1 ? 1 - std::fabs(x) : T(0);
      total += w;
      row.push_back(w);
    }
    for (double& w : row) w = total != 0 ? static_cast<T>(w) / total : w;
    table.add(std::clamp<int64_t>(low, 0, std::max<int64_t>(r.in - 1, 0)), std::move(row));
  }
  return table;
}

template <class T>
TapTable interpolated(const Resize& r) {
  TapTable table;
  const T scale = scale_of<T>(r), half = T(0.5);
  const int64_t last = r.in - 1;
  for (int64_t i = 0; i < r.out; ++i) {
    const T at = static_cast<T>(i);
    if (r.method == Method::nearest || r.method == Method::exact) {
      const T source = std::floor((r.method == Method::exact ? at + half : at) * scale);
      table.add(std::clamp<int64_t>(static_cast<int64_t>(source), 0, last), {1});
      continue;
    }
    T source = r.align ? at * scale : (at + half) * scale - half;
    if (r.method == Method::linear) {
      source = std::max(source, T(0));
      const int64_t low = std::min(static_cast<int64_t>(source), last);
      const T share = std::clamp(source - static_cast<T>(low), T(0), T(1));
      if (low == last)
        table.add(low, {1});
      else
        table.add(low, {1 - share, share});
      continue;
    }
    // Taps beyond the ends are the ends.
    const T base = std::floor(source), t = source - base;
    const T weights[] = {cubic(t + 1, T(-0.75)), cubic(t, T(-0.75)), cubic(1 - t, T(-0.75)), cubic(2 - t, T(-0.75))};
    const int64_t first = std::clamp<int64_t>(static_cast<int64_t>(base) - 1, 0, last);
    std::vector<double> row;
    for (int64_t k = 0; k < 4; ++k) {
      const int64_t place = std::clamp<int64_t>(static_cast<int64_t>(base) - 1 + k, 0, last) - first;
      row.resize(std::max(row.size(), static_cast<size_t>(place) + 1));
      row[static_cast<size_t>(place)] += weights[k];
    }
    table.add(first, std::move(row));
  }
  return table;
}

// A constant [rows, columns] whose elements `write` puts into memory.
template <class Write>
LoopValue constant_table(LoopBuilder& b, DType dtype, size_t rows, size_t columns, Write write) {
  LoopTensor t;
  t.name = format("table{}", b.loops().tensors.size());
  t.kind = TensorKind::constant;
  t.dtype = dtype;
  t.sizes = {static_cast<int64_t>(rows), static_cast<int64_t>(columns)};
  t.strides = contiguous_strides(t.sizes);
  const auto bytes = static_cast<size_t>(dtype_bytes(dtype));
  t.data.resize(rows * columns * bytes);
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < columns; ++j) write(i, j, &t.data[(i * columns + j) * bytes]);
  return b.read(b.loops().add(std::move(t)));
}

// The sum over the taps in this type.
LoopValue sum_by_table(LoopBuilder& b, const LoopValue& x, int64_t dim, const TapTable& table, DType type) {
  const auto d = static_cast<size_t>(dim);
  const size_t rows = table.starts.size();
  LoopValue first = constant_table(b, DType::i64, rows, 1, [&](size_t i, size_t, std::byte* to) {
    std::memcpy(to, &table.starts[i], sizeof(int64_t));
  });
  LoopValue weight = constant_table(b, type, rows, table.most, [&](size_t i, size_t j, std::byte* to) {
    const double w = j < table.weights[i].size() ? table.weights[i][j] : 0;
    store_scalar(to, type, is_float(type) ? Scalar{.f = w} : Scalar{.i = static_cast<int64_t>(w)});
  });
  SymList all = x.sizes;
  all[d] = static_cast<int64_t>(rows);
  all.push_back(static_cast<int64_t>(table.most));
  LoopBuilder* p = &b;
  LoopValue terms = b.from(type, all, [=](const Index& i) {
    Index xi(i.begin(), i.end() - 1);
    ExprId place = p->add(first.at({i[d], int_expr(*p, 0)}), i.back()), last = p->index(x.sizes[d] - 1);
    xi[d] = p->op(ScalarOp::min, {place, last});
    // Beyond the row's own taps nothing is read twice: what stands there may be infinite.
    ExprId w = weight.at({i[d], i.back()});
    ExprId counts = p->op(ScalarOp::ne, {w, number_expr(*p, 0, type)});
    return p->where(counts, p->mul(p->cvt(x.at(xi), type), w), number_expr(*p, 0, type));
  });
  return b.reduce(ReduceOp::sum, terms, {static_cast<int64_t>(all.size()) - 1}, false, type, type,
                  format(".axis{}", dim));
}

}  // namespace

TapTable tap_table(const Resize& resize, DType type) {
  // Nearest neighbours are found in f32 for every type.
  const bool weighs = resize.method == Method::linear || resize.method == Method::cubic;
  const bool wide = weighs && register_type(type) == DType::f64;
  if (resize.antialias) return wide ? antialiased<double>(resize) : antialiased<float>(resize);
  return wide ? interpolated<double>(resize) : interpolated<float>(resize);
}

TapTable transposed(const TapTable& table, int64_t in) {
  const auto n = static_cast<size_t>(in);
  std::vector<std::vector<std::pair<int64_t, double>>> uses(n);
  for (size_t o = 0; o < table.starts.size(); ++o)
    for (size_t k = 0; k < table.weights[o].size(); ++k)
      uses[static_cast<size_t>(table.starts[o]) + k].emplace_back(static_cast<int64_t>(o), table.weights[o][k]);
  TapTable result;
  for (const auto& use : uses) {
    if (use.empty()) {
      result.add(0, {});
      continue;
    }
    std::vector<double> row(static_cast<size_t>(use.back().first - use.front().first) + 1);
    for (const auto& [o, weight] : use) row[static_cast<size_t>(o - use.front().first)] = weight;
    result.add(use.front().first, std::move(row));
  }
  return result;
}

LoopValue bytes_by_table(LoopBuilder& b, const LoopValue& x, int64_t dim, const TapTable& table) {
  double greatest = 0;
  for (const auto& row : table.weights)
    for (double w : row) greatest = std::max(greatest, w);
  // As many bits as keep the greatest weight below 2^15.
  int bits = 0;
  while (bits < 22 && static_cast<int>(0.5 + std::ldexp(greatest, bits + 1)) < 1 << 15) ++bits;
  TapTable whole = table;
  for (auto& row : whole.weights)
    for (double& w : row) w = std::trunc(std::ldexp(w, bits) + (w < 0 ? -0.5 : 0.5));
  LoopBuilder* p = &b;
  auto num = [p](int64_t v) { return p->pool().integer(v, DType::i32); };
  // Rounded to the nearest and cut to a byte.
  LoopValue sum = sum_by_table(b, x, dim, whole, DType::i32);
  return b.materialize(map1(b, sum, DType::i32, DType::u8,
                            [=](ExprId v) {
                              if (bits > 0) v = p->op(ScalarOp::shr, {p->add(v, num(1 << (bits - 1))), num(bits)});
                              return p->op(ScalarOp::min, {p->op(ScalarOp::max, {v, num(0)}), num(255)});
                            }),
                       format(".bytes{}", dim));
}

LoopValue by_table(LoopBuilder& b, const LoopValue& x, int64_t dim, const TapTable& table) {
  return sum_by_table(b, x, dim, table, register_type(x.dtype));
}

}  // namespace toroid
