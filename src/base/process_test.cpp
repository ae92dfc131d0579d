// Child processes in hosts of all kinds: with handlers, without statuses, with thieves of children.
#include "base/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/file.h"

namespace toroid {
namespace {

const CancelToken never;

Result<ProcessEnd> shell(const std::string& script, const CancelToken& cancel = never, int out = -1) {
  return run_process({.args = {"/bin/sh", "-c", script}, .stdout_fd = out}, tool_environment(), cancel);
}

TEST(Process, ReportsStatusAndErrorText) {
  auto end = shell("echo out; echo trouble >&2; exit 3");
  ASSERT_TRUE(end);
  EXPECT_EQ(end->exit_code, 3);
  EXPECT_EQ(end->signal, 0);
  EXPECT_EQ(end->error_text, "trouble\n");
  EXPECT_EQ(shell("kill -9 $$")->signal, 9);
}

TEST(Process, StandardInputIsEmptyAndFilesArrive) {
  Fd out = *scratch_file("out"), extra = *scratch_file("extra");
  ASSERT_TRUE(write_fd(extra.get(), "extra", "extra"));
  auto end = run_process({.args = {"/bin/sh", "-c", "cat; cat /proc/self/fd/3; pwd; ls /proc/self/fd | wc -l"},
                          .stdout_fd = out.get(),
                          .more_fds = {extra.get()}},
                         tool_environment(), never);
  ASSERT_TRUE(end);
  // 0 1 2 3 and the one that ls reads with: nothing else of ours is open there.
  EXPECT_EQ(*read_fd(out.get(), "out"), "extra/\n5\n");
}

TEST(Process, PipesTwoCommands) {
  Fd out = *scratch_file("out");
  auto end =
      run_pipe({.args = {"/bin/sh", "-c", "echo hello; echo one >&2"}},
               {.args = {"/bin/sh", "-c", "tr a-z A-Z; exit 5"}, .stdout_fd = out.get()}, tool_environment(), never);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->exit_code, 5);
  EXPECT_EQ(end->error_text, "one\n");
  EXPECT_EQ(*read_fd(out.get(), "out"), "HELLO\n");
  // The reader's end breaks the pipe; the reader's failure is the one to tell.
  end = run_pipe({.args = {"/bin/sh", "-c", "yes"}}, {.args = {"/bin/sh", "-c", "exit 7"}}, tool_environment(), never);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->exit_code, 7);
}

TEST(Process, MuchErrorTextNeitherBlocksNorGrows) {
  auto end = shell("head -c 3000000 /dev/zero >&2");
  ASSERT_TRUE(end);
  EXPECT_EQ(end->exit_code, 0);
  EXPECT_EQ(end->error_text.size(), size_t{256} << 10);
}

TEST(Process, MissingProgramIsNamed) {
  auto end = run_process({.args = {"/no/such/program"}}, tool_environment(), never);
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().text, "cannot run `/no/such/program`: No such file or directory");
  // The other command of a pipe does not stay behind.
  end = run_pipe({.args = {"/bin/sleep", "1000"}}, {.args = {"/no/such/program"}}, tool_environment(), never);
  ASSERT_FALSE(end);
}

TEST(Process, CancelKillsTheWholeGroup) {
  Fd out = *scratch_file("out");
  CancelToken cancel;
  std::thread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
    cancel.cancel();
  });
  auto start = std::chrono::steady_clock::now();
  auto end = shell("sleep 1000 & echo $!; wait", cancel, out.get());
  canceller.join();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().kind, Kind::cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  pid_t grandchild = std::stoi(*read_fd(out.get(), "out"));
  // It is init's to reap; a zombie still answers to kill(0).
  bool alive = true;
  for (int i = 0; i < 100 && alive; ++i) {
    auto status = read_file("/proc/" + std::to_string(grandchild) + "/stat");
    alive = status && status->find(") Z") == std::string::npos;
    if (alive) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_FALSE(alive);
}

TEST(Process, DeadlineEndsIt) {
  CancelToken limit(nullptr, CancelToken::Clock::now() + std::chrono::milliseconds(50));
  auto end = shell("sleep 1000", limit);
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().text, "the deadline passed");
}

std::atomic<int> handled = 0;

TEST(Process, HostsHandlerStaysAndRuns) {
  struct sigaction mine = {}, before, after;
  mine.sa_handler = [](int) { ++handled; };
  sigaction(SIGCHLD, &mine, &before);
  EXPECT_EQ(shell("exit 2")->exit_code, 2);
  sigaction(SIGCHLD, &before, &after);
  EXPECT_EQ(after.sa_handler, mine.sa_handler);
  EXPECT_GE(handled, 1);
}

TEST(Process, StatusIsRightWhereTheHostIgnoresChildren) {
  struct sigaction ignore = {}, before;
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGCHLD, &ignore, &before);
  auto bad = shell("echo x >&2; exit 4"), good = shell("true"), killed = shell("kill -9 $$");
  auto missing = shell("exec /no/such/program");
  sigaction(SIGCHLD, &before, nullptr);
  EXPECT_EQ(bad->exit_code, 4);
  EXPECT_EQ(bad->error_text, "x\n");
  EXPECT_EQ(good->exit_code, 0);
  EXPECT_EQ(killed->signal, 9);
  EXPECT_EQ(missing->exit_code, 127);
}

TEST(Process, StatusIsRightWhereTheHostTakesAllChildren) {
  std::atomic<bool> stop = false;
  std::thread thief([&] {
    while (!stop) waitpid(-1, nullptr, WNOHANG);
  });
  Fd out = *scratch_file("out");
  for (int i = 0; i < 20; ++i) {
    auto end = shell("echo once; exit 6", never, out.get());
    ASSERT_TRUE(end);
    ASSERT_EQ(end->exit_code, 6);
  }
  stop = true;
  thief.join();
}

TEST(Process, LeavesOtherChildrenAlone) {
  pid_t mine = fork();
  if (mine == 0) _exit(9);
  EXPECT_EQ(shell("exit 1")->exit_code, 1);
  int status = 0;
  ASSERT_EQ(waitpid(mine, &status, 0), mine);
  EXPECT_EQ(WEXITSTATUS(status), 9);
}

TEST(Process, ShellTextReadsBack) {
  std::vector<std::string> args = {"a b", "it's", "", "$HOME", "plain-1.2"};
  Fd out = *scratch_file("out");
  ASSERT_TRUE(shell("printf '%s|' " + shell_text(args), never, out.get()));
  EXPECT_EQ(*read_fd(out.get(), "out"), "a b|it's||$HOME|plain-1.2|");
}

}  // namespace
}  // namespace toroid
