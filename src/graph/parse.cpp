// Reads the text form of a graph. Grammar: docs/design.md. Weights get their names and types; bytes come from
// elsewhere.
#include <algorithm>

#include "base/check.h"
#include "base/lexer.h"
#include "graph/graph.h"

namespace toroid {
namespace {

// Deeper nesting than this is not a graph but an attack on the stack.
constexpr int max_nesting = 64;

Device device_from(const std::string& text) {
  size_t colon = text.find(':');
  if (colon == std::string::npos) return {text, 0};
  return {text.substr(0, colon), static_cast<int32_t>(std::atoi(text.c_str() + colon + 1))};
}

std::optional<MemoryFormat> format_from(const std::string& word) {
  if (word == "contiguous") return MemoryFormat::contiguous;
  if (word == "channels_last") return MemoryFormat::channels_last;
  if (word == "channels_last_3d") return MemoryFormat::channels_last_3d;
  if (word == "preserve") return MemoryFormat::preserve;
  return std::nullopt;
}

// "encoder.fc, model.py:12", "encoder.fc", "model.py:12"
Where where_from(const std::string& text) {
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

class Parser {
 public:
  Parser(Lexer& lexer, const Graph* outer, int depth) : lexer_(lexer), outer_(outer), depth_(depth) {}

  Result<Graph> parse() {
    if (depth_ > max_nesting) return std::unexpected(lexer_.error("graphs nested too deep"));
    TD_CHECK_OK(lexer_.expect("graph"));
    TD_TRY(graph_.name, lexer_.expect_kind(TokenKind::global, "a graph name"));
    // The ranges stand behind the inputs that use them, so they are read first.
    Lexer ahead = lexer_;
    int parens = 0;
    do {
      if (ahead.at_end()) return std::unexpected(ahead.error("expected `)`"));
      parens += ahead.at("(") - ahead.at(")");
      ahead.next();
    } while (parens > 0);
    TD_CHECK_OK(parse_symbols(ahead));
    in_header_ = true;
    TD_CHECK_OK(parse_inputs());
    in_header_ = false;
    lexer_ = ahead;
    TD_CHECK_OK(lexer_.expect("{"));
    while (!lexer_.at("}")) TD_CHECK_OK(parse_statement());
    TD_CHECK_OK(lexer_.expect("}"));
    if (!returned_) return std::unexpected(lexer_.error(format("graph `{}` has no `return`", graph_.name)));
    return std::move(graph_);
  }

 private:
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
      if (graph_.find_symbol(info.name))
        return std::unexpected(lexer.error(format("symbol `{}` declared twice", info.name)));
      if (lexer.accept("<=")) {
        TD_TRY(info.high, lexer.expect_integer());
      }
      if (info.low > info.high) return std::unexpected(lexer.error(format("empty range of `{}`", info.name)));
      if (lexer.accept("hint")) {
        TD_TRY(info.hint, lexer.expect_integer());
      }
      info.unbacked = lexer.accept("unbacked");
      graph_.symbols.push_back(std::move(info));
    } while (lexer.accept(","));
    return {};
  }

  Result<Sym> resolve(const std::string& name) {
    if (graph_.find_symbol(name)) return graph_.symbol(name);
    if (outer_ && outer_->find_symbol(name)) return outer_->symbol(name);
    // A size named in an input declares itself, without a range.
    if (!in_header_) return std::unexpected(lexer_.error(format("unknown symbol `{}`", name)));
    SymbolInfo info;
    info.name = name;
    graph_.symbols.push_back(std::move(info));
    return graph_.symbol(name);
  }
  Result<Sym> parse_size() {
    return parse_sym(lexer_, [this](const std::string& name) { return resolve(name); });
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
    if (lexer_.peek().kind != TokenKind::word || !dtype)
      return std::unexpected(lexer_.error("expected an element type"));
    type.dtype = *dtype;
    lexer_.next();
    TD_TRY(type.sizes, parse_sizes());
    if (lexer_.accept("strides")) {
      TD_TRY(type.strides, parse_sizes());
      if (type.strides.size() != type.sizes.size())
        return std::unexpected(lexer_.error("as many strides as sizes wanted"));
    } else {
      type.strides = contiguous_strides(type.sizes);
    }
    if (lexer_.accept("on")) {
      TD_TRY(std::string device, lexer_.expect_kind(TokenKind::string, "a device"));
      type.device = device_from(device);
    }
    return type;
  }

  Result<ValueId> define(Value value) {
    if (names_.contains(value.name)) return std::unexpected(lexer_.error(format("`%{}` defined twice", value.name)));
    std::string name = value.name;
    ValueId id = graph_.add_value(std::move(value));
    names_.emplace(std::move(name), id);
    return id;
  }
  Result<ValueId> parse_value() {
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::value, "a value"));
    auto found = names_.find(name);
    if (found == names_.end()) return std::unexpected(lexer_.error(format("`%{}` is not defined", name)));
    return found->second;
  }

  Status parse_inputs() {
    TD_CHECK_OK(lexer_.expect("("));
    while (!lexer_.accept(")")) {
      if (!graph_.inputs.empty()) TD_CHECK_OK(lexer_.expect(","));
      GraphInput input;
      if (lexer_.accept("int")) {
        input.kind = GraphInput::Kind::symbol;
        TD_TRY(input.name, lexer_.expect_kind(TokenKind::string, "a name"));
        TD_CHECK_OK(lexer_.expect("="));
        TD_TRY(input.symbol, parse_size());
      } else if (lexer_.accept("constant")) {
        input.kind = GraphInput::Kind::constant;
        TD_TRY(input.name, lexer_.expect_kind(TokenKind::string, "a name"));
        TD_CHECK_OK(lexer_.expect("="));
        TD_TRY(input.constant, parse_arg());
      } else {
        Value value;
        value.kind = ValueKind::input;
        value.index = static_cast<int32_t>(graph_.inputs.size());
        TD_TRY(value.name, lexer_.expect_kind(TokenKind::value, "an input"));
        input.name = value.name;
        if (lexer_.peek().kind == TokenKind::string) input.name = lexer_.next().text;
        TD_CHECK_OK(lexer_.expect(":"));
        TD_TRY(value.type, parse_type());
        TD_TRY(input.value, define(std::move(value)));
      }
      graph_.inputs.push_back(std::move(input));
    }
    return {};
  }

  Status parse_statement() {
    if (returned_ && lexer_.accept("in_spec")) {
      TD_TRY(graph_.in_spec, lexer_.expect_kind(TokenKind::string, "a text"));
      return {};
    }
    if (returned_ && lexer_.accept("out_spec")) {
      TD_TRY(graph_.out_spec, lexer_.expect_kind(TokenKind::string, "a text"));
      return {};
    }
    if (returned_) return std::unexpected(lexer_.error("expected `}` after `return`"));
    if (lexer_.at("graph")) {
      TD_TRY(Graph inner, Parser(lexer_, outer_ && graph_.symbols.empty() ? outer_ : &graph_, depth_ + 1).parse());
      graph_.subgraphs.push_back(std::move(inner));
      return {};
    }
    if (lexer_.accept("return")) return parse_returns();
    if (lexer_.accept("guard")) {
      Guard guard;
      TD_TRY(guard.condition, parse_size());
      if (lexer_.peek().kind == TokenKind::string) guard.text = lexer_.next().text;
      graph_.guards.push_back(std::move(guard));
      return {};
    }
    std::vector<std::string> results;
    if (lexer_.peek().kind == TokenKind::value || lexer_.at("_")) {
      do {
        if (lexer_.peek().kind != TokenKind::value && !lexer_.at("_"))
          return std::unexpected(lexer_.error("expected a value"));
        bool unused = lexer_.at("_");
        std::string name = lexer_.next().text;
        results.push_back(unused ? "" : name);
      } while (lexer_.accept(","));
      TD_CHECK_OK(lexer_.expect("="));
    }
    if (results.size() == 1 && (lexer_.at("weight") || lexer_.at("buffer") || lexer_.at("constant")))
      return parse_weight(results[0]);
    return parse_node(results);
  }

  Status parse_weight(const std::string& name) {
    Weight weight;
    std::string kind = lexer_.next().text;
    weight.kind = kind == "weight"   ? WeightKind::parameter
                  : kind == "buffer" ? WeightKind::buffer
                                     : WeightKind::constant;
    TD_TRY(weight.name, lexer_.expect_kind(TokenKind::string, "a weight's name"));
    weight.persistent = !lexer_.accept("transient");
    TD_CHECK_OK(lexer_.expect(":"));
    TD_TRY(weight.type, parse_type());
    weight.storage = static_cast<int32_t>(graph_.storages.size());
    if (lexer_.accept("in")) {
      TD_CHECK_OK(lexer_.expect("storage"));
      TD_TRY(int64_t label, lexer_.expect_integer());
      TD_CHECK_OK(lexer_.expect("at"));
      TD_TRY(weight.storage_offset, lexer_.expect_integer());
      weight.storage = labels_.try_emplace(label, weight.storage).first->second;
    }
    if (weight.storage == static_cast<int32_t>(graph_.storages.size())) graph_.storages.emplace_back();
    Value value;
    value.name = name;
    value.type = weight.type;
    value.kind = ValueKind::weight;
    value.weight = WeightId{static_cast<int32_t>(graph_.weights.size())};
    graph_.weights.push_back(std::move(weight));
    if (name.empty()) return {};
    TD_TRY([[maybe_unused]] ValueId id, define(std::move(value)));
    return {};
  }

  Status parse_node(const std::vector<std::string>& results) {
    Node node;
    const NodeId id{static_cast<int32_t>(graph_.nodes.size())};
    TD_TRY(node.op, lexer_.expect_kind(TokenKind::word, "an op"));
    TD_CHECK_OK(lexer_.expect("("));
    while (!lexer_.accept(")")) {
      if (!node.args.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(Arg arg, parse_arg());
      node.args.push_back(std::move(arg));
    }
    for (size_t i = 0; i < results.size(); ++i) {
      TD_CHECK_OK(lexer_.expect(i ? "," : ":"));
      if (results[i].empty()) {
        TD_CHECK_OK(lexer_.expect("_"));
        node.outputs.emplace_back();
        continue;
      }
      Value value;
      value.name = results[i];
      value.producer = id;
      value.index = static_cast<int32_t>(i);
      TD_TRY(value.type, parse_type());
      if (lexer_.accept("defines")) {
        TD_TRY(value.symbol, lexer_.expect_kind(TokenKind::word, "a symbol"));
      }
      TD_TRY(ValueId output, define(std::move(value)));
      node.outputs.push_back(output);
    }
    if (lexer_.accept("@")) node.where = where_from(lexer_.rest_of_line());
    graph_.nodes.push_back(std::move(node));
    return {};
  }

  Status parse_returns() {
    returned_ = true;
    if (lexer_.at("}") || lexer_.at("in_spec") || lexer_.at("out_spec")) return {};
    do {
      GraphOutput output;
      if (lexer_.peek().kind == TokenKind::string) {
        output.name = lexer_.next().text;
        TD_CHECK_OK(lexer_.expect(":"));
      }
      if (lexer_.accept("int")) {
        output.kind = GraphOutput::Kind::symbol;
        TD_TRY(output.symbol, parse_size());
      } else if (lexer_.accept("constant")) {
        output.kind = GraphOutput::Kind::constant;
        TD_TRY(output.constant, parse_arg());
      } else {
        TD_TRY(output.value, parse_value());
      }
      if (lexer_.accept("->")) TD_CHECK_OK(parse_target(output));
      graph_.outputs.push_back(std::move(output));
    } while (lexer_.accept(","));
    return {};
  }
  Status parse_target(GraphOutput& output) {
    if (lexer_.accept("input")) {
      output.mutates = GraphOutput::Mutates::input;
      TD_TRY(int64_t index, lexer_.expect_integer());
      if (index < 0 || index >= static_cast<int64_t>(graph_.inputs.size()))
        return std::unexpected(lexer_.error("no such input"));
      output.input = static_cast<int32_t>(index);
      return {};
    }
    TD_CHECK_OK(lexer_.expect("weight"));
    output.mutates = GraphOutput::Mutates::weight;
    TD_TRY(std::string name, lexer_.expect_kind(TokenKind::string, "a weight's name"));
    for (size_t i = 0; i < graph_.weights.size(); ++i)
      if (graph_.weights[i].name == name) output.weight = WeightId{static_cast<int32_t>(i)};
    if (!output.weight.valid()) return std::unexpected(lexer_.error(format("no weight `{}`", name)));
    return {};
  }

  // A number is a double exactly when it is written as one.
  bool at_double() const {
    Lexer ahead = lexer_;
    ahead.accept("-");
    return ahead.peek().kind == TokenKind::number || ahead.at("inf") || ahead.at("nan");
  }
  Result<Arg> parse_arg() {
    const Token token = lexer_.peek();
    if (token.kind == TokenKind::value) {
      TD_TRY(ValueId id, parse_value());
      return Arg(id);
    }
    if (token.kind == TokenKind::string) return Arg(lexer_.next().text);
    if (token.kind == TokenKind::global) {
      lexer_.next();
      for (size_t i = 0; i < graph_.subgraphs.size(); ++i)
        if (graph_.subgraphs[i].name == token.text) return Arg(SubgraphId{static_cast<int32_t>(i)});
      return std::unexpected(lexer_.error(format("no subgraph `@{}`", token.text)));
    }
    if (lexer_.at("[")) return parse_list();
    if (at_double()) {
      TD_TRY(double value, lexer_.expect_number());
      return Arg(value);
    }
    if (token.kind == TokenKind::word) {
      if (lexer_.accept("none")) return Arg(None{});
      if (lexer_.accept("true")) return Arg(true);
      if (lexer_.accept("false")) return Arg(false);
      for (const char* word : {"tensors", "floats", "bools", "strings"})
        if (lexer_.at(word)) return parse_empty_list();
      if (std::optional<DType> dtype = dtype_from_name(token.text)) {
        lexer_.next();
        return Arg(*dtype);
      }
      if (std::optional<MemoryFormat> format = format_from(token.text)) {
        lexer_.next();
        return Arg(*format);
      }
      if (lexer_.accept("device")) {
        TD_TRY(std::string device, lexer_.expect_kind(TokenKind::string, "a device"));
        return Arg(device_from(device));
      }
      if (lexer_.accept("complex")) {
        TD_CHECK_OK(lexer_.expect("("));
        TD_TRY(double real, lexer_.expect_number());
        TD_CHECK_OK(lexer_.expect(","));
        TD_TRY(double imaginary, lexer_.expect_number());
        TD_CHECK_OK(lexer_.expect(")"));
        return Arg(std::complex<double>(real, imaginary));
      }
    }
    TD_TRY(Sym sym, parse_size());
    return Arg(std::move(sym));
  }
  Result<Arg> parse_empty_list() {
    std::string word = lexer_.next().text;
    TD_CHECK_OK(lexer_.expect("["));
    TD_CHECK_OK(lexer_.expect("]"));
    if (word == "tensors") return Arg(std::vector<ValueId>());
    if (word == "floats") return Arg(std::vector<double>());
    if (word == "bools") return Arg(std::vector<bool>());
    return Arg(std::vector<std::string>());
  }
  // All of one kind, which the first item that is not `none` decides.
  template <class Item, class Read>
  Result<Arg> read_list(Read read) {
    std::vector<Item> list;
    lexer_.next();
    while (!lexer_.accept("]")) {
      if (!list.empty()) TD_CHECK_OK(lexer_.expect(","));
      TD_TRY(Item item, read());
      list.push_back(std::move(item));
    }
    return Arg(std::move(list));
  }
  Result<Arg> parse_list() {
    Lexer start = lexer_;
    lexer_.next();
    const Token first = lexer_.peek();
    const bool doubles = at_double(), texts = first.kind == TokenKind::string;
    const bool bools = lexer_.at("true") || lexer_.at("false"),
               ids = first.kind == TokenKind::value || lexer_.at("none");
    lexer_ = start;
    if (doubles) return read_list<double>([&] { return lexer_.expect_number(); });
    if (texts) return read_list<std::string>([&] { return lexer_.expect_kind(TokenKind::string, "a text"); });
    if (ids)
      return read_list<ValueId>([&]() -> Result<ValueId> {
        if (lexer_.accept("none")) return ValueId{};
        return parse_value();
      });
    if (bools)
      return read_list<bool>([&]() -> Result<bool> {
        if (lexer_.accept("true")) return true;
        TD_CHECK_OK(lexer_.expect("false"));
        return false;
      });
    TD_TRY(SymList list, parse_sizes());
    return Arg(std::move(list));
  }

  Lexer& lexer_;
  const Graph* outer_;
  int depth_;
  Graph graph_;
  bool returned_ = false, in_header_ = false;
  std::map<std::string, ValueId> names_;
  std::map<int64_t, int32_t> labels_;
};

}  // namespace

Result<Graph> parse_graph(std::string_view text) {
  Lexer lexer(text);
  TD_TRY(Graph graph, Parser(lexer, nullptr, 0).parse());
  if (!lexer.at_end()) return std::unexpected(lexer.error("expected the end after the graph"));
  return graph;
}

}  // namespace toroid
