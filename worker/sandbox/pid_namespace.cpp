// SPDX-License-Identifier: MIT
#include "worker/sandbox/pid_namespace.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "proto/unique_fd.hpp"
#include "worker/sandbox/namespaces.hpp"

namespace fdbroker::worker {
namespace {

using proto::Result;
using proto::system_error;
using proto::UniqueFd;

[[noreturn]] void end_as(int status) {
    if (WIFSIGNALED(status)) {
        const rlimit none{.rlim_cur = 0, .rlim_max = 0};  // the child has dumped its core, or did not want to
        static_cast<void>(::setrlimit(RLIMIT_CORE, &none));
        std::signal(WTERMSIG(status), SIG_DFL);
        std::raise(WTERMSIG(status));
    }
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

[[noreturn]] void wait_and_end(pid_t child) {
    int status = 0;
    while (::waitpid(child, &status, 0) != child)
        if (errno != EINTR) ::_exit(EXIT_FAILURE);
    end_as(status);
}

// In the child: dies with its parent, which may have died before.
void follow_parent(const UniqueFd& parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pollfd ended{.fd = parent.number(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, 0) != 0) ::_exit(EXIT_FAILURE);
}

}  // namespace

Result<void> go_on_in_pid_namespace() {
    const auto enter = [] { return enter_user_namespace(CLONE_NEWPID); };
    if (const auto possible = try_in_forked_child(enter); !possible) return possible;
    const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    if (!self) return system_error("namespaces", "pidfd_open");
    if (const auto entered = enter(); !entered) return entered;
    const pid_t child = ::_Fork();
    if (child < 0) return system_error("namespaces", "fork");
    if (child > 0) wait_and_end(child);
    follow_parent(self);
    return {};
}

}  // namespace fdbroker::worker
