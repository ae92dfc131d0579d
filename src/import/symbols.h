// Symbols of an archive and the expressions over them: sympy's constructor syntax (`Add(Symbol('s7', …), Integer(1))`)
// and the infix keys of range constraints, to Sym. Symbols are renumbered in order of first use.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "graph/graph.h"

namespace toroid {

class Symbols {
 public:
  // Declares what it meets in `graph`.
  explicit Symbols(Graph& graph) : graph_(&graph) {}

  // Ranges must be known before a symbol's first use, since a Sym carries its range.
  void set_range(const std::string& file_name, int64_t low, int64_t high) { ranges_[file_name] = {low, high}; }
  void set_hint(const Sym& symbol, int64_t hint);
  // The Sym of the archive's symbol s77, declared on first use.
  Sym symbol(const std::string& file_name);
  Result<Sym> srepr(std::string_view text);
  // `s77 + 1`, `Max(1, 4*s39)`
  Result<Sym> infix(std::string_view text);
  // Every hint, by our name.
  std::map<std::string, int64_t> hints() const;

 private:
  Graph* graph_;
  std::map<std::string, SymRange> ranges_;
  std::map<std::string, Sym> known_;           // by the archive's name
  std::map<std::string, int> next_;            // by prefix: s, u, zf, zuf
  std::unordered_map<std::string, Sym> read_;  // by text
};

// A guard of `guards_code` over inputs: `L['x'].size()[0] % 2 == 0 and L['n'] != 1`. `value_of` gives the Sym of
// dimension `dim` of the tensor named by `path` (`x`, `d_a`, `xs_1`), or of an integer input. Fails on what is not such
// an expression. (guards.cpp)
Result<Sym> parse_size_guard(
    std::string_view text,
    const std::function<Result<Sym>(const std::string& path, std::optional<int64_t> dim)>& value_of);

}  // namespace toroid
