// Cuts the prelude's text into snippets and gives those that a kernel needs, in the order of the text.
//
// A snippet begins with a line `//: name name [clause] ...` and declares these names. Clauses:
//   [lanes 16 8]       the snippet exists for these widths only
//   [T = f32 i8:u8]    one copy for each value; in the text $T is the value, $V what stands behind its colon
//                      (any capital but L, H and V can stand for T; two such clauses make all pairs of different
//                      values)
//   [type vf64]        the snippet is taken only where that type is used
// In the text $L is the number of lanes, $H half of it; $list(x #), $lows, $highs and $evens give `x 0, x 1, ...` for
// all lanes, the lower or upper half, and all even elements of two vectors ($twos)
// or of two vectors the second of which begins one element early ($evens); $xor4 all lanes with their number's bit 4
// flipped
// ($halfxor4: of a half), $by2 and $by4 the number halved or quartered; $each(x #;) gives the same as $list without
// commas.
// A copy for T whose names do not mention T is an overload: it is taken only where the type (vT if the text mentions
// that, else T) is used, so that a kernel of floats does not carry `min` for ten dtypes.
#include "emit/cpu/prelude.h"

#include <array>
#include <map>
#include <mutex>

#include "base/check.h"
#include "base/text.h"

namespace toroid::emit {
namespace {

constexpr const char* texts[] = {
#include "emit/cpu/prelude/types.inc"
    ,
#include "emit/cpu/prelude/convert.inc"
    ,
#include "emit/cpu/prelude/memory.inc"
    ,
#include "emit/cpu/prelude/arith.inc"
    ,
#include "emit/cpu/prelude/tables.inc"
    ,
#include "emit/cpu/prelude/math.inc"
    ,
#include "emit/cpu/prelude/wide_math.inc"
    ,
#include "emit/cpu/prelude/reduce.inc"
    ,
// Plain C++ that the interpreter compiles too.
#include "prelude_special.inc"
    ,
#include "prelude_routines.inc"
    ,
#include "emit/cpu/prelude/special_calls.inc"
};

using Names = std::set<std::string, std::less<>>;

struct Snippet {
  Names names;
  // All of these types must be in use.
  std::vector<std::string> types;
  std::string text;
  Names uses;
};

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

void add_identifiers(std::string_view text, Names& out) {
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i, 2) == "//") {
      i = std::min(text.find('\n', i), text.size());
      continue;
    }
    if (!is_word(text[i])) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < text.size() && is_word(text[end])) ++end;
    const char first = text[i];
    if (first < '0' || first > '9') out.emplace(text.substr(i, end - i));
    i = end;
  }
}

bool is_dtype(std::string_view word) {
  static constexpr std::string_view dtypes[] = {"f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"};
  for (std::string_view dtype : dtypes)
    if (word == dtype) return true;
  return false;
}

// The types that an identifier speaks of: `i64` only itself, `load_i64` and `vi64` also the vector.
void add_types(std::string_view identifier, Names& types) {
  if (is_dtype(identifier)) {
    types.emplace(identifier);
    return;
  }
  if (identifier == "bool") types.emplace("bool");
  const bool scalar = identifier.starts_with("load1_") || identifier.starts_with("store1_");
  for (const std::string& part : split(identifier, '_')) {
    const std::string_view word = part.starts_with('v') ? std::string_view(part).substr(1) : std::string_view(part);
    if (!is_dtype(word)) continue;
    types.emplace(word);
    if (!scalar) types.insert("v" + std::string(word));
  }
}

// `$list(x[#])` to `x[0], x[1], ...` and its kin.
std::string expand_lists(const std::string& text, int lanes) {
  struct List {
    std::string_view name;
    int from, to;
    bool commas = true;
    int exchange = 0;
  };
  const int half = lanes / 2;
  const List lists[] = {{"$list(", 0, lanes},
                        {"$lows(", 0, half},
                        {"$highs(", half, lanes},
                        {"$evens(", 0, lanes},
                        {"$twos(", 0, lanes},
                        {"$each(", 0, lanes, false},
                        {"$by2(", 0, lanes},
                        {"$by4(", 0, lanes},
                        {"$xor1(", 0, lanes, true, 1},
                        {"$xor2(", 0, lanes, true, 2},
                        {"$xor4(", 0, lanes, true, 4},
                        {"$xor8(", 0, lanes, true, 8},
                        {"$halfxor1(", 0, half, true, 1},
                        {"$halfxor2(", 0, half, true, 2},
                        {"$halfxor4(", 0, half, true, 4}};
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const List* list = nullptr;
    for (const List& candidate : lists)
      if (std::string_view(text).substr(i).starts_with(candidate.name)) list = &candidate;
    if (!list) {
      out += text[i++];
      continue;
    }
    const size_t begin = i + list->name.size();
    size_t end = begin;
    for (int depth = 1; depth > 0; ++end) {
      TD_CHECK(end < text.size(), "prelude: no end of `{}`", list->name);
      depth += text[end] == '(' ? 1 : text[end] == ')' ? -1 : 0;
    }
    const std::string body = text.substr(begin, end - 1 - begin);
    for (int k = list->from; k < list->to; ++k) {
      const int lane = list->name == "$twos("    ? 2 * k
                       : list->name == "$by2("   ? k / 2
                       : list->name == "$by4("   ? k / 4
                       : list->name == "$evens(" ? (k < half ? 2 * k : 2 * k + 1)
                                                 : k ^ list->exchange;
      out += replace_all(body, "#", std::to_string(lane));
      if (k + 1 < list->to) out += list->commas ? ", " : " ";
    }
    i = end;
  }
  return out;
}

struct Variable {
  char letter;
  std::vector<std::string> values;
};

struct Header {
  std::vector<std::string> names, types;
  std::vector<Variable> variables;
  bool wanted = true;
};

Header read_header(std::string_view line, int lanes) {
  Header header;
  size_t i = 0;
  while (i < line.size()) {
    if (line[i] == ' ') {
      ++i;
      continue;
    }
    if (line[i] != '[') {
      const size_t end = std::min(line.find(' ', i), line.size());
      header.names.emplace_back(line.substr(i, end - i));
      i = end;
      continue;
    }
    const size_t end = line.find(']', i);
    TD_CHECK(end != line.npos, "prelude: open clause in `{}`", line);
    std::vector<std::string> words = split(line.substr(i + 1, end - i - 1), ' ');
    i = end + 1;
    if (words[0] == "lanes") {
      header.wanted = false;
      for (const std::string& word : words) header.wanted |= word == std::to_string(lanes);
    } else if (words[0] == "type") {
      header.types.assign(words.begin() + 1, words.end());
    } else {
      TD_CHECK(words.size() > 2 && words[0].size() == 1 && words[1] == "=", "prelude: bad clause in `{}`", line);
      header.variables.push_back({words[0][0], {words.begin() + 2, words.end()}});
    }
  }
  return header;
}

void add_copies(const Header& header, const std::string& text, int lanes, std::vector<Snippet>& out) {
  std::vector<std::map<char, std::string>> choices = {{}};
  for (const Variable& variable : header.variables) {
    std::vector<std::map<char, std::string>> more;
    for (const auto& choice : choices)
      for (const std::string& value : variable.values) {
        bool repeated = false;
        for (const auto& [letter, other] : choice) repeated |= other == value;
        if (repeated) continue;
        more.push_back(choice);
        more.back()[variable.letter] = value;
      }
    choices = std::move(more);
  }
  for (const auto& choice : choices) {
    const auto fill = [&](std::string part) {
      for (const auto& [letter, value] : choice) {
        const size_t colon = value.find(':');
        part = replace_all(std::move(part), std::string{'$', letter}, value.substr(0, colon));
        if (colon != value.npos) part = replace_all(std::move(part), "$V", value.substr(colon + 1));
      }
      part = replace_all(std::move(part), "$L", std::to_string(lanes));
      return replace_all(std::move(part), "$H", std::to_string(lanes / 2));
    };
    Snippet snippet;
    snippet.text = expand_lists(fill(text), lanes);
    TD_CHECK(snippet.text.find('$') == std::string::npos, "prelude: unknown `$` in `{}`", snippet.text);
    for (const std::string& name : header.names) snippet.names.insert(fill(name));
    for (const std::string& type : header.types) snippet.types.push_back(fill(type));
    for (const auto& [letter, value] : choice) {
      bool named = false;
      for (const std::string& name : header.names) named |= name.find(std::string{'$', letter}) != name.npos;
      const std::string type = value.substr(0, value.find(':'));
      if (!named && (is_dtype(type) || type == "bool"))
        snippet.types.push_back(text.find(std::string("v$") + letter) != text.npos ? "v" + type : type);
    }
    add_identifiers(snippet.text, snippet.uses);
    out.push_back(std::move(snippet));
  }
}

std::vector<Snippet> make_snippets(int lanes) {
  std::vector<Snippet> snippets;
  for (std::string_view text : texts) {
    size_t at = text.find("//: ");
    while (at != text.npos) {
      const size_t line_end = text.find('\n', at);
      size_t next = text.find("\n//: ", line_end - 1);
      next = next == text.npos ? next : next + 1;
      const Header header = read_header(text.substr(at + 4, line_end - at - 4), lanes);
      std::string_view body = text.substr(line_end + 1, next - line_end - 1);
      // Comments at its end speak of what follows.
      for (size_t last = body.rfind("\n//"); last != body.npos && body.find('\n', last + 1) + 1 == body.size();
           last = body.rfind("\n//"))
        body = body.substr(0, last + 1);
      if (header.wanted) add_copies(header, std::string(body), lanes, snippets);
      at = next;
    }
  }
  return snippets;
}

const std::vector<Snippet>& snippets_for(int lanes) {
  TD_CHECK(lanes == 16 || lanes == 8 || lanes == 4, "prelude: {} lanes", lanes);
  static std::array<std::once_flag, 3> once;
  static std::array<std::vector<Snippet>, 3> made;
  const size_t k = lanes == 16 ? 0 : lanes == 8 ? 1 : 2;
  std::call_once(once[k], [&] { made[k] = make_snippets(lanes); });
  return made[k];
}

}  // namespace

std::string prelude(const PreludeOptions& options, const Names& names) {
  const std::vector<Snippet>& snippets = snippets_for(options.lanes);
  Names used = names, types = {"f32", "vf32", "i32", "vi32"};
  used.insert("td_head");
  for (const std::string& name : names) add_types(name, types);
  std::vector<bool> taken(snippets.size(), false);
  // A snippet taken may ask for others and bring types that let in overloads: repeat until nothing changes.
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t k = snippets.size(); k-- > 0;) {
      const Snippet& snippet = snippets[k];
      if (taken[k]) continue;
      bool wanted = false;
      for (const std::string& name : snippet.names) wanted |= used.contains(name);
      for (const std::string& type : snippet.types) wanted &= types.contains(type);
      if (!wanted) continue;
      taken[k] = changed = true;
      for (const std::string& name : snippet.uses) {
        if (used.insert(name).second && !snippet.names.contains("td_head")) add_types(name, types);
      }
    }
  }
  std::string out = "namespace td {\n";
  for (size_t k = 0; k < snippets.size(); ++k)
    if (taken[k]) out += snippets[k].text;
  return out;
}

std::string prelude_for(std::string_view kernel_text, const PreludeOptions& options) {
  Names names;
  add_identifiers(kernel_text, names);
  return prelude(options, names);
}

std::string_view prelude_end() { return "}  // namespace td\n"; }

std::vector<std::string> prelude_names(const PreludeOptions& options) {
  Names all;
  for (const Snippet& snippet : snippets_for(options.lanes)) all.insert(snippet.names.begin(), snippet.names.end());
  return {all.begin(), all.end()};
}

}  // namespace toroid::emit
