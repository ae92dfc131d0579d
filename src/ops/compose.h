// Ops that are made of other ops: a rule calls other rows by name, and both the result's type and its loops follow.
#pragma once
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ops/op_table.h"

namespace toroid {

// An argument of such a call: a tensor, tensors, or anything else that a graph's node may hold.
class Passed {
 public:
  Passed(LoopValue x) : value_(std::move(x)) {}
  Passed(std::vector<LoopValue> list) : value_(std::move(list)) {}
  // A list with gaps: index.Tensor's.
  static Passed optional(std::vector<std::optional<LoopValue>> list) {
    Passed p{None{}};
    p.value_ = std::move(list);
    return p;
  }
  Passed(Arg arg) : value_(std::move(arg)) {}
  Passed(Sym x) : value_(Arg(std::move(x))) {}
  Passed(int x) : value_(Arg(Sym(x))) {}
  Passed(int64_t x) : value_(Arg(Sym(x))) {}
  Passed(double x) : value_(Arg(x)) {}
  Passed(bool x) : value_(Arg(x)) {}
  Passed(const char* x) : value_(Arg(std::string(x))) {}
  Passed(DType x) : value_(Arg(x)) {}
  Passed(None x) : value_(Arg(x)) {}
  Passed(SymList x) : value_(Arg(std::move(x))) {}
  using Value = std::variant<LoopValue, std::vector<LoopValue>, std::vector<std::optional<LoopValue>>, Arg>;
  const Value& value() const { return value_; }

 private:
  Value value_;
};

class Compose {
 public:
  using Named = std::vector<std::pair<std::string, Passed>>;
  using Refused = toroid::Refused;

  Compose(LoopBuilder& builder, const LowerCall& call) : b(builder), call(call) {}
  LoopBuilder& b;
  const LowerCall& call;

  // Results of the row `aten.<op>`; what is left out has the schema's default. A result that is no view gets a tensor.
  std::vector<LoopValue> all(const std::string& op, std::vector<Passed> args, Named named = {});
  LoopValue operator()(const std::string& op, std::vector<Passed> args, Named named = {}) {
    return all(op, std::move(args), std::move(named)).at(0);
  }
  // The composed op's own argument, as it can be passed on; tensors (None left out).
  Passed operator[](std::string_view name) const;
  LoopValue tensor(std::string_view name) const { return call.tensor(name); }
  std::vector<LoopValue> tensors(std::string_view name) const;
  [[noreturn]] void refuse(const std::string& reason) const;

  LoopValue add(Passed x, Passed y) { return (*this)("add.Tensor", {std::move(x), std::move(y)}); }
  LoopValue sub(Passed x, Passed y) { return (*this)("sub.Tensor", {std::move(x), std::move(y)}); }
  LoopValue mul(Passed x, Passed y) { return (*this)("mul.Tensor", {std::move(x), std::move(y)}); }
  LoopValue div(Passed x, Passed y) { return (*this)("div.Tensor", {std::move(x), std::move(y)}); }
  LoopValue to(LoopValue x, DType dtype) { return b.convert(x, dtype); }
  // none, mean or sum of all elements, by a loss's reduction argument 0, 1 or 2.
  LoopValue reduced(LoopValue terms, int64_t reduction);

 private:
  int calls_ = 0;
};

// What a composed op gives: one value or several.
struct Composed {
  std::vector<LoopValue> values;
  Composed(LoopValue x) : values{std::move(x)} {}
  Composed(std::vector<LoopValue> list) : values(std::move(list)) {}
};
using ComposeRule = std::function<Composed(Compose&)>;

// A row of `aten.<name>` by such a rule. Types come from running the rule on placeholders; strides are the archive's.
OpRow& compose(OpTable& ops, const std::string& name, ComposeRule rule);
// A row of `aten.<name>` by a lowering alone: types as for a composed one.
OpRow& lowered(OpTable& ops, const std::string& name, LowerRule rule);
// Types of a lowering's results, found by lowering placeholders.
InferRule inferred_by(LowerRule rule);

}  // namespace toroid
