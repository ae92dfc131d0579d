// The terms of a canonical sum tell: one term is the quotient, the others do without the variable.
#include "loop/repeat.h"

#include <algorithm>

namespace toroid {

std::optional<Repeat> repeat_in(const Sym& address, const std::string& variable) {
  std::optional<Repeat> found;
  for (const Sym::Term& term : address.terms()) {
    const bool concerned =
        std::any_of(term.atoms.begin(), term.atoms.end(), [&](const Sym& atom) { return depends_on(atom, variable); });
    if (!concerned) continue;
    if (found || term.coefficient != 1 || term.atoms.size() != 1) return std::nullopt;
    const Sym& atom = term.atoms[0];
    if (atom.kind() != SymKind::floordiv || !atom.args()[0].is_symbol()) return std::nullopt;
    const std::optional<int64_t> divisor = atom.args()[1].constant();
    if (divisor != 2 && divisor != 4) return std::nullopt;
    found = Repeat{*divisor, address - atom};
  }
  return found;
}

}  // namespace toroid
