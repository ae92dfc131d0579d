// Reads the body of a tensor in a `.loops` text (also for texts of later stages, which contain such expressions).
#pragma once
#include <map>
#include <string>
#include <unordered_map>

#include "base/lexer.h"
#include "loop/loops.h"

namespace toroid {

// From the current token to the end of the expression. `scope` gives the Sym of each symbol and index variable,
// `tensors` the tensors that may be loaded, `locals` the types of a kernel's locals: `%l2`, without brackets, is
// number 2.
Result<ExprId> parse_body(Lexer& lexer, Loops& loops, const std::unordered_map<std::string, TensorId>& tensors,
                          std::map<std::string, Sym> scope, const std::map<int32_t, DType>& locals = {});

}  // namespace toroid
