// Expression text to pool expressions, by precedence climbing. What the text does not say (that a type fits) is checked
// here, since the pool treats it as a bug of its caller.
#include "loop/expr_parser.h"

#include "loop/routines.h"

#include <optional>

namespace toroid {
namespace {

// Deeper nesting than this is not a program but an attack on the stack, of which each level takes some 4 KiB. Printed
// texts nest less: print.cpp names what lies deep.
constexpr int max_nesting = 400;

struct Operator {
  const char* text;
  ScalarOp op;
  int level;
};
constexpr int comparison_level = 2, top_level = 5;
constexpr Operator operators[] = {
    {"or", ScalarOp::lor, 0},      {"and", ScalarOp::land, 1},    {"==", ScalarOp::eq, 2}, {"!=", ScalarOp::ne, 2},
    {"<", ScalarOp::lt, 2},        {"<=", ScalarOp::le, 2},       {">", ScalarOp::gt, 2},  {">=", ScalarOp::ge, 2},
    {"+", ScalarOp::add, 3},       {"-", ScalarOp::sub, 3},       {"*", ScalarOp::mul, 4}, {"/", ScalarOp::div, 4},
    {"//", ScalarOp::floordiv, 4}, {"%", ScalarOp::remainder, 4},
};

class ExprParser {
 public:
  ExprParser(Lexer& lexer, Loops& loops, const std::unordered_map<std::string, TensorId>& tensors,
             std::map<std::string, Sym> scope, const std::map<int32_t, DType>& locals)
      : lexer_(lexer), loops_(loops), pool_(loops.pool), tensors_(tensors), scope_(std::move(scope)), locals_(locals) {}

  // [`let` name = expr; …] expr
  Result<ExprId> body() {
    auto outer = named_;
    if (lexer_.accept("let")) {
      do {
        TD_TRY(std::string name, lexer_.expect_kind(TokenKind::word, "a name"));
        if (named_.contains(name) || scope_.contains(name)) return fail(lexer_.error(format("`{}` is taken", name)));
        TD_CHECK_OK(lexer_.expect("="));
        TD_TRY(ExprId value, expression(0));
        TD_CHECK_OK(lexer_.expect(";"));
        named_.emplace(std::move(name), value);
      } while (at_definition());
    }
    auto result = expression(0);
    named_ = std::move(outer);
    return result;
  }

 private:
  bool at_definition() const {
    Lexer ahead = lexer_;
    return ahead.next().kind == TokenKind::word && ahead.at("=");
  }
  DType type(ExprId id) const { return pool_[id].dtype; }

  Result<ExprId> expression(int level) {
    if (level == top_level) return unary();
    if (level == 0 && ++depth_ > max_nesting) return fail(lexer_.error("expressions nested too deep"));
    TD_TRY(ExprId left, expression(level + 1));
    for (;;) {
      const Operator* found = nullptr;
      for (const Operator& candidate : operators)
        if (candidate.level == level && lexer_.at(candidate.text)) found = &candidate;
      if (!found) break;
      lexer_.next();
      TD_TRY(ExprId right, expression(level + 1));
      TD_TRY(left, apply(found->op, {left, right}));
      if (level == comparison_level) break;
    }
    if (level == 0) --depth_;
    return left;
  }

  Result<ExprId> unary() {
    if (!lexer_.at("-")) return primary();
    Lexer ahead = lexer_;
    ahead.next();
    if (ahead.peek().kind == TokenKind::integer) {
      TD_TRY(int64_t value, lexer_.expect_integer());
      return pool_.index(value);
    }
    if (ahead.peek().kind == TokenKind::number || ahead.at("inf") || ahead.at("nan")) return number(DType::f32);
    lexer_.next();
    if (++depth_ > max_nesting) return fail(lexer_.error("expressions nested too deep"));
    TD_TRY(ExprId operand, unary());
    --depth_;
    return apply(ScalarOp::neg, {operand});
  }

  Result<ExprId> number(DType dtype) {
    TD_TRY(double value, lexer_.expect_number());
    return pool_.constant(value, dtype);
  }

  Result<ExprId> primary() {
    const Token token = lexer_.peek();
    switch (token.kind) {
      case TokenKind::number: return number(DType::f32);
      case TokenKind::integer: {
        TD_TRY(int64_t value, lexer_.expect_integer());
        return pool_.index(value);
      }
      case TokenKind::value: return load();
      case TokenKind::word: return word();
      default: break;
    }
    if (!lexer_.accept("(")) return fail(lexer_.error("expected an expression"));
    TD_TRY(ExprId inner, expression(0));
    TD_CHECK_OK(lexer_.expect(")"));
    return inner;
  }

  Result<std::vector<ExprId>> list(const char* end) {
    std::vector<ExprId> args;
    while (!lexer_.accept(end)) {
      if (!args.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(ExprId arg, expression(0));
      args.push_back(arg);
    }
    return args;
  }

  Result<ExprId> load() {
    const std::string name = lexer_.next().text;
    if (!locals_.empty() && !lexer_.at("[")) return local(name);
    auto found = tensors_.find(name);
    if (found == tensors_.end()) return fail(lexer_.error(format("`%{}` is not defined", name)));
    TD_CHECK_OK(lexer_.expect("["));
    TD_TRY(std::vector<ExprId> args, list("]"));
    const LoopTensor& tensor = loops_[found->second];
    if (args.size() != tensor.sizes.size())
      return fail(lexer_.error(format("{} indices into `%{}` of rank {}", args.size(), name, tensor.sizes.size())));
    for (ExprId arg : args)
      if (type(arg) != DType::i64)
        return fail(lexer_.error(format("an index of type {} into `%{}`", dtype_name(type(arg)), name)));
    if (is_complex(tensor.dtype)) return fail(lexer_.error(format("`%{}` is complex", name)));
    return pool_.load(found->second, tensor.dtype, std::move(args));
  }

  Result<ExprId> local(const std::string& name) {
    for (const auto& [number, dtype] : locals_) {
      if (name != format("l{}", number)) continue;
      Expr e{.kind = ExprKind::local, .dtype = dtype};
      e.local = number;
      return pool_.add(std::move(e));
    }
    return fail(lexer_.error(format("no local `%{}`", name)));
  }

  Result<Sym> symbol(const std::string& name) {
    auto it = scope_.find(name);
    if (it == scope_.end()) return fail(lexer_.error(format("unknown name `{}`", name)));
    return it->second;
  }
  Result<Sym> parse_index() {
    return parse_sym(lexer_, [this](const std::string& name) { return symbol(name); });
  }

  Result<ExprId> word() {
    if (lexer_.at("inf") || lexer_.at("nan")) return number(DType::f32);
    const std::string name = lexer_.next().text;
    if (name == "true") return pool_.constant(1, DType::b8);
    if (name == "false") return pool_.constant(0, DType::b8);
    if (auto it = named_.find(name); it != named_.end()) return it->second;
    if (!lexer_.accept("(")) {
      TD_TRY(Sym sym, symbol(name));
      return pool_.index(sym);
    }
    if (at_binder()) return binder(name);
    if (name == "sym") {
      TD_TRY(Sym sym, parse_index());
      TD_CHECK_OK(lexer_.expect(")"));
      return pool_.index(sym);
    }
    // A literal inside f64(…) is that double itself, not a float32 made wider.
    if (name == "f64") {
      Lexer ahead = lexer_;
      auto value = ahead.expect_number();
      const bool literal = value && ahead.accept(")") && !integer_literal();
      if (literal) {
        lexer_ = ahead;
        return pool_.constant(*value, DType::f64);
      }
    }
    TD_TRY(std::vector<ExprId> args, list(")"));
    return call(name, std::move(args));
  }
  bool integer_literal() const {
    Lexer ahead = lexer_;
    ahead.accept("-");
    return ahead.peek().kind == TokenKind::integer;
  }

  bool at_binder() const {
    Lexer ahead = lexer_;
    return ahead.next().kind == TokenKind::word && ahead.at("in");
  }

  // sum(j0 in 64: body), scan_sum(j0 in 64 at i1: body)
  Result<ExprId> binder(const std::string& name) {
    const bool scans = name.starts_with("scan_");
    auto op = reduce_op_from_name(scans ? name.substr(5) : name);
    if (!op) return fail(lexer_.error(format("`{}` does not reduce", name)));
    SymList vars;
    std::map<std::string, Sym> outer = scope_;
    do {
      TD_TRY(std::string var, lexer_.expect_kind(TokenKind::word, "an index variable"));
      TD_CHECK_OK(lexer_.expect("in"));
      TD_TRY(Sym extent, parse_index());
      vars.push_back(Sym::index(var, extent));
      scope_.insert_or_assign(std::move(var), vars.back());
    } while (lexer_.accept(","));
    ExprId at;
    if (scans) {
      std::swap(outer, scope_);
      TD_CHECK_OK(lexer_.expect("at"));
      TD_TRY(at, expression(0));
      std::swap(outer, scope_);
      if (type(at) != DType::i64) return fail(lexer_.error("a scan is read at an i64"));
      if (vars.size() != 1) return fail(lexer_.error("a scan runs along one variable"));
    }
    TD_CHECK_OK(lexer_.expect(":"));
    TD_TRY(ExprId body, this->body());
    TD_CHECK_OK(lexer_.expect(")"));
    scope_ = std::move(outer);
    const bool logical = *op == ReduceOp::any || *op == ReduceOp::all;
    if (is_bool(type(body)) ? *op == ReduceOp::sum || *op == ReduceOp::prod : logical)
      return fail(lexer_.error(format("`{}` over {}", name, dtype_name(type(body)))));
    return scans ? pool_.scan(*op, vars[0], body, at) : pool_.reduce(*op, vars, body);
  }

  Result<ExprId> call(const std::string& name, std::vector<ExprId> args) {
    const bool single = args.size() == 1;
    if (auto to = dtype_from_name(name); to && single) {
      if (register_type(*to) != *to || is_complex(*to)) return fail(lexer_.error(format("no register holds {}", name)));
      return pool_.cvt(args[0], *to);
    }
    if (name.ends_with("_round") && single) {
      auto storage = dtype_from_name(name.substr(0, name.size() - 6));
      if (storage && is_low_precision(*storage) && type(args[0]) == DType::f32)
        return pool_.round_to(args[0], *storage);
    }
    if (name.ends_with("_bits") && single) {
      auto to = dtype_from_name(name.substr(0, name.size() - 5));
      if (to && register_type(*to) == *to && dtype_bytes(*to) >= 4 && dtype_bytes(type(args[0])) == dtype_bytes(*to))
        return pool_.bitcast(args[0], *to);
    }
    if (name.starts_with("routine_")) {
      const size_t end = name.rfind('_');
      auto routine = routine_from_name(std::string_view(name).substr(8, end - 8));
      auto dtype = dtype_from_name(name.substr(end + 1));
      if (end > 8 && routine && dtype) return pool_.routine(*routine, *dtype, std::move(args));
    }
    auto op = name == "not" ? ScalarOp::lnot : scalar_op_from_name(name);
    if (!op || *op == ScalarOp::cvt || *op == ScalarOp::round_to || *op == ScalarOp::bitcast ||
        *op == ScalarOp::complex)
      return fail(lexer_.error(format("unknown function `{}`", name)));
    return apply(*op, std::move(args));
  }

  Result<ExprId> apply(ScalarOp op, std::vector<ExprId> args) {
    const char* name = scalar_op_name(op);
    if (static_cast<int>(args.size()) != scalar_op_args(op))
      return fail(lexer_.error(format("`{}` takes {} arguments", name, scalar_op_args(op))));
    const ScalarType kind = scalar_op_type(op);
    const size_t first = kind == ScalarType::choose ? 1 : 0;
    const DType t = type(args[first]);
    bool fits = kind != ScalarType::choose || is_bool(type(args[0]));
    for (size_t i = first; i < args.size(); ++i) fits = fits && type(args[i]) == t;
    if (kind == ScalarType::same) fits = fits && (!is_bool(t) || op == ScalarOp::min || op == ScalarOp::max);
    if (kind == ScalarType::floating) fits = fits && is_float(t);
    if (kind == ScalarType::integer) fits = fits && is_integer(t);
    if (kind == ScalarType::logical) fits = fits && is_bool(t);
    if (kind == ScalarType::special) fits = fits && t == DType::i64;
    if (!fits) {
      std::vector<std::string> types;
      for (ExprId arg : args) types.emplace_back(dtype_name(type(arg)));
      return fail(lexer_.error(format("`{}` of {}", name, join(types, ", "))));
    }
    return pool_.op(op, std::move(args));
  }

  Lexer& lexer_;
  Loops& loops_;
  ExprPool& pool_;
  const std::unordered_map<std::string, TensorId>& tensors_;
  std::map<std::string, Sym> scope_;
  const std::map<int32_t, DType>& locals_;
  std::unordered_map<std::string, ExprId> named_;
  int depth_ = 0;
};

}  // namespace

Result<ExprId> parse_body(Lexer& lexer, Loops& loops, const std::unordered_map<std::string, TensorId>& tensors,
                          std::map<std::string, Sym> scope, const std::map<int32_t, DType>& locals) {
  return ExprParser(lexer, loops, tensors, std::move(scope), locals).body();
}

}  // namespace toroid
