// Finding a compiler: by name, by path, by search; and what is said when there is none.
#include "target/compiler.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace toroid {
namespace {

const std::string usual_path = "/usr/local/bin:/usr/bin:/bin";

struct CompilerTest : testing::Test {
  TempFolder folder = *TempFolder::create();
  std::string program(const std::string& name, const std::string& script) {
    std::string path = folder.path() + "/" + name;
    EXPECT_TRUE(write_file_atomic(path, "#!/bin/sh\n" + script + "\n", false, 0755));
    return path;
  }
};

constexpr const char* gnu = "echo 'g++ (Test) 12.2.0'; echo 'Copyright Free Software Foundation, Inc.'";

TEST_F(CompilerTest, NoneFoundSaysWhereItLooked) {
  auto none = find_compiler("", folder.path());
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, Kind::compiler_failed);
  EXPECT_EQ(none.error().text, "no C++ compiler found");
  std::string text = none.error().to_string();
  EXPECT_NE(text.find("looked for: g++ g++-15"), std::string::npos) << text;
  EXPECT_NE(text.find("in: " + folder.path()), std::string::npos) << text;
  EXPECT_NE(text.find("apt-get install g++"), std::string::npos) << text;
  EXPECT_EQ(find_compiler("/no/such/g++", usual_path).error().text, "no C++ compiler at `/no/such/g++`");
}

TEST_F(CompilerTest, GoesOnPastProgramsThatAreNoCompilers) {
  program("g++", "echo something else");
  program("g++-13", "exit 1");
  program("clang++", "echo 'clang version 99.0'");
  auto compiler = find_compiler("", folder.path());
  ASSERT_TRUE(compiler);
  EXPECT_EQ(compiler->kind, CompilerKind::clang);
  EXPECT_EQ(compiler->path, folder.path() + "/clang++");
  EXPECT_EQ(compiler->version, "clang version 99.0");
  auto wrong = find_compiler("g++", folder.path());
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().to_string().find("is neither g++ nor clang++: it calls itself `something else`"),
            std::string::npos);
}

TEST_F(CompilerTest, IdentityFollowsTheBinary) {
  std::string path = program("g++", gnu);
  std::string first = find_compiler(path, usual_path)->identity;
  EXPECT_EQ(find_compiler("g++", folder.path())->identity, first);
  program("g++", std::string(gnu) + "; exit 0");
  EXPECT_NE(find_compiler(path, usual_path)->identity, first);
}

TEST(Compiler, FindsTheOneThatBuiltUs) {
  auto compiler = find_compiler("", usual_path);
  ASSERT_TRUE(compiler) << compiler.error().to_string();
  EXPECT_EQ(compiler->path[0], '/');
  EXPECT_FALSE(compiler->version.empty());
}

}  // namespace
}  // namespace toroid
