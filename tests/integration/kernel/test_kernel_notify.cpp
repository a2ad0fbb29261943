// SPDX-License-Identifier: MIT
// What the kernel does, where `worker run` leans on it. A kernel that does otherwise fails here first.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "proto/channel.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"
#include "worker/sandbox/filter_builder.hpp"
#include "worker/sandbox/landlock.hpp"

namespace fdbroker::test {

using proto::UniqueFd;
using proto::Wait;

namespace {

// A child whose umask(2) waits for an answer, and the descriptor on which it is told.
class AskingChild {
  public:
    AskingChild() {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
        const UniqueFd ours(ends[0]);
        const UniqueFd theirs(ends[1]);
        pid_ = ::fork();
        if (pid_ == 0) ask(theirs);
        std::array<std::byte, 1> message;
        proto::ReceivedDescriptors descriptors;
        REQUIRE(proto::receive(ours.borrow(), message, descriptors, Wait::block, proto::FullTable::fail));
        REQUIRE(descriptors.count() == 1);
        listener_ = descriptors.take(0);
    }
    ~AskingChild() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    seccomp_notif receive() const {
        wait_readable(listener_.borrow());
        seccomp_notif notification{};
        REQUIRE(::ioctl(listener_.number(), SECCOMP_IOCTL_NOTIF_RECV, &notification) == 0);
        return notification;
    }
    int add(const seccomp_notif& notification, const UniqueFd& file) const {
        seccomp_notif_addfd added{.id = notification.id,
                                  .flags = 0,
                                  .srcfd = static_cast<std::uint32_t>(file.number()),
                                  .newfd = 0,
                                  .newfd_flags = 0};
        return ::ioctl(listener_.number(), SECCOMP_IOCTL_NOTIF_ADDFD, &added);
    }

  private:
    [[noreturn]] static void ask(const UniqueFd& parent) {
        worker::FilterBuilder builder(SCMP_ACT_ALLOW, SCMP_ACT_ALLOW);
        builder.notify("umask");
        const auto listener = builder.load_with_listener();
        if (!listener) ::_exit(1);
        const proto::BorrowedFd sent = listener->borrow();
        constexpr std::array message{std::byte{'L'}};
        if (!proto::send(parent.borrow(), message, std::span(&sent, 1), Wait::block)) ::_exit(1);
        ::umask(0);
        ::_exit(0);
    }

    pid_t pid_ = -1;
    UniqueFd listener_{};
};

}  // namespace

TEST_CASE("kernel: a descriptor of O_PATH cannot be injected, another can") {
    const AskingChild child;
    const seccomp_notif notification = child.receive();
    CHECK(child.add(notification, UniqueFd(::open("/", O_RDONLY | O_CLOEXEC))) >= 0);
    CHECK(child.add(notification, UniqueFd(::open("/", O_PATH | O_CLOEXEC))) == -1);
    CHECK(errno == EBADF);
}

TEST_CASE(
    "kernel: Landlock lets a process read the memory of those in domains within its own, and of no other") {
    const auto abi = worker::landlock_abi();
    FDBROKER_SKIP_UNLESS(abi.has_value(), "needs Landlock");
    // In a child, since a domain cannot be left.
    run_in_child([&] {
        const auto restrict_self = [&] {
            return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                   worker::restrict_by_landlock(*abi, {}, worker::Network::none, worker::Scopes::none)
                       .has_value();
        };
        static char word[] = "word";
        const auto can_read = [&](pid_t pid) {
            std::array<char, sizeof word> text{};
            const iovec local{text.data(), text.size()};
            const iovec remote{word, sizeof word};
            return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof word;
        };
        const auto waiting_child = [&](bool restricted) {
            std::array<int, 2> ready{};
            REQUIRE(::pipe(ready.data()) == 0);
            const pid_t pid = ::fork();
            if (pid == 0) {
                if (restricted && !restrict_self()) ::_exit(1);
                static_cast<void>(::write(ready[1], "x", 1));
                ::pause();
            }
            char byte = 0;
            REQUIRE(::read(ready[0], &byte, 1) == 1);
            return pid;
        };
        const pid_t before = waiting_child(true);
        CHECK(can_read(before));
        REQUIRE(restrict_self());
        const pid_t within = waiting_child(true);
        CHECK(can_read(within));
        CHECK_FALSE(can_read(before));
        for (const pid_t pid : {before, within}) {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    });
}

}  // namespace fdbroker::test
