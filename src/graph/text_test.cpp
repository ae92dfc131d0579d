// Reading a printed graph gives the same text, and bad texts are refused with their place.
#include <gtest/gtest.h>

#include "base/check.h"
#include "graph/graph.h"

namespace toroid {
namespace {

std::string round_trip(const std::string& text) {
  Result<Graph> graph = parse_graph(text);
  if (!graph) return graph.error().to_string();
  verify_graph(*graph);
  return print_graph(*graph);
}

TEST(GraphText, ReadsBackWhatItPrints) {
  const std::string texts[] = {
      R"(graph @mlp(%x: f32[s0, 64]) where 1 <= s0 <= 4096 hint 8 {
  %w = weight "fc.weight" : f32[10, 64]
  %h = aten.linear.default(%x, %w, none) : f32[s0, 10]  @ fc, model.py:12
  %y = aten.relu.default(%h) : f32[s0, 10]  @ model.py:13
  return %y
}
)",
      R"(graph @args(%x "attention_mask": i64[2*s0 + 1, 4] strides [1, 2*s0 + 1], int "n" = s1, constant "flag" = true) where s0 <= 7, -3 <= s1 {
  %a, _, %c = test.op(%x, [%x, none], tensors[], [], floats[], bools[], strings[], 3, -4, s0 + 1, [s0, -1], 1.0, -0.5, [1.5, inf, -inf], true, [true, false], "a \"b\"\n", ["x", "y"], bf16, channels_last, device "cuda:1", complex(1.0, -2.0), none) : f32[s0//2] on "cuda:1", _, bool[]  @ layer.0
  test.check(%c)
  guard s0 <= 6 "too many"
  guard 0 == s1 % 4
  return "out": %a, int s0 + s1, constant none
  in_spec "[1, {\"type\": null}]"
}
)",
      R"(graph @state(%x: f32[4]) where 0 <= u0 unbacked {
  %cache = buffer "cache" transient : f32[4] in storage 0 at 2
  %same = weight "same" : f32[2] in storage 0 at 0
  %lone = constant "lone" : i64[]
  %n = aten.item.default(%lone) : i64[] defines u0
  %new = aten.add.Tensor(%cache, %x, 1) : f32[4]
  return %new -> weight "cache", %new -> input 0, %x
}
)",
      R"(graph @outer(%p: bool[], %x: f32[s0]) where 2 <= s0 {
  graph @yes(%a: f32[s0]) where 2 <= s0 {
    return %a
  }
  %y = higher_order.cond(%p, @yes, @yes, [%x]) : f32[s0]
  return %y
}
)"};
  for (const std::string& text : texts) EXPECT_EQ(round_trip(text), text);
}

TEST(GraphText, InputsDeclareTheirSymbols) {
  Result<Graph> graph = parse_graph("graph @g(%x: f32[s0, 2*s0]) { return %x }");
  ASSERT_TRUE(graph);
  ASSERT_EQ(graph->symbols.size(), 1u);
  EXPECT_EQ(graph->symbols[0].low, 0);
}

TEST(GraphText, BadTextsNameThePlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "expected `graph`"},
      {"graph @g(", "expected `)`"},
      {"graph @g() {", "expected an op"},
      {"graph @g() { }", "has no `return`"},
      {"graph @g(%x: f32) { return %x }", "expected `[`"},
      {"graph @g(%x: what[2]) { return %x }", "expected an element type"},
      {"graph @g(%x: f32[2], %x: f32[2]) { return %x }", "`%x` defined twice"},
      {"graph @g() { return %x }", "`%x` is not defined"},
      {"graph @g(%x: f32[2]) { %y = aten.relu.default(%x) : f32[t] return %y }", "unknown symbol `t`"},
      {"graph @g(%x: f32[2] strides [1, 2]) { return %x }", "as many strides"},
      {"graph @g(%x: f32[s0]) where 5 <= s0 <= 4 { return %x }", "empty range"},
      {"graph @g(%x: f32[2]) { return %x -> weight \"w\" }", "no weight `w`"},
      {"graph @g(%x: f32[2]) { return %x -> input 1 }", "no such input"},
      {"graph @g(%x: f32[2]) { %y = f.g(@h) : f32[2] return %y }", "no subgraph"},
      {"graph @g() { return } x", "expected the end"},
  };
  for (auto [text, wanted] : cases) {
    Result<Graph> graph = parse_graph(text);
    ASSERT_FALSE(graph) << text;
    EXPECT_EQ(graph.error().kind, Kind::bad_graph);
    EXPECT_NE(graph.error().text.find(wanted), std::string::npos) << text << ": " << graph.error().text;
  }
}

TEST(GraphText, AddValueMakesNamesUnique) {
  Graph graph;
  for (int i = 0; i < 3; ++i) graph.add_value({.name = "a"});
  EXPECT_EQ(graph.values[2].name, "a_2");
  graph.add_value({.name = "a_3"});
  graph.add_value({.name = "a"});
  EXPECT_EQ(graph.values[4].name, "a_4");
}

TEST(GraphVerify, BrokenGraphsAreInternalErrors) {
  auto broken = [](auto damage) {
    Result<Graph> graph = parse_graph("graph @g(%x: f32[s0]) { %y = aten.relu.default(%x) : f32[s0] return %y }");
    damage(*graph);
    EXPECT_THROW(verify_graph(*graph), InternalError);
  };
  broken([](Graph& g) { g.values[1].name = "x"; });
  broken([](Graph& g) { g.values[1].name = "a b"; });
  broken([](Graph& g) { g.values[1].type.strides.clear(); });
  broken([](Graph& g) { g.values[1].index = 1; });
  broken([](Graph& g) { g.symbols.clear(); });
  broken([](Graph& g) { g.nodes[0].args[0] = ValueId{1}; });
  broken([](Graph& g) { g.nodes[0].args[0] = ValueId{7}; });
  broken([](Graph& g) { g.nodes[0].args[0] = SubgraphId{0}; });
  broken([](Graph& g) { g.outputs[0].value = ValueId{}; });
  broken([](Graph& g) { g.values[0].kind = ValueKind::weight; });
}

}  // namespace
}  // namespace toroid
