// SPDX-License-Identifier: MIT
// Real programs, started without a shell, as whatever user a test needs.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/unique_fd.hpp"
#include "tests/support/deadline.hpp"

namespace fdbroker::test {

// Users without an account, for peers; who needs one with a name takes `nobody`.
inline constexpr uid_t some_user = 30001;
inline constexpr uid_t other_user = 30002;
inline constexpr uid_t nobody = 65534;

struct Identity {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups{};  // supplementary
};

struct Command {
    std::vector<std::string> arguments;  // the first names the program; looked up in PATH if bare
    std::optional<Identity> identity{};  // none: the caller's
    std::map<std::string, std::string> environment{};  // all of it; PATH and LC_ALL=C.UTF-8 where not given
    std::filesystem::path directory{"/"};
    std::string input{};  // content of standard input
    // Descriptors the program inherits, by their number there (3 and above); they stay the caller's.
    std::map<int, proto::BorrowedFd> descriptors{};
};

// How a process ended, and what it wrote.
struct Outcome {
    int status = -1;  // exit status; -1: a signal ended it
    int signal = 0;   // 0: it exited
    std::string out{};
    std::string err{};
};

// A running program. Its standard output and standard error are pipes, read whenever one of the waiting functions
// waits: a program that writes more than a pipe holds (64 KiB) meanwhile stands still. Destroying it kills
// it (SIGKILL) and reaps it.
class Process {
  public:
    // Throws std::runtime_error when the program cannot be started, naming the step.
    static Process start(const Command& command);
    Process(Process&& other) noexcept;
    Process& operator=(Process&&) = delete;
    ~Process();

    pid_t pid() const { return pid_; }
    proto::BorrowedFd pidfd() const { return pidfd_.borrow(); }
    void signal(int number) const;

    // Until standard output (standard error) as a whole holds `text`; returns all of it so far. Throws when the
    // process ends before, with what it wrote.
    const std::string& wait_for_output(std::string_view text, Deadline deadline = in_good_time());
    const std::string& wait_for_error(std::string_view text, Deadline deadline = in_good_time());

    // Until it ends; once. Throws at the deadline, with what it wrote.
    Outcome wait(Deadline deadline = in_good_time());

  private:
    struct Stream {
        proto::UniqueFd pipe{};
        std::string text{};
    };
    Process(pid_t pid, proto::UniqueFd pidfd, proto::UniqueFd out, proto::UniqueFd err);
    void wait_for_text(const Stream& stream, std::string_view text, Deadline deadline);
    // Waits for output or for `other_event`, and reads what there is.
    void read_some(proto::BorrowedFd other_event, Deadline deadline);
    void read_rest();
    [[noreturn]] void give_up(const std::string& what) const;

    pid_t pid_ = -1;
    proto::UniqueFd pidfd_{};
    Stream out_{};
    Stream err_{};
};

// start() and wait().
Outcome run(const Command& command, Deadline deadline = in_good_time());

// The programs of this build.
std::string opener_program();
std::string openerctl_program();
std::string worker_program();

}  // namespace fdbroker::test
