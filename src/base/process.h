// Child processes: run one, or two joined by a pipe, each in a process group of its own; wait, or kill the groups.
// Touches nothing of the host program: no signal handler, no waiting for children that are not ours.
#pragma once
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"

namespace toroid {

// Descriptors given here are borrowed, and must be 10 or higher (scratch_file makes such).
struct Command {
  std::vector<std::string> args;  // args[0] is the path of the program
  int stdin_fd = -1;              // -1: /dev/null
  int stdout_fd = -1;             // -1: /dev/null
  std::vector<int> more_fds;      // become 3, 4, … in the child
};

struct ProcessEnd {
  int exit_code = 0;       // of the first command that failed; 128 + signal where a signal ended it
  int signal = 0;          // the signal, or 0
  std::string error_text;  // what the commands wrote to standard error (the first 256 KiB)
};

// The part of this process's environment that compilers need; what would change their output is left out, and their
// messages are asked for in English.
std::vector<std::string> tool_environment();

// Runs `first`, or `first | second`; returns when all have ended. Kind::cancelled when `cancel` says so (after the
// group is killed and reaped), Kind::io when a process cannot be started. The working folder is `/`.
Result<ProcessEnd> run_process(const Command& first, const std::vector<std::string>& environment,
                               const CancelToken& cancel);
Result<ProcessEnd> run_pipe(const Command& first, const Command& second, const std::vector<std::string>& environment,
                            const CancelToken& cancel);

// A command as a line for a POSIX shell.
std::string shell_text(const std::vector<std::string>& args);

}  // namespace toroid
