// How a reader walks a tensor: a pair of spaces with the same elements, where views have split and merged dims, is
// walked from either side. Every index of the tensor is a number whose digits are (parts of) the reader's variables,
// and every variable of the reader a number whose digits are (parts of) the tensor's indices.
#include <algorithm>

#include "fuse/program.h"

namespace toroid::fuse {
namespace {

// (variable // divisor) % extent == (index of dim // weight) % extent
struct Digit {
  std::string variable;
  size_t dim = 0;
  Sym divisor = 1, extent = 1, weight = 1;
  bool used_by_dim = false, used_by_variable = false;
};

// The digit that an atom of an index is, with a weight of 1; nothing for anything else.
std::optional<Digit> digit_of(Sym atom) {
  Digit digit;
  std::optional<Sym> modulus;
  if (atom.kind() == SymKind::mod) {
    modulus = atom.args()[1];
    atom = Sym(atom.args()[0]);
  }
  if (!atom.is_constant() && atom.kind() == SymKind::floordiv) {
    digit.divisor = atom.args()[1];
    atom = Sym(atom.args()[0]);
  }
  if (!atom.is_symbol() || atom.node()->extent == Sym(0)) return std::nullopt;
  digit.variable = atom.symbol_name();
  if (modulus) {
    digit.extent = *modulus;
  } else {
    digit.extent = floor_div(atom.node()->extent, digit.divisor);
    if (!proves_eq(digit.extent * digit.divisor, atom.node()->extent)) return std::nullopt;
  }
  return digit;
}

bool is_index(const Sym& atom) { return atom.is_symbol() && atom.node()->extent != Sym(0); }

// Index == sum of digit * weight.
bool collect_digits(const Sym& index, size_t dim, std::vector<Digit>& digits) {
  if (index.is_constant()) return false;
  if (index.constant_part() != 0) return false;
  for (const Sym::Term& term : index.terms()) {
    Sym weight = term.coefficient;
    std::optional<Digit> digit;
    for (const Sym& atom : term.atoms) {
      if (atom.is_symbol() && !is_index(atom)) {
        weight *= atom;
        continue;
      }
      if (digit) return false;
      digit = digit_of(atom);
      if (!digit) return false;
    }
    if (!digit) return false;
    digit->dim = dim;
    digit->weight = weight;
    digits.push_back(*digit);
  }
  return true;
}

// The digits of one number, each weighing as much as all below it together, have `size` values.
template <class Mine>
bool is_number(std::vector<Digit>& digits, const Sym& size, bool Digit::*used, Sym Digit::*weight, Mine mine) {
  Sym reached = 1;
  for (bool found = true; found;) {
    found = false;
    for (Digit& digit : digits) {
      if (!mine(digit) || digit.*used || !proves_eq(digit.*weight, reached)) continue;
      digit.*used = true;
      reached *= digit.extent;
      found = true;
      break;
    }
  }
  return proves_eq(reached, size);
}

}  // namespace

std::optional<std::map<std::string, Sym>> inverse_index(const Program& program, TensorId producer, TensorId reader) {
  const LoopTensor &from = program.loops[producer], &to = program.loops[reader];
  const std::vector<ExprId>* index = nullptr;
  for (const Use& use : program[reader].uses) {
    if (use.tensor != producer) continue;
    if (index && *index != use.index) return std::nullopt;
    index = &use.index;
  }
  if (!index) return std::nullopt;
  std::vector<Digit> digits;
  for (size_t d = 0; d < index->size(); ++d) {
    if (from.sizes[d] == Sym(1)) continue;
    auto sym = program.loops.pool.as_index((*index)[d]);
    if (!sym || !collect_digits(*sym, d, digits)) return std::nullopt;
  }
  for (size_t d = 0; d < from.sizes.size(); ++d) {
    auto mine = [&](const Digit& digit) { return digit.dim == d; };
    if (from.sizes[d] != Sym(1) && !is_number(digits, from.sizes[d], &Digit::used_by_dim, &Digit::weight, mine))
      return std::nullopt;
  }
  std::map<std::string, Sym> inverse;
  for (const Sym& var : to.vars) {
    if (!var.is_symbol() || extent_of(var) == Sym(1)) continue;
    auto mine = [&](const Digit& digit) { return digit.variable == var.symbol_name(); };
    if (!is_number(digits, extent_of(var), &Digit::used_by_variable, &Digit::divisor, mine)) return std::nullopt;
    Sym value = 0;
    for (const Digit& digit : digits) {
      if (!mine(digit)) continue;
      Sym part = floor_div(from.vars[digit.dim], digit.weight);
      if (!proves_eq(digit.weight * digit.extent, from.sizes[digit.dim])) part = mod(part, digit.extent);
      value += part * digit.divisor;
    }
    inverse.emplace(var.symbol_name(), value);
  }
  // A digit that belongs to no number would be walked twice.
  for (const Digit& digit : digits)
    if (!digit.used_by_dim || !digit.used_by_variable) return std::nullopt;
  return inverse;
}

}  // namespace toroid::fuse
