// Runs stage-text tests: files with a command, an input, and what must stand in the output.
//   stage_text --toroid build/bin/toroid [--bless] FILE-OR-FOLDER...
//
// A file, up to a line `--- expect`, is the input, comments included. Its line `# run: toroid compile --from=… --to=…`
// is the command; the input file's path is added at its end. Below `--- expect` stand lines that must appear in the
// output, one after another, anywhere; a line `...` allows a gap. A file named fail_*.toroid must fail: a comment
// `# error: TEXT` stands at the end of the guilty line, and the failure must hold TEXT and name that line; on a line of
// its own (for a failure without a place) it must only hold TEXT.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

std::string trimmed(std::string_view text) {
  size_t start = text.find_first_not_of(" \t\r"), end = text.find_last_not_of(" \t\r");
  return start == std::string_view::npos ? "" : std::string(text.substr(start, end - start + 1));
}

Lines lines_of(const std::string& text) {
  Lines lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

struct Test {
  std::string command;
  std::string input;
  Lines expected;
  bool has_expectation = false;
  // fail_*: the text, and the line that must be named (0: none).
  std::string error;
  size_t error_line = 0;
};

Test parse(const std::string& text) {
  Test test;
  bool in_expectation = false;
  size_t number = 0;
  for (const std::string& line : lines_of(text)) {
    ++number;
    if (line == "--- expect") {
      in_expectation = test.has_expectation = true;
    } else if (in_expectation) {
      test.expected.push_back(line);
    } else {
      test.input += line + "\n";
      if (line.starts_with("# run: ")) test.command = trimmed(line.substr(7));
      if (size_t at = line.find("# error: "); at != std::string::npos) {
        test.error = trimmed(line.substr(at + 9));
        test.error_line = trimmed(line.substr(0, at)).empty() ? 0 : number;
      }
    }
  }
  while (!test.expected.empty() && trimmed(test.expected.back()).empty()) test.expected.pop_back();
  return test;
}

struct Output {
  int status = -1;
  std::string out, err;
};

Output run(const std::string& command, const fs::path& folder) {
  fs::path out = folder / "out", err = folder / "err";
  int status = std::system((command + " >" + quoted(out) + " 2>" + quoted(err)).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, read_file(out), read_file(err)};
}

// Where `chunk` stands in `lines` at or after `start` (compared without outer blanks), or npos.
size_t find_chunk(const Lines& lines, const Lines& chunk, size_t start) {
  for (size_t at = start; at + chunk.size() <= lines.size(); ++at) {
    bool same = true;
    for (size_t i = 0; i < chunk.size() && same; ++i) same = trimmed(lines[at + i]) == trimmed(chunk[i]);
    if (same) return at;
  }
  return std::string::npos;
}

// Empty when all expected lines are there, else the first chunk that is not.
std::string missing(const std::string& output, const Lines& expected) {
  Lines lines = lines_of(output), chunk;
  size_t position = 0;
  for (size_t i = 0; i <= expected.size(); ++i) {
    if (i < expected.size() && trimmed(expected[i]) != "...") {
      chunk.push_back(expected[i]);
      continue;
    }
    if (chunk.empty()) continue;
    size_t at = find_chunk(lines, chunk, position);
    if (at == std::string::npos) {
      std::string text;
      for (const std::string& line : chunk) text += line + "\n";
      return text;
    }
    position = at + chunk.size();
    chunk.clear();
  }
  return {};
}

std::string check_failure(const Test& test, const Output& got) {
  if (test.error.empty()) return "a fail_ test needs a line with `# error: …`\n";
  if (got.status != 1) return "exit code " + std::to_string(got.status) + ", expected 1\n" + got.out + got.err;
  if (!got.err.starts_with("error: ")) return "the first line does not begin with `error: `\n" + got.err;
  if (got.err.find(test.error) == std::string::npos) return "expected `" + test.error + "` in\n" + got.err;
  std::string place = "line " + std::to_string(test.error_line) + ":";
  if (test.error_line && got.err.find(place) == std::string::npos) return "expected `" + place + "` in\n" + got.err;
  return {};
}

// Runs one file; returns what is wrong, or nothing.
std::string run_test(const fs::path& file, const std::string& toroid, bool bless) {
  std::string text = read_file(file);
  Test test = parse(text);
  if (!test.command.starts_with("toroid ")) return "no line `# run: toroid …`\n";

  std::string pattern = (fs::temp_directory_path() / "stage_text.XXXXXX").string();
  if (!mkdtemp(pattern.data())) return "no temporary folder\n";
  fs::path folder = pattern, input = folder / "input";
  write_file(input, test.input);
  Output got = run(quoted(toroid) + test.command.substr(6) + " " + quoted(input), folder);
  fs::remove_all(folder);

  if (file.filename().string().starts_with("fail_")) return check_failure(test, got);
  if (got.status != 0) return "exit code " + std::to_string(got.status) + "\n" + got.err;
  std::string wrong = missing(got.out, test.expected);
  if (wrong.empty() && test.has_expectation && !test.expected.empty()) return {};
  if (bless) {
    size_t cut = test.has_expectation ? text.find("--- expect\n") : text.size();
    write_file(file, text.substr(0, cut) + "--- expect\n" + got.out);
    std::cout << "blessed " << file.string() << "\n";
    return {};
  }
  if (test.expected.empty()) return "nothing is expected below `--- expect`\n";
  return "expected\n" + wrong + "in the output\n" + got.out;
}

}  // namespace

int main(int argc, char** argv) {
  std::string toroid;
  bool bless = false;
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    if (arg == "--toroid" && i + 1 < argc) {
      toroid = argv[++i];
    } else if (arg == "--bless") {
      bless = true;
    } else if (fs::is_directory(arg)) {
      for (const auto& entry : fs::recursive_directory_iterator(arg)) {
        if (entry.path().extension() == ".toroid") files.push_back(entry.path());
      }
    } else {
      files.push_back(arg);
    }
  }
  std::sort(files.begin(), files.end());
  if (toroid.empty() || files.empty()) {
    std::cerr << "usage: stage_text --toroid PROGRAM [--bless] FILE-OR-FOLDER...\n";
    return 1;
  }
  int failed = 0;
  for (const fs::path& file : files) {
    std::string wrong = run_test(file, toroid, bless);
    if (wrong.empty()) continue;
    ++failed;
    std::cout << "FAILED " << file.string() << "\n" << wrong << "\n";
  }
  std::cout << files.size() - failed << " of " << files.size() << " stage texts as expected\n";
  return failed ? 1 : 0;
}
