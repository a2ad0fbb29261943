// SPDX-License-Identifier: MIT
// Where the broker runs: beside the one peer that asks and waits, and wherever the system wants as soon as it is not
// alone.
#include <doctest/doctest.h>
#include <sched.h>

#include "opener/broker/cpu_affinity.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr std::string_view policy =
    "version: 1\nrules:\n  - {name: etc, allow: [read], paths: [/etc/passwd]}\n";

std::vector<std::uint16_t> cpus_of(pid_t pid) {
    cpu_set_t set;
    REQUIRE(::sched_getaffinity(pid, sizeof set, &set) == 0);
    std::vector<std::uint16_t> cpus;
    for (std::uint16_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    return cpus;
}

// Asks so many times as from this CPU, `together` requests in each message.
void ask_from(TestPeer& peer, std::uint16_t cpu, unsigned times, unsigned together = 1) {
    std::array<std::byte, 8192> buffer;
    for (; times > 0; --times) {
        proto::RequestWriter writer(buffer, cpu);
        for (std::uint32_t id = 1; id <= together; ++id)
            REQUIRE(writer.add({.id = id, .path = "/etc/passwd"}));
        peer.send(writer.message());
        for (std::size_t answered = 0; answered < together;) answered += peer.answers().size();
    }
}

// More than enough to settle, whatever the broker took for pipelining before.
constexpr unsigned often = 4 * opener::CpuAffinity::settled_after;

}  // namespace

TEST_CASE("placement: the broker follows the one peer that asks and waits, until another comes") {
    const auto everywhere = cpus_of(0);
    FDBROKER_SKIP_UNLESS(everywhere.size() > 1, "needs two CPUs");
    const TempDir directory;
    RunningOpener opener(directory, policy);
    const pid_t broker = opener.broker();
    TestPeer peer(opener.socket());
    for (const std::uint16_t cpu : {everywhere.front(), everywhere.back()}) {
        ask_from(peer, cpu, often);
        CHECK(cpus_of(broker) == std::vector{cpu});
    }
    SUBCASE("on another connection of the same user") {
        TestPeer other(opener.socket());
        ask_from(other, everywhere.front(), 1);
        CHECK(cpus_of(broker) == everywhere);
    }
    SUBCASE("with several requests at once") {
        ask_from(peer, everywhere.back(), 1, 2);
        CHECK(cpus_of(broker) == everywhere);
    }
    SUBCASE("on a CPU that is none") {
        ask_from(peer, 0xfffe, often);
        CHECK(cpus_of(broker) == everywhere);
    }
    CHECK(opener.stop() == 0);
}

TEST_CASE("placement: no peer has the broker moved while another user is connected") {
    const auto everywhere = cpus_of(0);
    FDBROKER_SKIP_UNLESS(everywhere.size() > 1 && is_root(), "needs two CPUs, and root");
    const TempDir directory;
    RunningOpener opener(directory, policy);
    TestPeer peer(opener.socket());
    {
        const auto others = peers_of(65534, opener, 1);
        ask_from(peer, everywhere.front(), often);
        CHECK(cpus_of(opener.broker()) == everywhere);
    }
    CHECK(opener.stop() == 0);
}
