// SPDX-License-Identifier: MIT
#include "tests/integration/confinement_support.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"

namespace fdbroker::test {

namespace {

std::array<proto::UniqueFd, 2> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        throw std::system_error(errno, std::generic_category(), "pipe2");
    return {proto::UniqueFd(ends[0]), proto::UniqueFd(ends[1])};
}

}  // namespace

int attempt(long result) {
    return result < 0 ? errno : 0;
}

int attempt_open(long descriptor) {
    if (descriptor < 0) return errno;
    ::close(static_cast<int>(descriptor));
    return 0;
}

int openat2_of(int directory, const std::string& path, std::uint64_t flags, std::uint64_t resolve) {
    open_how how{};
    how.flags = flags;
    how.resolve = resolve;
    if ((flags & O_CREAT) != 0) how.mode = 0600;
    return static_cast<int>(::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how));
}

std::vector<proto::BorrowedFd> streams_and_pipes() {
    std::vector<proto::BorrowedFd> kept;
    const DescriptorTable open = DescriptorTable::now();
    for (const auto& [number, what] : open.entries()) {
        if (number <= STDERR_FILENO || what.starts_with("pipe:")) kept.emplace_back(number);
    }
    return kept;
}

opener::ConfinementPlan plan_for(const std::vector<policy::Directory>& directories) {
    const auto account = opener::choose_account(std::nullopt);
    if (!account) throw std::runtime_error(account.error().message());
    return opener::plan_confinement(directories, *account);
}

policy::Directory directory_for(const std::string& path, policy::OperationSet operations) {
    return {.path = path, .operations = operations};
}

opener::Confined confine_here(const opener::ConfinementPlan& plan) {
    auto confined = opener::confine(plan, streams_and_pipes());
    if (!confined) throw std::runtime_error("confine: " + confined.error().message());
    return std::move(*confined);
}

void run_beside(const std::function<void()>& inside, const std::function<void(pid_t)>& outside) {
    auto [ready, say_ready] = make_pipe();
    auto [go_on, say_go_on] = make_pipe();
    std::exception_ptr failure;
    std::thread observer([&] {
        pid_t child = 0;
        if (::read(ready.number(), &child, sizeof child) != sizeof child)
            return;  // confinement failed before
        try {
            outside(child);
        } catch (...) {
            failure = std::current_exception();
        }
        say_go_on.reset();
    });
    try {
        run_in_child([&] {
            say_go_on.reset();
            inside();
            const pid_t self = ::getpid();
            REQUIRE(::write(say_ready.number(), &self, sizeof self) == sizeof self);
            char end = 0;
            CHECK(::read(go_on.number(), &end, 1) == 0);
        });
    } catch (...) {
        if (!failure) failure = std::current_exception();
    }
    say_ready.reset();
    observer.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace fdbroker::test
