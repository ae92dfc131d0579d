// What the prelude emits, and its memory access, masks, reductions and transposes, on every target and compiler here.
#include "emit/cpu/prelude.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "emit/cpu/math_testing.h"
#include "loop/scalar.h"

namespace toroid::emit::testing {
namespace {

TEST(Prelude, OnlyWhatIsUsed) {
  const std::string relu = prelude_for("store_f32(y, max(load_f32(x), splat_f32(0.f)))", {.lanes = 16});
  EXPECT_NE(relu.find("vf32 max(vf32"), relu.npos);
  EXPECT_EQ(relu.find("vf64 max(vf64"), relu.npos);
  EXPECT_EQ(relu.find("tanh"), relu.npos);
  EXPECT_EQ(relu.find("#include"), relu.npos);
  EXPECT_LT(relu.size(), 6000u);
  const std::string wide = prelude_for("vf64 a = max(load_f64(x), load_f64(y));", {.lanes = 16});
  EXPECT_NE(wide.find("vf64 max(vf64"), wide.npos);
}

TEST(Prelude, WhatIsUsedBringsWhatItNeeds) {
  const std::string gelu = prelude(PreludeOptions{.lanes = 8}, {"gelu"});
  for (const char* needed : {"vf32 gelu(vf32", "vf32 erf(vf32", "td_odd_pieces(", "f32 td_erf[9][16]", "vf32 fma(vf32"})
    EXPECT_NE(gelu.find(needed), gelu.npos) << needed;
  EXPECT_EQ(prelude({.lanes = 8}, {"not_a_name_of_ours"}), prelude({.lanes = 8}, {}));
}

TEST(Prelude, CommentsAndNumbersAreNotNames) {
  EXPECT_EQ(prelude_for("int x = 0; // tanh(x)\n", {.lanes = 4}), prelude_for("int x = 0;\n", {.lanes = 4}));
}

struct ElementType {
  const char* name;
  size_t bytes;
};
constexpr ElementType element_types[] = {{"f32", 4},  {"f64", 8}, {"i8", 1},  {"i16", 2},    {"i32", 4},
                                         {"i64", 8},  {"u8", 1},  {"u16", 2}, {"u32", 4},    {"u64", 8},
                                         {"bf16", 2}, {"f16", 2}, {"b8", 1},  {"f8e4m3", 1}, {"f8e5m2", 1}};

// n bytes that end where unreadable memory begins.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t n) : n_(n) {
    base_ = static_cast<char*>(mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_, page, PROT_NONE);
    mprotect(base_ + 2 * page, page, PROT_NONE);
  }
  GuardedBytes(const GuardedBytes&) = delete;
  ~GuardedBytes() { munmap(base_, 3 * page); }
  char* data() { return base_ + 2 * page - n_; }
  static constexpr size_t page = 4096;

 private:
  char* base_;
  size_t n_;
};

// Values that survive a load and a store: no nan among the floats of 16 and 8 bits, 0 or 1 for b8.
void fill(char* p, size_t n, const ElementType& type, unsigned seed) {
  for (size_t i = 0; i < n; ++i) {
    uint64_t bits = (seed + i + 1) * 0x9e3779b97f4a7c15u;
    if (std::string_view(type.name) == "b8") bits = bits >> 33 & 1;
    if (std::string_view(type.name) == "f32") bits &= 0xbfffffff;
    if (std::string_view(type.name).ends_with("f16")) bits &= 0xbbff;
    if (std::string_view(type.name).starts_with("f8")) bits &= 0xbf;
    std::memcpy(p + i * type.bytes, &bits, type.bytes);
  }
}

TEST(Prelude, MemoryNeverTouchesOtherLanes) {
  std::string text;
  for (const ElementType& type : element_types)
    text += replace_all(R"(
extern "C" void whole_T(const T* p, T* y) { store_T(y, load_T(p)); }
extern "C" void first_T(const T* p, i64 n, T* y) { store_T(y, load_T(p, n), n); }
extern "C" void zeros_T(const T* p, i64 n, T* y) { store_T(y, load_T(p, n)); }
extern "C" void some_T(const T* p, const u8* m, T* y) { const vm k = load_b8(m); store_T(y, load_T(p, k), k); }
extern "C" void gather_all_T(const T* p, const i64* i, T* y) { store_T(y, gather_T(p, load_i64(i))); }
extern "C" void gather_first_T(const T* p, const i64* i, i64 n, T* y) { store_T(y, gather_T(p, load_i64(i), n)); }
extern "C" void gather_some_T(const T* p, const i64* i, const u8* m, T* y) { store_T(y, gather_T(p, load_i64(i), load_b8(m))); }
extern "C" void strided_T(const T* p, i64 s, T* y, i64 t) { store_strided_T(y, t, load_strided_T(p, s)); }
extern "C" void strided2_T(const T* p, T* y) { store_T(y, load_strided_T(p, 2)); }
extern "C" void strided_first_T(const T* p, i64 s, T* y, i64 t, i64 n) { store_strided_T(y, t, load_strided_T(p, s, n), n); }
extern "C" void strided_some_T(const T* p, i64 s, T* y, i64 t, const u8* m) { const vm k = load_b8(m); store_strided_T(y, t, load_strided_T(p, s, k), k); }
extern "C" void one_T(const T* p, T* y) { store1_T(y, load1_T(p)); }
)",
                        "T", type.name);
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    const size_t lanes = static_cast<size_t>(target.lanes);
    for (const ElementType& type : element_types) {
      SCOPED_TRACE(type.name);
      const size_t b = type.bytes;
      const auto name = [&](const char* what) { return format("{}_{}", what, type.name); };
      const auto at = [&](const char* p, size_t i) { return std::string(p + i * b, b); };
      const std::string zero(b, '\0');
      for (size_t n = 0; n <= lanes; ++n) {
        GuardedBytes in(n * b), out(n * b);
        fill(in.data(), n, type, static_cast<unsigned>(n));
        library.function<void(char*, int64_t, char*)>(name("first"))(in.data(), static_cast<int64_t>(n), out.data());
        EXPECT_EQ(std::memcmp(in.data(), out.data(), n * b), 0) << "first " << n;
        std::string all(lanes * b, '\x55');
        library.function<void(char*, int64_t, char*)>(name("zeros"))(in.data(), static_cast<int64_t>(n), all.data());
        for (size_t i = 0; i < lanes; ++i)
          EXPECT_EQ(at(all.data(), i), i < n ? at(in.data(), i) : zero) << "zeros " << n;
        // Strides 3 and 2; both ends of both arrays are guarded.
        const size_t span = n ? 3 * (n - 1) + 1 : 0, out_span = n ? 2 * (n - 1) + 1 : 0;
        GuardedBytes wide(span * b), spread(out_span * b);
        fill(wide.data(), span, type, 99);
        library.function<void(char*, int64_t, char*, int64_t, int64_t)>(name("strided_first"))(
            wide.data(), 3, spread.data(), 2, static_cast<int64_t>(n));
        for (size_t i = 0; i < n; ++i) EXPECT_EQ(at(spread.data(), 2 * i), at(wide.data(), 3 * i)) << "strided " << n;
        for (size_t i = 0; i + 1 < out_span; i += 2) EXPECT_EQ(at(spread.data(), i + 1), zero) << "between";
      }
      {
        GuardedBytes in(lanes * b), out(lanes * b);
        fill(in.data(), lanes, type, 5);
        library.function<void(char*, char*)>(name("whole"))(in.data(), out.data());
        EXPECT_EQ(std::memcmp(in.data(), out.data(), lanes * b), 0) << "whole";
        GuardedBytes wide((2 * lanes - 1) * b), spread((3 * lanes - 2) * b);
        fill(wide.data(), 2 * lanes - 1, type, 6);
        library.function<void(char*, int64_t, char*, int64_t)>(name("strided"))(wide.data(), 2, spread.data(), 3);
        library.function<void(char*, char*)>(name("strided2"))(wide.data(), out.data());
        for (size_t i = 0; i < lanes; ++i) {
          EXPECT_EQ(at(spread.data(), 3 * i), at(wide.data(), 2 * i));
          EXPECT_EQ(at(out.data(), i), at(wide.data(), 2 * i)) << "strided2";
        }
        GuardedBytes one_in(b), one_out(b);
        fill(one_in.data(), 1, type, 7);
        library.function<void(char*, char*)>(name("one"))(one_in.data(), one_out.data());
        EXPECT_EQ(at(one_in.data(), 0), at(one_out.data(), 0)) << "one";
      }
      for (unsigned pattern : {0u, 1u, 0x5555u, 0x8888u, 0x1234u, 0xffffu}) {
        char mask[16];
        size_t last = 0;
        for (size_t i = 0; i < lanes; ++i) {
          mask[i] = pattern >> i & 1;
          if (mask[i]) last = i + 1;
        }
        GuardedBytes in(last * b), out(last * b), wide((last ? 2 * last - 1 : 0) * b),
            spread((last ? 2 * last - 1 : 0) * b);
        fill(in.data(), last, type, pattern);
        fill(wide.data(), last ? 2 * last - 1 : 0, type, pattern + 1);
        library.function<void(char*, char*, char*)>(name("some"))(in.data(), mask, out.data());
        library.function<void(char*, int64_t, char*, int64_t, char*)>(name("strided_some"))(wide.data(), 2,
                                                                                            spread.data(), 2, mask);
        for (size_t i = 0; i < last; ++i) {
          EXPECT_EQ(at(out.data(), i), mask[i] ? at(in.data(), i) : zero) << "some " << pattern;
          EXPECT_EQ(at(spread.data(), 2 * i), mask[i] ? at(wide.data(), 2 * i) : zero) << "strided some " << pattern;
        }
        // Masked lanes carry an index far outside.
        GuardedBytes table(10 * b);
        fill(table.data(), 10, type, 3);
        int64_t index[16], safe[16];
        for (size_t i = 0; i < lanes; ++i) {
          safe[i] = static_cast<int64_t>((i * 7 + 3) % 10);
          index[i] = mask[i] ? safe[i] : (i & 1 ? 1ll << 40 : -(1ll << 40));
        }
        std::string y(lanes * b, '\x55');
        library.function<void(char*, int64_t*, char*, char*)>(name("gather_some"))(table.data(), index, mask, y.data());
        for (size_t i = 0; i < lanes; ++i)
          EXPECT_EQ(at(y.data(), i), mask[i] ? at(table.data(), static_cast<size_t>(safe[i])) : zero) << "gather some";
        library.function<void(char*, int64_t*, char*)>(name("gather_all"))(table.data(), safe, y.data());
        for (size_t i = 0; i < lanes; ++i) EXPECT_EQ(at(y.data(), i), at(table.data(), static_cast<size_t>(safe[i])));
        for (size_t i = 3; i < lanes; ++i) safe[i] = 1ll << 40;
        library.function<void(char*, int64_t*, int64_t, char*)>(name("gather_first"))(table.data(), safe, 3, y.data());
        for (size_t i = 0; i < lanes; ++i)
          EXPECT_EQ(at(y.data(), i), i < 3 ? at(table.data(), static_cast<size_t>(safe[i])) : zero) << "gather first";
      }
    }
  }
}

// Stores of every bf16 and of f32 from all over, and loads of every code: the bytes and values of the interpreter.
TEST(Prelude, FloatsOfEightBits) {
  std::string text;
  for (const char* type : {"f8e4m3", "f8e5m2"})
    text += replace_all(R"(
extern "C" void store_all_T(const f32* x, T* y) { store_T(y, load_f32(x)); }
extern "C" void store_one_T(const f32* x, T* y) { store1_T(y, load1_f32(x)); }
extern "C" void round_T_(const f32* x, f32* y) { store_f32(y, round_T(load_f32(x))); y[LANES] = round_T(x[0]); }
extern "C" void load_all_T(const T* x, f32* y) { store_f32(y, load_T(x)); }
extern "C" void load_one_T(const T* x, f32* y) { y[0] = load1_T(x); }
)",
                        "T", type);
  std::vector<float> numbers;
  auto add = [&](uint32_t bits) { numbers.push_back(std::bit_cast<float>(bits)); };
  for (uint32_t i = 0; i < 0x10000; ++i) add(i << 16);
  uint32_t state = 12345;
  for (int i = 0; i < 200000; ++i) add(state = state * 1664525 + 1013904223);
  // Around every tie between neighbours.
  for (uint32_t top = 0; top < 0x8000; ++top)
    for (uint32_t rest : {0x7fffu, 0x8001u, 0xffffu, 1u}) add(top << 16 | rest);
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    const auto lanes = static_cast<size_t>(target.lanes);
    for (DType dtype : {DType::f8e4m3, DType::f8e5m2}) {
      const std::string type(dtype_name(dtype));
      SCOPED_TRACE(type);
      const auto store = library.function<void(const float*, uint8_t*)>("store_all_" + type),
                 store_one = library.function<void(const float*, uint8_t*)>("store_one_" + type);
      const auto round = library.function<void(const float*, float*)>("round_" + type + "_");
      size_t wrong = 0;
      for (size_t i = 0; i + lanes <= numbers.size(); i += lanes) {
        uint8_t got[16], single, want;
        float rounded[17];
        store(&numbers[i], got);
        store_one(&numbers[i], &single);
        round(&numbers[i], rounded);
        for (size_t k = 0; k < lanes; ++k) {
          store_scalar(reinterpret_cast<std::byte*>(&want), dtype, {.f = numbers[i + k]});
          const double value = load_scalar(reinterpret_cast<const std::byte*>(&want), dtype).f;
          const bool same = std::isnan(value) ? std::isnan(rounded[k]) : value == rounded[k];
          wrong +=
              got[k] != want || !same || (k == 0 && (single != want || (rounded[lanes] != value && value == value)));
        }
      }
      EXPECT_EQ(wrong, 0u);
      const auto load = library.function<void(const uint8_t*, float*)>("load_all_" + type),
                 load_one = library.function<void(const uint8_t*, float*)>("load_one_" + type);
      for (int code = 0; code < 256; ++code) {
        uint8_t codes[16];
        float y[16], one;
        for (size_t k = 0; k < 16; ++k) codes[k] = static_cast<uint8_t>(code + static_cast<int>(k));
        load(codes, y);
        load_one(codes, &one);
        const double value = load_scalar(reinterpret_cast<const std::byte*>(codes), dtype).f;
        EXPECT_TRUE(std::isnan(value) ? std::isnan(y[0]) && std::isnan(one)
                                      : y[0] == value && one == value && std::signbit(one) == std::signbit(value))
            << code;
        for (size_t k = 0; k < lanes; ++k) {
          load_one(codes + k, &one);
          EXPECT_EQ(std::bit_cast<uint32_t>(one), std::bit_cast<uint32_t>(y[k])) << code + static_cast<int>(k);
        }
      }
    }
  }
}

TEST(Prelude, Reductions) {
  std::string text = R"(
extern "C" void masks(const u8* m, u8* y) { const vm k = load_b8(m); y[0] = hany(k); y[1] = hall(k); y[2] = hany(lnot(k)); }
extern "C" void first_lanes(i64 n, u8* y) { store_b8(y, mask_n(n)); }
extern "C" void transpose(const f32* x, i64 xs, f32* y, i64 ys) { transpose_block_f32(x, xs, y, ys); }
)";
  for (const char* type : {"f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"})
    text += replace_all(R"(
extern "C" void fold_T(const T* x, T* y) { const auto v = load_T(x); y[0] = hsum(v); y[1] = hprod(v); y[2] = hmin(v); y[3] = hmax(v); }
extern "C" void best_T(const T* x, const i64* k, T* y, i64* at) { hargmax(load_T(x), load_i64(k), y, at); hargmin(load_T(x), load_i64(k), y + 1, at + 1); }
extern "C" void count_T(T base, T* y) { store_T(y, iota_T(base)); store_T(y + LANES, splat_T(base)); }
)",
                        "T", type);
  for (const MathTarget& target : math_targets()) {
    SCOPED_TRACE(format("{} {}", target.compiler, target.flags));
    const PreludeLibrary library(text, target);
    const int lanes = target.lanes;
    const auto check = [&]<class T>(T, const char* type) {
      SCOPED_TRACE(type);
      T x[16], y[32], sum[16], product[16];
      for (int i = 0; i < lanes; ++i)
        x[i] = static_cast<T>((i * 7 + 3) % 11 + (std::is_floating_point_v<T> ? i * 0.37 : 0));
      std::memcpy(sum, x, sizeof x);
      std::memcpy(product, x, sizeof x);
      for (int d = lanes / 2; d; d /= 2)
        for (int i = 0; i < d; ++i) {
          sum[i] = static_cast<T>(sum[i] + sum[i + d]);
          product[i] = static_cast<T>(product[i] * product[i + d]);
        }
      library.function<void(T*, T*)>(format("fold_{}", type))(x, y);
      EXPECT_EQ(y[0], sum[0]);
      EXPECT_EQ(y[1], product[0]);
      EXPECT_EQ(y[2], *std::min_element(x, x + lanes));
      EXPECT_EQ(y[3], *std::max_element(x, x + lanes));
      int64_t index[16], at[2];
      for (int i = 0; i < lanes; ++i) index[i] = 100 - i;
      x[1] = x[lanes - 1] = 120;
      x[0] = x[2] = 0;
      library.function<void(T*, int64_t*, T*, int64_t*)>(format("best_{}", type))(x, index, y, at);
      EXPECT_EQ(y[0], T(120));
      EXPECT_EQ(at[0], 100 - (lanes - 1));
      EXPECT_EQ(y[1], T(0));
      int64_t want = 1000;
      for (int i = 0; i < lanes; ++i)
        if (x[i] == 0) want = std::min<int64_t>(want, 100 - i);
      EXPECT_EQ(at[1], want);
      if constexpr (std::is_floating_point_v<T>) {
        x[0] = x[lanes - 2] = std::numeric_limits<T>::quiet_NaN();
        library.function<void(T*, int64_t*, T*, int64_t*)>(format("best_{}", type))(x, index, y, at);
        EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
        EXPECT_EQ(at[0], 100 - (lanes - 2));
        EXPECT_EQ(at[1], 100 - (lanes - 2));
        library.function<void(T*, T*)>(format("fold_{}", type))(x, y);
        EXPECT_TRUE(std::isnan(y[2]) && std::isnan(y[3]));
      }
      library.function<void(T, T*)>(format("count_{}", type))(T(5), y);
      for (int i = 0; i < lanes; ++i) {
        EXPECT_EQ(y[i], T(5 + i));
        EXPECT_EQ(y[lanes + i], T(5));
      }
    };
    check(float(), "f32"), check(double(), "f64");
    check(int8_t(), "i8"), check(int16_t(), "i16"), check(int32_t(), "i32"), check(int64_t(), "i64");
    check(uint8_t(), "u8"), check(uint16_t(), "u16"), check(uint32_t(), "u32"), check(uint64_t(), "u64");
    for (unsigned pattern : {0u, 1u, 0x80u, 0xffffu, 0xfffeu}) {
      uint8_t mask[16], y[16];
      bool any = false, all = true;
      for (int i = 0; i < lanes; ++i) {
        mask[i] = pattern >> i & 1 ? 1 + 2 * i : 0;
        any |= mask[i] != 0;
        all &= mask[i] != 0;
      }
      library.function<void(uint8_t*, uint8_t*)>("masks")(mask, y);
      EXPECT_EQ(y[0], any);
      EXPECT_EQ(y[1], all);
      EXPECT_EQ(y[2], !all);
    }
    for (int64_t n : {0, 1, 3, 4, 7, 15, 16, 100}) {
      uint8_t y[16];
      library.function<void(int64_t, uint8_t*)>("first_lanes")(n, y);
      for (int i = 0; i < lanes; ++i) EXPECT_EQ(y[i], i < n);
    }
    std::vector<float> x(16 * 19), y(16 * 21, -1);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
    library.function<void(float*, int64_t, float*, int64_t)>("transpose")(x.data(), 19, y.data(), 21);
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 21; ++j)
        EXPECT_EQ(y[static_cast<size_t>(i * 21 + j)], i < lanes && j < lanes ? static_cast<float>(j * 19 + i) : -1.f);
  }
}

}  // namespace
}  // namespace toroid::emit::testing
