// Calls as C++: views of whole tensors for a function, real branches and loops around the blocks of programs.
#include "emit/wrapper/calls.h"

#include "base/check.h"
#include "emit/wrapper/signature.h"

namespace toroid::emit {
namespace {

class CallText {
 public:
  CallText(const CallContext& context, size_t k)
      : context_(context),
        schedule_(context.plan.schedule),
        loops_(context.plan.schedule.loops),
        call_(std::get<CallKernel>(context.plan.schedule.kernels[k].work)),
        k_(k) {}

  void function_lines() {
    std::string inputs, outputs, attributes;
    for (size_t i = 0; i < call_.operands.size(); ++i) inputs += view_text(call_.operands[i], format("in{}", i)) + ", ";
    for (size_t i = 0; i < call_.results.size(); ++i) outputs += view_text(call_.results[i], format("out{}", i)) + ", ";
    for (const Sym& attribute : call_.attributes) {
      attributes +=
          (is_float_sym(attribute) ? format("__builtin_bit_cast(long, {})", c(attribute)) : c(attribute)) + ", ";
    }
    line(format("    const TdView inputs[] = {{{}{{}}}}, outputs[] = {{{}{{}}}};", inputs, outputs));
    line(format("    const i64 attributes[] = {{{}0}};", attributes));
    line(format("    const TdCall call = {{sizeof(TdCall), inputs, outputs, attributes, {}, {}, {}, table, host, e}};",
                call_.operands.size(), call_.results.size(), call_.attributes.size()));
    line(format("    if (int32_t bad = {}(&call)) return bad;", context_.callee(call_.function)));
  }

  void control_lines() {
    const std::string name = replace_all(schedule_.kernels[k_].name, ".", "_") + "_";
    std::vector<std::string> operands, results;
    for (size_t i = 0; i < call_.operands.size(); ++i) operands.push_back(operand_lines(call_.operands[i], name, i));
    for (TensorId id : call_.results) results.push_back(tensor_pointer(id));
    if (call_.function == "cond") {
      const bool by_size = !call_.attributes.empty();
      line(format("    if ({}) {{", by_size ? c(call_.attributes[0]) : format("*(const char*)({})", operands[0])));
      if (!by_size) operands.erase(operands.begin());
      program(0, operands, results);
      line("    } else {");
      program(1, operands, results);
      line("    }");
      return;
    }
    // Carried tensors go from `now` to `next`, which is the result or a place in the scratch, in turn.
    const auto carried = static_cast<size_t>(call_.attributes[0].value());
    std::vector<std::string> inputs, outputs;
    std::vector<Sym> places;
    Sym at = 0;
    for (size_t i = 0; i < carried; ++i) {
      places.push_back(at);
      at += ceil_div(bytes_of(call_.results[i]), 64) * Sym(64);
      line(format("    char* {}now{} = {};", name, i, operands[i]));
      inputs.push_back(format("{}now{}", name, i));
      outputs.push_back(format("{}next{}", name, i));
    }
    const std::string step = name + "step", row = name + "row";
    if (call_.function == "while") {
      for (size_t i = carried; i < operands.size(); ++i) inputs.push_back(operands[i]);
      line(format("    for (i64 {0} = 0;; ++{0}) {{\n    char {1}more = 0;", step, name));
      program(0, inputs, {format("&{}more", name)});
      line(format("    if (!{}more || failed[0] || failed[1]) break;", name));
      next_lines(name, format("{} & 1", step), results, places);
      program(1, inputs, outputs);
    } else {
      const auto walked = static_cast<size_t>(call_.attributes[1].value());
      const std::string steps = c(call_.attributes[2]);
      line(format("    for (i64 {0} = 0; {0} < {1} && !failed[0] && !failed[1]; ++{0}) {{", step, steps));
      line(format("    const i64 {} = {}; (void){};", row,
                  call_.attributes[3] == Sym(0) ? step : format("{} - 1 - {}", steps, step), row));
      for (size_t i = carried; i < carried + walked; ++i)
        inputs.push_back(format("{} + {} * {}", operands[i], row, c(bytes_of(call_.operands[i], 1))));
      for (size_t i = carried + walked; i < operands.size(); ++i) inputs.push_back(operands[i]);
      for (size_t i = carried; i < results.size(); ++i)
        outputs.push_back(format("{} + {} * {}", results[i], row, c(bytes_of(call_.results[i], 1))));
      // The last step writes the result.
      next_lines(name, format("({} - 1 - {}) & 1", steps, step), results, places);
      program(0, inputs, outputs);
    }
    for (size_t i = 0; i < carried; ++i) line(format("    {0}now{1} = {0}next{1};", name, i));
    line("    }");
    for (size_t i = 0; i < carried; ++i)
      line(format("    if ({0}now{1} != {2}) __builtin_memcpy({2}, {0}now{1}, (size_t)({3}));", name, i, results[i],
                  c(bytes_of(call_.results[i]))));
  }

 private:
  void line(std::string_view text) const { context_.line(text); }
  std::string pointer(BufferId id) const { return context_.pointer(id); }
  static std::string c(const Sym& sym) { return c_text(sym); }
  // The programs work behind what is carried.
  void program(size_t body, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs) const {
    Sym carried = 0;
    if (call_.scratch && call_.function != "cond")
      for (size_t i = 0; i < static_cast<size_t>(call_.attributes[0].value()); ++i)
        carried += ceil_div(bytes_of(call_.results[i]), 64) * Sym(64);
    context_.program(body, inputs, outputs, call_.scratch ? format("{} + {}", pointer(call_.scratch), c(carried)) : "");
  }

  std::string tensor_pointer(TensorId id) const {
    const Place& place = schedule_.place(id);
    if (place.offset == Sym(0)) return pointer(place.buffer);
    return format("{} + ({}) * {}", pointer(place.buffer), c(place.offset), dtype_bytes(loops_[id].dtype));
  }
  std::string list(const SymList& values) const {
    std::string text;
    for (const Sym& value : values) text += c(value) + ", ";
    return "{" + text + "0}";
  }
  Sym bytes_of(TensorId id, size_t first_dim = 0) const {
    const SymList& sizes = loops_[id].sizes;
    return product({sizes.begin() + static_cast<ptrdiff_t>(first_dim), sizes.end()}) *
           Sym(dtype_bytes(loops_[id].dtype));
  }
  // { data, sizes, strides, rank, dtype, 0, 0 }, whose arrays the lines before define by this name. A tensor of pairs
  // is one of complex numbers to a function.
  std::string view_text(TensorId id, const std::string& name) {
    const LoopTensor& tensor = loops_[id];
    const SymList& strides = schedule_.place(id).strides;
    TD_CHECK(!tensor.pairs || proves_eq(strides.back(), 1), "pairs of `{}` that lie apart", tensor.name);
    const TensorType type = outer_type(tensor);
    line(format("    const i64 {}_sizes[] = {}, {}_strides[] = {};", name, list(type.sizes), name,
                list(outer_strides(tensor, strides))));
    return format("{{{}, {}_sizes, {}_strides, {}, {}, 0, 0}}", tensor_pointer(id), name, name, type.sizes.size(),
                  static_cast<int>(type.dtype));
  }

  void next_lines(const std::string& name, const std::string& to_scratch, const std::vector<std::string>& results,
                  const std::vector<Sym>& places) {
    for (size_t i = 0; i < places.size(); ++i)
      line(format("    char* const {}next{} = {} ? {} + {} : {};", name, i, to_scratch, pointer(call_.scratch),
                  c(places[i]), results[i]));
  }

  // The operand as programs read it, row-major: as it lies, or a copy.
  std::string operand_lines(TensorId id, const std::string& name, size_t index) {
    const LoopTensor& tensor = loops_[id];
    const Place& place = schedule_.place(id);
    bool row_major = true;
    const SymList wanted = contiguous_strides(tensor.sizes);
    for (size_t d = 0; d < wanted.size(); ++d)
      row_major &= proves_eq(tensor.sizes[d], 1) || proves_eq(wanted[d], place.strides[d]);
    if (row_major) return "(" + tensor_pointer(id) + ")";
    const std::string copy = format("{}in{}", name, index);
    line(format("    char* const {} = (char*)table->alloc(host, {});", copy, c(bytes_of(id))));
    line(format("    if (!{}) return td_fail(e, 2, \"out of memory\");", copy));
    const std::string view = view_text(id, copy);
    line(format("    const TdView {}_view = {};\n    td_copy_strided({}, &{}_view, {});", copy, view, copy, copy,
                dtype_bytes(outer_type(tensor).dtype)));
    return copy;
  }

  const CallContext& context_;
  const Schedule& schedule_;
  const Loops& loops_;
  const CallKernel& call_;
  size_t k_;
};

}  // namespace

bool is_control_flow(const CallKernel& call) {
  return call.function == "cond" || call.function == "while" || call.function == "scan";
}

bool is_plugin_op(const CallKernel& call) { return call.function.find("::") != std::string::npos; }

void write_call(const CallContext& context, size_t k) {
  CallText text(context, k);
  if (is_control_flow(std::get<CallKernel>(context.plan.schedule.kernels[k].work)))
    text.control_lines();
  else
    text.function_lines();
}

}  // namespace toroid::emit
