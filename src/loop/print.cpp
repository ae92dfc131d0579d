// Writes Loops as text that parse.cpp reads back: one line per tensor.
#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "loop/head_text.h"
#include "loop/loops.h"
#include "loop/routines.h"
#include "loop/scalar.h"

namespace toroid {
namespace {

// How strongly an expression's text binds; an operand that binds less than its place asks for gets parentheses.
enum Binding { any, disjunction, conjunction, comparison, sum, product, unary, atom };

struct Infix {
  const char* text;
  Binding binding;
};
std::optional<Infix> infix_of(ScalarOp op) {
  switch (op) {
    case ScalarOp::add: return Infix{" + ", sum};
    case ScalarOp::sub: return Infix{" - ", sum};
    case ScalarOp::mul: return Infix{" * ", product};
    case ScalarOp::div: return Infix{" / ", product};
    case ScalarOp::floordiv: return Infix{" // ", product};
    case ScalarOp::remainder: return Infix{" % ", product};
    case ScalarOp::eq: return Infix{" == ", comparison};
    case ScalarOp::ne: return Infix{" != ", comparison};
    case ScalarOp::lt: return Infix{" < ", comparison};
    case ScalarOp::le: return Infix{" <= ", comparison};
    case ScalarOp::gt: return Infix{" > ", comparison};
    case ScalarOp::ge: return Infix{" >= ", comparison};
    case ScalarOp::land: return Infix{" and ", conjunction};
    case ScalarOp::lor: return Infix{" or ", disjunction};
    default: return std::nullopt;
  }
}

// Index arithmetic that the pool folds to the same Sym when it is read as ops; anything else is written `sym(…)`.
bool reads_back_as_ops(const Sym& a) {
  switch (a.kind()) {
    case SymKind::constant:
    case SymKind::symbol: return true;
    case SymKind::sum:
      for (const Sym::Term& term : a.terms())
        for (const Sym& atom : term.atoms)
          if (!reads_back_as_ops(atom)) return false;
      return true;
    case SymKind::floordiv:
    case SymKind::mod:
      if (const SymRange divisor = range_of(a.args()[1]); divisor.low <= 0 && divisor.high >= 0) return false;
      [[fallthrough]];
    case SymKind::min:
    case SymKind::max: return reads_back_as_ops(a.args()[0]) && reads_back_as_ops(a.args()[1]);
    default: return false;
  }
}

// Of an expression's text without names.
constexpr int max_height = 100;

std::string single_text(double value) {
  if (value != value || value - value != 0) return float_text(value);
  char buffer[40];
  auto [end, failure] = std::to_chars(buffer, buffer + sizeof buffer, static_cast<float>(value));
  std::string text(buffer, end);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

class ExprPrinter {
 public:
  explicit ExprPrinter(const Loops& loops, int first_name = 0)
      : loops_(loops), pool_(loops.pool), next_name_(first_name) {}

  // A body: `let t0 = …; t1 = …; result`, where what is used more than once has a name, so that text stays as small as
  // the graph of expressions, and what nests deep, so that it can be read back. The names hold inside one binder.
  std::string body(ExprId root) {
    std::unordered_map<int32_t, int> uses;
    std::vector<ExprId> order;
    count(root, uses, order);
    std::unordered_map<int32_t, std::string> outer = names_;
    std::unordered_map<int32_t, int> heights;  // of the texts; a name is 0
    std::string out;
    for (ExprId id : order) {
      if (names_.contains(id.index)) continue;
      int height = 1;
      for (ExprId arg : pool_[id].args)
        if (auto found = heights.find(arg.index); found != heights.end()) height = std::max(height, found->second + 1);
      heights[id.index] = height;
      if (id == root || (uses[id.index] < 2 && height < max_height) || !worth_a_name(id)) continue;
      heights[id.index] = 0;
      std::string text = print(id, any);
      std::string name = format("t{}", next_name_++);
      append(out, "{}{} = {}; ", out.empty() ? "let " : "", name, text);
      names_.emplace(id.index, std::move(name));
    }
    out += print(root, any);
    names_ = std::move(outer);
    return out;
  }

 private:
  // Counts uses within one binder, arguments first.
  void count(ExprId id, std::unordered_map<int32_t, int>& uses, std::vector<ExprId>& order) {
    if (uses[id.index]++ > 0 || names_.contains(id.index)) return;
    const Expr& e = pool_[id];
    if (e.kind == ExprKind::scan) {
      count(e.args[1], uses, order);
    } else if (e.kind != ExprKind::reduce) {
      for (ExprId arg : e.args) count(arg, uses, order);
    }
    order.push_back(id);
  }
  bool worth_a_name(ExprId id) const {
    const Expr& e = pool_[id];
    if (e.kind == ExprKind::constant || e.kind == ExprKind::index || pool_.as_constant(id)) return false;
    if (e.kind != ExprKind::load) return true;
    for (ExprId arg : e.args)
      if (pool_[arg].kind != ExprKind::index) return true;
    return false;
  }

  std::string list(const std::vector<ExprId>& args) {
    std::string out;
    for (size_t i = 0; i < args.size(); ++i) out += (i ? ", " : "") + print(args[i], any);
    return out;
  }
  static std::string binders(const SymList& vars) {
    std::string out;
    for (const Sym& var : vars)
      append(out, "{}{} in {}", out.empty() ? "" : ", ", var.symbol_name(), to_string(extent_of(var)));
    return out;
  }
  static std::string wrap(Binding own, Binding outer, std::string text) {
    return own < outer ? "(" + text + ")" : text;
  }

  std::string print(ExprId id, Binding outer) {
    if (auto it = names_.find(id.index); it != names_.end()) return it->second;
    const Expr& e = pool_[id];
    switch (e.kind) {
      case ExprKind::constant:
        if (is_bool(e.dtype)) return e.number != 0 ? "true" : "false";
        return e.dtype == DType::f64 ? format("f64({})", float_text(e.number)) : single_text(e.number);
      case ExprKind::index: return index(e.sym, outer);
      case ExprKind::load: return format("%{}[{}]", loops_[e.tensor].name, list(e.args));
      case ExprKind::local: return format("%l{}", e.local);
      case ExprKind::reduce: return format("{}({}: {})", reduce_op_name(e.reduce), binders(e.vars), body(e.args[0]));
      case ExprKind::scan:
        return format("scan_{}({} at {}: {})", reduce_op_name(e.reduce), binders(e.vars), print(e.args[1], any),
                      body(e.args[0]));
      case ExprKind::routine:
        return format("routine_{}_{}({})", routine_name(e.local), dtype_name(e.dtype), list(e.args));
      case ExprKind::op: return op(e, outer);
    }
    return "";
  }

  std::string index(const Sym& sym, Binding outer) {
    if (!reads_back_as_ops(sym)) return format("sym({})", to_string(sym));
    Binding own = atom;
    if (sym.kind() == SymKind::floordiv || sym.kind() == SymKind::mod) own = product;
    if (sym.kind() == SymKind::sum) {
      const std::vector<Sym::Term> terms = sym.terms();
      own = terms.size() == 1 && sym.constant_part() == 0 && terms[0].coefficient > 0 ? product : Binding::sum;
    }
    return wrap(own, outer, to_string(sym));
  }

  std::string op(const Expr& e, Binding outer) {
    if (e.op == ScalarOp::cvt) return format("{}({})", dtype_name(e.dtype), print(e.args[0], any));
    if (e.op == ScalarOp::round_to) return format("{}_round({})", dtype_name(e.rounding), print(e.args[0], any));
    if (e.op == ScalarOp::bitcast) return format("{}_bits({})", dtype_name(e.dtype), print(e.args[0], any));
    if (e.op == ScalarOp::neg) return wrap(unary, outer, "-" + print(e.args[0], atom));
    if (auto infix = infix_of(e.op)) {
      // Left-associative; a comparison does not chain.
      const auto right = static_cast<Binding>(infix->binding + 1);
      const Binding left = infix->binding == comparison ? right : infix->binding;
      return wrap(infix->binding, outer, print(e.args[0], left) + infix->text + print(e.args[1], right));
    }
    return format("{}({})", e.op == ScalarOp::lnot ? "not" : scalar_op_name(e.op), list(e.args));
  }

  const Loops& loops_;
  const ExprPool& pool_;
  std::unordered_map<int32_t, std::string> names_;
  int next_name_;
};

template <class List, class Text>
std::string list_text(const char* empty, const List& list, Text text) {
  if (list.empty()) return empty;
  std::string out = "[";
  for (size_t i = 0; i < list.size(); ++i) out += (i ? ", " : "") + text(list[i]);
  return out + "]";
}

// An argument that was fixed at export; written as in a graph's text.
std::string fixed_text(const Arg& arg) {
  auto truth = [](bool value) { return std::string(value ? "true" : "false"); };
  if (auto* x = std::get_if<Sym>(&arg)) return to_string(*x);
  if (auto* x = std::get_if<SymList>(&arg)) return "[" + to_string(*x) + "]";
  if (auto* x = std::get_if<double>(&arg)) return float_text(*x);
  if (auto* x = std::get_if<std::vector<double>>(&arg)) return list_text("floats[]", *x, float_text);
  if (auto* x = std::get_if<bool>(&arg)) return truth(*x);
  if (auto* x = std::get_if<std::vector<bool>>(&arg)) return list_text("bools[]", *x, truth);
  if (auto* x = std::get_if<std::string>(&arg)) return quoted(*x);
  if (auto* x = std::get_if<std::vector<std::string>>(&arg))
    return list_text("strings[]", *x, [](const std::string& text) { return quoted(text); });
  if (auto* x = std::get_if<DType>(&arg)) return std::string(dtype_name(*x));
  if (auto* x = std::get_if<Device>(&arg)) return "device " + quoted(to_string(*x));
  if (auto* x = std::get_if<MemoryFormat>(&arg)) return format("memory_format({})", static_cast<int>(*x));
  if (auto* x = std::get_if<std::complex<double>>(&arg))
    return format("complex({}, {})", float_text(x->real()), float_text(x->imag()));
  TD_CHECK(std::holds_alternative<None>(arg), "a tensor or subgraph as a fixed argument");
  return "none";
}

class Printer {
 public:
  explicit Printer(const Loops& loops) : loops_(loops) {}

  std::string print() {
    parts("loops", nullptr);
    return std::move(out_) + "}\n";
  }
  std::string head(std::string_view form, const std::vector<bool>& declared) {
    parts(form, &declared);
    return std::move(out_);
  }

 private:
  // With `declared`, computed tensors lose their bodies, and only those that it names are written.
  void parts(std::string_view form, const std::vector<bool>* declared) {
    header(form);
    weights();
    // Inputs have no line of their own, and yet may be what a symbol is read from.
    for (TensorId id : loops_.input_tensors)
      if (id.valid()) reads(id);
    for (size_t i = 0; i < loops_.tensors.size(); ++i) tensor(TensorId{static_cast<int32_t>(i)}, declared);
    for (const Guard& guard : loops_.guards)
      line(format("guard {}{}", to_string(guard.condition), guard.text.empty() ? "" : " " + quoted(guard.text)));
    returns();
  }
  void line(const std::string& text) { append(out_, "  {}\n", text); }
  std::string type_text(const LoopTensor& t) const {
    return to_string(TensorType{t.dtype, t.sizes, t.strides, t.device}) + (t.pairs ? " pairs" : "");
  }

  void header(std::string_view form) {
    append(out_, "{} @{}(", form, loops_.name);
    for (size_t i = 0; i < loops_.inputs.size(); ++i) {
      const GraphInput& input = loops_.inputs[i];
      if (i) out_ += ", ";
      if (input.kind == GraphInput::Kind::tensor) {
        const LoopTensor& t = loops_[loops_.input_tensors[i]];
        append(out_, "%{}{}: {}", t.name, t.name == input.name ? "" : " " + quoted(input.name), type_text(t));
      } else if (input.kind == GraphInput::Kind::symbol) {
        append(out_, "int {} = {}", quoted(input.name), to_string(input.symbol));
      } else {
        append(out_, "constant {} = {}", quoted(input.name), fixed_text(input.constant));
      }
    }
    out_ += ")";
    for (size_t i = 0; i < loops_.symbols.size(); ++i) {
      const SymbolInfo& info = loops_.symbols[i];
      out_ += i ? ", " : " where ";
      if (info.low != INT64_MIN) append(out_, "{} <= ", info.low);
      out_ += info.name;
      if (info.high != sym_infinity) append(out_, " <= {}", info.high);
      if (info.hint) append(out_, " hint {}", *info.hint);
      if (info.unbacked) out_ += " unbacked";
    }
    out_ += " {\n";
  }

  void weights() {
    std::map<int32_t, int> users, labels;
    for (const Weight& weight : loops_.weights) ++users[weight.storage];
    std::vector<const LoopTensor*> tensor_of(loops_.weights.size());
    for (const LoopTensor& t : loops_.tensors)
      if (t.kind == TensorKind::weight) tensor_of[static_cast<size_t>(t.weight.index)] = &t;
    const char* kinds[] = {"weight", "buffer", "constant"};
    for (size_t i = 0; i < loops_.weights.size(); ++i) {
      const Weight& weight = loops_.weights[i];
      std::string text = format("{} = {} {}", tensor_of[i] ? "%" + tensor_of[i]->name : "_",
                                kinds[static_cast<int>(weight.kind) - 1], quoted(weight.name));
      if (!weight.persistent) text += " transient";
      append(text, " : {}{}", to_string(weight.type), tensor_of[i] && tensor_of[i]->pairs ? " pairs" : "");
      if (weight.storage >= 0 && (users[weight.storage] > 1 || weight.storage_offset != 0)) {
        int label = labels.try_emplace(weight.storage, static_cast<int>(labels.size())).first->second;
        append(text, " in storage {} at {}", label, weight.storage_offset);
      }
      line(text);
    }
  }

  void tensor(TensorId id, const std::vector<bool>* declared) {
    const LoopTensor& t = loops_[id];
    std::string text;
    if (t.kind == TensorKind::computed && declared) {
      if (!(*declared)[static_cast<size_t>(id.index)]) return;
      text = "%" + t.name;
    } else if (t.kind == TensorKind::computed) {
      std::string vars;
      for (const Sym& var : t.vars) vars += (vars.empty() ? "" : ", ") + var.symbol_name();
      text = format("%{}[{}] = {}", t.name, vars, ExprPrinter(loops_).body(t.body));
    } else if (t.kind == TensorKind::called && declared) {
      if (!(*declared)[static_cast<size_t>(id.index)]) return;
      text = "%" + t.name;
    } else if (t.kind == TensorKind::called) {
      if (loops_[t.call].results.front() == id) call(loops_[t.call]);
      return reads(id);
    } else if (t.kind == TensorKind::constant) {
      text = format("%{} = data {{{}}}", t.name, data_text(t));
    } else {
      return;
    }
    append(text, " : {}", type_text(t));
    if (std::string where = t.where.text(); !where.empty()) text += "  @ " + where;
    line(text);
    reads(id);
  }
  void reads(TensorId id) {
    for (const SymbolRead& read : loops_.symbol_reads)
      if (read.tensor == id) line(format("{} = item %{}", read.symbol, loops_[id].name));
  }

  // %r: f32[4], %s: i64[4] = call "f" (%x) [2, s0]
  void call(const LoopCall& call) {
    std::string results, operands;
    for (TensorId id : call.results)
      append(results, "{}%{}: {}", results.empty() ? "" : ", ", loops_[id].name, type_text(loops_[id]));
    for (TensorId id : call.operands) append(operands, "{}%{}", operands.empty() ? "" : ", ", loops_[id].name);
    std::string text = format("{} = call {} ({})", results, quoted(call.function), operands);
    if (!call.attributes.empty()) append(text, " [{}]", to_string(call.attributes));
    if (std::string where = call.where.text(); !where.empty()) text += "  @ " + where;
    line(text);
    for (const Loops& body : call.bodies) out_ += indented(print_loops(body), 4);
  }

  static std::string data_text(const LoopTensor& t) {
    std::string out;
    const int64_t bytes = dtype_bytes(t.dtype);
    for (size_t at = 0; at < t.data.size(); at += static_cast<size_t>(bytes)) {
      const Scalar value = load_scalar(&t.data[at], t.dtype);
      if (at) out += ", ";
      if (is_float(t.dtype))
        out += t.dtype == DType::f64 ? float_text(value.f) : single_text(value.f);
      else
        append(out, "{}", value.i);
    }
    return out;
  }

  void returns() {
    std::string text = "return";
    for (size_t i = 0; i < loops_.outputs.size(); ++i) {
      const LoopOutput& output = loops_.outputs[i];
      const GraphOutput& target = output.target;
      text += i ? ", " : " ";
      if (!target.name.empty()) append(text, "{}: ", quoted(target.name));
      if (target.kind == GraphOutput::Kind::symbol) {
        append(text, "int {}", to_string(target.symbol));
      } else if (target.kind == GraphOutput::Kind::constant) {
        append(text, "constant {}", fixed_text(target.constant));
      } else {
        const LoopTensor& t = loops_[output.tensor];
        append(text, "%{}", t.name);
        if (output.alias_input >= 0)
          append(text, " alias [{}] at {}", to_string(output.sizes), to_string(output.offset));
        if (output.alias_input >= 0 || output.strides != t.strides)
          append(text, " strides [{}]", to_string(output.strides));
      }
      if (target.mutates == GraphOutput::Mutates::weight)
        append(text, " -> weight {}", quoted(loops_.weights[static_cast<size_t>(target.weight.index)].name));
      if (target.mutates == GraphOutput::Mutates::input) append(text, " -> input {}", target.input);
    }
    line(text);
    if (!loops_.in_spec.empty()) line("in_spec " + quoted(loops_.in_spec));
    if (!loops_.out_spec.empty()) line("out_spec " + quoted(loops_.out_spec));
  }

  const Loops& loops_;
  std::string out_;
};

}  // namespace

std::string print_expr(const Loops& loops, ExprId id, int first_name) {
  return ExprPrinter(loops, first_name).body(id);
}
std::string print_head(const Loops& loops, std::string_view form, const std::vector<bool>& declared) {
  return Printer(loops).head(form, declared);
}
std::string print_loops(const Loops& loops) { return Printer(loops).print(); }

std::string indented(std::string_view text, int columns) {
  std::string out;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    if (text[0] != '\n') out.append(static_cast<size_t>(columns), ' ');
    out.append(text.substr(0, end));
    text.remove_prefix(end);
  }
  return out;
}

}  // namespace toroid
