// `toroid compile`: an archive or a stage's text to a package or a later stage's text.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>

#include "commands.h"
#include "tensor_file.h"

namespace toroid::cli {

namespace {

// A line that rewrites itself; on a terminal only, and only for compilations that take a while.
class ProgressLine {
 public:
  explicit ProgressLine(bool on) : on_(on) {}
  ~ProgressLine() { clear(); }
  void show(const Progress& progress) {
    if (!on_) return;
    std::string text = progress.step;
    if (progress.total > 1) text += " " + std::to_string(progress.done) + "/" + std::to_string(progress.total);
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
    shown_ = true;
  }
  void clear() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
    shown_ = false;
  }

 private:
  bool on_, shown_ = false;
};

Outcome write_text(const std::string& path, const std::string& text) {
  if (path.empty() || path == "-") {
    std::cout << text;
    return Nothing{};
  }
  // A text may go to a terminal or into a pipe too.
  struct stat status;
  if (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
    std::ofstream out(path, std::ios::binary);
    out << text;
    out.close();
    return out ? Outcome(Nothing{}) : Error{"io", "cannot write `" + path + "`", {}};
  }
  auto file = OutputFile::create(path);
  if (!file) return file.error();
  std::ofstream out(file->temporary(), std::ios::binary);
  out << text;
  out.close();
  if (!out) return Error{"io", "cannot write `" + path + "`", {}};
  return file->commit();
}

// m.pt2 -> m.toroid.pt2
std::string default_output(std::string input) {
  if (input.ends_with(".pt2")) input.resize(input.size() - 4);
  return input + ".toroid.pt2";
}

}  // namespace

Outcome compile_command(CompileArgs args) {
  ProgressLine line(isatty(STDERR_FILENO) && args.to.empty());
  args.options.progress = [&](const Progress& progress) { line.show(progress); };
  if (args.no_cache) args.options.cache_folder.clear();
  if (args.time) {
    args.options.time = [&](const StepTime& step) {
      line.clear();
      std::fprintf(stderr, "%9.1f ms  %s%s%s\n", step.seconds * 1e3, step.detail.empty() ? "" : "    ",
                   step.step.c_str(), step.detail.empty() ? "" : (" " + step.detail).c_str());
    };
  }
  args.options.warning = [&](std::string_view text) {
    line.clear();
    std::fprintf(stderr, "warning: %s\n", printable(text).c_str());
  };
  args.options.explanation = [&](std::string_view topic, std::string_view text) {
    line.clear();
    std::fprintf(stderr, "%.*s: %.*s\n", static_cast<int>(topic.size()), topic.data(), static_cast<int>(text.size()),
                 text.data());
  };
  if (args.to.empty()) args.options.output = args.output.empty() ? default_output(args.input) : args.output;
  CLI_TRY(CompileResult result, compile_stages(args.input, args.from, args.to, args.options));
  line.clear();
  if (!result.package) return write_text(args.output, result.text);
  std::cout << args.options.output << ": " << result.package->summary() << "\n";
  return Nothing{};
}

}  // namespace toroid::cli
