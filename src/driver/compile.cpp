// The public functions of toroid/compiler.h: options to a Work, the pipeline, and every failure to an Error.
#include "toroid/compiler.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>

#include "base/check.h"
#include "base/file.h"
#include "driver/graph_builder.h"
#include "driver/pipeline.h"
#include "driver/steps.h"
#include "ops/op_table.h"
#include "ops/plugin.h"

namespace toroid {

using driver::Form;
using driver::Product;
using driver::Work;

Cancellation::Cancellation() : token_(std::make_shared<CancelToken>()) {}
void Cancellation::cancel() { token_->cancel(); }
bool Cancellation::cancelled() const { return token_->cancelled(); }

struct Package::State {
  driver::PackageBytes bytes;
  std::string target, compiler, summary;
};

Package::Package(std::shared_ptr<const State> state) : state_(std::move(state)) {}
const void* Package::data() const { return state_->bytes.bytes.data(); }
size_t Package::size() const { return state_->bytes.bytes.size(); }
const std::string& Package::target() const { return state_->target; }
const std::string& Package::compiler() const { return state_->compiler; }
const std::string& Package::summary() const { return state_->summary; }

// Reaches into Cancellation: a compilation's own token, with the deadline, below the caller's.
struct CompileJob {
  static CancelToken token(const CompileOptions& options) {
    std::optional<CancelToken::Clock::time_point> deadline;
    if (options.deadline_seconds > 0) {
      auto wait = std::chrono::duration<double>(std::min(options.deadline_seconds, 1e9));
      deadline = CancelToken::Clock::now() + std::chrono::duration_cast<CancelToken::Clock::duration>(wait);
    }
    return CancelToken(options.cancel.token_.get(), deadline);
  }
};

namespace {

Error to_error(const Diagnostic& diagnostic) {
  // Names from archives and paths may be any bytes; who shows the text may take UTF-8 only.
  Error error{kind_name(diagnostic.kind), printable(diagnostic.text), {}};
  for (const std::string& detail : diagnostic.details) {
    for (const std::string& line : split(detail, '\n')) error.details.push_back(printable(line));
  }
  return error;
}

// Runs `work`, with everything that it may throw turned into an Error: nothing of ours leaves by exception.
template <class T, class F>
Expected<T> guarded(F work) {
  try {
    Result<T> result = work();
    if (!result) return to_error(result.error());
    return std::move(*result);
  } catch (const std::bad_alloc&) {
    return Error{"internal", "out of memory", {}};
  } catch (const driver::CallbackError& e) {
    return Error{"cancelled", printable(e.what()), {}};
  } catch (const std::exception& e) {
    return Error{"internal", e.what(), {"this is a fault of Toroid's: please report it"}};
  }
}

struct Input {
  Form form = Form::archive;
  std::string text;  // empty for an archive
};

Result<Input> read_input(const std::string& path, const std::string& from) {
  Input input;
  size_t first = 0;
  if (!from.empty()) {
    if (auto form = driver::form_from_name(from)) {
      input.form = *form;
    } else {
      TD_TRY(first, driver::find_stage(from));
      input.form = driver::steps()[first].gives;
    }
    if (input.form == Form::archive) return input;
    TD_TRY(input.text, read_file(path));
    return input;
  }
  TD_TRY(MappedFile file, MappedFile::open(path));
  std::string_view text = file.text();
  if (text.starts_with("PK")) return input;
  // A text is short and starts with the name of its form; all else is the importer's to refuse.
  bool binary = text.substr(0, 4096).find('\0') != std::string_view::npos;
  if (auto form = binary ? std::nullopt : driver::guess_form(text)) {
    input.form = *form;
    input.text = text;
  }
  return input;
}

// The first step to run on a text of this form: after the step named, or after the last that gives the form.
Result<size_t> first_step(const Input& input, const std::string& from) {
  if (input.form == Form::archive) return 0;
  TD_TRY(size_t at, driver::find_stage(from.empty() ? driver::form_name(input.form) : std::string_view(from)));
  return at + 1;
}

Result<Product> read_product(const Input& input, const CompileOptions& options) {
  if (input.form == Form::archive) return Product();
  TD_TRY(Product product, driver::parse_product(input.form, input.text));
  if (!options.weights.empty()) TD_CHECK_OK(driver::attach_weights(product, options.weights, options.model));
  return product;
}

// The public view of what the last step left.
Package make_package(const Work& work, const driver::PackageBytes& bytes, std::chrono::steady_clock::time_point start) {
  auto state = std::make_shared<Package::State>();
  state->bytes = bytes;
  state->target = work.target.text();
  state->compiler = work.compiler ? work.compiler->version : "";
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  state->summary = format("{}, target {}, {:.2f} s", join(work.notes, ", "), state->target, seconds);
  return Package(std::move(state));
}

// A folder that stays, for someone to look into.
Result<std::string> fresh_folder(const std::string& parent) {
  std::string path = parent + "/toroid-reproducer-XXXXXX";
  if (!mkdtemp(path.data())) return fail(Kind::io, "cannot make a folder in `{}`", parent);
  return path;
}

// What the failing step was given, in a folder of its own, and the command that shows the failure again. The steps
// before it are run once more, since their results are gone by now.
std::string reproducer(const Work& failed, const Input& input, size_t first) {
  const driver::Step& step = driver::steps()[failed.running];
  std::string plain = format("toroid compile {} --stop-after={}", failed.input, failed.running + 1);
  if (failed.running <= first) return plain;
  CompileOptions options;
  options.model = failed.options.model;
  options.weights = failed.options.weights;
  options.skip = failed.options.skip;
  Work work{.options = options, .cancel = failed.cancel, .target = failed.target, .input = failed.input};
  auto product = read_product(input, options);
  if (!product) return plain;
  work.product = std::move(*product);
  if (!driver::run_steps(work, first, failed.running - 1)) return plain;
  auto text = driver::print_product(work.product);
  auto folder = fresh_folder(failed.options.temporary_folder);
  if (!text || !folder) return plain;
  std::string file = format("{}/{}.{}", *folder, step.name, driver::form_name(step.from));
  if (!write_file_atomic(file, *text)) return plain;
  return format("toroid compile --target={} --from={} --to={} {}", failed.target.text(), driver::form_name(step.from),
                step.name, file);
}

// The pipeline with our own faults turned into Diagnostics.
Status run_guarded(Work& work, const Input& input, size_t first, size_t last) {
  try {
    return driver::run_steps(work, first, last);
  } catch (const InternalError& e) {
    Diagnostic diagnostic{Kind::internal, e.what(), {}};
    diagnostic.details.push_back(
        format("in step `{}`; this is a fault of Toroid's: please report it", driver::steps()[work.running].name));
    diagnostic.details.push_back("to run it again: " + reproducer(work, input, first));
    return fail(std::move(diagnostic));
  }
}

Status add_plugins(const CompileOptions& options) {
  for (const std::string& path : options.plugins) TD_CHECK_OK(add_plugin(path));
  return {};
}

// What the caller said is checked before any work is done.
Status check_options(const CompileOptions& options) {
  constexpr std::string_view topics[] = {"fuse", "cache", "guard"};
  for (const std::string& topic : options.explain)
    if (std::ranges::find(topics, topic) == std::end(topics))
      return fail(Diagnostic{
          Kind::bad_option, format("there is nothing to explain about `{}`", topic), {"there are fuse, cache, guard"}});
  // Not `< 0`: it is no number that passes.
  if (!(options.deadline_seconds >= 0))
    return fail(Kind::bad_option, "a deadline of {} seconds", options.deadline_seconds);
  if (options.stop_after < 0) return fail(Kind::bad_option, "stop after {} steps", options.stop_after);
  if (options.threads < 0) return fail(Kind::bad_option, "{} threads", options.threads);
  if (options.jobs < 0) return fail(Kind::bad_option, "{} jobs", options.jobs);
  if (options.cache_bytes <= 0) return fail(Kind::bad_option, "a cache of {} bytes", options.cache_bytes);
  if (!options.output.empty()) {
    TD_TRY([[maybe_unused]] const std::string target, output_path(options.output));
  }
  return add_plugins(options);
}

Result<CompileResult> run_stages(const std::string& path, const std::string& from, const std::string& to,
                                 const CompileOptions& options) {
  auto start = std::chrono::steady_clock::now();
  TD_CHECK_OK(check_options(options));
  TD_TRY(Target target, Target::parse(options.target));
  CancelToken cancel = CompileJob::token(options);
  Work work{.options = options, .cancel = cancel, .target = std::move(target), .input = path};
  size_t last = driver::steps().size() - 1;
  if (!to.empty()) {
    TD_TRY(last, driver::find_stage(to));
  }
  TD_TRY(Input input, read_input(path, from));
  TD_TRY(size_t first, first_step(input, from));
  if (last + 1 < first) {
    return fail(Kind::bad_option, "`{}` comes before `{}`", to, driver::form_name(input.form));
  }
  TD_TRY(work.product, read_product(input, options));
  TD_CHECK_OK(run_guarded(work, input, first, last));
  if (auto bytes = std::get_if<driver::PackageBytes>(&work.product)) {
    return CompileResult{"", std::make_shared<Package>(make_package(work, *bytes, start))};
  }
  TD_TRY(std::string text, driver::print_product(work.product));
  return CompileResult{std::move(text), nullptr};
}

Result<Package> compile_builder(const GraphBuilder& builder, const CompileOptions& options) {
  auto start = std::chrono::steady_clock::now();
  TD_CHECK_OK(check_options(options));
  TD_TRY(Target target, Target::parse(options.target));
  CancelToken cancel = CompileJob::token(options);
  Work work{.options = options, .cancel = cancel, .target = std::move(target)};
  TD_TRY(Graph graph, build_graph(builder));
  Input input{Form::graph, print_graph(graph)};
  work.product = std::move(graph);
  TD_TRY(size_t first, first_step(input, ""));
  TD_CHECK_OK(run_guarded(work, input, first, driver::steps().size() - 1));
  auto bytes = std::get_if<driver::PackageBytes>(&work.product);
  if (!bytes) return fail(Kind::bad_option, "stop_after leaves no package");
  return make_package(work, *bytes, start);
}

}  // namespace

Outcome Package::save(const std::string& path) const {
  return guarded<Nothing>([&]() -> Result<Nothing> {
    TD_CHECK_OK(write_file_atomic(path, {reinterpret_cast<const char*>(data()), size()}));
    return Nothing{};
  });
}

Expected<Package> compile(const std::string& path, const CompileOptions& options) {
  return guarded<Package>([&]() -> Result<Package> {
    TD_TRY(CompileResult result, run_stages(path, "", "", options));
    if (!result.package) return fail(Kind::bad_option, "stop_after leaves no package");
    return *result.package;
  });
}

Expected<Package> compile(const GraphBuilder& graph, const CompileOptions& options) {
  return guarded<Package>([&] { return compile_builder(graph, options); });
}

Expected<CompileResult> compile_stages(const std::string& path, const std::string& from, const std::string& to,
                                       const CompileOptions& options) {
  return guarded<CompileResult>([&] { return run_stages(path, from, to, options); });
}

std::vector<std::string> stage_names() {
  std::vector<std::string> names;
  for (const driver::Step& step : driver::steps()) {
    std::string name(driver::form_name(step.gives));
    if (names.empty() || names.back() != name) names.push_back(name);
  }
  return names;
}

std::vector<std::string> step_names() {
  std::vector<std::string> names;
  for (const driver::Step& step : driver::steps()) names.emplace_back(step.name);
  return names;
}

Outcome load_plugin(const std::string& path) {
  return guarded<Nothing>([&]() -> Result<Nothing> {
    TD_CHECK_OK(add_plugin(path));
    return Nothing{};
  });
}

std::vector<std::string> op_names(const std::string& part) {
  auto names = guarded<std::vector<std::string>>([&]() -> Result<std::vector<std::string>> {
    return part.empty() ? OpTable::all().names() : OpTable::all().like(part);
  });
  return names ? std::move(names).value() : std::vector<std::string>{};
}

Expected<std::string> native_target() {
  return guarded<std::string>([]() -> Result<std::string> { return Target::host().text(); });
}

Expected<std::string> describe_compiler(const CompileOptions& options) {
  return guarded<std::string>([&]() -> Result<std::string> {
    TD_TRY(Compiler compiler, find_compiler(options.compiler, options.search_path));
    return format("{} ({})", compiler.version, compiler.path);
  });
}

Expected<int64_t> evaluate_size(const std::string& text, const SymbolValues& symbols) {
  return guarded<int64_t>([&] { return driver::evaluate_text(text, symbols); });
}

int64_t cache_size(const CompileOptions& options) {
  std::error_code error;
  int64_t bytes = 0;
  if (options.cache_folder.empty()) return 0;
  for (std::filesystem::recursive_directory_iterator at(options.cache_folder, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code gone;  // another process may drop entries meanwhile
    uintmax_t size = at->is_regular_file(gone) ? at->file_size(gone) : 0;
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

const char* version() { return TOROID_VERSION; }

}  // namespace toroid
