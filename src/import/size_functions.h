// The functions that sympy's expressions over sizes are made of (FloorDiv, Mod, IntTrueDiv, CeilToInt, …), on Sym.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sym/sym.h"

namespace toroid {

// True for a Sym whose value is a fraction: a call that yields one, or a float symbol.
bool is_fraction(const Sym& a);
// Symbols of floats are called zf3 and zuf3.
bool is_float_name(const std::string& name);

// `name` is the class in torch.utils._sympy.functions or in sympy. A function that is not known is `unsupported`;
// arguments that cannot be are `bad_file`, whose text says what was expected.
Result<Sym> size_function(const std::string& name, const SymList& args);

// An expression as Python writes it: `2*s0 + 1`, `max(s0, s1) <= 10`, `math.ceil(s0 / 2) == 4 and not s1 > 3`.
// `name_of` gives the Sym of a name.
using NameOf = std::function<Result<Sym>(const std::string& name)>;
Result<Sym> read_python(std::string_view text, const NameOf& name_of);

}  // namespace toroid
