// The object cache: what it gives out is what was stored, whatever happens to the folder.
#include "build/cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/file.h"

namespace toroid::build {
namespace {

struct CacheTest : testing::Test {
  TempFolder folder = *TempFolder::create();
  ObjectCache open(int64_t limit = 1 << 30) const {
    return ObjectCache({.folder = folder.path(), .limit_bytes = limit});
  }
  std::string path(const Hash128& key) const {
    return folder.path() + "/objects/" + key.hex().substr(0, 1) + "/" + key.hex();
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path() + "/objects"))
      if (entry.is_regular_file()) sum += static_cast<int64_t>(entry.file_size());
    return sum;
  }
};

std::string object(int i) {
  return "object " + std::to_string(i) + std::string(static_cast<size_t>(1000 + i % 7), '.');
}
Hash128 key(int i) { return Hasher().add(i).finish(); }

TEST_F(CacheTest, GivesBackWhatWasStored) {
  ObjectCache cache = open();
  EXPECT_EQ(cache.find(key(1)), std::nullopt);
  cache.store(key(1), object(1));
  cache.store(key(2), "");
  EXPECT_EQ(cache.find(key(1)), object(1));
  EXPECT_EQ(cache.find(key(2)), "");
  EXPECT_EQ(open().find(key(1)), object(1));
  EXPECT_TRUE(cache.notes().empty());
}

TEST_F(CacheTest, DropsWhatIsDamaged) {
  ObjectCache cache = open();
  std::string entry;
  auto damage = [&](const std::function<void(std::string&)>& how) {
    cache.store(key(1), object(1));
    ASSERT_EQ(cache.find(key(1)), object(1));
    entry = *read_file(path(key(1)));
    how(entry);
    ASSERT_TRUE(write_file_atomic(path(key(1)), entry));
    EXPECT_EQ(cache.find(key(1)), std::nullopt);
    EXPECT_FALSE(std::filesystem::exists(path(key(1))));
  };
  for (size_t length : {size_t{0}, size_t{7}, size_t{31}, size_t{32}, size_t{500}})
    damage([&](std::string& text) { text.resize(length); });
  for (size_t place : {0, 8, 9, 16, 31, 32, 700}) damage([&](std::string& text) { text[place] ^= 1; });
  damage([](std::string& text) { text += 'x'; });
  damage([](std::string& text) { text.assign(text.size(), '\0'); });
  // Whole, but another key's.
  cache.store(key(2), object(2));
  std::string other = *read_file(path(key(2)));
  damage([&](std::string& text) { text = other; });
  EXPECT_EQ(cache.find(key(2)), object(2));
}

TEST_F(CacheTest, AnotherUsersEntryIsNotServed) {
  ObjectCache cache = open();
  cache.store(key(1), object(1));
  if (chown(path(key(1)).c_str(), 12345, 12345) != 0) GTEST_SKIP() << "only root can give files away";
  // Root takes root's and its own.
  EXPECT_EQ(cache.find(key(1)), std::nullopt);
}

TEST_F(CacheTest, DropsTheLeastRecentlyUsed) {
  constexpr int64_t limit = 16 * 40960;
  ObjectCache cache = open(limit);
  std::string big(4000, 'x');
  for (int i = 0; i < 400; ++i) {
    cache.store(key(i), big);
    timespec old[2] = {{1000000 + i, 0}, {1000000 + i, 0}};
    utimensat(AT_FDCWD, path(key(i)).c_str(), old, 0);
  }
  // Used just now, though stored first.
  for (int i = 0; i < 20; ++i) ASSERT_EQ(cache.find(key(i)), big);
  cache.trim(10000);
  EXPECT_LE(bytes(), limit * 4 / 5);
  EXPECT_GE(bytes(), limit / 3);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(cache.find(key(i)), big) << i;
  for (int i = 20; i < 100; ++i) EXPECT_EQ(cache.find(key(i)), std::nullopt) << i;
  EXPECT_EQ(cache.find(key(399)), big);
  // Nothing was stored since: nothing to look at.
  cache.trim(10000);
  EXPECT_EQ(cache.find(key(399)), big);
}

TEST_F(CacheTest, TemporariesOfKilledWritersGo) {
  ObjectCache cache = open(1 << 20);
  cache.store(key(1), object(1));
  std::string shard = path(key(1)).substr(0, path(key(1)).rfind('/'));
  ASSERT_TRUE(write_file_atomic(shard + "/.tmp-old", "x"));
  ASSERT_TRUE(write_file_atomic(shard + "/.tmp-new", "x"));
  timespec old[2] = {{1000000, 0}, {1000000, 0}};
  utimensat(AT_FDCWD, (shard + "/.tmp-old").c_str(), old, 0);
  cache.trim(10000);
  EXPECT_FALSE(std::filesystem::exists(shard + "/.tmp-old"));
  EXPECT_TRUE(std::filesystem::exists(shard + "/.tmp-new"));
  EXPECT_EQ(cache.find(key(1)), object(1));
}

TEST_F(CacheTest, SaysWhatChanged) {
  ObjectCache cache = open();
  KeyParts parts = {key(1), key(2), key(3), key(4), key(5)};
  EXPECT_EQ(cache.explain("m/k0", parts), "nothing under this name");
  EXPECT_EQ(cache.explain("m/k0", parts), "the entry was dropped");
  auto changed = [&](Hash128 KeyParts::*part) {
    KeyParts other = parts;
    other.*part = key(9);
    EXPECT_NE(other.key(), parts.key());
    std::string reason = cache.explain("m/k0", other);
    cache.remember("m/k0", parts);
    return reason;
  };
  EXPECT_EQ(changed(&KeyParts::text), "text changed");
  EXPECT_EQ(changed(&KeyParts::flags), "flags changed");
  EXPECT_EQ(changed(&KeyParts::compiler), "compiler changed");
  EXPECT_EQ(changed(&KeyParts::target), "target changed");
  EXPECT_EQ(changed(&KeyParts::version), "version changed");
  KeyParts two = parts;
  two.flags = two.target = key(9);
  EXPECT_EQ(cache.explain("m/k0", two), "flags and target changed");
  EXPECT_EQ(cache.explain("m/k1", parts), "nothing under this name");
}

TEST_F(CacheTest, BadFoldersAreNotedAndNothingFails) {
  std::string file = folder.path() + "/file";
  ASSERT_TRUE(write_file_atomic(file, ""));
  ObjectCache cache({.folder = file + "/cache"});
  cache.store(key(1), object(1));
  EXPECT_EQ(cache.find(key(1)), std::nullopt);
  EXPECT_EQ(cache.explain("k", {}), "nothing under this name");
  cache.trim();
  ASSERT_EQ(cache.notes().size(), 1u);
  EXPECT_NE(cache.notes()[0].find("no cache: cannot create folder `" + file), std::string::npos) << cache.notes()[0];

  ObjectCache none({});
  none.store(key(1), object(1));
  EXPECT_EQ(none.find(key(1)), std::nullopt);
  EXPECT_TRUE(none.notes().empty());
}

TEST_F(CacheTest, FullDiskIsNotedOnce) {
  std::string tiny = folder.path() + "/tiny";
  ASSERT_TRUE(make_dirs(tiny));
  if (mount("none", tiny.c_str(), "tmpfs", 0, "size=128k") != 0) GTEST_SKIP() << "mounting is not permitted here";
  {
    ObjectCache cache({.folder = tiny});
    cache.store(key(1), object(1));
    for (int i = 2; i < 5; ++i) cache.store(key(i), std::string(1 << 20, 'x'));
    EXPECT_EQ(cache.find(key(1)), object(1));
    EXPECT_EQ(cache.find(key(2)), std::nullopt);
    EXPECT_EQ(cache.notes().size(), 1u);
    EXPECT_NE(cache.notes()[0].find("No space left on device"), std::string::npos);
  }
  umount2(tiny.c_str(), MNT_DETACH);
}

TEST_F(CacheTest, FolderRemovedUnderOurHands) {
  ObjectCache cache = open();
  cache.store(key(1), object(1));
  std::filesystem::remove_all(folder.path());
  EXPECT_EQ(cache.find(key(1)), std::nullopt);
  cache.store(key(1), object(1));
  EXPECT_EQ(cache.find(key(1)), object(1));
}

// Several processes store, find and drop the same keys; some are killed in the middle. What is found is always whole.
TEST_F(CacheTest, ManyProcessesAndKills) {
  constexpr int keys = 40;
  auto worker = [&](int seed) {
    ObjectCache cache = open(16 * 8192);
    uint32_t state = static_cast<uint32_t>(seed) * 2654435761u + 1;
    for (int i = 0; i < 100000; ++i) {
      state = state * 1664525 + 1013904223;
      int n = static_cast<int>((state >> 16) % keys);
      if (auto found = cache.find(key(n)); found && *found != object(n)) _exit(1);
      cache.store(key(n), object(n));
      if (i % 16 == 0) cache.trim(5);
    }
    _exit(0);
  };
  std::vector<pid_t> workers;
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < 2; ++i) {
      pid_t pid = fork();
      if (pid == 0) worker(round * 2 + i);
      workers.push_back(pid);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(15 + round));
    for (pid_t pid : workers) {
      kill(pid, SIGKILL);
      int status = 0;
      waitpid(pid, &status, 0);
      EXPECT_TRUE(WIFSIGNALED(status)) << "a worker found a wrong object, or ended early";
    }
    workers.clear();
    ObjectCache cache = open();
    for (int n = 0; n < keys; ++n) {
      auto found = cache.find(key(n));
      EXPECT_TRUE(!found || *found == object(n));
    }
  }
  ObjectCache cache = open();
  cache.store(key(1), object(1));
  EXPECT_EQ(cache.find(key(1)), object(1));
}

}  // namespace
}  // namespace toroid::build
