// An address that stays on one element for some steps of a variable and then goes on by one: base + var // divisor.
#pragma once
#include "sym/sym.h"

namespace toroid {

struct Repeat {
  int64_t divisor;
  Sym rest;  // without the variable
};
// Nothing where the variable occurs in any other way, or the divisor is neither 2 nor 4.
std::optional<Repeat> repeat_in(const Sym& address, const std::string& variable);

}  // namespace toroid
