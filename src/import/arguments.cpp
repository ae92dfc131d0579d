// Binds arguments to a schema.
#include "import/arguments.h"

#include "import/symbols.h"

namespace toroid {
namespace {

template <class T>
const T* get(const Arg& arg) {
  return std::get_if<T>(&arg);
}

// A number of any kind as a double, where its value is known.
std::optional<double> as_number(const Arg& arg) {
  if (const double* value = get<double>(arg)) return *value;
  if (const bool* value = get<bool>(arg)) return *value ? 1.0 : 0.0;
  if (const Sym* value = get<Sym>(arg); value && value->is_constant()) return static_cast<double>(value->value());
  return std::nullopt;
}
std::optional<Sym> as_integer(const Arg& arg) {
  if (const Sym* value = get<Sym>(arg)) return *value;
  if (const bool* value = get<bool>(arg)) return Sym(*value);
  return std::nullopt;
}

std::optional<Arg> as_integers(const Arg& arg, int32_t fixed_length) {
  const size_t length = static_cast<size_t>(std::max(fixed_length, 1));
  if (std::optional<Sym> one = as_integer(arg)) return Arg(SymList(length, *one));
  if (const SymList* list = get<SymList>(arg)) return Arg(list->size() == 1 ? SymList(length, list->front()) : *list);
  if (const auto* list = get<std::vector<bool>>(arg)) return Arg(SymList(list->begin(), list->end()));
  return std::nullopt;
}

std::optional<Arg> as_numbers(const Arg& arg) {
  if (get<std::vector<double>>(arg)) return arg;
  if (std::optional<double> one = as_number(arg)) return Arg(std::vector<double>{*one});
  const SymList* list = get<SymList>(arg);
  if (!list) return std::nullopt;
  std::vector<double> numbers;
  for (const Sym& item : *list) {
    if (!item.is_constant()) return arg;
    numbers.push_back(static_cast<double>(item.value()));
  }
  return Arg(std::move(numbers));
}

bool is_scalar(const Arg& arg) {
  return get<Sym>(arg) || get<double>(arg) || get<bool>(arg) || get<std::complex<double>>(arg);
}

std::optional<Arg> convert(const Arg& arg, const SchemaArg& wanted) {
  if (get<None>(arg)) {
    // A generator, layout or pin_memory is None in every graph; where the schema wants a tensor, None is missing.
    if (wanted.optional || wanted.kind == ArgKind::generator || wanted.kind == ArgKind::layout || wanted.default_value)
      return arg;
    return std::nullopt;
  }
  switch (wanted.kind) {
    // Python lets a number stand where a tensor is wanted; it promotes as a number, so it stays one.
    case ArgKind::tensor: return get<ValueId>(arg) || is_scalar(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::tensors:
    case ArgKind::optional_tensors:
      if (const SymList* list = get<SymList>(arg); list && list->empty()) return Arg(std::vector<ValueId>());
      if (const ValueId* one = get<ValueId>(arg)) return Arg(std::vector<ValueId>{*one});
      return get<std::vector<ValueId>>(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::integer: {
      std::optional<Sym> value = as_integer(arg);
      return value ? std::optional(Arg(*value)) : std::nullopt;
    }
    case ArgKind::integers: return as_integers(arg, wanted.fixed_length);
    case ArgKind::number: {
      if (std::optional<double> value = as_number(arg)) return Arg(*value);
      return get<Sym>(arg) ? std::optional(arg) : std::nullopt;
    }
    case ArgKind::numbers: return as_numbers(arg);
    case ArgKind::boolean:
      if (const Sym* value = get<Sym>(arg)) return value->is_constant() ? Arg(value->value() != 0) : arg;
      return get<bool>(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::booleans:
      if (const SymList* list = get<SymList>(arg)) {
        std::vector<bool> flags;
        for (const Sym& item : *list) flags.push_back(item != Sym(0));
        return Arg(std::move(flags));
      }
      return get<std::vector<bool>>(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::text: return get<std::string>(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::texts: return get<std::vector<std::string>>(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::scalar: return is_scalar(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::scalars:
      if (is_scalar(arg)) return arg;
      return get<SymList>(arg) || get<std::vector<double>>(arg) || get<std::vector<bool>>(arg) ? std::optional(arg)
                                                                                               : std::nullopt;
    case ArgKind::dtype: return get<DType>(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::device:
      if (const std::string* name = get<std::string>(arg)) return Arg(Device{*name, 0});
      return get<Device>(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::memory_format: return get<MemoryFormat>(arg) ? std::optional(arg) : std::nullopt;
    case ArgKind::layout:
    case ArgKind::generator: return std::nullopt;
    case ArgKind::other: return arg;
  }
  return std::nullopt;
}

}  // namespace

Result<std::vector<Arg>> bind_arguments(const Schema& schema, std::vector<NamedArg> given) {
  std::vector<std::optional<Arg>> bound(schema.args.size());
  size_t position = 0;
  for (NamedArg& arg : given) {
    int index = arg.name.empty() ? static_cast<int>(position++) : schema.find_arg(arg.name);
    if (index < 0) return fail(Kind::bad_graph, "`{}` has no argument `{}`", schema.name, arg.name);
    if (static_cast<size_t>(index) >= schema.args.size())
      return fail(Kind::bad_graph, "`{}` takes {} arguments, {} were given", schema.name, schema.args.size(),
                  given.size());
    const SchemaArg& wanted = schema.args[static_cast<size_t>(index)];
    if (bound[static_cast<size_t>(index)])
      return fail(Kind::bad_graph, "`{}`: argument `{}` is given twice", schema.name, wanted.name);
    std::optional<Arg> value = convert(arg.value, wanted);
    if (!value)
      return fail(Kind::bad_graph, "`{}`: argument `{}` is of a kind that its schema does not take", schema.name,
                  wanted.name);
    bound[static_cast<size_t>(index)] = std::move(value);
  }
  std::vector<Arg> args;
  for (size_t i = 0; i < bound.size(); ++i) {
    const SchemaArg& wanted = schema.args[i];
    if (bound[i]) {
      args.push_back(std::move(*bound[i]));
    } else if (wanted.default_value) {
      args.push_back(*wanted.default_value);
    } else if (wanted.optional || wanted.kind == ArgKind::generator) {
      args.emplace_back(None{});
    } else {
      return fail(Kind::bad_graph, "`{}`: argument `{}` is missing", schema.name, wanted.name);
    }
  }
  return args;
}

}  // namespace toroid
