// Loads of a pointwise nest that stride over memory along the vector's variable and walk it element by element along
// another outer one: read in blocks of LANES x LANES and turned round, they come as whole vectors.
#pragma once
#include <functional>
#include <vector>

#include "loop/schedule.h"

namespace toroid::emit {

struct TurnedLoads {
  struct Load {
    ExprId load;
    Sym address, stride;  // over the nest's variables; along the vector
  };
  std::vector<Load> loads;  // none: there is nothing to turn
  size_t along = 0;         // the other variable: position in LoopKernel::outer
};
TurnedLoads find_turned(const Schedule& schedule, const LoopKernel& nest, int lanes,
                        const std::function<int64_t(const Sym&)>& at_hints);

}  // namespace toroid::emit
