// How much work one kernel takes in, counted by its text, and where a long chain of maps is cut for that.
#pragma once
#include <cstdint>
#include <map>

#include "fuse/program.h"

namespace toroid::fuse {

// Work of one point (expression_cost) that a kernel takes in beside its greatest tensor. A compiler's time grows faster
// than the text: a hundred sines take g++ about two seconds, a thousand half a minute. Later steps, too, walk down what
// a value is made of to its leaves, so that a chain of any length must not become an expression of that depth.
constexpr int64_t text_limit = 1000;

class TextBudget {
 public:
  explicit TextBudget(Program& program) : program_(program) {}
  // Two groups fit one kernel. Their greatest member does not count, since it stands somewhere in any case.
  bool fits(const Group& a, const Group& b);
  // `reader` reads maps of a group that has no room for it: what the group computes last leaves it for a group of its
  // own, from where the fewest bytes pass between the two. False where cutting saves no bytes.
  bool cut(int32_t group, TensorId reader);

 private:
  int64_t work(TensorId id);
  Program& program_;
  std::map<TensorId, int64_t> work_;
};

}  // namespace toroid::fuse
