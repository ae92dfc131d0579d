// The schema file parses as a whole, and the parts of a schema are read as PyTorch means them.
#include "ops/schema.h"

#include <gtest/gtest.h>

namespace toroid {
namespace {

TEST(Schema, EveryLineParses) {
  int count = 0;
  for (const std::string& line : schema_lines()) {
    if (line.empty()) continue;
    Result<Schema> schema = parse_schema(line);
    ASSERT_TRUE(schema) << schema.error().to_string();
    const Schema* found = find_schema(schema->name);
    ASSERT_NE(found, nullptr) << schema->name;
    EXPECT_EQ(found->args.size(), schema->args.size());
    ++count;
  }
  EXPECT_GT(count, 3000);
}

TEST(Schema, ReadsKindsAndDefaults) {
  const Schema* conv = find_schema("aten.conv2d.default");
  ASSERT_NE(conv, nullptr);
  EXPECT_EQ(conv->args[2].kind, ArgKind::tensor);
  EXPECT_TRUE(conv->args[2].optional);
  EXPECT_EQ(conv->args[3].fixed_length, 2);
  EXPECT_EQ(std::get<SymList>(*conv->args[3].default_value), (SymList{1, 1}));
  const Schema* norm = find_schema("aten.layer_norm.default");
  EXPECT_EQ(std::get<double>(*norm->args[4].default_value), 1e-5);
  const Schema* index = find_schema("aten.index.Tensor");
  EXPECT_EQ(index->args[1].kind, ArgKind::optional_tensors);
  const Schema* clone = find_schema("aten.clone.default");
  EXPECT_TRUE(clone->args[1].keyword_only);
  const Schema* contiguous = find_schema("aten.contiguous.default");
  EXPECT_EQ(std::get<MemoryFormat>(*contiguous->args[1].default_value), MemoryFormat::contiguous);
  const Schema* randint = find_schema("aten.randint.default");
  EXPECT_EQ(std::get<DType>(*randint->args[2].default_value), DType::i64);
  const Schema* topk = find_schema("aten.topk.default");
  EXPECT_EQ(topk->returns.size(), 2u);
  EXPECT_EQ(topk->returns[1].name, "indices");
  const Schema* split = find_schema("aten.split.Tensor");
  EXPECT_TRUE(split->args[0].aliased);
  EXPECT_EQ(split->returns[0].kind, ArgKind::tensors);
  EXPECT_TRUE(find_schema("aten.dropout.default")->has_tag("nondeterministic_seeded"));
  EXPECT_EQ(find_schema("aten.nothing.default"), nullptr);
}

TEST(Schema, FindsFunctionalForms) {
  EXPECT_EQ(functional_name("aten.add_.Tensor"), "aten.add.Tensor");
  EXPECT_EQ(functional_name("aten.relu_.default"), "aten.relu.default");
  EXPECT_EQ(functional_name("aten.copy_.default"), "aten.copy.default");
  EXPECT_EQ(functional_name("aten.zero_.default"), "aten.zero.default");
  EXPECT_EQ(functional_name("aten.fill_.Scalar"), "aten.fill.Scalar");
  EXPECT_EQ(functional_name("aten.index_put_.default"), "aten.index_put.default");
  EXPECT_EQ(functional_name("aten.masked_fill_.Scalar"), "aten.masked_fill.Scalar");
  EXPECT_EQ(functional_name("aten.__ior__.Tensor"), "aten.__or__.Tensor");
  EXPECT_EQ(functional_name("aten.add.out"), "aten.add.Tensor");
  EXPECT_EQ(functional_name("aten.bernoulli_.float"), "aten.bernoulli.p");
  EXPECT_EQ(functional_name("aten.add.Tensor"), std::nullopt);
}

TEST(Schema, BadTextIsRefused) {
  for (const char* text :
       {"", "aten::f", "aten::f(", "aten::f(Tensor self", "aten::f(Tensor self) ->", "aten::f(Tensor self) -> (Tensor",
        "aten::f(int x=abc) -> Tensor", "aten::f(Tensor self) -> Tensor junk junk"})
    EXPECT_FALSE(parse_schema(text)) << text;
}

}  // namespace
}  // namespace toroid
