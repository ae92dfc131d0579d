// The C++ compiler of this machine: which program, which kind, and an identity for cache keys.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "target/target.h"

namespace toroid {

struct Compiler {
  CompilerKind kind = CompilerKind::gcc;
  std::string path;     // absolute; links stay, since a driver goes by the name it is called by
  std::string version;  // first line of `--version`
  // Resolved path, version and a hash of the binary's size and time: changes when the compiler does.
  std::string identity;
};

// `wanted` is a path or a program name; empty: the first of g++, g++-15 … g++-12, clang++, clang++-21 … clang++-16, c++
// that runs.
// Kind::compiler_failed says what was looked for, where, and how to install one.
Result<Compiler> find_compiler(const std::string& wanted, const std::string& search_path);

// Names, size and time of a program's file: part of identities. Empty where there is no such file.
std::string file_identity(const std::string& path);

}  // namespace toroid
