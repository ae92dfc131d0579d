// Attention as one kernel: finds contraction -> softmax over the last dim -> contraction, however it was written.
#pragma once
#include <optional>
#include <set>
#include <string>

#include "fuse/program.h"

namespace toroid::fuse {

// Every match becomes one contraction-like tensor whose body mentions q, k, v and what the score needs; the tensors
// between are hidden. Tensors named in `disabled` are left alone (their operands turned out not to fit).
void find_attention(Program& program, const std::set<std::string>& disabled);

// The kernel of such a tensor, and the contraction's output variables in kernel variables; nothing when the operands'
// places do not fit.
std::optional<AttentionKernel> build_attention(Program& program, const Schedule& schedule, TensorId id,
                                               std::map<std::string, Sym>& values);

}  // namespace toroid::fuse
