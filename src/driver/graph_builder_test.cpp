// Programs with views and in-place ops, put together by GraphBuilder, become functional graphs; wrong calls say what is
// wrong.
#include "toroid/graph_builder.h"

#include <gtest/gtest.h>

#include "driver/graph_builder.h"

namespace toroid {
namespace {

using Tensor = GraphBuilder::Tensor;

struct Program {
  GraphBuilder g{"p"};
  std::vector<float> bytes = std::vector<float>(64);

  Tensor in(const char* name, const GraphBuilder::Sizes& sizes, const char* dtype = "f32") {
    return *g.input(name, dtype, sizes);
  }
  Tensor weight(const char* name, const GraphBuilder::Sizes& sizes) {
    return *g.weight(name, "f32", sizes, {bytes.data(), 256, nullptr});
  }
  Tensor call(const char* op, const GraphBuilder::Arguments& args, const GraphBuilder::Keywords& keywords = {}) {
    auto results = g.call(op, args, keywords);
    EXPECT_TRUE(results) << results.error().to_string();
    return results ? results->at(0) : Tensor{};
  }
  std::string text() {
    auto text = g.text();
    return text ? *text : text.error().to_string();
  }
};

TEST(GraphBuilder, TypesByRule) {
  Program p;
  ASSERT_TRUE(p.g.symbol("s0", 1, 4096, 8));
  Tensor x = p.in("x", {"s0", 4}), w = p.weight("fc.weight", {8, 4});
  Tensor h = p.g.call("aten.linear.default", {x, w}, {}, {"fc", "model.py", 12})->at(0);
  EXPECT_EQ(*p.g.type_text(h), "f32[s0, 8]");
  ASSERT_TRUE(p.g.output(h, "logits"));
  EXPECT_EQ(p.text(), R"(graph @p(%x: f32[s0, 4]) where 1 <= s0 <= 4096 hint 8 {
  %fc.weight = weight "fc.weight" : f32[8, 4]
  %linear = aten.linear.default(%x, %fc.weight, none) : f32[s0, 8]  @ fc, model.py:12
  return "logits": %linear
}
)");
}

TEST(GraphBuilder, InPlaceBecomesFunctional) {
  Program p;
  Tensor x = p.in("x", {4});
  Tensor y = p.call("aten.add.Tensor", {x, 1});
  p.call("aten.relu_.default", {y});
  p.call("aten.mul_.Tensor", {y, y});
  ASSERT_TRUE(p.g.output(y));
  EXPECT_EQ(p.text(), R"(graph @p(%x: f32[4]) {
  %add = aten.add.Tensor(%x, 1, 1) : f32[4]
  %relu_ = aten.relu.default(%add) : f32[4]
  %mul_ = aten.mul.Tensor(%relu_, %relu_) : f32[4]
  return %mul_
}
)");
}

TEST(GraphBuilder, WriteThroughViewsAndStaleAliases) {
  Program p;
  Tensor x = p.in("x", {4, 6});
  Tensor row = p.call("aten.select.int", {x, 0, 1});
  Tensor part = p.call("aten.slice.Tensor", {x, 1, 0, 3});
  p.call("aten.fill_.Scalar", {part, 2.0});
  ASSERT_TRUE(p.g.output(row));
  EXPECT_EQ(p.text(), R"(graph @p(%x: f32[4, 6]) {
  %select = aten.select.int(%x, 0, 1) : f32[6]
  %slice = aten.slice.Tensor(%x, 1, 0, 3, 1) : f32[4, 3] strides [6, 1]
  %fill_ = aten.fill.Scalar(%slice, 2.0) : f32[4, 3]
  %x_1 = aten.slice_scatter.default(%x, %fill_, 1, 0, 3, 1) : f32[4, 6]
  %select_1 = aten.select.int(%x_1, 0, 1) : f32[6]
  return %x_1 -> input 0, %select_1
}
)");
}

TEST(GraphBuilder, MutatedWeightIsWrittenBack) {
  Program p;
  Tensor x = p.in("x", {4}), w = p.weight("count", {4});
  p.call("aten.add_.Tensor", {w, x}, {{"alpha", 2}});
  p.call("aten.copy_.default", {x, w});
  ASSERT_TRUE(p.g.output(w));
  EXPECT_EQ(p.text(), R"(graph @p(%x: f32[4]) {
  %count = weight "count" : f32[4]
  %add_ = aten.add.Tensor(%count, %x, 2) : f32[4]
  return %add_ -> weight "count", %add_ -> input 0, %add_
}
)");
}

TEST(GraphBuilder, IdentitiesVanish) {
  Program p;
  Tensor x = p.in("x", {4, 4});
  Tensor y = p.call("aten.detach.default", {x});
  y = p.call("aten.dropout.default", {y, 0.5, false});
  y = p.call("aten.contiguous.default", {y});
  y = p.call("aten.to.dtype", {y, GraphBuilder::Dtype{"f32"}});
  ASSERT_TRUE(p.g.output(y));
  EXPECT_EQ(p.text(), "graph @p(%x: f32[4, 4]) {\n  return %x\n}\n");
}

TEST(GraphBuilder, TransposedWritesAreUndone) {
  Program p;
  Tensor x = p.in("x", {2, 3});
  Tensor y = p.call("aten.clone.default", {x});
  Tensor t = p.call("aten.t.default", {y});
  Tensor v = p.call("aten.unsqueeze.default", {t, 0});
  p.call("aten.mul_.Tensor", {v, 3});
  ASSERT_TRUE(p.g.output(y));
  std::string text = p.text();
  EXPECT_NE(text.find("aten.reshape.default("), std::string::npos) << text;
  EXPECT_NE(text.find(" = aten.t.default("), std::string::npos) << text;
  EXPECT_EQ(text.find("-> input"), std::string::npos) << text;
}

TEST(GraphBuilder, TrainingBatchNormUpdatesItsStatistics) {
  Program p;
  Tensor x = p.in("x", {2, 3, 4});
  Tensor mean = p.weight("mean", {3}), variance = p.weight("variance", {3});
  Tensor y = p.call("aten.batch_norm.default",
                    {x, GraphBuilder::Argument(), GraphBuilder::Argument(), mean, variance, true, 0.1, 1e-5, false});
  ASSERT_TRUE(p.g.output(y));
  std::string text = p.text();
  EXPECT_NE(text.find("-> weight \"mean\""), std::string::npos) << text;
  EXPECT_NE(text.find("-> weight \"variance\""), std::string::npos) << text;
}

TEST(GraphBuilder, NumbersAreReadOnTheHost) {
  Program p;
  Tensor n = p.in("n", {}, "i64");
  ASSERT_TRUE(p.g.read_scalar("u0", n, 0, 64, {"m", "model.py", 3}));
  Tensor x = p.call("aten.full.default", {GraphBuilder::Sizes{"u0", 2}, 1.5});
  ASSERT_TRUE(p.g.output(x));
  EXPECT_EQ(p.text(), R"(graph @p(%n: i64[]) where 0 <= u0 <= 64 unbacked {
  %u0_value = aten._local_scalar_dense.default(%n) : i64[] defines u0  @ m, model.py:3
  %full = aten.full.default([u0, 2], 1.5, none, none, none, none) : f32[u0, 2]
  return %full
}
)");
  EXPECT_FALSE(p.g.read_scalar("u0", n));
}

TEST(GraphBuilder, NestingOfTheCallIsKept) {
  Program p;
  ASSERT_TRUE(p.g.output(p.call("aten.relu.default", {p.in("x", {3})})));
  ASSERT_TRUE(p.g.call_spec("[1, \"in\"]", "[1, \"out\"]"));
  EXPECT_NE(p.text().find("in_spec \"[1, \\\"in\\\"]\""), std::string::npos) << p.text();
  EXPECT_NE(p.text().find("out_spec \"[1, \\\"out\\\"]\""), std::string::npos) << p.text();
}

TEST(GraphBuilder, RefusalsAreKept) {
  Program p;
  Tensor x = p.in("x", {4}), other = p.in("other", {4});
  EXPECT_TRUE(p.g.refusals().empty());
  Tensor y = p.call("aten.set_.source_Tensor", {x, other});
  ASSERT_EQ(p.g.refusals().size(), 1u);
  EXPECT_TRUE(p.g.refusals(1).empty());
  ASSERT_TRUE(p.g.output(y));
  EXPECT_NE(p.text().find("unsupported_op"), std::string::npos);
}

TEST(GraphBuilder, SizesThatDataDecide) {
  Program p;
  ASSERT_TRUE(p.g.symbol("u0", 0, INT64_MAX, {}, true));
  Tensor x = p.in("x", {4});
  auto n = p.g.call("aten.nonzero.default", {x}, {}, {}, {{"i64", {"u0", 1}, {}}});
  ASSERT_TRUE(n) << n.error().to_string();
  ASSERT_TRUE(p.g.output(n->at(0)));
  EXPECT_NE(p.text().find("aten.nonzero.default(%x) : i64[u0, 1]"), std::string::npos) << p.text();
  EXPECT_TRUE(build_graph(p.g)->find_symbol("u0")->unbacked);
}

TEST(GraphBuilder, ControlFlow) {
  Program p, yes, no, writes, weighs;
  Tensor flag = p.in("flag", {}, "bool"), x = p.in("x", {4});
  ASSERT_TRUE(yes.g.output(yes.call("aten.sin.default", {yes.in("a", {4})})));
  ASSERT_TRUE(no.g.output(no.call("aten.cos.default", {no.in("a", {4})})));
  auto first = p.g.program(yes.g), second = p.g.program(no.g);
  ASSERT_TRUE(first && second);
  auto y = p.g.call("higher_order.cond", {flag, *first, *second, std::vector<Tensor>{x}}, {}, {}, {{"f32", {4}, {}}});
  ASSERT_TRUE(y) << y.error().to_string();
  ASSERT_TRUE(p.g.output(y->at(0)));
  EXPECT_NE(p.text().find("higher_order.cond(%flag, @p, @p_1, [%x]) : f32[4]"), std::string::npos) << p.text();
  writes.call("aten.relu_.default", {writes.in("a", {4})});
  ASSERT_FALSE(p.g.program(writes.g).ok());
  ASSERT_TRUE(weighs.g.output(weighs.weight("w", {4})));
  ASSERT_FALSE(p.g.program(weighs.g).ok());
  EXPECT_FALSE(p.g.call("aten.sin.default", {GraphBuilder::Program{7}}).ok());
}

TEST(GraphBuilder, WrongUseIsSaid) {
  Program p;
  Tensor x = p.in("x", {4});
  auto wants = [](const auto& result, const char* kind, const char* text) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().kind, kind) << result.error().to_string();
    EXPECT_NE(result.error().text.find(text), std::string::npos) << result.error().to_string();
  };
  wants(p.g.call("aten.no_such_op.default", {x}), "unsupported_op", "aten.no_such_op.default");
  wants(p.g.call("aten.add.Tensor", {x}), "bad_graph", "`other` is missing");
  wants(p.g.call("aten.add.Tensor", {x, x}, {{"beta", 1}}), "bad_graph", "no argument `beta`");
  wants(p.g.call("aten.add.Tensor", {x, x, 1, 1}), "bad_graph", "takes 3 arguments");
  wants(p.g.call("aten.add.Tensor", {x, "text"}), "bad_graph", "`other`");
  wants(p.g.call("aten.add.Tensor", {x, Tensor{99}}), "bad_graph", "not of this builder");
  wants(p.g.input("y", "f33", {4}), "bad_graph", "f33");
  wants(p.g.input("y", "f32", {"s5"}), "bad_graph", "s5");
  wants(p.g.symbol("2x"), "bad_graph", "no name");
  wants(p.g.symbol("s1", 5, 4), "bad_graph", "empty");
  wants(p.g.weight("w", "f32", {65}, {p.bytes.data(), 256, nullptr}), "bad_graph", "ends behind");
  wants(p.g.check("1 == 2"), "bad_graph", "never hold");
  wants(p.g.call("aten.relu.default", {x}, {}, {}, {{"f64", {4}, {}}}), "internal", "element type");
}

TEST(GraphBuilder, BuildsAgainAndAgain) {
  Program p;
  Tensor x = p.in("x", {4});
  ASSERT_TRUE(p.g.output(p.call("aten.relu.default", {x})));
  Result<Graph> first = build_graph(p.g), second = build_graph(p.g);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(print_graph(*first), print_graph(*second));
}

}  // namespace
}  // namespace toroid
