// Runs the compiler with as few processes as it takes: g++'s driver is asked once what it would run (`-###`), then
// cc1plus and the assembler run joined by a pipe. (A link gains nothing by that.) Sources and objects are anonymous
// files.
#include "build/tools.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>

#include "base/file.h"
#include "base/hash.h"
#include "base/process.h"
#include "base/text.h"

namespace toroid::build {
namespace {

constexpr size_t error_lines = 20;

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// An archive of the objects, as `ar` writes it: one file to hand to the linker, however many objects there are.
// Without symbol table, so it is for --whole-archive only.
std::string archive(const std::vector<std::shared_ptr<const std::string>>& objects) {
  std::string out = "!<arch>\n";
  std::set<std::string_view> seen;
  int number = 0;
  for (const auto& object : objects) {
    if (!seen.insert(*object).second) continue;
    append(out, "{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", format("{}.o/", number++), 0, 0, 0, 644, object->size());
    out += *object;
    if (out.size() % 2 != 0) out += '\n';
  }
  return out;
}

// Programs run directly, as the driver would; empty where the driver's plan was not understood.
struct CompilePlan {
  std::vector<std::string> compiler;   // cc1plus … - -o -
  std::vector<std::string> assembler;  // as … -o /proc/self/fd/1
};
class DriverTools : public Tools {
 public:
  DriverTools(Compiler compiler, ToolOptions options)
      : compiler_(std::move(compiler)), options_(std::move(options)), environment_(tool_environment()) {
    // gold links a model in a third of ld's time, most of which goes to reading the symbols of libstdc++ and libc.
    linker_ = tool_path("ld.gold") ? "ld.gold" : "ld";
  }

  std::string identity() override;
  std::vector<std::string> flags(const Unit& unit) override;
  std::vector<std::string> flags(const LinkUnit& unit) override;
  Result<std::string> compile(const Unit& unit, const CancelToken& cancel) override;
  Result<std::string> link(const LinkUnit& unit, const CancelToken& cancel) override;

 private:
  std::optional<std::vector<std::vector<std::string>>> driver_plan(const std::vector<std::string>& args);
  std::optional<std::string> tool_path(const std::string& name) const;
  Result<ProcessEnd> run_compiler(const std::vector<std::string>& flags, int source, int object,
                                  const CancelToken& cancel);
  std::optional<CompilePlan> compile_plan(const std::vector<std::string>& flags);
  Result<std::string> finish(Result<ProcessEnd> end, int output, const std::string& name, const std::string& source,
                             const std::vector<std::string>& command, const char* what);

  Compiler compiler_;
  ToolOptions options_;
  std::vector<std::string> environment_;
  const char* linker_;
  std::mutex mutex_;
  // By flags; a plan that was not understood stays noted as such.
  std::map<std::vector<std::string>, std::optional<CompilePlan>> compile_plans_;
  std::optional<std::string> identity_;
};

// The driver's own file does not change when only the assembler or the linker is updated.
std::string DriverTools::identity() {
  std::lock_guard lock(mutex_);
  if (!identity_) {
    identity_ = compiler_.identity;
    for (const char* name : {"as", linker_}) {
      if (auto path = tool_path(name)) append(*identity_, " {}", file_identity(*path));
    }
  }
  return *identity_;
}

std::optional<std::string> DriverTools::tool_path(const std::string& name) const {
  std::string_view path = "/usr/bin:/bin";
  for (const std::string& variable : environment_) {
    if (variable.starts_with("PATH=")) path = std::string_view(variable).substr(5);
  }
  return find_executable(name, path);
}

std::vector<std::string> DriverTools::flags(const Unit& unit) {
  std::vector<std::string> flags = kernel_flags(compiler_.kind);
  for (std::string& flag : unit.target.compiler_flags(compiler_.kind)) flags.push_back(std::move(flag));
  flags.insert(flags.end(), unit.flags.begin(), unit.flags.end());
  return flags;
}

std::vector<std::string> DriverTools::flags(const LinkUnit& unit) {
  std::vector<std::string> flags = {
      "-shared",
      // Bytes that depend on nothing but the objects: no random or hashed id, no names of local symbols.
      "-Wl,--build-id=none",
      "-Wl,-s",
      // Parts of the boilerplate that a model does not use.
      "-Wl,--gc-sections",
      // Calls inside the model are bound here: two models never meet.
      "-Wl,-Bsymbolic",
      "-Wl,-z,now",
      "-Wl,-z,relro",
      "-Wl,-z,noexecstack",
      "-Wl,--hash-style=gnu",
      // Only libraries that something is taken from; some distributions do so anyway.
      "-Wl,--as-needed",
      // Unresolved symbols are our bug: found now, not when the package is loaded.
      "-Wl,--no-undefined",
  };
  // No link-time optimisation, so no plugin for it to load.
  if (compiler_.kind == CompilerKind::gcc) flags.push_back("-fno-use-linker-plugin");
  if (linker_ == std::string_view("ld.gold")) flags.push_back("-fuse-ld=gold");
  flags.insert(flags.end(), unit.libraries.begin(), unit.libraries.end());
  return flags;
}

std::optional<std::vector<std::vector<std::string>>> DriverTools::driver_plan(const std::vector<std::string>& args) {
  if (!options_.direct || compiler_.kind != CompilerKind::gcc) return std::nullopt;
  std::vector<std::string> command = {compiler_.path, "-###"};
  command.insert(command.end(), args.begin(), args.end());
  CancelToken never;
  CancelToken limit(&never, CancelToken::Clock::now() + std::chrono::seconds(20));
  auto end = run_process({.args = command}, environment_, limit);
  if (!end || end->exit_code != 0) return std::nullopt;
  return parse_driver_plan(end->error_text);
}

std::optional<CompilePlan> DriverTools::compile_plan(const std::vector<std::string>& flags) {
  std::lock_guard lock(mutex_);
  if (auto known = compile_plans_.find(flags); known != compile_plans_.end()) return known->second;
  std::optional<CompilePlan>& plan = compile_plans_[flags];
  std::vector<std::string> args = flags;
  args.insert(args.end(), {"-pipe", "-x", "c++", "-c", "-", "-o", "/proc/self/fd/1"});
  auto commands = driver_plan(args);
  // With -pipe the plan must be `cc1plus … - … -o - |` and `as … -o /proc/self/fd/1`; anything else goes by the driver.
  if (!commands || commands->size() != 2) return std::nullopt;
  std::vector<std::string> compiler = std::move((*commands)[0]), assembler = std::move((*commands)[1]);
  if (base_name(compiler[0]) != "cc1plus" || compiler.back() != "|" || base_name(assembler[0]) != "as")
    return std::nullopt;
  compiler.pop_back();
  if (std::ranges::count(compiler, "-") < 2 || std::ranges::count(assembler, "/proc/self/fd/1") != 1)
    return std::nullopt;
  auto path = tool_path(assembler[0]);
  if (!path || ::access(compiler[0].c_str(), X_OK) != 0) return std::nullopt;
  assembler[0] = *path;
  plan = CompilePlan{std::move(compiler), std::move(assembler)};
  return plan;
}

Result<ProcessEnd> DriverTools::run_compiler(const std::vector<std::string>& flags, int source, int object,
                                             const CancelToken& cancel) {
  if (std::optional<CompilePlan> plan = compile_plan(flags)) {
    return run_pipe({.args = plan->compiler, .stdin_fd = source}, {.args = plan->assembler, .stdout_fd = object},
                    environment_, cancel);
  }
  std::vector<std::string> command = {compiler_.path};
  command.insert(command.end(), flags.begin(), flags.end());
  // clang writes an object to standard output by itself; g++'s assembler wants a file that it can seek in.
  if (compiler_.kind == CompilerKind::gcc) command.push_back("-pipe");
  command.insert(command.end(),
                 {"-x", "c++", "-c", "-", "-o", compiler_.kind == CompilerKind::gcc ? "/proc/self/fd/1" : "-"});
  return run_process({.args = command, .stdin_fd = source, .stdout_fd = object}, environment_, cancel);
}

Result<std::string> DriverTools::compile(const Unit& unit, const CancelToken& cancel) {
  TD_TRY(Fd source, scratch_file("toroid-source"));
  TD_CHECK_OK(write_fd(source.get(), unit.text, "a file in memory"));
  lseek(source.get(), 0, SEEK_SET);
  TD_TRY(Fd object, scratch_file("toroid-object"));
  std::vector<std::string> all_flags = flags(unit);
  auto end = run_compiler(all_flags, source.get(), object.get(), cancel);
  // g++ 12 crashes on some loops of a few steps after it has copied their headers ("in compute_live_loop_exits"). It
  // changes no value, so the same source is compiled again without.
  if (compiler_.kind == CompilerKind::gcc && end &&
      end->error_text.find("internal compiler error") != std::string::npos) {
    all_flags.push_back("-fno-tree-ch");
    lseek(source.get(), 0, SEEK_SET);
    TD_TRY(object, scratch_file("toroid-object"));
    end = run_compiler(all_flags, source.get(), object.get(), cancel);
  }
  std::vector<std::string> driver = {compiler_.path};
  driver.insert(driver.end(), all_flags.begin(), all_flags.end());
  return finish(std::move(end), object.get(), unit.name, unit.text, driver, "compile");
}

Result<std::string> DriverTools::link(const LinkUnit& unit, const CancelToken& cancel) {
  TD_TRY(Fd objects, scratch_file("toroid-objects"));
  TD_CHECK_OK(write_fd(objects.get(), archive(unit.objects), "a file in memory"));
  TD_TRY(Fd script, scratch_file("toroid-symbols"));
  TD_CHECK_OK(write_fd(script.get(), unit.version_script, "a file in memory"));
  TD_TRY(Fd output, scratch_file("toroid-shared"));

  // The objects are file 3 of the linker, the version script is file 4.
  std::vector<std::string> command = {compiler_.path};
  std::vector<std::string> all_flags = flags(unit);
  all_flags.insert(all_flags.begin(), {"-Wl,--whole-archive", "/proc/self/fd/3", "-Wl,--no-whole-archive"});
  if (!unit.version_script.empty()) all_flags.push_back("-Wl,--version-script=/proc/self/fd/4");
  command.insert(command.end(), all_flags.begin(), all_flags.end());
  command.insert(command.end(), {"-o", "/proc/self/fd/1"});
  auto end = run_process({.args = command, .stdout_fd = output.get(), .more_fds = {objects.get(), script.get()}},
                         environment_, cancel);
  return finish(std::move(end), output.get(), unit.name, "", command, "link");
}

// The output's bytes, or a diagnostic with the command, what it said, and where the source was left.
Result<std::string> DriverTools::finish(Result<ProcessEnd> end, int output, const std::string& name,
                                        const std::string& source, const std::vector<std::string>& command,
                                        const char* what) {
  if (!end) return fail(std::move(end).error());
  Diagnostic trouble{Kind::compiler_failed, "", {}};
  if (end->exit_code == 0) {
    TD_TRY(std::string bytes, read_fd(output, name));
    if (bytes.starts_with("\x7f"
                          "ELF"))
      return bytes;
    trouble.text = format("cannot {} `{}`: the compiler said nothing and wrote no object", what, name);
  } else if (end->signal != 0) {
    trouble.text = format("cannot {} `{}`: the compiler was ended by signal {} ({})", what, name, end->signal,
                          strsignal(end->signal));
  } else {
    trouble.text = format("cannot {} `{}`: the compiler ended with status {}", what, name, end->exit_code);
  }
  std::string file = source.empty() ? "" : name + ".cpp";
  std::ranges::replace(file, '/', '_');
  std::vector<std::string> shown = command;
  if (!source.empty()) shown.insert(shown.end(), {"-c", file, "-o", file.substr(0, file.size() - 3) + "o"});
  trouble.details.push_back("command: " + shell_text(shown));
  std::vector<std::string> lines = split(trim(end->error_text), '\n');
  for (size_t i = 0; i < lines.size() && i < error_lines; ++i) {
    if (!lines[i].empty()) trouble.details.push_back(file.empty() ? lines[i] : replace_all(lines[i], "<stdin>", file));
  }
  if (lines.size() > error_lines) trouble.details.push_back(format("… {} more lines", lines.size() - error_lines));
  if (!options_.reproducer_parent.empty() && !source.empty()) {
    // Of its own, for its owner alone: a fixed name in /tmp could be another user's, or a link to anywhere.
    std::string folder = options_.reproducer_parent + "/toroid-failed-compile-XXXXXX";
    Status saved;
    if (::mkdtemp(folder.data()) == nullptr)
      saved =
          fail(Kind::io, "cannot create a folder in `{}`: {}", options_.reproducer_parent, system_error_text(errno));
    if (saved) saved = write_file_atomic(folder + "/" + file, source);
    if (saved)
      saved = write_file_atomic(folder + "/" + file + ".sh",
                                "#!/bin/sh\ncd \"$(dirname \"$0\")\" && " + shell_text(shown) + "\n", false, 0755);
    trouble.details.push_back(saved ? format("to run it again: {}/{}.sh", folder, file)
                                    : format("the source could not be saved: {}", saved.error().text));
  }
  return fail(std::move(trouble));
}

}  // namespace

std::vector<std::string> kernel_flags(CompilerKind kind) {
  std::vector<std::string> flags = {
      "-O2",
      "-std=c++17",
      // The sources write each fused multiply-add as one; a compiler that fuses others by itself changes results.
      "-ffp-contract=off",
      // sqrt and kin as instructions: nobody reads errno.
      "-fno-math-errno",
      // Values stay IEEE's; only the exception flags, which nobody reads, are given up. It is clang's default, and g++
      // turns branches into selects only with it.
      "-fno-trapping-math",
      // PyTorch's integers wrap around.
      "-fwrapv",
      // The arena holds values of one type after values of another.
      "-fno-strict-aliasing",
      // No exceptions, no type names, no unwind tables, no stack guards, no jump pads: code of leaf functions only.
      "-fno-exceptions",
      "-fno-rtti",
      "-fno-asynchronous-unwind-tables",
      "-fno-unwind-tables",
      "-fno-stack-protector",
      "-fcf-protection=none",
      // For a shared object that exports a handful of names and calls libc through its table.
      "-fPIC",
      "-fvisibility=hidden",
      "-fno-plt",
      "-ffunction-sections",
      // The same bytes from the same text: no compiler's name, no debug information. The source comes by standard
      // input, so no path can be in the object.
      "-fno-ident",
      "-g0",
      // Warnings are for people who write code.
      "-w",
  };
  if (kind == CompilerKind::gcc) {
    flags.insert(flags.end(), {"-frandom-seed=0", "-fmax-errors=20"});
  } else {
    flags.insert(flags.end(), {"-fno-addrsig", "-ferror-limit=20"});
  }
  return flags;
}

std::vector<std::vector<std::string>> parse_driver_plan(std::string_view text) {
  std::vector<std::vector<std::string>> commands;
  for (const std::string& line : split(text, '\n')) {
    // Commands begin with a blank; everything else is a report.
    if (line.size() < 2 || line[0] != ' ') continue;
    std::vector<std::string> words;
    std::string word;
    bool in_word = false, in_quotes = false;
    for (size_t i = 1; i < line.size(); ++i) {
      char c = line[i];
      if (c == '\\' && i + 1 < line.size()) {
        word += line[++i];
        in_word = true;
      } else if (c == '"') {
        in_quotes = !in_quotes;
        in_word = true;
      } else if (c == ' ' && !in_quotes) {
        if (in_word) words.push_back(std::move(word));
        word.clear();
        in_word = false;
      } else {
        word += c;
        in_word = true;
      }
    }
    if (in_word) words.push_back(std::move(word));
    if (!words.empty()) commands.push_back(std::move(words));
  }
  return commands;
}

std::unique_ptr<Tools> make_tools(Compiler compiler, ToolOptions options) {
  return std::make_unique<DriverTools>(std::move(compiler), std::move(options));
}

}  // namespace toroid::build
