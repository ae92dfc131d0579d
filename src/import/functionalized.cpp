// auto_functionalized_v2(op, arguments..., _all_bases): an op that writes to its arguments, as run_decompositions
// leaves it. The op is called in place on copies of the bases; the results are its own, then the bases' new contents.
#include <map>

#include "base/check.h"
#include "import/program.h"
#include "ops/schema.h"

namespace toroid {

namespace {

class WrittenArguments {
 public:
  WrittenArguments(GraphWriter& writer, std::map<std::string, Arg>& given, const Where& where)
      : writer_(writer), given_(given), where_(where) {}

  // Copies of the bases, which cost nothing until something is written.
  Status copy_bases() {
    const auto* bases = find<std::vector<Handle>>("_all_bases");
    if (!bases) return fail(Kind::bad_file, "auto_functionalized_v2 without `_all_bases`");
    for (Handle base : *bases) {
      TD_TRY(std::vector<Handle> copy, writer_.call("aten.lift_fresh_copy.default", {base}, {}, where_));
      copies_.push_back(copy.at(0));
    }
    return {};
  }
  const std::vector<Handle>& copies() const { return copies_; }

  // The argument `name` as a view of its base's copy: all of it, a slice, or by strides.
  Result<Arg> view(const std::string& name) {
    const std::string key = "_" + name;
    if (given_.contains(key + "_length")) return fail(Kind::unsupported, "an op that writes to the list `{}`", name);
    const Sym* index = find<Sym>(key + "_base_index");
    if (!index) return Arg(None{});
    if (!index->is_constant() || index->value() < 0 || index->value() >= static_cast<int64_t>(copies_.size()))
      return fail(Kind::bad_file, "auto_functionalized_v2: `{}` has no base {}", name, to_string(*index));
    const Handle base = copies_[static_cast<size_t>(index->value())];
    if (const SymList* sizes = find<SymList>(key + "_size")) {
      const SymList* strides = find<SymList>(key + "_stride");
      const Sym* offset = find<Sym>(key + "_storage_offset");
      if (!strides || !offset) return fail(Kind::bad_file, "auto_functionalized_v2: `{}` has sizes alone", name);
      return viewed("aten.as_strided.default", {base, *sizes, *strides, *offset});
    }
    if (const Sym* dim = find<Sym>(key + "_slice_dim")) {
      const Sym *start = find<Sym>(key + "_slice_start"), *end = find<Sym>(key + "_slice_end");
      return viewed("aten.slice.Tensor",
                    {base, *dim, start ? Arg(*start) : Arg(None{}), end ? Arg(*end) : Arg(None{}), Sym(1)});
    }
    return Arg(base);
  }

 private:
  template <class T>
  const T* find(const std::string& name) const {
    auto at = given_.find(name);
    return at == given_.end() ? nullptr : std::get_if<T>(&at->second);
  }
  Result<Arg> viewed(const std::string& op, const std::vector<Arg>& args) {
    TD_TRY(std::vector<Handle> made, writer_.call(op, args, {}, where_));
    return Arg(made.at(0));
  }

  GraphWriter& writer_;
  std::map<std::string, Arg>& given_;
  const Where& where_;
  std::vector<Handle> copies_;
};

}  // namespace

Status GraphReader::read_functionalized(const std::string& op, const Json& node, const Where& where) {
  TD_TRY(Arg called, input(node, 0));
  const std::string* name = std::get_if<std::string>(&called);
  if (!name) return fail(Kind::bad_file, "`{}` without an op", op);
  const std::string inner = name->starts_with("torch.ops.") ? name->substr(10) : *name;
  const Schema* schema = find_schema(inner);
  if (!schema) return refuse(inner, node, "", where);
  std::map<std::string, Arg> given;
  Status failure;
  node["inputs"].each([&](const Json& item) {
    const std::string key(item["name"].text());
    if (!failure || key.empty()) return;
    Result<Arg> value = argument(item["arg"]);
    if (!value)
      failure = std::unexpected(std::move(value).error());
    else
      given[key] = std::move(*value);
  });
  TD_CHECK_OK(document_.status());
  TD_CHECK_OK(failure);
  WrittenArguments written(writer_, given, where);
  TD_CHECK_OK(written.copy_bases());
  std::vector<NamedArg> args;
  for (const SchemaArg& arg : schema->args) {
    if (arg.written) {
      TD_TRY(Arg view, written.view(arg.name));
      args.push_back({arg.name, std::move(view)});
    } else if (auto at = given.find(arg.name); at != given.end()) {
      args.push_back({arg.name, at->second});
    }
  }
  TD_TRY(std::vector<Arg> bound, bind_arguments(*schema, std::move(args)));
  std::vector<ResultNote> notes;
  std::vector<std::string> names;
  TD_CHECK_OK(results(node, notes, names));
  // An op without results has one of None here.
  const size_t own = schema->returns.size(), first_base = std::max<size_t>(own, 1);
  if (names.size() != first_base + written.copies().size())
    return fail(Kind::bad_file, "`{}` of `{}` lists {} results, not {}", op, inner, names.size(),
                first_base + written.copies().size());
  const std::vector<ResultNote> own_notes(notes.begin(), notes.begin() + static_cast<std::ptrdiff_t>(own));
  TD_TRY(std::vector<Handle> made, writer_.call(inner, bound, own_notes, where));
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) continue;
    const Handle result = i >= first_base ? written.copies()[i - first_base] : i < made.size() ? made[i] : Handle{};
    bind(names[i], result.valid() ? result : writer_.placeholder(notes[i]));
  }
  return {};
}

}  // namespace toroid
