// Attention by blocks of keys: S = Q K^T (K packed once a block), online softmax, O = O * alpha + P V. Few rows
// (decode) read K in memory order instead of packing it.
#include "emit/cpu/attention.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/check.h"
#include "base/text.h"

namespace toroid::emit {
namespace {

constexpr double log2_e = 1.4426950408889634;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

class Attention {
 public:
  Attention(const AttentionSpec& spec, std::string name)
      : spec_(spec), name_(std::move(name)), tile_{name_, spec.isa, DType::f32}, lanes_(spec.isa.lanes) {
    TD_CHECK(spec.dtype == DType::f32 || spec.dtype == DType::bf16, "attention of {}", dtype_name(spec.dtype));
    TD_CHECK(spec.heads % spec.kv_heads == 0, "{} heads share {}", spec.heads, spec.kv_heads);
    halves_ = spec.dtype == DType::bf16;
    group_ = spec.heads / spec.kv_heads;
    panel_ = spec.isa.wide() ? 64 : 2 * lanes_;
    dim_ = round_up(spec.dim, lanes_);
    value_dim_ = round_up(spec.value_dim, lanes_);
    decode_ = spec.rows.known() && (spec.rows.value == 1 || (spec.rows.value <= 4 && !spec.causal)) &&
              group_ * spec.rows.value <= 64;
    limit_ = decode_ ? 4 : 6;
    choose_blocks();
  }

  KernelText emit() {
    const std::string body = main_function();
    KernelText out;
    append(out.text, "typedef i32 {}_ints __attribute__((vector_size({})));\n", name_, 4 * lanes_);
    out.text += tile_.helpers();
    if (spec_.modify_score) out.text += modify_function();
    out.text += exponential_function() + mask_function() + finish_function();
    if (!decode_) out.text += pack_function();
    for (const auto& [key, text] : functions_) out.text += text;
    out.text += body;
    out.units = decode_ ? format("(({}) * {})", spec_.batch.text, spec_.kv_heads)
                        : format("(({}) * {} * ({}))", spec_.batch.text, spec_.heads, blocks_text_);
    out.flops = format("({} * ({}) * {} * ({}) * ({}) * {})", spec_.causal ? "1.0" : "2.0", spec_.batch.text,
                       spec_.heads, spec_.rows.text, spec_.keys.text, spec_.dim + spec_.value_dim);
    const double keys = spec_.keys.known() ? static_cast<double>(spec_.keys.value) : 256;
    const double work =
        2 * keys * static_cast<double>((spec_.dim + spec_.value_dim) * (decode_ ? unit_rows_ : block_rows_));
    out.grain = std::max<int64_t>(1, static_cast<int64_t>(200e3 / std::max(1.0, work)));
    return out;
  }

 private:
  void choose_blocks() {
    const int64_t wide = std::max(dim_, value_dim_);
    block_keys_ = decode_ ? (wide <= 128 ? 512 : 128) : wide <= 64 ? 256 : wide <= 128 ? 128 : 64;
    if (spec_.keys.known()) block_keys_ = std::min(block_keys_, round_up(std::max<int64_t>(1, spec_.keys.value), 64));
    if (decode_) {
      unit_rows_ = group_ * spec_.rows.value;
      blocks_text_ = "1";
      return;
    }
    const int64_t most = std::clamp<int64_t>((96 << 10) / (4 * (dim_ + value_dim_)), 24, 192);
    if (!spec_.rows.known()) {
      block_rows_ = std::min<int64_t>(most, 96) / 6 * 6;
      blocks_text_ = format("(({} + {}) / {})", spec_.rows.text, block_rows_ - 1, block_rows_);
    } else {
      const int64_t rows = std::max<int64_t>(1, spec_.rows.value);
      const int64_t others = spec_.heads * (spec_.batch.known() ? spec_.batch.value : 1);
      int64_t blocks = ceil_div(rows, most);
      if (blocks * others < 16) blocks = std::max(blocks, std::min(ceil_div(16, others), rows / 48));
      blocks_ = blocks;
      blocks_text_ = std::to_string(blocks);
      block_rows_ = ceil_div(rows, blocks);
    }
    unit_rows_ = block_rows_;
  }

  std::vector<int> heights() const {
    std::set<int> out;
    if (decode_) return tile_heights(unit_rows_, limit_);
    if (!spec_.rows.known()) return {1, 2, 3, 4, 5, 6};
    for (int64_t b = 0; b < blocks_; ++b)
      for (int h : tile_heights(spec_.rows.value * (b + 1) / blocks_ - spec_.rows.value * b / blocks_, limit_))
        out.insert(h);
    return {out.begin(), out.end()};
  }

  std::string element() const { return halves_ ? "u16" : "f32"; }
  std::string load(const std::string& pointer, const std::string& count = "") const {
    return format("load_{}({}{}{})", halves_ ? "bf16" : "f32", pointer, count.empty() ? "" : ", ", count);
  }
  // Scores are kept times log2 e, folded into q; with a modifier they are natural, and the factor comes with the
  // exponent.
  bool natural() const { return static_cast<bool>(spec_.modify_score); }
  std::string to_exponent(const std::string& x) const {
    return natural() ? format("({}) * {}f", x, static_cast<float>(log2_e)) : x;
  }

  // c[rows][vectors] (= or, with alpha, c * alpha +) a[rows][k] * b[k][...]. `masked` is the count of lanes of the last
  // vector.
  std::string product_function(int rows, int vectors, bool accumulate, int masked) {
    const std::string key =
        format("{}_{}{}x{}{}", name_, accumulate ? "pv" : "qk", rows, vectors, masked ? format("m{}", masked) : "");
    const auto [at, added] = functions_.try_emplace(key);
    if (!added) return key;
    std::string& out = at->second;
    append(out,
           "static __attribute__((noinline)) void {}(const f32* a, i64 lda, const f32* b, i64 ldb, f32* c, i64 ldc, "
           "i64 k{}) {{\n",
           key, accumulate ? ", const f32* alpha" : "");
    out += tile_.accumulators(rows, vectors);
    // The sums of one block of keys join those before it at the end: shorter running sums, smaller errors.
    const bool apart = accumulate && !(spec_.keys.known() && spec_.keys.value <= block_keys_);
    if (accumulate && !apart) {
      out += "if (alpha) {\n";
      for (int i = 0; i < rows; ++i) {
        append(out, "{{ const vf32 x = splat_f32(alpha[{}]);", i);
        for (int j = 0; j < vectors; ++j)
          append(out, " c{0}_{1} = x * load_f32(c + {0} * ldc + {2});", i, j, lanes_ * j);
        out += " }\n";
      }
      out += "}\n";
    }
    for (int i = 0; i < rows; i += 3) append(out, "const f32* a{0} = a + {0} * lda;\n", i);
    out += "for (i64 w = 0; w < k; ++w, b += ldb) {\n";
    std::vector<std::string> names;
    for (int j = 0; j < vectors; ++j) {
      append(out, "vf32 b{} = load_f32(b + {}{});\n", j, lanes_ * j,
             masked && j == vectors - 1 ? format(", {}", masked) : "");
      names.push_back(format("b{}", j));
    }
    out += tile_.pin(names, rows * vectors);
    std::vector<std::string> words;
    for (int i = 0; i < rows; ++i)
      words.push_back(tile_.word(i % 3 ? format("a{} + w + {} * lda", i / 3 * 3, i % 3) : format("a{} + w", i)));
    out += tile_.multiply(0, vectors, words, false);
    out += "}\n";
    if (apart) {
      out += "if (alpha) {\n";
      for (int i = 0; i < rows; ++i) {
        append(out, "{{ const vf32 x = splat_f32(alpha[{}]);", i);
        for (int j = 0; j < vectors; ++j)
          append(out, " c{0}_{1} = mad(x, load_f32(c + {0} * ldc + {2}), c{0}_{1});", i, j, lanes_ * j);
        out += " }\n";
      }
      out += "}\n";
    }
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < vectors; ++j) append(out, "store_f32(c + {0} * ldc + {2}, c{0}_{1});\n", i, j, lanes_ * j);
    out += "}\n";
    return key;
  }

  // `rows` dot products along the dimension with all of n keys in memory order.
  std::string dot_function(int rows) {
    const std::string key = format("{}_dot{}", name_, rows);
    const auto [at, added] = functions_.try_emplace(key);
    if (!added) return key;
    std::string& out = at->second;
    const int wide = rows == 3 ? 4 : rows, cols = lanes_ / wide;
    const int64_t full = spec_.dim / lanes_ * lanes_, rest = spec_.dim - full;
    append(out, "static __attribute__((noinline)) void {}(const f32* q, const {}* k, i64 k_row, i64 n, f32* c) {{\n",
           key, element());
    append(out, "for (i64 x = 0; x < n; x += {}) {{\n", cols);
    out += tile_.accumulators(wide, cols);
    for (int j = 0; j < cols; ++j)
      append(out, "const {0}* k{1} = k + (x + {1} < n ? x + {1} : n - 1) * k_row;\n", element(), j);
    auto part = [&](const std::string& d, const std::string& count) {
      for (int i = 0; i < wide; ++i)
        append(out, "const vf32 q{0} = load_f32(q + {1} + {2});\n", i, std::min(i, rows - 1) * dim_, d);
      for (int j = 0; j < cols; ++j) {
        append(out, "{{ vf32 y = {};\n", load(format("k{} + {}", j, d), count));
        if (wide > 1) out += tile_.pin({"y"});
        for (int i = 0; i < wide; ++i) append(out, "c{0}_{1} = mad(q{0}, y, c{0}_{1});\n", i, j);
        out += "}\n";
      }
    };
    if (full) {
      append(out, "for (i64 d = 0; d < {}; d += {}) {{\n", full, lanes_);
      part("d", "");
      out += "}\n";
    }
    if (rest) {
      out += "{\n";
      part(std::to_string(full), std::to_string(rest));
      out += "}\n";
    }
    std::vector<std::string> names;
    for (int i = 0; i < wide; ++i)
      for (int j = 0; j < cols; ++j) names.push_back(format("c{}_{}", i, j));
    out += sum_lanes(names, lanes_);
    if (wide == 1) {
      append(out, "store_f32(c + x, {});\n}}\n}}\n", names[0]);
    } else {
      append(out, "f32 r[{}];\nstore_f32(r, {});\n", lanes_, names[0]);
      append(out,
             "for (i64 i = 0; i < {}; ++i) for (i64 j = 0; j < {}; ++j) c[i * {} + x + j] = r[i * {} + j];\n}}\n}}\n",
             rows, cols, block_keys_, cols);
    }
    return key;
  }

  // Scores [rows][block_keys_] through the caller's modifier.
  std::string modify_function() const {
    std::string out;
    append(out,
           "static __attribute__((noinline)) void {}_modify(char* const* p, const i64* s, f32* c, i64 rows, i64 b, i64 "
           "h0, i64 row0, i64 key0, i64 n) "
           "{{\n(void)p, (void)s, (void)b, (void)h0, (void)row0, (void)key0;\n",
           name_);
    out += spec_.preamble;
    out += "for (i64 i = 0; i < rows; ++i) {\n";
    if (decode_)
      append(out, "const i64 h = h0 + (row0 + i) / {0}, row = (row0 + i) % {0};\n", spec_.rows.value);
    else
      out += "const i64 h = h0, row = row0 + i;\n";
    append(out,
           "(void)h, (void)row;\ni64 x = 0;\nfor (; x + {0} <= n; x += {0}) {{\nconst i64 key = key0 + "
           "x;\n(void)key;\nvf32 acc = load_f32(c + i * {1} + x);\n",
           lanes_, block_keys_);
    const std::vector<std::string> index = {"b", "h", "row", "key"};
    append(out, "{}store_f32(c + i * {} + x, acc);\n}}\n", spec_.modify_score("acc", index, ""), block_keys_);
    if (!(spec_.keys.known() && spec_.keys.value % lanes_ == 0 && !spec_.causal)) {
      append(
          out,
          "if (x < n) {{\nconst i64 key = key0 + x, count = n - x;\n(void)key;\nvf32 acc = load_f32(c + i * {} + x);\n",
          block_keys_);
      append(out, "{}store_f32(c + i * {} + x, acc);\n}}\n", spec_.modify_score("acc", index, "count"), block_keys_);
    }
    return out + "}\n}\n";
  }

  // Scores of columns from `valid` on become -inf.
  std::string mask_function() const {
    return format(R"(static inline void {0}_mask(f32* c, i64 vectors, i64 valid) {{
if (valid < 0) valid = 0;
for (i64 v = valid / {1}; v < vectors; ++v) {{
const {0}_ints lane = {0}_ints{{{2}}} + (i32)(v * {1});
const vf32 x = load_f32(c + v * {1});
store_f32(c + v * {1}, lane < (i32)valid ? x : splat_f32(-__builtin_inff()));
}}
}}
)",
                  name_, lanes_, lane_list());
  }
  // 2^x for x <= 0 (and -inf): degree 5, 9e-8, three operations fewer than the general function.
  std::string exponential_function() const {
    const std::string head = format("static inline vf32 {}_exp2(vf32 x) {{\n", name_);
    if (!spec_.isa.wide()) return head + "return exp2(x);\n}\n";
    return head + R"(const vf32 least = splat_f32(-200.0f);
x = least > x ? least : x;
#ifdef __clang__
const vf32 n = __builtin_elementwise_rint(x);
#else
const vf32 n = __builtin_ia32_rndscaleps_mask(x, 8, x, (u16)-1, 4);
#endif
const vf32 r = x - n;
vf32 y = mad(r, splat_f32(1.32647e-3f), splat_f32(9.67151e-3f));
y = mad(r, y, splat_f32(5.550734e-2f));
y = mad(r, y, splat_f32(2.4022242e-1f));
y = mad(r, y, splat_f32(6.9314698e-1f));
y = mad(r, y, splat_f32(1.0f));
return __builtin_ia32_scalefps512_mask(y, n, y, (u16)-1, 4);
}
)";
  }
  std::string lane_list() const {
    std::string out;
    for (int i = 0; i < lanes_; ++i) append(out, "{}{}", i ? ", " : "", i);
    return out;
  }

  // One block's scores of some rows: new maxima m, exponentials in place, sums l (a vector a row), rescale factors
  // alpha. Row r sees columns < min(n, first + r * step).
  std::string softmax_function(int rows) {
    const std::string key = format("{}_softmax{}", name_, rows);
    const auto [at, added] = functions_.try_emplace(key);
    if (!added) return key;
    std::string& out = at->second;
    append(out,
           "static __attribute__((noinline)) void {}(f32* c, i64 vectors, i64 n, i64 first, f32* m, f32* l, f32* "
           "alpha) {{\n",
           key);
    append(out,
           "for (i64 i = 0; i < {}; ++i) {{\nconst i64 valid = {};\nif (valid < vectors * {}) {}_mask(c + i * {}, "
           "vectors, valid);\n}}\n",
           rows, spec_.causal ? (decode_ ? "first < n ? first : n" : "first + i < n ? first + i : n") : "n", lanes_,
           name_, block_keys_);
    out += "(void)first;\n";
    for (int i = 0; i < rows; ++i) append(out, "vf32 x{} = splat_f32(-__builtin_inff());\n", i);
    append(out, "for (i64 v = 0; v < vectors * {0}; v += {0}) {{\n", lanes_);
    // The comparison keeps a nan out of the maximum; it comes back with the exponential.
    for (int i = 0; i < rows; ++i)
      append(out, "{{ const vf32 y = load_f32(c + {0} + v); x{1} = y > x{1} ? y : x{1}; }}\n", i * block_keys_, i);
    out += "}\n";
    for (int i = 0; i < rows; ++i) {
      append(out, "f32 m{0} = hmax(x{0});\nif (m[{0}] > m{0}) m{0} = m[{0}];\n", i);
      append(out, "const f32 base{0} = m{0} > -__builtin_inff() ? m{0} : 0.0f;\n", i);
      append(out, "const f32 a{0} = {1};\nalpha[{0}] = a{0}, m[{0}] = m{0}, x{0} = splat_f32(base{0});\n", i,
             format("{}_exp2(splat_f32({}))[0]", name_, to_exponent(format("m[{0}] - base{0}", i))));
      append(out, "vf32 l{0} = load_f32(l + {1}) * splat_f32(a{0});\n", i, i * lanes_);
    }
    append(out, "for (i64 v = 0; v < vectors * {0}; v += {0}) {{\n", lanes_);
    for (int i = 0; i < rows; ++i)
      append(out, "{{ const vf32 y = {3}_exp2({2}); store_f32(c + {0} + v, y); l{1} = l{1} + y; }}\n", i * block_keys_,
             i, to_exponent(format("load_f32(c + {} + v) - x{}", i * block_keys_, i)), name_);
    out += "}\n";
    for (int i = 0; i < rows; ++i) append(out, "store_f32(l + {}, l{});\n", i * lanes_, i);
    out += "}\n";
    return key;
  }

  // Keys [n][dim] as panels [block_keys_ / panel_][dim][panel_].
  std::string pack_function() const {
    std::string out;
    append(out, "static __attribute__((noinline)) void {}_pack(const {}* k, i64 k_row, i64 n, f32* o) {{\n", name_,
           element());
    append(out, "for (i64 x = 0; x < n; x += {}) {{\nf32* const to = o + x / {} * {} + x % {};\n", lanes_, panel_,
           panel_ * spec_.dim, panel_);
    for (int i = 0; i < lanes_; ++i)
      append(out, "const {0}* r{1} = k + (x + {1} < n ? x + {1} : n - 1) * k_row;\n", element(), i);
    const int64_t full = spec_.dim / lanes_ * lanes_, rest = spec_.dim - full;
    if (full) {
      append(out, "for (i64 d = 0; d < {}; d += {}) {{\n", full, lanes_);
      for (int i = 0; i < lanes_; ++i) append(out, "vf32 x{} = {};\n", i, load(format("r{} + d", i)));
      out += transpose_rows("x", lanes_);
      for (int i = 0; i < lanes_; ++i) append(out, "store_f32(to + (d + {}) * {}, x{});\n", i, panel_, i);
      out += "}\n";
    }
    if (rest) {
      out += "{\n";
      for (int i = 0; i < lanes_; ++i)
        append(out, "vf32 x{} = {};\n", i, load(format("r{} + {}", i, full), std::to_string(rest)));
      out += transpose_rows("x", lanes_);
      for (int i = 0; i < rest; ++i) append(out, "store_f32(to + {}, x{});\n", (full + i) * panel_, i);
      out += "}\n";
    }
    return out + "}\n}\n";
  }

  // Rows of a unit: divided by their sums, through the epilogue.
  std::string finish_function() const {
    std::string out;
    append(out,
           "static __attribute__((noinline)) void {}_finish(char* const* p, const i64* s, const f32* o, const f32* l, "
           "i64 rows, i64 b, i64 h0, i64 "
           "row0) {{\n(void)p, (void)s, (void)b, (void)h0, (void)row0;\n",
           name_);
    out += spec_.preamble;
    out += "for (i64 i = 0; i < rows; ++i) {\n";
    if (decode_)
      append(out, "const i64 h = h0 + i / {0}, row = i % {0};\n", spec_.rows.value);
    else
      out += "const i64 h = h0, row = row0 + i;\n";
    append(out, "(void)h, (void)row;\nconst f32 sum = hsum(load_f32(l + i * {}));\nconst vf32 z = splat_f32({});\n",
           lanes_, spec_.zero_masked_rows ? "sum == 0.0f ? 0.0f : 1.0f / sum" : "1.0f / sum");
    const int64_t full = spec_.value_dim / lanes_ * lanes_, rest = spec_.value_dim - full;
    if (full)
      append(out, "for (i64 d = 0; d < {}; d += {}) {{\nvf32 acc = load_f32(o + i * {} + d) * z;\n{}}}\n", full, lanes_,
             value_dim_, spec_.epilogue("acc", {"b", "h", "row", "d"}, ""));
    if (rest)
      append(out, "{{\nconst i64 d = {}, count = {};\n(void)count;\nvf32 acc = load_f32(o + i * {} + d) * z;\n{}}}\n",
             full, rest, value_dim_, spec_.epilogue("acc", {"b", "h", "row", "d"}, "count"));
    return out + "}\n}\n";
  }

  // Scores of rows [i, i + height) against nn keys of the block.
  std::string score_calls(int rows) {
    if (decode_) return format("{}(q + i * {}, kb, k_row, nn, c);\n", dot_function(rows), dim_);
    // Whole panels, then single vectors.
    std::string out;
    append(out,
           "i64 x = 0;\nfor (; x + {0} <= nn; x += {0}) {1}(q + i * {2}, {2}, pack + x * {3}, {0}, c + x, {4}, {3});\n",
           panel_, product_function(rows, static_cast<int>(panel_) / lanes_, false, 0), dim_, spec_.dim, block_keys_);
    append(out,
           "for (; x < nn; x += {0}) {1}(q + i * {2}, {2}, pack + x / {3} * {4} + x % {3}, {3}, c + x, {5}, {6});\n",
           lanes_, product_function(rows, 1, false, 0), dim_, panel_, panel_ * spec_.dim, block_keys_, spec_.dim);
    return out;
  }

  std::string value_calls(int rows) {
    std::string out;
    const int slice = spec_.isa.wide() ? 64 : 2 * lanes_;
    const int64_t width = halves_ ? value_dim_ : spec_.value_dim, full = width / slice * slice, rest = width - full;
    const std::string arguments = format("(c, {}, vb + x, vb_row, o + i * {} + x, {}, nn, k0 ? alpha : nullptr);\n",
                                         block_keys_, value_dim_, value_dim_);
    if (full)
      append(out, "for (i64 x = 0; x < {}; x += {}) {}{}", full, slice, product_function(rows, slice / lanes_, true, 0),
             arguments);
    if (rest)
      append(out, "{{ const i64 x = {};\n{}{}}}\n", full,
             product_function(rows, static_cast<int>(ceil_div(rest, lanes_)), true, static_cast<int>(rest % lanes_)),
             arguments);
    return out;
  }

  std::string main_function() {
    const int64_t rows = unit_rows_;
    std::string out;
    append(out,
           "extern \"C\" void {}(char* const* p, const i64* s, i64 begin, i64 end) {{\n(void)s;\nconst i64 M = {}, T = "
           "{};\n(void)M;\n",
           name_, spec_.rows.text, spec_.keys.text);
    append(out, "const i64 k_row = {}, v_row = {}, q_row = {};\n", spec_.k_row.text, spec_.v_row.text,
           spec_.q_row.text);
    append(out, "alignas(64) f32 q[{}], c[{}], o[{}], l[{}], m[{}], alpha[8];\n", rows * dim_, limit_ * block_keys_,
           rows * value_dim_, rows * lanes_, rows);
    if (!decode_) append(out, "alignas(64) f32 pack[{}];\n", block_keys_ * spec_.dim);
    if (halves_) append(out, "alignas(64) f32 values[{}];\n", block_keys_ * value_dim_);
    out += "for (i64 unit = begin; unit < end; ++unit) {\n";
    if (decode_) {
      append(out, "const i64 g = unit % {0}, b = unit / {0}, h0 = g * {1}, row0 = 0, rows = {2};\n(void)row0;\n",
             spec_.kv_heads, group_, rows);
    } else {
      append(out,
             "const i64 blocks = {0}, block = unit % blocks, h0 = unit / blocks % {1}, b = unit / blocks / {1}, g = h0 "
             "/ {2};\n",
             blocks_text_, spec_.heads, group_);
      if (spec_.rows.known())
        out += "const i64 row0 = M * block / blocks, rows = M * (block + 1) / blocks - row0;\n";
      else
        append(out, "const i64 row0 = block * {0}, rows = M - row0 < {0} ? M - row0 : {0};\n", block_rows_);
    }
    for (const char* name : {"k", "v"})
      append(out, "const {0}* {1} = (const {0}*)({2}) + b * {3} + g * {4};\n", element(), name,
             name[0] == 'k' ? spec_.k : spec_.v, name[0] == 'k' ? spec_.k_batch.text : spec_.v_batch.text,
             name[0] == 'k' ? spec_.k_head.text : spec_.v_head.text);
    // The rows of q, scaled.
    const double scale = natural() ? spec_.scale : spec_.scale * log2_e;
    const std::string h = decode_ ? format("(h0 + i / {})", spec_.rows.value) : "h0";
    const std::string row = decode_ ? format("i % {}", spec_.rows.value) : "(row0 + i)";
    append(
        out,
        "for (i64 i = 0; i < rows; ++i) {{\nconst {0}* from = (const {0}*)({1}) + b * {2} + {3} * {4} + {5} * q_row;\n",
        element(), spec_.q, spec_.q_batch.text, h, spec_.q_head.text, row);
    const int64_t full = spec_.dim / lanes_ * lanes_, rest = spec_.dim - full;
    const std::string factor = float_text(static_cast<double>(static_cast<float>(scale))) + "f";
    if (full)
      append(out, "for (i64 d = 0; d < {0}; d += {1}) store_f32(q + i * {2} + d, {3} * splat_f32({4}));\n", full,
             lanes_, dim_, load("from + d"), factor);
    if (rest)
      append(out, "store_f32(q + i * {} + {}, {} * splat_f32({}));\n", dim_, full,
             load(format("from + {}", full), std::to_string(rest)), factor);
    append(out, "m[i] = -__builtin_inff();\nstore_f32(l + i * {}, splat_f32(0.0f));\n", lanes_);
    append(out, "for (i64 d = 0; d < {0}; d += {1}) store_f32(o + i * {0} + d, splat_f32(0.0f));\n}}\n", value_dim_,
           lanes_);
    // Blocks of keys.
    std::string last = "T";
    if (spec_.causal) last = decode_ ? "(T < 1 ? T : 1)" : "(row0 + rows < T ? row0 + rows : T)";
    append(out, "const i64 last = {};\nfor (i64 k0 = 0; k0 < last; k0 += {}) {{\n", last, block_keys_);
    append(out, "const i64 n = last - k0 < {0} ? last - k0 : {0};\nconst {1}* kb = k + k0 * k_row;\n", block_keys_,
           element());
    if (!decode_) append(out, "{}_pack(kb, k_row, n, pack);\n", name_);
    if (halves_) {
      append(out, "for (i64 x = 0; x < n; ++x) {{\nconst u16* from = v + (k0 + x) * v_row;\n");
      const int64_t whole = spec_.value_dim / lanes_ * lanes_, left = spec_.value_dim - whole;
      if (whole)
        append(out, "for (i64 d = 0; d < {0}; d += {1}) store_f32(values + x * {2} + d, load_bf16(from + d));\n", whole,
               lanes_, value_dim_);
      if (left)
        append(out, "store_f32(values + x * {} + {}, load_bf16(from + {}, {}));\n", value_dim_, whole, whole, left);
      append(out, "}}\nconst f32* vb = values;\nconst i64 vb_row = {};\n", value_dim_);
    } else {
      out += "const f32* vb = v + k0 * v_row;\nconst i64 vb_row = v_row;\n";
    }
    append(out, "const i64 tiles = (rows + {0}) / {1};\nfor (i64 tile = 0; tile < tiles; ++tile) {{\n", limit_ - 1,
           limit_);
    out +=
        "const i64 i = rows * tile / tiles, height = rows * (tile + 1) / tiles - i;\n(void)height;\ni64 nn = n, first "
        "= n;\n";
    if (spec_.causal && !decode_)
      out +=
          "first = row0 + i + 1 - k0;\nif (first + height - 1 <= 0) continue;\nif (first + height - 1 < nn) nn = first "
          "+ height - 1;\n";
    append(out, "const i64 vectors = (nn + {}) / {};\n", lanes_ - 1, lanes_);
    const std::vector<int> all = heights();
    const bool one = all.size() == 1;
    if (!one) out += "switch (height) {\n";
    for (int height : all) {
      out += one ? "{\n" : format("case {}: {{\n", height);
      out += score_calls(height);
      if (spec_.modify_score)
        append(out, "{}_modify(p, s, c, {}, b, h0, {}, k0, nn);\n", name_, height, decode_ ? "i" : "row0 + i");
      append(out, "{}(c, vectors, nn, first, m + i, l + i * {}, alpha);\n", softmax_function(height), lanes_);
      out += value_calls(height) + (one ? "}\n" : "break; }\n");
    }
    if (!one) out += "}\n";
    append(out, "}}\n}}\n{}_finish(p, s, o, l, rows, b, h0, row0);\n", name_);
    return out + "}\n}\n";
  }

  const AttentionSpec& spec_;
  std::string name_;
  Tile tile_;
  int lanes_ = 16, limit_ = 6;
  int64_t group_ = 1, panel_ = 64, dim_ = 64, value_dim_ = 64, block_keys_ = 256, block_rows_ = 96, unit_rows_ = 96,
          blocks_ = 1;
  bool halves_ = false, decode_ = false;
  std::string blocks_text_;
  std::map<std::string, std::string> functions_;
};

}  // namespace

KernelText emit_attention(const AttentionSpec& spec, const std::string& name) { return Attention(spec, name).emit(); }

}  // namespace toroid::emit
