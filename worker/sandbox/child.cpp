// SPDX-License-Identifier: MIT
#include "worker/sandbox/child.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace fdbroker::worker {
namespace {

[[noreturn]] void run(const std::function<int()>& body) {
    for (const int number : {SIGABRT, SIGFPE, SIGILL, SIGINT, SIGSEGV, SIGSYS, SIGTERM})
        std::signal(number, SIG_DFL);
    const rlimit none{.rlim_cur = 0, .rlim_max = 0};
    static_cast<void>(::setrlimit(RLIMIT_CORE, &none));
    int result = EINVAL;
    try {
        result = body();
    } catch (...) {
        // Out of the child goes nothing but its status.
    }
    ::_exit(result);
}

}  // namespace

int errno_of(long result) {
    return result < 0 ? errno : 0;
}

proto::Result<Ending> try_in_child(const std::function<int()>& body) {
    const pid_t child = ::fork();
    if (child < 0) return proto::system_error("fork");
    if (child == 0) run(body);
    int status = 0;
    while (::waitpid(child, &status, 0) != child)
        if (errno != EINTR) return proto::system_error("waitpid");
    if (WIFSIGNALED(status)) return Ending{.error = 0, .signal = WTERMSIG(status)};
    return Ending{.error = WEXITSTATUS(status), .signal = 0};
}

}  // namespace fdbroker::worker
