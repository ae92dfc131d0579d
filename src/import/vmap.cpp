// Regions of torch.vmap in an exported program. The archive has the ops as one example's between _add_batch_dim, which
// takes a dim away, and _remove_batch_dim, which puts it back: what is computed is a `map` over the examples.
#include <set>

#include "base/check.h"
#include "import/program.h"

namespace toroid {
namespace {

constexpr std::string_view prefix = "torch._functorch.predispatch.";

bool is(const Json& node, std::string_view name) {
  const std::string_view target = node["target"].text();
  return target.starts_with(prefix) && target.substr(prefix.size()) == name;
}

// visit(name) for each tensor among a node's arguments.
template <class F>
void each_tensor(const Json& node, F visit) {
  node["inputs"].each([&](const Json& item) {
    auto [tag, value] = item["arg"].tagged();
    if (tag == "as_tensor") visit(value["name"].text());
    if (tag == "as_tensors") value.each([&](const Json& one) { visit(one["name"].text()); });
    if (tag != "as_optional_tensors" && tag != "as_optional_tensor") return;
    auto optional = [&](const Json& one) {
      auto [kind, named] = one.tagged();
      if (kind == "as_tensor") visit(named["name"].text());
    };
    if (tag == "as_optional_tensor")
      optional(value);
    else
      value.each(optional);
  });
}

template <class F>
void each_result(const Json& node, F visit) {
  node["outputs"].each([&](const Json& output) {
    auto [tag, value] = output.tagged();
    if (tag == "as_tensor") visit(value["name"].text());
    if (tag == "as_tensors") value.each([&](const Json& one) { visit(one["name"].text()); });
  });
}

// The only result's name.
std::string result_name(const Json& node) {
  std::string name;
  each_result(node, [&](std::string_view text) { name = text; });
  return name;
}

// A type with its dim `from` at `to`.
TensorType moved(TensorType type, size_t from, size_t to) {
  auto move = [&](SymList& list) {
    const Sym one = list[from];
    list.erase(list.begin() + static_cast<ptrdiff_t>(from));
    list.insert(list.begin() + static_cast<ptrdiff_t>(to), one);
  };
  move(type.sizes);
  move(type.strides);
  return type;
}

}  // namespace

Status GraphReader::read_list(const std::vector<Json>& nodes) {
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (is(nodes[i], "lazy_load_decompositions")) continue;
    if (!is(nodes[i], "_vmap_increment_nesting")) {
      TD_CHECK_OK(read_node(nodes[i]));
      continue;
    }
    size_t depth = 1, end = i + 1;
    for (; end < nodes.size(); ++end) {
      if (is(nodes[end], "_vmap_increment_nesting")) ++depth;
      if (is(nodes[end], "_vmap_decrement_nesting") && --depth == 0) break;
    }
    if (end == nodes.size()) return fail(Kind::bad_file, "a region of torch.vmap that does not end");
    TD_CHECK_OK(read_vmap({nodes.begin() + static_cast<ptrdiff_t>(i) + 1, nodes.begin() + static_cast<ptrdiff_t>(end)},
                          where_from_metadata(nodes[i]["metadata"])));
    i = end;
  }
  return {};
}

Status GraphReader::read_vmap(const std::vector<Json>& nodes, const Where& where) {
  if (depth_ >= max_nesting) return fail(Kind::bad_file, "graphs nested more than {} deep", max_nesting);
  Graph inner;
  inner.name = "vmap";
  GraphWriter writer(inner, true);
  writer.set_autocast(writer_.autocast());
  GraphReader reader(json_, document_, meta_, writer, inner, depth_ + 1);
  reader.claims_ = false;

  // What is this region's own, and what it only uses. A region inside it has walls of its own.
  std::vector<Json> walls_in, walls_out, body;
  std::set<std::string> made;
  size_t depth = 0;
  for (const Json& node : nodes) {
    if (is(node, "_vmap_increment_nesting")) ++depth;
    if (is(node, "_vmap_decrement_nesting")) --depth;
    if (depth == 0 && is(node, "_add_batch_dim"))
      walls_in.push_back(node);
    else if (depth == 0 && is(node, "_remove_batch_dim"))
      walls_out.push_back(node);
    else
      body.push_back(node);
    each_result(node, [&](std::string_view name) { made.emplace(name); });
  }
  if (walls_in.empty() || walls_out.empty()) return fail(Kind::bad_file, "a region of torch.vmap without tensors");

  std::vector<Handle> walked, others;
  for (const Json& node : walls_in) {
    TD_TRY(Arg tensor, input(node, 0));
    TD_TRY(Arg dim, input(node, 1));
    const Handle* handle = std::get_if<Handle>(&tensor);
    const Sym* at = std::get_if<Sym>(&dim);
    if (!handle || !at) return fail(Kind::bad_file, "`_add_batch_dim` of something that is no tensor");
    TD_TRY(std::vector<Handle> rows, writer_.call("aten.movedim.int", {*handle, *at, Sym(0)}, {}, where));
    const std::string name = result_name(node);
    TD_TRY(TensorMeta meta, tensor_meta(name));
    walked.push_back(rows[0]);
    reader.bind(name, writer.add_input(name, printable_name(name), meta.type));
  }
  Status failure;
  for (const Json& node : nodes) {
    if (is(node, "_add_batch_dim") &&
        std::ranges::any_of(walls_in, [&](const Json& wall) { return result_name(wall) == result_name(node); }))
      continue;
    each_tensor(node, [&](std::string_view name) {
      if (!failure || !made.emplace(name).second) return;
      Result<Arg> value = lookup(name);
      const Handle* handle = value ? std::get_if<Handle>(&*value) : nullptr;
      if (!value) {
        failure = std::unexpected(value.error());
      } else if (handle) {
        others.push_back(*handle);
        reader.bind(name,
                    writer.add_input(std::string(name), printable_name(std::string(name)), writer_.type(*handle)));
      }
    });
  }
  TD_CHECK_OK(document_.status());
  TD_CHECK_OK(failure);
  TD_CHECK_OK(reader.read_list(body));

  std::vector<ResultNote> notes;
  std::vector<int64_t> dims;
  for (const Json& node : walls_out) {
    TD_TRY(Arg tensor, reader.input(node, 0));
    TD_TRY(Arg dim, input(node, 3));
    const Handle* handle = std::get_if<Handle>(&tensor);
    const Sym* at = std::get_if<Sym>(&dim);
    TD_TRY(TensorMeta meta, tensor_meta(result_name(node)));
    const auto rank = static_cast<int64_t>(meta.type.sizes.size());
    if (!handle || !at || !at->is_constant() || at->value() < -rank || at->value() >= rank)
      return fail(Kind::bad_file, "`_remove_batch_dim` of something that is no tensor");
    dims.push_back(at->value() < 0 ? at->value() + rank : at->value());
    GraphOutput output;
    output.value = writer.read(*handle);
    inner.outputs.push_back(std::move(output));
    ResultNote note;
    note.type = moved(meta.type, static_cast<size_t>(dims.back()), 0);
    notes.push_back(std::move(note));
  }
  TD_CHECK_OK(writer.finish());
  const SubgraphId program = add_subgraph(std::move(inner));
  TD_TRY(std::vector<Handle> results, writer_.call("higher_order.map_impl", {program, walked, others}, notes, where));
  for (size_t i = 0; i < walls_out.size(); ++i) {
    TD_TRY(std::vector<Handle> whole, writer_.call("aten.movedim.int", {results[i], Sym(0), Sym(dims[i])}, {}, where));
    bind(result_name(walls_out[i]), whole[0]);
  }
  return {};
}

}  // namespace toroid
