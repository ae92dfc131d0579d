// Packs a strided matrix into 64-wide panels at memory speed.
#include "pack.h"

#include <algorithm>
#include <cstring>

#include "recipe.h"

namespace toroid::runtime {
namespace {

constexpr int64_t panel_width = 64;

int64_t width_of(int64_t n, int64_t first) { return std::min(panel_width, (n - first + 15) / 16 * 16); }

// A panel out of rows that lie along K, in units of one group (g elements, 4 bytes for every packed dtype): a
// transpose, 16 units of each row at a time, so that a cache line is read whole and the written block stays in L1.
template <class Unit>
void transpose_panel(const char* data, int64_t rows, int64_t width, int64_t row_bytes, int64_t units, char* out) {
  constexpr int64_t block = 64 / sizeof(Unit);
  for (int64_t first = 0; first < units; first += block) {
    const int64_t here = std::min(block, units - first);
    for (int64_t r = 0; r < rows; ++r) {
      const char* from = data + r * row_bytes + first * sizeof(Unit);
      char* to = out + (first * width + r) * sizeof(Unit);
      for (int64_t u = 0; u < here; ++u)
        std::memcpy(to + u * width * sizeof(Unit), from + u * sizeof(Unit), sizeof(Unit));
    }
    for (int64_t u = 0; u < here && rows < width; ++u)
      std::memset(out + ((first + u) * width + rows) * sizeof(Unit), 0, (width - rows) * sizeof(Unit));
  }
}

struct Panel {
  const char* data;  // element (first column of the panel, k = 0)
  int64_t rows, width, k, n_stride, k_stride, group, bytes;
  char* out;

  // Units [begin, ceil(k / group)), element by element: any strides, and the rest of K.
  void general(int64_t begin) const {
    for (int64_t u = begin; u < (k + group - 1) / group; ++u) {
      char* to = out + u * width * group * bytes;
      if (k - u * group < group || rows < width) std::memset(to, 0, width * group * bytes);
      const int64_t depth = std::min(group, k - u * group);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t t = 0; t < depth; ++t)
          std::memcpy(to + (r * group + t) * bytes, data + (r * n_stride + (u * group + t) * k_stride) * bytes, bytes);
    }
  }
  // Rows along N and no groups: each k is a piece of a row.
  void copy_rows() const {
    for (int64_t u = 0; u < k; ++u) {
      char* to = out + u * width * bytes;
      std::memcpy(to, data + u * k_stride * bytes, rows * bytes);
      std::memset(to + rows * bytes, 0, (width - rows) * bytes);
    }
  }
  // Rows along N, k in groups: the rows of a group are interleaved.
  template <class Element>
  void interleave_rows() const {
    for (int64_t u = 0; u < (k + group - 1) / group; ++u) {
      char* to = out + u * width * group * bytes;
      const int64_t depth = std::min(group, k - u * group);
      if (depth < group || rows < width) std::memset(to, 0, width * group * bytes);
      for (int64_t t = 0; t < depth; ++t) {
        const char* from = data + (u * group + t) * k_stride * bytes;
        for (int64_t r = 0; r < rows; ++r)
          std::memcpy(to + (r * group + t) * sizeof(Element), from + r * sizeof(Element), sizeof(Element));
      }
    }
  }
  void pack() const {
    const int64_t whole = k / group;
    if (k_stride == 1 && group * bytes == 4) {
      transpose_panel<uint32_t>(data, rows, width, n_stride * bytes, whole, out);
      general(whole);
    } else if (k_stride == 1 && group * bytes == 2) {
      transpose_panel<uint16_t>(data, rows, width, n_stride * bytes, whole, out);
      general(whole);
    } else if (k_stride == 1 && group * bytes == 8) {
      transpose_panel<uint64_t>(data, rows, width, n_stride * bytes, whole, out);
      general(whole);
    } else if (n_stride == 1 && group == 1) {
      copy_rows();
    } else if (n_stride == 1 && bytes == 2) {
      interleave_rows<uint16_t>();
    } else if (n_stride == 1 && bytes == 1) {
      interleave_rows<uint8_t>();
    } else {
      general(0);
    }
  }
};

}  // namespace

int64_t packed_bytes(int64_t n, int64_t k, int32_t k_group, int64_t element_bytes) {
  const int64_t columns = n / panel_width * panel_width + (n % panel_width + 15) / 16 * 16;
  return columns * ((k + k_group - 1) / k_group * k_group) * element_bytes;
}

void pack_matrix(const char* data, int64_t n, int64_t k, int64_t n_stride, int64_t k_stride, int32_t k_group,
                 int64_t element_bytes, char* out) {
  for (int64_t first = 0; first < n; first += panel_width) {
    const Panel panel{data + first * n_stride * element_bytes,
                      std::min(panel_width, n - first),
                      width_of(n, first),
                      k,
                      n_stride,
                      k_stride,
                      k_group,
                      element_bytes,
                      out + packed_bytes(first, k, k_group, element_bytes)};
    panel.pack();
  }
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
