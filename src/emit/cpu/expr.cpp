// The emitter of expr.h. A value that does not depend on the vector variable stays one scalar and is spread where a
// vector needs it.
#include "emit/cpu/expr.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "base/check.h"
#include "emit/cpu/reduction_text.h"
#include "loop/repeat.h"

namespace toroid::emit {

std::string c_type(DType dtype) { return is_bool(dtype) ? "b8" : std::string(dtype_name(dtype)); }
std::string register_name(DType dtype) { return is_bool(dtype) ? "b8" : std::string(dtype_name(dtype)); }
std::string vector_type(DType dtype) { return is_bool(dtype) ? "vm" : "v" + std::string(dtype_name(dtype)); }
namespace {
std::string scalar_type(DType dtype) { return is_bool(dtype) ? "bool" : std::string(dtype_name(dtype)); }
}  // namespace

size_t KernelParams::buffer_slot(BufferId id) {
  TD_CHECK(id.valid(), "a tensor without memory is used in a kernel");
  for (size_t k = 0; k < slots_.size(); ++k)
    if (slots_[k].buffer == id) return k;
  slots_.push_back({id, false});
  return slots_.size() - 1;
}
size_t KernelParams::symbol_slot(const std::string& name) {
  for (size_t k = 0; k < symbols_.size(); ++k)
    if (symbols_[k] == name) return k;
  symbols_.push_back(name);
  return symbols_.size() - 1;
}
std::string KernelParams::error_cell(Failure failure) {
  for (size_t k = 0; k < slots_.size(); ++k)
    if (!slots_[k].buffer.valid() && !slots_[k].is_scratch)
      return format("((i64*)p[{}])[{}]", k, static_cast<int>(failure));
  slots_.push_back({});
  return format("((i64*)p[{}])[{}]", slots_.size() - 1, static_cast<int>(failure));
}
std::string KernelParams::scratch() {
  for (size_t k = 0; k < slots_.size(); ++k)
    if (slots_[k].is_scratch) return format("p[{}]", k);
  slots_.push_back({BufferId{}, true});
  return format("p[{}]", slots_.size() - 1);
}
std::string KernelParams::declarations() const {
  std::string out;
  for (size_t k = 0; k < symbols_.size(); ++k) append(out, "  const i64 dim{} = s[{}];\n", k, k);
  for (size_t k = 0; k < slots_.size(); ++k) {
    if (!slots_[k].buffer.valid()) continue;
    const std::string type = c_type(schedule_[slots_[k].buffer].dtype);
    append(out, "  {}* const buf{} = ({}*)p[{}];\n", type, k, type, k);
  }
  return out;
}

std::string ExprEmitter::index_text(const Sym& sym) {
  return to_c(sym, [&](const std::string& name) {
    auto found = scope_.variables.find(name);
    return found != scope_.variables.end() ? found->second : params_.symbol(name);
  });
}

ExprEmitter::Value ExprEmitter::define(const std::string& text, bool is_vector, DType dtype) {
  const std::string name = fresh("t");
  line(format("const {} {} = {};", is_vector ? vector_type(dtype) : scalar_type(dtype), name, text));
  return {name, is_vector, dtype};
}

ExprEmitter::Value ExprEmitter::as_vector(const Value& value) {
  if (value.is_vector) return value;
  return {format("splat_{}({})", register_name(value.dtype), value.text), true, value.dtype};
}

std::string ExprEmitter::mask_argument() const {
  if (!mask_.empty()) return ", " + mask_;
  return scope_.count.empty() ? "" : ", " + scope_.count;
}

ExprEmitter::Value ExprEmitter::emit(ExprId id) {
  if (auto found = done_.find(id); found != done_.end()) return found->second;
  const Expr expr = pool_[id];
  if (auto tile = scope_.tiles.find(id); tile != scope_.tiles.end())
    return done_[id] = define(format("load_{}({})", c_type(loops_[expr.tensor].dtype), tile->second), true, expr.dtype);
  Value value = emit_new(expr);
  done_[id] = value;
  return value;
}

ExprEmitter::Value ExprEmitter::emit_new(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::constant: {
      if (is_bool(expr.dtype)) return {expr.number != 0 ? "true" : "false", false, expr.dtype};
      if (is_integer(expr.dtype))
        return {format("({})({}LL)", register_name(expr.dtype), static_cast<int64_t>(expr.number)), false, expr.dtype};
      const bool single = expr.dtype == DType::f32;
      if (std::isnan(expr.number)) return {single ? "__builtin_nanf(\"\")" : "__builtin_nan(\"\")", false, expr.dtype};
      if (std::isinf(expr.number))
        return {format("({}__builtin_inf{}())", expr.number < 0 ? "-" : "", single ? "f" : ""), false, expr.dtype};
      // A double constant as its nearest f32 is what the conversion of the literal gives.
      std::string text = float_text(single ? static_cast<double>(static_cast<float>(expr.number)) : expr.number);
      if (single) {
        if (std::isinf(static_cast<float>(expr.number)))
          return {format("({}__builtin_inff())", expr.number < 0 ? "-" : ""), false, expr.dtype};
        text += "f";
      }
      return {expr.number < 0 || std::signbit(expr.number) ? "(" + text + ")" : text, false, expr.dtype};
    }
    case ExprKind::index: return emit_index(expr.sym);
    case ExprKind::load: return emit_load(expr);
    case ExprKind::op: return emit_op(expr);
    case ExprKind::local: {
      auto found = scope_.locals.find(expr.local);
      TD_CHECK(found != scope_.locals.end(), "a kernel uses local {} before it is there", expr.local);
      return {found->second.text, found->second.is_vector, found->second.dtype};
    }
    case ExprKind::reduce:
    case ExprKind::scan:
    case ExprKind::routine: break;
  }
  internal_error(__FILE__, __LINE__, "a reduction inside an expression of a kernel");
}

ExprEmitter::Value ExprEmitter::emit_index(const Sym& sym) {
  if (scope_.vector_variable.empty() || !depends_on(sym, scope_.vector_variable))
    return {format("(i64)({})", index_text(sym)), false, DType::i64};
  if (auto lane = step(sym)) {
    const std::string base = format("(i64)({})", index_text(sym));  // at the first lane
    if (*lane == Sym(0)) return {base, false, DType::i64};
    if (*lane == Sym(1)) return define(format("iota_i64({})", base), true, DType::i64);
    return define(format("iota_i64(0) * (i64)({}) + {}", index_text(*lane), base), true, DType::i64);
  }
  Value value = vector_index(sym);
  return define(value.text, true, DType::i64);
}

// Lane by lane arithmetic, for what is not linear in the vector variable.
ExprEmitter::Value ExprEmitter::vector_index(const Sym& sym) {
  if (!depends_on(sym, scope_.vector_variable))
    return {format("splat_i64((i64)({}))", index_text(sym)), true, DType::i64};
  if (sym.is_symbol()) return {format("iota_i64((i64)({}))", index_text(sym)), true, DType::i64};
  auto arg = [&](size_t i) { return vector_index(sym.args()[i]).text; };
  auto mask_value = [&](const std::string& mask) { return Value{format("cvt_b8_i64({})", mask), true, DType::i64}; };
  switch (sym.kind()) {
    case SymKind::sum: {
      std::string out = format("splat_i64((i64)({}))", sym.constant_part());
      for (const Sym::Term& term : sym.terms()) {
        std::string part = format("splat_i64((i64)({}))", term.coefficient);
        for (const Sym& atom : term.atoms) part += " * " + vector_index(atom).text;
        out += " + " + part;
      }
      return {"(" + out + ")", true, DType::i64};
    }
    case SymKind::floordiv: return {format("floordiv({}, {})", arg(0), arg(1)), true, DType::i64};
    case SymKind::mod: return {format("remainder({}, {})", arg(0), arg(1)), true, DType::i64};
    case SymKind::min: return {format("min({}, {})", arg(0), arg(1)), true, DType::i64};
    case SymKind::max: return {format("max({}, {})", arg(0), arg(1)), true, DType::i64};
    case SymKind::eq: return mask_value(format("eq({}, {})", arg(0), arg(1)));
    case SymKind::lt: return mask_value(format("lt({}, {})", arg(0), arg(1)));
    case SymKind::le: return mask_value(format("le({}, {})", arg(0), arg(1)));
    case SymKind::choose:
      return {format("sel(ne({}, splat_i64(0)), {}, {})", arg(0), arg(1), arg(2)), true, DType::i64};
    default: break;
  }
  internal_error(__FILE__, __LINE__, format("`{}` cannot be computed lane by lane", to_string(sym)));
}

std::string ExprEmitter::pointer(TensorId id) {
  if (auto row = scope_.rows.find(id); row != scope_.rows.end()) return row->second;
  return params_.buffer(schedule_.place(id).buffer);
}

ExprEmitter::Value ExprEmitter::emit_load(const Expr& expr) {
  const LoopTensor& tensor = loops_[expr.tensor];
  const Place& place = schedule_.place(expr.tensor);
  const std::string type = c_type(tensor.dtype), base = pointer(expr.tensor);
  const DType dtype = register_type(tensor.dtype);
  Sym known = place.offset;
  std::vector<Value> computed;
  std::vector<Sym> computed_strides;
  for (size_t d = 0; d < expr.args.size(); ++d) {
    if (auto sym = pool_.as_index(expr.args[d])) {
      known += *sym * place.strides[d];
    } else if (place.strides[d] != Sym(0)) {
      computed.push_back(emit(expr.args[d]));
      computed_strides.push_back(place.strides[d]);
    }
  }
  std::optional<Sym> lane = Sym(0);
  if (!scope_.vector_variable.empty()) lane = step(known);
  bool vector = lane != Sym(0);
  for (const Value& value : computed) vector |= value.is_vector;
  if (computed.empty() && !vector) {
    std::string load = format("load1_{}({} + {})", type, base, index_text(known));
    // Some lanes want it: no lane, no load.
    if (!mask_.empty()) load = format("hany({}) ? {} : ({})0", mask_, load, scalar_type(dtype));
    return define(load, false, dtype);
  }
  const bool same_for_all =
      std::none_of(computed.begin(), computed.end(), [](const Value& value) { return value.is_vector; });
  if (same_for_all) {
    if (lane && *lane != Sym(0)) {
      std::string at = format("{} + {}", base, index_text(known));
      for (size_t i = 0; i < computed.size(); ++i)
        append(at, " + {} * (i64)({})", computed[i].text, index_text(computed_strides[i]));
      if (*lane == Sym(1)) return define(format("load_{}({}{})", type, at, mask_argument()), true, dtype);
      return define(format("load_strided_{}({}, (i64)({}){})", type, at, index_text(*lane), mask_argument()), true,
                    dtype);
    }
    // Vectors begin at multiples of LANES.
    if (auto repeat = repeat_in(known, scope_.vector_variable);
        repeat && computed.empty() && mask_.empty() && dtype_bytes(tensor.dtype) < 8)
      return define(
          format("load_each{}_{}({} + {}{})", repeat->divisor, type, base, index_text(known), mask_argument()), true,
          dtype);
  }
  std::string index;
  if (!vector) {
    index = index_text(known);
    for (size_t i = 0; i < computed.size(); ++i)
      append(index, " + {} * (i64)({})", computed[i].text, index_text(computed_strides[i]));
    std::string load = format("load1_{}({} + {})", type, base, index);
    if (!mask_.empty()) load = format("hany({}) ? {} : ({})0", mask_, load, scalar_type(dtype));
    return define(load, false, dtype);
  }
  index = lane != Sym(0) ? emit_index(known).text : format("splat_i64((i64)({}))", index_text(known));
  for (size_t i = 0; i < computed.size(); ++i)
    append(index, " + {} * (i64)({})", as_vector(computed[i]).text, index_text(computed_strides[i]));
  return define(format("gather_{}({}, {}{})", type, base, index, mask_argument()), true, dtype);
}

bool ExprEmitter::has_loads(ExprId root) const {
  std::set<int32_t> seen;
  std::function<bool(ExprId)> walk = [&](ExprId id) {
    if (done_.contains(id) || !seen.insert(id.index).second) return false;
    const Expr& expr = pool_[id];
    if (expr.kind == ExprKind::load ||
        (expr.kind == ExprKind::op && (expr.op == ScalarOp::check_index || expr.op == ScalarOp::check_divisor)))
      return true;
    for (ExprId arg : expr.args)
      if (walk(arg)) return true;
    return false;
  };
  return walk(root);
}

std::optional<ExprEmitter::Uniform> ExprEmitter::uniform(ExprId condition) {
  const Expr expr = pool_[condition];
  if (expr.kind != ExprKind::op) return std::nullopt;
  if (expr.op == ScalarOp::land) {
    auto a = uniform(expr.args[0]), b = uniform(expr.args[1]);
    if (!a || !b) return std::nullopt;
    return Uniform{format("({} && {})", a->all, b->all), format("({} || {})", a->none, b->none),
                   a->is_vector || b->is_vector};
  }
  const bool strict = expr.op == ScalarOp::lt || expr.op == ScalarOp::gt;
  const bool swapped = expr.op == ScalarOp::gt || expr.op == ScalarOp::ge;
  if (!strict && expr.op != ScalarOp::le && expr.op != ScalarOp::ge) return std::nullopt;
  auto left = pool_.as_index(expr.args[0]), right = pool_.as_index(expr.args[1]);
  if (!left || !right) return std::nullopt;
  // It holds where the difference is below a limit.
  const Sym difference = swapped ? *right - *left : *left - *right;
  const int64_t limit = strict ? 0 : 1;
  const std::string first = index_text(difference);
  if (!depends_on(difference, scope_.vector_variable))
    return Uniform{format("({} < {})", first, limit), format("({} >= {})", first, limit), false};
  auto along = linear_in(difference, scope_.vector_variable);
  if (!along || (along->coefficient != Sym(1) && along->coefficient != Sym(-1))) return std::nullopt;
  const bool rises = along->coefficient == Sym(1);
  return Uniform{format("({}{} < {})", first, rises ? " + (LANES - 1)" : "", limit),
                 format("({}{} >= {})", first, rises ? "" : " - (LANES - 1)", limit), true};
}

// One of several texts for a value, the last one where no condition holds.
ExprEmitter::Value ExprEmitter::emit_branches(
    const std::vector<std::pair<std::string, std::function<Value()>>>& branches, DType dtype) {
  const std::map<ExprId, Value> before = done_;
  const std::string outer = std::move(out_), outer_indent = indent_;
  indent_ += "  ";
  std::vector<std::pair<Value, std::string>> parts;
  bool vector = false;
  for (const auto& [condition, emit_branch] : branches) {
    out_.clear();
    const Value value = emit_branch();
    parts.emplace_back(value, std::move(out_));
    vector |= value.is_vector;
    done_ = before;
  }
  out_ = outer;
  indent_ = outer_indent;
  const std::string name = fresh("t");
  line(format("{} {};", vector ? vector_type(dtype) : scalar_type(dtype), name));
  for (size_t i = 0; i < branches.size(); ++i) {
    const std::string& condition = branches[i].first;
    line(format("{}{}", i ? "} else " : "", condition.empty() ? "{" : format("if ({}) {{", condition)));
    out_ += parts[i].second;
    line(format("  {} = {};", name, vector ? as_vector(parts[i].first).text : parts[i].first.text));
  }
  line("}");
  return {name, vector, dtype};
}

ExprEmitter::Value ExprEmitter::emit_where(const Expr& expr) {
  const bool guarded = has_loads(expr.args[1]) || has_loads(expr.args[2]);
  // Most vectors lie on one side of a bound between the parts of a concatenation or before padding.
  if (guarded && mask_.empty() && branched_ < 6 && !scope_.vector_variable.empty()) {
    if (auto same = uniform(expr.args[0]); same && same->is_vector) {
      ++branched_;
      return emit_branches({{same->all, [&] { return emit(expr.args[1]); }},
                            {same->none, [&] { return emit(expr.args[2]); }},
                            {"", [&] { return emit_sides(expr); }}},
                           expr.dtype);
    }
  }
  return emit_sides(expr);
}

ExprEmitter::Value ExprEmitter::emit_sides(const Expr& expr) {
  const Value condition = emit(expr.args[0]);
  const bool guarded = has_loads(expr.args[1]) || has_loads(expr.args[2]);
  if (!guarded) {
    Value a = emit(expr.args[1]), b = emit(expr.args[2]);
    const bool vector = condition.is_vector || a.is_vector || b.is_vector;
    if (vector) a = as_vector(a), b = as_vector(b);
    if (!condition.is_vector) return define(format("{} ? {} : {}", condition.text, a.text, b.text), vector, expr.dtype);
    return define(format("sel({}, {}, {})", condition.text, a.text, b.text), vector, expr.dtype);
  }
  if (!condition.is_vector) {
    // One branch for all lanes.
    return emit_branches(
        {{condition.text, [&] { return emit(expr.args[1]); }}, {"", [&] { return emit(expr.args[2]); }}}, expr.dtype);
  }
  auto side = [&](ExprId id, const std::string& lanes) {
    const std::map<ExprId, Value> before = done_;
    const std::string outer = mask_;
    std::string mask = lanes;
    if (!outer.empty())
      mask = format("land({}, {})", outer, mask);
    else if (!scope_.count.empty())
      mask = format("land(mask_n({}), {})", scope_.count, mask);
    const std::string name = fresh("m");
    line(format("const vm {} = {};", name, mask));
    mask_ = name;
    Value value = as_vector(emit(id));
    mask_ = outer;
    done_ = before;
    return value;
  };
  const Value a = has_loads(expr.args[1]) ? side(expr.args[1], condition.text) : as_vector(emit(expr.args[1]));
  const Value b =
      has_loads(expr.args[2]) ? side(expr.args[2], format("lnot({})", condition.text)) : as_vector(emit(expr.args[2]));
  return define(format("sel({}, {}, {})", condition.text, a.text, b.text), true, expr.dtype);
}

std::string ExprEmitter::reported(const std::string& bad) const {
  if (!mask_.empty()) return format("land({}, {})", mask_, bad);
  return scope_.count.empty() ? bad : format("land(mask_n({}), {})", scope_.count, bad);
}

// The index itself where it is in range; else 0, and the kernel's error cell says so.
ExprEmitter::Value ExprEmitter::check_index(const Expr& expr) {
  Value index = emit(expr.args[0]), size = emit(expr.args[1]);
  const std::string cell = params_.error_cell(KernelParams::Failure::index);
  if (!index.is_vector) {
    const std::string bad = fresh("x");
    std::string wanted = mask_.empty() ? "" : format("hany({}) && ", mask_);
    line(format("const bool {} = {}({} < 0 || {} >= {});", bad, wanted, index.text, index.text, size.text));
    line(format("if (__builtin_expect({}, 0)) {} = 1;", bad, cell));
    return define(format("{} < 0 || {} >= {} ? (i64)0 : {}", index.text, index.text, size.text, index.text), false,
                  DType::i64);
  }
  size = as_vector(size);
  const std::string bad = fresh("m");
  line(format("const vm {} = lor(lt({}, splat_i64(0)), ge({}, {}));", bad, index.text, index.text, size.text));
  line(format("if (__builtin_expect(hany({}), 0)) {} = 1;", reported(bad), cell));
  return define(format("sel({}, splat_i64(0), {})", bad, index.text), true, DType::i64);
}

// The divisor itself: a division by 0 does not trap.
ExprEmitter::Value ExprEmitter::check_divisor(const Expr& expr) {
  const Value divisor = emit(expr.args[0]);
  const std::string cell = params_.error_cell(KernelParams::Failure::division);
  std::string bad;
  if (divisor.is_vector)
    bad = format("hany({})", reported(format("eq({}, splat_{}(0))", divisor.text, register_name(divisor.dtype))));
  else
    bad = format("{}{} == 0", mask_.empty() ? "" : format("hany({}) && ", mask_), divisor.text);
  line(format("if (__builtin_expect({}, 0)) {} = 1;", bad, cell));
  return divisor;
}

// a * b + c with one rounding, where the product is used for nothing else so far, nor inside c: a*b - a*b is 0.
std::optional<ExprEmitter::Value> ExprEmitter::emit_fused(const Expr& expr) {
  if (expr.dtype != DType::f32 || (expr.op != ScalarOp::add && expr.op != ScalarOp::sub)) return std::nullopt;
  for (size_t p = 0; p < 2; ++p) {
    const Expr product = pool_[expr.args[p]];
    if (product.kind != ExprKind::op || product.op != ScalarOp::mul) continue;
    Value c = emit(expr.args[1 - p]);
    if (done_.contains(expr.args[p])) continue;
    Value a = emit(product.args[0]), b = emit(product.args[1]);
    const bool vector = a.is_vector || b.is_vector || c.is_vector;
    if (vector) a = as_vector(a), b = as_vector(b), c = as_vector(c);
    const char* minus_product = expr.op == ScalarOp::sub && p == 1 ? "-" : "";
    const char* minus_rest = expr.op == ScalarOp::sub && p == 0 ? "-" : "";
    return define(format("mad({}{}, {}, {}{})", minus_product, a.text, b.text, minus_rest, c.text), vector, expr.dtype);
  }
  return std::nullopt;
}

ExprEmitter::Value ExprEmitter::emit_op(const Expr& expr) {
  if (expr.op == ScalarOp::where) return emit_where(expr);
  if (expr.op == ScalarOp::check_index) return check_index(expr);
  if (expr.op == ScalarOp::check_divisor) return check_divisor(expr);
  if (auto fused = emit_fused(expr)) return *fused;
  std::vector<Value> args;
  bool vector = false;
  for (ExprId arg : expr.args) {
    args.push_back(emit(arg));
    vector |= args.back().is_vector;
  }
  if (vector)
    for (Value& arg : args) arg = as_vector(arg);
  auto infix = [&](const char* op) {
    return define(format("{} {} {}", args[0].text, op, args[1].text), vector, expr.dtype);
  };
  switch (expr.op) {
    case ScalarOp::add: return infix("+");
    case ScalarOp::sub: return infix("-");
    case ScalarOp::mul: return infix("*");
    case ScalarOp::div: return infix("/");
    case ScalarOp::neg: return define(format("-{}", args[0].text), vector, expr.dtype);
    case ScalarOp::cvt:
      return define(format("cvt_{}_{}({})", register_name(args[0].dtype), register_name(expr.dtype), args[0].text),
                    vector, expr.dtype);
    case ScalarOp::bitcast:
      return define(format("bitcast_{}({})", register_name(expr.dtype), args[0].text), vector, expr.dtype);
    case ScalarOp::round_to:
      return define(format("round_{}({})", dtype_name(expr.rounding), args[0].text), vector, expr.dtype);
    default: break;
  }
  // Loops' variables are called i0 and i1: by those names every kernel would carry the Bessel functions.
  std::string text = expr.op == ScalarOp::i0   ? "bessel_i0("
                     : expr.op == ScalarOp::i1 ? "bessel_i1("
                                               : std::string(scalar_op_name(expr.op)) + "(";
  for (size_t i = 0; i < args.size(); ++i) text += (i ? ", " : "") + args[i].text;
  return define(text + ")", vector, expr.dtype);
}

void ExprEmitter::fetch(const StoreTo& store) {
  auto fetch_from = [&](TensorId id, const std::vector<ExprId>& index, const char* to_write) {
    const std::optional<Sym> at = element_address(pool_, schedule_.place(id), index);
    if (!at || step(*at) != Sym(1)) return;
    const bool moves = std::ranges::any_of(scope_.variables, [&](const auto& variable) {
      return variable.first != scope_.vector_variable && depends_on(*at, variable.first);
    });
    if (moves) line(format("__builtin_prefetch({} + {}{});", pointer(id), index_text(*at), to_write));
  };
  for (ExprId id : pool_.postorder({store.value}))
    if (const Expr& expr = pool_[id]; expr.kind == ExprKind::load) fetch_from(expr.tensor, expr.args, "");
  fetch_from(store.tensor, store.index, ", 1");
}

void ExprEmitter::store(const StoreTo& store) {
  const LoopTensor& tensor = loops_[store.tensor];
  Value value = emit(store.value);
  const std::string type = c_type(tensor.dtype), base = pointer(store.tensor);
  const Sym at = store_address(schedule_, store);
  const std::string address = format("{} + {}", base, index_text(at));
  if (scope_.vector_variable.empty()) {
    if (store.into) value.text = combine_text(*store.into, format("load1_{}({})", type, address), value.text);
    line(format("store1_{}({}, {});", type, address, value.text));
    return;
  }
  const auto lane = step(at);
  if (store.into) {
    TD_CHECK(lane && *lane != Sym(0), "lanes that share a total");
    const bool dense = *lane == Sym(1);
    const std::string stride = dense ? "" : format(", (i64)({})", index_text(*lane));
    const std::string before =
        format("load_{}{}({}{}{})", dense ? "" : "strided_", type, address, stride, mask_argument());
    value = {combine_text(*store.into, before, as_vector(value).text), true, value.dtype};
  }
  if (lane == Sym(1)) {
    const std::string plain = format("store_{}({}, {}{});", type, address, as_vector(value).text, mask_argument());
    auto stream = scope_.streams.find(store.tensor);
    if (stream == scope_.streams.end() || !mask_argument().empty())
      line(plain);
    else
      line(format("if ({}) stream_{}({}, {}); else {}", stream->second, type, address, as_vector(value).text, plain));
  } else if (lane && *lane != Sym(0)) {
    line(format("store_strided_{}({}, (i64)({}), {}{});", type, address, index_text(*lane), as_vector(value).text,
                mask_argument()));
  } else {
    // Lanes that are not in one line: one by one.
    const std::string lanes =
        scope_.count.empty() ? "LANES" : format("({} < LANES ? {} : LANES)", scope_.count, scope_.count);
    const std::string array = fresh("a"), index = fresh("l");
    value = as_vector(value);
    const std::string element = is_bool(tensor.dtype) ? "b8" : c_type(tensor.dtype);
    line(format("{} {}[LANES]; store_{}({}, {});", element, array, type, array, value.text));
    const std::string saved = scope_.variables[scope_.vector_variable];
    scope_.variables[scope_.vector_variable] = format("({} + {})", saved, index);
    line(format("for (i64 {} = 0; {} < {}; ++{}) {}[{}] = {}[{}];", index, index, lanes, index, base, index_text(at),
                array, index));
    scope_.variables[scope_.vector_variable] = saved;
  }
}

}  // namespace toroid::emit
