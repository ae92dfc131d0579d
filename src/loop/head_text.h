// What the texts of loops, schedule and plan share: the model's signature, symbols, weights, constants, tensors, guards
// and outputs. From a schedule on, tensors have no bodies: the kernels hold the expressions.
#pragma once
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/lexer.h"
#include "loop/loops.h"

namespace toroid {

// From `form @name(` to the line before the text's own parts. Of the computed tensors only those `declared` (one flag
// per tensor) are written.
std::string print_head(const Loops& loops, std::string_view form, const std::vector<bool>& declared);

struct LoopsHead {
  Loops loops;
  std::map<std::string, Sym> symbols;
  std::unordered_map<std::string, TensorId> tensors;
  Lexer lexer;  // at the token behind the head
};
Result<LoopsHead> parse_head(Lexer lexer, std::string_view form);

std::string indented(std::string_view text, int columns);  // each line

Device device_from_text(const std::string& text);  // "cpu", "cuda:1"
Where where_from_text(const std::string& text);    // "encoder.fc, model.py:12", "encoder.fc", "model.py:12"

}  // namespace toroid
