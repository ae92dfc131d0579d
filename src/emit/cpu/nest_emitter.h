// Loops, vectors and accumulators of a LoopKernel as text: what nest.cpp, nest_blocks.cpp and nest_turned.cpp share.
#pragma once
#include <algorithm>

#include "base/check.h"
#include "emit/cpu/nest.h"
#include "emit/cpu/reduction_text.h"
#include "emit/cpu/turned.h"

namespace toroid::emit {

constexpr int64_t wanted_units = 64;     // enough for threads to share
constexpr int64_t unit_elements = 4096;  // work of a unit, when the vector variable alone has to be shared out

constexpr int64_t stream_bytes = 12 << 20;  // an output of this size is out of the cache before anyone reads it

class NestEmitter {
 public:
  NestEmitter(const Schedule& schedule, const LoopKernel& nest, KernelParams& params, int lanes,
              const std::map<std::string, int64_t>& hint_values)
      : schedule_(schedule), loops_(schedule.loops), nest_(nest), params_(params), lanes_(lanes), hints_(hint_values) {}

  NestText emit();

 private:
  // Each unit is one block of outer points with its own copy of the totals; sums go through a copy for 64 points at a
  // time, so that rounding errors do not grow with the number of points.
  NestText emit_blocks();
  void decode_point(const std::string& point);
  bool makes_columns(const Phase& phase) const;
  // Points from q to stop, a few vectors of columns at a time.
  void column_phase(const Phase& phase);
  NestText emit_turned();
  void begin_streams();
  void end_streams();
  struct Total {
    TensorId id;
    ReduceOp op;
    DType dtype;
    std::string offset, padded;  // in bytes, in elements
  };
  std::optional<ReduceOp> total_op(TensorId id) const;
  // Elements that the phases visit for one outer point.
  int64_t work_of_one_point() const;
  int64_t at_hints(const Sym& sym) const;
  void line(const std::string& text) { out_.append(static_cast<size_t>(depth_) * 2, ' ').append(text).append("\n"); }
  void open(const std::string& text) { line(text), ++depth_; }
  void close() { --depth_, line("}"); }
  std::string text(const Sym& sym);
  std::string declare(const Sym& var);
  void declare_rows();
  EmitScope scope(const std::string& vector_variable, const std::string& count) const;
  // All phases for one outer point, or for LANES of them when `outer_vector` names the vectorised outer variable.
  void phases(const std::string& outer_vector, const std::string& count) { phases(nest_.phases, outer_vector, count); }
  void phases(const std::vector<Phase>& list, const std::string& outer_vector, const std::string& count);
  static bool is_arg(ReduceOp op) { return op == ReduceOp::argmin || op == ReduceOp::argmax; }
  static bool has_arg_reduction(const Phase& phase);
  static std::string scalar_type(DType dtype) { return is_bool(dtype) ? "bool" : c_type(dtype); }
  // One element at a time along the phase's variables; values are vectors when an outer variable is.
  void lane_phase(const Phase& phase, const std::string& outer_vector, const std::string& count);
  // Whether a reduction runs so far along its innermost variable that cutting it pays.
  bool sums_long_runs(const Phase& phase) const;
  // As lane_phase, with several accumulators, which are added to the totals after `sum_run` steps: an addition takes
  // longer to finish than to start, and the rounding error of a running sum grows with its length (a mean over 112 x
  // 112 pixels in one run would be off by a hundred roundings).
  void lane_sums_phase(const Phase& phase, const std::string& outer_vector, const std::string& count);
  // In order, each store seeing the reductions so far.
  void running_phase(const Phase& phase);
  // LANES elements at a time along the innermost variable.
  void vector_phase(const Phase& phase);
  int64_t cost_of(ExprId id) const;

  const Schedule& schedule_;
  const Loops& loops_;
  const LoopKernel& nest_;
  KernelParams& params_;
  const int lanes_;
  const std::map<std::string, int64_t>& hints_;
  std::string out_;
  int depth_ = 1, variable_count_ = 0, temporaries_ = 0, uses_ = 0;
  std::map<std::string, std::string> variables_;
  std::map<int32_t, EmitScope::Local> locals_;
  std::map<int32_t, std::string> accumulators_;
  std::map<TensorId, std::string> rows_;
  TurnedLoads turned_;
  std::map<ExprId, std::string> tiles_;
  std::map<TensorId, std::string> streams_;
};

}  // namespace toroid::emit
