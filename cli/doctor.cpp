// `toroid ops`, `toroid verify` and `toroid doctor`.
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>

#include "model.h"

namespace toroid::cli {

Outcome ops_command(const std::string& like) {
  for (const std::string& name : op_names(like)) std::cout << name << "\n";
  return Nothing{};
}

Outcome verify_command(const std::string& package, const std::string& model) {
  CLI_TRY(Model loaded, Model::load(package, model, 0));
  if (int status = toroid_verify(loaded.get())) return runtime_error(status);
  std::cout << package << ": every member is as it was written\n";
  return Nothing{};
}

namespace {

void row(const char* name, const std::string& text) { std::printf("%-10s %s\n", name, text.c_str()); }

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("model name")) continue;
    size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string megabytes(int64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

// The nearest folder above `path` that exists: what a first use would create the cache in.
std::string existing_parent(std::string path) {
  while (!path.empty() && access(path.c_str(), F_OK)) path.resize(std::min(path.find_last_of('/'), path.size()));
  return path.empty() ? "/" : path;
}

std::string cache_text(const CompileOptions& options) {
  if (options.cache_folder.empty()) return "off";
  std::string text =
      options.cache_folder + ", " + megabytes(cache_size(options)) + " of at most " + megabytes(options.cache_bytes);
  std::string parent = existing_parent(options.cache_folder);
  struct statvfs room;
  if (!statvfs(parent.c_str(), &room)) {
    text += ", " + megabytes(static_cast<int64_t>(room.f_bavail) * static_cast<int64_t>(room.f_frsize)) + " free";
  }
  if (access(parent.c_str(), W_OK)) text += ", NOT WRITABLE";
  return text;
}

}  // namespace

Outcome doctor_command() {
  CLI_TRY(CompileOptions options, options_from_environment());
  std::vector<Error> wrong;
  row("toroid", std::string(version()) + ", runtime " + toroid_version());
  row("glibc", gnu_get_libc_version());
  row("cpu", cpu_name());
  auto target = native_target();
  row("target", target ? *target : target.error().text);
  if (!target) wrong.push_back(target.error());
  row("threads", std::to_string(toroid_pool_threads()) + " (affinity and cgroup quota; cpu.max: " +
                     (first_line("/sys/fs/cgroup/cpu.max").empty() ? "none" : first_line("/sys/fs/cgroup/cpu.max")) +
                     ")");
  auto compiler = describe_compiler(options);
  row("compiler", compiler ? *compiler : compiler.error().text);
  if (!compiler) wrong.push_back(compiler.error());
  row("cache", cache_text(options));
  if (wrong.empty()) return Nothing{};
  Error error = wrong.front();
  for (size_t i = 1; i < wrong.size(); ++i) error.details.push_back(wrong[i].text);
  return error;
}

}  // namespace toroid::cli
