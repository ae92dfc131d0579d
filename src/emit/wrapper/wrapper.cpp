// The text of wrapper.h. One straight line per model: inputs, sizes, memory, kernels, write-backs.
#include "emit/wrapper/wrapper.h"

#include <algorithm>

#include "base/check.h"
#include "emit/wrapper/calls.h"
#include "emit/wrapper/signature.h"
#include "loop/random_state.h"

namespace toroid::emit {
namespace {

// runtime/model_abi.h and runtime/model/wrapper_api.h without their includes.
constexpr const char* abi_text =
#include "wrapper_abi.inc"
    ;

constexpr const char* head =
    R"(typedef long int64_t; typedef unsigned long uint64_t; typedef int int32_t; typedef unsigned uint32_t;
typedef unsigned long size_t; typedef int64_t i64;
)";
constexpr const char* helpers = R"(
static inline i64 floordiv(i64 a, i64 b) { i64 q = a / b; return q - (a % b != 0 && (a < 0) != (b < 0)); }
static inline i64 remainder(i64 a, i64 b) { return a - floordiv(a, b) * b; }
static inline i64 min(i64 a, i64 b) { return b < a ? b : a; }
static inline i64 max(i64 a, i64 b) { return a < b ? b : a; }
)";

class Wrapper {
 public:
  Wrapper(const Plan& plan, const std::vector<KernelSource>& kernels, const WrapperOptions& options,
          std::string prefix = "", int first_mark = 0)
      : plan_(plan),
        schedule_(plan.schedule),
        loops_(plan.schedule.loops),
        kernels_(kernels),
        options_(options),
        prefix_(std::move(prefix)),
        next_mark_(first_mark),
        signature_(plan.schedule.loops) {}

  Result<std::string> text() {
    out_ = std::string(head) + abi_text + helpers + "\n";
    declare_kernels();
    line(format("static TdFunction plugin_functions[{}];", plugin_ops_.size() + 1));
    for (const Device& device : plan_.streams) declare_device(device);
    TD_TRY(const std::string check, check_function(signature_));
    out_ += check;
    TD_CHECK_OK(run_function());
    model();
    return std::move(out_);
  }

 private:
  void line(std::string_view text) { out_.append(text).append("\n"); }
  void declare_kernels() {
    std::set<std::string> declared;
    each_kernel(plan_, kernels_, [&](const Kernel& kernel, const KernelSource& source) {
      auto* call = std::get_if<CallKernel>(&kernel.work);
      if (call && is_plugin_op(*call)) {
        if (std::ranges::find(plugin_ops_, call->function) == plugin_ops_.end()) plugin_ops_.push_back(call->function);
      } else if (call) {
        if (!is_control_flow(*call) && declared.insert(call->function).second)
          line(format("extern \"C\" int32_t td_call_{}(const TdCall* call);", call->function));
      } else if (is_host(kernel.device) && declared.insert(source.symbol).second) {
        line(format("extern \"C\" void {}(char* const* p, const i64* s, i64 begin, i64 end);", source.symbol));
      }
    });
  }
  static bool is_host(const Device& device) { return device == Device{}; }
  // Ends the names of what belongs to a device: nothing for the CPU, `_fake`, `_fake_1`.
  static std::string suffix(const Device& device) {
    if (is_host(device)) return "";
    return "_" + device.type + (device.index ? format("_{}", device.index) : "");
  }
  // The device's runtime: memory, its copy of weights.bin, and a queue that takes launches by the kernel's name.
  void declare_device(const Device& device) {
    if (is_host(device)) return;
    const std::string d = "td" + suffix(device);
    line(format("extern \"C\" char* {}_alloc(void* host, i64 bytes);", d));
    line(format("extern \"C\" char* {}_weights(void* host, char* weights, i64 bytes);", d));
    line(
        format("extern \"C\" int32_t {}_copy(void* host, i64 stream, char* to, const char* from, i64 bytes, "
               "int32_t to_device);",
               d));
    line(
        format("extern \"C\" int32_t {}_launch(void* host, i64 stream, const char* kernel, char* const* p, "
               "const i64* s, i64 units, i64 grain);",
               d));
    line(format("extern \"C\" int32_t {}_wait(void* host, i64 stream, i64 awaited);", d));
  }
  static std::string c(const Sym& sym) { return c_text(sym); }

  std::string symbol_lines() const {
    std::string text;
    for (size_t i = 0; i < loops_.symbols.size(); ++i)
      if (!loops_.symbols[i].unbacked)
        append(text, "  const i64 {} = symbols[{}]; (void){};\n", loops_.symbols[i].name, i, loops_.symbols[i].name);
    return text;
  }

  std::string pointer(BufferId id) const {
    const Buffer& buffer = schedule_[id];
    switch (buffer.kind) {
      case BufferKind::input: return format("{}x{}", prefix_, buffer.input);
      case BufferKind::output: return format("{}y{}", prefix_, buffer.output);
      case BufferKind::constant:
        return format("weights{} + {}", suffix(buffer.device), c(plan_.offsets[static_cast<size_t>(id.index)]));
      case BufferKind::temporary:
        // Of nothing; there may be no arena.
        if (buffer.elements == Sym(0)) return "(char*)nullptr";
        return format("{} + {}", arena_name(buffer.device, known_after(schedule_, buffer.elements)),
                      at(plan_.offsets[static_cast<size_t>(id.index)]));
    }
    return "0";
  }

  // Offsets are sums of the slots before them, each the largest of many sizes: longer ones are said once, their parts
  // by name, where an arena begins.
  std::string at(const Sym& offset) const {
    auto named = parts_.find(offset);
    return named == parts_.end() ? c(offset) : named->second;
  }
  void name_offset(const Sym& offset) {
    if (parts_.contains(offset) || c(offset).size() < 200) return;
    define_part(offset,
                to_c(
                    offset, [](const std::string& name) { return name; }, [this](const Sym& x) { return part(x); }));
  }
  std::string part(const Sym& sym) {
    if (auto named = parts_.find(sym); named != parts_.end()) return named->second;
    if (sym.is_constant() || sym.is_symbol()) return c(sym);
    std::string text = to_c(
        sym, [](const std::string& name) { return name; }, [this](const Sym& x) { return part(x); });
    if (sym.kind() == SymKind::sum || is_float_sym(sym)) return text;
    return define_part(sym, text);
  }
  std::string define_part(const Sym& sym, const std::string& text) {
    const std::string name = format("{}part{}", prefix_, parts_.size());
    line(format("  const i64 {} = {};", name, text));
    parts_.emplace(sym, name);
    return name;
  }

  std::string arena_name(const Device& device, int32_t after) const {
    return format("{}arena{}{}", prefix_, suffix(device), after < 0 ? "" : format("_after{}", after));
  }

  // The input as the kernels want it: at the export's strides, else a copy.
  void input_lines(size_t slot) {
    const TensorId id = signature_.tensor_of(slot);
    const size_t input = signature_.slots[slot];
    if (!id) return;
    const TensorType tensor = outer_type(loops_[id]);
    Place place = schedule_.place(id);
    place.strides = outer_strides(loops_[id], place.strides);
    line(format("  char* x{} = (char*)in[{}].data; (void)x{};", input, slot, input));
    if (tensor.sizes.empty()) return;
    std::string differs;
    for (size_t d = 0; d < tensor.sizes.size(); ++d)
      append(differs, "{}(in[{}].sizes[{}] > 1 && in[{}].strides[{}] != {})", d ? " || " : "", slot, d, slot, d,
             c(place.strides[d]));
    // Dims from the outermost in the wanted layout.
    std::vector<size_t> order(tensor.sizes.size());
    for (size_t d = 0; d < order.size(); ++d) order[d] = d;
    const std::map<std::string, int64_t> values = hints(loops_);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return evaluate(place.strides[a], values) > evaluate(place.strides[b], values);
    });
    line(format("  if ({}) {{", differs));
    if (!is_dense(tensor.sizes, place.strides, order)) {
      spread_lines(slot, tensor, place.strides, order);
      line("  }");
      return;
    }
    line(format("    i64 sizes[{}], strides[{}];", order.size(), order.size()));
    for (size_t k = 0; k < order.size(); ++k)
      line(format("    sizes[{}] = in[{}].sizes[{}]; strides[{}] = in[{}].strides[{}];", k, slot, order[k], k, slot,
                  order[k]));
    line(format("    TdView view = in[{}]; view.sizes = sizes; view.strides = strides;", slot));
    line(format("    x{} = (char*)table->alloc(host, {} * {});", input, c(product(tensor.sizes)),
                dtype_bytes(tensor.dtype)));
    line(format("    if (!x{}) return td_fail(e, 2, \"out of memory\");", input));
    line(format("    td_copy_strided(x{}, &view, {});", input, dtype_bytes(tensor.dtype)));
    line("  }");
  }

  static bool is_dense(const SymList& sizes, const SymList& strides, const std::vector<size_t>& order) {
    Sym step = 1;
    for (size_t k = order.size(); k-- > 0;) {
      const size_t d = order[k];
      if (sizes[d] == Sym(1)) continue;
      if (strides[d] != step) return false;
      step = step * sizes[d];
    }
    return true;
  }

  // A copy with gaps where the export's tensor has them. Where its elements share memory, others cannot take their
  // place.
  void spread_lines(size_t slot, const TensorType& tensor, const SymList& strides, const std::vector<size_t>& order) {
    const size_t input = signature_.slots[slot];
    const std::map<std::string, int64_t> values = hints(loops_);
    int64_t inner = 0;
    for (size_t k = order.size(); k-- > 0;) {
      const int64_t size = evaluate(tensor.sizes[order[k]], values), stride = evaluate(strides[order[k]], values);
      if (size > 1 && stride <= inner) {
        const std::string name = loops_.inputs[signature_.slots[slot]].name;
        line(format("    return td_fail(e, 1, {});",
                    c_string(format("input {} (`{}`): elements share memory in the export, so its strides must be {}",
                                    slot, name, to_string(strides)))));
        return;
      }
      inner += (size - 1) * stride;
    }
    Sym last = 1;
    std::string loops, to = "0", from = "0";
    for (size_t d : order) {
      last = last + (tensor.sizes[d] - 1) * strides[d];
      append(loops, "for (i64 i{0} = 0; i{0} < in[{1}].sizes[{0}]; ++i{0}) ", d, slot);
      append(to, " + i{} * {}", d, c(strides[d]));
      append(from, " + i{0} * in[{1}].strides[{0}]", d, slot);
    }
    const int64_t bytes = dtype_bytes(tensor.dtype);
    line(format("    x{} = (char*)table->alloc(host, ({}) * {});", input, c(sym_max(last, 1)), bytes));
    line(format("    if (!x{}) return td_fail(e, 2, \"out of memory\");", input));
    line(format("    {}__builtin_memcpy(x{} + ({}) * {}, (const char*)in[{}].data + ({}) * {}, {});", loops, input, to,
                bytes, slot, from, bytes, bytes));
  }

  Status run_function() {
    line("\nstatic int32_t run_model(const TdHost* table, void* host, char* weights, const TdView* in, TdError* e) {");
    line(format("  i64 symbols[{}];", std::max<size_t>(loops_.symbols.size(), 1)));
    line("  if (int32_t bad = check_inputs(in, symbols, 0, e)) return bad;");
    out_ += symbol_lines();
    for (size_t i = 0; i < signature_.slots.size(); ++i) input_lines(i);
    for (const Device& device : plan_.streams)
      if (!is_host(device))
        line(format("  char* const weights{0} = td{0}_weights(host, weights, {1}); (void)weights{0};", suffix(device),
                    plan_.weights_bytes));
    line("  i64 failed[2] = {}; (void)failed;");
    seed_lines();
    operations();
    line("  if (failed[0]) return td_fail(e, 3, \"an index is out of range\");");
    line("  if (failed[1]) return td_fail(e, 3, \"integer division by zero\");");
    TD_CHECK_OK(write_back());
    line("  return 0;\n}");
    return {};
  }

  // Random numbers are those of the run's seed.
  void seed_lines() {
    for (size_t t = 0; t < loops_.tensors.size(); ++t) {
      const LoopTensor& tensor = loops_.tensors[t];
      if (tensor.kind != TensorKind::weight ||
          loops_.weights[static_cast<size_t>(tensor.weight.index)].name != random_state_name)
        continue;
      const Place& place = schedule_.places[t];
      if (!place.buffer) continue;
      line(format("  {{ i64* const state = (i64*)({}) + {};", pointer(place.buffer), c(place.offset)));
      line("    state[0] = (i64)table->rng_seed(host), state[1] = 0; }");
    }
  }

  // Reads of symbols come before what waits for them: outputs and arenas whose sizes they say.
  void operations() {
    int32_t done = -1;
    bool waiting = true;
    for (const Operation& operation : plan_.operations) {
      if (waiting && operation.kind != Operation::Kind::read) known_lines(done), waiting = false;
      operation_lines(operation);
      if (operation.kind == Operation::Kind::launch) done = operation.subject;
      if (operation.kind == Operation::Kind::read) waiting = true;
    }
    if (waiting) known_lines(done);
  }

  // What can be done once kernel `after` is: checks, outputs, arenas.
  void known_lines(int32_t after) {
    for (const Guard& guard : loops_.guards)
      if ((!prefix_.empty() || signature_.is_read(guard.condition)) && known_after(schedule_, guard.condition) == after)
        out_ += guard_text(guard);
    for (size_t r = 0; r < signature_.results.size() && prefix_.empty(); ++r) {
      const LoopOutput& output = loops_.outputs[signature_.results[r]];
      int32_t known = -1;
      for (const SymList& list : {signature_.sizes_of(output), signature_.strides_of(output)})
        for (const Sym& sym : list) known = std::max(known, known_after(schedule_, sym));
      if (known != after) continue;
      const SymList sizes = signature_.outer_sizes(output), strides = signature_.outer_strides_of(output);
      line(format("  char* y{};", signature_.results[r]));
      line(format("  {{ const i64 sizes[] = {}, strides[] = {};", list(sizes), list(strides)));
      line(format("    y{} = (char*)table->output(host, {}, sizes, strides, e); }}", signature_.results[r], r));
      line(format("  if (!y{}) return e->code ? e->code : td_fail(e, 2, \"no memory for output {}\");",
                  signature_.results[r], r));
    }
    for (size_t i = 0; i < schedule_.buffers.size(); ++i)
      if (schedule_.buffers[i].kind == BufferKind::temporary &&
          known_after(schedule_, schedule_.buffers[i].elements) == after)
        name_offset(plan_.offsets[i]);
    for (const Arena& arena : plan_.arenas) {
      if (arena.after != after) continue;
      name_offset(arena.bytes);
      const std::string name = arena_name(arena.device, after);
      // A program that a call runs has its first arena from the call.
      if (after < 0 && !prefix_.empty() && is_host(arena.device)) continue;
      // Tensors without elements have a place too.
      if (arena.bytes == Sym(0)) {
        line(format("  char* const {0} = 0; (void){0};", name));
        continue;
      }
      const std::string alloc =
          is_host(arena.device) ? "(char*)table->alloc" : format("td{}_alloc", suffix(arena.device));
      line(format("  char* const {} = {}(host, {});", name, alloc, at(arena.bytes)));
      line(format("  if (!{}) return td_fail(e, 2, \"out of memory\");", name));
    }
  }

  // The symbol's value, within its range.
  void read_lines(const SymbolRead& read) {
    const LoopTensor& tensor = loops_[read.tensor];
    const Place& place = schedule_.place(read.tensor);
    line(format("  // {} is %{}", read.symbol, tensor.name));
    line(format("  const i64 {} = (i64)*(const {}*)({} + ({}) * {}); (void){};", read.symbol, c_type(tensor.dtype),
                pointer(place.buffer), c(place.offset), dtype_bytes(tensor.dtype), read.symbol));
    auto info = std::ranges::find(loops_.symbols, read.symbol, &SymbolInfo::name);
    std::string limits;
    if (info->low > INT64_MIN) limits = format("{} < {}", read.symbol, info->low);
    if (info->high != INT64_MAX) limits += format("{}{} > {}", limits.empty() ? "" : " || ", read.symbol, info->high);
    if (!limits.empty())
      line(format("  if ({}) return td_fail(e, 1, \"`{}` is %ld, must be {}\", {});", limits, read.symbol,
                  range_text(info->low, info->high), read.symbol));
  }
  // Of one integer or bool; a double is read as its bits.
  static const char* c_type(DType dtype) {
    switch (dtype_bytes(dtype)) {
      case 1: return is_unsigned(dtype) || is_bool(dtype) ? "unsigned char" : "signed char";
      case 2: return is_unsigned(dtype) ? "unsigned short" : "short";
      case 4: return is_unsigned(dtype) ? "unsigned" : "int";
      default: return "long";
    }
  }

  void operation_lines(const Operation& operation) {
    const auto subject = static_cast<size_t>(operation.subject);
    if (operation.kind == Operation::Kind::launch) return kernel_lines(subject, operation.stream);
    if (operation.kind == Operation::Kind::read) return read_lines(loops_.symbol_reads[subject]);
    if (operation.kind == Operation::Kind::wait) {
      // The CPU's stream is this function itself: it has come as far as the text has. For the CPU to wait, the other
      // device's queue is emptied.
      const bool host = is_host(plan_.streams[static_cast<size_t>(operation.stream)]);
      const Device& device = plan_.streams[host ? subject : static_cast<size_t>(operation.stream)];
      return line(format("  if (int32_t bad = td{}_wait(host, {}, {})) return bad;", suffix(device), operation.stream,
                         operation.subject));
    }
    const Copy& copy = schedule_.copies[subject];
    const Device &from = loops_[copy.from].device, &to = loops_[copy.to].device;
    const Buffer& buffer = schedule_[schedule_.place(copy.to).buffer];
    line(format("  // %{} to %{}", loops_[copy.from].name, loops_[copy.to].name));
    line(format("  if (int32_t bad = td{}_copy(host, {}, {}, {}, {}, {})) return bad;", suffix(is_host(to) ? from : to),
                operation.stream, pointer(schedule_.place(copy.to).buffer), pointer(schedule_.place(copy.from).buffer),
                c(buffer.elements * Sym(dtype_bytes(buffer.dtype))), is_host(to) ? 0 : 1));
  }

  void kernel_lines(size_t k, int32_t stream) {
    const Kernel& kernel = schedule_.kernels[k];
    const KernelSource& source = kernels_[k];
    const std::string where = kernel.where.text();
    line(
        format("  // {}: {}{}", kernel.name, replace_all(kernel.note, "\n", " "), where.empty() ? "" : "  @ " + where));
    const int mark = next_mark_++;
    if (std::holds_alternative<CallKernel>(kernel.work)) return call_lines(k, mark);
    std::string pointers, symbols, units = source.units;
    for (const KernelParams::Slot& slot : source.slots)
      pointers += (slot.buffer       ? pointer(slot.buffer)
                   : slot.is_scratch ? std::string("scratch")
                                     : std::string("(char*)failed")) +
                  ", ";
    for (const std::string& symbol : source.symbols) symbols += symbol + ", ";
    line(format("  {{ char* const p[] = {{{}0}}; const i64 s[] = {{{}0}};", pointers, symbols));
    if (source.scratch_bytes != "0") {
      // Placed before p in the text: p names it.
      const size_t at = out_.rfind("  { char* const p[]");
      out_.insert(at, format("  {{ const i64 s[] = {{{}0}}; char* const scratch = (char*)table->alloc(host, {});\n"
                             "    if (!scratch) return td_fail(e, 2, \"out of memory\");\n{}",
                             symbols, source.scratch_bytes, source.counts ? "    *(i64*)scratch = 0;\n" : ""));
    }
    line(format("    const i64 units = {};", units));
    line(format("    if (table->mark) table->mark(host, {}, 0);", mark));
    if (is_host(kernel.device))
      line(format("    if (units > 0) table->parallel(host, {}, p, s, units, {}, {});", source.symbol, source.grain,
                  c(kernel.nanoseconds)));
    else
      line(format("    if (int32_t bad = td{}_launch(host, {}, \"{}\", p, s, units, {})) return bad;",
                  suffix(kernel.device), stream, source.symbol, source.grain));
    line(format("    if (table->mark) table->mark(host, {}, 1); }}{}", mark, source.scratch_bytes != "0" ? " }" : ""));
  }

  // ---- calls --------------------------------------------------------------------------------------------------------

  std::string list(const SymList& values) const {
    std::string text;
    for (const Sym& value : values) text += c(value) + ", ";
    return "{" + text + "0}";
  }

  std::string callee(const std::string& function) const {
    const auto op = std::ranges::find(plugin_ops_, function);
    return op == plugin_ops_.end() ? "td_call_" + function : format("plugin_functions[{}]", op - plugin_ops_.begin());
  }
  void call_lines(size_t k, int mark) {
    line("  {");
    line(format("    if (table->mark) table->mark(host, {}, 0);", mark));
    const CallContext context{
        plan_, [this](std::string_view text) { line(text); }, [this](BufferId id) { return pointer(id); },
        [this](const std::string& function) { return callee(function); },
        [&](size_t body, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
            const std::string& arena) { body_lines(k, body, inputs, outputs, arena); }};
    write_call(context, k);
    line(format("    if (table->mark) table->mark(host, {}, 1);\n  }}", mark));
  }

  // A program that a call runs, as a block: its inputs and outputs lie where the call says.
  void body_lines(size_t k, size_t b, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                  const std::string& arena) {
    const std::string prefix = format("{}_b{}_", replace_all(schedule_.kernels[k].name, ".", "_"), b);
    Wrapper body(plan_.bodies.at(static_cast<int32_t>(k))[b], kernels_[k].bodies[b], options_, prefix, next_mark_);
    body.out_.swap(out_);
    body.plugin_ops_ = plugin_ops_;
    body.line("    {");
    for (size_t i = 0; i < inputs.size(); ++i)
      body.line(format("  char* const {0}x{1} = {2}; (void){0}x{1};", prefix, i, inputs[i]));
    for (size_t i = 0; i < outputs.size(); ++i)
      body.line(format("  char* const {0}y{1} = {2}; (void){0}y{1};", prefix, i, outputs[i]));
    if (!arena.empty()) body.line(format("  char* const {0}arena = {1}; (void){0}arena;", prefix, arena));
    body.operations();
    TD_CHECK(body.write_back().has_value(), "a program of a call writes to its inputs");
    body.line("    }");
    next_mark_ = body.next_mark_;
    body.out_.swap(out_);
  }

  // Mutated buffers and inputs get their new values after the last read.
  Status write_back() {
    for (size_t o = 0; o < loops_.outputs.size(); ++o) {
      const LoopOutput& output = loops_.outputs[o];
      if (!output.tensor) {
        if (output.target.kind == GraphOutput::Kind::symbol)
          line(format("  *(i64*){}y{} = {};", prefix_, o, c(output.target.symbol)));
        continue;
      }
      const LoopTensor& tensor = loops_[output.tensor];
      const int64_t element = dtype_bytes(tensor.dtype);
      const Place& place = schedule_.place(output.tensor);
      if (output.target.mutates == GraphOutput::Mutates::nothing) {
        const Buffer& buffer = schedule_[place.buffer];
        const bool own = buffer.kind == BufferKind::output && buffer.output == static_cast<int32_t>(o);
        if (own) continue;
        // A second name for a tensor that lies elsewhere, or a view of an input: copied in the output's order.
        const bool alias = output.alias_input >= 0;
        const SymList sizes = signature_.sizes_of(output), strides = signature_.strides_of(output);
        const std::string from =
            format("{} + ({}) * {}", pointer(place.buffer), c(alias ? output.offset : place.offset), element);
        copy_lines(from, sizes, alias ? output.strides : place.strides, format("{}y{}", prefix_, o), strides,
                   tensor.dtype);
        continue;
      }
      std::string to;
      SymList to_strides = contiguous_strides(tensor.sizes);
      if (output.target.mutates == GraphOutput::Mutates::weight) {
        for (size_t t = 0; t < loops_.tensors.size(); ++t) {
          const LoopTensor& weight = loops_.tensors[t];
          if (weight.kind == TensorKind::weight && weight.weight == output.target.weight)
            to = pointer(schedule_.places[t].buffer);
        }
        if (to.empty()) continue;  // nothing reads the buffer: its new value has no place
        copy_lines(pointer(place.buffer), tensor.sizes, place.strides, to, to_strides, tensor.dtype);
      } else {
        const size_t slot = static_cast<size_t>(
            std::find(signature_.slots.begin(), signature_.slots.end(), static_cast<size_t>(output.target.input)) -
            signature_.slots.begin());
        copy_lines(pointer(place.buffer), tensor.sizes, place.strides, format("(char*)in[{}].data", slot), {},
                   tensor.dtype, format("in[{}].strides", slot), tensor.pairs);
      }
    }
    return {};
  }

  // Element by element over all dims: write-backs are rare and small beside the model.
  void copy_lines(const std::string& from, const SymList& sizes, const SymList& from_strides, const std::string& to,
                  const SymList& to_strides, DType dtype, const std::string& to_stride_array = "",
                  bool to_pairs = false) {
    // The caller counts pairs as one element.
    auto stride_there = [&](size_t d) {
      if (to_pairs && d + 1 == sizes.size()) return std::string("1");
      return format("{}{}[{}]", to_pairs ? "2 * " : "", to_stride_array, d);
    };
    const char* type = dtype_bytes(dtype) == 1   ? "char"
                       : dtype_bytes(dtype) == 2 ? "short"
                       : dtype_bytes(dtype) == 4 ? "int"
                                                 : "long";
    // A host may hand out the memory itself that the output is a view of.
    line(format("  {{ const {}* from = (const {}*)({}); {}* to = ({}*)({}); if (from != to)", type, type, from, type,
                type, to));
    std::string a = "0", b = "0", indent = "    ";
    for (size_t d = 0; d < sizes.size(); ++d) {
      line(format("{}for (i64 i{} = 0; i{} < {}; ++i{})", indent, d, d, c(sizes[d]), d));
      append(a, " + i{} * {}", d, c(from_strides[d]));
      append(b, " + i{} * {}", d, to_stride_array.empty() ? c(to_strides[d]) : stride_there(d));
      indent += "  ";
    }
    line(format("{}to[{}] = from[{}]; }}", indent, b, a));
  }

  void model() {
    line("\nstatic const TdSlot inputs[] = {");
    for (size_t i = 0; i < signature_.slots.size(); ++i) {
      const TensorId id = signature_.tensor_of(i);
      const GraphInput& input = loops_.inputs[signature_.slots[i]];
      const TensorType type = id ? outer_type(loops_[id]) : TensorType{DType::i64, {}, {}, {}};
      line(format("  {{{}, {}, {}, {}, 0, -1}},", c_string(input.name), c_string(to_string(type.sizes)),
                  static_cast<int>(type.dtype), type.sizes.size()));
    }
    line("  {0, 0, 0, 0, 0, -1}};\nstatic const TdSlot outputs[] = {");
    for (size_t o : signature_.results) {
      const LoopOutput& output = loops_.outputs[o];
      const DType dtype = output.tensor ? outer_type(loops_[output.tensor]).dtype : DType::i64;
      line(format("  {{{}, {}, {}, {}, 0, -1}},", c_string(output.target.name),
                  c_string(to_string(signature_.outer_sizes(output))), static_cast<int>(dtype),
                  signature_.outer_sizes(output).size()));
    }
    line("  {0, 0, 0, 0, 0, -1}};\nstatic const TdWeight weights_table[] = {");
    for (const Weight& weight : loops_.weights) {
      std::string internal;
      for (char ch : weight.name) internal += std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
      int64_t elements = 1;
      for (const Sym& size : weight.type.sizes) elements *= size.value();
      line(format("  {{{}, {}, {}, {}, {}}},", c_string(weight.name), c_string(internal),
                  static_cast<int>(weight.type.dtype), static_cast<int>(weight.kind),
                  elements * dtype_bytes(weight.type.dtype)));
    }
    line("  {0, 0, 0, 0, 0}};\nstatic const char* const features[] = {");
    for (const std::string& feature : options_.features) line(format("  {},", c_string(feature)));
    line("  0};");
    line("static const char* const plugin_ops[] = {");
    for (const std::string& op : plugin_ops_) line(format("  {},", c_string(op)));
    line("  0};");
    line("extern \"C\" const TdModel toroid_model = {");
    line(format("  sizeof(TdModel), TD_ABI_MAJOR, TD_ABI_MINOR, {}, {}, features,", c_string(loops_.name),
                c_string(options_.target)));
    line(format("  {}, {},", c_string(loops_.in_spec), c_string(loops_.out_spec)));
    line(format("  {}, {}, {}, {}, inputs, outputs, weights_table, {},", signature_.slots.size(),
                signature_.results.size(), loops_.weights.size(), loops_.symbols.size(), plan_.weights_bytes));
    line(format("  {},\n  {}, check_inputs, run_model,", c_string(options_.recipes), options_.threads));
    line(format("  {},\n  {}, plugin_ops, plugin_functions}};", c_string(report_json(plan_, kernels_)),
                plan_.mutated_bytes));
  }

  const Plan& plan_;
  const Schedule& schedule_;
  const Loops& loops_;
  const std::vector<KernelSource>& kernels_;
  const WrapperOptions& options_;
  std::vector<std::string> plugin_ops_;
  std::string prefix_;  // of the names of a program that a call runs
  int next_mark_ = 0;   // the next kernel's number in the report
  const Signature signature_;
  std::map<Sym, std::string> parts_;  // names in the text
  std::string out_;
};

}  // namespace

Result<std::string> emit_wrapper(const Plan& plan, const std::vector<KernelSource>& kernels,
                                 const WrapperOptions& options) {
  return Wrapper(plan, kernels, options).text();
}

}  // namespace toroid::emit
