// SPDX-License-Identifier: MIT
// What outlives the start of a generation: its report, the policy that it kept, the supervisor's facts.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "opener/base/memory_file.hpp"
#include "opener/link/start_report.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/policy_source/policy_snapshot.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;

namespace {

PolicyText some_text() {
    return {.main = {.name = "/etc/policy.yaml", .text = std::string("with\0NUL", 8)},
            .fragments = {{.pattern = "policy.d/*.yaml",
                           .sources = {{.name = "policy.d/a.yaml", .text = ""},
                                       {.name = "policy.d/b.yaml", .text = "rules"}}},
                          {.pattern = "none/*", .sources = {}}},
            .accounts = {.users = {{"alice", 1000}, {"gone", std::nullopt}}, .groups = {{"adm", 4}}},
            .broker_accounts = {{.uid = 999, .gid = 998, .name = "fdbroker", .changes = true}}};
}

std::size_t mappings_of(const std::string& name) {
    const std::string maps = test::read_file("/proc/self/maps");
    std::size_t found = 0;
    for (std::size_t at = maps.find(name); at != std::string::npos; at = maps.find(name, at + 1)) ++found;
    return found;
}

}  // namespace

TEST_CASE("policy snapshot: the text is read as it was kept, fragments and empty ones included") {
    const auto before = test::DescriptorTable::now();
    {
        auto kept = PolicySnapshot::create();
        REQUIRE(kept);
        REQUIRE(kept->keep(some_text()));
        for (int i = 0; i < 2; ++i) {
            const auto text = kept->read();
            REQUIRE(text);
            CHECK(text->main.name == "/etc/policy.yaml");
            CHECK(text->main.text == std::string("with\0NUL", 8));
            REQUIRE(text->fragments.size() == 2);
            CHECK(text->fragments[0].pattern == "policy.d/*.yaml");
            REQUIRE(text->fragments[0].sources.size() == 2);
            CHECK(text->fragments[0].sources[0].text == "");
            CHECK(text->fragments[0].sources[1].name == "policy.d/b.yaml");
            CHECK(text->fragments[0].sources[1].text == "rules");
            CHECK(text->fragments[1].sources.empty());
            CHECK(text->accounts.users == some_text().accounts.users);
            CHECK(text->accounts.groups == some_text().accounts.groups);
            REQUIRE(text->broker_accounts.size() == 1);
            CHECK(text->broker_accounts[0].uid == 999);
            CHECK(text->broker_accounts[0].gid == 998);
            CHECK(text->broker_accounts[0].name == "fdbroker");
            CHECK(text->broker_accounts[0].changes);
        }
    }
    CHECK(test::DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("policy snapshot: a policy is kept once, and an empty file is no policy") {
    auto kept = PolicySnapshot::create();
    REQUIRE(kept);
    CHECK(kept->read().error().errno_value == EINVAL);
    REQUIRE(kept->keep(some_text()));
    CHECK(kept->keep(some_text()).error().errno_value == EPERM);
}

TEST_CASE("policy snapshot: a pattern that was not kept does not load") {
    PolicyText text{.main = {.name = "policy.yaml",
                             .text = "version: 1\ninclude: [\"other.d/*\"]\nrules:\n"
                                     "  - {name: a, allow: [read], paths: [/a]}\n"},
                    .fragments = {}};
    const auto refused = load_policy(text);
    REQUIRE(!refused);
    CHECK(refused.error().front().what().starts_with("policy.yaml:2:"));
    text.fragments.push_back({.pattern = "other.d/*", .sources = {}});
    CHECK(load_policy(text));
}

TEST_CASE("policy snapshot: accounts are those that were found, whatever the database says now") {
    const PolicyText text{
        .main = {.name = "policy.yaml",
                 .text = "version: 1\nroles: {a: {users: [no-such-user], groups: [no-such-group]}}\nrules:\n"
                         "  - {name: a, roles: [a], allow: [read], paths: [/a]}\n"
                         "tests:\n  - {as: {user: root}, read: /a, expect: allow}\n"},
        .accounts = {.users = {{"no-such-user", 4711}, {"root", 0}}, .groups = {{"no-such-group", 4712}}}};
    const auto loaded = load_policy(text);
    REQUIRE(loaded);
    CHECK(loaded->tolerated.empty());
    const auto path = policy::RequestPath::parse("/a");
    const auto allowed = [&](policy::PeerIdentity identity) {
        return loaded->policy
            .decide(loaded->policy.identify(std::move(identity)), {policy::Operation::read}, *path)
            .has_value();
    };
    CHECK(allowed({.uid = 4711, .gid = 4712, .user = "no-such-user"}));
    CHECK_FALSE(allowed({.uid = 4711, .gid = 1, .user = "no-such-user"}));
}

TEST_CASE(
    "start report: messages of both processes are kept in order up to the limit, and then cannot change") {
    test::run_in_child([] {
        // Messages go to standard error as well.
        const proto::UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
        REQUIRE(::dup2(null.number(), STDERR_FILENO) == STDERR_FILENO);
        auto report = StartReport::create();
        REQUIRE(report);
        test::run_in_child([&] { report->log_stderr_plainly("the child"); });
        report->log_stderr("the parent");
        const std::string longest(StartReport::max_size, 'x');
        report->log_stderr(longest);
        report->log_stderr("more");
        const proto::UniqueFd taken = report->take();
        const auto text = read_sealed(taken.borrow());
        REQUIRE(text);
        CHECK(text->starts_with("the child\nthe parent\nxxx"));
        CHECK(text->size() == StartReport::max_size);
        CHECK(::write(taken.number(), "x", 1) < 0);
        report->log_stderr("later");
        CHECK(read_sealed(taken.borrow()).value() == *text);
    });
}

TEST_CASE("memory file: a file that is not sealed is not read") {
    auto file = make_memory_file("test");
    REQUIRE(file);
    REQUIRE(write_all(file->borrow(), std::as_bytes(std::span("text", 4))));
    CHECK(read_sealed(file->borrow()).error().errno_value == EINVAL);
    REQUIRE(seal(file->borrow()));
    CHECK(read_sealed(file->borrow()).value() == "text");
}

TEST_CASE("facts: a reader sees what the supervisor writes, and can write nothing itself") {
    auto page = FactsPage::create();
    REQUIRE(page);
    page->facts().connections = 1;
    test::run_in_child([&] {
        REQUIRE(page->become_reader());
        CHECK(page->facts().connections == 1);
        const auto memory = reinterpret_cast<std::uintptr_t>(&page->facts());
        CHECK(::mprotect(reinterpret_cast<void*>(memory), 1, PROT_READ | PROT_WRITE) == -1);
        CHECK(errno == EACCES);
        // And no other mapping of it is left.
        CHECK(mappings_of("memfd:supervisor-facts") == 1);
    });
    page->facts().connections = 2;
    CHECK(page->facts().connections == 2);
}
