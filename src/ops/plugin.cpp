// Rows of plug-ins' ops. A row's rule for types asks the plug-in's shape function, with sizes as expressions; its
// lowering is a call of the plug-in's kernel.
#include "ops/plugin.h"

#include <algorithm>
#include <deque>
#include <mutex>

#include "base/check.h"
#include "base/text.h"
#include "ops/rules.h"
#include "plugins.h"

namespace toroid {
namespace {

constexpr std::string_view functional_suffix = ".functional";

bool takes_tensors(ArgKind kind) {
  return kind == ArgKind::tensor || kind == ArgKind::tensors || kind == ArgKind::optional_tensors;
}

// What the kernel gets: tensors flat, everything else as numbers in the schema's order.
struct PluginArguments {
  std::vector<ValueId> inputs;
  SymList attributes;
};

Result<PluginArguments> flat(const Call& call) {
  PluginArguments out;
  for (size_t i = 0; i < call.schema().args.size(); ++i) {
    const SchemaArg& schema = call.schema().args[i];
    const Arg& arg = call.node().args[i];
    const bool none = std::holds_alternative<None>(arg);
    const bool list = schema.kind == ArgKind::tensors || schema.kind == ArgKind::optional_tensors;
    if (schema.optional) {
      out.attributes.push_back(none ? 0 : 1);
      if (none) continue;
    }
    if (auto tensor = std::get_if<ValueId>(&arg)) {
      out.inputs.push_back(*tensor);
    } else if (auto tensors = std::get_if<std::vector<ValueId>>(&arg); tensors && list) {
      out.attributes.push_back(static_cast<int64_t>(tensors->size()));
      for (ValueId id : *tensors) {
        if (schema.kind == ArgKind::optional_tensors) out.attributes.push_back(id.valid() ? 1 : 0);
        if (id.valid()) out.inputs.push_back(id);
      }
    } else if (auto size = std::get_if<Sym>(&arg)) {
      const bool real = schema.kind == ArgKind::number || schema.kind == ArgKind::scalar;
      if (real && !size->is_constant() && !is_float_sym(*size))
        return fail(Kind::unsupported_op, "`{}`: `{}` is a size and has to be a number", call.op(), schema.name);
      out.attributes.push_back(real && size->is_constant() ? sym_float(static_cast<double>(size->value())) : *size);
    } else if (auto sizes = std::get_if<SymList>(&arg)) {
      out.attributes.push_back(static_cast<int64_t>(sizes->size()));
      out.attributes.insert(out.attributes.end(), sizes->begin(), sizes->end());
    } else if (auto number = std::get_if<double>(&arg)) {
      out.attributes.push_back(sym_float(*number));
    } else if (auto numbers = std::get_if<std::vector<double>>(&arg)) {
      out.attributes.push_back(static_cast<int64_t>(numbers->size()));
      for (double value : *numbers) out.attributes.push_back(sym_float(value));
    } else if (auto flag = std::get_if<bool>(&arg)) {
      const bool real = schema.kind == ArgKind::scalar;
      out.attributes.push_back(real ? sym_float(*flag ? 1 : 0) : Sym(*flag ? 1 : 0));
    } else if (auto dtype = std::get_if<DType>(&arg)) {
      out.attributes.push_back(static_cast<int64_t>(*dtype));
    } else {
      return fail(Kind::unsupported_op, "`{}`: plug-ins take no argument such as `{}`", call.op(), schema.name);
    }
  }
  return out;
}

// The state behind toroid_shapes.
struct Shapes {
  const Call& call;
  const PluginArguments& arguments;
  std::vector<Sym> sizes;
  std::vector<TensorType> results;
  std::string refused;

  static Shapes& of(void* context) { return *static_cast<Shapes*>(context); }
  toroid_size keep(Sym size) {
    sizes.push_back(std::move(size));
    return static_cast<toroid_size>(sizes.size() - 1);
  }
  // A wrong number from the plug-in must not crash the compiler.
  void complain(std::string text) {
    if (refused.empty()) refused = std::move(text);
  }
  const TensorType* input(int32_t i) {
    if (i >= 0 && static_cast<size_t>(i) < arguments.inputs.size())
      return &call.type(arguments.inputs[static_cast<size_t>(i)]);
    complain(format("its shape function asks for input {}", i));
    return nullptr;
  }
  Sym size(toroid_size i) {
    if (i >= 0 && static_cast<size_t>(i) < sizes.size()) return sizes[static_cast<size_t>(i)];
    complain("its shape function gives a size that it was not given");
    return 1;
  }
};

toroid_shapes table_of(Shapes& shapes) {
  toroid_shapes out{};
  out.size = sizeof out;
  out.context = &shapes;
  out.input_count = static_cast<int32_t>(shapes.arguments.inputs.size());
  out.attribute_count = static_cast<int32_t>(shapes.arguments.attributes.size());
  out.dtype = [](void* c, int32_t i) -> int32_t {
    const TensorType* type = Shapes::of(c).input(i);
    return type ? static_cast<int32_t>(type->dtype) : 0;
  };
  out.rank = [](void* c, int32_t i) -> int32_t {
    const TensorType* type = Shapes::of(c).input(i);
    return type ? static_cast<int32_t>(type->rank()) : 0;
  };
  out.dim = [](void* c, int32_t i, int32_t d) -> toroid_size {
    Shapes& shapes = Shapes::of(c);
    const TensorType* type = shapes.input(i);
    if (type && d >= 0 && d < type->rank()) return shapes.keep(type->sizes[static_cast<size_t>(d)]);
    shapes.complain(format("its shape function asks for dim {} of input {}", d, i));
    return shapes.keep(1);
  };
  out.attribute = [](void* c, int32_t i) -> toroid_size {
    Shapes& shapes = Shapes::of(c);
    const SymList& all = shapes.arguments.attributes;
    if (i >= 0 && static_cast<size_t>(i) < all.size()) return shapes.keep(all[static_cast<size_t>(i)]);
    shapes.complain(format("its shape function asks for attribute {}", i));
    return shapes.keep(1);
  };
  out.number = [](void* c, int64_t value) -> toroid_size { return Shapes::of(c).keep(value); };
  out.combine = [](void* c, char operation, toroid_size left, toroid_size right) -> toroid_size {
    Shapes& shapes = Shapes::of(c);
    const Sym a = shapes.size(left), b = shapes.size(right);
    const bool divides = operation == '/' || operation == '%';
    if (divides && (!b.is_constant() || b.value() == 0)) {
      if (!proves_lt(0, b)) shapes.complain("its shape function divides by what may be 0");
    }
    if (!shapes.refused.empty()) return shapes.keep(1);
    switch (operation) {
      case '+': return shapes.keep(a + b);
      case '-': return shapes.keep(a - b);
      case '*': return shapes.keep(a * b);
      case '/': return shapes.keep(floor_div(a, b));
      case '%': return shapes.keep(mod(a, b));
      case '<': return shapes.keep(sym_min(a, b));
      case '>': return shapes.keep(sym_max(a, b));
      default: shapes.complain(format("its shape function combines sizes by `{}`", operation)); return shapes.keep(1);
    }
  };
  out.known = [](void* c, toroid_size size, int64_t* value) -> int32_t {
    const Sym sym = Shapes::of(c).size(size);
    if (!sym.is_constant()) return 0;
    *value = sym.value();
    return 1;
  };
  out.result = [](void* c, int32_t dtype, int32_t rank, const toroid_size* sizes) {
    Shapes& shapes = Shapes::of(c);
    SymList list;
    for (int32_t d = 0; d < rank; ++d) list.push_back(shapes.size(sizes[d]));
    if (dtype_bytes(static_cast<DType>(dtype)) == 0) return shapes.complain(format("it gives dtype {}", dtype));
    shapes.results.push_back(contiguous_type(shapes.call, static_cast<DType>(dtype), std::move(list)));
  };
  out.refuse = [](void* c, const char* text) { Shapes::of(c).complain(text ? text : "refused"); };
  return out;
}

std::vector<ValueId> written(const Call& call, const Schema& original) {
  std::vector<ValueId> out;
  for (size_t i = 0; i < original.args.size(); ++i)
    if (original.args[i].written)
      if (auto id = std::get_if<ValueId>(&call.node().args[i])) out.push_back(*id);
  return out;
}

// `original` is the schema as the plug-in wrote it.
OpRow row_of(const runtime::PluginOp& op, const Schema& original, std::string name) {
  OpRow row;
  row.name = std::move(name);
  const size_t own =
      static_cast<size_t>(std::ranges::count_if(original.returns, [](const SchemaReturn& r) { return !r.written; }));
  row.infer([&op, &original, own](const Call& call) -> Result<std::vector<TensorType>> {
    TD_TRY(const PluginArguments arguments, flat(call));
    Shapes shapes{call, arguments, {}, {}, {}};
    const toroid_shapes table = table_of(shapes);
    if (op.table.shape) op.table.shape(&table);
    if (!shapes.refused.empty())
      return fail(Kind::unsupported_op, "`{}` of the plug-in `{}`: {}", op.name, op.file, shapes.refused);
    if (shapes.results.size() != own)
      return fail(Kind::unsupported_op, "`{}` of the plug-in `{}`: its shape function gives {} results, its schema {}",
                  op.name, op.file, shapes.results.size(), own);
    for (ValueId id : written(call, original))
      shapes.results.push_back(contiguous_type(call, call.type(id).dtype, call.type(id).sizes));
    return shapes.results;
  });
  row.lower_many([&op](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
    TD_TRY(const PluginArguments arguments, flat(call));
    std::vector<LoopValue> operands;
    for (ValueId id : arguments.inputs) operands.push_back(call.tensor(id));
    std::vector<LoopBuilder::CallResult> results;
    for (size_t i = 0; i < call.node().outputs.size(); ++i) {
      const TensorType& type = call.result(i);
      results.push_back({type.dtype, type.sizes});
    }
    return b.call(op.name, operands, arguments.attributes, results);
  });
  // What it computes is the plug-in's business: it runs as often as the model says.
  row.random();
  return row;
}

struct PluginOps {
  std::mutex mutex;
  std::deque<Schema> schemas;  // as written, and of functional twins
  std::deque<OpRow> rows;
  static PluginOps& process() {
    static PluginOps ops;
    return ops;
  }
};

template <class Item>
const Item* find_by_name(const std::deque<Item>& items, std::string_view name) {
  for (const Item& item : items)
    if (item.name == name) return &item;
  return nullptr;
}

Status check_schema(const Schema& schema, const runtime::PluginOp& op) {
  auto bad = [&](const std::string& what) {
    return fail(Kind::bad_option, "the plug-in `{}`: `{}` {}", op.file, op.name, what);
  };
  bool gives = !schema.returns.empty();
  for (const SchemaArg& arg : schema.args) {
    gives |= arg.written;
    const bool plain = takes_tensors(arg.kind) || arg.kind == ArgKind::integer || arg.kind == ArgKind::integers ||
                       arg.kind == ArgKind::number || arg.kind == ArgKind::numbers || arg.kind == ArgKind::boolean ||
                       arg.kind == ArgKind::scalar || arg.kind == ArgKind::dtype;
    if (!plain) return bad(format("has the argument `{}`, of a kind that plug-ins cannot take", arg.name));
    if (arg.aliased && !arg.written) return bad(format("gives a view of `{}`", arg.name));
    if (arg.written && arg.kind != ArgKind::tensor) return bad(format("writes to the list `{}`", arg.name));
  }
  for (const SchemaReturn& result : schema.returns)
    if (result.kind != ArgKind::tensor) return bad("gives what is no tensor");
  if (!gives) return bad("has neither results nor arguments that it writes to");
  if (!op.table.shape && std::ranges::any_of(schema.returns, [](const SchemaReturn& r) { return !r.written; }))
    return bad("has results and no shape function");
  return {};
}

}  // namespace

Status add_plugin(const std::string& path) {
  auto loaded = runtime::load_plugin(path);
  if (!loaded) return fail(Kind::bad_option, "{}", loaded.error().text);
  PluginOps& all = PluginOps::process();
  const std::lock_guard lock(all.mutex);
  for (const runtime::PluginOp* op : *loaded) {
    TD_TRY(Schema schema, parse_schema(op->table.schema));
    if (find_by_name(all.schemas, schema.name)) continue;  // the same plug-in again
    TD_CHECK_OK(check_schema(schema, *op));
    const Schema& original = all.schemas.emplace_back(std::move(schema));
    if (!original.mutates()) {
      all.rows.push_back(row_of(*op, original, original.name));
      continue;
    }
    Schema twin = original;
    twin.name += functional_suffix;
    std::erase_if(twin.returns, [](const SchemaReturn& r) { return r.written; });
    for (SchemaArg& arg : twin.args) {
      if (arg.written)
        twin.returns.push_back({.name = arg.name, .kind = ArgKind::tensor, .aliased = false, .written = false});
      arg.written = arg.aliased = false;
    }
    const std::string name = twin.name;
    all.schemas.push_back(std::move(twin));
    all.rows.push_back(row_of(*op, original, name));
  }
  return {};
}

const Schema* find_plugin_schema(std::string_view name) {
  PluginOps& all = PluginOps::process();
  const std::lock_guard lock(all.mutex);
  return find_by_name(all.schemas, name);
}

const OpRow* find_plugin_row(std::string_view name) {
  PluginOps& all = PluginOps::process();
  const std::lock_guard lock(all.mutex);
  return find_by_name(all.rows, name);
}

}  // namespace toroid
