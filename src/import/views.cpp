// Views: which can be undone, and how.
#include "base/check.h"
#include "import/graph_writer.h"
#include "ops/rules.h"

namespace toroid {
namespace {

int64_t wrapped(const Arg& dim, size_t rank) {
  const Sym* value = std::get_if<Sym>(&dim);
  if (!value || !value->is_constant()) return -1;
  const int64_t n = static_cast<int64_t>(rank);
  const int64_t d = value->value() < 0 ? value->value() + n : value->value();
  return d >= 0 && d < n ? d : -1;
}

Inverse reshape_to(const SymList& sizes, ValueId value) { return {"aten.reshape.default", {value, sizes}}; }

// The part [start, start + length) of dimension `dim`.
Inverse slice_into(ValueId base, ValueId value, int64_t dim, const Sym& start, const Sym& length) {
  return {"aten.slice_scatter.default", {base, value, Sym(dim), start, start + length, Sym(1)}};
}

std::optional<std::vector<int64_t>> dims_of(const Arg& arg, size_t rank) {
  std::vector<int64_t> dims;
  const SymList* list = std::get_if<SymList>(&arg);
  SymList one;
  if (const Sym* single = std::get_if<Sym>(&arg)) one = {*single}, list = &one;
  if (!list) return std::nullopt;
  for (const Sym& item : *list) {
    int64_t dim = wrapped(item, rank);
    if (dim < 0) return std::nullopt;
    dims.push_back(dim);
  }
  return dims;
}

}  // namespace

std::optional<Inverse> invert_view(const Schema& schema, const std::vector<Arg>& args,
                                   const std::vector<TensorType>& results, size_t index, const TensorType& viewed,
                                   ValueId base, ValueId value) {
  const std::string op = schema.name.substr(0, schema.name.rfind('.'));
  const size_t rank = viewed.sizes.size();
  auto arg = [&](const char* name) -> const Arg& {
    int i = schema.find_arg(name);
    TD_CHECK(i >= 0, "`{}` has no argument `{}`", schema.name, name);
    return args[static_cast<size_t>(i)];
  };
  auto is = [&](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (op == std::string("aten.") + name) return true;
    return false;
  };
  if (is({"alias", "detach", "contiguous", "lift_fresh", "to", "view_of", "type_as", "positive"}))
    return Inverse{"", {value}};
  if (is({"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "_unsafe_view",
          "ravel", "_reshape_alias", "atleast_1d", "atleast_2d", "atleast_3d"})) {
    if (schema.name == "aten.view.dtype") {
      if (results[index].sizes != viewed.sizes) return std::nullopt;
      return Inverse{"aten.view.dtype", {value, viewed.dtype}};
    }
    return reshape_to(viewed.sizes, value);
  }
  if (is({"expand", "expand_as", "broadcast_to"})) {
    // Writing to memory that several elements share has no meaning; an expand that adds ones only shares nothing.
    if (!proves_eq(product(results[index].sizes), product(viewed.sizes))) return std::nullopt;
    return reshape_to(viewed.sizes, value);
  }
  if (is({"slice"}))
    return Inverse{"aten.slice_scatter.default", {base, value, arg("dim"), arg("start"), arg("end"), arg("step")}};
  if (schema.name == "aten.select.int")
    return Inverse{"aten.select_scatter.default", {base, value, arg("dim"), arg("index")}};
  if (schema.name == "aten.narrow.default") {
    int64_t dim = wrapped(arg("dim"), rank);
    if (dim < 0) return std::nullopt;
    Sym start = std::get<Sym>(arg("start"));
    if (start.is_constant() && start.value() < 0) start += viewed.sizes[static_cast<size_t>(dim)];
    return slice_into(base, value, dim, start, std::get<Sym>(arg("length")));
  }
  if (schema.name == "aten.unbind.int")
    return Inverse{"aten.select_scatter.default", {base, value, arg("dim"), Sym(static_cast<int64_t>(index))}};
  if (is({"split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split", "tensor_split", "hsplit", "vsplit"})) {
    int at = schema.find_arg("dim");
    int64_t dim = at < 0 ? -1 : wrapped(args[static_cast<size_t>(at)], rank);
    if (dim < 0) return std::nullopt;
    Sym start = 0;
    for (size_t i = 0; i < index; ++i) start += results[i].sizes[static_cast<size_t>(dim)];
    return slice_into(base, value, dim, start, results[index].sizes[static_cast<size_t>(dim)]);
  }
  if (schema.name == "aten.diagonal.default")
    return Inverse{"aten.diagonal_scatter.default", {base, value, arg("offset"), arg("dim1"), arg("dim2")}};
  if (is({"as_strided"}))
    return Inverse{"aten.as_strided_scatter.default", {base, value, arg("size"), arg("stride"), arg("storage_offset")}};
  if (schema.name == "aten.unfold.default" && dense_order(viewed))
    return Inverse{"aten.as_strided_scatter.default",
                   {base, value, results[index].sizes, results[index].strides, Sym(0)}};
  if (schema.name == "aten.transpose.int") return Inverse{schema.name, {value, arg("dim0"), arg("dim1")}};
  if (is({"swapaxes"})) return Inverse{"aten.transpose.int", {value, arg("axis0"), arg("axis1")}};
  if (is({"swapdims"})) return Inverse{"aten.transpose.int", {value, arg("dim0"), arg("dim1")}};
  if (is({"t"})) return Inverse{"aten.t.default", {value}};
  if (is({"mT", "adjoint"}) && rank >= 2) return Inverse{"aten.transpose.int", {value, Sym(-2), Sym(-1)}};
  if (is({"numpy_T"})) {
    SymList order;
    for (size_t i = rank; i-- > 0;) order.emplace_back(static_cast<int64_t>(i));
    return Inverse{"aten.permute.default", {value, order}};
  }
  if (is({"permute"})) {
    std::optional<std::vector<int64_t>> dims = dims_of(arg("dims"), rank);
    if (!dims || dims->size() != rank) return std::nullopt;
    SymList order(rank);
    for (size_t i = 0; i < rank; ++i) order[static_cast<size_t>((*dims)[i])] = Sym(static_cast<int64_t>(i));
    return Inverse{"aten.permute.default", {value, order}};
  }
  if (is({"movedim", "moveaxis"})) return Inverse{schema.name, {value, arg("destination"), arg("source")}};
  if (is({"view_as_real"})) return Inverse{"aten.view_as_complex.default", {value}};
  if (is({"view_as_complex"})) return Inverse{"aten.view_as_real.default", {value}};
  return std::nullopt;
}

}  // namespace toroid
