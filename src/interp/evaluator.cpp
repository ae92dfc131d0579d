// One tensor: its body becomes a list of nodes, arguments before users, which are evaluated on demand for each element.
#include "interp/evaluator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "loop/routines.h"

namespace toroid {
namespace {

enum class NodeKind : uint8_t { constant, variable, affine, polynomial, function, call, load, op, where, reduce, scan };

struct Node {
  NodeKind kind = NodeKind::constant;
  DType type = DType::i64;
  ScalarOp op = ScalarOp::add;
  ReduceOp reduce = ReduceOp::sum;
  SymKind function = SymKind::constant;
  DType arg_type = DType::i64, rounding = DType::f32;
  Scalar value{.i = 0};  // constant; else the last result, for nodes with several users
  int32_t slot = -1;     // variable
  std::vector<int32_t> args;
  // affine: value.i + sum of factors[k] * variable args[k] (a slot). polynomial: value.i + sum of factors[k] * product
  // of the nodes groups[k].
  std::vector<int64_t> factors;
  std::vector<std::vector<int32_t>> groups;
  const Memory* memory = nullptr;  // load
  TensorId tensor;
  std::vector<int32_t> slots, extents;  // reduce, scan: their variables and the nodes of the extents
  Sym sym = 0;                          // call
  int32_t users = 0;                    // above 1, the last value is kept
  std::vector<int32_t> depends;         // slots of the free variables
  uint64_t stamp = 0;                   // when `value` was computed
};

// What a running reduction holds.
struct Accumulator {
  Scalar value{.i = 0};
  int64_t best = 0, count = 0;
};

class Body {
 public:
  Body(const Loops& loops, const LoopTensor& tensor, const Evaluator& evaluator, bool exact)
      : loops_(loops), pool_(loops.pool), tensor_(tensor), evaluator_(evaluator), exact_(exact) {
    for (const auto& [name, value] : evaluator.symbols()) known_.emplace(name, Sym(value));
    for (const Sym& var : tensor.vars) vars_.push_back(slot_of(var.symbol_name()));
    root_ = node_of(tensor.body);
  }

  Scalar at(const std::vector<int64_t>& index) {
    for (size_t k = 0; k < index.size(); ++k)
      if (values_[static_cast<size_t>(vars_[k])] != index[k] || clock_ == 1) set(vars_[k], index[k]);
    return eval(root_);
  }

 private:
  // ---- Building ----

  int32_t slot_of(const std::string& name) {
    auto [it, added] = slots_.emplace(name, static_cast<int32_t>(values_.size()));
    if (added) {
      values_.push_back(0);
      changed_.push_back(clock_);
    }
    return it->second;
  }
  int32_t add(Node node) {
    for (int32_t arg : node.args)
      if (node.kind != NodeKind::affine) ++nodes_[static_cast<size_t>(arg)].users;
    for (const auto& group : node.groups)
      for (int32_t arg : group) ++nodes_[static_cast<size_t>(arg)].users;
    nodes_.push_back(std::move(node));
    return static_cast<int32_t>(nodes_.size()) - 1;
  }

  int32_t node_of(ExprId id) {
    if (auto it = built_.find(id.index); it != built_.end()) return it->second;
    const Expr& e = pool_[id];
    int32_t result = e.kind == ExprKind::index ? node_of(substitute(e.sym, known_)) : build(e);
    Node& node = nodes_[static_cast<size_t>(result)];
    if (node.depends.empty())
      for (const std::string& name : pool_.free_symbols(id))
        if (!known_.contains(name)) node.depends.push_back(slot_of(name));
    built_.emplace(id.index, result);
    return result;
  }

  int32_t build(const Expr& e) {
    Node node;
    node.type = e.dtype;
    if (e.kind == ExprKind::constant) {
      node.value = is_bool(e.dtype) ? Scalar{.i = e.number != 0} : Scalar{.f = e.number};
      return add(std::move(node));
    }
    TD_CHECK(e.kind != ExprKind::local, "`%{}` uses a local of a schedule", tensor_.name);
    for (ExprId arg : e.args) node.args.push_back(node_of(arg));
    for (const Sym& var : e.vars) {
      node.slots.push_back(slot_of(var.symbol_name()));
      node.extents.push_back(node_of(substitute(extent_of(var), known_)));
    }
    node.op = e.op;
    node.reduce = e.reduce;
    node.rounding = e.rounding;
    if (!e.args.empty()) node.arg_type = pool_[e.args.back()].dtype;
    switch (e.kind) {
      case ExprKind::load:
        node.kind = NodeKind::load;
        node.tensor = e.tensor;
        node.memory = &evaluator_.memory(e.tensor);
        TD_CHECK(evaluator_.has(e.tensor), "`%{}` is not there yet", loops_[e.tensor].name);
        break;
      case ExprKind::reduce: node.kind = NodeKind::reduce; break;
      case ExprKind::scan:
        node.kind = NodeKind::scan;
        node.arg_type = pool_[e.args[0]].dtype;
        break;
      default: node.kind = e.op == ScalarOp::where ? NodeKind::where : NodeKind::op; break;
    }
    return add(std::move(node));
  }

  int32_t node_of(const Sym& sym) {
    Node node;
    if (sym.is_constant()) {
      node.value.i = sym.value();
      return add(std::move(node));
    }
    if (sym.is_symbol()) {
      node.kind = NodeKind::variable;
      node.slot = slot_of(sym.symbol_name());
      return add(std::move(node));
    }
    if (sym.kind() == SymKind::sum) {
      bool affine = true;
      for (const Sym::Term& term : sym.terms()) affine = affine && term.atoms.size() == 1 && term.atoms[0].is_symbol();
      node.kind = affine ? NodeKind::affine : NodeKind::polynomial;
      node.value.i = sym.constant_part();
      for (const Sym::Term& term : sym.terms()) {
        node.factors.push_back(term.coefficient);
        if (affine) {
          node.args.push_back(slot_of(term.atoms[0].symbol_name()));
          continue;
        }
        node.groups.emplace_back();
        for (const Sym& atom : term.atoms) node.groups.back().push_back(node_of(atom));
      }
      return add(std::move(node));
    }
    if (sym.kind() == SymKind::call) {
      std::set<std::string> names;
      collect_symbols(sym, names);
      for (const std::string& name : names) slot_of(name);
      node.kind = NodeKind::call;
      node.sym = sym;
      return add(std::move(node));
    }
    node.kind = NodeKind::function;
    node.function = sym.kind();
    for (const Sym& arg : sym.args()) node.args.push_back(node_of(arg));
    return add(std::move(node));
  }

  // ---- Running ----

  void set(int32_t slot, int64_t value) {
    values_[static_cast<size_t>(slot)] = value;
    changed_[static_cast<size_t>(slot)] = ++clock_;
  }
  bool fresh(const Node& node) const {
    if (node.stamp == 0) return false;
    for (int32_t slot : node.depends)
      if (changed_[static_cast<size_t>(slot)] > node.stamp) return false;
    return true;
  }

  Scalar eval(int32_t index) {
    Node& node = nodes_[static_cast<size_t>(index)];
    switch (node.kind) {
      case NodeKind::constant: return node.value;
      case NodeKind::variable: return {.i = values_[static_cast<size_t>(node.slot)]};
      case NodeKind::affine: {
        int64_t sum = node.value.i;
        for (size_t k = 0; k < node.args.size(); ++k)
          sum += node.factors[k] * values_[static_cast<size_t>(node.args[k])];
        return {.i = sum};
      }
      case NodeKind::polynomial: {
        int64_t sum = node.value.i;
        for (size_t k = 0; k < node.groups.size(); ++k) {
          int64_t product = node.factors[k];
          for (int32_t factor : node.groups[k]) product *= eval(factor).i;
          sum += product;
        }
        return {.i = sum};
      }
      default: break;
    }
    // One user that is evaluated in a loop may ask again and again for what the loop does not change.
    const bool keep = node.users > 1 || node.kind == NodeKind::reduce;
    if (!keep) return node.kind == NodeKind::load ? load(node) : compute(node);
    if (fresh(node)) return node.value;
    Scalar result = compute(node);
    node.value = result;
    node.stamp = ++clock_;
    return result;
  }

  Scalar compute(Node& node) {
    switch (node.kind) {
      case NodeKind::function: return {.i = index_function(node)};
      case NodeKind::call: {
        std::map<std::string, int64_t> values;
        for (const auto& [name, slot] : slots_) values.emplace(name, values_[static_cast<size_t>(slot)]);
        return {.i = toroid::evaluate(node.sym, values)};
      }
      case NodeKind::load: return load(node);
      case NodeKind::where: return eval(eval(node.args[0]).i ? node.args[1] : node.args[2]);
      case NodeKind::reduce: {
        Accumulator all = start(node);
        run(node, 0, all);
        return finish(node, all);
      }
      case NodeKind::scan: return scan(node);
      default: return operate(node);
    }
  }

  int64_t index_function(const Node& node) {
    const int64_t a = eval(node.args[0]).i;
    if (node.function == SymKind::choose) return eval(node.args[a ? 1 : 2]).i;
    if (node.function == SymKind::invert) return !a;
    const int64_t b = eval(node.args[1]).i;
    switch (node.function) {
      case SymKind::floordiv:
      case SymKind::mod: {
        if (b == 0) fail_with("integer division by zero");
        const Scalar both[] = {{.i = a}, {.i = b}};
        return eval_scalar(node.function == SymKind::mod ? ScalarOp::remainder : ScalarOp::floordiv, DType::i64, both)
            .i;
      }
      case SymKind::min: return std::min(a, b);
      case SymKind::max: return std::max(a, b);
      case SymKind::eq: return a == b;
      case SymKind::lt: return a < b;
      case SymKind::le: return a <= b;
      case SymKind::both: return a && b;
      case SymKind::either: return a || b;
      default: TD_CHECK(false, "an index function without a value");
    }
    return 0;
  }

  // Most indices are a variable: without the way through eval.
  int64_t position(int32_t index) {
    const Node& node = nodes_[static_cast<size_t>(index)];
    return node.kind == NodeKind::variable ? values_[static_cast<size_t>(node.slot)] : eval(index).i;
  }

  Scalar load(const Node& node) {
    const Memory& m = *node.memory;
    int64_t offset = 0;
    for (size_t k = 0; k < node.args.size(); ++k) {
      const int64_t at = position(node.args[k]);
      if (at < 0 || at >= m.sizes[k]) [[unlikely]]
        throw EvaluationFailure{{Kind::internal,
                                 format("`%{}` loads `%{}` at {} in dim {} of size {}", tensor_.name,
                                        loops_[node.tensor].name, at, k, m.sizes[k]),
                                 {}}};
      offset += at * m.strides[k];
    }
    if (m.dtype == DType::f32) {
      float value;
      std::memcpy(&value, m.base + offset * 4, sizeof value);
      return {.f = value};
    }
    return load_scalar(m.base + offset * dtype_bytes(m.dtype), m.dtype);
  }

  Scalar operate(const Node& node) {
    Scalar args[3] = {{.i = 0}, {.i = 0}, {.i = 0}};
    for (size_t k = 0; k < node.args.size(); ++k) args[k] = eval(node.args[k]);
    if (node.type == DType::f32 && !exact_) {
      const float a = static_cast<float>(args[0].f), b = static_cast<float>(args[1].f);
      if (node.op == ScalarOp::mul) return {.f = a * b};
      if (node.op == ScalarOp::add) return {.f = a + b};
      if (node.op == ScalarOp::sub) return {.f = a - b};
    }
    switch (node.op) {
      case ScalarOp::cvt:
        return convert_scalar(args[0], node.arg_type, exact_ && is_float(node.type) ? DType::f64 : node.type);
      // In exact runs the bits are those of the value rounded to its own type.
      case ScalarOp::bitcast: return bitcast_scalar(args[0], node.arg_type, node.type);
      case ScalarOp::round_to: return {.f = exact_ ? args[0].f : round_float(args[0].f, node.rounding)};
      case ScalarOp::check_index:
        if (args[0].i < 0 || args[0].i >= args[1].i)
          throw EvaluationFailure{{Kind::bad_input,
                                   format("index {} is out of range for size {}", args[0].i, args[1].i),
                                   {format("in `%{}`", tensor_.name), tensor_.where.text()}}};
        return args[0];
      case ScalarOp::check_divisor:
        if (args[0].i == 0) fail_with("integer division by zero");
        return args[0];
      case ScalarOp::floordiv:
      case ScalarOp::truncdiv:
      case ScalarOp::fmod:
      case ScalarOp::remainder:
        if (is_integer(node.arg_type) && args[1].i == 0) fail_with("integer division by zero");
        break;
      default: break;
    }
    return eval_scalar(node.op, node.arg_type, args, exact_);
  }
  [[noreturn]] void fail_with(const char* text) const {
    throw EvaluationFailure{{Kind::bad_input, text, {format("in `%{}`", tensor_.name), tensor_.where.text()}}};
  }

  static bool is_position(ReduceOp op) { return op == ReduceOp::argmin || op == ReduceOp::argmax; }

  static Accumulator start(const Node& node) {
    Accumulator all;
    const bool real = is_float(node.arg_type);
    const double infinity = std::numeric_limits<double>::infinity();
    const bool unsigned64 = node.arg_type == DType::u64;
    // The greatest value has all bits set but the sign; of an unsigned type, all.
    const int64_t greatest = unsigned64                   ? -1
                             : is_unsigned(node.arg_type) ? wrap_integer(-1, node.arg_type)
                             : dtype_bytes(node.arg_type) == 8
                                 ? INT64_MAX
                                 : (int64_t{1} << (8 * dtype_bytes(node.arg_type) - 1)) - 1;
    switch (node.reduce) {
      case ReduceOp::prod: all.value = real ? Scalar{.f = 1} : Scalar{.i = 1}; break;
      case ReduceOp::min: all.value = real ? Scalar{.f = infinity} : Scalar{.i = greatest}; break;
      case ReduceOp::max:
        all.value = real ? Scalar{.f = -infinity} : Scalar{.i = is_unsigned(node.arg_type) ? 0 : -greatest - 1};
        break;
      case ReduceOp::all: all.value.i = 1; break;
      default: all.value = real ? Scalar{.f = 0} : Scalar{.i = 0}; break;
    }
    return all;
  }

  // Sums and products of floats run in f64 and are rounded once at the end.
  void take(const Node& node, Accumulator& all, Scalar x) const {
    const bool real = is_float(node.arg_type);
    const int64_t at = all.count++;
    if (real && node.reduce == ReduceOp::sum) {
      all.value.f += x.f;
      return;
    }
    auto op = [&](ScalarOp o) {
      const Scalar both[] = {all.value, x};
      return eval_scalar(o, node.arg_type, both, true);
    };
    switch (node.reduce) {
      case ReduceOp::sum: all.value = op(ScalarOp::add); return;
      case ReduceOp::prod: all.value = op(ScalarOp::mul); return;
      case ReduceOp::min: all.value = at == 0 ? x : op(ScalarOp::min); return;
      case ReduceOp::max: all.value = at == 0 ? x : op(ScalarOp::max); return;
      case ReduceOp::any: all.value.i |= x.i; return;
      case ReduceOp::all: all.value.i &= x.i; return;
      case ReduceOp::argmin:
      case ReduceOp::argmax: {
        // The first wins a tie, and the first NaN wins altogether.
        const Scalar both[] = {x, all.value};
        const bool better =
            eval_scalar(node.reduce == ReduceOp::argmin ? ScalarOp::lt : ScalarOp::gt, node.arg_type, both).i;
        const bool first_nan = real && std::isnan(x.f) && !std::isnan(all.value.f);
        if (at == 0 || better || first_nan) {
          all.value = x;
          all.best = at;
        }
        return;
      }
    }
  }
  Scalar finish(const Node& node, const Accumulator& all) const {
    if (is_position(node.reduce)) return {.i = all.best};
    if (node.type == DType::f32 && !exact_) return {.f = static_cast<float>(all.value.f)};
    return all.value;
  }

  void run(const Node& node, size_t depth, Accumulator& all) {
    const int64_t extent = eval(node.extents[depth]).i;
    for (int64_t i = 0; i < extent; ++i) {
      set(node.slots[depth], i);
      if (depth + 1 < node.slots.size())
        run(node, depth + 1, all);
      else
        take(node, all, eval(node.args[0]));
    }
  }

  // Goes on from the last position when only the position has moved up, as it does along a row.
  Scalar scan(Node& node) {
    const int64_t at = eval(node.args[1]).i;
    Running& running = running_[static_cast<size_t>(&node - nodes_.data())];
    const Node& body = nodes_[static_cast<size_t>(node.args[0])];
    bool same = running.position >= 0 && at >= running.position;
    for (int32_t slot : body.depends)
      same = same && (slot == node.slots[0] || changed_[static_cast<size_t>(slot)] <= running.stamp);
    if (!same) running = {start(node), -1, 0};
    while (running.position < at) {
      set(node.slots[0], ++running.position);
      take(node, running.all, eval(node.args[0]));
    }
    running.stamp = ++clock_;
    return finish(node, running.all);
  }
  struct Running {
    Accumulator all;
    int64_t position = -1;
    uint64_t stamp = 0;
  };

  const Loops& loops_;
  const ExprPool& pool_;
  const LoopTensor& tensor_;
  const Evaluator& evaluator_;
  bool exact_;
  std::map<std::string, Sym> known_;
  std::map<std::string, int32_t> slots_;
  std::vector<int64_t> values_;
  std::vector<uint64_t> changed_;  // per slot: when it was last set
  uint64_t clock_ = 1;
  std::vector<Node> nodes_;
  std::unordered_map<int32_t, int32_t> built_;
  std::unordered_map<size_t, Running> running_;
  std::vector<int32_t> vars_;
  int32_t root_ = -1;
};

}  // namespace

std::vector<int64_t> row_major(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t k = sizes.size(); k-- > 1;) strides[k - 1] = strides[k] * std::max<int64_t>(sizes[k], 1);
  return strides;
}

int64_t Memory::count() const {
  int64_t count = 1;
  for (int64_t size : sizes) count *= size;
  return count;
}

std::vector<int64_t> Evaluator::evaluate(const SymList& list) const {
  std::vector<int64_t> values;
  for (const Sym& sym : list) values.push_back(evaluate(sym));
  return values;
}

void Evaluator::compute(TensorId id) {
  const LoopTensor& tensor = loops_[id];
  Memory memory;
  memory.dtype = exact_ && is_float(tensor.dtype) ? DType::f64 : tensor.dtype;
  memory.sizes = evaluate(tensor.sizes);
  memory.strides = row_major(memory.sizes);
  for (int64_t size : memory.sizes)
    if (size < 0)
      throw EvaluationFailure{{Kind::bad_input, format("`%{}` has size {}", tensor.name, size), {tensor.where.text()}}};
  if (loops_.pool[tensor.body].kind == ExprKind::routine) return run_routine(id, std::move(memory));
  const int64_t bytes = dtype_bytes(memory.dtype);
  auto data = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(memory.count() * bytes));
  if (memory.count() > 0) {
    Body body(loops_, tensor, *this, exact_);
    std::byte* at = data->data();
    for_each_index(memory.sizes, [&](const std::vector<int64_t>& index) {
      store_scalar(at, memory.dtype, body.at(index));
      at += bytes;
    });
  }
  memory.base = data->data();
  memory.owner = std::move(data);
  set(id, std::move(memory));
}

InterpTensor copy_out(const Memory& memory) {
  InterpTensor result{memory.dtype, memory.sizes, {}, {}};
  const auto bytes = static_cast<size_t>(dtype_bytes(memory.dtype));
  result.data.resize(static_cast<size_t>(memory.count()) * bytes);
  std::byte* to = result.data.data();
  for_each_index(memory.sizes, [&](const std::vector<int64_t>& index) {
    int64_t offset = 0;
    for (size_t k = 0; k < index.size(); ++k) offset += index[k] * memory.strides[k];
    to = std::copy_n(memory.base + offset * static_cast<int64_t>(bytes), bytes, to);
  });
  return result;
}

void Evaluator::run_routine(TensorId id, Memory memory) {
  const LoopTensor& tensor = loops_[id];
  const Expr& call = loops_.pool[tensor.body];
  auto output =
      std::make_shared<std::vector<std::byte>>(static_cast<size_t>(memory.count() * dtype_bytes(memory.dtype)) + 64);
  std::vector<std::vector<std::byte>> inputs;
  std::vector<long long> integers;
  std::vector<double> numbers;
  DType first = memory.dtype;
  for (ExprId arg : call.args) {
    const Expr& e = loops_.pool[arg];
    if (e.kind == ExprKind::constant) numbers.push_back(e.number);
    if (e.kind == ExprKind::index) integers.push_back(evaluate(e.sym));
    if (e.kind != ExprKind::load) continue;
    const Memory& from = this->memory(e.tensor);
    if (inputs.empty()) first = from.dtype;
    inputs.push_back(copy_out(from).data);
  }
  RoutineFunction function = routine_function(call.local, first);
  TD_CHECK(function && !integers.empty(), "`%{}`: no routine {} of {}", tensor.name, routine_name(call.local),
           dtype_name(first));
  std::vector<char*> pointers;
  for (std::vector<std::byte>& input : inputs) pointers.push_back(reinterpret_cast<char*>(input.data()));
  pointers.push_back(reinterpret_cast<char*>(output->data()));
  if (memory.count() > 0) function(pointers.data(), integers.data(), numbers.data(), 0, integers[0]);
  memory.base = output->data();
  memory.owner = std::move(output);
  set(id, std::move(memory));
}

void Evaluator::set_constant(TensorId id) {
  const LoopTensor& tensor = loops_[id];
  Memory memory{tensor.dtype, evaluate(tensor.sizes), {}, tensor.data.data(), std::make_shared<int>(0)};
  memory.strides = row_major(memory.sizes);
  set(id, std::move(memory));
}

void Evaluator::set_weight(TensorId id) {
  const LoopTensor& tensor = loops_[id];
  const Weight& weight = loops_.weights[static_cast<size_t>(tensor.weight.index)];
  Memory memory{weight.type.dtype, evaluate(weight.type.sizes), evaluate(weight.type.strides), nullptr,
                std::make_shared<int>(0)};
  const Storage* storage = weight.storage >= 0 && static_cast<size_t>(weight.storage) < loops_.storages.size()
                               ? &loops_.storages[static_cast<size_t>(weight.storage)]
                               : nullptr;
  int64_t end = weight.storage_offset + 1;
  for (size_t k = 0; k < memory.sizes.size(); ++k) end += (memory.sizes[k] - 1) * memory.strides[k];
  if (memory.count() > 0 && (!storage || !storage->data || storage->bytes < end * dtype_bytes(memory.dtype)))
    throw EvaluationFailure{{Kind::bad_input, format("weight `{}` has no data", weight.name), {}}};
  if (storage && storage->data)
    memory.base = static_cast<const std::byte*>(storage->data) + weight.storage_offset * dtype_bytes(memory.dtype);
  set(id, std::move(memory));
}

}  // namespace toroid
