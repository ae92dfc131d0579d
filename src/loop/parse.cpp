// Reads the text form of Loops. Grammar: docs/grammar-loops.md. Weights get their names and types; bytes come from
// elsewhere.
#include <algorithm>

#include "base/check.h"
#include "base/lexer.h"
#include "loop/expr_parser.h"
#include "loop/head_text.h"
#include "loop/loops.h"
#include "loop/scalar.h"

namespace toroid {

Device device_from_text(const std::string& text) {
  size_t colon = text.find(':');
  if (colon == std::string::npos) return {text, 0};
  return {text.substr(0, colon), static_cast<int32_t>(std::atoi(text.c_str() + colon + 1))};
}

Where where_from_text(const std::string& text) {
  auto place = [](std::string_view part, Where& where) {
    size_t colon = part.rfind(':');
    if (colon == std::string_view::npos || colon + 1 == part.size() ||
        part.find_first_not_of("0123456789", colon + 1) != std::string_view::npos)
      return false;
    where.file = part.substr(0, colon);
    where.line = std::atoi(std::string(part.substr(colon + 1)).c_str());
    return true;
  };
  Where where;
  size_t comma = text.rfind(", ");
  if (comma != std::string::npos && place(std::string_view(text).substr(comma + 2), where)) {
    where.module = text.substr(0, comma);
  } else if (!place(text, where)) {
    where.module = text;
  }
  return where;
}

namespace {

class Parser {
 public:
  explicit Parser(Lexer lexer) : lexer_(std::move(lexer)) {}

  Result<Loops> parse() {
    TD_TRY(Loops loops, parse_program());
    if (!lexer_.at_end()) return fail(lexer_.error("expected the end"));
    return loops;
  }

  Result<LoopsHead> parse_head(std::string_view form) {
    declarations_ = true;
    TD_CHECK_OK(parse_signature(form));
    while (!returned_ || lexer_.at("in_spec") || lexer_.at("out_spec")) TD_CHECK_OK(parse_statement());
    return LoopsHead{std::move(loops_), std::move(symbols_), std::move(tensors_), lexer_};
  }

 private:
  Result<Loops> parse_program() {
    TD_CHECK_OK(parse_signature("loops"));
    while (!lexer_.at("}")) TD_CHECK_OK(parse_statement());
    TD_CHECK_OK(lexer_.expect("}"));
    if (!returned_) return fail(lexer_.error("no `return`"));
    return std::move(loops_);
  }
  Status parse_signature(std::string_view form) {
    TD_CHECK_OK(lexer_.expect(form));
    TD_TRY(loops_.name, lexer_.expect_kind(TokenKind::global, "a name"));
    // The ranges stand behind the inputs that use them, so they are read first.
    TD_TRY(Lexer ahead, after_parens());
    TD_CHECK_OK(parse_symbols(ahead));
    TD_CHECK_OK(parse_inputs());
    lexer_ = ahead;
    return lexer_.expect("{");
  }
  Result<Lexer> after_parens() {
    Lexer ahead = lexer_;
    int parens = 0;
    do {
      if (ahead.at_end()) return fail(ahead.error("expected `)`"));
      parens += ahead.at("(") - ahead.at(")");
      ahead.next();
    } while (parens > 0);
    return ahead;
  }

  Status parse_symbols(Lexer& lexer) {
    if (!lexer.accept("where")) return {};
    do {
      SymbolInfo info;
      info.low = INT64_MIN;
      if (lexer.at("-") || lexer.peek().kind == TokenKind::integer) {
        TD_TRY(info.low, lexer.expect_integer());
        TD_CHECK_OK(lexer.expect("<="));
      }
      TD_TRY(info.name, lexer.expect_kind(TokenKind::word, "a symbol"));
      if (symbols_.contains(info.name)) return fail(lexer.error(format("symbol `{}` declared twice", info.name)));
      if (lexer.accept("<=")) {
        TD_TRY(info.high, lexer.expect_integer());
      }
      if (info.low > info.high) return fail(lexer.error(format("empty range of `{}`", info.name)));
      if (lexer.accept("hint")) {
        TD_TRY(info.hint, lexer.expect_integer());
      }
      info.unbacked = lexer.accept("unbacked");
      symbols_.emplace(info.name, Sym::symbol(info.name, info.low, info.high));
      loops_.symbols.push_back(std::move(info));
    } while (lexer.accept(","));
    return {};
  }

  Result<Sym> parse_size() {
    return parse_sym(lexer_, [this](const std::string& name) -> Result<Sym> {
      auto it = symbols_.find(name);
      if (it == symbols_.end()) return fail(lexer_.error(format("unknown symbol `{}`", name)));
      return it->second;
    });
  }
  Result<SymList> parse_sizes() {
    TD_CHECK_OK(lexer_.expect("["));
    SymList list;
    while (!lexer_.accept("]")) {
      if (!list.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(Sym size, parse_size());
      list.push_back(std::move(size));
    }
    return list;
  }
  Result<TensorType> parse_type() {
    TensorType type;
    std::optional<DType> dtype = dtype_from_name(lexer_.peek().text);
    if (lexer_.peek().kind != TokenKind::word || !dtype) return fail(lexer_.error("expected an element type"));
    type.dtype = *dtype;
    lexer_.next();
    TD_TRY(type.sizes, parse_sizes());
    type.strides = contiguous_strides(type.sizes);
    if (lexer_.accept("strides")) {
      TD_TRY(type.strides, parse_sizes());
      if (type.strides.size() != type.sizes.size()) return fail(lexer_.error("as many strides as sizes wanted"));
    }
    if (lexer_.accept("on")) {
      TD_TRY(std::string device, lexer_.expect_kind(TokenKind::string, "a device"));
      type.device = device_from_text(device);
    }
    pairs_ = lexer_.accept("pairs");
    return type;
  }

  Result<TensorId> define(LoopTensor tensor, TensorType type) {
    tensor.dtype = type.dtype;
    tensor.sizes = std::move(type.sizes);
    tensor.strides = std::move(type.strides);
    tensor.device = std::move(type.device);
    tensor.pairs = pairs_;
    if (tensors_.contains(tensor.name)) return fail(lexer_.error(format("`%{}` defined twice", tensor.name)));
    const std::string name = tensor.name;
    const TensorId id = loops_.add(std::move(tensor));
    tensors_.emplace(name, id);
    return id;
  }
  Result<TensorId> parse_tensor_name() {
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::value, "a tensor"));
    auto found = tensors_.find(name);
    if (found == tensors_.end()) return fail(lexer_.error(format("`%{}` is not defined", name)));
    return found->second;
  }

  Status parse_inputs() {
    TD_CHECK_OK(lexer_.expect("("));
    while (!lexer_.accept(")")) {
      if (!loops_.inputs.empty()) TD_CHECK_OK(lexer_.expect(","));
      GraphInput input;
      TensorId id;
      if (lexer_.at("int") || lexer_.at("constant")) {
        const bool symbol = lexer_.next().text == "int";
        input.kind = symbol ? GraphInput::Kind::symbol : GraphInput::Kind::constant;
        TD_TRY(input.name, lexer_.expect_kind(TokenKind::string, "a name"));
        TD_CHECK_OK(lexer_.expect("="));
        if (symbol) {
          TD_TRY(input.symbol, parse_size());
        } else {
          TD_TRY(input.constant, parse_fixed());
        }
      } else {
        LoopTensor tensor;
        tensor.kind = TensorKind::input;
        tensor.input = static_cast<int32_t>(loops_.inputs.size());
        TD_TRY(tensor.name, lexer_.expect_kind(TokenKind::value, "an input"));
        input.name = tensor.name;
        if (lexer_.peek().kind == TokenKind::string) input.name = lexer_.next().text;
        TD_CHECK_OK(lexer_.expect(":"));
        TD_TRY(TensorType type, parse_type());
        TD_TRY(id, define(std::move(tensor), std::move(type)));
      }
      loops_.inputs.push_back(std::move(input));
      loops_.input_tensors.push_back(id);
    }
    return {};
  }

  Status parse_statement() {
    if (returned_) {
      const bool in = lexer_.accept("in_spec");
      if (!in) TD_CHECK_OK(lexer_.expect("out_spec"));
      TD_TRY((in ? loops_.in_spec : loops_.out_spec), lexer_.expect_kind(TokenKind::string, "a text"));
      return {};
    }
    if (lexer_.accept("return")) return parse_returns();
    if (lexer_.accept("guard")) {
      Guard guard;
      TD_TRY(guard.condition, parse_size());
      if (lexer_.peek().kind == TokenKind::string) guard.text = lexer_.next().text;
      loops_.guards.push_back(std::move(guard));
      return {};
    }
    if (lexer_.accept("_")) {
      TD_CHECK_OK(lexer_.expect("="));
      return parse_weight("");
    }
    if (lexer_.peek().kind == TokenKind::word) {
      SymbolRead read;
      read.symbol = lexer_.next().text;
      if (!symbols_.contains(read.symbol)) return fail(lexer_.error(format("unknown symbol `{}`", read.symbol)));
      TD_CHECK_OK(lexer_.expect("="));
      TD_CHECK_OK(lexer_.expect("item"));
      TD_TRY(read.tensor, parse_tensor_name());
      loops_.symbol_reads.push_back(std::move(read));
      return {};
    }
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::value, "a tensor"));
    if (declarations_ && lexer_.at(":")) return parse_declared(std::move(name));
    if (!declarations_ && lexer_.at("[")) return parse_computed(std::move(name));
    if (lexer_.at(":")) return parse_call(std::move(name));
    TD_CHECK_OK(lexer_.expect("="));
    return lexer_.accept("data") ? parse_data(std::move(name)) : parse_weight(std::move(name));
  }

  Status parse_weight(std::string name) {
    Weight weight;
    if (lexer_.accept("buffer"))
      weight.kind = WeightKind::buffer;
    else if (lexer_.accept("constant"))
      weight.kind = WeightKind::constant;
    else
      TD_CHECK_OK(lexer_.expect("weight"));
    TD_TRY(weight.name, lexer_.expect_kind(TokenKind::string, "a weight's name"));
    weight.persistent = !lexer_.accept("transient");
    TD_CHECK_OK(lexer_.expect(":"));
    TD_TRY(weight.type, parse_type());
    weight.storage = static_cast<int32_t>(loops_.storages.size());
    if (lexer_.accept("in")) {
      TD_CHECK_OK(lexer_.expect("storage"));
      TD_TRY(int64_t label, lexer_.expect_integer());
      TD_CHECK_OK(lexer_.expect("at"));
      TD_TRY(weight.storage_offset, lexer_.expect_integer());
      weight.storage = labels_.try_emplace(label, weight.storage).first->second;
    }
    if (weight.storage == static_cast<int32_t>(loops_.storages.size())) loops_.storages.emplace_back();
    const TensorType type = weight.type;
    const WeightId id{static_cast<int32_t>(loops_.weights.size())};
    loops_.weights.push_back(std::move(weight));
    if (name.empty()) return {};
    LoopTensor tensor;
    tensor.name = std::move(name);
    tensor.kind = TensorKind::weight;
    tensor.weight = id;
    TD_TRY([[maybe_unused]] TensorId defined, define(std::move(tensor), type));
    return {};
  }

  Status parse_data(std::string name) {
    TD_CHECK_OK(lexer_.expect("{"));
    std::vector<double> numbers;
    std::vector<int64_t> integers;
    while (!lexer_.accept("}")) {
      if (!numbers.empty()) TD_CHECK_OK(lexer_.expect(","));
      Lexer copy = lexer_;
      auto integer = copy.expect_integer();
      integers.push_back(integer ? *integer : 0);
      TD_TRY(double number, lexer_.expect_number());
      numbers.push_back(number);
    }
    TD_CHECK_OK(lexer_.expect(":"));
    LoopTensor tensor;
    tensor.name = std::move(name);
    tensor.kind = TensorKind::constant;
    TD_TRY(TensorType type, parse_type());
    if (is_complex(type.dtype)) return fail(lexer_.error("complex data"));
    const Sym count = product(type.sizes);
    if (!count.is_constant() || count.value() != static_cast<int64_t>(numbers.size()))
      return fail(lexer_.error(format("{} numbers for [{}]", numbers.size(), to_string(type.sizes))));
    const auto bytes = static_cast<size_t>(dtype_bytes(type.dtype));
    tensor.data.resize(numbers.size() * bytes);
    for (size_t i = 0; i < numbers.size(); ++i)
      store_scalar(&tensor.data[i * bytes], type.dtype,
                   is_float(type.dtype) ? Scalar{.f = numbers[i]} : Scalar{.i = integers[i]});
    tensor.where = parse_where();
    TD_TRY([[maybe_unused]] TensorId defined, define(std::move(tensor), std::move(type)));
    return {};
  }

  Where parse_where() { return lexer_.accept("@") ? where_from_text(lexer_.rest_of_line()) : Where{}; }

  // %h : f32[s0, 256]  @ fc, block.py:6
  Status parse_declared(std::string name) {
    TD_CHECK_OK(lexer_.expect(":"));
    LoopTensor tensor;
    tensor.name = std::move(name);
    TD_TRY(TensorType type, parse_type());
    tensor.where = parse_where();
    TD_TRY([[maybe_unused]] TensorId defined, define(std::move(tensor), std::move(type)));
    return {};
  }

  // %r: f32[4], %s: i64[4] = call "f" (%x) [2, s0]  @ where, then the programs that it runs
  Status parse_call(std::string name) {
    const CallId id{static_cast<int32_t>(loops_.calls.size())};
    LoopCall call;
    std::vector<std::pair<std::string, TensorType>> results;
    for (;;) {
      TD_CHECK_OK(lexer_.expect(":"));
      TD_TRY(TensorType type, parse_type());
      results.emplace_back(std::move(name), std::move(type));
      if (!lexer_.accept(",")) break;
      TD_TRY(name, lexer_.expect_kind(TokenKind::value, "a tensor"));
    }
    TD_CHECK_OK(lexer_.expect("="));
    TD_CHECK_OK(lexer_.expect("call"));
    TD_TRY(call.function, lexer_.expect_kind(TokenKind::string, "a function's name"));
    TD_CHECK_OK(lexer_.expect("("));
    while (!lexer_.accept(")")) {
      if (!call.operands.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(TensorId operand, parse_tensor_name());
      call.operands.push_back(operand);
    }
    if (lexer_.at("[")) {
      TD_TRY(call.attributes, parse_sizes());
    }
    call.where = parse_where();
    while (lexer_.at("loops")) {
      Parser inner(lexer_);
      TD_TRY(Loops body, inner.parse_program());
      call.bodies.push_back(std::move(body));
      lexer_ = inner.lexer_;
    }
    for (auto& [result, type] : results) {
      LoopTensor tensor;
      tensor.name = std::move(result);
      tensor.kind = TensorKind::called;
      tensor.call = id;
      tensor.where = call.where;
      TD_TRY(TensorId defined, define(std::move(tensor), std::move(type)));
      call.results.push_back(defined);
    }
    loops_.calls.push_back(std::move(call));
    return {};
  }

  // The type stands behind the body, so it is read first: the first `:` outside brackets is its mark.
  Status parse_computed(std::string name) {
    LoopTensor tensor;
    tensor.name = std::move(name);
    std::vector<std::string> names;
    TD_CHECK_OK(lexer_.expect("["));
    while (!lexer_.accept("]")) {
      if (!names.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(std::string var, lexer_.expect_kind(TokenKind::word, "an index variable"));
      if (symbols_.contains(var) || std::ranges::count(names, var))
        return fail(lexer_.error(format("`{}` is taken", var)));
      names.push_back(std::move(var));
    }
    TD_CHECK_OK(lexer_.expect("="));
    Lexer body = lexer_;
    for (int depth = 0; depth > 0 || !lexer_.at(":"); lexer_.next()) {
      if (lexer_.at_end()) return fail(body.error("expected `:` and a type behind this"));
      depth += (lexer_.at("(") || lexer_.at("[")) - (lexer_.at(")") || lexer_.at("]"));
    }
    lexer_.next();
    TD_TRY(TensorType type, parse_type());
    if (names.size() != type.sizes.size())
      return fail(lexer_.error(format("{} variables for {} sizes", names.size(), type.sizes.size())));
    std::map<std::string, Sym> scope = symbols_;
    for (size_t k = 0; k < names.size(); ++k) {
      tensor.vars.push_back(Sym::index(names[k], type.sizes[k]));
      scope.insert_or_assign(names[k], tensor.vars.back());
    }
    TD_TRY(tensor.body, parse_body(body, loops_, tensors_, std::move(scope)));
    if (!body.at(":")) return fail(body.error("expected `:`"));
    if (loops_.pool[tensor.body].dtype != register_type(type.dtype))
      return fail(body.error(format("`%{}` of {} in a {} tensor", tensor.name,
                                    dtype_name(loops_.pool[tensor.body].dtype), dtype_name(type.dtype))));
    tensor.where = parse_where();
    TD_TRY([[maybe_unused]] TensorId defined, define(std::move(tensor), std::move(type)));
    return {};
  }

  Status parse_returns() {
    returned_ = true;
    if (lexer_.at("}") || lexer_.at("in_spec") || lexer_.at("out_spec") || lexer_.at("buffer")) return {};
    do {
      LoopOutput output;
      if (lexer_.peek().kind == TokenKind::string) {
        output.target.name = lexer_.next().text;
        TD_CHECK_OK(lexer_.expect(":"));
      }
      if (lexer_.accept("int")) {
        output.target.kind = GraphOutput::Kind::symbol;
        TD_TRY(output.target.symbol, parse_size());
      } else if (lexer_.accept("constant")) {
        output.target.kind = GraphOutput::Kind::constant;
        TD_TRY(output.target.constant, parse_fixed());
      } else {
        TD_TRY(output.tensor, parse_tensor_name());
        const LoopTensor& tensor = loops_[output.tensor];
        output.strides = tensor.strides;
        if (lexer_.accept("alias")) {
          if (tensor.kind != TensorKind::input) return fail(lexer_.error("an alias of what is no input"));
          output.alias_input = tensor.input;
          TD_TRY(output.sizes, parse_sizes());
          TD_CHECK_OK(lexer_.expect("at"));
          TD_TRY(output.offset, parse_size());
        }
        if (lexer_.accept("strides")) {
          TD_TRY(output.strides, parse_sizes());
        }
      }
      if (lexer_.accept("->")) TD_CHECK_OK(parse_target(output.target));
      loops_.outputs.push_back(std::move(output));
    } while (lexer_.accept(","));
    return {};
  }
  Status parse_target(GraphOutput& output) {
    if (lexer_.accept("input")) {
      output.mutates = GraphOutput::Mutates::input;
      TD_TRY(int64_t index, lexer_.expect_integer());
      if (index < 0 || index >= static_cast<int64_t>(loops_.inputs.size())) return fail(lexer_.error("no such input"));
      output.input = static_cast<int32_t>(index);
      return {};
    }
    TD_CHECK_OK(lexer_.expect("weight"));
    output.mutates = GraphOutput::Mutates::weight;
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::string, "a weight's name"));
    for (size_t i = 0; i < loops_.weights.size(); ++i)
      if (loops_.weights[i].name == name) output.weight = WeightId{static_cast<int32_t>(i)};
    if (!output.weight.valid()) return fail(lexer_.error(format("no weight `{}`", name)));
    return {};
  }

  // A number is a double exactly when it is written as one.
  bool at_double() const {
    Lexer ahead = lexer_;
    ahead.accept("-");
    return ahead.peek().kind == TokenKind::number || ahead.at("inf") || ahead.at("nan");
  }
  template <class T, class One>
  Result<Arg> parse_list_of(One one) {
    std::vector<T> list;
    while (!lexer_.accept("]")) {
      if (!list.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(T item, one());
      list.push_back(std::move(item));
    }
    return Arg(std::move(list));
  }
  Result<Arg> parse_fixed() {
    auto number = [this] { return lexer_.expect_number(); };
    auto text = [this] { return lexer_.expect_kind(TokenKind::string, "a text"); };
    auto truth = [this]() -> Result<bool> {
      if (lexer_.accept("true")) return true;
      TD_CHECK_OK(lexer_.expect("false"));
      return false;
    };
    if (lexer_.peek().kind == TokenKind::string) return Arg(lexer_.next().text);
    if (lexer_.accept("none")) return Arg(None{});
    if (lexer_.at("true") || lexer_.at("false")) return Arg(*truth());
    if (lexer_.accept("[")) {
      if (at_double()) return parse_list_of<double>(number);
      if (lexer_.peek().kind == TokenKind::string) return parse_list_of<std::string>(text);
      if (lexer_.at("true") || lexer_.at("false")) return parse_list_of<bool>(truth);
      return parse_list_of<Sym>([this] { return parse_size(); });
    }
    for (const char* word : {"floats", "bools", "strings"}) {
      if (!lexer_.accept(word)) continue;
      TD_CHECK_OK(lexer_.expect("["));
      if (word[0] == 'f') return parse_list_of<double>(number);
      if (word[0] == 'b') return parse_list_of<bool>(truth);
      return parse_list_of<std::string>(text);
    }
    if (lexer_.accept("device")) {
      TD_TRY(std::string device, text());
      return Arg(device_from_text(device));
    }
    if (lexer_.accept("memory_format")) {
      TD_CHECK_OK(lexer_.expect("("));
      TD_TRY(int64_t value, lexer_.expect_integer());
      TD_CHECK_OK(lexer_.expect(")"));
      if (value < 0 || value > 3) return fail(lexer_.error("no such memory format"));
      return Arg(static_cast<MemoryFormat>(value));
    }
    if (lexer_.accept("complex")) {
      TD_CHECK_OK(lexer_.expect("("));
      TD_TRY(double real, number());
      TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(double imaginary, number());
      TD_CHECK_OK(lexer_.expect(")"));
      return Arg(std::complex<double>(real, imaginary));
    }
    if (auto dtype = dtype_from_name(lexer_.peek().text); dtype && lexer_.peek().kind == TokenKind::word) {
      lexer_.next();
      return Arg(*dtype);
    }
    if (at_double()) {
      TD_TRY(double value, number());
      return Arg(value);
    }
    TD_TRY(Sym sym, parse_size());
    return Arg(std::move(sym));
  }

  Lexer lexer_;
  Loops loops_;
  std::map<std::string, Sym> symbols_;
  std::unordered_map<std::string, TensorId> tensors_;
  std::map<int64_t, int32_t> labels_;
  bool declarations_ = false;  // computed tensors have no bodies
  bool returned_ = false;
  bool pairs_ = false;  // the last type that was read
};

}  // namespace

Result<Loops> parse_loops(std::string_view text) { return Parser(Lexer(text)).parse(); }
Result<LoopsHead> parse_head(Lexer lexer, std::string_view form) { return Parser(std::move(lexer)).parse_head(form); }

}  // namespace toroid
