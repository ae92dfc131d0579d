// Environment variables to options. docs/environment.md lists them all.
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <string>

#include "commands.h"

namespace toroid::cli {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string cache_folder() {
  if (std::string folder = variable("TOROID_CACHE"); !folder.empty()) return folder == "off" ? "" : folder;
  if (std::string folder = variable("XDG_CACHE_HOME"); !folder.empty()) return folder + "/toroid";
  if (std::string home = variable("HOME"); !home.empty()) return home + "/.cache/toroid";
  return "/tmp/toroid-cache-" + std::to_string(getuid());
}

}  // namespace

Expected<CompileOptions> options_from_environment() {
  CompileOptions options;
  options.cache_folder = cache_folder();
  if (std::string megabytes = variable("TOROID_CACHE_MB"); !megabytes.empty()) {
    int64_t number = 0;
    auto [end, bad] = std::from_chars(megabytes.data(), megabytes.data() + megabytes.size(), number);
    if (bad != std::errc() || end != megabytes.data() + megabytes.size() || number <= 0 || number > INT64_MAX >> 20)
      return Error{"bad_option", "TOROID_CACHE_MB is `" + megabytes + "`, expected a number of MiB above 0", {}};
    options.cache_bytes = number << 20;
  }
  options.compiler = variable("TOROID_CXX");
  options.launcher = variable("TOROID_LAUNCHER");
  if (std::string path = variable("PATH"); !path.empty()) options.search_path = path;
  if (std::string folder = variable("TMPDIR"); !folder.empty()) options.temporary_folder = folder;
  return options;
}

}  // namespace toroid::cli
