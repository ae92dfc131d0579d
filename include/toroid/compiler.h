// libtoroid: compiles a PyTorch program to a package that libtoroid_rt (runtime.h) or PyTorch loads and runs. Needs
// neither PyTorch nor Python, but a C++ compiler (g++ 12 or later, or clang 19 or later) where it runs.
//
//   auto package = toroid::compile("bert.pt2");
//   if (!package) return complain(package.error().to_string());
//   package->save("bert.toroid.pt2");
//
// Every function may be called from many threads at once. Nothing is printed, no exception comes out, no environment
// variable is read, and no state is kept beside the cache folder.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "toroid/error.h"

namespace toroid {

class GraphBuilder;  // toroid/graph_builder.h
class CancelToken;

// A wish to stop a compilation, given from another thread. Copies share the wish.
class TOROID_CXX_API Cancellation {
 public:
  Cancellation();
  void cancel();
  bool cancelled() const;

 private:
  friend struct CompileJob;
  std::shared_ptr<CancelToken> token_;
};

// How far a compilation is: `done` of `total` pieces of the step called `step` ("import", "build", …).
struct Progress {
  std::string step;
  int done = 0;
  int total = 0;
};

// What one step, or one compiled file, took. `detail` is empty for a step.
struct StepTime {
  std::string step;
  std::string detail;
  double seconds = 0;
};

struct CompileOptions {
  // `BASE[+feature…]`, such as x86-64-v3 or x86-64-v4+vnni+bf16; `native` is this machine, as such a list.
  std::string target = "native";
  // The package's default number of threads; 0 is all that the machine running it allows. Changes neither code nor
  // bits.
  int threads = 0;
  // How many compiler processes run at once; 0: one per core that this process may use.
  int jobs = 0;
  // Which model, where an archive holds several.
  std::string model;
  // The C++ compiler; empty: the first of g++, clang++ (and their numbered names) in `search_path`.
  std::string compiler;
  std::string search_path = "/usr/local/bin:/usr/bin:/bin";
  // A program put in front of the compiler: ccache, distcc, icecc.
  std::string launcher;
  // Compiled pieces are kept here for the next time; empty: nothing is kept. The folder is held below cache_bytes.
  std::string cache_folder;
  int64_t cache_bytes = int64_t{2} << 30;
  // Where temporary files go.
  std::string temporary_folder = "/tmp";
  // Seconds after which the compilation gives up; 0: never.
  double deadline_seconds = 0;
  Cancellation cancel;
  // Called now and then, one call at a time. What a function given here throws ends the compilation: Error `cancelled`.
  std::function<void(const Progress&)> progress;
  std::function<void(const StepTime&)> time;
  // Lines that say why: topics of `explain` are fuse, cache, guard.
  std::vector<std::string> explain;
  std::function<void(std::string_view topic, std::string_view line)> explanation;
  // What went less well than it should and yet fails nothing: a cache folder that cannot be written to. The summary has
  // it too.
  std::function<void(std::string_view line)> warning;
  // Every stage's text and the sources are written here: 01-import.graph, … Empty: nowhere.
  std::string dump_folder;
  // For finding faults: steps to leave out (optional ones only), and the number of steps after which to stop.
  std::vector<std::string> skip;
  int stop_after = 0;
  // Write the package straight to this file: whole or not at all, and not first to memory. A link is followed; what is
  // no regular file (a device, a pipe) is refused.
  std::string output;
  // Shared libraries with ops of the user's own (plugin.h), as load_plugin takes them.
  std::vector<std::string> plugins;
  // Where the input is a stage text: the archive that its weights' bytes come from.
  std::string weights;
};

// A compiled model in memory: the bytes of a .pt2 file.
class TOROID_CXX_API Package {
 public:
  // Where the bytes are and how many; they live as long as some copy of the Package.
  const void* data() const;
  size_t size() const;
  // Writes the file, whole or not at all.
  Outcome save(const std::string& path) const;
  // The target as an explicit list of features.
  const std::string& target() const;
  // What compiled it: "g++ 12.2.0".
  const std::string& compiler() const;
  // One line for people: sizes, kernels, what came from the cache.
  const std::string& summary() const;

  struct State;
  explicit Package(std::shared_ptr<const State> state);

 private:
  std::shared_ptr<const State> state_;
};

// From an archive that torch.export.save wrote.
TOROID_CXX_API Expected<Package> compile(const std::string& path, const CompileOptions& options = {});
// From a graph that a program has put together.
TOROID_CXX_API Expected<Package> compile(const GraphBuilder& graph, const CompileOptions& options = {});

// Parts of the road, by the names of its stages (stage_names): from an archive or a stage's text at `path` to the text
// of a later stage, or to a package. `from` empty: by the file's content; `to` empty: a package.
struct CompileResult {
  std::string text;                  // where `to` is a stage with a text form
  std::shared_ptr<Package> package;  // where it is not
};
TOROID_CXX_API Expected<CompileResult> compile_stages(const std::string& path, const std::string& from,
                                                      const std::string& to, const CompileOptions& options = {});

// The stages that have a text, in order: graph, … The names of the steps, in order: import, ….
TOROID_CXX_API std::vector<std::string> stage_names();
TOROID_CXX_API std::vector<std::string> step_names();

// The ops that have a row; those whose name holds `part`, nearest first, where it is not empty.
// Adds the ops of a plug-in (plugin.h) to those that this process can compile, as GraphBuilder wants before it meets
// one.
TOROID_CXX_API Outcome load_plugin(const std::string& path);
TOROID_CXX_API std::vector<std::string> op_names(const std::string& part = "");

// What `native` is here, and every target's base name.
TOROID_CXX_API Expected<std::string> native_target();
// "g++ 12.2.0 (/usr/bin/g++)": what these options would compile with.
TOROID_CXX_API Expected<std::string> describe_compiler(const CompileOptions& options = {});
// How many bytes the cache folder holds.
TOROID_CXX_API int64_t cache_size(const CompileOptions& options);

// The value of a size expression of a signature or report, such as `2*s0 + 1`, for given symbols.
using SymbolValues = std::vector<std::pair<std::string, int64_t>>;
TOROID_CXX_API Expected<int64_t> evaluate_size(const std::string& text, const SymbolValues& symbols);

// "0.1.0"
TOROID_CXX_API const char* version();

}  // namespace toroid
