// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "policy/diff/diff.hpp"
#include "policy/explain/explain.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

std::string_view word(ChangeKind kind) {
    switch (kind) {
        case ChangeKind::gained:
            return "gained";
        case ChangeKind::lost:
            return "lost";
        case ChangeKind::settings:
            return "settings";
        case ChangeKind::reveal:
            return "reveal";
    }
    return "";
}

// "gained read at /a for every peer: none -> site"
std::vector<std::string> lines(const PolicyDiff& found) {
    std::vector<std::string> lines;
    for (const Difference& one : found.differences) {
        std::string settings;
        for (const Setting setting : one.settings) settings += fmt::format(" ({})", to_string(setting));
        lines.push_back(fmt::format(
            "{} {}{} at {} for {}: {} -> {}", word(one.kind), to_text(one.operations), settings, one.path,
            one.every_peer ? "every peer" : fmt::format("{}", fmt::join(one.peers, "; ")),
            one.before != nullptr ? one.before->name : "none",
            one.after != nullptr ? one.after->name : "none"));
    }
    std::ranges::sort(lines);
    return lines;
}

const std::string roles_text =
    "version: 1\nroles:\n  web: {users: [www-data]}\n  alice: {users: [alice]}\n  adm: {groups: [adm]}\n"
    "  convert: {sockets: [convert]}\n  staff: {users: [alice, bob]}\n  renamed: {users: [bob, "
    "alice]}\nrules:\n";

Policy with_roles(const std::vector<std::string>& rules) {
    std::string text = roles_text + "  - {name: there, allow: [stat], paths: [/there]}\n";
    for (const std::string& rule : rules) text += "  - " + rule + "\n";
    return load_text(text);
}

PolicyDiff compared(const std::vector<std::string>& before, const std::vector<std::string>& after) {
    // The rules that differences point to live as long as these.
    static std::vector<Policy> kept;
    kept.push_back(with_roles(before));
    kept.push_back(with_roles(after));
    return diff(kept[kept.size() - 2], kept[kept.size() - 1], FakeAccounts());
}

using Lines = std::vector<std::string>;

void check_alike(const std::vector<std::string>& before, const std::vector<std::string>& after) {
    const PolicyDiff found = compared(before, after);
    CHECK(lines(found) == Lines{});
    CHECK(found.proof.all_paths);
    CHECK(found.proof.all_peers);
    CHECK(lines(compared(after, before)) == Lines{});
}

TEST_CASE("diff: a new rule is what its peers gain, and a rule that is gone what they lose") {
    const std::string site = "{name: site, allow: [read, stat], paths: [\"/srv/www/**\"]}";
    const std::string spool = "{name: spool, roles: [web], allow: [write], paths: [/var/spool/x]}";
    CHECK(lines(compared({site}, {site, spool})) ==
          Lines{"gained write at /var/spool/x for user www-data (uid 33): none -> spool"});
    CHECK(lines(compared({site, spool}, {spool})) ==
          Lines{"lost read, stat at /srv/www/a for every peer: site -> none"});
}

TEST_CASE("diff: the directory that a pattern begins with is told where it alone differs") {
    CHECK(lines(compared({"{name: all, allow: [stat], paths: [\"/a/**\"]}"},
                         {"{name: below, allow: [stat], paths: [\"/a/*\", \"/a/*/**\"]}"})) ==
          Lines{"lost stat at /a for every peer: all -> none"});
}

TEST_CASE("diff: a deny rule takes what lies below its matches") {
    const std::string all = "{name: all, allow: [read], paths: [\"/a/**\"]}";
    const std::string git = "{name: git, deny: all, paths: [\"/a/**/.git\"]}";
    CHECK(lines(compared({all}, {all, git})) == Lines{"lost read at /a/.git for every peer: all -> git"});
    check_alike({all, git},
                {all, git, "{name: below, deny: all, paths: [\"/a/**/.git/**\", \"/a/x/.git/config\"]}"});
}

TEST_CASE("diff: names, order, roles' names and division of rules without effect make no difference") {
    const std::string read =
        "{name: r, roles: [staff], allow: [read, stat], paths: [\"/a/{b,c}\", \"/x/**\"]}";
    check_alike({read},
                {"{name: other, roles: [renamed], allow: [stat, read], paths: [\"/x/**\", /a/b, /a/c]}"});
    check_alike({read}, {"{name: b, roles: [alice], allow: [read, stat], paths: [\"/a/{b,c}\", \"/x/**\"]}",
                         "{name: c, roles: [staff], allow: [read], paths: [\"/a/{b,c}\", \"/x/**\"]}",
                         "{name: d, roles: [staff], allow: [stat], paths: [\"/a/{c,b}\", \"/x/**\"]}"});
    check_alike({read, "{name: no, deny: [read], paths: [\"/x/y\"]}"},
                {"{name: no, deny: [read], paths: [\"/x/y\"]}", read});
    check_alike({"{name: a, allow: [read], paths: [\"/[ab]\"]}"},
                {"{name: a, allow: [read], paths: [/a, \"/\\\\x62\"]}"});
    check_alike({"{name: a, allow: [read], paths: [\"/*\"]}"},
                {"{name: a, allow: [read], paths: [\"/*\", \"/??*\", \"/a\"]}"});
}

TEST_CASE("diff: a rule that takes over counts by its settings, as far as they have an effect") {
    const std::string first = "{name: first, allow: [write, create], paths: [/a], create: {mode: \"0640\"}}";
    CHECK(lines(compared({first},
                         {"{name: first, allow: [write, create], paths: [/a], create: {mode: \"0600\"}}"})) ==
          Lines{"settings create (create) at /a for every peer: first -> first"});
    CHECK(lines(compared({"{name: a, allow: [read], paths: [/a]}"},
                         {"{name: b, allow: [read], paths: [/a], deliver: snapshot, deadline: 2s}"})) ==
          Lines{"settings read (deliver) (deadline) at /a for every peer: a -> b"});
    CHECK(lines(compared({"{name: a, allow: [read, stat], paths: [/a]}"},
                         {"{name: a, allow: [read, stat], paths: [/a], files: {max_size: 1MiB}}"})) ==
          Lines{"settings read (files) at /a for every peer: a -> a"});
    CHECK(lines(compared({"{name: a, allow: [stat], paths: [/a]}"},
                         {"{name: a, allow: [stat], paths: [/a], symlinks: follow}"})) ==
          Lines{"settings stat (symlinks) at /a for every peer: a -> a"});
    // A mode is nothing to a symbolic link, types are nothing to stat.
    check_alike({"{name: a, allow: [symlink], paths: [/a]}"},
                {"{name: a, allow: [symlink], paths: [/a], create: {mode: \"0600\"}}"});
    check_alike({"{name: a, allow: [stat], paths: [/a]}"},
                {"{name: a, allow: [stat], paths: [/a], files: {types: [directory], max_links: 5}}"});
}

TEST_CASE("diff: directories that lead to a rule's paths are told apart from its paths") {
    const std::string without = "{name: a, allow: [stat], paths: [/a/b/c]}";
    const std::string with = "{name: a, allow: [stat], paths: [/a/b/c], ancestors: stat}";
    CHECK(lines(compared({without}, {with})) == Lines{"gained stat at / for every peer: none -> a"});
    CHECK(lines(compared({with}, {without})) == Lines{"lost stat at / for every peer: a -> none"});
    CHECK(lines(compared({}, {with})) == Lines{"gained stat at / for every peer: none -> a",
                                               "gained stat at /a/b/c for every peer: none -> a"});
    CHECK(lines(compared({with}, {with, "{name: root, allow: [stat], paths: [/a]}"})) ==
          Lines{"settings stat (ancestors) at /a for every peer: a -> root"});
    CHECK(lines(compared({with}, {with, "{name: no, deny: [stat], paths: [/a/b]}"})) ==
          Lines{"lost stat at /a/b for every peer: a -> no", "lost stat at /a/b/c for every peer: a -> no"});
    const PolicyDiff found = compared({without}, {with});
    REQUIRE(found.differences.size() == 1);
    CHECK(found.differences[0].pattern_after == "ancestors: stat");
    CHECK(found.differences[0].is_ancestor);
    check_alike({with}, {"{name: b, allow: [stat], paths: [/a/b/c], ancestors: stat}",
                         "{name: c, roles: [web], allow: [stat], paths: [/a/b/c], ancestors: stat}"});
    const std::string for_web = "{name: a, roles: [web], allow: [stat], paths: [/a/b/c], ancestors: stat}";
    const std::string for_all = "{name: b, allow: [stat], paths: [/a/b/c]}";
    CHECK(lines(compared({with}, {for_web, for_all})) ==
          Lines{"lost stat at / for any other user: a -> none"});
}

TEST_CASE("diff: links count as they are counted where a rule lets write") {
    const std::string both = "{name: a, allow: [read, write], paths: [/a]}";
    CHECK(lines(compared(
              {both}, {"{name: a, allow: [read], paths: [/a]}", "{name: b, allow: [write], paths: [/a]}"})) ==
          Lines{"settings read (files) at /a for every peer: a -> a"});
    check_alike({both}, {"{name: a, allow: [read], paths: [/a], files: {max_links: 1}}",
                         "{name: b, allow: [write], paths: [/a]}"});
}

TEST_CASE("diff: an owner that is named is the peer's own for that peer") {
    const std::string own =
        "{name: a, roles: [web], allow: [create], paths: [/a], create: {owner: \"${user}\"}}";
    check_alike({own}, {"{name: a, roles: [web], allow: [create], paths: [/a], create: {owner: www-data}}"});
    CHECK(lines(compared(
              {"{name: a, roles: [staff], allow: [create], paths: [/a], create: {owner: \"${user}\"}}"},
              {"{name: a, roles: [staff], allow: [create], paths: [/a], create: {owner: alice}}"})) ==
          Lines{"settings create (create) at /a for user bob (uid 1001): a -> a"});
}

TEST_CASE("diff: a refusal that is told in another way is a difference, also of two operations together") {
    const std::string rule = "{name: no, deny: all, paths: [/a]";
    CHECK(lines(compared({rule + "}"}, {rule + ", reveal: ENOENT}"})).size() == 1);
    const std::string hides = "{name: h, deny: [read], paths: [/a], reveal: ENOENT}";
    const std::string tells = "{name: t, deny: [stat], paths: [/a]}";
    CHECK(lines(compared({hides, tells}, {tells, hides})) ==
          Lines{"reveal read, stat at /a for every peer: h -> t"});
    // An operation that nothing allows is told like a denied one.
    check_alike({}, {"{name: t, deny: [stat], paths: [/a]}"});
}

TEST_CASE("diff: peers are told apart by users, groups and sockets together") {
    const std::string before = "{name: a, roles: [adm], allow: [read], paths: [/a]}";
    CHECK(lines(compared({before}, {before, "{name: c, roles: [convert], allow: [read], paths: [/a]}"})) ==
          Lines{"gained read at /a for in none of the groups that roles name, on socket convert: none -> c"});
    CHECK(lines(compared({}, {"{name: s, roles: [staff], allow: [read], paths: [/a]}"})) ==
          Lines{"gained read at /a for user alice (uid 1000); user bob (uid 1001): none -> s"});
}

TEST_CASE("diff: variables stand for each value that other patterns meet") {
    const std::string home = "{name: home, allow: [read], paths: [\"/home/${user}/**\"]}";
    check_alike({home}, {"{name: again, allow: [read], paths: [\"/home/${user}/**\", \"/home/${user}/x\"]}"});
    // Denying bob's home is something to bob alone.
    const auto found = lines(compared({home}, {home, "{name: bob, deny: all, paths: [/home/bob]}"}));
    REQUIRE(found.size() == 1);
    CHECK(found.front() == "lost read at /home/bob/a for user bob (uid 1001): home -> bob");
    // Nobody whose name begins otherwise may read as before.
    const auto narrowed = compared({home}, {"{name: home, allow: [read], paths: [\"/home/${user}/**\"]}",
                                            "{name: z, deny: all, paths: [\"/home/z*\"]}"});
    REQUIRE(narrowed.differences.size() == 1);
    CHECK(narrowed.differences.front().peer.user.starts_with("z"));
    CHECK_FALSE(narrowed.proof.all_peers);
    CHECK(narrowed.proof.values_tried > 0);
    // By a literal name for its only peer.
    check_alike({"{name: a, roles: [web], allow: [read], paths: [\"/srv/${user}\"]}"},
                {"{name: a, roles: [web], allow: [read], paths: [/srv/www-data]}"});
}

TEST_CASE("diff: an example fits a path, as short as any, and no name is longer than 255 bytes") {
    const std::string many(255, '?');
    CHECK(lines(compared({}, {"{name: a, allow: [read], paths: [\"/" + many + "\"]}"})).size() == 1);
    check_alike({}, {"{name: a, allow: [read], paths: [\"/" + many + "?\"]}"});
    check_alike({"{name: a, allow: [read], paths: [\"/*\"]}"},
                {"{name: a, allow: [read], paths: [\"/*\", \"/" + many + "*\"]}"});
    const PolicyDiff found = compared({}, {"{name: a, allow: [read], paths: [\"/x/**/y*z/?\"]}"});
    REQUIRE(found.differences.size() == 1);
    CHECK(found.differences.front().path == "/x/yz/a");
    CHECK(found.differences.front().pattern_after == "/x/**/y*z/?");
}

TEST_CASE("diff: limits and what is recorded are compared, too") {
    const Policy before = load_text("version: 1\nrules: [{name: a, allow: [read], paths: [/a]}]\n");
    const Policy after = load_text(
        "version: 1\nrules: [{name: b, allow: [read], paths: [/a]}]\nlimits: {connections: 5}\naudit: "
        "{allowed: false}\n");
    const PolicyDiff found = diff(before, after, FakeAccounts());
    CHECK(found.differences.empty());
    REQUIRE(found.values.size() == 2);
    CHECK(found.values[0].key == "limits: connections");
    CHECK(found.values[0].before == "64");
    CHECK(found.values[0].after == "5");
    CHECK(found.values[1].key == "audit: allowed");
    CHECK_FALSE(found.empty());
}

TEST_CASE("diff: a search that is given up says so, and still tries the paths of the rules") {
    const Policy before = load_text("version: 1\nrules: [{name: a, allow: [stat], paths: [/b]}]\n");
    std::string rules;
    for (int index = 0; index < 50; ++index)
        rules += fmt::format("  - {{name: r{}, allow: [read], paths: [\"/d{}/*/f\"]}}\n", index, index);
    const Policy after = load_text("version: 1\nrules:\n  - {name: a, allow: [stat], paths: [/b]}\n" + rules);
    const PolicyDiff found = diff(before, after, FakeAccounts(), {.max_states = 10});
    CHECK_FALSE(found.proof.all_paths);
    CHECK(found.proof.sampled > 0);
    CHECK(found.differences.size() == 50);
}

TEST_CASE("diff: names that are denied anywhere are compared for all paths, however many") {
    const auto policy = [](const char* denied) {
        std::string rules = "version: 1\nrules:\n  - {name: all, allow: [read, stat], paths: ['/srv/**']}\n";
        for (int index = 0; index < 100; ++index)
            rules += fmt::format("  - {{name: r{0}, deny: [{1}], paths: ['/**/*.x{0}']}}\n", index, denied);
        return load_text(rules);
    };
    const Policy before = policy("read");
    const Policy after = policy("stat");
    const PolicyDiff found = diff(before, after, FakeAccounts());
    CHECK(found.proof.all_paths);
    CHECK(found.proof.states < 1000);
    CHECK(found.differences.size() == 200);
}

TEST_CASE("diff: each of many users with variables and a role is compared by what is for that user") {
    const auto policy = [](const char* allowed) {
        std::string roles = "version: 1\nroles:\n";
        std::string rules = "rules:\n  - {name: keys, deny: all, paths: ['/**/*.key']}\n";
        for (int index = 0; index < 600; ++index) {
            roles += fmt::format("  t{0}: {{users: [{1}]}}\n", index, 5000 + index);
            rules += fmt::format(
                "  - {{name: r{0}, roles: [t{0}], allow: [{1}], paths: ['/home/${{uid}}/t{0}']}}\n", index,
                allowed);
        }
        return load_text(roles + rules);
    };
    const Policy before = policy("read");
    const Policy after = policy("stat");
    const PolicyDiff found = diff(before, after, FakeAccounts());
    CHECK(found.proof.all_paths);
    CHECK(found.proof.values_tried > 600);
    CHECK(found.proof.states < 10'000);
    CHECK(found.differences.size() == 1200);
    const PolicyDiff sampled = diff(before, after, FakeAccounts(), {.max_states = 10});
    CHECK_FALSE(sampled.proof.all_paths);
    CHECK(sampled.differences.size() == 1200);
}

TEST_CASE("diff: every example policy is no different from itself") {
    std::vector<Policy> policies;
    for (const auto& entry : std::filesystem::directory_iterator(FDBROKER_EXAMPLE_POLICIES)) {
        std::ifstream file(entry.path());
        std::stringstream text;
        text << file.rdbuf();
        auto loaded =
            load({entry.path().string(), text.str()}, no_fragments, FakeAccounts(),
                 {.own_tests = OwnTests::left_to_caller, .unknown_accounts = UnknownAccounts::match_nobody});
        if (loaded) policies.push_back(std::move(*loaded));
    }
    REQUIRE(policies.size() > 3);
    std::size_t different = 0;
    for (std::size_t one = 0; one < policies.size(); ++one) {
        for (std::size_t other = 0; other < policies.size(); ++other)
            different += diff(policies[one], policies[other], FakeAccounts()).differences.empty() ? 0U : 1U;
        CHECK(diff(policies[one], policies[one], FakeAccounts()).empty());
    }
    // Accounts that do not exist here leave some with rules for nobody.
    CHECK(different > policies.size());
}

}  // namespace
}  // namespace fdbroker::policy
