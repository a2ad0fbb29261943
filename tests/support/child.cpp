// SPDX-License-Identifier: MIT
#include "tests/support/child.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <system_error>

#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::test {

namespace {

void require(int result, const char* call) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), call);
}

void flush_all() {
    std::cout.flush();
    std::cerr.flush();
    (void)std::fflush(nullptr);
}

// The failure in words; empty: none.
std::string failure_of(const std::function<void()>& body) {
    const unsigned failed_before = failed_assertions();
    std::string failure;
    try {
        body();
    } catch (const std::exception& exception) {
        failure = exception.what();
    } catch (...) {
        // doctest's REQUIRE throws a private type; the assertion has been counted.
        failure = failed_assertions() == failed_before ? "an exception that is no std::exception" : "";
    }
    const unsigned failed = failed_assertions() - failed_before;
    if (failed > 0) {
        failure += (failure.empty() ? "" : "; ") + std::to_string(failed) + " assertions failed, see above";
    }
    return failure;
}

[[noreturn]] void run_and_report(const std::function<void()>& body, const proto::UniqueFd& report) {
    const std::string failure = failure_of(body);
    flush_all();
    (void)!::write(report.number(), failure.data(), failure.size());
    ::_exit(failure.empty() ? 0 : 1);
}

std::string read_all(const proto::UniqueFd& pipe) {
    std::string text;
    std::array<char, 4096> block;
    ssize_t size = 0;
    while ((size = ::read(pipe.number(), block.data(), block.size())) > 0) {
        text.append(block.data(), static_cast<std::size_t>(size));
    }
    return text;
}

int reap(pid_t child, Deadline deadline) {
    const proto::UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    try {
        wait_readable(pidfd.borrow(), deadline);
    } catch (...) {
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        throw;
    }
    int status = 0;
    require(::waitpid(child, &status, 0), "waitpid");
    return status;
}

}  // namespace

void run_in_child(const std::function<void()>& body, Deadline deadline) {
    std::array<int, 2> ends;
    require(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), "pipe2");
    const proto::UniqueFd read_end(ends[0]);
    proto::UniqueFd write_end(ends[1]);
    flush_all();
    const pid_t child = ::fork();
    require(child, "fork");
    if (child == 0) run_and_report(body, write_end);
    write_end.reset();
    const int status = reap(child, deadline);
    if (WIFSIGNALED(status)) {
        throw std::runtime_error("the child was ended by signal " + std::to_string(WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) != 0) throw std::runtime_error("in the child: " + read_all(read_end));
}

void run_as(const Identity& identity, const std::function<void()>& body, Deadline deadline) {
    run_in_child(
        [&] {
            require(::setgroups(identity.groups.size(), identity.groups.data()), "setgroups");
            require(::setresgid(identity.gid, identity.gid, identity.gid), "setresgid");
            require(::setresuid(identity.uid, identity.uid, identity.uid), "setresuid");
            body();
        },
        deadline);
}

void run_as(uid_t uid, const std::function<void()>& body, Deadline deadline) {
    run_as(Identity{.uid = uid, .gid = uid}, body, deadline);
}

void run_in_mount_namespace(const std::function<void()>& body, Deadline deadline) {
    run_in_child(
        [&] {
            require(::unshare(CLONE_NEWNS), "unshare");
            require(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "mount");
            body();
        },
        deadline);
}

}  // namespace fdbroker::test
