// See compose.h.
#include "ops/compose.h"

#include <algorithm>

#include "base/check.h"
#include "ops/rules.h"

namespace toroid {

namespace {

// A graph of one node whose tensors stand for LoopValues.
class OneCall {
 public:
  OneCall(Device device, std::string op) : device_(std::move(device)) { node_.op = std::move(op); }

  ValueId value(const LoopValue& x) {
    Value value;
    value.name = format("x{}", values_.size());
    value.type = {x.dtype, x.sizes, contiguous_strides(x.sizes), device_};
    values_.push_back(x);
    return graph_.add_value(std::move(value));
  }

  Arg argument(const Passed& passed) {
    if (auto x = std::get_if<LoopValue>(&passed.value())) return value(*x);
    if (auto list = std::get_if<std::vector<LoopValue>>(&passed.value())) {
      std::vector<ValueId> ids;
      for (const LoopValue& x : *list) ids.push_back(value(x));
      return ids;
    }
    if (auto list = std::get_if<std::vector<std::optional<LoopValue>>>(&passed.value())) {
      std::vector<ValueId> ids;
      for (const auto& x : *list) ids.push_back(x ? value(*x) : ValueId{});
      return ids;
    }
    return std::get<Arg>(passed.value());
  }

  Graph graph_;
  Node node_;
  std::vector<LoopValue> values_;
  Device device_;
};

}  // namespace

std::vector<LoopValue> Compose::all(const std::string& op, std::vector<Passed> args, Named named) {
  // Values may be asked for long after this call: they keep what their rule refers to.
  auto kept = std::make_shared<OneCall>(device_of(call), "aten." + op);
  OneCall& one = *kept;
  const Schema* schema = find_schema(one.node_.op);
  const OpRow* row = OpTable::all().find(one.node_.op);
  TD_CHECK(schema && row && row->lower_rule, "`{}` is composed of `{}`, which has no row", call.op(), one.node_.op);
  std::vector<std::optional<Arg>> given(schema->args.size());
  TD_CHECK(args.size() <= given.size(), "`{}` calls `{}` with too many arguments", call.op(), one.node_.op);
  for (size_t i = 0; i < args.size(); ++i) given[i] = one.argument(args[i]);
  for (const auto& [name, passed] : named) {
    int at = schema->find_arg(name);
    TD_CHECK(at >= 0, "`{}` has no argument `{}`", one.node_.op, name);
    given[static_cast<size_t>(at)] = one.argument(passed);
  }
  for (size_t i = 0; i < given.size(); ++i) {
    if (!given[i]) given[i] = schema->args[i].default_value;
    if (!given[i] && schema->args[i].optional) given[i] = None{};
    TD_CHECK(given[i].has_value(), "`{}` calls `{}` without `{}`", call.op(), one.node_.op, schema->args[i].name);
    one.node_.args.push_back(std::move(*given[i]));
  }
  one.node_.outputs.resize(schema->returns.size());
  if (row->infer_rule) {
    auto types = row->infer_rule(Call(one.graph_, one.node_, *schema));
    if (!types) throw Refused{std::move(types).error()};
    one.node_.outputs.clear();
    for (TensorType& type : *types) {
      Value value;
      value.name = "r";
      value.type = type;
      one.node_.outputs.push_back(one.graph_.add_value(std::move(value)));
    }
  }
  const LowerCall inner(one.graph_, one.node_, *schema,
                        [&one](ValueId id) { return one.values_.at(static_cast<size_t>(id.index)); });
  auto results = row->lower_rule(b, inner);
  if (!results) throw Refused{std::move(results).error()};
  const bool view = row->views(inner);
  for (LoopValue& result : *results) {
    result.at = [at = std::move(result.at), kept](const Index& i) { return at(i); };
    if (!view) result = b.materialize(result, format(".{}", calls_++));
  }
  return std::move(*results);
}

Passed Compose::operator[](std::string_view name) const {
  const Arg& arg = call.arg(name);
  if (auto id = std::get_if<ValueId>(&arg); id && id->valid()) return call.tensor(*id);
  if (std::holds_alternative<std::vector<ValueId>>(arg)) return tensors(name);
  return arg;
}

std::vector<LoopValue> Compose::tensors(std::string_view name) const {
  std::vector<LoopValue> list;
  for (ValueId id : call.values(name))
    if (id.valid()) list.push_back(call.tensor(id));
  return list;
}

void Compose::refuse(const std::string& reason) const {
  throw Refused{Diagnostic{Kind::unsupported_op, format("`{}`: {}", call.op(), reason), {}}};
}

LoopValue Compose::reduced(LoopValue terms, int64_t reduction) {
  if (reduction == 0) return terms;
  return (*this)(reduction == 1 ? "mean.default" : "sum.default", {std::move(terms)});
}

InferRule inferred_by(LowerRule rule) {
  return [rule = std::move(rule)](const Call& call) -> Types {
    Loops loops;
    std::unordered_map<int32_t, TensorId> tensors;
    auto place = [&](ValueId id) {
      if (!id.valid() || tensors.contains(id.index)) return;
      const TensorType& type = call.type(id);
      LoopTensor tensor;
      tensor.name = format("x{}", tensors.size());
      tensor.kind = TensorKind::input;
      tensor.pairs = is_complex(type.dtype);
      tensor.dtype = part_type(type.dtype);
      tensor.sizes = tensor.pairs ? pair_sizes(type.sizes) : type.sizes;
      tensor.strides = contiguous_strides(tensor.sizes);
      tensors[id.index] = loops.add(std::move(tensor));
    };
    for (const Arg& arg : call.node().args) {
      if (auto id = std::get_if<ValueId>(&arg)) place(*id);
      if (auto list = std::get_if<std::vector<ValueId>>(&arg))
        for (ValueId id : *list) place(id);
    }
    LoopBuilder b(loops);
    b.enter("probe", {});
    const LowerCall lowered(call.graph(), call.node(), call.schema(),
                            [&](ValueId id) { return b.read(tensors.at(id.index)); });
    std::vector<LoopValue> values;
    try {
      TD_TRY(values, rule(b, lowered));
    } catch (Refused& refused) {
      return fail(std::move(refused.diagnostic));
    }
    std::vector<TensorType> types;
    for (const LoopValue& value : values) types.push_back(unclaimed_type(call, value.dtype, value.sizes));
    return types;
  };
}

namespace {
// relu.default -> aten.relu.default; names with a namespace of their own stay.
std::string full_name(const std::string& name) {
  return std::count(name.begin(), name.end(), '.') == 2 ? name : "aten." + name;
}
}  // namespace

OpRow& lowered(OpTable& ops, const std::string& name, LowerRule rule) {
  return ops.add(full_name(name)).infer(inferred_by(rule)).lower_many(std::move(rule));
}

OpRow& compose(OpTable& ops, const std::string& name, ComposeRule rule) {
  LowerRule lower = [rule = std::move(rule)](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
    try {
      Compose c(b, call);
      return rule(c).values;
    } catch (Compose::Refused& refused) {
      return std::unexpected(std::move(refused.diagnostic));
    }
  };
  return ops.add(full_name(name)).infer(inferred_by(lower)).lower_many(std::move(lower));
}

}  // namespace toroid
