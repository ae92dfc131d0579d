// Convolutions from register tiles: R pixels of one output row times 64 channels, edge tiles with their own text.
#include "emit/cpu/conv.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/check.h"
#include "base/text.h"
#include "emit/cpu/matmul.h"

namespace toroid::emit {
namespace {

// A panel of weights beyond this is cut along kh, so that it stays in L2 over the rows of a block.
constexpr int64_t long_panel_bytes = 800 << 10;
constexpr int64_t input_block_bytes = 512 << 10;
constexpr int64_t sums_block_pixels = 512;
constexpr size_t direct_text_limit = 12000;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
std::string plus(const std::string& a, int64_t b) { return b ? format("{} + {}", a, b) : a; }

// Taps kw0 <= kw < kw0 + count that fall on the image for pixels low <= r < high of a tile.
struct Taps {
  int64_t kw0, count;
  int low, high;
  auto operator<=>(const Taps&) const = default;
};

class Conv {
 public:
  Conv(const ConvSpec& spec, std::string name)
      : spec_(spec), name_(std::move(name)), tile_{name_, spec.isa, spec.dtype} {
    TD_CHECK(spec.dtype == DType::f32 || spec.dtype == DType::bf16, "convolution of {}", dtype_name(spec.dtype));
    TD_CHECK(spec.in_channels % spec.groups == 0 && spec.out_channels % spec.groups == 0, "{} groups", spec.groups);
    TD_CHECK(spec.panel == 64 || spec.panel == 16, "panels of {} columns", spec.panel);
    lanes_ = spec.isa.lanes;
    panel_ = spec.panel;
    bytes_ = dtype_bytes(spec.dtype);
    channels_ = spec.in_channels / spec.groups;
    out_channels_ = spec.out_channels / spec.groups;
    group_ = tile_.pairs() ? 2 : 1;
    tap_words_ = ceil_div(channels_, group_);
    panels_ = ceil_div(out_channels_, 64);
    // (kw, ic) is one run in memory.
    contiguous_ = spec.dilation_w == 1 && spec.pixel_stride.value == channels_ && channels_ % group_ == 0;
    fixed_width_ = spec.width.known() && spec.out_width.known();
    seven_ = fixed_width_ && spec.isa.wide() && (!tile_.pairs() || spec.isa.bf16_dot) &&
             spec.out_width.value % 7 == 0 && spec.out_width.value <= 14;
    const int64_t panel_bytes = spec.kernel_h * spec.kernel_w * tap_words_ * 256;
    cut_ = spec.kernel_h > 1 && panel_bytes > long_panel_bytes && fixed_width_ &&
           spec.out_width.value <= sums_block_pixels &&
           !(spec.out_height.known() && spec.out_height.value * spec.out_width.value <= 14);
    choose_sum_blocks();
    choose_blocks();
    direct_ =
        !cut_ && tile_copies() * (spec.epilogue("acc", {"n", "oh", "ow", "oc"}, "").size() + 80) <= direct_text_limit;
  }

  KernelText emit() {
    const std::string body = main_function();
    KernelText out;
    out.text = tile_.helpers();
    if (!direct_) out.text += finish_function();
    for (const auto& [key, text] : functions_) out.text += text;
    out.text += body;
    out.units = format("(({}) * ({}) * {})", spec_.batch.text, blocks_text_, spec_.groups * panels_);
    const int64_t sum = spec_.kernel_h * spec_.kernel_w * channels_;
    out.flops = format("(2.0 * ({}) * ({}) * ({}) * {})", spec_.batch.text, spec_.out_height.text, spec_.out_width.text,
                       spec_.out_channels * sum);
    const double pixels =
        static_cast<double>(block_rows_) * (spec_.out_width.known() ? static_cast<double>(spec_.out_width.value) : 32);
    out.grain = std::max<int64_t>(
        1,
        static_cast<int64_t>(400e3 / (2 * pixels * static_cast<double>(sum * std::min<int64_t>(64, out_channels_)))));
    return out;
  }

 private:
  int limit() const { return seven_ ? 7 : 6; }

  // Where a sum is cut: near half of `sum_block` (docs/accuracy.md), at rows of taps, at taps or within one, so that
  // every pixel has the same cuts, whatever tile it is in and whichever of its taps are on the image.
  void choose_sum_blocks() {
    auto nearest = [](int64_t a, int64_t b) { return std::max<int64_t>(1, (2 * a + b - 1) / (2 * b)); };
    const int64_t row_words = spec_.kernel_w * tap_words_, block = sum_block / 2;
    if (row_words * spec_.kernel_h <= block) return;
    const int64_t parts = nearest(row_words, block), tap_parts = nearest(tap_words_, block);
    if (parts == 1)
      sum_rows_ = cut_ ? 0 : nearest(block, row_words);  // a call of a cut panel is one row
    else if (tap_parts == 1)
      sum_taps_ = ceil_div(spec_.kernel_w, parts);
    else
      sum_words_ = ceil_div(tap_words_, tap_parts);
    sums_cut_ = cut_ || parts > 1 || sum_rows_ < spec_.kernel_h;
    // One run of all taps has the cuts of each only where those are of equal length.
    if (sum_taps_ || (sum_words_ && tap_words_ % sum_words_)) contiguous_ = false;
  }
  int stride_of(int vectors) const { return cut_ ? 64 : lanes_ * vectors; }
  // Ends a block of a long sum.
  std::string fold(int rows, int vectors) const {
    const int stride = stride_of(vectors);
    return tile_.add_totals(rows, vectors, "totals", stride) +
           tile_.store_accumulators(rows, vectors, "totals", stride) + tile_.clear(rows, vectors);
  }

  void choose_blocks() {
    const int64_t width = spec_.width.known() ? spec_.width.value : 56,
                  out_width = spec_.out_width.known() ? spec_.out_width.value : 56;
    int64_t rows =
        std::max<int64_t>(1, input_block_bytes / std::max<int64_t>(1, width * channels_ * bytes_ * spec_.stride_h));
    if (cut_) rows = std::clamp<int64_t>(sums_block_pixels / std::max<int64_t>(1, out_width), 1, rows);
    if (!spec_.out_height.known()) {
      rows = std::min<int64_t>(rows, std::max<int64_t>(1, 192 / std::max<int64_t>(1, out_width)));
      block_rows_ = rows;
      blocks_text_ = format("(({} + {}) / {})", spec_.out_height.text, rows - 1, rows);
      return;
    }
    const int64_t height = std::max<int64_t>(1, spec_.out_height.value);
    int64_t blocks = ceil_div(height, rows);
    const int64_t others = (spec_.batch.known() ? spec_.batch.value : 1) * spec_.groups * panels_;
    const int64_t smallest = std::max<int64_t>(1, 48 / std::max<int64_t>(1, out_width));  // rows
    if (blocks * others < 16)
      blocks = std::max(blocks, std::min(ceil_div(16, std::max<int64_t>(1, others)), height / smallest));
    blocks_text_ = std::to_string(blocks);
    block_rows_ = ceil_div(height, blocks);
  }

  // Accumulators that an epilogue stands behind, in all tile functions together; about.
  size_t tile_copies() const {
    const size_t heights = fixed_width_ ? tile_heights(spec_.out_width.value, limit()).size() * 2 + 1 : 4;
    return heights * static_cast<size_t>(limit() * (64 / lanes_)) * (out_channels_ % 64 && panels_ > 1 ? 2 : 1);
  }

  std::string constants() const {
    return format(
        "const i64 H = {}, W = {}, OH = {}, OW = {}, row = {}, pixel = {};\n(void)H, (void)W, (void)OH, (void)OW, "
        "(void)row, "
        "(void)pixel;\n",
        spec_.height.text, spec_.width.text, spec_.out_height.text, spec_.out_width.text, spec_.row_stride.text,
        spec_.pixel_stride.text);
  }

  // Which taps lie on the image, for `rows` pixels from output column ow (fixed width).
  std::vector<Taps> taps_of(int64_t ow, int rows) const {
    std::vector<Taps> out;
    for (int64_t kw = 0; kw < spec_.kernel_w; ++kw) {
      int low = 0, high = 0;
      for (int r = rows - 1; r >= 0; --r) {
        const int64_t iw = (ow + r) * spec_.stride_w + kw * spec_.dilation_w - spec_.pad_left;
        if (iw < 0 || iw >= spec_.width.value) continue;
        low = r;
        high = std::max(high, r + 1);
      }
      if (high == 0) continue;
      if (!out.empty() && out.back().low == low && out.back().high == high && out.back().kw0 + out.back().count == kw)
        ++out.back().count;
      else
        out.push_back({kw, 1, low, high});
    }
    return out;
  }
  std::vector<Taps> all_taps(int rows) const { return {{0, spec_.kernel_w, 0, rows}}; }

  // Offset of column `at` (text) of a unit's 64 channels in words, and words between two panels.
  std::string column(int at) const { return std::to_string(at / panel_ * group_words() + at % panel_); }
  std::string column(const std::string& at) const {
    return panel_ == 64 ? at : format("({0} / {1} * {2} + {0} % {1})", at, panel_, group_words());
  }
  int64_t group_words() const { return panel_ * spec_.kernel_h * spec_.kernel_w * tap_words_; }

  // One step over pixels low..high: B at `b`, pixel r's element at pointer(r).
  template <class Pointer>
  std::string step(int low, int high, int vectors, Pointer pointer, bool odd) const {
    std::string out;
    std::vector<std::string> names;
    for (int j = 0; j < vectors; ++j) {
      append(out, "vf32 b{} = load_f32((const f32*)b + {});\n", j, column(lanes_ * j));
      names.push_back(format("b{}", j));
    }
    out += tile_.pin(names, (high - low) * vectors);
    std::vector<std::string> words;
    for (int r = low; r < high; ++r)
      words.push_back(odd ? format("{}_pair(*({}), 0)", name_, pointer(r)) : tile_.word(pointer(r)));
    return out + tile_.multiply(low, vectors, words, high - low > 6 && !odd);
  }

  // The loop over `words` words (text) of one run; then the odd channel of bf16, per tap.
  template <class Pointer>
  std::string run(const Taps& taps, int rows, int vectors, int64_t words, Pointer pointer) const {
    const std::string two = tile_.pairs() ? "2 * " : "";
    std::string out;
    if (sum_words_)
      append(out,
             "for (i64 q = 0, stop = {0}; q < {1}; stop += {0}) {{\nif (stop > {1}) stop = {1};\n"
             "for (; q < stop; ++q, b += {2} * panel_words) {{\n",
             sum_words_, words, group_);
    else
      append(out, "for (i64 q = 0; q < {}; ++q, b += {} * panel_words) {{\n", words, group_);
    out += step(
               taps.low, taps.high, vectors, [&](int r) { return pointer(r, two + "q"); }, false) +
           "}\n";
    const bool odd = channels_ % group_;
    if (sum_words_) {
      // The odd channel joins the last block.
      if (odd) append(out, "if (stop == {}) break;\n", words);
      out += fold(rows, vectors) + "}\n";
    }
    if (odd)
      out += step(
          taps.low, taps.high, vectors, [&](int r) { return pointer(r, std::to_string(channels_ - 1)); }, true);
    if (odd && sum_words_) out += fold(rows, vectors);
    return out;
  }
  // Behind the tap kw, and behind the row of taps kh.
  std::string end_of_tap(int rows, int vectors) const {
    if (!sum_taps_) return "";
    const std::string text = fold(rows, vectors);
    if (sum_taps_ == 1) return text;
    return format("if ((kw + 1) % {} == 0 || kw == {}) {{\n{}}}\n", sum_taps_, spec_.kernel_w - 1, text);
  }
  std::string end_of_row(int rows, int vectors) const {
    if (!sums_cut_ || !sum_rows_) return "";
    const std::string text = fold(rows, vectors);
    return sum_rows_ == 1 ? text : format("if ((kh + 1) % {} == 0) {{\n{}}}\n", sum_rows_, text);
  }

  // The body for one kh, where validity of taps is known now.
  std::string fixed_taps(const std::vector<Taps>& groups, int rows, int vectors) const {
    std::string out;
    for (const Taps& taps : groups) {
      auto pointer = [&](const char* base) {
        return [base](int r, const std::string& q) {
          return r % 3 ? format("{}{} + {} + {} * step", base, r / 3 * 3, q, r % 3)
                       : format("{}{} + {}", base, r / 3 * 3, q);
        };
      };
      const std::string at = format("wk + {} * panel_words", taps.kw0 * tap_words_ * group_);
      if (contiguous_) {
        append(out, "{{\nconst {}* b = {};\n", tile_.element(), at);
        for (int r = taps.low / 3 * 3; r < taps.high; r += 3)
          append(out, "const {}* a{} = x0 + {} * pixel + {} * step;\n", tile_.element(), r, taps.kw0, r);
        out += run(taps, rows, vectors, taps.count * channels_ / group_, pointer("a")) + "}\n";
      } else {
        append(out, "for (i64 kw = {}; kw < {}; ++kw) {{\nconst {}* b = wk + kw * {} * panel_words;\n", taps.kw0,
               taps.kw0 + taps.count, tile_.element(), tap_words_ * group_);
        for (int r = taps.low / 3 * 3; r < taps.high; r += 3)
          append(out, "const {}* a{} = x0 + kw * {} * pixel + {} * step;\n", tile_.element(), r, spec_.dilation_w, r);
        out += run(taps, rows, vectors, channels_ / group_, pointer("a")) + end_of_tap(rows, vectors) + "}\n";
      }
    }
    return out;
  }

  // The same where the width is known at run time only: pixels off the image read zeros.
  std::string checked_taps(int rows, int vectors) const {
    std::string out = format("for (i64 kw = 0; kw < {}; ++kw) {{\nconst {}* b = wk + kw * {} * panel_words;\n",
                             spec_.kernel_w, tile_.element(), tap_words_ * group_);
    for (int r = 0; r < rows; ++r)
      append(out,
             "const i64 i{0} = iw0 + {1} + kw * {2};\nconst {3}* a{0} = i{0} >= 0 && i{0} < W ? x0 + {1} * pixel + kw "
             "* {2} * pixel : zeros;\n",
             r, r * spec_.stride_w, spec_.dilation_w, tile_.element());
    out += run({0, 1, 0, rows}, rows, vectors, channels_ / group_,
               [](int r, const std::string& q) { return format("a{} + {}", r, q); });
    return out + end_of_tap(rows, vectors) + "}\n";
  }

  // Names the function of a tile, emitting it the first time.
  std::string tile_function(int rows, int vectors, bool masked, const std::vector<Taps>& groups, bool checked) {
    masked = masked && direct_;
    std::string key = format("{}x{}{}{}", rows, vectors, masked ? "m" : "", checked ? "c" : "");
    if (groups != all_taps(rows))
      for (const Taps& taps : groups) append(key, "_{}_{}_{}_{}", taps.kw0, taps.count, taps.low, taps.high);
    const std::string function = format("{}_t{}", name_, key);
    std::string& out = functions_[function];
    if (!out.empty()) return function;
    append(out,
           "static __attribute__((noinline)) void {0}(char* const* p, const i64* s, const {1}* x, const {1}* w, i64 "
           "ih0, i64 k0, i64 k1, "
           "i64 iw0, i64 panel_words, ",
           function, tile_.element());
    out += direct_ ? "i64 n, i64 oh, i64 ow0, i64 oc0" : "f32* t";
    if (masked) out += ", i64 count";
    out += ") {\n" + constants() + "(void)p, (void)s;\n";
    if (direct_) out += "(void)n, (void)oh, (void)ow0, (void)oc0;\n";
    append(out, "const i64 step = {} * pixel;\n(void)step;\n", spec_.stride_w);
    if (checked) append(out, "static const {} zeros[{}] = {{}};\n", tile_.element(), channels_ + 1);
    out += tile_.accumulators(rows, vectors);
    const int stride = stride_of(vectors);
    if (cut_)
      out += "f32* const totals = t;\n";
    else if (sums_cut_)
      append(out, "alignas(64) f32 totals[{}];\n{}", rows * stride,
             tile_.store_accumulators(rows, vectors, "totals", stride));
    append(out,
           "for (i64 kh = k0; kh < k1; ++kh) {{\nconst {0}* x0 = x + (ih0 + kh * {1}) * row + iw0 * pixel;\nconst {0}* "
           "wk = w + kh * {2} * panel_words;\n",
           tile_.element(), spec_.dilation_h, spec_.kernel_w * tap_words_ * group_);
    if (checked)
      append(out, "if (iw0 >= 0 && iw0 + {} < W) {{\n{}}} else {}{}}}\n",
             (rows - 1) * spec_.stride_w + (spec_.kernel_w - 1) * spec_.dilation_w, fixed_taps(groups, rows, vectors),
             checked_taps(rows, vectors), end_of_row(rows, vectors));
    else
      out += fixed_taps(groups, rows, vectors) + end_of_row(rows, vectors) + "}\n";
    // A cut panel's totals are complete where every block ends within a tap.
    const bool complete = cut_ && (sum_words_ || sum_taps_ == 1);
    if (sums_cut_ && !complete) out += tile_.add_totals(rows, vectors, "totals", stride);
    if (direct_) {
      out += spec_.preamble;
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < vectors; ++j) {
          append(out, "{{ const i64 ow = {}, oc = {};\n(void)ow, (void)oc;\n", plus("ow0", i), plus("oc0", lanes_ * j));
          out += spec_.epilogue(format("c{}_{}", i, j), {"n", "oh", "ow", "oc"},
                                masked && j == vectors - 1 ? "count" : "") +
                 "}\n";
        }
    } else if (!complete) {
      out += tile_.store_accumulators(rows, vectors, "t", 64);
    }
    out += "}\n";
    return function;
  }

  // Stored sums of some pixels of a row through the epilogue.
  std::string finish_function() const {
    std::string out;
    append(out,
           "static __attribute__((noinline)) void {}_finish(char* const* p, const i64* s, const f32* t, i64 n, i64 oh, "
           "i64 ow0, i64 pixels, "
           "i64 oc0, i64 cols) {{\n(void)p, (void)s, (void)n, (void)oh;\n",
           name_);
    out += spec_.preamble;
    append(out, R"(for (i64 i = 0; i < pixels; ++i) {{
const i64 ow = ow0 + i;
(void)ow;
i64 c = 0;
for (; c + {0} <= cols; c += {0}) {{
const i64 oc = oc0 + c;
vf32 acc = load_f32(t + i * 64 + c);
(void)oc;
{1}}}
)",
           lanes_, spec_.epilogue("acc", {"n", "oh", "ow", "oc"}, ""));
    if (out_channels_ % lanes_)
      append(out,
             "if (c < cols) {{\nconst i64 oc = oc0 + c, count = cols - c;\nvf32 acc = load_f32(t + i * 64 + "
             "c);\n(void)oc;\n{}}}\n",
             spec_.epilogue("acc", {"n", "oh", "ow", "oc"}, "count"));
    return out + "}\n}\n";
  }

  // Calls for one tile over the panel's columns.
  std::string cover(int rows, const std::vector<Taps>& groups, bool checked, bool edge) {
    const int slice = spec_.isa.wide() ? 64 : lanes_ * (rows == 1 ? 8 : rows == 2 ? 4 : 2);
    auto call = [&](int vectors, bool masked, const std::string& at, const std::string& count) {
      std::string out =
          format("{}(p, s, x, wp + {}{}, ih0, k0, k1, iw0, panel_words, ",
                 tile_function(rows, vectors, masked, groups, checked), tile_.pairs() ? "2 * " : "", column(at));
      out += direct_ ? format("n, oh, ow, oc0 + {}", at) : format("tp + {}", at);
      if (masked && direct_) out += ", " + count;
      return out + ");\n";
    };
    std::string out;
    if (!edge) {
      if (slice == 64) return call(64 / lanes_, false, "0", "");
      return format("for (i64 c = 0; c < 64; c += {}) {}", slice, call(slice / lanes_, false, "c", ""));
    }
    const int width = static_cast<int>(out_channels_ % 64), step = spec_.isa.wide() ? 64 : 2 * lanes_;
    const int full = width / step * step, rest = width - full;
    if (full) append(out, "for (i64 c = 0; c < {}; c += {}) {}", full, step, call(step / lanes_, false, "c", ""));
    if (rest)
      out += call(static_cast<int>(ceil_div(rest, lanes_)), rest % lanes_ != 0, std::to_string(full),
                  std::to_string(rest % lanes_));
    return out;
  }

  // What surrounds the call of a tile at output column ow: addresses before, the epilogue of a stored tile after.
  std::string around(const std::string& calls, const std::string& height) const {
    std::string out = format("const i64 iw0 = ow * {} - {};\n", spec_.stride_w, spec_.pad_left);
    if (!direct_) out += cut_ ? "f32* const tp = t + ((oh - oh0) * OW + ow) * 64;\n" : "f32* const tp = t;\n";
    out += calls;
    if (!direct_ && !cut_) append(out, "{}_finish(p, s, t, n, oh, ow, {}, oc0, cols);\n", name_, height);
    return out;
  }

  // All tiles of the output row oh.
  std::string row_tiles(bool edge) {
    std::string out;
    if (!fixed_width_) {
      out += format("const i64 tiles = (OW + {}) / {};\n", limit() - 1, limit()) +
             "for (i64 tile = 0; tile < tiles; ++tile) {\nconst i64 ow = OW * tile / tiles, pixels = OW * (tile + 1) / "
             "tiles - ow;\n";
      std::string calls = "switch (pixels) {\n";
      for (int h = 1; h <= limit(); ++h)
        append(calls, "case {}: {{\n{}break; }}\n", h, cover(h, all_taps(h), true, edge));
      return out + around(calls + "}\n", "pixels") + "}\n";
    }
    // Tiles with the same taps are one loop, whatever their heights.
    const int64_t width = spec_.out_width.value, tiles = ceil_div(width, limit());
    auto at = [&](int64_t tile) { return width * tile / tiles; };
    auto height = [&](int64_t tile) { return static_cast<int>(at(tile + 1) - at(tile)); };
    auto inside = [&](int64_t tile) { return taps_of(at(tile), height(tile)) == all_taps(height(tile)); };
    for (int64_t tile = 0; tile < tiles;) {
      int64_t end = tile + 1;
      if (inside(tile))
        while (end < tiles && inside(end)) ++end;
      if (end == tile + 1) {
        append(out, "{{ const i64 ow = {};\n{}}}\n", at(tile),
               around(cover(height(tile), taps_of(at(tile), height(tile)), false, edge), std::to_string(height(tile))));
      } else {
        std::set<int> heights;
        for (int64_t t = tile; t < end; ++t) heights.insert(height(t));
        append(out,
               "for (i64 tile = {}; tile < {}; ++tile) {{\nconst i64 ow = {} * tile / {}, pixels = {} * (tile + 1) / "
               "{} - ow;\n(void)pixels;\n",
               tile, end, width, tiles, width, tiles);
        std::string calls;
        if (heights.size() == 1) {
          calls = cover(*heights.begin(), all_taps(*heights.begin()), false, edge);
        } else {
          calls = "switch (pixels) {\n";
          for (int h : heights) append(calls, "case {}: {{\n{}break; }}\n", h, cover(h, all_taps(h), false, edge));
          calls += "}\n";
        }
        out += around(calls, "pixels") + "}\n";
      }
      tile = end;
    }
    return out;
  }

  // The rows of a block against one panel.
  std::string panel(bool edge) {
    std::string out;
    append(out, "const i64 panel_words = {};\n",
           edge ? std::min(panel_, ceil_div(out_channels_ % 64, 16) * 16) : panel_);
    const std::string bounds = format(
        "const i64 ih0 = oh * {0} - {1};\ni64 k0 = ih0 < 0 ? (-ih0 + {3}) / {2} : 0, k1 = H > ih0 ? (H - ih0 + {3}) / "
        "{2} : 0;\n"
        "if (k1 > {4}) k1 = {4};\n",
        spec_.stride_h, spec_.pad_top, spec_.dilation_h, spec_.dilation_h - 1, spec_.kernel_h);
    if (cut_) {
      append(out, "for (i64 i = 0; i < (oh1 - oh0) * OW * 64; i += {}) store_f32(t + i, splat_f32(0.0f));\n", lanes_);
      append(out, "for (i64 kh = 0; kh < {}; ++kh)\nfor (i64 oh = oh0; oh < oh1; ++oh) {{\n{}", spec_.kernel_h, bounds);
      out += "if (kh < k0 || kh >= k1) continue;\nk0 = kh;\nk1 = kh + 1;\n" + row_tiles(edge) + "}\n";
      append(out,
             "for (i64 oh = oh0; oh < oh1; ++oh) {}_finish(p, s, t + (oh - oh0) * OW * 64, n, oh, 0, OW, oc0, cols);\n",
             name_);
    } else {
      append(out, "for (i64 oh = oh0; oh < oh1; ++oh) {{\n{}{}}}\n", bounds, row_tiles(edge));
    }
    return out;
  }

  std::string main_function() {
    std::string out;
    append(out, "extern \"C\" void {}(char* const* p, const i64* s, i64 begin, i64 end) {{\n(void)s;\n{}", name_,
           constants());
    append(out, "const i64 blocks = {};\n", blocks_text_);
    if (!direct_)
      append(out, "alignas(64) f32 t[{}];\n", 64 * (cut_ ? block_rows_ * spec_.out_width.value : int64_t{8}));
    append(out, R"(for (i64 unit = begin; unit < end; ++unit) {{
const i64 panel = unit % {0}, group = unit / {0} % {1}, block = unit / {2} % blocks, n = unit / {2} / blocks;
const i64 oc0 = group * {3} + panel * 64, cols = {3} - panel * 64 < 64 ? {3} - panel * 64 : 64;
(void)cols;
)",
           panels_, spec_.groups, panels_ * spec_.groups, out_channels_);
    if (spec_.out_height.known())
      out += "const i64 oh0 = OH * block / blocks, oh1 = OH * (block + 1) / blocks;\n";
    else
      append(out, "const i64 oh0 = block * {0}, oh1 = OH - oh0 < {0} ? OH : oh0 + {0};\n", block_rows_);
    const int64_t sum = spec_.kernel_h * spec_.kernel_w * tap_words_ * group_;
    append(out, "const {0}* x = (const {0}*)({1}) + n * {2} + group * {3};\n", tile_.element(), spec_.input,
           spec_.batch_stride.text, channels_);
    append(out, "const {0}* wp = (const {0}*)({1}) + group * {2} + panel * {3};\n", tile_.element(), spec_.weight,
           packed_elements(out_channels_, sum, spec_.dtype), 64 * sum);
    const bool ragged = out_channels_ % 64;
    if (ragged && panels_ > 1)
      out += "if (cols == 64) {\n" + panel(false) + "} else {\n" + panel(true) + "}\n";
    else
      out += panel(ragged);
    return out + "}\n}\n";
  }

  const ConvSpec& spec_;
  std::string name_;
  Tile tile_;
  int lanes_ = 16;
  int64_t bytes_ = 4, channels_ = 0, out_channels_ = 0, group_ = 1, tap_words_ = 0, panels_ = 0, block_rows_ = 1,
          panel_ = 64;
  // Rows of taps, taps, or words of a tap that make one block of a long sum: one of the three, or none.
  int64_t sum_rows_ = 0, sum_taps_ = 0, sum_words_ = 0;
  bool sums_cut_ = false, contiguous_ = false, fixed_width_ = false, seven_ = false, cut_ = false, direct_ = true;
  std::string blocks_text_;
  std::map<std::string, std::string> functions_;
};

// 1x1, stride 1, no padding: the pixels of an image are the rows of a matrix product.
bool is_matmul(const ConvSpec& spec) {
  const bool dense = spec.dense_rows || (spec.row_stride.known() && spec.pixel_stride.known() && spec.width.known() &&
                                         spec.row_stride.value == spec.width.value * spec.pixel_stride.value);
  return spec.kernel_h == 1 && spec.kernel_w == 1 && spec.stride_h == 1 && spec.stride_w == 1 && spec.pad_top == 0 &&
         spec.pad_left == 0 && dense && (spec.dtype == DType::f32 || spec.in_channels / spec.groups % 2 == 0);
}

KernelText emit_as_matmul(const ConvSpec& spec, const std::string& name) {
  const int64_t channels = spec.in_channels / spec.groups, outputs = spec.out_channels / spec.groups,
                groups = spec.groups;
  MatmulSpec product;
  product.isa = spec.isa;
  product.dtype = spec.dtype;
  auto times = [](const Size& a, const Size& b) {
    return a.known() && b.known() ? Size::of(a.value * b.value) : Size::dynamic(format("{} * {}", a.text, b.text));
  };
  product.batch = times(spec.batch, Size::of(groups));
  product.m = times(spec.out_height, spec.out_width);
  product.n = Size::of(outputs);
  product.k = Size::of(channels);
  product.a = spec.input;
  product.b = spec.weight;
  product.a_stride = spec.pixel_stride;
  product.b_stride = Size::of(0);
  product.panel = spec.panel;
  product.a_offset = [&](const std::string& b) {
    return groups == 1 ? format("{} * {}", b, spec.batch_stride.text)
                       : format("{0} / {1} * {2} + {0} % {1} * {3}", b, groups, spec.batch_stride.text, channels);
  };
  product.b_offset = [&](const std::string& b) {
    return groups == 1 ? "0" : format("{} % {} * {}", b, groups, packed_elements(outputs, channels, spec.dtype));
  };
  product.preamble = spec.preamble;
  auto at_pixel = [&](const std::vector<std::string>& index, const std::string& statements) {
    const std::string oc = groups == 1 ? index[2] : format("{} % {} * {} + {}", index[0], groups, outputs, index[2]);
    const std::string n = groups == 1 ? index[0] : format("{} / {}", index[0], groups);
    return format(
        "{{ const i64 n_ = {0}, oh = {1} / {2}, ow = {1} % {2}, oc = {3};\n(void)n_, (void)oh, (void)ow, "
        "(void)oc;\n{4}}}\n",
        n, index[1], spec.out_width.text, oc, statements);
  };
  product.epilogue = [&](const std::string& acc, const std::vector<std::string>& index, const std::string& count) {
    return at_pixel(index, spec.epilogue(acc, {"n_", "oh", "ow", "oc"}, count));
  };
  if (spec.fetch)
    product.fetch = [&](const std::vector<std::string>& index) {
      return at_pixel(index, spec.fetch({"n_", "oh", "ow", "oc"}));
    };
  return emit_matmul(product, name);
}

}  // namespace

KernelText emit_conv(const ConvSpec& spec, const std::string& name) {
  if (is_matmul(spec)) return emit_as_matmul(spec, name);
  return Conv(spec, name).emit();
}

int64_t conv_packed_elements(const ConvSpec& spec) {
  const int64_t group = spec.dtype == DType::bf16 ? 2 : 1, ic = ceil_div(spec.in_channels / spec.groups, group) * group;
  return spec.groups * packed_elements(spec.out_channels / spec.groups, spec.kernel_h * spec.kernel_w * ic, spec.dtype);
}

int64_t conv_packed_index(const ConvSpec& spec, int64_t oc, int64_t ic, int64_t kh, int64_t kw) {
  const int64_t group = spec.dtype == DType::bf16 ? 2 : 1,
                channels = ceil_div(spec.in_channels / spec.groups, group) * group;
  const int64_t outputs = spec.out_channels / spec.groups, sum = spec.kernel_h * spec.kernel_w * channels;
  return oc / outputs * packed_elements(outputs, sum, spec.dtype) +
         packed_index(oc % outputs, (kh * spec.kernel_w + kw) * channels + ic, outputs, sum, spec.dtype, spec.panel);
}

}  // namespace toroid::emit
