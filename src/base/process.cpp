// posix_spawn, a pipe for standard error, a pidfd to see the end, waitpid by number.
#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "base/file.h"

extern char** environ;

namespace toroid {
namespace {

constexpr size_t error_text_limit = 256 << 10;
// How long a cancelled build may go on: poll() cannot see an atomic flag.
constexpr int cancel_poll_ms = 15;

struct Pipe {
  Fd read, write;
};

// A pipe whose numbers stay clear of 0..9, where the child's own descriptors go.
Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(Kind::io, "cannot create a pipe: {}", system_error_text(errno));
  Pipe low{Fd(ends[0]), Fd(ends[1])}, high;
  TD_TRY(const int read, high_descriptor(ends[0], "a pipe"));
  high.read.reset(read);
  TD_TRY(const int write, high_descriptor(ends[1], "a pipe"));
  high.write.reset(write);
  return high;
}

// Reads what is there; false at the end of the pipe.
bool drain(int fd, std::string& text, size_t limit) {
  char buffer[16384];
  for (;;) {
    ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN;
    if (count == 0) return false;
    // Past the limit the child may still write: it must not block on a full pipe.
    size_t room = text.size() < limit ? limit - text.size() : 0;
    text.append(buffer, std::min(room, static_cast<size_t>(count)));
  }
}

struct Child {
  pid_t pid = -1;
  Fd pidfd;
  Pipe status_pipe;  // only where the shell reports the status
  bool ended = false;
  int exit_code = 0;
  int signal = 0;
  bool known = true;  // false: somebody else took our child's status

  void reap(bool block) {
    int status = 0;
    pid_t got;
    do got = waitpid(pid, &status, block ? 0 : WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got == 0) return;
    ended = true;
    if (got < 0) {
      known = false;
    } else if (WIFSIGNALED(status)) {
      signal = WTERMSIG(status);
      exit_code = 128 + signal;
    } else {
      exit_code = WEXITSTATUS(status);
    }
  }
};

// Starts one command. With `report_status` a shell runs it and writes its exit status into a pipe: needed where the
// host ignores SIGCHLD or waits for every child, so that waitpid tells us nothing.
Result<Child> spawn(const Command& command, int stdin_fd, int stdout_fd, int stderr_fd, bool report_status,
                    const std::vector<std::string>& environment) {
  Child child;
  std::vector<int> sources = {stdin_fd, stdout_fd, stderr_fd};
  sources.insert(sources.end(), command.more_fds.begin(), command.more_fds.end());
  std::vector<std::string> args;
  if (report_status) {
    TD_TRY(child.status_pipe, make_pipe());
    args = {"/bin/sh", "-c", format("\"$@\"; s=$?; echo $s >&{}; exit $s", sources.size()), "sh"};
    sources.push_back(child.status_pipe.write.get());
  }
  args.insert(args.end(), command.args.begin(), command.args.end());

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  for (size_t i = 0; i < sources.size(); ++i) {
    int target = static_cast<int>(i);
    if (sources[i] >= 0) {
      posix_spawn_file_actions_adddup2(&files, sources[i], target);
    } else {
      posix_spawn_file_actions_addopen(&files, target, "/dev/null", target == 0 ? O_RDONLY : O_WRONLY, 0);
    }
  }
  // The host's files that it forgot to mark close-on-exec are not our children's business.
  posix_spawn_file_actions_addclosefrom_np(&files, static_cast<int>(sources.size()));
  posix_spawn_file_actions_addchdir_np(&files, "/");
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<char*> argv, envp;
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  for (const std::string& variable : environment) envp.push_back(const_cast<char*>(variable.c_str()));
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  int error = posix_spawn(&child.pid, argv[0], &files, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return fail(Kind::io, "cannot run `{}`: {}", command.args[0], system_error_text(error));
  child.pidfd.reset(static_cast<int>(syscall(SYS_pidfd_open, child.pid, 0)));
  child.status_pipe.write.reset();
  return child;
}

bool host_discards_statuses() {
  struct sigaction action;
  if (sigaction(SIGCHLD, nullptr, &action) != 0) return false;
  return action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT) != 0;
}

// One attempt at running the commands; `known` false when a status was lost and nothing was reported.
struct Attempt {
  ProcessEnd end;
  bool known = true;
};

Result<Attempt> attempt(std::span<const Command> commands, const std::vector<std::string>& environment,
                        const CancelToken& cancel, bool report_status) {
  TD_CHECK_OK(cancel.check());
  TD_TRY(Pipe errors, make_pipe());
  Pipe between;
  if (commands.size() == 2) {
    TD_TRY(between, make_pipe());
  }
  fcntl(errors.read.get(), F_SETFL, O_NONBLOCK);
  std::array<Child, 2> children;
  size_t started = 0;
  std::optional<Diagnostic> trouble;
  for (; started < commands.size() && !trouble; ++started) {
    const Command& command = commands[started];
    bool last = started + 1 == commands.size();
    auto child = spawn(command, started == 0 ? command.stdin_fd : between.read.get(),
                       last ? command.stdout_fd : between.write.get(), errors.write.get(), report_status, environment);
    if (!child) {
      trouble = std::move(child).error();
      break;
    }
    children[started] = std::move(*child);
  }
  between = {};
  errors.write.reset();

  // Only groups whose leader is not reaped yet are killed: a reaped number may belong to strangers.
  auto kill_all = [&] {
    for (size_t i = 0; i < started; ++i) {
      if (!children[i].ended) kill(-children[i].pid, SIGKILL);
    }
  };
  Attempt result;
  bool more_errors = true;
  bool killed = trouble.has_value();
  if (killed) kill_all();
  while (!killed) {
    struct pollfd polls[3];
    int count = 0;
    int timeout = cancel_poll_ms;
    bool running = false;
    if (more_errors) polls[count++] = {errors.read.get(), POLLIN, 0};
    for (size_t i = 0; i < started; ++i) {
      if (children[i].ended) continue;
      running = true;
      if (children[i].pidfd.valid())
        polls[count++] = {children[i].pidfd.get(), POLLIN, 0};
      else
        timeout = 1;
    }
    if (!running) break;
    poll(polls, static_cast<nfds_t>(count), timeout);
    if (more_errors) more_errors = drain(errors.read.get(), result.end.error_text, error_text_limit);
    for (size_t i = 0; i < started; ++i) {
      if (!children[i].ended) children[i].reap(false);
    }
    if (cancel.cancelled()) {
      killed = true;
      kill_all();
    }
  }
  for (size_t i = 0; i < started; ++i) {
    if (!children[i].ended) children[i].reap(true);
  }
  if (more_errors) drain(errors.read.get(), result.end.error_text, error_text_limit);
  if (trouble) return fail(std::move(*trouble));
  if (killed) TD_CHECK_OK(cancel.check());

  for (size_t i = 0; i < started; ++i) {
    Child& child = children[i];
    if (report_status) {
      std::string text;
      drain(child.status_pipe.read.get(), text, 64);
      // No report: the shell itself was killed.
      child.exit_code = text.empty() ? 128 + SIGKILL : std::atoi(text.c_str());
      child.signal = child.exit_code > 128 ? child.exit_code - 128 : 0;
    } else if (!child.known) {
      result.known = false;
    }
  }
  // A broken pipe is the consequence of what ended the other command.
  for (size_t i = started; i-- > 0;) {
    const Child& child = children[i];
    if (child.exit_code != 0 && (result.end.exit_code == 0 || child.exit_code != 128 + SIGPIPE)) {
      result.end.exit_code = child.exit_code;
      result.end.signal = child.signal;
    }
  }
  return result;
}

Result<ProcessEnd> run(std::span<const Command> commands, const std::vector<std::string>& environment,
                       const CancelToken& cancel) {
  bool report_status = host_discards_statuses();
  TD_TRY(Attempt first, attempt(commands, environment, cancel, report_status));
  if (first.known) return std::move(first.end);
  // Somebody else in this process waited for our child. Run again, with a shell that tells us the status.
  int in = commands.front().stdin_fd, out = commands.back().stdout_fd;
  if (in >= 0) lseek(in, 0, SEEK_SET);
  if (out >= 0 && (ftruncate(out, 0) != 0 || lseek(out, 0, SEEK_SET) != 0))
    return fail(Kind::io, "cannot run `{}` again: its output cannot be rewound", commands.back().args[0]);
  TD_TRY(Attempt second, attempt(commands, environment, cancel, true));
  return std::move(second.end);
}

}  // namespace

std::vector<std::string> tool_environment() {
  // By name, so that CPATH, GCC_EXEC_PREFIX, LIBRARY_PATH, CCC_OVERRIDE_OPTIONS, LD_PRELOAD, … do not reach them.
  constexpr std::string_view kept[] = {"PATH=", "HOME=", "TMPDIR=", "LD_LIBRARY_PATH="};
  std::vector<std::string> environment = {"LC_ALL=C"};
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    std::string_view text(*variable);
    if (std::ranges::any_of(kept, [&](std::string_view name) { return text.starts_with(name); }))
      environment.emplace_back(text);
  }
  return environment;
}

Result<ProcessEnd> run_process(const Command& first, const std::vector<std::string>& environment,
                               const CancelToken& cancel) {
  return run(std::span(&first, 1), environment, cancel);
}

Result<ProcessEnd> run_pipe(const Command& first, const Command& second, const std::vector<std::string>& environment,
                            const CancelToken& cancel) {
  const Command commands[] = {first, second};
  return run(commands, environment, cancel);
}

std::string shell_text(const std::vector<std::string>& args) {
  std::string line;
  for (const std::string& arg : args) {
    if (!line.empty()) line += ' ';
    bool plain = !arg.empty() && arg.find_first_not_of(
                                     "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                     "-_=+./,:@%") == std::string::npos;
    line += plain ? arg : "'" + replace_all(arg, "'", "'\\''") + "'";
  }
  return line;
}

}  // namespace toroid
