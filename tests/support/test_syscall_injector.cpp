// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <utility>

#include "proto/unique_fd.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/syscall_injector.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

constexpr const char* needs_x86_64 = "only x86-64 can inject system calls";

// A child that runs `wait(pipe)` and exits with what that returns; the test writes to the pipe's other end.
class Child {
  public:
    explicit Child(const std::function<int(int pipe)>& wait) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        const proto::UniqueFd read_end(ends[0]);
        write_end_ = proto::UniqueFd(ends[1]);
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            write_end_.reset();
            ::_exit(wait(read_end.number()));
        }
    }
    ~Child() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    pid_t pid() const { return pid_; }
    int let_go() {
        REQUIRE(::write(write_end_.number(), "x", 1) == 1);
        int status = 0;
        REQUIRE(::waitpid(std::exchange(pid_, -1), &status, 0) > 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    void reaped() { pid_ = -1; }

  private:
    pid_t pid_ = -1;
    proto::UniqueFd write_end_{};
};

int read_one(int pipe) {
    char byte = 0;
    return ::read(pipe, &byte, 1) == 1 && byte == 'x' ? 42 : 1;
}

}  // namespace

TEST_CASE("syscall_injector: the process makes the calls, and then goes on as if nothing had been") {
    FDBROKER_SKIP_UNLESS(SyscallInjector::is_supported(), needs_x86_64);
    const TempDir top;
    write_file(top / "file", "text");
    const DescriptorTable before = DescriptorTable::now();
    {
        Child child(read_one);
        {
            SyscallInjector injector(child.pid());
            CHECK(injector.call(SYS_getpid) == child.pid());
            const std::string file = top / "file";
            const long fd = injector.call(SYS_openat, {AT_FDCWD, file, O_RDONLY});
            REQUIRE(fd >= 0);
            CHECK(DescriptorTable::of(child.pid()).entries().at(static_cast<int>(fd)) == file);
            CHECK(injector.call(SYS_openat, {AT_FDCWD, file + "2", O_RDONLY}) == -ENOENT);
            const open_how how{.flags = O_RDONLY, .mode = 0, .resolve = 0};
            const long second =
                injector.call(SYS_openat2, {AT_FDCWD, file, InjectedArgument::bytes_of(how), sizeof how});
            CHECK(second > fd);
            CHECK(injector.call(SYS_close, {fd}) == 0);
            CHECK(injector.call(SYS_close, {fd}) == -EBADF);
        }
        CHECK(child.let_go() == 42);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("syscall_injector: a call that was waited in with a timeout is waited in again") {
    FDBROKER_SKIP_UNLESS(SyscallInjector::is_supported(), needs_x86_64);
    Child child([](int pipe) {
        pollfd entry{pipe, POLLIN, 0};
        return ::poll(&entry, 1, 60'000) == 1 ? 42 : 1;
    });
    for (int round = 0; round < 3; ++round) {
        SyscallInjector injector(child.pid());
        CHECK(injector.call(SYS_getppid) == ::getpid());
    }
    CHECK(child.let_go() == 42);
}

TEST_CASE("syscall_injector: attaching without a call changes nothing") {
    FDBROKER_SKIP_UNLESS(SyscallInjector::is_supported(), needs_x86_64);
    Child child(read_one);
    {
        const SyscallInjector injector(child.pid());
    }
    CHECK(child.let_go() == 42);
}

TEST_CASE("syscall_injector: a call that ends the process says so") {
    FDBROKER_SKIP_UNLESS(SyscallInjector::is_supported(), needs_x86_64);
    Child child(read_one);
    {
        SyscallInjector injector(child.pid());
        CHECK_THROWS_WITH(injector.call(SYS_exit_group, {3}), "the call ended the process with status 3");
    }
    child.reaped();
    CHECK_THROWS(SyscallInjector(child.pid()));
}

}  // namespace fdbroker::test
