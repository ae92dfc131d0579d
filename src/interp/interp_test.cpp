// Whole programs: symbols, guards, failures, aliases, mutations, data-dependent sizes, folded constants.
#include <gtest/gtest.h>

#include "base/check.h"
#include "interp/interp.h"

namespace toroid {
namespace {

Loops read(const std::string& text) {
  auto loops = parse_loops(text);
  EXPECT_TRUE(loops) << loops.error().to_string();
  if (!loops) return {};
  verify_loops(*loops);
  return std::move(*loops);
}
InterpTensor zeros(DType dtype, std::vector<int64_t> sizes) {
  int64_t count = 1;
  for (int64_t size : sizes) count *= size;
  return InterpTensor::of(dtype, sizes, std::vector<double>(static_cast<size_t>(count)));
}
InterpTensor floats(std::vector<double> values) {
  return InterpTensor::of(DType::f32, {static_cast<int64_t>(values.size())}, values);
}
std::string failure(const Loops& loops, const std::vector<InterpTensor>& inputs) {
  auto result = interpret(loops, inputs);
  return result ? "" : result.error().text;
}

TEST(Symbols, BareOnesFirstThenLinearOnes) {
  const Loops loops = read(R"(loops @m(%x: f32[2*s0 + s1, 3], %y: f32[s1], %z: f32[s0*s1]) where 1 <= s0 <= 8, 2 <= s1 {
  return int s0
})");
  auto solved = solve_symbols(loops, {zeros(DType::f32, {9, 3}), zeros(DType::f32, {5}), zeros(DType::f32, {10})});
  ASSERT_TRUE(solved) << solved.error().to_string();
  EXPECT_EQ(*solved, (std::map<std::string, int64_t>{{"s0", 2}, {"s1", 5}}));
  auto run = [&](int64_t a, int64_t b, int64_t c) {
    return failure(loops, {zeros(DType::f32, {a, 3}), zeros(DType::f32, {b}), zeros(DType::f32, {c})});
  };
  EXPECT_EQ(run(8, 5, 10), "input 0 (`x`): size 0 is 8, must be 2*s0 + s1");
  EXPECT_EQ(run(25, 5, 50), "input 0 (`x`): size 0 is 25: `s0` is 10, must be in 1..8");
  EXPECT_EQ(run(9, 1, 10), "input 1 (`y`): size 0 is 1, must be at least 2");
  EXPECT_EQ(run(9, 5, 11), "input 2 (`z`): size 0 is 11, must be 10 (`s0*s1`)");
}

TEST(Symbols, IntegerInputsAndGuards) {
  const Loops loops = read(R"(loops @m(int "n" = s0) where 0 <= s0 <= 100 {
  %y[i0] = i0 * 2 : i64[s0 + 1]
  guard 0 == s0 % 2 "n must be even"
  return %y, int s0//2
})");
  auto result = interpret(loops, {InterpTensor::of_integers(DType::i64, {}, {4})});
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ((*result)[0].numbers(), (std::vector<double>{0, 2, 4, 6, 8}));
  EXPECT_EQ((*result)[1].integer(0), 2);
  EXPECT_EQ(failure(loops, {InterpTensor::of_integers(DType::i64, {}, {3})}), "n must be even");
}

TEST(Inputs, AreChecked) {
  const Loops loops = read(R"(loops @m(%x: f32[4]) {
  return %x alias [4] at 0 strides [1]
})");
  EXPECT_EQ(failure(loops, {}), "0 inputs given, 1 expected");
  EXPECT_EQ(failure(loops, {zeros(DType::i64, {4})}), "input 0 (`x`) has dtype i64, must be f32");
  EXPECT_EQ(failure(loops, {zeros(DType::f32, {4, 1})}), "input 0 (`x`) has 2 dims, must have 1");
  EXPECT_EQ(failure(loops, {zeros(DType::f32, {5})}), "input 0 (`x`): size 0 is 5, must be 4");
}

TEST(Failures, NameWhatIsWrong) {
  const Loops gather = read(R"(loops @m(%x: f32[4], %n: i64[s0]) where 0 <= s0 {
  %y[i0] = %x[check_index(%n[i0], 4)] : f32[s0]  @ model.py:3
  return %y
})");
  EXPECT_EQ(
      interpret(gather, {floats({1, 2, 3, 4}), InterpTensor::of_integers(DType::i64, {2}, {3, 0})})->at(0).numbers(),
      (std::vector<double>{4, 1}));
  auto bad = interpret(gather, {floats({1, 2, 3, 4}), InterpTensor::of_integers(DType::i64, {1}, {7})});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().to_string(), "error: bad_input: index 7 is out of range for size 4\n  in `%y`\n  model.py:3");
  const Loops divide = read(R"(loops @m(%n: i32[2]) {
  %y[i0] = where(%n[i0] == i32(0), i32(9), i32(7) // %n[i0]) : i32[2]
  %z[i0] = i32(7) // %n[i0] : i32[2]
  return %y
})");
  EXPECT_EQ(failure(divide, {InterpTensor::of_integers(DType::i32, {2}, {0, 2})}), "integer division by zero");
  EXPECT_THROW(verify_loops([] {
                 Loops loops = *parse_loops("loops @m(%x: f32[4]) {\n  %y[i0] = %x[i0] : f32[4]\n  return %y\n}");
                 loops.tensors[1].sizes = {5};
                 return loops;
               }()),
               InternalError);
}

TEST(Failures, ALoadOutsideItsTensorIsOurBug) {
  const Loops loops = read("loops @m(%x: f32[4]) {\n  %y[i0] = %x[i0 + 1] : f32[4]\n  return %y\n}");
  auto result = interpret(loops, {zeros(DType::f32, {4})});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, Kind::internal);
}

TEST(Programs, WhereGuardsLoadsAndDivisions) {
  const Loops loops = read(R"(loops @m(%x: f32[4], %n: i32[2]) {
  %y[i0] = where(i0 < 4, %x[i0], 0.5) : f32[6]
  %z[i0] = where(%n[i0] == i32(0), i32(9), i32(7) // %n[i0]) : i32[2]
  return %y, %z
})");
  auto result = interpret(loops, {floats({1, 2, 3, 4}), InterpTensor::of_integers(DType::i32, {2}, {0, -2})});
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ((*result)[0].numbers(), (std::vector<double>{1, 2, 3, 4, 0.5, 0.5}));
  EXPECT_EQ((*result)[1].numbers(), (std::vector<double>{9, -4}));
}

TEST(Programs, WeightsAreStridedViewsOfStorages) {
  Loops loops = read(R"(loops @m() {
  %w = weight "w" : f32[2, 2] strides [1, 2] in storage 0 at 1
  %y[i0, i1] = %w[i0, i1] : f32[2, 2]
  return %y, %y -> weight "w"
})");
  auto bytes = std::make_shared<std::vector<float>>(std::vector<float>{9, 1, 2, 3, 4});
  EXPECT_EQ(failure(loops, {}), "weight `w` has no data");
  loops.storages[0] = {bytes->data(), 20, bytes};
  auto result = interpret(loops, {});
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ((*result)[0].numbers(), (std::vector<double>{1, 3, 2, 4}));
  ASSERT_EQ(result->size(), 2u);
  loops.storages[0].bytes = 16;
  EXPECT_EQ(failure(loops, {}), "weight `w` has no data");
}

TEST(Programs, OutputsMayAliasInputs) {
  const Loops loops = read(R"(loops @m(%x: f32[s0, 4]) where 1 <= s0 <= 9 {
  return %x alias [4, s0] at 0 strides [1, 4], %x alias [s0, 2] at 1 strides [4, 2]
})");
  std::vector<double> values = {0, 1, 2, 3, 4, 5, 6, 7};
  auto result = interpret(loops, {InterpTensor::of(DType::f32, {2, 4}, values)});
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ((*result)[0].numbers(), (std::vector<double>{0, 4, 1, 5, 2, 6, 3, 7}));
  EXPECT_EQ((*result)[1].numbers(), (std::vector<double>{1, 3, 5, 7}));
  EXPECT_EQ((*result)[1].strides, (std::vector<int64_t>{4, 2}));
}

TEST(Programs, ASymbolMayComeFromATensor) {
  const Loops loops = read(R"(loops @m(%n: i64[3]) where 0 <= u0 <= 10 unbacked {
  %s[] = sum(j0 in 3: %n[j0]) : i64[]
  u0 = item %s
  %y[i0] = i0 : i64[u0]
  return %y
})");
  auto run = [&](int64_t last) { return interpret(loops, {InterpTensor::of_integers(DType::i64, {3}, {1, 1, last})}); };
  EXPECT_EQ(run(2)->at(0).numbers(), (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(run(20).error().text, "`u0` is 22, must be in 0..10");
}

TEST(Programs, CallsRunFunctionsAndPrograms) {
  const Loops loops = read(R"(loops @m(%x: f32[s0], %h: f32[]) where 0 <= s0, 0 <= u0 unbacked {
  %f[i0] = bool(%x[i0]) : bool[s0]
  %c[] = sum(j0 in s0: i64(%f[j0])) : i64[]
  u0 = item %c
  %p: i64[u0, 1] = call "nonzero" (%f)
  %last: f32[], %all: f32[s0] = call "scan" (%h, %x) [1, 1, s0, 1]
    loops @step(%h: f32[], %x: f32[]) where 0 <= s0 {
      %n[] = %h[] + %x[] : f32[]
      return %n, %n
    }
  %w: f32[] = call "while" (%h) [1]
    loops @more(%h: f32[]) {
      %m[] = %h[] < 100.0 : bool[]
      return %m
    }
    loops @step(%h: f32[]) {
      %n[] = %h[] * 3.0 : f32[]
      return %n
    }
  %b: f32[] = call "cond" (%h) [s0 < 3]
    loops @yes(%h: f32[]) where 0 <= s0 {
      %n[] = %h[] + f32(s0) : f32[]
      return %n
    }
    loops @no(%h: f32[]) {
      %n[] = -%h[] : f32[]
      return %n
    }
  return %p, %last, %all, %w, %b
})");
  verify_loops(loops);
  EXPECT_EQ(print_loops(*parse_loops(print_loops(loops))), print_loops(loops));
  auto result =
      interpret(loops, {InterpTensor::of(DType::f32, {4}, {0, 2, 0, 5}), InterpTensor::of(DType::f32, {}, {2})});
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ((*result)[0].numbers(), (std::vector<double>{1, 3}));
  EXPECT_EQ((*result)[1].numbers(), (std::vector<double>{9}));
  EXPECT_EQ((*result)[2].numbers(), (std::vector<double>{9, 9, 7, 7}));
  EXPECT_EQ((*result)[3].numbers(), (std::vector<double>{162}));
  EXPECT_EQ((*result)[4].numbers(), (std::vector<double>{-2}));
}

TEST(Programs, ExactRunsKeepDoubles) {
  const Loops loops = read(R"(loops @m(%x: f32[1], %h: bf16[1]) {
  %y[i0] = %x[i0] / 3.0 : f32[1]
  %z[i0] = bf16_round(%h[i0] / 3.0) : bf16[1]
  return %y, %z
})");
  const std::vector<InterpTensor> inputs = {floats({1}), InterpTensor::of(DType::bf16, {1}, {1})};
  auto rounded = interpret(loops, inputs);
  auto exact = interpret(loops, inputs, {.exact = true});
  ASSERT_TRUE(rounded && exact);
  EXPECT_EQ((*rounded)[0].number(0), static_cast<double>(1.0f / 3.0f));
  EXPECT_EQ((*rounded)[1].number(0), 0.333984375);
  EXPECT_EQ((*exact)[0].number(0), 1.0 / 3.0);
  EXPECT_EQ((*exact)[1].number(0), 1.0 / 3.0);
  EXPECT_EQ((*exact)[1].dtype, DType::f64);
}

TEST(Programs, SharedAndNestedReductions) {
  const Loops loops = read(R"(loops @m(%x: f32[2, 3]) {
  %y[i0, i1] = %x[i0, i1] - max(j0 in 3: %x[i0, j0]) + sum(j0 in 3: %x[i0, j0] * sum(j0 in 2: %x[j0, 0])) : f32[2, 3]
  return %y
})");
  auto result = interpret(loops, {InterpTensor::of(DType::f32, {2, 3}, {1, 2, 3, 4, 5, 6})});
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ((*result)[0].numbers(), (std::vector<double>{28, 29, 30, 73, 74, 75}));
}

TEST(Fold, ConstantsAreComputedOnce) {
  Loops loops = read(R"(loops @m(%x: f32[s0, 4]) where 1 <= s0 {
  %zeros[i0] = 0.0 : f32[4]
  %arange[i0] = f32(i0) : f32[4]
  %table[i0] = exp(%arange[i0]) : f32[4]
  %half[] = sum(j0 in 4: %arange[j0]) / 12.0 : f32[]
  %none[i0] = 1.0 : f32[0]
  %big[i0, i1] = exp(f32(i0)) : f32[1024, 1024]
  %y[i0, i1] = %x[i0, i1] * %table[i1] + %half[] + %zeros[i1] + %big[i1, i1] : f32[s0, 4]
  return %y, %none
})");
  const std::vector<InterpTensor> inputs = {InterpTensor::of(DType::f32, {1, 4}, {1, 2, 3, 4})};
  auto before = interpret(loops, inputs);
  ASSERT_TRUE(fold_constants(loops));
  verify_loops(loops);
  auto after = interpret(loops, inputs);
  ASSERT_TRUE(before && after);
  EXPECT_EQ((*before)[0].numbers(), (*after)[0].numbers());
  std::map<std::string, TensorKind> kinds;
  for (const LoopTensor& t : loops.tensors) kinds[t.name] = t.kind;
  EXPECT_EQ(kinds.at("zeros"), TensorKind::computed);
  EXPECT_EQ(kinds.at("table"), TensorKind::constant);
  EXPECT_EQ(kinds.at("big"), TensorKind::computed);
  EXPECT_EQ(kinds.at("none"), TensorKind::constant);
  EXPECT_FALSE(kinds.contains("half")) << "one element goes into its users";
  EXPECT_FALSE(kinds.contains("arange"));
  EXPECT_EQ(print_expr(loops, loops.tensors.back().body), "%x[i0, i1] * %table[i1] + 0.5 + %zeros[i1] + %big[i1, i1]");
}

}  // namespace
}  // namespace toroid
