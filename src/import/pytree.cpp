// Names for the flattened inputs and outputs, from the calling convention's pytree specs.
#include "import/program.h"

namespace toroid {
namespace {

constexpr size_t max_leaves = 100'000;

// The keys of a dict node: its context is a JSON list inside a string.
std::vector<std::string> dict_keys(const Json& node) {
  std::vector<std::string> keys;
  Json context = node.find("context");
  if (!context.is_string()) return keys;
  Result<std::unique_ptr<JsonDocument>> list = JsonDocument::parse("treespec", context.text());
  if (!list || !(*list)->root().is_array()) return keys;
  (*list)->root().each([&](const Json& key) { keys.push_back(key.is_string() ? std::string(key.text()) : ""); });
  return keys;
}

void collect(const Json& node, const std::string& path, std::vector<std::string>& leaves) {
  if (leaves.size() > max_leaves) return;
  if (node.find("type").is_null()) {
    leaves.push_back(path);
    return;
  }
  const std::string type(node["type"].text());
  std::vector<std::string> keys;
  if (type == "builtins.dict" || type == "collections.OrderedDict") keys = dict_keys(node);
  size_t index = 0;
  node["children_spec"].each([&](const Json& child) {
    std::string step = index < keys.size() && !keys[index].empty() ? keys[index] : format("{}", index);
    collect(child, path.empty() ? step : path + "." + step, leaves);
    ++index;
  });
}

Result<std::unique_ptr<JsonDocument>> parse_spec(std::string_view text) {
  return JsonDocument::parse("treespec", text);
}

// A spec is [version, node].
Json root_node(JsonDocument& document) {
  Json node;
  if (!document.root().is_array()) return node;
  size_t index = 0;
  document.root().each([&](const Json& item) {
    if (index++ == 1) node = item;
  });
  return node;
}

}  // namespace

std::vector<std::string> input_leaf_names(std::string_view in_spec, const std::vector<std::string>& argument_names) {
  Result<std::unique_ptr<JsonDocument>> document = parse_spec(in_spec);
  if (!document) return {};
  Json root = root_node(**document);
  std::vector<Json> sides;
  if (root.find("children_spec").is_array())
    root["children_spec"].each([&](const Json& side) { sides.push_back(side); });
  if (sides.size() != 2 || !sides[0].find("children_spec").is_array() || !sides[1].find("children_spec").is_array())
    return {};
  std::vector<std::string> leaves;
  size_t argument = 0;
  const std::vector<std::string> keys = dict_keys(sides[1]);
  for (size_t side = 0; side < 2; ++side) {
    size_t index = 0;
    sides[side]["children_spec"].each([&](const Json& child) {
      std::string name = side == 1 && index < keys.size()   ? keys[index]
                         : argument < argument_names.size() ? argument_names[argument]
                                                            : format("arg{}", argument);
      collect(child, name, leaves);
      ++index, ++argument;
    });
  }
  if (!(*document)->status()) return {};
  return leaves;
}

std::vector<std::string> output_leaf_names(std::string_view out_spec) {
  Result<std::unique_ptr<JsonDocument>> document = parse_spec(out_spec);
  if (!document) return {};
  Json root = root_node(**document);
  if (!root.present()) return {};
  std::vector<std::string> leaves;
  collect(root, "", leaves);
  if (!(*document)->status()) return {};
  // A place in a tuple is no name.
  for (std::string& leaf : leaves)
    if (leaf.find_first_not_of("0123456789.") == std::string::npos) leaf.clear();
  return leaves;
}

}  // namespace toroid
