// One source text to an object, some objects to a shared object, both as bytes in memory; nothing is left on disk.
// `Tools` is an interface so that the job graph is tested without a compiler.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "target/compiler.h"
#include "target/target.h"

namespace toroid::build {

// What a compilation is made of: all of it is in the cache key, and nothing else reaches the compiler.
struct Unit {
  std::string name;  // for messages, times and explanations; not in the key
  std::string text;  // C++, without includes
  Target target;
  std::vector<std::string> flags;  // beyond kernel_flags(), seldom needed
};

// Objects to one shared object.
struct LinkUnit {
  std::string name;
  // ELF objects, in order. Two with the same bytes are linked once.
  std::vector<std::shared_ptr<const std::string>> objects;
  std::string version_script;  // which symbols are exported; empty: all that are visible
  std::vector<std::string> libraries = {"-lstdc++", "-lm", "-lc"};
};

class Tools {
 public:
  virtual ~Tools() = default;
  // What compiles: part of every key.
  virtual std::string identity() = 0;
  // Every flag of a compilation for this unit, in order.
  virtual std::vector<std::string> flags(const Unit& unit) = 0;
  virtual std::vector<std::string> flags(const LinkUnit& unit) = 0;
  // Called from several threads at once. Failures: Kind::compiler_failed with the command and what it said, cancelled,
  // io.
  virtual Result<std::string> compile(const Unit& unit, const CancelToken& cancel) = 0;
  virtual Result<std::string> link(const LinkUnit& unit, const CancelToken& cancel) = 0;
};

struct ToolOptions {
  // In a new folder here the source and the command of a failed compilation are left; empty: nowhere.
  std::string reproducer_parent;
  // False: always through the compiler's driver (one process more for each object). For tests.
  bool direct = true;
};

// g++ or clang++ of this machine.
std::unique_ptr<Tools> make_tools(Compiler compiler, ToolOptions options = {});

// The flags of all generated code, without the target's; each with its reason in tools.cpp.
std::vector<std::string> kernel_flags(CompilerKind kind);

// The programs behind a driver, as `driver -### …` prints them: one list of words for each command line.
std::vector<std::vector<std::string>> parse_driver_plan(std::string_view text);

}  // namespace toroid::build
