// SPDX-License-Identifier: MIT
// Suggested rules, unused rules, and edits that would allow a request.
#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "policy/advice/edit.hpp"
#include "policy/advice/guarded.hpp"
#include "policy/advice/suggest.hpp"
#include "policy/advice/usage.hpp"
#include "policy/advice/why_not.hpp"
#include "policy/explain/explain.hpp"
#include "policy/language/compile.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

RequestPath parsed(const std::string& path) {
    const auto request = RequestPath::parse(path);
    REQUIRE(request.has_value());
    return *request;
}

PeerIdentity bob() {
    return {.uid = 1001, .gid = 1001, .user = "bob", .group = "bob", .listener = "default"};
}

RefusedRequest refused(const PeerIdentity& peer, OperationSet operations, const std::string& path) {
    return {.peer = peer, .operations = operations, .path = path};
}

PeerIdentity alice_here() {
    PeerIdentity peer = alice();
    peer.listener = "default";
    return peer;
}

constexpr OperationSet reading{Operation::read};

// "read by alice: /a /b"
std::vector<std::string> lines(const Suggestion& suggestion) {
    std::vector<std::string> lines;
    for (const SuggestedRule& rule : suggestion.rules) {
        std::string line = (rule.denies ? "no " : "") + to_text(rule.operations) + " by";
        for (const SuggestedPeer& peer : rule.peers) line += " " + peer.user;
        line += ":";
        for (const SuggestedPath& path : rule.paths) line += " " + path.pattern;
        lines.push_back(line);
    }
    return lines;
}
using Lines = std::vector<std::string>;

const std::string policy_text =
    "version: 1\nroles:\n  alice: {users: [alice]}\n  web: {users: [www-data]}\nrules:\n"
    "  - {name: site, roles: [alice], allow: [read, stat], paths: [\"/srv/www/**\"]}\n"
    "  - {name: keys, deny: all, paths: [\"/srv/**/*.secret\"]}\n"
    "  - {name: logs, roles: [web], allow: [read], paths: [\"/var/log/app/*\"]}\n";

TEST_CASE("edit: a policy's draft compiles to a policy without a difference") {
    const Policy policy = load_text(policy_text);
    const Policy again = compile(draft_of(policy));
    CHECK(diff(policy, again, FakeAccounts()).empty());
    PolicyDraft wider = draft_of(policy);
    wider.rules[0].rule.operations = wider.rules[0].rule.operations | OperationSet{Operation::write};
    CHECK_FALSE(diff(policy, compile(std::move(wider)), FakeAccounts()).empty());
}

TEST_CASE("edit: the pattern of a path matches that path alone, whatever its bytes") {
    std::mt19937 random(5);
    for (unsigned tries = 0; tries < 2'000; ++tries) {
        const auto name = [&] {
            std::string bytes;
            constexpr std::string_view likely = "*?[]{}\\$,!-^ab\xc3\xa9.";
            for (unsigned left = 1 + static_cast<unsigned>(random() % 6); left > 0; --left)
                bytes += random() % 3 == 0 ? static_cast<char>(1 + random() % 255)
                                           : likely[random() % likely.size()];
            std::erase(bytes, '/');
            return bytes.empty() || bytes == "." || bytes == ".." ? std::string("a") : bytes;
        };
        const std::string path = '/' + name() + '/' + name();
        PolicyDraft draft;
        RuleDraft& rule = draft.rules.emplace_back();
        rule.rule.allows = true;
        rule.rule.operations = reading;
        rule.paths.push_back(path_draft(pattern_of(path)));
        CHECK(rule.paths.front().patterns.size() == 1);
        CHECK(rule.paths.front().patterns.front().is_literal());
        const Policy policy = compile(std::move(draft));
        CHECK(policy.decide(policy.identify(alice()), reading, parsed(path)).has_value());
    }
}

TEST_CASE("suggest: paths that need the same share a rule, as do peers that need the same paths") {
    const Suggestion found =
        suggest({refused(alice_here(), reading, "/a/x"), refused(alice_here(), reading, "/a/y"),
                 refused(bob(), reading, "/a/x"), refused(bob(), reading, "/a/y"),
                 refused(alice_here(), {Operation::write}, "/b"), refused(alice_here(), reading, "/b")},
                FakeAccounts(), {});
    CHECK(lines(found) == Lines{"read, write by alice: /b", "read by alice bob: /a/x /a/y"});
}

TEST_CASE("suggest: only operations that the policy lacks are added, none that it denies") {
    const Policy policy = load_text(policy_text);
    const Suggestion found =
        suggest({refused(alice_here(), {Operation::read, Operation::write}, "/srv/www/a"),
                 refused(alice_here(), reading, "/srv/www/b"),
                 refused(alice_here(), reading, "/srv/x.secret"), refused(bob(), reading, "/srv/[x]/*")},
                FakeAccounts(), {.policy = &policy});
    CHECK(lines(found) == Lines{"write by alice: /srv/www/a", "read by bob: /srv/\\[x\\]/\\*"});
    REQUIRE(found.left_out.size() == 2);
    CHECK(found.left_out[0].why == LeftOut::Why::allowed_already);
    CHECK(found.left_out[1].why == LeftOut::Why::denied);
    const Policy after = policy_with(&policy, found.rules);
    for (const RefusedRequest& request : found.allowed)
        CHECK(
            after.decide(after.identify(request.peer), request.operations, parsed(request.path)).has_value());
    // A record of a deny rule counts without the policy, too.
    RefusedRequest denied = refused(bob(), reading, "/srv/x");
    denied.denied = true;
    CHECK(suggest({denied}, FakeAccounts(), {}).rules.empty());
}

TEST_CASE("suggest: secrets and what is no file are left out unless they are included") {
    const std::vector<std::string> secrets{"/etc/shadow",
                                           "/etc/gshadow-",
                                           "/root",
                                           "/root/x/y",
                                           "/proc/self/maps",
                                           "/dev/sda",
                                           "/sys/kernel",
                                           "/home/alice/.ssh/config",
                                           "/srv/tls/site.key",
                                           "/a/id_ed25519",
                                           "/etc/ssh/ssh_host_rsa_key",
                                           "/etc/ssl/private/a",
                                           "/etc/sudoers.d/x"};
    std::vector<RefusedRequest> requests;
    for (const std::string& path : secrets) requests.push_back(refused(alice_here(), reading, path));
    const Suggestion none = suggest(requests, FakeAccounts(), {});
    CHECK(none.rules.empty());
    CHECK(none.left_out.size() == secrets.size());
    const Suggestion some = suggest(requests, FakeAccounts(), {.include = {"/root/**", "/dev/sda"}});
    CHECK(lines(some) == Lines{"read by alice: /dev/sda /root/x/y"});
}

TEST_CASE("suggest: patterns are joined only when asked for, and what that opens is told") {
    std::vector<RefusedRequest> requests;
    for (const char* const path : {"/srv/app/a.html", "/srv/app/b.html", "/srv/app/c.html", "/srv/app/d.txt"})
        requests.push_back(refused(alice_here(), reading, path));
    requests.push_back(refused(alice_here(), {Operation::write}, "/home/alice/notes"));
    requests.push_back(refused(bob(), {Operation::write}, "/home/bob/notes"));
    CHECK(suggest(requests, FakeAccounts(), {}).generalisations.empty());
    const Suggestion found = suggest(requests, FakeAccounts(), {.generalise = Generalise::yes});
    CHECK(lines(found) ==
          Lines{"read by alice: /srv/app/d.txt /srv/app/*.html", "write by alice bob: /home/${user}/notes"});
    REQUIRE(found.generalisations.size() == 2);
    CHECK(found.generalisations[0].to == "/home/${user}/notes");
    CHECK(found.generalisations[0].opens.empty());
    CHECK(found.generalisations[1].to == "/srv/app/*.html");
    REQUIRE(found.generalisations[1].opens.size() == 1);
    CHECK(found.generalisations[1].opens[0].path.ends_with(".html"));
    CHECK(found.generalisations[1].opens[0].operations == reading);
}

TEST_CASE("suggest: directories with enough below them become **, but none that holds a secret") {
    std::vector<RefusedRequest> requests;
    for (const char* const path : {"/srv/app/a", "/srv/app/b/c", "/srv/app/b/d", "/srv/app/e/f/g",
                                   "/etc/ssl/a", "/etc/ssl/b", "/etc/ssl/c", "/etc/ssl/d"})
        requests.push_back(refused(alice_here(), reading, path));
    const Suggestion found = suggest(requests, FakeAccounts(), {.generalise = Generalise::yes});
    REQUIRE(found.rules.size() == 2);
    CHECK(lines(found)[0] == "read by alice: /etc/ssl/a /etc/ssl/b /etc/ssl/c /etc/ssl/d /srv/app/**");
    CHECK(lines(found)[1].starts_with("no read by alice: /srv/app/**/*.{key,"));
    const Policy policy = policy_with(nullptr, found.rules);
    const Peer peer = policy.identify(alice_here());
    CHECK(policy.decide(peer, reading, parsed("/srv/app/x/y")).has_value());
    for (const char* const secret : {"/srv/app/site.key", "/srv/app/x/.ssh/config", "/srv/app/id_rsa"})
        CHECK_FALSE(policy.decide(peer, reading, parsed(secret)).has_value());
    const Guard guard({});
    CHECK(guard.reached_by("/etc/ssl/**") == Guard::Reached::places);
    CHECK(guard.reached_by("/etc/s*") == Guard::Reached::places);
    CHECK(guard.reached_by("/srv/**") == Guard::Reached::names);
    CHECK(guard.reached_by("/home/${user}/*.txt") == Guard::Reached::nothing);
    CHECK(guard.reached_by("/etc/hosts") == Guard::Reached::nothing);
    CHECK(Guard({"/etc/ssl/private/**"}).reached_by("/etc/ssl/**") == Guard::Reached::names);
}

TEST_CASE("usage: rules that nobody used, and what of others was never used") {
    const Policy policy = load_text(
        "version: 1\nroles:\n  alice: {users: [alice]}\n  bob: {users: [bob]}\nrules:\n"
        "  - {name: site, roles: [alice, bob], allow: [read, stat, list], paths: [\"/srv/www/**\", "
        "/etc/motd]}\n"
        "  - {name: never, allow: [read], paths: [/never]}\n"
        "  - {name: tight, allow: [read], paths: [/etc/hosts]}\n"
        "  - {name: no, deny: all, paths: [/no]}\n");
    Usage usage(policy);
    usage.note(alice(), reading, parsed("/srv/www/img/a/1"), 2);
    usage.note(alice(), {Operation::stat}, parsed("/srv/www/img/b"), 1);
    usage.note(bob(), reading, parsed("/etc/hosts"), 1);
    usage.note(bob(), reading, parsed("/elsewhere"), 1);
    const auto report = usage.report();
    REQUIRE(report.size() == 3);
    CHECK(report[0].rule->name == "site");
    CHECK(report[0].requests == 3);
    CHECK(report[0].unused_operations == OperationSet{Operation::list});
    CHECK(report[0].unused_roles == Lines{"bob"});
    CHECK(report[0].unused_patterns == Lines{"/etc/motd"});
    REQUIRE(report[0].narrower.size() == 1);
    CHECK(report[0].narrower[0] == std::pair<std::string, std::string>("/srv/www/**", "/srv/www/img/**"));
    CHECK(report[1].rule->name == "never");
    CHECK(report[2].rule->name == "no");
    usage.note(bob(), reading, parsed("/no/x"), 1);
    CHECK(usage.report().size() == 2);
}

TEST_CASE("why not: each edit would allow the request, the one that opens nothing else first") {
    const Policy policy = load_text(policy_text);
    const auto edits = why_not(policy, FakeAccounts(), alice(), {Operation::write}, parsed("/srv/www/a"));
    REQUIRE(edits.size() == 2);
    CHECK(edits[0].opens.empty());
    CHECK(edits[0].changes ==
          Lines{"a new rule: roles: one of {users: [alice]}, allow: [write], paths: [\"/srv/www/a\"]"});
    CHECK(edits[1].changes == Lines{"rule \"site\": allow: add write"});
    REQUIRE(edits[1].opens.size() == 1);
    CHECK(edits[1].opens[0].operations == OperationSet{Operation::write});
    CHECK(why_not(policy, FakeAccounts(), alice(), reading, parsed("/srv/www/a")).empty());
}

TEST_CASE("why not: a role or a pattern may be what is missing") {
    const Policy policy = load_text(policy_text);
    const auto role = why_not(policy, FakeAccounts(), bob(), reading, parsed("/var/log/app/x"));
    REQUIRE(role.size() == 2);
    CHECK(role[1].changes == Lines{"rule \"logs\": roles: add a role of {users: [bob]}"});
    REQUIRE(role[1].opens.size() == 1);
    CHECK(role[1].opens[0].peers == Lines{"user bob (uid 1001)"});
    const auto pattern = why_not(policy, FakeAccounts(), alice(), reading, parsed("/srv/www.html"));
    CHECK_FALSE(pattern.empty());
    PeerIdentity web = alice();
    web.uid = 33;
    web.user = "www-data";
    const auto near = why_not(policy, FakeAccounts(), web, reading, parsed("/var/log/app/x/y"));
    REQUIRE(near.size() == 2);
    CHECK(std::ranges::any_of(near, [](const WhyNotEdit& one) {
        return one.changes == Lines{"rule \"logs\": paths: add \"/var/log/app/x/y\""} && one.opens.empty();
    }));
}

TEST_CASE("why not: every rule that denies must let go, and what that opens is told") {
    const Policy policy = load_text(
        "version: 1\nrules:\n  - {name: all, allow: [read, stat], paths: [\"/srv/**\"]}\n"
        "  - {name: one, deny: [read], paths: [\"/srv/**/x\", /tmp/x]}\n  - {name: two, deny: all, paths: "
        "[\"/srv/a/**\"]}\n");
    const auto edits = why_not(policy, FakeAccounts(), alice(), reading, parsed("/srv/a/x"));
    REQUIRE(edits.size() == 2);
    for (const WhyNotEdit& edit : edits) {
        CHECK(edit.changes.size() == 2);
        CHECK_FALSE(edit.opens.empty());
    }
    CHECK(edits[0].changes ==
          Lines{"rule \"one\": deny: leave out read", "rule \"two\": deny: leave out read"});
}

}  // namespace
}  // namespace fdbroker::policy
