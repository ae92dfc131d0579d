// Every view and reduction of LoopBuilder against plain index arithmetic, through the interpreter.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "interp/interp.h"
#include "ops/loop_builder.h"

namespace toroid {
namespace {

using Place = std::vector<int64_t>;

// One f32 input %x of the given sizes, holding 0, 1, 2, … in row-major order.
struct Fixture {
  explicit Fixture(SymList sizes, DType dtype = DType::f32) {
    loops.symbols.push_back({"s0", 0, 100, std::nullopt, false});
    add_input("x", sizes, dtype);
    builder.emplace(loops);
    x = builder->read({0});
    builder->enter("y", {});
  }
  void add_input(const std::string& name, const SymList& sizes, DType dtype) {
    LoopTensor t;
    t.name = name;
    t.kind = TensorKind::input;
    t.input = static_cast<int32_t>(loops.inputs.size());
    t.dtype = dtype;
    t.sizes = sizes;
    t.strides = contiguous_strides(sizes);
    GraphInput input;
    input.name = name;
    loops.inputs.push_back(input);
    loops.input_tensors.push_back(loops.add(t));
  }
  InterpTensor run(const LoopValue& y, const std::vector<InterpTensor>& inputs) {
    LoopOutput output;
    output.tensor =
        builder->materialize(y, "").dtype == y.dtype ? builder->whole_tensor(builder->materialize(y)) : TensorId{};
    output.strides = loops[output.tensor].strides;
    loops.outputs.push_back(output);
    verify_loops(loops);
    // The text form must carry the program, too.
    const std::string text = print_loops(loops);
    auto read = parse_loops(text);
    EXPECT_TRUE(read) << read.error().to_string() << "\n" << text;
    if (!read) return {};
    EXPECT_EQ(print_loops(*read), text);
    auto result = interpret(*read, inputs);
    EXPECT_TRUE(result) << result.error().to_string() << "\n" << text;
    return result ? result->back() : InterpTensor{};
  }
  static InterpTensor iota(const Place& sizes, DType dtype = DType::f32) {
    int64_t count = 1;
    for (int64_t size : sizes) count *= size;
    std::vector<double> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<double>(i));
    return InterpTensor::of(dtype, sizes, values);
  }
  // y at each place must be x at source(place), or `outside` where that is empty.
  void expect(const LoopValue& y, const Place& x_sizes, const Place& y_sizes,
              const std::function<Place(const Place&)>& source, double outside = 0) {
    InterpTensor result = run(y, {iota(x_sizes)});
    ASSERT_EQ(result.sizes, y_sizes);
    int64_t next = 0;
    Place at(y_sizes.size());
    for (int64_t i = 0; i < result.count(); ++i) {
      int64_t rest = i;
      for (size_t k = y_sizes.size(); k-- > 0; rest /= y_sizes[k]) at[k] = rest % y_sizes[k];
      const Place from = source(at);
      double wanted = outside;
      if (!from.empty() || x_sizes.empty()) {
        int64_t linear = 0;
        for (size_t k = 0; k < x_sizes.size(); ++k) linear = linear * x_sizes[k] + from[k];
        wanted = static_cast<double>(linear);
      }
      ASSERT_EQ(result.number(next++), wanted) << "element " << i;
    }
  }
  std::string body(const LoopValue& y) {
    return print_expr(loops, loops[builder->whole_tensor(builder->materialize(y))].body);
  }

  Loops loops;
  std::optional<LoopBuilder> builder;
  LoopValue x;
  Sym s0 = Sym::symbol("s0", 0, 100);
};

TEST(Views, PermuteAndTranspose) {
  Fixture f({2, 3, 4});
  f.expect(f.builder->permute(f.x, {2, 0, 1}), {2, 3, 4}, {4, 2, 3}, [](const Place& p) {
    return Place{p[1], p[2], p[0]};
  });
  f.expect(f.builder->transpose(f.x, 0, -1), {2, 3, 4}, {4, 3, 2}, [](const Place& p) {
    return Place{p[2], p[1], p[0]};
  });
}

TEST(Views, ReshapeKeepsRowMajorOrder) {
  const std::vector<std::pair<Place, Place>> cases = {
      {{2, 3, 4}, {24}},     {{24}, {2, 3, 4}},      {{2, 3, 4}, {6, 4}},     {{2, 3, 4}, {2, 12}},
      {{2, 3, 4}, {4, 6}},   {{6, 4}, {3, 8}},       {{2, 1, 3}, {1, 6, 1}},  {{1}, {}},
      {{}, {1, 1}},          {{4, 6}, {2, 2, 3, 2}}, {{2, 3, 4, 5}, {6, 20}}, {{0, 3}, {3, 0}},
      {{1, 2, 3}, {2, 3, 1}}};
  for (const auto& [from, to] : cases) {
    Fixture f(SymList(from.begin(), from.end()));
    InterpTensor y = f.run(f.builder->reshape(f.x, SymList(to.begin(), to.end())), {Fixture::iota(from)});
    EXPECT_EQ(y.sizes, to);
    EXPECT_EQ(y.numbers(), Fixture::iota(from).numbers());
  }
}

TEST(Views, ReshapeOfSymbolicSizesDividesOnlyWithinItsGroup) {
  Fixture f({SymList{Sym::symbol("s0", 0, 100), 64, 8}});
  EXPECT_EQ(f.body(f.builder->reshape(f.x, {f.s0, 512})), "%x[i0, i1//8, i1 % 8]");
  EXPECT_EQ(f.body(f.builder->reshape(f.x, {f.s0 * Sym(64), 8})), "%x[i0//64, i0 % 64, i1]");
  EXPECT_EQ(f.body(f.builder->reshape(f.x, {f.s0, 1, 64, 2, 4})), "%x[i0, i2, 4*i3 + i4]");
  const LoopValue there_and_back = f.builder->reshape(f.builder->reshape(f.x, {f.s0 * Sym(512)}), {f.s0, 64, 8});
  EXPECT_TRUE(f.builder->whole_tensor(there_and_back).valid()) << f.body(there_and_back);
  InterpTensor y = f.run(f.builder->reshape(f.x, {f.s0 * Sym(64), 8}), {Fixture::iota({3, 64, 8})});
  EXPECT_EQ(y.sizes, (Place{192, 8}));
  EXPECT_EQ(y.numbers(), Fixture::iota({192, 8}).numbers());
}

TEST(Views, SliceSelectSqueezeFlip) {
  Fixture f({5, 7});
  f.expect(f.builder->slice(f.x, 1, 1, 3, 2), {5, 7}, {5, 3}, [](const Place& p) { return Place{p[0], 1 + 2 * p[1]}; });
  f.expect(f.builder->select(f.x, 0, 3), {5, 7}, {7}, [](const Place& p) { return Place{3, p[0]}; });
  f.expect(f.builder->unsqueeze(f.x, -1), {5, 7}, {5, 7, 1}, [](const Place& p) { return Place{p[0], p[1]}; });
  f.expect(f.builder->squeeze(f.builder->unsqueeze(f.x, 1), 1), {5, 7}, {5, 7}, [](const Place& p) { return p; });
  f.expect(f.builder->flip(f.x, {0, 1}), {5, 7}, {5, 7}, [](const Place& p) { return Place{4 - p[0], 6 - p[1]}; });
}

TEST(Views, BroadcastRepeatsSizesOfOne) {
  Fixture f({3, 1});
  f.expect(f.builder->broadcast(f.x, {2, 3, 4}), {3, 1}, {2, 3, 4}, [](const Place& p) { return Place{p[1], 0}; });
}

TEST(Views, BroadcastOfSizesThatMayDifferIsGuarded) {
  Fixture f({SymList{Sym::symbol("s0", 0, 100)}});
  f.builder->broadcast(f.x, {4});
  ASSERT_EQ(f.loops.guards.size(), 1u);
  EXPECT_EQ(evaluate(f.loops.guards[0].condition, {{"s0", 4}}), 1);
  EXPECT_EQ(evaluate(f.loops.guards[0].condition, {{"s0", 5}}), 0);
}

TEST(Views, CatPicksItsPart) {
  Fixture f({2, 5});
  LoopBuilder& b = *f.builder;
  std::vector<LoopValue> parts = {b.slice(f.x, 1, 3, 2), b.slice(f.x, 1, 0, 0), b.slice(f.x, 1, 0, 3),
                                  b.slice(f.x, 1, 1, 1)};
  const Place columns = {3, 4, 0, 1, 2, 1};
  f.expect(b.cat(parts, -1), {2, 5}, {2, 6}, [&](const Place& p) {
    return Place{p[0], columns[static_cast<size_t>(p[1])]};
  });
}

TEST(Views, CatOfSymbolicSizes) {
  Fixture f({SymList{Sym::symbol("s0", 0, 100), 2}});
  InterpTensor y = f.run(f.builder->cat({f.x, f.x, f.x}, 0), {Fixture::iota({2, 2})});
  EXPECT_EQ(y.numbers(), (std::vector<double>{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3}));
}

TEST(Views, PadGuardsItsLoads) {
  Fixture f({3, 4});
  LoopBuilder& b = *f.builder;
  f.expect(
      b.pad(f.x, {1, -1}, {0, 2}, b.number(-5, DType::f32)), {3, 4}, {4, 5},
      [](const Place& p) {
        const Place from{p[0] - 1, p[1] + 1};
        return from[0] < 0 || from[1] > 3 ? Place{} : from;
      },
      -5);
  EXPECT_EQ(f.body(b.pad(f.x, {0, -1}, {0, 0}, b.number(0, DType::f32))), "%x[i0, i1 + 1]");
}

TEST(Reductions, OverDimsWithAndWithoutThem) {
  Fixture f({2, 3, 4});
  LoopBuilder& b = *f.builder;
  const auto inputs = std::vector{Fixture::iota({2, 3, 4})};
  auto sums = f.run(b.reduce(ReduceOp::sum, f.x, {0, 2}, true, DType::f32, DType::f32, ".sum"), inputs);
  EXPECT_EQ(sums.sizes, (Place{1, 3, 1}));
  EXPECT_EQ(sums.numbers(), (std::vector<double>{60, 92, 124}));
  auto most = f.run(b.reduce(ReduceOp::max, f.x, {1}, false, DType::f32, DType::f32, ".max"), inputs);
  EXPECT_EQ(most.numbers(), (std::vector<double>{8, 9, 10, 11, 20, 21, 22, 23}));
  auto where = f.run(b.reduce(ReduceOp::argmax, b.flip(f.x, {1}), {}, false, DType::f32, DType::i64, ".arg"), inputs);
  EXPECT_EQ(where.integer(0), 15);
  auto product = f.run(b.reduce(ReduceOp::prod, f.x, {1}, false, DType::i64, DType::i64, ".prod"), inputs);
  EXPECT_EQ(product.integer(1), 1 * 5 * 9);
  auto any = f.run(b.reduce(ReduceOp::any, f.x, {0, 1, 2}, false, DType::b8, DType::b8, ".any"), inputs);
  EXPECT_EQ(any.integer(0), 1);
  auto all = f.run(b.reduce(ReduceOp::all, f.x, {0, 1, 2}, false, DType::b8, DType::b8, ".all"), inputs);
  EXPECT_EQ(all.integer(0), 0);
}

TEST(Reductions, EdgesOfValues) {
  Fixture f({4});
  LoopBuilder& b = *f.builder;
  const double nan = NAN;
  auto run = [&](ReduceOp op, std::vector<double> values, DType result) {
    Fixture g({4});
    return g.run(g.builder->reduce(op, g.x, {}, false, DType::f32, result, ".r"),
                 {InterpTensor::of(DType::f32, {4}, values)});
  };
  EXPECT_TRUE(std::isnan(run(ReduceOp::max, {1, nan, 3, 2}, DType::f32).number(0)));
  EXPECT_EQ(run(ReduceOp::argmax, {1, nan, 3, nan}, DType::i64).integer(0), 1);
  EXPECT_EQ(run(ReduceOp::argmin, {2, 1, 1, 5}, DType::i64).integer(0), 1);
  EXPECT_EQ(run(ReduceOp::max, {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, DType::f32).number(0), -INFINITY);
  const LoopValue none = b.slice(f.x, 0, 0, 0);
  EXPECT_EQ(
      f.run(b.reduce(ReduceOp::sum, none, {}, false, DType::f32, DType::f32, ".s"), {Fixture::iota({4})}).number(0), 0);
  EXPECT_EQ(
      f.run(b.reduce(ReduceOp::prod, none, {}, false, DType::f32, DType::f32, ".p"), {Fixture::iota({4})}).number(0),
      1);
}

TEST(Reductions, ScansRunAlongTheirDim) {
  Fixture f({2, 3});
  const auto inputs = std::vector{Fixture::iota({2, 3})};
  EXPECT_EQ(f.run(f.builder->scan(ReduceOp::sum, f.x, 1, DType::f32, DType::f32), inputs).numbers(),
            (std::vector<double>{0, 1, 3, 3, 7, 12}));
  EXPECT_EQ(f.run(f.builder->scan(ReduceOp::sum, f.x, 0, DType::i64, DType::i64), inputs).numbers(),
            (std::vector<double>{0, 1, 2, 3, 5, 7}));
  EXPECT_EQ(
      f.run(f.builder->scan(ReduceOp::max, f.builder->flip(f.x, {1}), 1, DType::f32, DType::f32), inputs).numbers(),
      (std::vector<double>{2, 2, 2, 5, 5, 5}));
}

TEST(Reductions, ContractIsAMatrixProduct) {
  Fixture f({2, 3});
  LoopBuilder& b = *f.builder;
  const LoopValue x = f.x;
  const LoopValue y = b.contract(
      DType::f32, {2, 2}, {3},
      [&](const Index& out, const Index& k) {
        return b.mul(x.at({out[0], k[0]}), x.at({out[1], k[0]}));
      },
      ".dot");
  EXPECT_EQ(f.run(y, {Fixture::iota({2, 3})}).numbers(), (std::vector<double>{5, 14, 14, 50}));
}

TEST(Values, LowPrecisionComputesInFloatAndRoundsWhereStored) {
  Fixture f({2}, DType::bf16);
  LoopBuilder& b = *f.builder;
  const LoopValue y = b.map({f.x}, {2}, DType::bf16, DType::bf16, [&](const std::vector<ExprId>& a) {
    EXPECT_EQ(b.type(a[0]), DType::f32);
    return b.mul(a[0], b.number(1.01, DType::bf16));
  });
  const InterpTensor in = InterpTensor::of(DType::bf16, {2}, {1, 3.140625});
  EXPECT_EQ(f.run(y, {in}).numbers(), (std::vector<double>{1.0078125, 3.171875}));
  EXPECT_EQ(f.run(b.convert(f.x, DType::i32), {in}).numbers(), (std::vector<double>{1, 3}));
}

TEST(Values, MaterializeOfAWholeTensorIsThatTensor) {
  Fixture f({3, 1, 4});
  LoopBuilder& b = *f.builder;
  const LoopValue y = b.materialize(
      b.map({f.x}, f.x.sizes, DType::f32, DType::f32, [&](const std::vector<ExprId>& a) { return b.add(a[0], a[0]); }));
  const size_t before = f.loops.tensors.size();
  b.materialize(y);
  b.materialize(b.squeeze(b.unsqueeze(y, 0), 0));
  EXPECT_EQ(f.loops.tensors.size(), before);
  b.materialize(b.transpose(y, 0, 2));
  EXPECT_EQ(f.loops.tensors.size(), before + 1);
}

}  // namespace
}  // namespace toroid
