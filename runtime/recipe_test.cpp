// Recipes against plain loops: packing, arithmetic, views, rounding; the way back; JSON and its mistakes.
#include "recipe.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "convert.h"
#include "pack.h"

namespace toroid::runtime {
namespace {

std::vector<int64_t> dense(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t d = sizes.size(); d-- > 0;) strides[d] = step, step *= sizes[d];
  return strides;
}

RecipeStep load(int32_t weight) { return {.op = RecipeOp::load, .weight = weight}; }

// One f32 weight per entry; runs `steps` into a constant of `dtype` with `count` elements.
struct Case {
  std::vector<std::vector<float>> data;
  std::vector<std::vector<int64_t>> sizes;
  Recipes recipes;
  std::string error;

  void add(std::vector<int64_t> s) {
    const int64_t count = std::accumulate(s.begin(), s.end(), int64_t{1}, std::multiplies<>());
    std::vector<float> values(count);
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>((i * 37 + 11) % 101) / 8 - 3;
    recipes.weights.push_back({"w" + std::to_string(data.size()), TD_F32, s, dense(s), 0, 1});
    data.push_back(std::move(values));
    sizes.push_back(std::move(s));
  }
  RecipeConstant constant(std::vector<RecipeStep> steps, int64_t bytes, int32_t dtype = TD_F32) {
    return {0, bytes, dtype, {}, std::move(steps)};
  }
  std::vector<char> run(const RecipeConstant& c) {
    std::vector<std::vector<int64_t>> strides;
    for (const auto& s : sizes) strides.push_back(dense(s));
    std::vector<RecipeSource> sources;
    for (size_t i = 0; i < data.size(); ++i) sources.push_back({data[i].data(), strides[i]});
    std::vector<char> out(c.bytes, 0x55);
    error.clear();
    if (!run_recipe(recipes, c, sources, out.data(), error)) out.clear();
    return out;
  }
};

std::vector<float> floats(const std::vector<char>& bytes) {
  std::vector<float> out(bytes.size() / 4);
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST(Recipe, packs_any_matrix_of_any_group) {
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{64, 32}, {128, 7}, {1, 1}, {70, 33}, {16, 5}, {130, 64}, {63, 18}})
    for (int32_t group : {1, 2, 4})
      for (int64_t bytes : {1, 2, 4})
        for (bool turned : {false, true}) {
          std::vector<uint8_t> data(n * k * bytes);
          for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 31 + 1);
          const int64_t sn = turned ? 1 : k, sk = turned ? n : 1;
          std::vector<uint8_t> out(packed_bytes(n, k, group, bytes), 0xee);
          pack_matrix(reinterpret_cast<const char*>(data.data()), n, k, sn, sk, group, bytes,
                      reinterpret_cast<char*>(out.data()));
          std::vector<uint8_t> expected;
          for (int64_t first = 0; first < n; first += 64) {
            const int64_t width = std::min<int64_t>(64, (n - first + 15) / 16 * 16);
            for (int64_t u = 0; u < (k + group - 1) / group; ++u)
              for (int64_t r = 0; r < width; ++r)
                for (int64_t t = 0; t < group; ++t)
                  for (int64_t b = 0; b < bytes; ++b) {
                    const bool inside = first + r < n && u * group + t < k;
                    expected.push_back(inside ? data[((first + r) * sn + (u * group + t) * sk) * bytes + b] : 0);
                  }
          }
          ASSERT_EQ(out, expected) << n << "x" << k << " group " << group << " bytes " << bytes << " turned " << turned;
          std::vector<uint8_t> back(n * k * bytes), plain(n * k * bytes);
          unpack_matrix(reinterpret_cast<const char*>(out.data()), n, k, group, bytes,
                        reinterpret_cast<char*>(back.data()));
          for (int64_t r = 0; r < n; ++r)
            for (int64_t i = 0; i < k; ++i)
              std::memcpy(&plain[(r * k + i) * bytes], &data[(r * sn + i * sk) * bytes], bytes);
          ASSERT_EQ(back, plain);
        }
}

// Any range of the bytes by itself, of a matrix whose rows come in pieces, is what packing the whole gives there.
TEST(Recipe, packs_ranges_of_rows_in_pieces) {
  std::mt19937 random(1);
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{192, 40}, {150, 7}, {70, 129}, {20, 5}})
    for (const auto& [group, bytes] : {std::pair<int32_t, int64_t>{1, 4}, {2, 2}, {4, 1}, {1, 8}})
      for (bool turned : {false, true}) {
        std::vector<char> data(n * k * bytes);
        for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(random());
        const int64_t sn = turned ? 1 : k, sk = turned ? n : 1, total = packed_bytes(n, k, group, bytes);
        std::vector<char> whole(total, 1);
        pack_matrix(data.data(), n, k, sn, sk, group, bytes, whole.data());
        const int64_t cut = n / 3, cut2 = n / 3 + 1;
        const PackRows rows[] = {{data.data(), cut, sn, sk},
                                 {data.data() + cut * sn * bytes, cut2 - cut, sn, sk},
                                 {data.data() + cut2 * sn * bytes, n - cut2, sn, sk}};
        std::vector<char> part(total, 2);
        pack_range(rows, k, group, bytes, 0, total, part.data());
        ASSERT_EQ(part, whole);
        for (int trial = 0; trial < 60; ++trial) {
          const int64_t begin = random() % total, end = begin + random() % (total - begin + 1);
          std::vector<char> got(end - begin + 1, 3);
          pack_range(rows, k, group, bytes, begin, end, got.data());
          ASSERT_EQ(got.back(), 3);
          got.pop_back();
          ASSERT_EQ(got, std::vector<char>(whole.begin() + begin, whole.begin() + end))
              << n << "x" << k << " group " << group << " bytes [" << begin << ", " << end << ")";
        }
      }
}

TEST(Recipe, folds_a_batch_norm_into_a_convolution) {
  // w * (gamma / sqrt(var + eps)), broadcast over the output channel, in double, rounded once.
  Case c;
  c.add({3, 2, 2}), c.add({3}), c.add({3});
  for (float& v : c.data[2]) v = std::fabs(v) + 0.5f;
  const RecipeStep column{.op = RecipeOp::as_strided, .sizes = {3, 1, 1}, .strides = {1, 1, 1}};
  const auto out = floats(c.run(c.constant({load(0),
                                            load(1),
                                            load(2),
                                            {.op = RecipeOp::add_scalar, .value = 1e-5},
                                            {.op = RecipeOp::rsqrt},
                                            {.op = RecipeOp::mul},
                                            column,
                                            {.op = RecipeOp::mul}},
                                           48)));
  ASSERT_EQ(out.size(), 12u) << c.error;
  for (int i = 0; i < 12; ++i) {
    const double scale = c.data[1][i / 4] * (1 / std::sqrt(c.data[2][i / 4] + 1e-5));
    EXPECT_EQ(out[i], static_cast<float>(c.data[0][i] * scale));
  }
}

TEST(Recipe, views_and_concat) {
  Case c;
  c.add({4, 6}), c.add({4, 2});
  const RecipeStep turn{.op = RecipeOp::as_strided, .sizes = {6, 4}, .strides = {1, 6}};
  const RecipeStep turn2{.op = RecipeOp::as_strided, .sizes = {2, 4}, .strides = {1, 2}};
  const auto out = floats(
      c.run(c.constant({load(0), turn, load(1), turn2, {.op = RecipeOp::concat, .count = 2, .dim = 0}}, 8 * 4 * 4)));
  ASSERT_EQ(out.size(), 32u) << c.error;
  for (int64_t r = 0; r < 8; ++r)
    for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(out[r * 4 + i], r < 6 ? c.data[0][i * 6 + r] : c.data[1][i * 2 + r - 6]);
  c.run(c.constant({load(0), {.op = RecipeOp::as_strided, .sizes = {5, 6}, .strides = {6, 1}}}, 120));
  EXPECT_EQ(c.error, "as_strided reaches outside of its tensor");
  c.run(c.constant({load(0), load(1), {.op = RecipeOp::add}}, 96));
  EXPECT_EQ(c.error, "sizes do not broadcast");
  c.run(c.constant({load(0)}, 92));
  EXPECT_EQ(c.error, "a recipe's result does not fill its constant");
  c.run(c.constant({{.op = RecipeOp::rsqrt}}, 4));
  EXPECT_EQ(c.error, "a recipe takes from an empty stack");
}

TEST(Recipe, sources_may_be_strided) {
  Case c;
  c.add({2, 3});
  const std::vector<float> wide = {0, 9, 1, 9, 2, 9, 3, 9, 4, 9, 5, 9};
  const std::vector<int64_t> strides = {6, 2};
  const RecipeSource sources[] = {{wide.data(), strides}};
  std::vector<float> out(6);
  ASSERT_TRUE(run_recipe(c.recipes, c.constant({load(0)}, 24), sources, out.data(), c.error)) << c.error;
  EXPECT_EQ(out, (std::vector<float>{0, 1, 2, 3, 4, 5}));
}

// Every bf16 and f16 pattern survives a cast up and down; halves round to even.
TEST(Recipe, narrow_floats) {
  for (int32_t narrow : {TD_BF16, TD_F16}) {
    std::vector<uint16_t> all(65536), back(65536);
    std::vector<float> middle(65536);
    std::iota(all.begin(), all.end(), 0);
    auto bytes = [](auto& v) { return reinterpret_cast<char*>(v.data()); };
    copy_converted({65536}, bytes(all), narrow, {1}, bytes(middle), TD_F32, {1});
    copy_converted({65536}, bytes(middle), TD_F32, {1}, bytes(back), narrow, {1});
    for (int i = 0; i < 65536; ++i) {
      if (std::isnan(middle[i])) {
        EXPECT_TRUE(narrow == TD_BF16 ? (back[i] & 0x7fff) > 0x7f80 : (back[i] & 0x7fff) > 0x7c00);
      } else {
        ASSERT_EQ(back[i], all[i]) << narrow;
      }
    }
  }
  const float values[] = {1.00390625f, 1.01171875f, 65519.9f, 65520.f, 3.4e38f, 1e-8f, 2.98023224e-8f, 5.9604645e-8f};
  uint16_t bf16[8], f16[8];
  copy_converted({8}, reinterpret_cast<const char*>(values), TD_F32, {1}, reinterpret_cast<char*>(bf16), TD_BF16, {1});
  copy_converted({8}, reinterpret_cast<const char*>(values), TD_F32, {1}, reinterpret_cast<char*>(f16), TD_F16, {1});
  EXPECT_EQ(bf16[0], 0x3f80);
  EXPECT_EQ(bf16[1], 0x3f82);
  EXPECT_EQ(bf16[4], 0x7f80);
  EXPECT_EQ(f16[2], 0x7bff);
  EXPECT_EQ(f16[3], 0x7c00);
  EXPECT_EQ(f16[5], 0);
  EXPECT_EQ(f16[6], 0);
  EXPECT_EQ(f16[7], 1);
  // From double: rounded once, not by way of float.
  const double d = 1.00390625 + 1e-12;
  uint16_t once;
  copy_converted({1}, reinterpret_cast<const char*>(&d), TD_F64, {1}, reinterpret_cast<char*>(&once), TD_BF16, {1});
  EXPECT_EQ(once, 0x3f81);
}

// Every code of 8 bits survives a cast up and down; what is too great ends at 448, or at infinity.
TEST(Recipe, floats_of_eight_bits) {
  auto bytes = [](auto& v) { return reinterpret_cast<char*>(v.data()); };
  for (int32_t narrow : {TD_F8E4M3, TD_F8E5M2}) {
    std::vector<uint8_t> all(256), back(256);
    std::vector<float> middle(256);
    std::iota(all.begin(), all.end(), 0);
    copy_converted({256}, bytes(all), narrow, {1}, bytes(middle), TD_F32, {1});
    copy_converted({256}, bytes(middle), TD_F32, {1}, bytes(back), narrow, {1});
    int nans = 0;
    for (int i = 0; i < 256; ++i) {
      nans += std::isnan(middle[i]);
      if (!std::isnan(middle[i])) {
        ASSERT_EQ(back[i], all[i]) << narrow;
      }
    }
    EXPECT_EQ(nans, narrow == TD_F8E4M3 ? 2 : 6);
  }
  std::vector<float> values = {1.0625f, 1.1875f, 464, 465, 1e9f, -INFINITY, 0x1p-10f, 0x1.8p-10f, 61439, 61440};
  std::vector<uint8_t> e4m3(10), e5m2(10);
  copy_converted({10}, bytes(values), TD_F32, {1}, bytes(e4m3), TD_F8E4M3, {1});
  copy_converted({10}, bytes(values), TD_F32, {1}, bytes(e5m2), TD_F8E5M2, {1});
  EXPECT_EQ(e4m3, (std::vector<uint8_t>{0x38, 0x3a, 0x7e, 0x7e, 0x7e, 0xfe, 0, 1, 0x7e, 0x7e}));
  EXPECT_EQ(e5m2, (std::vector<uint8_t>{0x3c, 0x3d, 0x5f, 0x5f, 0x7c, 0xfc, 0x14, 0x16, 0x7b, 0x7c}));
}

TEST(Recipe, movement_has_a_way_back) {
  Case c;
  c.add({40, 6}), c.add({30, 6}), c.add({70});
  const RecipeConstant joined = c.constant(
      {load(0), load(1), {.op = RecipeOp::concat, .count = 2, .dim = 0}, {.op = RecipeOp::pack, .k_group = 2}},
      packed_bytes(70, 6, 2, 4));
  const std::vector<char> bytes = c.run(joined);
  ASSERT_FALSE(bytes.empty()) << c.error;
  for (int32_t w : {0, 1}) {
    std::vector<float> back(c.data[w].size());
    std::vector<uint8_t> seen(back.size());
    ASSERT_TRUE(invert_recipe(c.recipes, joined, bytes.data(), w, back.data(), seen));
    EXPECT_EQ(back, c.data[w]);
    EXPECT_EQ(seen, std::vector<uint8_t>(back.size(), 1));
  }
  // A slice tells of some elements only.
  const RecipeConstant slice =
      c.constant({load(2), {.op = RecipeOp::as_strided, .sizes = {10}, .strides = {2}, .offset = 1}}, 40);
  const std::vector<char> part = c.run(slice);
  std::vector<float> back(70);
  std::vector<uint8_t> seen(70);
  ASSERT_TRUE(invert_recipe(c.recipes, slice, part.data(), 2, back.data(), seen));
  for (int i = 0; i < 70; ++i) EXPECT_EQ(seen[i], i % 2 == 1 && i < 20);
  EXPECT_EQ(back[3], c.data[2][3]);
  const RecipeConstant folded = c.constant({load(2), {.op = RecipeOp::mul_scalar, .value = 2}}, 280);
  EXPECT_FALSE(invert_recipe(c.recipes, folded, part.data(), 2, back.data(), seen));
  // Narrowing loses; widening does not.
  EXPECT_FALSE(invert_recipe(c.recipes, c.constant({load(2)}, 140, TD_BF16), part.data(), 2, back.data(), seen));
  const RecipeConstant wide = c.constant({load(2), {.op = RecipeOp::cast, .dtype = TD_F64}}, 560, TD_F64);
  const std::vector<char> doubles = c.run(wide);
  ASSERT_TRUE(invert_recipe(c.recipes, wide, doubles.data(), 2, back.data(), seen));
  EXPECT_EQ(back, c.data[2]);
}

TEST(Recipe, json_reads_back) {
  Case c;
  c.add({3, 2}), c.add({2});
  c.recipes.constants = {
      c.constant({load(0), {.op = RecipeOp::cast, .dtype = TD_BF16}, {.op = RecipeOp::pack, .k_group = 4}}, 128,
                 TD_BF16),
      c.constant({load(0),
                  {.op = RecipeOp::as_strided, .sizes = {2, 3}, .strides = {1, 2}, .offset = 0},
                  load(1),
                  {.op = RecipeOp::concat, .count = 2, .dim = 1},
                  {.op = RecipeOp::add_scalar, .value = 0.1},
                  {.op = RecipeOp::mul_scalar, .value = -1e300},
                  {.op = RecipeOp::rsqrt},
                  load(1),
                  {.op = RecipeOp::sub},
                  {.op = RecipeOp::div}},
                 24),
      c.constant({{.op = RecipeOp::bytes}}, 8, TD_I64)};
  const std::string text = recipes_to_json(c.recipes);
  Recipes again;
  std::string error;
  ASSERT_TRUE(recipes_from_json(text, again, error)) << error;
  EXPECT_EQ(recipes_to_json(again), text);
  EXPECT_EQ(again.constants[1].steps[5].value, -1e300);
}

TEST(Recipe, json_mistakes_are_told) {
  const std::string weights = R"("weights":[{"name":"w","dtype":"f32","sizes":[2],"strides":[1],"offset":0,"kind":1}])";
  auto error_of = [&](const std::string& text) {
    Recipes recipes;
    std::string error;
    EXPECT_FALSE(recipes_from_json(text, recipes, error)) << text;
    return error;
  };
  auto constant = [&](const std::string& step) {
    return "{" + weights + R"(,"constants":[{"offset":0,"bytes":8,"dtype":"f32","sizes":[2],"steps":[)" + step + "]}]}";
  };
  EXPECT_EQ(error_of("nonsense"), "recipes: not a JSON object");
  EXPECT_EQ(error_of("[]"), "recipes: not a JSON object");
  EXPECT_EQ(error_of("{}"), "recipes: weights is missing");
  EXPECT_EQ(error_of("{\"weights\":3,\"constants\":[]}"), "recipes: weights is missing");
  EXPECT_EQ(error_of(constant("")), "recipes: a constant has no steps");
  EXPECT_EQ(error_of(constant(R"({"op":"load","weight":1})")), "recipes: weight is out of range");
  EXPECT_EQ(error_of(constant(R"({"op":"load","weight":-1})")), "recipes: weight is out of range");
  EXPECT_EQ(error_of(constant(R"({"op":"explode"})")), "recipes: unknown op `explode`");
  EXPECT_EQ(error_of(constant(R"({"op":"cast","dtype":"f33"})")), "recipes: unknown dtype `f33`");
  EXPECT_EQ(error_of(constant(R"({"op":"pack","k_group":3})")), "recipes: k_group is 1, 2 or 4");
  EXPECT_EQ(error_of(constant(R"({"op":"add_scalar"})")), "recipes: value is missing");
  EXPECT_EQ(error_of(constant(R"({"op":"as_strided","sizes":[4611686018427387904],"strides":[1],"offset":0})")),
            "recipes: sizes is out of range");
  EXPECT_EQ(error_of(constant("3")), "recipes: op is missing");
}

}  // namespace
}  // namespace toroid::runtime
