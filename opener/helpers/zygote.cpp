// SPDX-License-Identifier: MIT
#include "opener/helpers/zygote.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>
#include <vector>

#include "opener/base/log_stderr.hpp"
#include "opener/config/options.hpp"
#include "opener/confinement/close_descriptors.hpp"
#include "opener/confinement/landlock.hpp"
#include "opener/confinement/seccomp_filter.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

struct Channel {
    UniqueFd maker;
    UniqueFd made;
};

Result<Channel> make_channel() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return proto::system_error("socketpair");
    return Channel{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// The child's first act: from now on it dies with `parent`, which may have died already.
void die_with(pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(exit_failed);
}

[[noreturn]] void fail(std::string_view what, const proto::Error& why) {
    log_stderr(fmt::format("a process that makes helpers could not start: {}: {}", what, why.message()));
    ::_exit(exit_failed);
}

// As far as the kernel has it, which the broker has found out and reported.
void restrict_by_landlock(BorrowedFd ruleset) {
    if (!ruleset) return;
    if (const auto restricted = restrict_by_ruleset(ruleset); !restricted)
        fail("Landlock", restricted.error());
}

// A kernel without filters is reported by the broker, which has found out the same.
void filter_calls(FilterFor whom, const ModifyingCalls& calls) {
    const auto installed = install_seccomp_filter(whom, calls);
    if (!installed && !is_missing_seccomp(installed.error())) fail("seccomp", installed.error());
}

class Zygote {
  public:
    Zygote(const HelperServices& services, const ModifyingCalls& calls, UniqueFd channel)
        : services_(services), calls_(calls), channel_(std::move(channel)) {}

    [[noreturn]] void run() {
        for (;;) {
            std::array<std::byte, 2> order;
            if (!proto::receive(channel_.borrow(), order, proto::Wait::block)) ::_exit(exit_done);
            answer(make_helper());
        }
    }

  private:
    Result<UniqueFd> make_helper() {
        auto channel = make_channel();
        if (!channel) return std::unexpected(channel.error());
        // The helper's end has to take its peers' connections.
        proto::refuse_descriptors(channel->maker.borrow());
        const pid_t zygote = ::getpid();
        const pid_t pid = ::fork();
        if (pid < 0) return proto::system_error("fork");
        if (pid == 0) {
            die_with(zygote);
            channel_.reset();
            channel->maker.reset();
            filter_calls(FilterFor::helper, calls_);
            run_helper(services_, std::move(channel->made));
        }
        return std::move(channel->maker);
    }

    void answer(const Result<UniqueFd>& helper) {
        const int status = helper ? 0 : helper.error().errno_value;
        const BorrowedFd attached = helper ? helper->borrow() : BorrowedFd();
        const auto sent = proto::send(channel_.borrow(), std::as_bytes(std::span(&status, 1)),
                                      std::span(&attached, helper ? 1 : 0), proto::Wait::block);
        if (!sent) ::_exit(exit_done);
    }

    const HelperServices& services_;
    const ModifyingCalls& calls_;
    UniqueFd channel_;
};

}  // namespace

Result<UniqueFd> start_zygote(const HelperServices& services, const ZygoteConfinement& held_to,
                              std::span<const BorrowedFd> keep) {
    auto channel = make_channel();
    if (!channel) return std::unexpected(channel.error());
    proto::refuse_descriptors(channel->made.borrow());
    // Nobody waits for zygotes and helpers: their channels tell of their ends.
    std::signal(SIGCHLD, SIG_IGN);
    const pid_t broker = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return proto::system_error("fork");
    if (pid > 0) return std::move(channel->maker);

    die_with(broker);
    restrict_by_landlock(held_to.landlock);
    std::vector<BorrowedFd> kept(keep.begin(), keep.end());
    kept.push_back(channel->made.borrow());
    for (const BoundDirectory& directory : services.resolver.directories())
        for (const UniqueFd* const fd : {&directory.fd, &directory.without_devices, &directory.read_only})
            if (*fd) kept.push_back(fd->borrow());
    if (const auto closed = close_all_but(kept); !closed) fail("close", closed.error());
    filter_calls(FilterFor::zygote, held_to.calls);
    Zygote(services, held_to.calls, std::move(channel->made)).run();
}

}  // namespace fdbroker::opener
