// An op over lists of tensors in, a call for each of their elements out.
#include "import/foreach.h"

namespace toroid {
namespace {

// The element at i of a list; what is no list goes to every call.
Arg element(const Arg& arg, size_t i) {
  if (auto list = std::get_if<std::vector<ValueId>>(&arg)) return list->at(i);
  if (auto list = std::get_if<SymList>(&arg)) return list->at(i);
  if (auto list = std::get_if<std::vector<double>>(&arg)) return list->at(i);
  return arg;
}

bool is_tensor(const Arg& arg) { return std::holds_alternative<ValueId>(arg); }

// `base` of one element; `_` behind it writes to the first argument.
OneCall one_call(std::string base, std::vector<Arg> args) {
  const bool in_place = base.ends_with("_");
  if (in_place) base.pop_back();
  const bool tensors = args.size() > 1 && is_tensor(args[1]);
  std::string overload = "default";
  if (base == "norm") return {"aten.linalg_vector_norm.default", {args[0], args[1], None{}, false, args[2]}};
  if (base == "maximum" || base == "minimum") base = base == "maximum" ? "clamp_min" : "clamp_max";
  if (base == "clamp_min" || base == "clamp_max") overload = tensors ? "Tensor" : "default";
  if (base == "add" || base == "sub" || base == "mul" || base == "div") overload = tensors ? "Tensor" : "Scalar";
  if ((base == "add" || base == "sub") && args.size() == 2) args.emplace_back(Sym(1));
  if (base == "lerp") overload = is_tensor(args[2]) ? "Tensor" : "Scalar";
  if (base == "pow" && !is_tensor(args[0]))
    overload = "Scalar";
  else if (base == "pow" && in_place)
    overload = tensors ? "Tensor" : "Scalar";
  else if (base == "pow")
    overload = tensors ? "Tensor_Tensor" : "Tensor_Scalar";
  return {"aten." + base + (in_place ? "_." : ".") + overload, std::move(args)};
}

}  // namespace

std::optional<std::vector<OneCall>> foreach_calls(const Schema& schema, const std::vector<Arg>& args) {
  constexpr std::string_view prefix = "aten._foreach_";
  if (!schema.name.starts_with(prefix)) return {};
  const std::string base = schema.name.substr(prefix.size(), schema.name.rfind('.') - prefix.size());
  std::optional<size_t> count;
  for (const Arg& arg : args)
    if (auto list = std::get_if<std::vector<ValueId>>(&arg); list && !count) count = list->size();
  if (!count) return {};
  std::vector<OneCall> calls;
  for (size_t i = 0; i < *count; ++i) {
    std::vector<Arg> own;
    for (const Arg& arg : args) own.push_back(element(arg, i));
    calls.push_back(one_call(base, std::move(own)));
    const Schema* one = find_schema(calls.back().op);
    if (!one || one->args.size() != calls.back().args.size()) return {};
    for (size_t a = 0; a < one->args.size(); ++a)
      if (is_tensor(calls.back().args[a]) && one->args[a].kind != ArgKind::tensor) return {};
  }
  return calls;
}

}  // namespace toroid
