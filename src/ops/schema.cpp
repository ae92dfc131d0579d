// From the schema data file (embedded) and an op's name, gives the op's schema.
#include "ops/schema.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "base/check.h"
#include "ops/plugin.h"

// The data file as bytes of the library. CMake names it; a build by hand runs in the repository root.
#ifndef TOROID_SCHEMA_FILE
#define TOROID_SCHEMA_FILE "data/aten_schemas.txt"
#endif
// clang-format off
__asm__(
    ".section .rodata\n"
    ".globl toroid_schema_text\n.hidden toroid_schema_text\n"
    "toroid_schema_text:\n"
    ".incbin \"" TOROID_SCHEMA_FILE "\"\n"
    ".globl toroid_schema_text_end\n.hidden toroid_schema_text_end\n"
    "toroid_schema_text_end:\n.byte 0\n"
    ".text\n");
// clang-format on
extern "C" const char toroid_schema_text[];
extern "C" const char toroid_schema_text_end[];

namespace toroid {
namespace {

// c10's numbers of memory formats, as defaults are written.
constexpr MemoryFormat memory_formats[] = {MemoryFormat::contiguous, MemoryFormat::preserve,
                                           MemoryFormat::channels_last, MemoryFormat::channels_last_3d};

struct Cursor {
  std::string_view text;
  size_t at = 0;

  bool done() const { return at >= text.size(); }
  char peek() const { return done() ? '\0' : text[at]; }
  void spaces() {
    while (peek() == ' ') ++at;
  }
  bool accept(std::string_view part) {
    spaces();
    if (!text.substr(at).starts_with(part)) return false;
    at += part.size();
    return true;
  }
  std::string_view word() {
    spaces();
    size_t start = at;
    while (!done() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_')) ++at;
    return text.substr(start, at - start);
  }
  std::unexpected<Diagnostic> error(std::string_view what) const {
    return fail(Kind::bad_file, "schema `{}`: expected {} at column {}", text, what, at + 1);
  }
};

struct Type {
  ArgKind kind = ArgKind::other;
  bool optional = false, written = false, aliased = false;
  int32_t fixed_length = 0;
};

ArgKind list_of(ArgKind element, bool optional_element) {
  switch (element) {
    case ArgKind::tensor: return optional_element ? ArgKind::optional_tensors : ArgKind::tensors;
    case ArgKind::integer: return ArgKind::integers;
    case ArgKind::number: return ArgKind::numbers;
    case ArgKind::boolean: return ArgKind::booleans;
    case ArgKind::text: return ArgKind::texts;
    case ArgKind::scalar: return ArgKind::scalars;
    default: return ArgKind::other;
  }
}

ArgKind kind_of(std::string_view name) {
  static const std::unordered_map<std::string_view, ArgKind> kinds = {
      {"Tensor", ArgKind::tensor},       {"int", ArgKind::integer},    {"SymInt", ArgKind::integer},
      {"float", ArgKind::number},        {"bool", ArgKind::boolean},   {"str", ArgKind::text},
      {"Scalar", ArgKind::scalar},       {"complex", ArgKind::scalar}, {"ScalarType", ArgKind::dtype},
      {"Layout", ArgKind::layout},       {"Device", ArgKind::device},  {"MemoryFormat", ArgKind::memory_format},
      {"Generator", ArgKind::generator},
  };
  auto found = kinds.find(name);
  return found == kinds.end() ? ArgKind::other : found->second;
}

// `Tensor(a!)`, `SymInt[2]?`, `Tensor(a -> *)`, `Dict(str, t)`
Result<Type> parse_type(Cursor& cursor) {
  Type type;
  std::string_view name = cursor.word();
  if (name.empty()) return cursor.error("a type");
  type.kind = kind_of(name);
  // Names of registered classes are dotted.
  while (cursor.peek() == '.') ++cursor.at, cursor.word();
  while (true) {
    char c = cursor.peek();
    if (c == '(') {
      size_t end = cursor.text.find(')', cursor.at);
      if (end == std::string_view::npos) return cursor.error("`)`");
      std::string_view inner = cursor.text.substr(cursor.at + 1, end - cursor.at - 1);
      if (name != "Dict" && name != "RRef" && name != "Future" && name != "Await") {
        type.aliased = true;
        if (inner.find('!') != std::string_view::npos) type.written = true;
      }
      cursor.at = end + 1;
    } else if (c == '[') {
      ++cursor.at;
      std::string_view length = cursor.word();
      if (!length.empty()) std::from_chars(length.data(), length.data() + length.size(), type.fixed_length);
      if (!cursor.accept("]")) return cursor.error("`]`");
      type.kind = list_of(type.kind, type.optional);
      type.optional = false;
    } else if (c == '?') {
      ++cursor.at;
      type.optional = true;
    } else {
      return type;
    }
  }
}

Result<std::string> parse_quoted(Cursor& cursor) {
  std::string out;
  ++cursor.at;
  while (!cursor.done() && cursor.peek() != '"') {
    if (cursor.peek() == '\\') ++cursor.at;
    if (cursor.done()) break;
    out += cursor.text[cursor.at++];
  }
  if (!cursor.accept("\"")) return cursor.error("`\"`");
  return out;
}

// A number as the argument kind wants it.
Result<Arg> parse_number(Cursor& cursor, ArgKind kind) {
  cursor.spaces();
  size_t start = cursor.at;
  while (!cursor.done() && std::string_view("+-.0123456789einfa").find(cursor.peek()) != std::string_view::npos)
    ++cursor.at;
  std::string_view text = cursor.text.substr(start, cursor.at - start);
  int64_t integer = 0;
  double number = 0;
  auto whole = std::from_chars(text.data(), text.data() + text.size(), integer);
  bool is_integer = whole.ec == std::errc() && whole.ptr == text.data() + text.size();
  auto real = std::from_chars(text.data(), text.data() + text.size(), number);
  if (!is_integer && (real.ec != std::errc() || real.ptr != text.data() + text.size()))
    return cursor.error("a default");
  switch (kind) {
    case ArgKind::number:
    case ArgKind::numbers: return Arg(number);
    case ArgKind::dtype: return Arg(static_cast<DType>(integer));
    case ArgKind::memory_format:
      if (integer < 0 || integer > 3) return cursor.error("a memory format");
      return Arg(memory_formats[integer]);
    case ArgKind::layout: return Arg(None{});
    case ArgKind::boolean: return Arg(integer != 0);
    default: return is_integer ? Arg(Sym(integer)) : Arg(number);
  }
}

Result<Arg> parse_default(Cursor& cursor, const Type& type) {
  if (cursor.accept("None")) return Arg(None{});
  if (cursor.accept("True")) return Arg(true);
  if (cursor.accept("False")) return Arg(false);
  if (cursor.peek() == '"') {
    TD_TRY(std::string text, parse_quoted(cursor));
    return Arg(std::move(text));
  }
  if (cursor.accept("[")) {
    std::vector<Arg> items;
    while (!cursor.accept("]")) {
      if (cursor.accept("True") || cursor.accept("False")) {
        items.emplace_back(cursor.text[cursor.at - 2] == 'u');
      } else {
        TD_TRY(Arg item, parse_number(cursor, type.kind));
        items.push_back(std::move(item));
      }
      cursor.accept(",");
    }
    if (type.kind == ArgKind::tensors || type.kind == ArgKind::optional_tensors) return Arg(std::vector<ValueId>());
    if (type.kind == ArgKind::numbers) {
      std::vector<double> list;
      for (const Arg& item : items) list.push_back(std::get<double>(item));
      return Arg(std::move(list));
    }
    if (type.kind == ArgKind::booleans) {
      std::vector<bool> list;
      for (const Arg& item : items) list.push_back(std::get<bool>(item));
      return Arg(std::move(list));
    }
    SymList list;
    for (const Arg& item : items)
      if (const Sym* value = std::get_if<Sym>(&item)) list.push_back(*value);
    return Arg(std::move(list));
  }
  // TorchScript helpers name some defaults by word (`Tensor? generator`, device strings); none is an op of graphs.
  TD_TRY(Arg value, parse_number(cursor, type.kind));
  if (type.kind == ArgKind::integers)
    return Arg(SymList(static_cast<size_t>(std::max(type.fixed_length, 1)), std::get<Sym>(value)));
  if (type.kind == ArgKind::numbers)
    return Arg(std::vector<double>(static_cast<size_t>(std::max(type.fixed_length, 1)), std::get<double>(value)));
  return value;
}

Status parse_arguments(Cursor& cursor, Schema& schema) {
  bool keyword_only = false;
  while (!cursor.accept(")")) {
    if (cursor.accept("*")) {
      keyword_only = true;
    } else if (cursor.accept("...")) {
      // Variable arguments: TorchScript helpers only.
    } else {
      TD_TRY(Type type, parse_type(cursor));
      SchemaArg arg;
      arg.name = cursor.word();
      arg.kind = type.kind, arg.optional = type.optional, arg.keyword_only = keyword_only;
      arg.written = type.written, arg.aliased = type.aliased, arg.fixed_length = type.fixed_length;
      if (cursor.accept("=")) {
        TD_TRY(arg.default_value, parse_default(cursor, type));
      }
      schema.args.push_back(std::move(arg));
    }
    cursor.spaces();
    if (cursor.done()) return cursor.error("`)`");
    if (!cursor.accept(",") && cursor.peek() != ')') return cursor.error("`,`");
  }
  return {};
}

Status parse_results(Cursor& cursor, Schema& schema) {
  if (!cursor.accept("->")) return cursor.error("`->`");
  cursor.spaces();
  bool several = cursor.accept("(");
  if (several && cursor.accept(")")) return {};
  do {
    if (cursor.accept("...")) continue;
    TD_TRY(Type type, parse_type(cursor));
    schema.returns.push_back({std::string(cursor.word()), type.kind, type.aliased, type.written});
  } while (several && cursor.accept(","));
  if (several && !cursor.accept(")")) return cursor.error("`)`");
  return {};
}

// `aten::add.Tensor` -> `aten.add.Tensor`, `aten::relu` -> `aten.relu.default`
std::string dotted_name(std::string_view name) {
  std::string out = replace_all(std::string(name), "::", ".");
  if (std::count(out.begin(), out.end(), '.') == 1) out += ".default";
  return out;
}

class SchemaFile {
 public:
  static const SchemaFile& instance() {
    static const SchemaFile file;
    return file;
  }
  const Schema* find(std::string_view name) const {
    auto found = entries_.find(std::string(name));
    if (found == entries_.end()) return nullptr;
    Entry& entry = *found->second;
    std::call_once(entry.once, [&] {
      Result<Schema> schema = parse_schema(entry.line);
      TD_CHECK(schema.has_value(), "{}", schema.error().text);
      entry.schema = std::move(*schema);
    });
    return &entry.schema;
  }
  // The overload names of an op: aten.add -> {aten.add.Scalar, aten.add.Tensor, …}.
  std::vector<std::string> overloads(const std::string& op) const {
    auto found = overloads_.find(op);
    return found == overloads_.end() ? std::vector<std::string>() : found->second;
  }

 private:
  struct Entry {
    std::string_view line;
    std::once_flag once;
    Schema schema;
  };
  SchemaFile() {
    std::string_view text(toroid_schema_text, static_cast<size_t>(toroid_schema_text_end - toroid_schema_text));
    while (!text.empty()) {
      size_t end = std::min(text.find('\n'), text.size());
      std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      size_t open = line.find('(');
      if (open == std::string_view::npos) continue;
      std::string name = dotted_name(line.substr(0, open));
      auto entry = std::make_unique<Entry>();
      entry->line = line;
      overloads_[name.substr(0, name.rfind('.'))].push_back(name);
      entries_.emplace(std::move(name), std::move(entry));
    }
  }
  std::unordered_map<std::string, std::unique_ptr<Entry>> entries_;
  std::unordered_map<std::string, std::vector<std::string>> overloads_;
};

// Same arguments in the same order, not counting what is written only as a result.
bool same_arguments(const Schema& mutating, const Schema& functional, bool drop_written_keywords) {
  std::vector<const SchemaArg*> wanted;
  for (const SchemaArg& arg : mutating.args)
    if (!(drop_written_keywords && arg.keyword_only && arg.written)) wanted.push_back(&arg);
  std::vector<const SchemaArg*> given;
  for (const SchemaArg& arg : functional.args) given.push_back(&arg);
  // A functional form may have further arguments with defaults (dtype of a sum, memory_format of clone).
  if (given.size() < wanted.size()) return false;
  for (size_t i = 0; i < given.size(); ++i) {
    if (i >= wanted.size()) {
      if (!given[i]->default_value) return false;
    } else if (given[i]->name != wanted[i]->name || given[i]->kind != wanted[i]->kind) {
      return false;
    }
  }
  return true;
}

// In-place ops whose functional form has another name.
const std::unordered_map<std::string_view, std::string_view> renamed = {
    {"aten.normal_.default", "aten.normal_functional.default"},
    {"aten.bernoulli_.float", "aten.bernoulli.p"},
    {"aten.clamp_.default", "aten.clamp.default"},
    {"aten.native_batch_norm.default", "aten._native_batch_norm_legit_functional.default"},
    {"aten._native_batch_norm_legit.default", "aten._native_batch_norm_legit_functional.default"},
    {"aten._batch_norm_with_update.default", "aten._batch_norm_with_update_functional.default"},
    {"aten.rrelu_with_noise.default", "aten.rrelu_with_noise_functional.default"},
    {"aten.embedding_renorm_.default", "aten.embedding_renorm.default"},
};

}  // namespace

bool Schema::has_tag(std::string_view tag) const { return std::find(tags.begin(), tags.end(), tag) != tags.end(); }

int Schema::find_arg(std::string_view wanted) const {
  for (size_t i = 0; i < args.size(); ++i)
    if (args[i].name == wanted) return static_cast<int>(i);
  return -1;
}

bool Schema::mutates() const {
  return std::any_of(args.begin(), args.end(), [](const SchemaArg& arg) { return arg.written; });
}

Result<Schema> parse_schema(std::string_view line) {
  std::vector<std::string> columns = split(line, '\t');
  Cursor cursor{columns.at(0)};
  Schema schema;
  size_t open = cursor.text.find('(');
  if (open == std::string_view::npos) return cursor.error("`(`");
  schema.name = dotted_name(cursor.text.substr(0, open));
  cursor.at = open + 1;
  TD_CHECK_OK(parse_arguments(cursor, schema));
  TD_CHECK_OK(parse_results(cursor, schema));
  cursor.spaces();
  if (!cursor.done()) return cursor.error("the end");
  if (columns.size() > 1 && !columns[1].empty()) schema.tags = split(columns[1], ',');
  if (columns.size() > 2 && columns[2].find('I') != std::string::npos) schema.tags.push_back("composite_implicit");
  if (columns.size() > 2 && columns[2].find('E') != std::string::npos) schema.tags.push_back("composite_explicit");
  return schema;
}

const Schema* find_schema(std::string_view name) {
  const Schema* schema = SchemaFile::instance().find(name);
  return schema ? schema : find_plugin_schema(name);
}

std::optional<std::string> functional_name(std::string_view name) {
  if (auto found = renamed.find(name); found != renamed.end()) return std::string(found->second);
  const Schema* schema = find_schema(name);
  if (!schema || !schema->mutates()) return std::nullopt;
  if (std::string twin = format("{}.functional", name); find_plugin_schema(twin)) return twin;
  size_t dot = name.rfind('.');
  std::string op(name.substr(0, dot)), overload(name.substr(dot + 1));
  bool is_out = std::any_of(schema->args.begin(), schema->args.end(),
                            [](const SchemaArg& arg) { return arg.keyword_only && arg.written; });
  if (!is_out) {
    size_t base = op.rfind('.') + 1;
    if (op.ends_with("_") && !op.ends_with("__"))
      op.pop_back();
    else if (op.substr(base).starts_with("__i") && op.ends_with("__"))
      op.erase(base + 2, 1);  // __iadd__ -> __add__
    else
      return std::nullopt;
    std::string same = op + "." + overload;
    if (const Schema* twin = find_schema(same); twin && !twin->mutates() && same_arguments(*schema, *twin, false))
      return same;
  }
  for (const std::string& candidate : SchemaFile::instance().overloads(op)) {
    const Schema* twin = find_schema(candidate);
    if (twin && !twin->mutates() && same_arguments(*schema, *twin, is_out)) return candidate;
  }
  return std::nullopt;
}

std::vector<std::string> schema_lines() {
  return split(std::string_view(toroid_schema_text, static_cast<size_t>(toroid_schema_text_end - toroid_schema_text)),
               '\n');
}

}  // namespace toroid
