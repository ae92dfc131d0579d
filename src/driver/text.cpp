// Products as text: printing, reading, telling which form a text is.
#include <set>

#include "base/lexer.h"
#include "driver/pipeline.h"
#include "import/import.h"

namespace toroid::driver {

// Every file after a line with its name; equal kernels once.
static std::string print_sources(const Sources& sources) {
  std::string out = format("// ---- wrapper.cpp\n{}", sources.wrapper);
  std::set<std::string> seen;
  emit::each_kernel(sources.plan, sources.kernels, [&](const Kernel& kernel, const emit::KernelSource& source) {
    if (!source.text.empty() && seen.insert(source.symbol).second)
      append(out, "\n// ---- {}.cpp\n{}", kernel.name, source.text);
  });
  return out;
}

Result<std::string> print_product(const Product& product) {
  switch (static_cast<Form>(product.index())) {
    case Form::graph: return print_graph(std::get<Graph>(product));
    case Form::loops: return print_loops(std::get<Loops>(product));
    case Form::schedule: return print_schedule(std::get<Schedule>(product));
    case Form::plan: return print_plan(std::get<Plan>(product));
    case Form::sources: return print_sources(std::get<Sources>(product));
    default: return fail(Kind::bad_option, "`{}` has no text", form_name(static_cast<Form>(product.index())));
  }
}

Result<Product> parse_product(Form form, std::string_view text) {
  if (form == Form::graph) {
    TD_TRY(Graph graph, parse_graph(text));
    return Product(std::move(graph));
  }
  if (form == Form::loops) {
    TD_TRY(Loops loops, parse_loops(text));
    return Product(std::move(loops));
  }
  if (form == Form::schedule) {
    TD_TRY(Schedule schedule, parse_schedule(text));
    return Product(std::move(schedule));
  }
  if (form == Form::plan) {
    TD_TRY(Plan plan, parse_plan(text));
    return Product(std::move(plan));
  }
  return fail(Kind::unsupported, "the text of a {} cannot be read back", form_name(form));
}

Status attach_weights(Product& product, const std::string& archive, const std::string& model) {
  if (auto graph = std::get_if<Graph>(&product)) return toroid::attach_weights(*graph, archive, model);
  auto loops = std::get_if<Loops>(&product);
  if (auto schedule = std::get_if<Schedule>(&product)) loops = &schedule->loops;
  if (auto plan = std::get_if<Plan>(&product)) loops = &plan->schedule.loops;
  if (!loops) return fail(Kind::bad_option, "--weights goes with the text of a graph, loops, a schedule or a plan");
  // Loops hold weights as a graph does.
  Graph holder;
  holder.weights = std::move(loops->weights);
  holder.storages = std::move(loops->storages);
  TD_CHECK_OK(toroid::attach_weights(holder, archive, model));
  loops->weights = std::move(holder.weights);
  loops->storages = std::move(holder.storages);
  return {};
}

Result<int64_t> evaluate_text(const std::string& text, const SymbolValues& symbols) {
  std::map<std::string, int64_t> values(symbols.begin(), symbols.end());
  Lexer lexer(text);
  TD_TRY(Sym sym, parse_sym(lexer, [&](const std::string& name) -> Result<Sym> {
           auto value = values.find(name);
           if (value == values.end()) return fail(Kind::bad_option, "the size `{}` is not known", name);
           return Sym(value->second);
         }));
  if (!lexer.at_end()) return fail(lexer.error("expected the end"));
  if (!sym.is_constant()) return fail(Kind::bad_option, "`{}` has no value", text);
  return sym.value();
}

std::optional<Form> guess_form(std::string_view text) {
  Lexer lexer(text);
  if (lexer.peek().kind != TokenKind::word) return {};
  auto form = form_from_name(lexer.peek().text);
  return form == Form::archive ? std::nullopt : form;
}

}  // namespace toroid::driver
