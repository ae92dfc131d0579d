// Matrix products from register tiles: which tiles, in what order, over which blocks.
#include "emit/cpu/matmul.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/check.h"
#include "base/text.h"
#include "emit/cpu/transposed.h"

namespace toroid::emit {
namespace {

constexpr int64_t panel_width = 64;
// The rows of A of one task: half of an L2 cache, unless that leaves B too little reuse.
constexpr int64_t a_block_bytes = 512 << 10;
// A panel of B this long is cut along k, so that it stays in L2 between tiles.
constexpr int64_t long_k_bytes = 12 << 10;
constexpr int64_t k_block_bytes = 4 << 10;
// Epilogues stand behind each accumulator of each tile up to this much text, else in one loop over a stored tile.
// Storing a tile costs a tenth of a sum of 64 steps, and text costs time to compile.
constexpr size_t direct_text_limit = 12000, direct_text_limit_of_short_sums = 40000;
constexpr int64_t short_sum = 128;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

class Matmul {
 public:
  Matmul(const MatmulSpec& spec, std::string name)
      : spec_(spec), name_(std::move(name)), tile_{name_, spec.isa, spec.dtype} {
    TD_CHECK(spec.dtype == DType::f32 || spec.dtype == DType::bf16, "matmul of {}", dtype_name(spec.dtype));
    TD_CHECK(spec.b_layout != BLayout::packed || (spec.n.known() && spec.k.known()), "packed B of unknown size");
    TD_CHECK(spec.panel == 64 || spec.panel == 16, "panels of {} columns", spec.panel);
    TD_CHECK(spec.more_b.empty() || spec.b_layout == BLayout::packed, "products that meet in one epilogue are packed");
    lanes_ = spec.isa.lanes;
    panel_ = spec.b_layout == BLayout::packed ? spec.panel : spec.isa.wide() ? 64 : 16;
    bytes_ = dtype_bytes(spec.dtype);
    // AVX2 walks a panel in slices of 16 columns and wants all of the piece in L2, and a tile's rows of A in L1.
    const int64_t piece = spec.isa.wide() ? 2 * k_block_bytes : k_block_bytes / 2;
    k_block_ = (spec.b_layout == BLayout::transposed ? k_block_bytes : piece) / bytes_;
    if (spec.b_layout == BLayout::transposed) {
      // Each task packs its own panel; long k in pieces.
      blocked_ = !spec.k.known() || spec.k.value > k_block_;
    } else {
      const int64_t few_rows = spec.isa.wide() ? 12 : 2, longest = spec.isa.wide() ? long_k_bytes : k_block_bytes;
      blocked_ = (!spec.k.known() || spec.k.value * bytes_ > longest) && !(spec.m.known() && spec.m.value <= few_rows);
    }
    TD_CHECK(k_block_ % tile_.block_elements() == 0, "pieces of {} along k", k_block_);
    choose_blocks();
    choose_epilogue();
  }

  KernelText emit() { return with_functions(main_function(), panels_text()); }
  KernelText emit_part() { return with_functions(part_function(), panels_text()); }
  KernelText emit_joined(const std::vector<MatmulColumns>& columns, std::string text) {
    int64_t all = 0;
    for (const MatmulColumns& c : columns) all += c.panels;
    append(text, "extern \"C\" void {}(char* const* p, const i64* s, i64 begin, i64 end) {{\n(void)s;\n", name_);
    append(
        text,
        "for (i64 unit = begin; unit < end; ++unit) {{\nconst i64 panel = unit % {0}, block = unit / {0} % {1}, batch "
        "= unit / {0} / {1};\n",
        all, blocks_text_);
    int64_t first = 0;
    for (const MatmulColumns& c : columns) {
      const std::string last = c.panels + first < all ? format("if (panel < {}) ", first + c.panels) : "";
      append(text, "{}{}{}(p + {}, s, panel - {}, block, batch);\n", first ? "else " : "", last, c.part, c.slot, first);
      first += c.panels;
    }
    return described(text + "}\n}\n", std::to_string(all));
  }

 private:
  KernelText with_functions(const std::string& body, const std::string& panels) {
    std::string text = tile_.helpers();
    if (!direct_) text += finish_function();
    if (spec_.b_layout == BLayout::transposed) text += pack_function(tile_, panel_, column("x"));
    for (const auto& [key, function] : functions_) text += function;
    return described(text + body, panels);
  }
  KernelText described(std::string text, const std::string& panels) const {
    KernelText out;
    out.text = std::move(text);
    out.units = format("(({}) * ({}) * ({}))", spec_.batch.text, blocks_text_, panels);
    out.flops = format("(2.0 * ({}) * ({}) * ({}) * ({}))", spec_.batch.text, spec_.m.text, spec_.n.text, spec_.k.text);
    // A task should last some microseconds.
    const double rows = static_cast<double>(block_rows_);
    const double k = static_cast<double>(spec_.k.known() ? spec_.k.value : 256);
    const double width = spec_.n.known() ? std::min<double>(64, static_cast<double>(spec_.n.value)) : 64;
    out.grain = std::max<int64_t>(1, static_cast<int64_t>(400e3 / (2 * rows * k * width)));
    return out;
  }

  bool n_static() const { return spec_.n.known(); }
  int64_t panels() const { return ceil_div(spec_.n.value, panel_width); }
  std::string panels_text() const {
    return n_static() ? std::to_string(panels()) : format("(({} + 63) / 64)", spec_.n.text);
  }

  void choose_blocks() {
    const int64_t k = blocked_ ? k_block_ : spec_.k.value;
    int64_t rows = std::clamp<int64_t>(a_block_bytes / std::max<int64_t>(1, k * bytes_), 48, 192);
    if (spec_.b_layout == BLayout::transposed || !spec_.k.known()) rows = 192;
    rows = rows / 6 * 6;
    if (spec_.m.known()) {
      const int64_t m = std::max<int64_t>(1, spec_.m.value);
      int64_t blocks = ceil_div(m, rows);
      const int64_t others = (spec_.batch.known() ? spec_.batch.value : 1) * (n_static() ? panels() + spec_.beside : 4);
      // Blocks of rows each pack their panel again.
      if (blocks * others < (spec_.b_layout == BLayout::transposed ? 8 : 16))
        blocks = std::max(blocks, std::min(ceil_div(16, std::max<int64_t>(1, others)), m / 24));
      blocks_ = blocks;
      blocks_text_ = std::to_string(blocks);
      block_rows_ = ceil_div(m, blocks);
    } else {
      blocks_text_ = format("(({} + {}) / {})", spec_.m.text, rows - 1, rows);
      block_rows_ = rows;
    }
  }

  // All tile heights that occur.
  std::vector<int> heights() const {
    const int limit = 6;
    std::set<int> out;
    if (!spec_.m.known()) return {1, 2, 3, 4, 5, 6};
    if (seven()) return {7};
    for (int64_t b = 0; b < blocks_; ++b)
      for (int h : tile_heights(spec_.m.value * (b + 1) / blocks_ - spec_.m.value * b / blocks_, limit)) out.insert(h);
    return {out.begin(), out.end()};
  }
  // Seven rows in one tile leave no register for the broadcast: it is part of the multiply.
  bool seven() const {
    return spec_.m.known() && spec_.m.value == 7 && spec_.isa.wide() && !spec_.a_transposed &&
           (!tile_.pairs() || spec_.isa.bf16_dot);
  }

  void choose_epilogue() {
    direct_ = false;
    if (blocked_ || dots() || stacked()) return;
    size_t copies = 0;
    for (int h : heights())
      copies += static_cast<size_t>(h) * static_cast<size_t>(64 / lanes_) * (n_static() && spec_.n.value % 64 ? 2 : 1);
    const bool short_sums = spec_.k.known() && spec_.k.value <= short_sum;
    direct_ = copies * (spec_.epilogue("acc", {"b", "m", "n"}, "").size() + 60) <=
              (short_sums ? direct_text_limit_of_short_sums : direct_text_limit);
  }
  // Dot products along k instead of packing: for up to four rows.
  bool dots() const {
    return spec_.b_layout == BLayout::transposed && !spec_.a_transposed && (!spec_.m.known() || spec_.m.value <= 4);
  }
  // Several products of a tile meet in one epilogue: each is stored for all rows of a block.
  bool stacked() const { return !spec_.more_b.empty(); }
  bool block_stored() const { return blocked_ || stacked(); }
  int64_t stored_elements() const {
    return 64 * (block_stored() && !only_dots() ? std::max<int64_t>(block_rows_, 8) : 8);
  }
  // A sum may be longer than one block of `sum_block`, or one lane's share of it in a dot product.
  bool cut() const { return !spec_.k.known() || spec_.k.value > tile_.block_elements(); }
  bool dots_cut() const { return !spec_.k.known() || spec_.k.value > tile_.block_elements() * lanes_; }
  bool only_dots() const { return dots() && spec_.m.known(); }

  std::string constants() const {
    std::string out;
    append(out, "const i64 M = {}, N = {}, K = {};\n", spec_.m.text, spec_.n.text, spec_.k.text);
    append(out, "const i64 lda = {};\n", spec_.a_stride.text);
    if (spec_.b_layout != BLayout::packed) append(out, "const i64 ldb = {};\n(void)ldb;\n", spec_.b_stride.text);
    // Words between two panels.
    if (!in_place()) {
      const int64_t k = spec_.b_layout == BLayout::packed || !blocked_ ? spec_.k.value : k_block_;
      append(out, "const i64 group = {};\n(void)group;\n", panel_ * (tile_.pairs() ? ceil_div(k, 2) : k));
    }
    return out + "(void)M, (void)N, (void)K, (void)lda;\n";
  }

  // `acc` of a tile goes through the caller's epilogue.
  std::string apply(const std::string& acc, const std::string& count) const {
    return spec_.epilogue(acc, {"batch", "m", "n"}, count);
  }

  // The sums of one vector of a stored tile, one of each product.
  std::string stored_sums() const {
    std::string out = "vf32 acc = load_f32(t + i * 64 + x);\n";
    for (size_t j = 1; j <= spec_.more_b.size(); ++j)
      append(out, "vf32 acc_{} = load_f32(t + {} + i * 64 + x);\n", j, static_cast<int64_t>(j) * stored_elements());
    return out;
  }

  // The word of row i at step `step` (in words).
  std::string a_word(int row, const std::string& step) const {
    if (!spec_.a_transposed) {
      const std::string base = format("a{}", row / 3 * 3);
      const std::string shift = row % 3 ? format(" + {} * lda", row % 3) : "";
      return tile_.word(tile_.pairs() ? format("{} + 2 * {}{}", base, step, shift)
                                      : format("{} + {}{}", base, step, shift));
    }
    if (tile_.pairs())
      return format("{0}_pair(a[2 * {1} * lda + {2}], a[2 * {1} * lda + lda + {2}])", name_, step, row);
    return format("a[{} * lda + {}]", step, row);
  }

  // Statements of one step: loads of B at `b`, then all rows. `last` is the odd end of a bf16 sum.
  std::string step(int rows, int vectors, const std::string& masked, bool last) const {
    std::string out;
    std::vector<std::string> names;
    for (int j = 0; j < vectors; ++j) {
      const bool mask = !masked.empty() && j == vectors - 1 && in_place();
      const int at = lanes_ * j;
      std::string load;
      if (in_place() && tile_.pairs())
        load = format("{}_rows(b + {}, {}{})", name_, at, last ? "nullptr" : format("b + {} + ldb", at),
                      mask ? ", " + masked : "");
      else if (in_place())
        load = format("load_f32(b + {}{})", at, mask ? ", " + masked : "");
      else
        load = format("load_f32((const f32*)b + {})", column(at));
      append(out, "vf32 b{} = {};\n", j, load);
      names.push_back(format("b{}", j));
    }
    out += tile_.pin(names, rows * vectors);
    std::vector<std::string> words;
    for (int i = 0; i < rows; ++i) {
      std::string word = a_word(i, "w");
      if (last)
        word = spec_.a_transposed ? format("{}_pair(a[(k - 1) * lda + {}], 0)", name_, i)
                                  : format("{}_pair(a{}[k - 1 + {} * lda], 0)", name_, i / 3 * 3, i % 3);
      words.push_back(word);
    }
    return out + tile_.multiply(0, vectors, words, rows > 6 && !last);
  }
  // Offset of column `at` (text) of a unit's 64 packed columns, in words.
  std::string column(const std::string& at) const {
    if (panel_ == 64 || at == "0") return at;
    return format("({0} / {1} * group + {0} % {1})", at, panel_);
  }
  std::string column(int at) const {
    if (at < panel_) return std::to_string(at);
    return format("{} * group + {}", at / panel_, at % panel_);
  }
  // B is read where it lies, row by row (else: panels of words).
  bool in_place() const { return spec_.b_layout == BLayout::row_major; }

  // The memory of a tile's results is fetched while the tile is computed: a short sum would wait for it at its end.
  bool fetches() const { return direct_ && spec_.fetch && spec_.k.known() && spec_.k.value <= 1024; }
  // Statements at a vector of a tile's results.
  static std::string at_vector(int row, int column, const std::string& statements) {
    return format("{{ const i64 m = m0 + {}, n_ = n + {}; {{ const i64 n = n_;\n{}(void)m, (void)n; }} }}\n", row,
                  column, statements);
  }

  // Names the function of a tile, emitting it the first time. `masked`: only `count` lanes of its last vector are
  // valid.
  std::string tile_function(int rows, int vectors, bool masked) {
    const std::string function = format("{}_t{}x{}{}", name_, rows, vectors, masked ? "m" : "");
    std::string& out = functions_[function];
    if (!out.empty()) return function;
    append(out,
           "static __attribute__((noinline)) void {}(char* const* p, const i64* s, const {}* a, const {}* b, "
           "i64 panel_words, i64 k, ",
           function, tile_.element(), tile_.element());
    out += direct_ ? "i64 batch, i64 m0, i64 n" : "f32* t, bool more";
    if (masked) out += ", i64 count";
    out += ") {\n" + constants() + "(void)p, (void)s, (void)panel_words;\n" +
           (direct_ ? "(void)batch, (void)m0, (void)n;\n" : "") + tile_.accumulators(rows, vectors);
    if (fetches()) {
      out += spec_.preamble;
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < vectors; ++j) out += at_vector(i, lanes_ * j, spec_.fetch({"batch", "m", "n"}));
    }
    const int stride = direct_ ? lanes_ * vectors : 64;
    if (cut() && direct_) {
      append(out, "alignas(64) f32 t[{}];\nbool more = false;\n", rows * stride);
    } else if (!direct_ && !cut()) {
      out += "if (more) {\n";
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < vectors; ++j) append(out, "c{}_{} = load_f32(t + {});\n", i, j, 64 * i + lanes_ * j);
      out += "}\n";
    }
    if (!spec_.a_transposed)
      for (int i = 0; i < rows; i += 3) append(out, "const {}* a{} = a + {} * lda;\n", tile_.element(), i, i);
    const std::string advance = in_place() ? (tile_.pairs() ? "b += 2 * ldb" : "b += ldb")
                                           : (tile_.pairs() ? "b += 2 * panel_words" : "b += panel_words");
    const std::string count = masked ? "count" : "";
    const bool odd = tile_.pairs() && !(spec_.k.known() && spec_.k.value % 2 == 0);
    append(out, "const i64 words = {};\n", tile_.pairs() ? "k / 2" : "k");
    if (!cut()) {
      append(out, "for (i64 w = 0; w < words; ++w, {}) {{\n{}}}\n", advance, step(rows, vectors, count, false));
      if (odd) out += "if (k & 1) {\n" + step(rows, vectors, count, true) + "}\n";
    } else {
      // The odd end counts as a word.
      append(out, "const i64 all = {};\ni64 w = 0;\nfor (i64 stop = {};; stop += {}) {{\nif (stop > all) stop = all;\n",
             odd ? "words + (k & 1)" : "words", sum_block, sum_block);
      if (odd) out += "const i64 whole = stop < words ? stop : words;\n";
      append(out, "for (; w < {}; ++w, {}) {{\n{}}}\n", odd ? "whole" : "stop", advance,
             step(rows, vectors, count, false));
      if (odd) out += "if (stop > words) {\n" + step(rows, vectors, count, true) + "}\n";
      out += "if (more) {\n" + tile_.add_totals(rows, vectors, "t", stride) + "}\nif (stop == all) break;\n";
      out += "more = true;\n" + tile_.store_accumulators(rows, vectors, "t", stride) + tile_.clear(rows, vectors);
      out += "}\n";
    }
    if (direct_) {
      if (!fetches()) out += spec_.preamble;
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < vectors; ++j)
          out += at_vector(i, lanes_ * j, apply(format("c{}_{}", i, j), masked && j == vectors - 1 ? "count" : ""));
    } else {
      out += tile_.store_accumulators(rows, vectors, "t", 64);
    }
    out += "}\n";
    return function;
  }

  // One stored tile (rows of 64) through the epilogue.
  std::string finish_function() const {
    std::string out;
    append(out,
           "static __attribute__((noinline)) void {}_finish(char* const* p, const i64* s, const f32* t, i64 batch, "
           "i64 m0, i64 rows, i64 n0, i64 cols) {{\n(void)p, (void)s, (void)batch;\n",
           name_);
    out += spec_.preamble;
    append(out, R"(for (i64 i = 0; i < rows; ++i) {{
const i64 m = m0 + i;
(void)m;
i64 x = 0;
for (; x + {0} <= cols; x += {0}) {{
const i64 n = n0 + x;
{2}(void)n;
{1}}}
)",
           lanes_, apply("acc", ""), stored_sums());
    if (!(n_static() && spec_.n.value % lanes_ == 0)) {
      append(out, "if (x < cols) {{\nconst i64 n = n0 + x, count = cols - x;\n{}(void)n;\n{}}}\n", stored_sums(),
             apply("acc", "count"));
    }
    return out + "}\n}\n";
  }

  // Names the function of `rows` x (lanes / rows) dot products, emitting it the first time.
  std::string dot_products(int rows) {
    const std::string function = format("{}_dot{}", name_, rows);
    std::string& out = functions_[function];
    if (out.empty()) out = dot_function(tile_, function, rows, dots_cut());
    return function;
  }

  // Calls that cover one tile of `rows` rows and a whole panel, or the last panel when `edge`.
  std::string cover(int rows, bool edge) {
    // With 16 registers a panel is walked in slices of two vectors, wider ones for one and two rows.
    const int slice = spec_.isa.wide() ? 64 : lanes_ * (rows == 1 ? 8 : rows == 2 ? 4 : 2);
    auto call = [&](int vectors, bool masked, const std::string& x, const std::string& count) {
      // A stored tile of a padded panel needs no mask: the epilogue has it.
      masked = masked && (direct_ || in_place());
      const std::string function = tile_function(rows, vectors, masked);
      const std::string b = in_place() ? format("bp + {}", x)
                            : x == "0" ? "bp"
                                       : format("bp + {}{}", tile_.pairs() ? "2 * " : "", column(x));
      std::string out = format("{}(p, s, ap, {}, panel_words, k, ", function, b);
      out += direct_ ? format("batch, m0 + i, n0 + {}", x)
                     : format("t + {}{}, more", block_stored() ? "i * 64 + " : "", x);
      if (masked) out += ", " + count;
      return out + ");\n";
    };
    if (!edge) {
      if (slice == 64) return call(64 / lanes_, false, "0", "");
      return format("for (i64 x = 0; x < 64; x += {}) {}", slice, call(slice / lanes_, false, "x", ""));
    }
    if (!n_static())
      return format("for (i64 x = 0; x < cols; x += {0}) {1}", lanes_,
                    call(1, true, "x", format("cols - x < {0} ? cols - x : {0}", lanes_)));
    const int width = static_cast<int>(spec_.n.value % 64), step = spec_.isa.wide() ? 64 : 2 * lanes_;
    std::string out;
    const int full = width / step * step, rest = width - full;
    if (full == step) out += call(step / lanes_, false, "0", "");
    if (full > step)
      append(out, "for (i64 x = 0; x < {}; x += {}) {}", full, step, call(step / lanes_, false, "x", ""));
    if (rest) {
      const int vectors = static_cast<int>(ceil_div(rest, lanes_)), last = rest % lanes_;
      out += call(vectors, last != 0, std::to_string(full), std::to_string(last));
    }
    return out;
  }

  // All tiles of a block of rows against the panel at bp.
  std::string tiles(bool edge) {
    const std::vector<int> all = heights();
    std::string out;
    const int limit = seven() ? 7 : 6;
    append(out, "const i64 count_tiles = (rows + {}) / {};\n", limit - 1, limit);
    out +=
        "for (i64 tile = 0; tile < count_tiles; ++tile) {\n"
        "const i64 i = rows * tile / count_tiles, height = rows * (tile + 1) / count_tiles - i;\n";
    append(out, "const {0}* ap = a + (m0 + i) * {1};\n", tile_.element(), spec_.a_transposed ? "1" : "lda");
    if (blocked_) out += spec_.a_transposed ? "ap += k0 * lda;\n" : "ap += k0;\n";
    if (all.size() == 1) {
      out += "(void)height;\n" + cover(all[0], edge);
    } else {
      out += "switch (height) {\n";
      for (int h : all) append(out, "case {}: {{\n{}break; }}\n", h, cover(h, edge));
      out += "}\n";
    }
    if (!direct_ && !block_stored()) append(out, "{}_finish(p, s, t, batch, m0 + i, height, n0, cols);\n", name_);
    return out + "}\n";
  }

  // The panel's tiles, of one product after another.
  std::string panel(bool edge) {
    if (!stacked()) return one_panel(edge) + (blocked_ ? finish_block("t") : "");
    std::string out = "{\nf32* const t = sums;\n" + one_panel(edge) + "}\n";
    for (size_t j = 0; j < spec_.more_b.size(); ++j)
      append(out, "{{\nconst {0}* b = (const {0}*)({1});\nf32* const t = sums + {2};\n{3}}}\n", tile_.element(),
             spec_.more_b[j], static_cast<int64_t>(j + 1) * stored_elements(), one_panel(edge));
    return out + finish_block("sums");
  }
  std::string finish_block(const std::string& t) const {
    return format("{}_finish(p, s, {}, batch, m0, rows, n0, cols);\n", name_, t);
  }

  // With k in blocks when it is long.
  std::string one_panel(bool edge) {
    std::string out;
    const bool pack = spec_.b_layout == BLayout::transposed;
    if (blocked_)
      append(out,
             "for (i64 k0 = 0; k0 == 0 || k0 < K; k0 += {0}) {{\nconst i64 k = K - k0 < {0} ? K - k0 : {0};\nconst "
             "bool more = k0 > 0;\n",
             k_block_);
    else
      out += direct_ ? "const i64 k = K;\n" : "const i64 k = K;\nconst bool more = false;\n";
    if (pack) {
      append(out, "{}_pack(b + n0 * ldb{}, ldb, cols, k, group, pack);\n", name_, blocked_ ? " + k0" : "");
      append(out, "const i64 panel_words = {1};\nconst {0}* bp = (const {0}*)pack;\n", tile_.element(), panel_);
    } else if (in_place()) {
      append(out, "const i64 panel_words = 0;\nconst {}* bp = b + n0{};\n", tile_.element(),
             blocked_ ? " + k0 * ldb" : "");
    } else {
      const int64_t width = edge ? std::min<int64_t>(panel_, ceil_div(spec_.n.value % 64, 16) * 16) : panel_;
      append(out, "const i64 panel_words = {};\nconst {}* bp = b + n0 * {}{};\n", width, tile_.element(),
             tile_.pairs() ? "2 * ((K + 1) / 2)" : "K", blocked_ ? " + k0 * panel_words" : "");
    }
    out += tiles(edge);
    if (blocked_) out += "}\n";
    return out;
  }

  std::string dot_panel() {
    std::string out;
    auto rows_case = [&](int rows) {
      const int wide = rows == 3 ? 4 : rows, cols = lanes_ / wide;
      return format(
          "for (i64 x = 0; x < cols; x += {}) {}(a + m0 * lda, lda, b + (n0 + x) * ldb, ldb, cols - x, K, t + x);\n",
          cols, dot_products(rows));
    };
    if (only_dots()) {
      out += rows_case(static_cast<int>(block_rows_));
    } else {
      out += "switch (rows) {\n";
      for (int r = 1; r <= 4; ++r) append(out, "case {}: {{\n{}break; }}\n", r, rows_case(r));
      out += "}\n";
    }
    append(out, "{}_finish(p, s, t, batch, m0, rows, n0, cols);\n", name_);
    return out;
  }

  std::string main_function() {
    std::string out;
    append(out, "extern \"C\" void {}(char* const* p, const i64* s, i64 begin, i64 end) {{\n(void)s;\n", name_);
    out += constants();
    append(out, "const i64 panels = {}, blocks = {};\n", panels_text(), blocks_text_);
    const bool pack = spec_.b_layout == BLayout::transposed && !only_dots();
    if (pack) {
      const int64_t k = blocked_ ? k_block_ : spec_.k.value;
      append(out, "alignas(64) f32 pack[{}];\n", 64 * std::max<int64_t>(1, tile_.pairs() ? ceil_div(k, 2) : k));
    }
    out += stored_tiles();
    out +=
        "for (i64 unit = begin; unit < end; ++unit) {\n"
        "const i64 n0 = unit % panels * 64, block = unit / panels % blocks, batch = unit / panels / blocks;\n";
    return out + unit_text() + "}\n}\n";
  }

  std::string part_function() {
    std::string out;
    append(out,
           "static __attribute__((noinline)) void {}(char* const* p, const i64* s, i64 panel, i64 block, i64 batch) "
           "{{\n(void)s, (void)batch;\n",
           name_);
    out += constants();
    append(out, "const i64 blocks = {};\n(void)blocks;\n", blocks_text_);
    return out + stored_tiles() + "const i64 n0 = panel * 64;\n" + unit_text() + "}\n";
  }

  std::string stored_tiles() const {
    if (direct_) return "";
    return format("alignas(64) f32 {}[{}];\n", stacked() ? "sums" : "t",
                  stored_elements() * static_cast<int64_t>(1 + spec_.more_b.size()));
  }

  // One unit: the columns from n0 on, of a block of rows of one batch.
  std::string unit_text() {
    std::string out = "const i64 cols = N - n0 < 64 ? N - n0 : 64;\n(void)cols;\n";
    if (spec_.m.known())
      out += "const i64 m0 = M * block / blocks, rows = M * (block + 1) / blocks - m0;\n";
    else
      append(out, "const i64 m0 = block * {0}, rows = M - m0 < {0} ? M - m0 : {0};\n", block_rows_);
    append(out, "const {0}* a = (const {0}*)({1}) + ({2});\nconst {0}* b = (const {0}*)({3}) + ({4});\n",
           tile_.element(), spec_.a, spec_.a_offset ? spec_.a_offset("batch") : "0", spec_.b,
           spec_.b_offset ? spec_.b_offset("batch") : "0");
    if (dots()) {
      if (!only_dots()) out += "if (M <= 4) {\n";
      out += dot_panel();
      if (!only_dots()) out += "continue;\n}\n";
    }
    if (!only_dots()) {
      if (n_static() && spec_.n.value % 64 == 0) {
        out += panel(false);
      } else if (n_static() && spec_.n.value < 64) {
        out += panel(true);
      } else {
        out += "if (cols == 64) {\n" + panel(false) + "} else {\n" + panel(true) + "}\n";
      }
    }
    return out;
  }

  const MatmulSpec& spec_;
  std::string name_;
  Tile tile_;
  int lanes_ = 16;
  int64_t panel_ = 64;  // columns side by side in a packed B
  int64_t bytes_ = 4;
  bool blocked_ = false;  // k in blocks, sums in memory between them
  bool direct_ = true;    // epilogue behind each accumulator
  int64_t k_block_ = 0, blocks_ = 0, block_rows_ = 0;
  std::string blocks_text_;
  std::map<std::string, std::string> functions_;
};

}  // namespace

KernelText emit_matmul(const MatmulSpec& spec, const std::string& name) { return Matmul(spec, name).emit(); }

KernelText emit_matmul_part(const MatmulSpec& spec, const std::string& name) { return Matmul(spec, name).emit_part(); }

KernelText emit_joined_matmul(const MatmulSpec& spec, const std::vector<MatmulColumns>& columns, std::string text,
                              const std::string& name) {
  return Matmul(spec, name).emit_joined(columns, std::move(text));
}

int64_t panels_of(int64_t n) { return ceil_div(n, panel_width); }

int64_t packed_elements(int64_t n, int64_t k, DType dtype) {
  const int64_t group = dtype == DType::bf16 ? 2 : 1;
  return ceil_div(n, 16) * 16 * ceil_div(k, group) * group;
}

int64_t packed_index(int64_t n_index, int64_t k_index, int64_t n, int64_t k, DType dtype, int64_t panel) {
  const int64_t group = dtype == DType::bf16 ? 2 : 1, words = ceil_div(k, group);
  const int64_t first = n_index / panel * panel, width = std::min(panel, ceil_div(n - first, 16) * 16);
  return first * words * group + (k_index / group * width + n_index - first) * group + k_index % group;
}

}  // namespace toroid::emit
