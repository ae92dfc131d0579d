// The texts of transposed.h.
#include "emit/cpu/transposed.h"

#include <algorithm>

#include "base/text.h"

namespace toroid::emit {
namespace {

// The loop over whole vectors of words, or the masked rest of it.
std::string words_loop(int lanes, bool tail) {
  return tail ? "if (w < words) {\n" : format("i64 w = 0;\nfor (; w + {0} <= words; w += {0}) {{\n", lanes);
}

}  // namespace

std::string pack_function(const Tile& tile, int64_t panel, const std::string& column_x) {
  const int lanes = tile.isa.lanes;
  std::string out;
  append(out,
         "static __attribute__((noinline)) void {0}_pack(const {1}* b, i64 ldb, i64 cols, i64 k, i64 group, f32* o) "
         "{{\n(void)group;\n",
         tile.name, tile.element());
  append(out, "const i64 words = {};\nfor (i64 x = 0; x < cols; x += {}) {{\n", tile.pairs() ? "k / 2" : "k", lanes);
  append(out, "f32* const to = o + {};\n", column_x);
  for (int i = 0; i < lanes; ++i)
    append(out, "const {0}* r{1} = b + (x + {1} < cols ? x + {1} : cols - 1) * ldb;\n", tile.element(), i);
  for (bool tail : {false, true}) {
    out += words_loop(lanes, tail);
    for (int i = 0; i < lanes; ++i)
      append(out, "vf32 x{0} = load_f32((const f32*)(r{0} + {1}w){2});\n", i, tile.pairs() ? "2 * " : "",
             tail ? ", words - w" : "");
    out += transpose_rows("x", lanes);
    for (int i = 0; i < lanes; ++i)
      append(out, "{0}store_f32(to + (w + {1}) * {2}, x{1});\n", tail ? format("if (w + {} < words) ", i) : "", i,
             panel);
    out += "}\n";
  }
  out += "}\n";
  if (tile.pairs()) {
    append(out,
           "if (k & 1) for (i64 x = 0; x < 64; ++x) o[{1} + words * {2}] = {0}_pair(b[(x < cols ? "
           "x : cols - 1) * ldb + "
           "k - 1], 0);\n",
           tile.name, column_x, panel);
  }
  return out + "}\n";
}

std::string dot_function(const Tile& tile, const std::string& name, int rows, bool cut) {
  const int lanes = tile.isa.lanes;
  std::string out;
  const int wide = rows == 3 ? 4 : rows, cols = lanes / wide;
  append(out,
         "static __attribute__((noinline)) void {}(const {}* a, i64 lda, const {}* b, i64 ldb, i64 cols, i64 k, f32* "
         "t) {{\n",
         name, tile.element(), tile.element());
  out += tile.accumulators(wide, cols);
  for (int i = 0; i < wide; ++i)
    append(out, "const {}* a{} = a + {} * lda;\n", tile.element(), i, std::min(i, rows - 1));
  for (int j = 0; j < cols; ++j)
    append(out, "const {0}* w{1} = b + ({1} < cols ? {1} : cols - 1) * ldb;\n", tile.element(), j);
  const std::string two = tile.pairs() ? "2 * " : "";
  append(out, "const i64 words = {};\n", tile.pairs() ? "k / 2" : "k");
  auto part = [&](const std::string& mask) {
    for (int i = 0; i < wide; ++i) append(out, "vf32 x{0} = load_f32((const f32*)(a{0} + {1}w){2});\n", i, two, mask);
    for (int j = 0; j < cols; ++j) {
      append(out, "{{ vf32 y = load_f32((const f32*)(w{} + {}w){});\n", j, two, mask);
      if (wide > 1) out += tile.pin({"y"});
      for (int i = 0; i < wide; ++i)
        out += tile.pairs() ? format("c{0}_{1} = {2}_dot(c{0}_{1}, x{0}, y);\n", i, j, tile.name)
                            : format("c{0}_{1} = mad(x{0}, y, c{0}_{1});\n", i, j);
      out += "}\n";
    }
    out += "}\n";
  };
  if (cut) {
    append(out, "alignas(64) f32 totals[{}];\nbool more = false;\ni64 w = 0, stop = {};\n", lanes * lanes,
           sum_block * lanes);
    append(out, "for (; stop < words; stop += {0}) {{\nfor (; w < stop; w += {1}) {{\n", sum_block * lanes, lanes);
    part("");
    out += "if (more) {\n" + tile.add_totals(wide, cols, "totals", cols * lanes) + "}\nmore = true;\n";
    out += tile.store_accumulators(wide, cols, "totals", cols * lanes) + tile.clear(wide, cols) + "}\n";
    append(out, "for (; w + {0} <= words; w += {0}) {{\n", lanes);
  } else {
    out += words_loop(lanes, false);
  }
  part("");
  out += words_loop(lanes, true);
  part(", words - w");
  if (cut) out += "if (more) {\n" + tile.add_totals(wide, cols, "totals", cols * lanes) + "}\n";
  std::vector<std::string> names;
  for (int i = 0; i < wide; ++i)
    for (int j = 0; j < cols; ++j) names.push_back(format("c{}_{}", i, j));
  out += sum_lanes(names, lanes);
  if (tile.pairs()) {
    // The odd last element, as f32.
    out += "if (k & 1) {\n";
    append(out, "f32 extra[{}];\n", lanes);
    for (int i = 0; i < wide; ++i)
      for (int j = 0; j < cols; ++j)
        append(out, "extra[{0}] = {1}_pair(0, a{2}[k - 1]) * {1}_pair(0, w{3}[k - 1]);\n", i * cols + j, tile.name, i,
               j);
    append(out, "{0} = {0} + load_f32(extra);\n}}\n", names[0]);
  }
  if (wide == 1) return out + format("store_f32(t, {});\n}}\n", names[0]);
  append(out, "f32 r[{}];\nstore_f32(r, {});\n", lanes, names[0]);
  append(out, "for (i64 i = 0; i < {}; ++i) for (i64 j = 0; j < {}; ++j) t[i * 64 + j] = r[i * {} + j];\n}}\n", rows,
         cols, cols);
  return out;
}

}  // namespace toroid::emit
