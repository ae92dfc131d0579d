// Windows of pools, as their rows and those of their gradients see them.
#pragma once
#include <vector>

#include "ops/rules.h"

namespace toroid {

struct Windows {
  size_t dims = 2;
  std::vector<int64_t> kernel, stride, padding, dilation;
  bool ceil_mode = false;
};
Windows windows_of(const Call& call, size_t dims);
// How many elements an average over the window at `o` (one index per dim, out of `in` elements each) divides by.
ExprId average_divisor(LoopBuilder& b, const Call& call, const Windows& w, const SymList& in, const Index& o);

// Output o covers [o * n // out, ceil((o + 1) * n / out)).
struct Adaptive {
  size_t dims = 2;
  SymList in, out, taps;
  std::vector<bool> even;  // every window has in / out taps
};
Adaptive adaptive_windows(const SymList& in, const SymList& out);
ExprId window_start(LoopBuilder& b, const Adaptive& a, ExprId o, size_t d);
ExprId window_end(LoopBuilder& b, const Adaptive& a, ExprId o, size_t d);
// x at every tap of its windows: sizes [lead…, out…, taps…]; outside, `fill`.
LoopValue adaptive_taps(LoopBuilder& b, const LoopValue& x, const Adaptive& a, ExprId fill);

// The last `count` dims of a tensor of this rank.
std::vector<int64_t> last_dims(int64_t rank, size_t count);

}  // namespace toroid
