// Looks for g++ or clang++ and asks it for its version.
#include "target/compiler.h"

#include <sys/stat.h>

#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "base/process.h"

namespace toroid {
namespace {

constexpr const char* usual_names[] = {"g++",        "g++-15",     "g++-14",     "g++-13",     "g++-12",
                                       "clang++",    "clang++-21", "clang++-20", "clang++-19", "clang++-18",
                                       "clang++-17", "clang++-16", "c++"};

Result<Compiler> ask(const std::string& path) {
  TD_TRY(Fd answer, scratch_file("toroid-version"));
  CancelToken never;
  // A program that only waits would keep us forever.
  CancelToken limit(&never, CancelToken::Clock::now() + std::chrono::seconds(20));
  TD_TRY(ProcessEnd end,
         run_process({.args = {path, "--version"}, .stdout_fd = answer.get()}, tool_environment(), limit));
  TD_TRY(std::string text, read_fd(answer.get(), path));
  if (end.exit_code != 0)
    return fail(Kind::compiler_failed, "`{} --version` ended with status {}", path, end.exit_code);
  Compiler compiler;
  compiler.path = path;
  compiler.version = split(text, '\n')[0];
  if (text.find("clang") != std::string::npos) {
    compiler.kind = CompilerKind::clang;
  } else if (text.find("Free Software Foundation") != std::string::npos || text.find("GCC") != std::string::npos) {
    compiler.kind = CompilerKind::gcc;
  } else {
    return fail(Kind::compiler_failed, "`{}` is neither g++ nor clang++: it calls itself `{}`", path, compiler.version);
  }
  compiler.identity = format("{} [{}]", compiler.version, file_identity(path));
  return compiler;
}

}  // namespace

std::string file_identity(const std::string& path) {
  std::error_code error;
  std::string real = std::filesystem::canonical(path, error).string();
  struct stat status;
  if (error || stat(real.c_str(), &status) != 0) return "";
  Hash128 hash = Hasher()
                     .add(static_cast<int64_t>(status.st_size))
                     .add(static_cast<int64_t>(status.st_mtim.tv_sec))
                     .add(static_cast<int64_t>(status.st_mtim.tv_nsec))
                     .finish();
  return real + " " + hash.hex();
}

Result<Compiler> find_compiler(const std::string& wanted, const std::string& search_path) {
  std::vector<std::string> names;
  if (!wanted.empty()) {
    names.push_back(wanted);
  } else {
    names.assign(std::begin(usual_names), std::end(usual_names));
  }
  std::vector<std::string> refused;
  bool asked = false;
  for (const std::string& name : names) {
    std::optional<std::string> path = find_executable(name, search_path);
    if (!path) continue;
    // Children run in another folder.
    std::error_code error;
    std::filesystem::path absolute = std::filesystem::absolute(*path, error);
    auto compiler = ask(error ? *path : absolute.string());
    if (compiler) return compiler;
    asked |= compiler.error().kind != Kind::io;
    refused.push_back(compiler.error().text);
  }
  // None could even be started: what is missing are processes or files, not a compiler.
  if (!asked && !refused.empty()) return fail(Diagnostic{Kind::io, refused[0], {refused.begin() + 1, refused.end()}});
  Diagnostic none{Kind::compiler_failed,
                  wanted.empty() ? "no C++ compiler found" : format("no C++ compiler at `{}`", wanted),
                  std::move(refused)};
  none.details.push_back("looked for: " + join(names, " "));
  if (wanted.find('/') == std::string::npos) none.details.push_back("in: " + search_path);
  none.details.push_back("hint: install one (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++)");
  return fail(std::move(none));
}

}  // namespace toroid
