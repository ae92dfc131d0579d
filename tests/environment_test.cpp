// Holds docs/environment.md against the sources: every variable that is read stands there, and every one there is read.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> matches(const std::string& text, const std::regex& pattern) {
  std::set<std::string> names;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) names.insert((*at)[1]);
  return names;
}

TEST(Environment, ThePageListsWhatTheSourcesRead) {
  const fs::path root = TOROID_SOURCE_DIR;
  // Names in quotes, since some are read through a function; what stands in a call that reads; what a shell expands.
  const std::regex quoted(R"re(["'](TOROID_[A-Z_]+)["'])re"),
      called(R"re((?:getenv|variable|environ\.get)\(["']([A-Z_]+)["'])re"),
      indexed(R"re(environ\[["']([A-Z_]+)["']\]( *=)?)re"), expanded(R"re(\$\{([A-Z_]+):?-)re"),
      kept(R"re("([A-Z_]+)=")re");
  // Fields of a package's metadata.
  const std::set<std::string> others = {"TOROID_VERSION", "TOROID_TARGET"};
  std::map<std::string, std::string> used;  // and where
  std::set<std::string> libraries;          // files of the libraries that read the environment
  auto look = [&](const fs::path& path) {
    // std::regex is slow, and few lines can match.
    std::string text;
    std::ifstream in(path, std::ios::binary);
    for (std::string line; std::getline(in, line);)
      for (const char* sign : {"TOROID_", "env", "variable(", "${"})
        if (line.find(sign) != line.npos) {
          text += line + "\n";
          break;
        }
    const std::string name = fs::relative(path, root).string();
    for (const std::regex* pattern : {&quoted, &called, &indexed, &expanded})
      for (const std::string& variable : matches(text, *pattern))
        if (!others.contains(variable)) used.emplace(variable, name);
    const bool library = name.starts_with("src/") || name.starts_with("runtime/") || name.starts_with("python/native/");
    if (!library || name.find("_test") != name.npos) return;
    if (std::regex_search(text, std::regex("getenv|\\benviron\\b"))) libraries.insert(name);
  };
  look(root / "dev");
  for (const char* folder : {"cli", "src", "runtime", "include", "python", "scripts", "tests", "examples"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string ending = entry.path().extension();
      const bool source = ending == ".cpp" || ending == ".h" || ending == ".c" || ending == ".py" || ending == ".sh";
      if (source && entry.path().filename() != "environment_test.cpp") look(entry.path());
    }
  }
  for (const std::string& variable : matches(read(root / "src/base/process.cpp"), kept))
    if (variable != "LC_ALL") used.emplace(variable, "src/base/process.cpp");

  const std::string page = read(root / "docs/environment.md");
  std::set<std::string> listed;
  for (const std::string& row : matches(page, std::regex(R"re((?:^|\n)\| (`[^|]*) \|)re")))
    for (const std::string& name : matches(row, std::regex("`([A-Z_]+)`"))) listed.insert(name);

  EXPECT_GE(used.size(), 12u);
  for (const auto& [variable, where] : used)
    EXPECT_TRUE(listed.contains(variable)) << variable << " of " << where << " is not in docs/environment.md";
  for (const std::string& variable : listed)
    EXPECT_TRUE(used.contains(variable)) << variable << " is in docs/environment.md, and nothing reads it";
  // The page says so.
  EXPECT_EQ(libraries, (std::set<std::string>{"runtime/plugins.cpp", "src/base/process.cpp"}));
}

}  // namespace
