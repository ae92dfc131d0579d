// The compiler as a list of steps, and the runner that takes a compilation through it: times, verifies, dumps, skips.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/cancel.h"
#include "driver/products.h"
#include "graph/graph.h"
#include "loop/schedule.h"
#include "target/compiler.h"
#include "target/target.h"
#include "toroid/compiler.h"

namespace toroid::driver {

// A function of the caller's threw: thrown on through the steps, and an Error at the public entry.
struct CallbackError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a compilation is between steps. `archive` and `package` have no text form.
enum class Form { archive, graph, loops, schedule, plan, sources, objects, package };
std::string_view form_name(Form form);
std::optional<Form> form_from_name(std::string_view name);

// The variant's order is that of Form.
using Product = std::variant<std::monostate, Graph, Loops, Schedule, Plan, Sources, Objects, PackageBytes>;

// One compilation on its way.
struct Work {
  const CompileOptions& options;
  const CancelToken& cancel;
  Target target;
  std::optional<Compiler> compiler;  // known once a step needs it
  std::string input;                 // path of the archive or text
  Product product;
  std::vector<std::string> notes;  // for the summary line
  size_t running = 0;              // the step that runs, or failed

  Form form() const { return static_cast<Form>(product.index()); }
  bool explains(std::string_view topic) const;
  void explain(std::string_view topic, std::string_view line) const;
  void time(std::string_view step, std::string_view detail, double seconds) const;
  // Said at once, and noted for the summary line.
  void warn(std::string line);
  // Progress inside a step.
  void progress(std::string_view step, int done, int total) const;
};

struct Step {
  std::string_view name;
  Form from, gives;
  Status (*run)(Work&);
  bool optional = false;  // --skip may name it
};
std::span<const Step> steps();

// `name` is a step (its result) or a form (what the last step that gives it leaves); the index of the step.
Result<size_t> find_stage(std::string_view name);

// Runs steps[first] to steps[last]; checks what each gives, dumps it, and honours skip, stop_after and cancel.
Status run_steps(Work& work, size_t first, size_t last);

// A product as text, and back (graph and loops; others say what is missing).
Result<std::string> print_product(const Product& product);
Result<Product> parse_product(Form form, std::string_view text);
// Gives the weights named in a text their bytes, from an archive.
Status attach_weights(Product& product, const std::string& archive, const std::string& model);
// The value of a size expression.
Result<int64_t> evaluate_text(const std::string& text, const SymbolValues& symbols);
// The form whose text this is, by its first word; nothing where it is none.
std::optional<Form> guess_form(std::string_view text);

}  // namespace toroid::driver
