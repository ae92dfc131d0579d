// Depthwise convolutions: tiles of 2 x 7 pixels, channels in vectors, taps unrolled, each input vector loaded once.
// Tiles at the image's edges have their own text, without the taps on padding; sizes known at run time only go through
// one loop that checks taps.
#include "emit/cpu/depthwise.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/check.h"
#include "base/text.h"

namespace toroid::emit {
namespace {

constexpr int edge_pixels = 7;
constexpr size_t direct_text_limit = 12000;
// Multiplies in the text: beyond the first a tile is not unrolled, beyond the second edges go through the loop.
constexpr int64_t tile_limit = 1000, text_limit = 8000;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Part of an axis covered by one tile: outputs [at, at + count), and which of its input positions lie on the image.
struct Span {
  int64_t at = 0;
  int count = 0;
  std::vector<bool> valid;
};

class Depthwise {
 public:
  Depthwise(const DepthwiseSpec& spec, std::string name)
      : spec_(spec), name_(std::move(name)), tile_{name_, spec.isa, spec.dtype}, lanes_(spec.isa.lanes) {
    TD_CHECK(spec.dtype == DType::f32 || spec.dtype == DType::bf16, "depthwise of {}", dtype_name(spec.dtype));
    tile_rows_ = 2;
    tile_cols_ = spec.isa.wide() ? 7 : 4;
    fixed_ = spec.height.known() && spec.width.known() && spec.out_height.known() && spec.out_width.known();
    unrolled_ = spec.kernel_h * spec.kernel_w * tile_rows_ * tile_cols_ <= tile_limit;
    if (fixed_) {
      rows_ = spans(spec.out_height.value, spec.height.value, tile_rows_, spec.stride_h, spec.dilation_h, spec.kernel_h,
                    spec.pad_top);
      cols_ = spans(spec.out_width.value, spec.width.value, tile_cols_, spec.stride_w, spec.dilation_w, spec.kernel_w,
                    spec.pad_left);
      const int64_t tile = spec.kernel_h * spec.kernel_w * tile_rows_ * tile_cols_;
      fixed_ = unrolled_ && static_cast<int64_t>(classes(rows_) * classes(cols_)) * tile <= text_limit;
    }
    const size_t functions = fixed_ ? classes(rows_) * classes(cols_) : 1;
    const size_t copies = functions * static_cast<size_t>(tile_rows_ * tile_cols_);
    direct_ = copies * (spec.epilogue("acc", {"n", "oh", "ow", "oc"}, "").size() + 80) <= direct_text_limit;
    choose_blocks();
  }

  KernelText emit() {
    const std::string body = main_function();
    KernelText out;
    out.text = tile_.helpers();
    if (uses_finish_) out.text += finish_function();
    for (const auto& [key, text] : functions_) out.text += text;
    out.text += body;
    out.units = format("(({}) * ({}) * {})", spec_.batch.text, row_units(), channel_blocks_);
    out.flops = format("(2.0 * ({}) * ({}) * ({}) * {})", spec_.batch.text, spec_.out_height.text, spec_.out_width.text,
                       spec_.channels * spec_.kernel_h * spec_.kernel_w);
    const double width = spec_.out_width.known() ? static_cast<double>(spec_.out_width.value) : 32;
    const double work = 2.0 * tile_rows_ * width *
                        static_cast<double>(spec_.channels * spec_.kernel_h * spec_.kernel_w / channel_blocks_);
    out.grain = std::max<int64_t>(1, static_cast<int64_t>(200e3 / std::max(1.0, work)));
    return out;
  }

 private:
  static std::vector<Span> spans(int64_t out, int64_t in, int limit, int64_t stride, int64_t dilation, int64_t kernel,
                                 int64_t pad) {
    std::vector<Span> result;
    const int64_t tiles = ceil_div(out, limit);
    for (int64_t t = 0; t < tiles; ++t) {
      Span span{out * t / tiles, static_cast<int>(out * (t + 1) / tiles - out * t / tiles), {}};
      for (int64_t i = 0; i < (span.count - 1) * stride + (kernel - 1) * dilation + 1; ++i) {
        const int64_t at = span.at * stride - pad + i;
        span.valid.push_back(at >= 0 && at < in);
      }
      result.push_back(std::move(span));
    }
    return result;
  }
  static size_t classes(const std::vector<Span>& spans) {
    std::set<std::pair<int, std::vector<bool>>> seen;
    for (const Span& span : spans) seen.insert({span.count, span.valid});
    return seen.size();
  }

  std::string row_units() const {
    return fixed_ ? std::to_string(rows_.size())
                  : format("(({} + {}) / {})", spec_.out_height.text, tile_rows_ - 1, tile_rows_);
  }

  void choose_blocks() {
    // Channels in blocks only where rows give too few tasks.
    const int64_t vectors = ceil_div(spec_.channels, lanes_);
    if (!fixed_ || !spec_.batch.known()) return;
    const int64_t units = std::max<int64_t>(1, spec_.batch.value * static_cast<int64_t>(rows_.size()));
    if (units < 16) channel_blocks_ = std::clamp<int64_t>(16 / units, 1, std::max<int64_t>(1, vectors * lanes_ / 64));
  }

  std::string constants() const {
    return format(
        "const i64 H = {}, W = {}, OH = {}, OW = {}, row = {}, pixel = {};\n(void)H, (void)W, (void)OH, (void)OW, "
        "(void)row, (void)pixel;\n",
        spec_.height.text, spec_.width.text, spec_.out_height.text, spec_.out_width.text, spec_.row_stride.text,
        spec_.pixel_stride.text);
  }
  std::string load(const std::string& pointer, const std::string& count = "") const {
    return format("load_{}({}{}{})", tile_.pairs() ? "bf16" : "f32", pointer, count.empty() ? "" : ", ", count);
  }
  std::string header(const std::string& function) const {
    return format(
        "static __attribute__((noinline)) void {0}(char* const* p, const i64* s, const {1}* x, const {1}* w, i64 n, "
        "i64 oh0, i64 ow0, ",
        function, tile_.element());
  }

  // A tile whose valid inputs are known: x is the image, channels [c0, c1) in full vectors.
  std::string tile_function(const Span& rows, const Span& cols) {
    std::string key = format("{}_t{}x{}_", name_, rows.count, cols.count);
    for (bool v : rows.valid) key += v ? '1' : '0';
    key += '_';
    for (bool v : cols.valid) key += v ? '1' : '0';
    const auto [at, added] = functions_.try_emplace(key);
    if (!added) return key;
    std::string& out = at->second;
    out = header(key) + "i64 c0, i64 c1) {\n" + constants() + "(void)p, (void)s, (void)n, (void)oh0, (void)ow0;\n";
    append(out, "x += (oh0 * {} - {}) * row + (ow0 * {} - {}) * pixel;\n", spec_.stride_h, spec_.pad_top,
           spec_.stride_w, spec_.pad_left);
    if (direct_) out += spec_.preamble;
    append(out, "for (i64 c = c0; c < c1; c += {}) {{\n", lanes_);
    out += tile_.accumulators(rows.count, cols.count);
    std::set<std::pair<int64_t, int64_t>> loaded;
    for (size_t iy = 0; iy < rows.valid.size(); ++iy)
      for (size_t ix = 0; ix < cols.valid.size(); ++ix) {
        if (!rows.valid[iy] || !cols.valid[ix]) continue;
        std::string uses;
        for (int y = 0; y < rows.count; ++y)
          for (int x = 0; x < cols.count; ++x) {
            const int64_t dy = static_cast<int64_t>(iy) - y * spec_.stride_h,
                          dx = static_cast<int64_t>(ix) - x * spec_.stride_w;
            if (dy < 0 || dx < 0 || dy % spec_.dilation_h || dx % spec_.dilation_w) continue;
            const int64_t ky = dy / spec_.dilation_h, kx = dx / spec_.dilation_w;
            if (ky >= spec_.kernel_h || kx >= spec_.kernel_w) continue;
            if (loaded.insert({ky, kx}).second)
              append(out, "const vf32 w{}_{} = {};\n", ky, kx,
                     load(format("w + {} + c", (ky * spec_.kernel_w + kx) * spec_.channels)));
            append(uses, " c{0}_{1} = mad(v, w{2}_{3}, c{0}_{1});", y, x, ky, kx);
          }
        if (!uses.empty())
          append(out, "{{ const vf32 v = {};{} }}\n", load(format("x + {} * row + {} * pixel + c", iy, ix)), uses);
      }
    if (direct_) {
      for (int y = 0; y < rows.count; ++y)
        for (int x = 0; x < cols.count; ++x) {
          append(out, "{{ const i64 oh = oh0 + {}, ow = ow0 + {};\n(void)oh, (void)ow;\n", y, x);
          out += spec_.epilogue(format("c{}_{}", y, x), {"n", "oh", "ow", "c"}, "") + "}\n";
        }
    } else {
      append(out, "alignas(64) f32 t[{}];\n", rows.count * cols.count * lanes_);
      for (int y = 0; y < rows.count; ++y)
        for (int x = 0; x < cols.count; ++x)
          append(out, "store_f32(t + {}, c{}_{});\n", (y * cols.count + x) * lanes_, y, x);
      append(out, "{}_finish(p, s, t, {}, n, oh0, ow0, {}, {}, c, {});\n", name_, cols.count, rows.count, cols.count,
             lanes_);
      uses_finish_ = true;
    }
    out += "}\n}\n";
    return key;
  }

  // Up to seven pixels of one output row, every tap checked; `masked`: one vector with `count` valid lanes.
  std::string edge_function(bool masked) {
    const std::string key = format("{}_edge{}", name_, masked ? "_masked" : "");
    const auto [at, added] = functions_.try_emplace(key);
    if (!added) return key;
    uses_finish_ = true;
    std::string& out = at->second;
    out = header(key) + format("i64 pixels, i64 c0, i64 {}) {{\n", masked ? "count" : "c1") + constants();
    append(out, "static const {} zeros[{}] = {{}};\nconst i64 ih0 = oh0 * {} - {}, iw0 = ow0 * {} - {};\n",
           tile_.element(), lanes_, spec_.stride_h, spec_.pad_top, spec_.stride_w, spec_.pad_left);
    if (masked)
      out += "const i64 c = c0;\n{\n";
    else
      append(out, "for (i64 c = c0; c < c1; c += {}) {{\n", lanes_);
    out += tile_.accumulators(1, edge_pixels);
    append(out, "for (i64 kh = 0; kh < {}; ++kh) {{\nconst i64 ih = ih0 + kh * {};\nif (ih < 0 || ih >= H) continue;\n",
           spec_.kernel_h, spec_.dilation_h);
    append(out, "for (i64 kw = 0; kw < {}; ++kw) {{\nconst i64 iw = iw0 + kw * {};\nconst vf32 tap = {};\n",
           spec_.kernel_w, spec_.dilation_w,
           load(format("w + (kh * {} + kw) * {} + c", spec_.kernel_w, spec_.channels), masked ? "count" : ""));
    for (int r = 0; r < edge_pixels; ++r) {
      append(out,
             "{{ const i64 i = iw + {0}; const {1}* a = {0} < pixels * {2} && i >= 0 && i < W ? x + ih * row + i * "
             "pixel + c : zeros;",
             r * spec_.stride_w, tile_.element(), spec_.stride_w);
      append(out, " c0_{0} = mad({1}, tap, c0_{0}); }}\n", r, load("a", masked ? "count" : ""));
    }
    append(out, "}}\n}}\nalignas(64) f32 t[{}];\n", edge_pixels * lanes_);
    for (int r = 0; r < edge_pixels; ++r) append(out, "store_f32(t + {}, c0_{});\n", r * lanes_, r);
    append(out, "{}_finish(p, s, t, {}, n, oh0, ow0, 1, pixels, c, {});\n}}\n}}\n", name_, edge_pixels,
           masked ? "count" : std::to_string(lanes_));
    return key;
  }

  // Stored sums of a tile (rows of `wide` vectors) through the epilogue.
  std::string finish_function() const {
    std::string out;
    append(out,
           "static __attribute__((noinline)) void {}_finish(char* const* p, const i64* s, const f32* t, i64 wide, i64 "
           "n, i64 oh0, i64 ow0, i64 "
           "rows, i64 cols, i64 oc, i64 count) {{\n(void)p, (void)s, (void)n, (void)oc, (void)count;\n",
           name_);
    out += spec_.preamble;
    append(out,
           "for (i64 y = 0; y < rows; ++y)\nfor (i64 x = 0; x < cols; ++x) {{\nconst i64 oh = oh0 + y, ow = ow0 + "
           "x;\n(void)oh, (void)ow;\n"
           "vf32 acc = load_f32(t + (y * wide + x) * {});\n",
           lanes_);
    const std::vector<std::string> index = {"n", "oh", "ow", "oc"};
    if (spec_.channels % lanes_ == 0) return out + spec_.epilogue("acc", index, "") + "}\n}\n";
    append(out, "if (count == {}) {{\n{}}} else {{\n{}}}\n}}\n}}\n", lanes_, spec_.epilogue("acc", index, ""),
           spec_.epilogue("acc", index, "count"));
    return out;
  }

  // Columns [from, to) (texts) of output rows oh0 .. oh0 + height, seven pixels at a time.
  std::string edges(const std::string& from, const std::string& to, const std::string& height,
                    const std::string& channels, bool masked) {
    std::string out = format("for (i64 oh = oh0; oh < oh0 + {}; ++oh)\nfor (i64 ow = {}; ow < {}; ow += {}) ", height,
                             from, to, edge_pixels);
    append(out, "{0}(p, s, x, w, n, oh, ow, {1} - ow < {2} ? {1} - ow : {2}, {3});\n", edge_function(masked), to,
           edge_pixels, channels);
    return out;
  }

  std::string fixed_rows() {
    std::string out = "switch (tile) {\n";
    for (size_t i = 0; i < rows_.size();) {
      // Rows of tiles of one class differ in oh0 alone.
      size_t end = i + 1;
      while (end < rows_.size() && rows_[end].count == rows_[i].count && rows_[end].valid == rows_[i].valid) ++end;
      append(out, "case {}{}: {{\n", i, end > i + 1 ? format(" ... {}", end - 1) : "");
      for (size_t j = 0; j < cols_.size();) {
        size_t last = j + 1;
        while (last < cols_.size() && cols_[last].count == cols_[j].count && cols_[last].valid == cols_[j].valid)
          ++last;
        const std::string function = tile_function(rows_[i], cols_[j]);
        if (last == j + 1)
          append(out, "{}(p, s, x, w, n, oh0, {}, c0, c1);\n", function, cols_[j].at);
        else
          append(out, "for (i64 ow = {}; ow < {}; ow += {}) {}(p, s, x, w, n, oh0, ow, c0, c1);\n", cols_[j].at,
                 cols_[last - 1].at + cols_[last - 1].count, cols_[j].count, function);
        j = last;
      }
      out += "break; }\n";
      i = end;
    }
    return out + "}\n";
  }

  // Full tiles inside the image, the rest tap by tap.
  std::string dynamic_rows() {
    if (!unrolled_) return edges("0", "OW", "height", "c0, c1", false);
    auto inside = [&](int count, int64_t stride, int64_t dilation, int64_t kernel) {
      return Span{0, count,
                  std::vector<bool>(static_cast<size_t>((count - 1) * stride + (kernel - 1) * dilation + 1), true)};
    };
    const Span rows = inside(tile_rows_, spec_.stride_h, spec_.dilation_h, spec_.kernel_h);
    const Span cols = inside(tile_cols_, spec_.stride_w, spec_.dilation_w, spec_.kernel_w);
    std::string out;
    append(out, "i64 left = {0}, right = W + {1} >= {2} ? (W + {1} - {2}) / {3} + 1 : 0;\n",
           ceil_div(spec_.pad_left, spec_.stride_w), spec_.pad_left, cols.valid.size(), spec_.stride_w);
    append(out, "const i64 ih0 = oh0 * {} - {};\n", spec_.stride_h, spec_.pad_top);
    append(out, "if (height == {0} && ih0 >= 0 && ih0 + {1} <= H && left + {2} <= OW && left < right) {{\n", tile_rows_,
           rows.valid.size(), tile_cols_);
    append(
        out,
        "i64 ow0 = left;\nfor (; ow0 < right && ow0 + {0} <= OW; ow0 += {0}) {1}(p, s, x, w, n, oh0, ow0, c0, c1);\n",
        tile_cols_, tile_function(rows, cols));
    out += edges("0", "left", "height", "c0, c1", false) + edges("ow0", "OW", "height", "c0, c1", false);
    return out + "} else {\n" + edges("0", "OW", "height", "c0, c1", false) + "}\n";
  }

  std::string main_function() {
    const int64_t full = spec_.channels / lanes_ * lanes_, rest = spec_.channels - full;
    std::string out;
    append(out,
           "extern \"C\" void {}(char* const* p, const i64* s, i64 begin, i64 end) {{\n{}(void)s;\nconst i64 tiles = "
           "{};\n",
           name_, constants(), row_units());
    append(out, "const {0}* w = (const {0}*)({1});\n", tile_.element(), spec_.weight);
    append(out, R"(for (i64 unit = begin; unit < end; ++unit) {{
const i64 part = unit % {0}, tile = unit / {0} % tiles, n = unit / {0} / tiles;
const i64 c0 = {1} * part / {0} * {2}, c1 = {1} * (part + 1) / {0} * {2};
const {3}* x = (const {3}*)({4}) + n * {5};
)",
           channel_blocks_, full / lanes_, lanes_, tile_.element(), spec_.input, spec_.batch_stride.text);
    if (fixed_)
      append(out, "const i64 oh0 = OH * tile / tiles, height = OH * (tile + 1) / tiles - oh0;\n(void)height;\n");
    else
      append(out, "const i64 oh0 = tile * {0}, height = OH - oh0 < {0} ? OH - oh0 : {0};\n", tile_rows_);
    if (full) out += fixed_ ? fixed_rows() : dynamic_rows();
    if (!full) out += "(void)c0, (void)c1;\n";
    if (rest) {
      if (channel_blocks_ > 1) append(out, "if (part == {})\n", channel_blocks_ - 1);
      out += edges("0", "OW", "height", format("{}, {}", full, rest), true);
    }
    return out + "}\n}\n";
  }

  const DepthwiseSpec& spec_;
  std::string name_;
  Tile tile_;
  int lanes_ = 16, tile_rows_ = 2, tile_cols_ = 7;
  int64_t channel_blocks_ = 1;
  bool fixed_ = false, unrolled_ = true, direct_ = true, uses_finish_ = false;
  std::vector<Span> rows_, cols_;
  std::map<std::string, std::string> functions_;
};

}  // namespace

KernelText emit_depthwise(const DepthwiseSpec& spec, const std::string& name) { return Depthwise(spec, name).emit(); }

}  // namespace toroid::emit
