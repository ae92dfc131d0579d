// The `toroid` program: flags to the functions of commands.h. Failures: `error: <kind>: <text>`, details indented, exit
// code 1.
#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "toroid/runtime.h"

namespace {

using namespace toroid;
using namespace toroid::cli;

int finish(Outcome outcome) {
  // A full disk shows when the last of the output leaves the buffers, or has shown before.
  std::cout.flush();
  errno = 0;
  if ((std::fflush(stdout) || std::ferror(stdout) || !std::cout) && outcome) {
    const std::string reason = errno ? std::string(": ") + std::strerror(errno) : "";
    outcome = Error{"io", "cannot write to standard output" + reason, {}};
  }
  if (outcome) return 0;
  std::fprintf(stderr, "%s\n", outcome.error().to_string().c_str());
  return 1;
}

// A path that is given must be one: an empty variable in a script is no wish for the default.
CLI::Option* path_option(CLI::App& command, const char* name, std::string& path, const char* text) {
  return command.add_option(name, path, text)->check([](const std::string& given) {
    return given.empty() ? std::string("an empty path") : std::string();
  });
}

void add_input_options(CLI::App& command, InputArgs& args) {
  command.add_option("package", args.package, "a package that `toroid compile` made")->required();
  command.add_option("--model", args.model, "which model, where the package holds several");
  command.add_option("--plugin", args.plugins, "a shared library with ops that the package calls; may be repeated");
  path_option(command, "--inputs", args.inputs, "arg0, arg1, … from a .npz or .safetensors file");
  command.add_flag("--random", args.random, "made-up inputs: floats are normal, integers 0");
  // Of an unsigned number CLI11 takes -1 too, as 2^64 - 1.
  command.add_option("--seed", args.seed, "for --random")->check([](const std::string& given) {
    return given.starts_with('-') ? "a seed below 0" : std::string();
  });
  command.add_option("--size", args.sizes, "sizes for --random, such as s0=128; else the export's own");
  command.add_option("--threads", args.threads, "at most so many threads; 0: as the package says")
      ->check(CLI::NonNegativeNumber);
}

void add_compile_options(CLI::App& command, CompileArgs& args) {
  CompileOptions& options = args.options;
  command.add_option("input", args.input, "an archive of torch.export.save, or a stage's text")->required();
  path_option(command, "-o,--output", args.output, "the package (or text) to write");
  command.add_option("--target", options.target, "BASE[+feature…], such as x86-64-v4+vnni+bf16; native: this machine");
  command.add_option("--threads", options.threads, "the package's default number of threads; 0: all there are")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--jobs", options.jobs, "compiler processes at once")->check(CLI::NonNegativeNumber);
  command.add_option("--model", options.model, "which model, where the archive holds several");
  command.add_option("--plugin", options.plugins, "a shared library with ops of your own; may be repeated");
  command.add_option("--compiler", options.compiler, "the C++ compiler to use");
  command.add_option("--cache", options.cache_folder, "where compiled pieces are kept");
  command.add_flag("--no-cache", args.no_cache, "keep nothing, reuse nothing");
  command.add_option("--deadline", options.deadline_seconds, "give up after so many seconds");
  command.add_option("--from", args.from, "the stage that the input is a text of")->group("stages");
  command.add_option("--to", args.to, "stop at this stage and write its text")->group("stages");
  path_option(command, "--weights", options.weights, "the archive that a stage text's weights come from")
      ->group("stages");
  path_option(command, "--dump", options.dump_folder, "write every stage's text and the sources there")
      ->group("stages");
  command.add_flag("--time", args.time, "what each step and compiled file took")->group("stages");
  command.add_option("--explain", options.explain, "say why: fuse, cache, guard")->delimiter(',')->group("stages");
  command.add_option("--skip", options.skip, "leave out optional steps")->delimiter(',')->group("stages");
  command.add_option("--stop-after", options.stop_after, "stop after so many steps")->group("stages");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compiles PyTorch programs (torch.export) to native code and runs them without PyTorch.", "toroid");
  app.set_version_flag("--version", std::string("toroid ") + version());
  app.require_subcommand(1);

  CompileArgs compile_args;
  auto environment = options_from_environment();
  if (environment) compile_args.options = *environment;
  RunArgs run_args;
  BenchArgs bench_args;
  InfoArgs info_args;
  std::string like, verify_package, verify_model;

  CLI::App* compile = app.add_subcommand("compile", "an exported program to a package");
  add_compile_options(*compile, compile_args);
  CLI::App* run = app.add_subcommand("run", "one call of a package");
  add_input_options(*run, run_args);
  path_option(*run, "--outputs", run_args.outputs, "out0, out1, … to a .npz or .safetensors file");
  CLI::App* bench = app.add_subcommand("bench", "how long a package takes");
  add_input_options(*bench, bench_args);
  bench->add_flag("--json", bench_args.json, "as JSON");
  bench->add_option("--seconds", bench_args.seconds, "for at least so long");
  bench->add_option("--runs", bench_args.runs, "exactly so many runs");
  CLI::App* info = app.add_subcommand("info", "what a package takes, gives and does");
  info->add_option("package", info_args.package)->required();
  info->add_option("--model", info_args.model, "which model, where the package holds several");
  info->add_option("--size", info_args.sizes, "sizes to count with, such as s0=128");
  info->add_flag("--json", info_args.json, "as JSON");
  CLI::App* ops = app.add_subcommand("ops", "the ops that can be compiled");
  ops->add_option("--like", like, "only those whose name resembles this");
  CLI::App* verify = app.add_subcommand("verify", "hashes a package against its manifest");
  verify->add_option("package", verify_package)->required();
  verify->add_option("--model", verify_model, "which model, where the package holds several");
  CLI::App* doctor = app.add_subcommand("doctor", "what this machine offers");

  try {
    app.parse(argc, argv);
    if (*compile) return finish(environment ? compile_command(compile_args) : Outcome(environment.error()));
    if (*run) return finish(run_command(run_args));
    if (*bench) return finish(bench_command(bench_args));
    if (*info) return finish(info_command(info_args));
    if (*ops) return finish(ops_command(like));
    if (*verify) return finish(verify_command(verify_package, verify_model));
    if (*doctor) return finish(doctor_command());
  } catch (const CLI::ParseError& e) {
    // Help and version are "errors" of code 0.
    if (e.get_exit_code() == 0) return app.exit(e), finish(Nothing{});
    if (const std::string word = argc > 1 ? argv[1] : ""; app.get_subcommands().empty() && !word.starts_with('-')) {
      std::vector<std::string> names;
      for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
      return finish(Error{"bad_option",
                          word.empty() ? "no command is given" : "there is no command `" + word + "`",
                          {"there are " + CLI::detail::join(names, ", ")}});
    }
    std::string text = e.what();
    while (!text.empty() && (text.back() == '\n' || text.back() == '.')) text.pop_back();
    if (size_t end = text.find('\n'); end != std::string::npos) text.resize(end);
    return finish(Error{"bad_option", text, {"hint: toroid --help"}});
  } catch (const nlohmann::json::exception& e) {
    // The only JSON here is that of packages and tensor files.
    std::string text = e.what();
    if (size_t end = text.find("] "); end != std::string::npos) text.erase(0, end + 2);
    return finish(Error{"bad_file", "the package's manifest or report has a field of another type: " + text, {}});
  } catch (const std::bad_alloc&) {
    return finish(Error{"out_of_memory", "out of memory", {}});
  } catch (const std::exception& e) {
    return finish(Error{"internal", e.what(), {}});
  }
  return 0;
}
