// SPDX-License-Identifier: MIT
// Whether the broker looks for requests without sleeping: how that is switched off, and that an idle broker never does.
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/syscall.h>

#include <sstream>

#include "proto/channel.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

std::string policy(std::string_view limits = "") {
    return "version: 1\nrules:\n  - {name: etc, allow: [read], paths: [/etc/passwd]}\n" + std::string(limits);
}

bool tells_clients_to_sleep(const RunningOpener& opener) {
    const TestPeer peer(opener.socket());
    std::array<std::byte, 64> buffer;
    peer.send(std::span(buffer).first(proto::write_hello(buffer)));
    const auto message = proto::receive(peer.socket(), buffer, proto::Wait::block);
    REQUIRE(message);
    const auto reply = proto::read_hello_reply(*message);
    REQUIRE(reply);
    return (reply->calls & proto::no_busy_poll) != 0;
}

// proc_pid_syscall(5): "NUMBER ARGUMENT…", or "running".
struct Call {
    long number = -1;
    long timeout = 0;  // milliseconds; only for epoll_wait(2) and epoll_pwait(2)
};
Call call_of(pid_t pid) {
    std::istringstream text(read_file("/proc/" + std::to_string(pid) + "/syscall"));
    Call call;
    unsigned long argument = 0;
    text >> call.number >> std::hex;
    for (int index = 0; index < 4 && text >> argument; ++index) call.timeout = static_cast<int>(argument);
    return call;
}

// Until the process sleeps in epoll, for as long as it takes; throws at the deadline.
void wait_until_asleep_for_good(pid_t pid) {
    const Deadline deadline = in_good_time();
    for (;;) {
        const Call call = call_of(pid);
        const bool waits = call.number == SYS_epoll_pwait
#ifdef SYS_epoll_wait
                           || call.number == SYS_epoll_wait
#endif
            ;
        if (waits && call.timeout == -1) return;
        if (Deadline::clock::now() > deadline) throw std::runtime_error("the process does not go to sleep");
        ::sched_yield();
    }
}

}  // namespace

TEST_CASE("waiting: the policy and the command line switch it off, and clients are told") {
    const TempDir directory;
    SUBCASE("on by default") {
        RunningOpener opener(directory, policy());
        CHECK_FALSE(tells_clients_to_sleep(opener));
        CHECK(opener.stop() == 0);
    }
    SUBCASE("off in the policy") {
        RunningOpener opener(directory, policy("limits: {busy_poll: 0}\n"), {"--busy-poll", "20"});
        CHECK(tells_clients_to_sleep(opener));
        CHECK(opener.stop() == 0);
    }
    SUBCASE("off on the command line") {
        RunningOpener opener(directory, policy("limits: {busy_poll: 100}\n"), {"--busy-poll", "0"});
        CHECK(tells_clients_to_sleep(opener));
        CHECK(opener.stop() == 0);
    }
}

TEST_CASE("waiting: a broker that nobody asks sleeps without end, however it was asked before") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to see the broker's system call");
    const TempDir directory;
    RunningOpener opener(directory, policy("limits: {busy_poll: 1000}\n"));
    TestPeer peer(opener.socket());
    // From a CPU that the broker is not on, as far as it knows.
    for (unsigned times = 0; times < 200; ++times) CHECK(peer.open("/etc/passwd").status == 0);
    CHECK_NOTHROW(wait_until_asleep_for_good(opener.broker()));
    // The records of the sessions are out of the way, and the broker has nothing to come back to.
    CHECK(peer.open("/etc/passwd").status == 0);
    CHECK_NOTHROW(wait_until_asleep_for_good(opener.broker()));
    CHECK(opener.stop() == 0);
}
