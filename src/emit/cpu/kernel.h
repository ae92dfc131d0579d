// One kernel of a schedule in, its complete C++ source out.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "emit/cpu/expr.h"
#include "loop/schedule.h"
#include "target/target.h"

namespace toroid::emit {

struct KernelSource {
  std::string symbol;                             // td_<hash of the text>: equal kernels have equal symbols
  std::string text;                               // a translation unit
  std::vector<KernelParams::Slot> slots;          // what p[k] is
  std::vector<std::string> symbols;               // what s[k] is
  std::string units;                              // C expression over s: how many units of work there are
  int64_t grain = 1;                              // units worth a task, at least
  std::string scratch_bytes = "0";                // C expression over s
  bool counts = false;                            // the first i64 of scratch is 0 at the start: units that are done
  std::vector<std::vector<KernelSource>> bodies;  // of a call, which has no text: the kernels of its programs
};

// `texts` keeps each symbol's text between the kernels of one model: equal kernels get their prelude once.
KernelSource emit_kernel(const Schedule& schedule, const Kernel& kernel, const Target& target,
                         std::map<std::string, std::string>* texts = nullptr);

// Calls `visit(kernel, source)` for each kernel of a program, a call's own programs right after it.
template <class F>
void each_kernel(const Plan& plan, const std::vector<KernelSource>& sources, F&& visit) {
  for (size_t k = 0; k < sources.size(); ++k) {
    visit(plan.schedule.kernels[k], sources[k]);
    for (size_t b = 0; b < sources[k].bodies.size(); ++b)
      each_kernel(plan.bodies.at(static_cast<int32_t>(k))[b], sources[k].bodies[b], visit);
  }
}

}  // namespace toroid::emit
