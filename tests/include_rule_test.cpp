// Holds every #include of the sources against the table of folders (docs/design.md): a stage may not know a later one.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

// What a folder may include beside its own files; what those may include, it may too. `include` is include/toroid/.
const std::map<std::string, Names> table = {
    {"base", {}},
    {"sym", {"base"}},
    {"target", {"base"}},
    {"graph", {"sym"}},
    // A loop program carries the signature and weights of the graph it came from.
    {"loop", {"graph"}},
    {"ops", {"graph", "loop"}},
    {"import", {"ops"}},
    {"lower", {"ops"}},
    {"fuse", {"loop", "target"}},
    {"plan", {"loop"}},
    {"emit", {"plan", "target"}},
    {"build", {"target"}},
    {"package", {"base"}},
    {"interp", {"ops"}},
    {"driver",
     {"base", "sym", "target", "graph", "loop", "ops", "import", "lower", "fuse", "plan", "emit", "build", "package",
      "interp", "include"}},
    {"runtime", {"include"}},
    {"include", {}},
    {"cli", {"include"}},
    {"python", {"include"}},
};

// The contract between compiler, model and runtime, and the packing of weights that compiler and runtime share.
const std::map<std::string, Names> runtime_headers = {
    {"model_abi.h", {"emit", "package", "driver", "interp"}},
    {"library.h", {"interp"}},
    {"plugins.h", {"interp", "ops"}},
    {"recipe.h", {"plan", "emit", "package", "driver"}},
    {"pack.h", {"package", "driver"}},
    {"convert.h", {"package", "driver"}},
    {"sha256.h", {"package", "build", "driver"}},
    {"weights_hash.h", {"package"}},
};

// Libraries, by the beginning of the name in <>, and the folders that may know them.
const std::map<std::string, Names> libraries = {
    {"fmt/", {"base"}},
    {"xxhash.h", {"base", "package", "runtime", "python"}},
    {"simdjson.h", {"import"}},
    {"minizip/", {"import", "package", "cli"}},
    {"zlib.h", {"import", "package", "cli"}},
    {"nlohmann/", {"runtime", "cli", "driver", "package"}},
    {"CLI/", {"cli"}},
    {"nanobind/", {"python"}},
    {"Eigen/", {"runtime"}},
    {"unsupported/Eigen/", {"runtime"}},
};

// Written into the build folder by CMake.
const std::set<std::string> generated = {"wrapper_abi.inc", "prelude_special.inc", "prelude_routines.inc"};

const fs::path root = TOROID_SOURCE_DIR;

bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::set<std::string> reachable(const std::string& folder) {
  std::set<std::string> seen = {folder};
  for (Names open = {folder}; !open.empty();) {
    std::string next = open.back();
    open.pop_back();
    for (const std::string& more : table.at(next)) {
      if (seen.insert(more).second) open.push_back(more);
    }
  }
  return seen;
}

// src/emit/cpu/tile.h -> emit; runtime/pack.h -> runtime; include/toroid/runtime.h -> include.
std::string folder_of(const fs::path& file) {
  const fs::path path = fs::relative(file, root);
  auto part = path.begin();
  if (*part == "src") ++part;
  return part->string();
}

// Where the compiler finds a quoted include.
fs::path resolve(const fs::path& from, const std::string& name) {
  for (const fs::path& base : {from.parent_path(), root / "src", root / "include", root / "runtime"}) {
    if (fs::exists(base / name)) return fs::weakly_canonical(base / name);
  }
  return {};
}

std::string check_quoted(const fs::path& file, const std::string& name) {
  if (generated.contains(name)) return {};
  std::string folder = folder_of(file);
  fs::path found = resolve(file, name);
  if (found.empty()) return "is not in the tree";
  std::string other = folder_of(found);
  if (other == "runtime" && folder != "runtime") {
    auto row = runtime_headers.find(found.filename().string());
    if (row == runtime_headers.end() || !contains(row->second, folder)) return "is the runtime's own";
    return {};
  }
  return reachable(folder).contains(other) ? "" : "is in " + other + "/, which " + folder + "/ may not know";
}

std::string check_library(const std::string& folder, const std::string& name) {
  for (const auto& [prefix, folders] : libraries) {
    if (name.starts_with(prefix)) return contains(folders, folder) ? "" : "is not for " + folder + "/";
  }
  bool system = name.find('/') == std::string::npos || name.starts_with("sys/") || name.starts_with("linux/") ||
                name.starts_with("gnu/");
  return system ? "" : "belongs to a library that the table does not name";
}

std::vector<fs::path> sources() {
  std::vector<fs::path> out;
  for (const char* top : {"src", "runtime", "cli", "python", "include"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      std::string name = entry.path().filename().string();
      bool ours = name.ends_with(".cpp") || name.ends_with(".h") || name.ends_with(".c");
      // Tests may look anywhere.
      bool test = name.find("_test.") != std::string::npos || name.find("_testing.") != std::string::npos;
      if (ours && !test) out.push_back(entry.path());
    }
  }
  return out;
}

}  // namespace

TEST(IncludeRule, EveryIncludeIsAllowedByTheTable) {
  std::vector<fs::path> files = sources();
  EXPECT_GT(files.size(), 20u);
  for (const fs::path& file : files) {
    std::string folder = folder_of(file);
    ASSERT_TRUE(table.contains(folder)) << file << " is in a folder that the table does not name";
    std::ifstream in(file);
    int number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (!line.starts_with("#include ")) continue;
      size_t start = line.find_first_of("\"<"), end = line.find_last_of("\">");
      ASSERT_LT(start, end) << file << ":" << number;
      std::string name = line.substr(start + 1, end - start - 1);
      std::string wrong = line[start] == '"' ? check_quoted(file, name) : check_library(folder, name);
      EXPECT_EQ(wrong, "") << fs::relative(file, root) << ":" << number << ": `" << name << "` " << wrong;
    }
  }
}

TEST(IncludeRule, TheTableItselfHasNoCycle) {
  for (const auto& [folder, list] : table) {
    for (const std::string& other : list) EXPECT_FALSE(reachable(other).contains(folder)) << folder << ", " << other;
  }
}
