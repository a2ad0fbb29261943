// SPDX-License-Identifier: MIT
#include "tests/support/verdict.hpp"

#include <sched.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <utility>

#include "proto/unique_fd.hpp"

namespace fdbroker::test {

namespace {

// Process-wide, as doctest's own state is.
std::optional<std::string> noted_skip;
std::atomic<unsigned> failed_count = 0;

}  // namespace

void note_skip(const std::string& reason) {
    noted_skip = reason;
}
std::optional<std::string> take_skip() {
    return std::exchange(noted_skip, std::nullopt);
}

unsigned failed_assertions() {
    return failed_count;
}
void count_failed_assertion() {
    ++failed_count;
}

bool is_root() {
    return ::geteuid() == 0;
}

bool kernel_is_at_least(int major, int minor) {
    utsname name{};
    if (::uname(&name) < 0) return false;
    int running_major = 0;
    int running_minor = 0;
    // NOLINTNEXTLINE(cert-err34-c): the kernel's own release string; what does not parse counts as 0
    if (std::sscanf(name.release, "%d.%d", &running_major, &running_minor) != 2) return false;
    return std::pair(running_major, running_minor) >= std::pair(major, minor);
}

bool can_make_mount_namespace() {
    const pid_t child = ::fork();
    if (child < 0) return false;
    if (child == 0) ::_exit(::unshare(CLONE_NEWNS) == 0 ? 0 : 1);
    int status = 0;
    return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool has_pidfds() {
    const proto::UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    return static_cast<bool>(self);
}

std::string_view sanitizer() noexcept {
    return FDBROKER_SANITIZER;
}

}  // namespace fdbroker::test
