// Files: all or nothing, also where the disk is full or the writer is killed.
#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace toroid {
namespace {

std::vector<std::string> listing(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

struct FileTest : testing::Test {
  TempFolder folder = *TempFolder::create();
  std::string path(const std::string& name) const { return folder.path() + "/" + name; }
};

TEST_F(FileTest, WritesAndReadsBack) {
  std::string bytes(200001, 'x');
  bytes[77] = '\0';
  ASSERT_TRUE(write_file_atomic(path("a"), bytes, true));
  EXPECT_EQ(*read_file(path("a")), bytes);
  EXPECT_EQ(MappedFile::open(path("a"))->text(), bytes);
  ASSERT_TRUE(write_file_atomic(path("a"), ""));
  EXPECT_EQ(*read_file(path("a")), "");
  EXPECT_EQ(MappedFile::open(path("a"))->bytes().size(), 0u);
  EXPECT_EQ(listing(folder.path()), std::vector<std::string>{"a"});
}

TEST_F(FileTest, ReadsFilesWithoutSize) { EXPECT_NE(read_file("/proc/self/status")->find("Pid:"), std::string::npos); }

TEST_F(FileTest, ErrorsNamePathAndReason) {
  auto missing = read_file(path("none"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, Kind::io);
  EXPECT_EQ(missing.error().text, "cannot open `" + path("none") + "`: No such file or directory");
  EXPECT_FALSE(read_file(folder.path()));
  EXPECT_FALSE(MappedFile::open(folder.path()));
  auto written = write_file_atomic(path("no/such/x"), "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().text, "cannot create `" + path("no/such/x") + "`: No such file or directory");
}

TEST_F(FileTest, UncommittedFileLeavesTheOldOne) {
  ASSERT_TRUE(write_file_atomic(path("a"), "old"));
  {
    auto file = AtomicFile::create(path("a"));
    ASSERT_TRUE(file->write("new and not complete"));
  }
  EXPECT_EQ(*read_file(path("a")), "old");
  EXPECT_EQ(listing(folder.path()), std::vector<std::string>{"a"});
}

TEST_F(FileTest, FailedRenameRemovesTheTemporary) {
  Status written;
  {
    auto file = AtomicFile::create(path("a"));
    ASSERT_TRUE(file->write("x"));
    // Since then somebody made a folder of that name.
    ASSERT_TRUE(make_dirs(path("a/b")));
    written = file->commit();
  }
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().text, "cannot create `" + path("a") + "`: Is a directory");
  EXPECT_EQ(listing(folder.path()), std::vector<std::string>{"a"});
}

// Runs `body` in a child process; its exit status.
int in_child(const std::function<int()>& body) {
  pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F(FileTest, FileSizeLimitLeavesNothing) {
  EXPECT_EQ(in_child([&] {
              signal(SIGXFSZ, SIG_IGN);
              rlimit limit = {4096, 4096};
              setrlimit(RLIMIT_FSIZE, &limit);
              auto written = write_file_atomic(path("big"), std::string(100000, 'x'));
              if (written) return 1;
              return written.error().text == "cannot write `" + path("big") + "`: File too large" ? 0 : 2;
            }),
            0);
  EXPECT_EQ(listing(folder.path()), std::vector<std::string>{});
}

TEST_F(FileTest, FullDiskLeavesNothing) {
  ASSERT_TRUE(make_dirs(path("tiny")));
  if (mount("none", path("tiny").c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "mounting is not permitted here";
  auto written = write_file_atomic(path("tiny/big"), std::string(1 << 20, 'x'));
  std::vector<std::string> left = listing(path("tiny"));
  umount2(path("tiny").c_str(), MNT_DETACH);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().text, "cannot write `" + path("tiny/big") + "`: No space left on device");
  EXPECT_EQ(left, std::vector<std::string>{});
}

TEST_F(FileTest, KilledWriterLeavesTheOldFile) {
  ASSERT_TRUE(write_file_atomic(path("a"), std::string(1000, 'o')));
  int killed = in_child([&] {
    auto file = AtomicFile::create(path("a"));
    if (!file->write(std::string(100, 'n'))) return 1;
    kill(getpid(), SIGKILL);
    return 2;
  });
  EXPECT_EQ(killed, 128 + SIGKILL);
  EXPECT_EQ(*read_file(path("a")), std::string(1000, 'o'));
}

TEST_F(FileTest, MakesFolders) {
  EXPECT_TRUE(make_dirs(path("x/y/z")));
  EXPECT_TRUE(make_dirs(path("x/y/z/")));
  EXPECT_TRUE(make_dirs("/"));
  ASSERT_TRUE(write_file_atomic(path("file"), ""));
  auto made = make_dirs(path("file/below"));
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().text, "cannot create folder `" + path("file/below") + "`: Not a directory");
}

TEST_F(FileTest, TemporaryFolderGoesWithAllInIt) {
  std::string gone;
  {
    TempFolder inner = *TempFolder::create(folder.path());
    gone = inner.path();
    ASSERT_TRUE(make_dirs(gone + "/a/b"));
    ASSERT_TRUE(write_file_atomic(gone + "/a/b/c", "x"));
  }
  EXPECT_FALSE(std::filesystem::exists(gone));
}

TEST_F(FileTest, FindsPrograms) {
  ASSERT_TRUE(write_file_atomic(path("tool"), "#!/bin/sh\n", false, 0755));
  ASSERT_TRUE(write_file_atomic(path("text"), "no program", false, 0644));
  std::string search = "/nonexistent:" + folder.path();
  EXPECT_EQ(find_executable("tool", search), path("tool"));
  EXPECT_EQ(find_executable(path("tool"), ""), path("tool"));
  EXPECT_EQ(find_executable("text", search), std::nullopt);
  EXPECT_EQ(find_executable("absent", search), std::nullopt);
  EXPECT_EQ(find_executable("", search), std::nullopt);
}

TEST(ScratchFile, KeepsLowNumbersFree) {
  Fd fd = *scratch_file("test");
  EXPECT_GE(fd.get(), 10);
  EXPECT_NE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_TRUE(write_fd(fd.get(), "abc", "test"));
  EXPECT_EQ(*read_fd(fd.get(), "test"), "abc");
}

TEST(OutputPath, FollowsLinksAndRefusesWhatIsNoFile) {
  TempFolder folder = *TempFolder::create();
  const std::string root = folder.path() + "/";
  ASSERT_TRUE(make_dirs(root + "there"));
  ASSERT_EQ(symlink("there/second", (root + "first").c_str()), 0);
  ASSERT_EQ(symlink("file", (root + "there/second").c_str()), 0);
  EXPECT_EQ(*output_path(root + "new"), root + "new");
  EXPECT_EQ(*output_path(root + "first"), root + "there/file");
  // Where the last link leads to nothing yet, and where to a file.
  for (const char* text : {"one", "two"}) {
    ASSERT_TRUE(write_file_atomic(root + "first", text));
    EXPECT_EQ(*read_file(root + "there/file"), text);
    EXPECT_TRUE(std::filesystem::is_symlink(root + "first"));
    EXPECT_TRUE(std::filesystem::is_symlink(root + "there/second"));
  }
  ASSERT_EQ(mkfifo((root + "pipe").c_str(), 0600), 0);
  ASSERT_EQ(symlink("pipe", (root + "to_pipe").c_str()), 0);
  ASSERT_EQ(symlink("round", (root + "round").c_str()), 0);
  for (const char* name : {"pipe", "to_pipe", "there", "round"}) {
    Status written = write_file_atomic(root + name, "text");
    ASSERT_FALSE(written) << name;
    EXPECT_EQ(written.error().kind, Kind::io) << name;
    EXPECT_NE(written.error().text.find(root + name), std::string::npos) << written.error().text;
  }
  EXPECT_TRUE(std::filesystem::is_fifo(root + "pipe"));
}

}  // namespace
}  // namespace toroid
