// Packs a strided matrix into 64-wide panels at memory speed, any range of the packed bytes by itself.
#include "pack.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "recipe.h"

namespace toroid::runtime {
namespace {

constexpr int64_t panel_width = 64;

int64_t width_of(int64_t n, int64_t first) { return std::min(panel_width, (n - first + 15) / 16 * 16); }

using Bytes16 [[gnu::vector_size(16)]] = uint8_t;
using Words8 [[gnu::vector_size(16)]] = uint16_t;
using Units4 [[gnu::vector_size(16)]] = uint32_t;
using Pairs2 [[gnu::vector_size(16)]] = uint64_t;

template <class Vector>
Vector load(const char* at) {
  Vector v;
  std::memcpy(&v, at, sizeof v);
  return v;
}
template <class Vector>
void store(char* at, Vector v) {
  std::memcpy(at, &v, sizeof v);
}

// Four rows of four units, their columns next to each other `step` bytes apart.
void transpose_4x4(const char* from, int64_t row_bytes, char* to, int64_t step) {
  const Units4 a = load<Units4>(from), b = load<Units4>(from + row_bytes);
  const Units4 c = load<Units4>(from + 2 * row_bytes), d = load<Units4>(from + 3 * row_bytes);
  const Pairs2 ab_low = Pairs2(__builtin_shufflevector(a, b, 0, 4, 1, 5));
  const Pairs2 cd_low = Pairs2(__builtin_shufflevector(c, d, 0, 4, 1, 5));
  const Pairs2 ab_high = Pairs2(__builtin_shufflevector(a, b, 2, 6, 3, 7));
  const Pairs2 cd_high = Pairs2(__builtin_shufflevector(c, d, 2, 6, 3, 7));
  store(to, __builtin_shufflevector(ab_low, cd_low, 0, 2));
  store(to + step, __builtin_shufflevector(ab_low, cd_low, 1, 3));
  store(to + 2 * step, __builtin_shufflevector(ab_high, cd_high, 0, 2));
  store(to + 3 * step, __builtin_shufflevector(ab_high, cd_high, 1, 3));
}

// Units (a group of g elements) [begin, end) of some rows of one panel. Rows along K where k_stride is 1, along N where
// n_stride is.
struct Piece {
  const char* data;  // element (first row, k = 0)
  int64_t rows, width, k, n_stride, k_stride, group, bytes;
  int64_t begin, end;
  char* out;  // unit `begin` of the first row

  char* unit(int64_t u) const { return out + (u - begin) * width * group * bytes; }

  // Element by element: any strides, and the rest of K.
  void general(int64_t from) const {
    for (int64_t u = from; u < end; ++u) {
      const int64_t depth = std::min(group, k - u * group);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t t = 0; t < depth; ++t)
          std::memcpy(unit(u) + (r * group + t) * bytes, data + (r * n_stride + (u * group + t) * k_stride) * bytes,
                      bytes);
    }
  }
  // A transpose of units, 256 bytes of each row at a time, so that cache lines are read whole, a few in a row, and the
  // written block stays in L1.
  template <class Unit>
  void transpose(int64_t last) const {
    constexpr int64_t block = 256 / sizeof(Unit);
    const int64_t row_bytes = n_stride * bytes, step = width * sizeof(Unit);
    for (int64_t first = begin; first < last; first += block) {
      const int64_t here = std::min(block, last - first);
      int64_t r = 0;
      if constexpr (sizeof(Unit) == 4) {
        for (; r + 4 <= rows; r += 4) {
          const char* from = data + r * row_bytes + first * sizeof(Unit);
          char* to = unit(first) + r * sizeof(Unit);
          int64_t u = 0;
          for (; u + 4 <= here; u += 4) transpose_4x4(from + u * sizeof(Unit), row_bytes, to + u * step, step);
          for (; u < here; ++u)
            for (int64_t i = 0; i < 4; ++i)
              std::memcpy(to + u * step + i * sizeof(Unit), from + i * row_bytes + u * sizeof(Unit), sizeof(Unit));
        }
      }
      for (; r < rows; ++r) {
        const char* from = data + r * row_bytes + first * sizeof(Unit);
        char* to = unit(first) + r * sizeof(Unit);
        for (int64_t u = 0; u < here; ++u) std::memcpy(to + u * step, from + u * sizeof(Unit), sizeof(Unit));
      }
    }
  }
  // Rows along N and no groups: each k is a piece of a row.
  void copy_rows() const {
    for (int64_t u = begin; u < end; ++u) std::memcpy(unit(u), data + u * k_stride * bytes, rows * bytes);
  }
  // Rows along N, k in pairs of two bytes or fours of one: the rows of a group are interleaved.
  void interleave_pairs(int64_t last) const {
    for (int64_t u = begin; u < last; ++u) {
      const char* a = data + 2 * u * k_stride * 2;
      const char* b = a + k_stride * 2;
      char* to = unit(u);
      int64_t r = 0;
      for (; r + 8 <= rows; r += 8) {
        const Words8 x = load<Words8>(a + r * 2), y = load<Words8>(b + r * 2);
        store(to + r * 4, __builtin_shufflevector(x, y, 0, 8, 1, 9, 2, 10, 3, 11));
        store(to + r * 4 + 16, __builtin_shufflevector(x, y, 4, 12, 5, 13, 6, 14, 7, 15));
      }
      for (; r < rows; ++r) {
        std::memcpy(to + r * 4, a + r * 2, 2);
        std::memcpy(to + r * 4 + 2, b + r * 2, 2);
      }
    }
  }
  void interleave_fours(int64_t last) const {
    for (int64_t u = begin; u < last; ++u) {
      const char* from = data + 4 * u * k_stride;
      char* to = unit(u);
      int64_t r = 0;
      for (; r + 16 <= rows; r += 16) {
        const Bytes16 a = load<Bytes16>(from + r), b = load<Bytes16>(from + k_stride + r);
        const Bytes16 c = load<Bytes16>(from + 2 * k_stride + r), d = load<Bytes16>(from + 3 * k_stride + r);
        auto low = [](Bytes16 x, Bytes16 y) {
          return Words8(__builtin_shufflevector(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
        };
        auto high = [](Bytes16 x, Bytes16 y) {
          return Words8(__builtin_shufflevector(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
        };
        char* at = to + r * 4;
        for (auto [x, y] : {std::pair(low(a, b), low(c, d)), std::pair(high(a, b), high(c, d))}) {
          store(at, __builtin_shufflevector(x, y, 0, 8, 1, 9, 2, 10, 3, 11));
          store(at + 16, __builtin_shufflevector(x, y, 4, 12, 5, 13, 6, 14, 7, 15));
          at += 32;
        }
      }
      for (; r < rows; ++r)
        for (int64_t t = 0; t < 4; ++t) to[r * 4 + t] = from[t * k_stride + r];
    }
  }
  void pack() const {
    // Units that K fills.
    const int64_t last = std::max(begin, std::min(end, k / group));
    if (k_stride == 1 && group * bytes == 4) {
      transpose<uint32_t>(last);
      general(last);
    } else if (k_stride == 1 && group * bytes == 2) {
      transpose<uint16_t>(last);
      general(last);
    } else if (k_stride == 1 && group * bytes == 8) {
      transpose<uint64_t>(last);
      general(last);
    } else if (n_stride == 1 && group == 1) {
      copy_rows();
    } else if (n_stride == 1 && bytes == 2 && group == 2) {
      interleave_pairs(last);
      general(last);
    } else if (n_stride == 1 && bytes == 1 && group == 4) {
      interleave_fours(last);
      general(last);
    } else {
      general(begin);
    }
  }
};

// Units [begin, end) of the panel that begins at row `first`.
void pack_units(std::span<const PackRows> rows, int64_t n, int64_t first, int64_t k, int64_t group, int64_t bytes,
                int64_t begin, int64_t end, char* out) {
  const int64_t width = width_of(n, first), last = std::min(n, first + panel_width);
  const int64_t unit_bytes = width * group * bytes;
  if (last - first < width) {
    std::memset(out, 0, (end - begin) * unit_bytes);
  } else if (end * group > k) {
    std::memset(out + (end - 1 - begin) * unit_bytes, 0, unit_bytes);
  }
  int64_t at = 0;
  for (const PackRows& part : rows) {
    const int64_t from = std::max(first, at), to = std::min(last, at + part.count);
    if (from < to) {
      const Piece piece{part.data + (from - at) * part.n_stride * bytes,
                        to - from,
                        width,
                        k,
                        part.n_stride,
                        part.k_stride,
                        group,
                        bytes,
                        begin,
                        end,
                        out + (from - first) * group * bytes};
      piece.pack();
    }
    at += part.count;
  }
}

}  // namespace

int64_t packed_bytes(int64_t n, int64_t k, int32_t k_group, int64_t element_bytes) {
  const int64_t columns = n / panel_width * panel_width + (n % panel_width + 15) / 16 * 16;
  return columns * ((k + k_group - 1) / k_group * k_group) * element_bytes;
}

void pack_range(std::span<const PackRows> rows, int64_t k, int32_t k_group, int64_t element_bytes, int64_t begin,
                int64_t end, char* out) {
  int64_t n = 0;
  for (const PackRows& part : rows) n += part.count;
  const int64_t units = (k + k_group - 1) / k_group;
  const int64_t panel_bytes = packed_bytes(panel_width, k, k_group, element_bytes);
  if (begin >= end || panel_bytes == 0) return;
  for (int64_t first = begin / panel_bytes * panel_width; begin < end && first < n; first += panel_width) {
    const int64_t base = first / panel_width * panel_bytes;
    const int64_t unit_bytes = width_of(n, first) * k_group * element_bytes;
    const int64_t stop = std::min(end, base + units * unit_bytes);
    auto pack = [&](int64_t u0, int64_t u1, char* to) {
      pack_units(rows, n, first, k, k_group, element_bytes, u0, u1, to);
    };
    // A unit that the range begins or ends within is packed aside.
    auto cut_unit = [&] {
      std::vector<char> unit(unit_bytes);
      const int64_t u = (begin - base) / unit_bytes, skip = (begin - base) % unit_bytes;
      const int64_t count = std::min(unit_bytes - skip, stop - begin);
      pack(u, u + 1, unit.data());
      std::memcpy(out, unit.data() + skip, count);
      out += count, begin += count;
    };
    if (begin < stop && (begin - base) % unit_bytes != 0) cut_unit();
    if (const int64_t whole = (stop - begin) / unit_bytes; begin < stop && whole > 0) {
      const int64_t u = (begin - base) / unit_bytes;
      pack(u, u + whole, out);
      out += whole * unit_bytes, begin += whole * unit_bytes;
    }
    if (begin < stop) cut_unit();
  }
}

void pack_matrix(const char* data, int64_t n, int64_t k, int64_t n_stride, int64_t k_stride, int32_t k_group,
                 int64_t element_bytes, char* out) {
  const PackRows rows{data, n, n_stride, k_stride};
  pack_range({&rows, 1}, k, k_group, element_bytes, 0, packed_bytes(n, k, k_group, element_bytes), out);
}

void unpack_matrix(const char* packed, int64_t n, int64_t k, int32_t k_group, int64_t element_bytes, char* out) {
  for (int64_t first = 0; first < n; first += panel_width) {
    const char* panel = packed + packed_bytes(first, k, k_group, element_bytes);
    const int64_t width = width_of(n, first), rows = std::min(panel_width, n - first);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < k; ++i)
        std::memcpy(out + ((first + r) * k + i) * element_bytes,
                    panel + ((i / k_group * width + r) * k_group + i % k_group) * element_bytes, element_bytes);
  }
}

}  // namespace toroid::runtime
