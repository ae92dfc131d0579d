// Symbols that are a size of an input have that value first; then those that one linear expression of a size solves;
// then every size is compared.
#include "emit/wrapper/signature.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/text.h"

namespace toroid::emit {

Signature::Signature(const Loops& program) : loops(program) {
  for (const SymbolRead& read : loops.symbol_reads) read_symbols.insert(read.symbol);
  for (size_t i = 0; i < loops.inputs.size(); ++i)
    if (loops.inputs[i].kind != GraphInput::Kind::constant) slots.push_back(i);
  for (size_t o = 0; o < loops.outputs.size(); ++o) {
    const GraphOutput& target = loops.outputs[o].target;
    if (target.mutates == GraphOutput::Mutates::nothing && target.kind != GraphOutput::Kind::constant)
      results.push_back(o);
  }
}

bool Signature::is_read(const Sym& sym) const {
  std::set<std::string> names;
  collect_symbols(sym, names);
  return std::ranges::any_of(names, [&](const std::string& name) { return read_symbols.contains(name); });
}

SymList Signature::sizes_of(const LoopOutput& output) const {
  if (!output.tensor) return {};
  return output.alias_input >= 0 ? output.sizes : loops[output.tensor].sizes;
}

SymList Signature::strides_of(const LoopOutput& output) const {
  if (!output.tensor) return {};
  const SymList sizes = sizes_of(output);
  return output.strides.size() == sizes.size() ? output.strides : contiguous_strides(sizes);
}

SymList Signature::outer_sizes(const LoopOutput& output) const {
  SymList sizes = sizes_of(output);
  if (output.tensor && loops[output.tensor].pairs) sizes.pop_back();
  return sizes;
}

SymList Signature::outer_strides_of(const LoopOutput& output) const {
  return output.tensor ? outer_strides(loops[output.tensor], strides_of(output)) : SymList{};
}

std::string c_string(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else if (static_cast<unsigned char>(c) < 0x20)
      append(out, "\\{:03o}", static_cast<unsigned>(c));
    else
      out += c;
  }
  return out + "\"";
}

std::string c_text(const Sym& sym) {
  return to_c(sym, [](const std::string& name) { return name; });
}

std::string range_text(int64_t low, int64_t high) {
  if (high == INT64_MAX) return format("at least {}", low);
  return low == high ? format("{}", low) : format("{}..{}", low, high);
}

std::string guard_text(const Guard& guard) {
  if (guard.condition == Sym(1)) return "";
  return format("  if (!({})) return td_fail(e, 4, \"%s\", {});\n", c_text(guard.condition),
                c_string(guard.text.empty() ? "assertion failed: " + to_string(guard.condition) : guard.text));
}

namespace {

class CheckText {
 public:
  explicit CheckText(const Signature& signature) : signature_(signature), loops_(signature.loops) {
    for (size_t i = 0; i < loops_.symbols.size(); ++i) symbol_index_[loops_.symbols[i].name] = i;
  }

  Result<std::string> text() {
    line("\nstatic int32_t check_inputs(const TdView* in, int64_t* symbols, int64_t* shapes, TdError* e) {");
    check_types();
    define_bare();
    define_linear();
    TD_CHECK_OK(all_defined());
    for (const Dim& dim : dims_) compare(dim);
    check_ranges();
    for (const Guard& guard : loops_.guards)
      if (!signature_.is_read(guard.condition)) out_ += guard_text(guard);
    write_shapes();
    line("  return 0;\n}");
    return std::move(out_);
  }

 private:
  struct Dim {
    size_t slot, dim;
    Sym size;
  };

  void line(std::string_view text) { out_.append(text).append("\n"); }
  const GraphInput& input(size_t slot) const { return loops_.inputs[signature_.slots[slot]]; }
  void define(const std::string& symbol, const std::string& value) {
    line(format("  const i64 {} = {};", symbol, value));
    line(format("  symbols[{}] = {};", symbol_index_.at(symbol), symbol));
    solved_.insert(symbol);
  }

  void check_types() {
    for (size_t i = 0; i < signature_.slots.size(); ++i) {
      const TensorId id = signature_.tensor_of(i);
      const std::string name = c_string(input(i).name);
      const TensorType type = id ? outer_type(loops_[id]) : TensorType{DType::i64, {}, {}, {}};
      const DType dtype = type.dtype;
      const size_t rank = type.sizes.size();
      line(format("  if (int32_t bad = td_check_input(&in[{}], {}, {}, {}, {}, e)) return bad;", i, i, name,
                  static_cast<int>(dtype), rank));
    }
  }
  // Symbols that are a size themselves, or an integer input.
  void define_bare() {
    for (size_t i = 0; i < signature_.slots.size(); ++i) {
      const TensorId id = signature_.tensor_of(i);
      if (!id) {
        const Sym& symbol = input(i).symbol;
        if (symbol.is_symbol() && !solved_.contains(symbol.symbol_name()))
          define(symbol.symbol_name(), format("*(const i64*)in[{}].data", i));
        continue;
      }
      const SymList sizes = outer_type(loops_[id]).sizes;
      for (size_t d = 0; d < sizes.size(); ++d) dims_.push_back({i, d, sizes[d]});
    }
    for (const Dim& dim : dims_)
      if (dim.size.is_symbol() && !solved_.contains(dim.size.symbol_name()))
        define(dim.size.symbol_name(), format("in[{}].sizes[{}]", dim.slot, dim.dim));
  }
  // size == coefficient * symbol + rest, for a symbol that stands in no input alone.
  void define_linear() {
    for (bool progress = true; progress;) {
      progress = false;
      for (const Dim& dim : dims_) {
        std::set<std::string> names;
        collect_symbols(dim.size, names);
        std::string unknown;
        int unknowns = 0;
        for (const std::string& name : names)
          if (!solved_.contains(name)) unknown = name, ++unknowns;
        if (unknowns != 1) continue;
        auto linear = linear_in(dim.size, unknown);
        if (!linear || !linear->coefficient.is_constant() || linear->coefficient.value() == 0) continue;
        define(unknown, format("floordiv(in[{}].sizes[{}] - {}, {})", dim.slot, dim.dim, c_text(linear->rest),
                               c_text(linear->coefficient)));
        progress = true;
      }
    }
  }

  Status all_defined() {
    for (const SymbolInfo& symbol : loops_.symbols) {
      if (symbol.unbacked) {
        line(format("  symbols[{}] = -1;", symbol_index_.at(symbol.name)));
        continue;
      }
      if (!solved_.contains(symbol.name))
        return fail(Kind::unsupported, "size `{}` does not follow from the sizes of the inputs", symbol.name);
    }
    return {};
  }

  void compare(const Dim& dim) {
    const std::string name = c_string(input(dim.slot).name);
    if (dim.size.is_symbol()) {
      const SymbolInfo& symbol = loops_.symbols[symbol_index_.at(dim.size.symbol_name())];
      std::string test = format("{} != in[{}].sizes[{}]", symbol.name, dim.slot, dim.dim);
      // The symbol may come from another input: then that must agree.
      line(format("  if ({}) return td_bad_number(e, {}, {}, {}, in[{}].sizes[{}], {}, {});", test, dim.slot, name,
                  dim.dim, dim.slot, dim.dim, c_string(symbol.name), symbol.name));
      std::string limits;
      if (symbol.low > 0) limits = format("{} < {}", symbol.name, symbol.low);
      if (symbol.high != INT64_MAX)
        limits += format("{}{} > {}", limits.empty() ? "" : " || ", symbol.name, symbol.high);
      if (!limits.empty())
        line(format("  if ({}) return td_bad_size(e, {}, {}, {}, {}, {});", limits, dim.slot, name, dim.dim,
                    symbol.name, c_string(range_text(symbol.low, symbol.high))));
    } else if (dim.size.is_constant()) {
      line(format("  if (in[{}].sizes[{}] != {}) return td_bad_size(e, {}, {}, {}, in[{}].sizes[{}], \"{}\");",
                  dim.slot, dim.dim, c_text(dim.size), dim.slot, name, dim.dim, dim.slot, dim.dim, dim.size.value()));
    } else {
      line(format("  if (in[{}].sizes[{}] != {}) return td_bad_number(e, {}, {}, {}, in[{}].sizes[{}], {}, {});",
                  dim.slot, dim.dim, c_text(dim.size), dim.slot, name, dim.dim, dim.slot, dim.dim,
                  c_string(to_string(dim.size)), c_text(dim.size)));
    }
  }
  // Symbols that no input size names alone still have a range.
  void check_ranges() {
    for (const SymbolInfo& symbol : loops_.symbols) {
      if (symbol.unbacked) continue;
      std::string limits;
      if (symbol.low > INT64_MIN) limits = format("{} < {}", symbol.name, symbol.low);
      if (symbol.high != INT64_MAX)
        limits += format("{}{} > {}", limits.empty() ? "" : " || ", symbol.name, symbol.high);
      if (!limits.empty())
        line(format("  if ({}) return td_fail(e, 1, \"size {} is %ld, must be {}\", {});", limits, symbol.name,
                    range_text(symbol.low, symbol.high), symbol.name));
    }
  }

  void write_shapes() {
    line("  if (shapes) {");
    line("    i64* to = shapes; (void)to;");
    for (size_t o : signature_.results) {
      const LoopOutput& output = loops_.outputs[o];
      for (const Sym& size : signature_.outer_sizes(output))
        line(format("    *to++ = {};", signature_.is_read(size) ? "-1" : c_text(size)));
      for (const Sym& stride : signature_.outer_strides_of(output))
        line(format("    *to++ = {};", signature_.is_read(stride) ? "-1" : c_text(stride)));
    }
    line("  }");
  }

  const Signature& signature_;
  const Loops& loops_;
  std::map<std::string, size_t> symbol_index_;
  std::set<std::string> solved_;
  std::vector<Dim> dims_;
  std::string out_;
};

}  // namespace

Result<std::string> check_function(const Signature& signature) { return CheckText(signature).text(); }

}  // namespace toroid::emit
