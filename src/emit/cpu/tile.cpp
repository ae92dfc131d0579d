// Emits the steps of a register tile for g++ and clang, f32 and bf16.
#include "emit/cpu/tile.h"

#include <set>

#include "base/check.h"
#include "base/text.h"

namespace toroid::emit {
namespace {

std::string shuffle_list(int lanes, int distance, bool high) {
  std::string out;
  for (int l = 0; l < lanes; ++l) {
    int source = high ? ((l & distance) ? l + lanes : l + distance) : ((l & distance) ? l + lanes - distance : l);
    append(out, "{}{}", l ? ", " : "", source);
  }
  return out;
}

}  // namespace

std::string Tile::helpers() const {
  std::string out;
  append(out, "typedef f32 {}_word __attribute__((may_alias, aligned(2)));\n", name);
  if (!pairs()) return out;
  append(out, "typedef u16 {}_half __attribute__((may_alias));\n", name);
  append(out, "typedef unsigned {}_bits __attribute__((vector_size({})));\n", name, 4 * isa.lanes);
  append(out, "typedef u16 {}_halves __attribute__((vector_size({}), may_alias, aligned(2)));\n", name, 2 * isa.lanes);
  if (isa.bf16_dot && isa.wide()) {
    append(out, R"(#ifdef __clang__
typedef __bf16 {0}_pairs __attribute__((vector_size(64)));
static inline vf32 {0}_dot(vf32 c, vf32 a, vf32 b) {{
  return (vf32)__builtin_ia32_dpbf16ps_512(c, ({0}_pairs)a, ({0}_pairs)b);
}}
#else
typedef short {0}_pairs __attribute__((vector_size(64)));
static inline vf32 {0}_dot(vf32 c, vf32 a, vf32 b) {{
  return (vf32)__builtin_ia32_dpbf16ps_v16sf(c, ({0}_pairs)a, ({0}_pairs)b);
}}
#endif
)",
           name);
  } else {
    append(out, R"(static inline vf32 {0}_low(vf32 x) {{ return (vf32)(({0}_bits)x << 16); }}
static inline vf32 {0}_high(vf32 x) {{ return (vf32)(({0}_bits)x & 0xffff0000u); }}
static inline vf32 {0}_dot(vf32 c, vf32 a, vf32 b) {{
  return mad({0}_high(a), {0}_high(b), mad({0}_low(a), {0}_low(b), c));
}}
)",
           name);
  }
  // Two rows of halves become one vector of pairs.
  append(out, R"(static inline vf32 {0}_rows(const u16* x, const u16* y) {{
  {0}_bits low = __builtin_convertvector(*(const {0}_halves*)x, {0}_bits);
  if (!y) return (vf32)low;
  return (vf32)(low | __builtin_convertvector(*(const {0}_halves*)y, {0}_bits) << 16);
}}
static inline vf32 {0}_rows(const u16* x, const u16* y, i64 n) {{
  u16 low[{1}] = {{}}, high[{1}] = {{}};
  for (i64 i = 0; i < n; ++i) low[i] = x[i];
  if (y) for (i64 i = 0; i < n; ++i) high[i] = y[i];
  return {0}_rows(low, high);
}}
static inline f32 {0}_pair(unsigned low, unsigned high) {{
  unsigned bits = low | high << 16;
  f32 out;
  __builtin_memcpy(&out, &bits, 4);
  return out;
}}
)",
         name, isa.lanes);
  return out;
}

std::string Tile::accumulators(int rows, int vectors) const {
  std::string out = "vf32 ";
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < vectors; ++j) append(out, "{}c{}_{} = zero", i + j ? ", " : "", i, j);
  return "const vf32 zero = splat_f32(0.0f);\n" + out + ";\n";
}

std::string Tile::add_totals(int rows, int vectors, const std::string& totals, int stride) const {
  std::string out;
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < vectors; ++j)
      append(out, "c{0}_{1} = c{0}_{1} + load_f32({2} + {3});\n", i, j, totals, stride * i + isa.lanes * j);
  return out;
}

std::string Tile::store_accumulators(int rows, int vectors, const std::string& to, int stride) const {
  std::string out;
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < vectors; ++j)
      append(out, "store_f32({} + {}, c{}_{});\n", to, stride * i + isa.lanes * j, i, j);
  return out;
}

std::string Tile::clear(int rows, int vectors) const {
  std::string out;
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < vectors; ++j) append(out, "c{}_{} = zero;\n", i, j);
  return out;
}

std::string Tile::pin(const std::vector<std::string>& names, int accumulators) const {
  if (accumulators + static_cast<int>(names.size()) >= (isa.wide() ? 33 : 16)) return "";
  std::string list;
  for (const std::string& n : names) append(list, "{}\"+{}\"({})", list.empty() ? "" : ", ", isa.wide() ? "v" : "x", n);
  return "asm(\"\" : " + list + ");\n";
}

std::string Tile::word(const std::string& pointer) const { return format("*(const {}_word*)({})", name, pointer); }

std::string Tile::multiply(int first, int vectors, const std::vector<std::string>& words, bool in_memory) const {
  std::string out;
  const bool widen = pairs() && !(isa.bf16_dot && isa.wide());
  for (size_t i = 0; i < words.size(); ++i) {
    const int row = first + static_cast<int>(i);
    if (in_memory && isa.wide() && !widen) {
      for (int j = 0; j < vectors; ++j)
        append(out, "asm(\"{} %2%{{1to16%}}, %1, %0\" : \"+v\"(c{}_{}) : \"v\"(b{}), \"m\"({}));\n",
               pairs() ? "vdpbf16ps" : "vfmadd231ps", row, j, j, words[i]);
      continue;
    }
    append(out, "{{ const vf32 x = splat_f32({});", words[i]);
    if (widen) {
      // Both elements of the row's word once, for all vectors; row by row measured better than all rows twice.
      append(out, " const vf32 xl = {0}_low(x), xh = {0}_high(x);", name);
      for (int j = 0; j < vectors; ++j)
        append(out, " c{0}_{1} = mad(xh, {2}_high(b{1}), mad(xl, {2}_low(b{1}), c{0}_{1}));", row, j, name);
      out += " }\n";
      continue;
    }
    for (int j = 0; j < vectors; ++j)
      out += pairs() ? format(" c{0}_{1} = {2}_dot(c{0}_{1}, x, b{1});", row, j, name)
                     : format(" c{0}_{1} = mad(x, b{1}, c{0}_{1});", row, j);
    out += " }\n";
  }
  return out;
}

std::string transpose_rows(const std::string& prefix, int lanes) {
  std::string out;
  for (int d = lanes / 2; d; d /= 2) {
    std::string low = shuffle_list(lanes, d, false), high = shuffle_list(lanes, d, true);
    for (int i = 0; i < lanes; ++i) {
      if (i & d) continue;
      append(out,
             "{{ const vf32 t = __builtin_shufflevector({0}{1}, {0}{2}, {3}); {0}{2} = "
             "__builtin_shufflevector({0}{1}, {0}{2}, {4}); {0}{1} = t; }}\n",
             prefix, i, i + d, low, high);
    }
  }
  return out;
}

std::string sum_lanes(const std::vector<std::string>& names, int lanes) {
  TD_CHECK(static_cast<int>(names.size()) == lanes, "{} vectors for {} lanes", names.size(), lanes);
  std::string out;
  for (int d = lanes / 2; d; d /= 2) {
    std::string low = shuffle_list(lanes, d, false), high = shuffle_list(lanes, d, true);
    for (int i = 0; i < d; ++i)
      append(out, "{0} = __builtin_shufflevector({0}, {1}, {2}) + __builtin_shufflevector({0}, {1}, {3});\n", names[i],
             names[i + d], low, high);
  }
  return out;
}

std::vector<int> tile_heights(int64_t rows, int limit) {
  std::set<int> heights;
  int64_t tiles = (rows + limit - 1) / limit;
  for (int64_t t = 0; t < tiles; ++t) heights.insert(static_cast<int>(rows * (t + 1) / tiles - rows * t / tiles));
  return {heights.begin(), heights.end()};
}

}  // namespace toroid::emit
