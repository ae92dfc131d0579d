// A place in memory for every stored tensor: which buffer, which order of dims. Outputs lie as the caller wants them,
// inputs as they come, everything else in the order that PyTorch would have used, except around convolutions, which
// want channels innermost.
#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "fuse/contraction.h"
#include "fuse/program.h"

namespace toroid::fuse {
namespace {

// Dims from the largest stride to the smallest; row-major when the strides do not say (unknown, repeated, expanded).
std::vector<int> memory_order(const Program& program, const SymList& sizes, const SymList& strides) {
  std::vector<int> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  if (strides.size() != sizes.size()) return order;
  std::vector<int64_t> values;
  for (size_t d = 0; d < strides.size(); ++d) {
    values.push_back(program.at_hints(strides[d]));
    if (values.back() == 0 && sizes[d] != Sym(1)) return order;
  }
  // Dims of one element go along with their right neighbour.
  for (size_t d = sizes.size(); d-- > 0;)
    if (sizes[d] == Sym(1)) values[d] = d + 1 < sizes.size() ? values[d + 1] : 1;
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)]; });
  return order;
}

Sym span_of(const SymList& sizes, const SymList& strides) {
  Sym last = 1;
  for (size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - Sym(1)) * strides[d];
  for (const Sym& size : sizes)
    if (size == Sym(0)) return 0;
  return last;
}

const std::vector<int> channels_last = {0, 2, 3, 1};

}  // namespace

void choose_places(Program& program, Schedule& schedule) {
  const Loops& loops = program.loops;
  schedule.places.resize(loops.tensors.size());

  // Tensors around convolutions that may lie with channels innermost.
  std::vector<bool> wants_channels_last(loops.tensors.size(), false);
  auto flexible = [&](TensorId id) {
    return loops[id].kind == TensorKind::computed && !program[id].is_output && loops[id].sizes.size() == 4;
  };
  auto want = [&](TensorId id) {
    if (flexible(id)) wants_channels_last[static_cast<size_t>(id.index)] = true;
  };
  for (const Group& group : program.groups) {
    if (!group.is_template) continue;
    std::optional<ConvForm> conv = match_conv(program, group.members[0]);
    if (!conv || conv->dims != 2) continue;
    if (conv->x_dims[1] == 1) want(conv->x);
    for (TensorId member : group.members) want(member);
  }
  // Routines take and give rows.
  std::vector<bool> row_by_row(loops.tensors.size(), false);
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    if (program.items[i].kind != Kind::routine) continue;
    row_by_row[i] = true;
    for (const Use& use : program.items[i].uses) row_by_row[static_cast<size_t>(use.tensor.index)] = true;
  }
  // What reads such a tensor element by element follows it.
  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    const TensorId id{static_cast<int32_t>(i)};
    if (!flexible(id) || !program[id].stored) continue;
    for (const Use& use : program[id].uses) {
      const size_t u = static_cast<size_t>(use.tensor.index);
      if (wants_channels_last[u] && same_list({loops[use.tensor].sizes[1]}, {loops[id].sizes[1]}) &&
          program.elements_at_hints(use.tensor) * 8 >= program.elements_at_hints(id))
        wants_channels_last[i] = true;
    }
  }

  for (size_t i = 0; i < loops.tensors.size(); ++i) {
    const TensorId id{static_cast<int32_t>(i)};
    const LoopTensor& tensor = loops[id];
    Buffer buffer;
    buffer.name = tensor.name;
    buffer.dtype = tensor.dtype;
    buffer.device = tensor.device;
    Place place;
    if (tensor.kind == TensorKind::input) {
      buffer.kind = BufferKind::input;
      buffer.input = tensor.input;
      place.strides = tensor.strides.size() == tensor.sizes.size() ? tensor.strides : contiguous_strides(tensor.sizes);
      buffer.elements = span_of(tensor.sizes, place.strides);
    } else if (tensor.kind == TensorKind::weight || tensor.kind == TensorKind::constant) {
      buffer.kind = BufferKind::constant;
      place.strides = contiguous_strides(tensor.sizes);
      buffer.elements = product(tensor.sizes);
      for (const Sym& size : tensor.sizes) buffer.constant_sizes.push_back(size.value());
      RecipeStep step;
      if (tensor.kind == TensorKind::weight) {
        step.op = "load";
        step.weight = tensor.weight.index;
        for (const LoopOutput& output : loops.outputs)
          if (output.target.mutates == GraphOutput::Mutates::weight && output.target.weight == tensor.weight)
            buffer.mutated = true;
      } else {
        step.op = "bytes";
        buffer.bytes = tensor.data;
      }
      buffer.recipe.push_back(step);
    } else if (!program[id].recipe.empty()) {
      buffer.kind = BufferKind::constant;
      buffer.recipe = program[id].recipe;
      place.strides = contiguous_strides(tensor.sizes);
      buffer.elements = product(tensor.sizes);
      for (const Sym& size : tensor.sizes) buffer.constant_sizes.push_back(size.value());
    } else {
      if (!program[id].stored) continue;
      buffer.kind = BufferKind::temporary;
      for (size_t o = 0; o < loops.outputs.size(); ++o) {
        const LoopOutput& output = loops.outputs[o];
        if (output.tensor != id || output.target.mutates != GraphOutput::Mutates::nothing) continue;
        buffer.kind = BufferKind::output;
        buffer.output = static_cast<int32_t>(o);
        place.strides = output.strides;
        break;
      }
      if (program[id].kind == Kind::copy) {
        // As its source lies, so that one run of bytes goes over.
        buffer.kind = BufferKind::temporary;
        buffer.output = -1;
        place.strides = schedule.place(program[id].uses.at(0).tensor).strides;
      } else if (row_by_row[i]) {
        TD_CHECK(buffer.kind == BufferKind::temporary || same_list(place.strides, contiguous_strides(tensor.sizes)) ||
                     product(tensor.sizes) == Sym(0),
                 "routine operand `{}` is an output of other strides", tensor.name);
        place.strides = contiguous_strides(tensor.sizes);
      } else if (buffer.kind == BufferKind::temporary) {
        std::vector<int> order = program[id].is_output ? memory_order(program, tensor.sizes, {})
                                                       : memory_order(program, tensor.sizes, tensor.strides);
        if (wants_channels_last[i]) order = channels_last;
        // What follows attention reads all heads of a row together.
        if (program[id].attention && tensor.sizes.size() == 4) order = {0, 2, 1, 3};
        place.strides = strides_in_order(tensor.sizes, order);
      } else if (place.strides.size() != tensor.sizes.size()) {
        place.strides = contiguous_strides(tensor.sizes);
      }
      buffer.elements = span_of(tensor.sizes, place.strides);
    }
    place.buffer = schedule.add(std::move(buffer));
    schedule.place(id) = std::move(place);
  }
}

}  // namespace toroid::fuse
