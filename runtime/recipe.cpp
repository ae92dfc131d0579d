// Runs recipes: weights in, bytes of a constant out. Data movement keeps its element type and runs at memory speed;
// arithmetic goes through double.
#include "recipe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "convert.h"
#include "pack.h"

namespace toroid::runtime {
namespace {

// A tensor on the stack: a view of a source, or memory of its own, or values joined along dim 0 that nothing has needed
// in one piece yet (packing never does).
struct Value {
  int32_t dtype = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  const char* data = nullptr;
  std::shared_ptr<char[]> memory;
  std::vector<Value> parts;
};

int64_t count_of(const std::vector<int64_t>& sizes) {
  int64_t n = 1;
  for (int64_t size : sizes) n *= size;
  return n;
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t d = sizes.size(); d-- > 0;) strides[d] = step, step *= std::max<int64_t>(sizes[d], 1);
  return strides;
}

bool is_contiguous(const Value& v) {
  int64_t step = 1;
  for (size_t d = v.sizes.size(); d-- > 0;) {
    if (v.sizes[d] == 0) return true;
    if (v.sizes[d] != 1 && v.strides[d] != step) return false;
    step *= v.sizes[d];
  }
  return true;
}

Value make_value(int32_t dtype, std::vector<int64_t> sizes) {
  Value v;
  v.dtype = dtype;
  v.strides = contiguous_strides(sizes);
  v.sizes = std::move(sizes);
  v.memory.reset(new char[std::max<int64_t>(count_of(v.sizes) * recipe_dtype_bytes(dtype), 1)]);
  v.data = v.memory.get();
  return v;
}

// Copies v, converted, into memory strided by `to` (elements of dtype).
void copy_value(const Value& v, int32_t dtype, char* out, const std::vector<int64_t>& to) {
  copy_converted(v.sizes, v.data, v.dtype, v.strides, out, dtype, to);
}

Value materialised(const Value& v, int32_t dtype) {
  Value out = make_value(dtype, v.sizes);
  copy_value(v, dtype, out.memory.get(), out.strides);
  return out;
}

// Values of one dtype, joined along `dim` into memory of the sizes given.
Value joined(std::span<const Value> parts, size_t dim, const std::vector<int64_t>& sizes) {
  Value out = make_value(parts[0].dtype, sizes);
  int64_t at = 0;
  for (const Value& part : parts) {
    copy_value(part, out.dtype, out.memory.get() + at * out.strides[dim] * recipe_dtype_bytes(out.dtype), out.strides);
    at += part.sizes[dim];
  }
  return out;
}

struct Machine {
  const Recipes& recipes;
  std::span<const RecipeSource> sources;
  std::string& error;
  std::vector<Value> stack;

  bool fail(std::string text) {
    error = std::move(text);
    return false;
  }
  // As it is: perhaps in parts.
  Value take() {
    Value v = std::move(stack.back());
    stack.pop_back();
    return v;
  }
  Value pop() {
    Value v = take();
    return v.parts.empty() ? v : joined(v.parts, 0, v.sizes);
  }

  bool load(const RecipeStep& step) {
    const RecipeWeight& weight = recipes.weights[step.weight];
    const RecipeSource& source = sources[step.weight];
    if (!source.data && count_of(weight.sizes) > 0) return fail("weight `" + weight.name + "` is not given");
    if (source.strides.size() != weight.sizes.size()) return fail("weight `" + weight.name + "` has another rank");
    stack.push_back({weight.dtype,
                     weight.sizes,
                     {source.strides.begin(), source.strides.end()},
                     static_cast<const char*>(source.data),
                     nullptr,
                     {}});
    return true;
  }

  bool as_strided(const RecipeStep& step) {
    Value a = pop();
    if (!is_contiguous(a)) a = materialised(a, a.dtype);
    int64_t low = step.offset, high = step.offset;
    for (size_t d = 0; d < step.sizes.size(); ++d) {
      if (step.sizes[d] == 0) high = low = 0;
      const int64_t reach = (step.sizes[d] - 1) * step.strides[d];
      (reach < 0 ? low : high) += reach;
    }
    if (count_of(step.sizes) > 0 && (low < 0 || high >= count_of(a.sizes)))
      return fail("as_strided reaches outside of its tensor");
    a.data += step.offset * recipe_dtype_bytes(a.dtype);
    a.sizes = step.sizes;
    a.strides = step.strides;
    stack.push_back(std::move(a));
    return true;
  }

  bool concat(const RecipeStep& step) {
    std::vector<Value> parts(static_cast<size_t>(step.count));
    for (size_t i = parts.size(); i-- > 0;) parts[i] = pop();
    const Value& head = parts[0];
    if (step.dim < 0 || step.dim >= static_cast<int64_t>(head.sizes.size())) return fail("concat along a missing dim");
    std::vector<int64_t> sizes = head.sizes;
    sizes[step.dim] = 0;
    for (const Value& part : parts) {
      std::vector<int64_t> rest = part.sizes;
      if (rest.size() != sizes.size() || part.dtype != head.dtype) return fail("concat of unlike tensors");
      sizes[step.dim] += rest[step.dim];
      rest[step.dim] = head.sizes[step.dim];
      if (rest != head.sizes) return fail("concat of unlike sizes");
    }
    if (step.dim == 0) {
      const int32_t dtype = head.dtype;
      stack.push_back({dtype, std::move(sizes), {}, nullptr, nullptr, std::move(parts)});
    } else {
      stack.push_back(joined(parts, step.dim, sizes));
    }
    return true;
  }

  bool binary(const RecipeStep& step) {
    Value b = pop(), a = pop();
    const size_t rank = std::max(a.sizes.size(), b.sizes.size());
    std::vector<int64_t> sizes(rank);
    for (Value* v : {&a, &b}) {
      v->sizes.insert(v->sizes.begin(), rank - v->sizes.size(), 1);
      v->strides.insert(v->strides.begin(), rank - v->strides.size(), 0);
    }
    for (size_t d = 0; d < rank; ++d) {
      if (a.sizes[d] != b.sizes[d] && a.sizes[d] != 1 && b.sizes[d] != 1) return fail("sizes do not broadcast");
      sizes[d] = a.sizes[d] == 1 ? b.sizes[d] : a.sizes[d];
    }
    for (Value* v : {&a, &b}) {
      for (size_t d = 0; d < rank; ++d)
        if (v->sizes[d] == 1) v->strides[d] = 0;
      v->sizes = sizes;
    }
    const Value left = materialised(a, TD_F64), right = materialised(b, TD_F64);
    Value out = make_value(TD_F64, sizes);
    const double* x = reinterpret_cast<const double*>(left.data);
    const double* y = reinterpret_cast<const double*>(right.data);
    double* z = reinterpret_cast<double*>(out.memory.get());
    const int64_t n = count_of(sizes);
    switch (step.op) {
      case RecipeOp::add:
        for (int64_t i = 0; i < n; ++i) z[i] = x[i] + y[i];
        break;
      case RecipeOp::sub:
        for (int64_t i = 0; i < n; ++i) z[i] = x[i] - y[i];
        break;
      case RecipeOp::mul:
        for (int64_t i = 0; i < n; ++i) z[i] = x[i] * y[i];
        break;
      default:
        for (int64_t i = 0; i < n; ++i) z[i] = x[i] / y[i];
        break;
    }
    stack.push_back(std::move(out));
    return true;
  }

  bool unary(const RecipeStep& step) {
    Value out = materialised(pop(), TD_F64);
    double* x = reinterpret_cast<double*>(out.memory.get());
    const int64_t n = count_of(out.sizes);
    switch (step.op) {
      case RecipeOp::add_scalar:
        for (int64_t i = 0; i < n; ++i) x[i] += step.value;
        break;
      case RecipeOp::mul_scalar:
        for (int64_t i = 0; i < n; ++i) x[i] *= step.value;
        break;
      default:
        for (int64_t i = 0; i < n; ++i) x[i] = 1 / std::sqrt(x[i]);
        break;
    }
    stack.push_back(std::move(out));
    return true;
  }

  bool run(const RecipeStep& step) {
    const size_t needed = step.op == RecipeOp::load     ? 0
                          : step.op == RecipeOp::concat ? static_cast<size_t>(std::max(step.count, 1))
                          : step.op >= RecipeOp::add && step.op <= RecipeOp::div ? 2
                                                                                 : 1;
    if (stack.size() < needed) return fail("a recipe takes from an empty stack");
    switch (step.op) {
      case RecipeOp::load: return load(step);
      case RecipeOp::cast: stack.push_back(materialised(pop(), step.dtype)); return true;
      case RecipeOp::as_strided: return as_strided(step);
      case RecipeOp::concat: return concat(step);
      case RecipeOp::add:
      case RecipeOp::sub:
      case RecipeOp::mul:
      case RecipeOp::div: return binary(step);
      case RecipeOp::add_scalar:
      case RecipeOp::mul_scalar:
      case RecipeOp::rsqrt: return unary(step);
      case RecipeOp::pack:
      case RecipeOp::bytes: return fail("`pack` and `bytes` can only be last");
    }
    return fail("unknown step");
  }
};

// The inverse walk. Each stack entry remembers how it was made; values then flow back down from the constant's bytes.
struct Node {
  const RecipeStep* step;
  int32_t dtype;
  std::vector<int64_t> sizes;
  std::vector<int> from;
};

struct Inverse {
  const Recipes& recipes;
  int32_t weight;
  char* out;
  std::span<uint8_t> seen;
  std::vector<Node> nodes;

  // `data` holds node's elements contiguously; `known` says which of them mean anything (empty: all).
  void push_down(int index, const char* data, const std::vector<uint8_t>& known) {
    const Node& node = nodes[index];
    const int64_t bytes = recipe_dtype_bytes(node.dtype);
    const int64_t n = count_of(node.sizes);
    if (node.step->op == RecipeOp::load) {
      if (node.step->weight != weight) return;
      for (int64_t i = 0; i < n; ++i) {
        if (!known.empty() && !known[i]) continue;
        std::memcpy(out + i * bytes, data + i * bytes, bytes);
        seen[i] = 1;
      }
    } else if (node.step->op == RecipeOp::cast) {
      const Node& below = nodes[node.from[0]];
      Value v{node.dtype, node.sizes, contiguous_strides(node.sizes), data, nullptr, {}};
      push_down(node.from[0], materialised(v, below.dtype).data, known);
    } else if (node.step->op == RecipeOp::as_strided) {
      const Node& below = nodes[node.from[0]];
      const int64_t total = count_of(below.sizes);
      std::unique_ptr<char[]> wide(new char[std::max<int64_t>(total * bytes, 1)]);
      std::vector<uint8_t> wide_known(total);
      std::vector<int64_t> at(node.sizes.size());
      for (int64_t i = 0; i < n; ++i) {
        int64_t to = node.step->offset;
        for (size_t d = 0; d < at.size(); ++d) to += at[d] * node.step->strides[d];
        if (known.empty() || known[i]) {
          std::memcpy(wide.get() + to * bytes, data + i * bytes, bytes);
          wide_known[to] = 1;
        }
        for (size_t d = at.size(); d-- > 0 && ++at[d] == node.sizes[d];) at[d] = 0;
      }
      push_down(node.from[0], wide.get(), wide_known);
    } else {  // concat
      int64_t start = 0, outer = 1, inner = 1;
      const int32_t dim = node.step->dim;
      for (int32_t d = 0; d < dim; ++d) outer *= node.sizes[d];
      for (size_t d = dim + 1; d < node.sizes.size(); ++d) inner *= node.sizes[d];
      for (int part : node.from) {
        const int64_t width = nodes[part].sizes[dim];
        std::unique_ptr<char[]> piece(new char[std::max<int64_t>(outer * width * inner * bytes, 1)]);
        std::vector<uint8_t> piece_known(known.empty() ? 0 : outer * width * inner);
        for (int64_t o = 0; o < outer; ++o) {
          const int64_t source = (o * node.sizes[dim] + start) * inner;
          std::memcpy(piece.get() + o * width * inner * bytes, data + source * bytes, width * inner * bytes);
          if (!known.empty())
            std::copy_n(known.begin() + source, width * inner, piece_known.begin() + o * width * inner);
        }
        push_down(part, piece.get(), piece_known);
        start += width;
      }
    }
  }
};

}  // namespace

struct PreparedConstant::State {
  bool packs = false;
  Value value;                                  // contiguous and of the constant's dtype, unless packed
  std::vector<std::vector<PackRows>> matrices;  // packed: each one's rows, in pieces
  std::vector<Value> converted;                 // memory of those that had another dtype
  int64_t k = 0, bytes = 0, matrix_bytes = 0;
  int32_t k_group = 1;
};

PreparedConstant::PreparedConstant() = default;
PreparedConstant::~PreparedConstant() = default;
PreparedConstant& PreparedConstant::operator=(PreparedConstant&&) noexcept = default;

bool PreparedConstant::prepare(const Recipes& recipes, const RecipeConstant& constant,
                               std::span<const RecipeSource> sources, std::string& error) {
  Machine machine{recipes, sources, error, {}};
  if (constant.steps.empty()) return machine.fail("a constant has no recipe");
  state_ = std::make_unique<State>();
  State& state = *state_;
  state.packs = constant.steps.back().op == RecipeOp::pack;
  for (size_t i = 0; i + state.packs < constant.steps.size(); ++i)
    if (!machine.run(constant.steps[i])) return false;
  if (machine.stack.size() != 1) return machine.fail("a recipe must leave one value");
  state.bytes = recipe_dtype_bytes(constant.dtype);
  if (!state.packs) {
    Value v = machine.pop();
    if (count_of(v.sizes) * state.bytes != constant.bytes)
      return machine.fail("a recipe's result does not fill its constant");
    if (v.dtype != constant.dtype || !is_contiguous(v)) v = materialised(v, constant.dtype);
    state.value = std::move(v);
    return true;
  }
  Value v = machine.take();
  const size_t rank = v.sizes.size();
  if (rank != 2 && rank != 3) return machine.fail("pack takes a matrix, or several");
  // Only rows of a single matrix stay in parts.
  if (rank == 3 && !v.parts.empty()) v = joined(v.parts, 0, v.sizes);
  state.k = v.sizes[rank - 1];
  state.k_group = constant.steps.back().k_group;
  const int64_t matrices = rank == 3 ? v.sizes[0] : 1;
  state.matrix_bytes = packed_bytes(v.sizes[rank - 2], state.k, state.k_group, state.bytes);
  if (matrices * state.matrix_bytes != constant.bytes)
    return machine.fail("a packed matrix does not fill its constant");
  if (v.parts.empty()) {
    state.converted.push_back(std::move(v));
  } else {
    state.converted = std::move(v.parts);
  }
  for (Value& part : state.converted)
    if (part.dtype != constant.dtype) part = materialised(part, constant.dtype);
  if (rank == 2) {
    state.matrices.resize(1);
    for (const Value& part : state.converted)
      state.matrices[0].push_back({part.data, part.sizes[0], part.strides[0], part.strides[1]});
  } else {
    const Value& all = state.converted[0];
    for (int64_t m = 0; m < matrices; ++m)
      state.matrices.push_back(
          {{all.data + m * all.strides[0] * state.bytes, all.sizes[1], all.strides[1], all.strides[2]}});
  }
  return true;
}

void PreparedConstant::write(int64_t begin, int64_t end, char* out) const {
  if (begin >= end) return;
  const State& state = *state_;
  if (!state.packs) {
    std::memcpy(out, state.value.data + begin, end - begin);
    return;
  }
  for (int64_t m = begin / state.matrix_bytes; begin < end; ++m) {
    const int64_t first = m * state.matrix_bytes, stop = std::min(end, first + state.matrix_bytes);
    pack_range(state.matrices[m], state.k, state.k_group, state.bytes, begin - first, stop - first, out);
    out += stop - begin;
    begin = stop;
  }
}

bool run_recipe(const Recipes& recipes, const RecipeConstant& constant, std::span<const RecipeSource> sources,
                void* out, std::string& error) {
  if (!constant.steps.empty() && constant.steps.front().op == RecipeOp::bytes) return true;
  PreparedConstant prepared;
  if (!prepared.prepare(recipes, constant, sources, error)) return false;
  prepared.write(0, constant.bytes, static_cast<char*>(out));
  return true;
}

bool invert_recipe(const Recipes& recipes, const RecipeConstant& constant, const void* data, int32_t weight, void* out,
                   std::span<uint8_t> seen) {
  Inverse inverse{recipes, weight, static_cast<char*>(out), seen, {}};
  std::vector<int> stack;
  const RecipeStep* pack = nullptr;
  for (const RecipeStep& step : constant.steps) {
    Node node{&step, 0, {}, {}};
    const size_t takes = step.op == RecipeOp::load ? 0 : step.op == RecipeOp::concat ? step.count : 1;
    if (stack.size() < takes) return false;
    node.from.assign(stack.end() - takes, stack.end());
    switch (step.op) {
      case RecipeOp::load:
        node.dtype = recipes.weights[step.weight].dtype;
        node.sizes = recipes.weights[step.weight].sizes;
        break;
      case RecipeOp::cast:
        // Only a widening cast keeps every value.
        if (!holds_exactly(inverse.nodes[node.from[0]].dtype, step.dtype)) return false;
        node.dtype = step.dtype;
        node.sizes = inverse.nodes[node.from[0]].sizes;
        break;
      case RecipeOp::as_strided:
        node.dtype = inverse.nodes[node.from[0]].dtype;
        node.sizes = step.sizes;
        break;
      case RecipeOp::concat:
        node.dtype = inverse.nodes[node.from[0]].dtype;
        node.sizes = inverse.nodes[node.from[0]].sizes;
        for (size_t i = 1; i < takes; ++i) node.sizes[step.dim] += inverse.nodes[node.from[i]].sizes[step.dim];
        break;
      case RecipeOp::pack: pack = &step; continue;
      default: return false;
    }
    stack.resize(stack.size() - takes);
    stack.push_back(static_cast<int>(inverse.nodes.size()));
    inverse.nodes.push_back(std::move(node));
  }
  if (stack.size() != 1) return false;
  const Node& top = inverse.nodes[stack[0]];
  if (!holds_exactly(top.dtype, constant.dtype)) return false;
  Value v{constant.dtype, top.sizes, contiguous_strides(top.sizes), static_cast<const char*>(data), nullptr, {}};
  Value plain;
  if (pack) {
    plain = make_value(constant.dtype, top.sizes);
    const size_t rank = top.sizes.size();
    if (rank != 2 && rank != 3) return false;
    const int64_t bytes = recipe_dtype_bytes(constant.dtype), n = top.sizes[rank - 2], k = top.sizes[rank - 1];
    for (int64_t m = 0; m < (rank == 3 ? top.sizes[0] : 1); ++m)
      unpack_matrix(v.data + m * packed_bytes(n, k, pack->k_group, bytes), n, k, pack->k_group, bytes,
                    plain.memory.get() + m * n * k * bytes);
    v.data = plain.data;
  }
  inverse.push_down(stack[0], materialised(v, top.dtype).data, {});
  return true;
}

std::vector<int32_t> loaded_weights(const RecipeConstant& constant) {
  std::vector<int32_t> out;
  for (const RecipeStep& step : constant.steps)
    if (step.op == RecipeOp::load && std::find(out.begin(), out.end(), step.weight) == out.end())
      out.push_back(step.weight);
  return out;
}

}  // namespace toroid::runtime
