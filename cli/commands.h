// The commands of `toroid`: each takes its parsed options and fails with an Error, which main prints.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "toroid/compiler.h"

namespace toroid::cli {

// CLI_TRY(Tensors inputs, read_tensors(path));   declares `inputs`, or returns the Error
#define CLI_CONCAT_(a, b) a##b
#define CLI_CONCAT(a, b) CLI_CONCAT_(a, b)
#define CLI_TRY_AS_(temporary, declaration, ...) \
  auto temporary = (__VA_ARGS__);                \
  if (!temporary) return temporary.error();      \
  declaration = std::move(*temporary)
#define CLI_TRY(declaration, ...) CLI_TRY_AS_(CLI_CONCAT(cli_try_, __LINE__), declaration, __VA_ARGS__)
#define CLI_CHECK(...) \
  if (auto cli_status = (__VA_ARGS__); !cli_status) return cli_status.error()

struct CompileArgs {
  std::string input, output, from, to;
  CompileOptions options;
  bool time = false;
  bool no_cache = false;
};
Outcome compile_command(CompileArgs args);

// Where `run` and `bench` take their inputs from.
struct InputArgs {
  std::string package, model, inputs;
  std::vector<std::string> plugins;
  bool random = false;
  uint64_t seed = 0;
  std::vector<std::string> sizes;  // "s0=128"
  int threads = 0;
};
struct RunArgs : InputArgs {
  std::string outputs;
};
Outcome run_command(const RunArgs& args);

struct BenchArgs : InputArgs {
  bool json = false;
  double seconds = 2;  // at least this long, and at least 5 runs
  int runs = 0;        // exactly so many, where it is not 0
};
Outcome bench_command(const BenchArgs& args);

struct InfoArgs {
  std::string package, model;
  std::vector<std::string> sizes;
  bool json = false;
};
Outcome info_command(const InfoArgs& args);
Outcome ops_command(const std::string& like);
Outcome verify_command(const std::string& package, const std::string& model);
Outcome doctor_command();

// The environment, read here and nowhere else in the program: TOROID_CACHE, TOROID_CXX, … (docs/environment.md).
Expected<CompileOptions> options_from_environment();

}  // namespace toroid::cli
