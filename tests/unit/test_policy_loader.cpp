// SPDX-License-Identifier: MIT
// load(): the keys of a policy as a whole, roles, limits, audit and its own tests.
#include "policy/explain/run_test.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

TEST_CASE("loader: the smallest policy refuses everything and has the documented defaults") {
    const Policy policy = load_text("version: 1\n");
    CHECK(policy.rules().empty());
    CHECK(policy.directories().empty());
    CHECK(policy.limits().connections == 64);
    CHECK(policy.limits().connections_total == 4096);
    CHECK_FALSE(policy.limits().requests_per_second.has_value());
    CHECK(policy.audit().refused);
    CHECK(policy.audit().allowed);
    CHECK(policy.audit().refuse_unrecorded);
    CHECK(policy.audit().max_size == std::uint64_t{64} << 20);
    CHECK(policy.audit().keep == 8);
}

TEST_CASE("loader: version is 1, unquoted, and must be there") {
    CHECK(errors_of("rules: []\n").size() == 2);
    for (const char* text : {"version: 2", "version: '1'", "version: one", "version: [1]", "version:"})
        CHECK(errors_of(text) ==
              Errors{"policy.yaml:1:" + std::string(text == std::string("version:") ? "1" : "10") +
                     ": version: expected 1, the only version of the language"});
    CHECK(errors_of("roles: {a: {users: [alice]}}") ==
          Errors{"policy.yaml:1:1: a policy: the key \"version\" is missing"});
    CHECK(errors_of("") == Errors{"policy.yaml: a policy without anything in it"});
    CHECK(errors_of("# nothing\n") == Errors{"policy.yaml: a policy without anything in it"});
}

TEST_CASE("loader: an unknown key is an error that names the one that was meant") {
    CHECK(errors_of("version: 1\nrols: {}\n") == Errors{"policy.yaml:2:1: unknown key \"rols\" (did you mean "
                                                        "\"roles\"?), expected one of version, include, "
                                                        "roles, defaults, rules, limits, audit, tests"});
    check_begins(rule_error("allow: [read], paths: [/x], path: [/y]"),
                 "unknown key \"path\" (did you mean \"paths\"?)");
    check_begins(rule_error("allow: [read], paths: [/x], colour: red"),
                 "unknown key \"colour\", expected one of name");
    check_begins(setting_error("files: {max_sise: 1}"),
                 "unknown key \"max_sise\" (did you mean \"max_size\"?)");
    check_begins(setting_error("create: {mod: '0600'}"), "unknown key \"mod\" (did you mean \"mode\"?)");
    check_begins(setting_error("rename: {directory: true, directories: true}"),
                 "unknown key \"directory\" (did you mean \"directories\"?), expected directories");
}

TEST_CASE("loader: roles hold users, groups and sockets that exist") {
    const auto role_errors = [](const std::string& role) {
        return errors_of("version: 1\nroles: {a: " + role + "}\n");
    };
    CHECK(role_errors("{users: [alice, 4711, '0'], groups: [adm, 5], sockets: [x]}").empty());
    CHECK(role_errors("{users: [carol]}") == Errors{"policy.yaml:2:21: role \"a\": users: \"carol\" does not "
                                                    "exist on this machine, expected a name or a number"});
    CHECK(role_errors("{groups: [users]}").size() == 1);
    CHECK(role_errors("{users: [4294967294]}").empty());
    CHECK(role_errors("{users: [4294967295]}") ==
          Errors{"policy.yaml:2:21: role \"a\": users: 4294967295 is no id, expected at most 4294967294"});
    CHECK(role_errors("{users: [00]}").size() == 1);
    CHECK(role_errors("{users: [-1]}").size() == 1);
    CHECK(role_errors("{users: ['']}").size() == 1);
    CHECK(role_errors("{}") ==
          Errors{"policy.yaml:2:12: role \"a\": an empty mapping, expected keys with values"});
    CHECK(role_errors("{users: []}") ==
          Errors{"policy.yaml:2:20: role \"a\": users: an empty list, expected at least one entry"});
    CHECK(role_errors("{user: [alice]}") ==
          Errors{"policy.yaml:2:13: role \"a\": unknown key \"user\" (did you mean \"users\"?), "
                 "expected one of users, groups, sockets"});
    CHECK(role_errors("{sockets: [a/b]}").size() == 1);
    CHECK(errors_of("version: 1\nroles: {a b: {users: [0]}}\n").size() == 1);
    CHECK(errors_of("version: 1\nroles: {}\n").size() == 1);
}

TEST_CASE("loader: limits and audit") {
    const Policy policy = load_text(
        "version: 1\n"
        "limits: {connections: 3, connections_total: 9, requests_per_second: {rate: 10, burst: 20}}\n"
        "audit: {refused: true, allowed: false, on_failure: allow}\n");
    CHECK(policy.limits().connections == 3);
    CHECK(policy.limits().connections_total == 9);
    REQUIRE(policy.limits().requests_per_second.has_value());
    CHECK(policy.limits().requests_per_second->rate == 10);
    CHECK(policy.limits().requests_per_second->burst == 20);
    CHECK_FALSE(policy.audit().allowed);
    CHECK_FALSE(policy.audit().refuse_unrecorded);
    CHECK(errors_of("version: 1\nlimits: {connections: 0}\n") ==
          Errors{"policy.yaml:2:23: limits: connections: expected a number from 1 to 1048576"});
    CHECK(errors_of("version: 1\nlimits: {connections: many, connections_total: '5', conections: 1}\n")
              .size() == 3);
    CHECK(errors_of("version: 1\nlimits: {requests_per_second: 5}\n").size() == 1);
    CHECK(policy.limits().snapshot_bytes_per_second.rate == 32U << 20);
    const Policy snapshots =
        load_text("version: 1\nlimits: {snapshot_bytes_per_second: {rate: 1MiB, burst: 4MiB}}\n");
    CHECK(snapshots.limits().snapshot_bytes_per_second.rate == 1U << 20);
    CHECK(snapshots.limits().snapshot_bytes_per_second.burst == 4U << 20);
    CHECK(load_text("version: 1\nlimits: {connections: 400}\n").limits().connections_total == 4096);
    CHECK(load_text("version: 1\nlimits: {connections: 4000}\n").limits().connections_total == 36000);
    CHECK(policy.limits().busy_poll == std::chrono::microseconds(20));
    CHECK(load_text("version: 1\nlimits: {busy_poll: 0}\n").limits().busy_poll ==
          std::chrono::microseconds(0));
    CHECK(errors_of("version: 1\nlimits: {busy_poll: 1001}\n").size() == 1);
    CHECK(policy.limits().stream_idle == std::chrono::seconds(60));
    CHECK(load_text("version: 1\nlimits: {stream_idle: 5s}\n").limits().stream_idle ==
          std::chrono::seconds(5));
    CHECK(policy.limits().record_bytes_per_second.rate == 16U << 20);
    const auto records =
        load_text("version: 1\nlimits: {record_bytes_per_second: {rate: 64KiB, burst: 8MiB}}\n");
    CHECK(records.limits().record_bytes_per_second.rate == 64U << 10);
    CHECK(records.limits().record_bytes_per_second.burst == 8U << 20);
    CHECK(errors_of("version: 1\nlimits: {snapshot_bytes_per_second: {rate: 0, burst: 4MiB}}\n") ==
          Errors{"policy.yaml:2:44: limits: rate: expected 1 or more"});
    CHECK(errors_of("version: 1\nlimits: {requests_per_second: {rate: 5}}\n") ==
          Errors{"policy.yaml:2:31: limits: requests_per_second: the key \"burst\" is missing"});
    CHECK(errors_of("version: 1\naudit: {refused: no, on_failure: ignore, all: true}\n").size() == 3);
    CHECK(errors_of("version: 1\naudit: true\n").size() == 1);
}

TEST_CASE("loader: a policy whose tests fail does not load, and says what was decided instead") {
    const std::string rules = rules_text(
        {"{name: a, allow: [read, write], paths: ['/a/**']}", "{name: no, deny: all, paths: [/a/no]}"});
    const auto test_errors = [&](const std::string& test) {
        return errors_of(rules + "tests:\n  - {" + test + "}\n");
    };
    CHECK(test_errors("as: {user: alice}, read: /a/x, expect: allow, rule: a").empty());
    CHECK(test_errors("as: {user: alice}, read: /a/x, write: /a/x, expect: allow").empty());
    CHECK(test_errors("as: {user: 12345}, read: /x, expect: refuse").empty());
    CHECK(test_errors("as: {user: alice}, read: /a/no/x, expect: refuse, rule: no").empty());
    CHECK(test_errors("as: {user: alice}, modify: /a/x, expect: refuse").empty());
    CHECK(test_errors("as: {user: alice}, read: /a/x, expect: refuse") ==
          Errors{"policy.yaml:6:5: test: read /a/x as alice: allowed by rule \"a\", expected refuse"});
    CHECK(test_errors("as: {user: alice}, read: /a/no, expect: allow") ==
          Errors{"policy.yaml:6:5: test: read /a/no as alice: refused by rule \"no\", expected allow"});
    CHECK(test_errors("as: {user: alice}, modify: /a/x, expect: allow") ==
          Errors{"policy.yaml:6:5: test: modify /a/x as alice: refused: no rule allows create, truncate, "
                 "expected allow"});
    CHECK(test_errors("as: {user: alice}, read: /a/x, expect: allow, rule: no") ==
          Errors{"policy.yaml:6:5: test: read /a/x as alice: allowed by rule \"a\", expected allow by rule "
                 "\"no\""});
}

TEST_CASE("loader: tests are checked like everything else") {
    const auto test_error = [](const std::string& test) {
        const Errors errors = errors_of("version: 1\ntests:\n  - {" + test + "}\n");
        CAPTURE(test);
        REQUIRE(errors.size() == 1);
        return errors.front();
    };
    check_begins(test_error("as: {user: alice}, expect: allow"),
                 "policy.yaml:3:5: test: a test without an operation");
    check_begins(test_error("read: /x, expect: refuse"), "policy.yaml:3:5: test: the key \"as\" is missing");
    check_begins(test_error("as: {user: alice}, read: /x"),
                 "policy.yaml:3:5: test: the key \"expect\" is missing");
    check_begins(test_error("as: {user: carol}, read: /x, expect: refuse"),
                 "policy.yaml:3:17: test: as: user: \"carol\" does not exist");
    check_begins(test_error("as: {socket: x}, read: /x, expect: refuse"),
                 "policy.yaml:3:10: test: as: the key \"user\" is missing");
    check_begins(test_error("as: {user: alice}, read: x, expect: refuse"),
                 "policy.yaml:3:31: test: read: the path is relative");
    check_begins(test_error("as: {user: alice}, read: /x, write: /y, expect: refuse"),
                 "policy.yaml:3:42: test: another path");
    check_begins(test_error("as: {user: alice}, read: /x, expect: deny"),
                 "policy.yaml:3:43: test: expect: unknown word \"deny\"");
    check_begins(test_error("as: {user: alice}, read: /x, expect: refuse, rule: r"),
                 "policy.yaml:3:57: test: there is no rule \"r\"");
    check_begins(test_error("as: {user: alice}, raed: /x, read: /x, expect: refuse"),
                 "policy.yaml:3:25: test: unknown key \"raed\"");
}

TEST_CASE("loader: the peers of tests have the groups and sockets that they are given") {
    const Policy policy = load_text(
        "version: 1\n"
        "roles: {adm: {groups: [adm]}, convert: {sockets: [convert]}, own: {groups: [alice]}}\n"
        "rules:\n"
        "  - {name: adm, roles: [adm], allow: [read], paths: [/adm]}\n"
        "  - {name: convert, roles: [convert], allow: [read], paths: [/convert]}\n"
        "  - {name: own, roles: [own], allow: [read], paths: ['/own/${user}/${group}']}\n"
        "tests:\n"
        "  - {as: {user: bob, groups: [adm]}, read: /adm, expect: allow}\n"
        "  - {as: {user: bob, group: adm}, read: /adm, expect: allow}\n"
        "  - {as: {user: bob}, read: /adm, expect: refuse}\n"
        "  - {as: {user: bob, socket: convert}, read: /convert, expect: allow}\n"
        "  - {as: {user: bob}, read: /convert, expect: refuse}\n"
        "  - {as: {user: alice}, read: /own/alice/alice, expect: allow}\n"
        "  - {as: {user: 1000}, read: /own/alice/alice, expect: allow}\n"
        "  - {as: {user: 1000, group: 7}, read: /own/alice/alice, expect: refuse}\n");
    CHECK(tests(policy).size() == 8);
    for (const Test& test : tests(policy)) CHECK(run(policy, test).passed);
    CHECK(tests(policy)[0].text == "read /adm as bob in group adm");
    CHECK(run(policy, tests(policy)[0]).got == "allowed by rule \"adm\"");
}

namespace {

constexpr const char* with_missing_accounts =
    "version: 1\n"
    "roles:\n"
    "  gone: {users: [gone]}\n"
    "  some: {users: [gone, alice]}\n"
    "  lost: {groups: [lost]}\n"
    "rules:\n"
    "  - {name: gone, roles: [gone], allow: [read], paths: [/gone]}\n"
    "  - {name: some, roles: [some], allow: [read], paths: [/some]}\n"
    "  - {name: lost, roles: [lost], allow: [read], paths: [/lost]}\n"
    "  - {name: spool, allow: [modify], paths: [\"/spool/**\"], create: {owner: gone}}\n"
    "  - {name: theirs, allow: [read], paths: [/theirs], files: {owners: [gone]}}\n"
    "tests:\n"
    "  - {as: {user: gone}, read: /gone, expect: allow}\n"
    "  - {as: {user: alice}, read: /some, expect: allow}\n"
    "  - {as: {user: alice}, create: /spool/a, expect: allow}\n"
    "  - {as: {user: alice}, read: /gone, expect: refuse}\n";

}  // namespace

TEST_CASE("loader: an account that does not exist stands for nobody where that is tolerated, and is told") {
    const Source source{"policy.yaml", with_missing_accounts};
    const auto strict = load(source, no_fragments, FakeAccounts());
    REQUIRE_FALSE(strict.has_value());
    CHECK(strict.error().front().what() ==
          "policy.yaml:3:18: role \"gone\": users: \"gone\" does not exist on this machine, expected a name "
          "or a "
          "number");

    std::vector<Diagnostic> told;
    const auto policy = load(source, no_fragments, FakeAccounts(),
                             {.unknown_accounts = UnknownAccounts::match_nobody, .tolerated = &told});
    REQUIRE(policy.has_value());
    Errors lines;
    for (const Diagnostic& one : told)
        lines.push_back(one.what().substr(0, one.what().find(" does not exist")));
    CHECK(lines ==
          Errors{"policy.yaml:3:18: role \"gone\": users: \"gone\"",
                 "policy.yaml:4:18: role \"some\": users: \"gone\"",
                 "policy.yaml:5:19: role \"lost\": groups: \"lost\"",
                 "policy.yaml:10:5: rule \"spool\": it creates nothing, since the account that would get it",
                 "policy.yaml:10:74: rule \"spool\": create: owner: \"gone\"",
                 "policy.yaml:11:70: rule \"theirs\": files: owners: \"gone\"",
                 "policy.yaml:13:17: test: as: user: \"gone\"",
                 "policy.yaml:15:5: test: create /spool/a as alice: refused: no rule allows create, "
                 "expected allow"});
    CHECK(tests(*policy).size() == 3);
    const auto allowed = [&](PeerIdentity identity, Operation operation, const char* path) {
        return policy->decide(policy->identify(std::move(identity)), {operation}, *RequestPath::parse(path))
            .has_value();
    };
    const PeerIdentity alice{.uid = 1000, .gid = 1000, .groups = {}, .user = "alice"};
    const PeerIdentity nameless{.uid = no_account, .gid = no_account, .groups = {no_account}, .user = "gone"};
    CHECK(allowed(alice, Operation::read, "/some"));
    CHECK(allowed(alice, Operation::write, "/spool/a"));
    CHECK_FALSE(allowed(alice, Operation::create, "/spool/a"));
    for (const char* path : {"/gone", "/some", "/lost"})
        CHECK_FALSE(allowed(nameless, Operation::read, path));
}

TEST_CASE("loader: a test that expects a refusal fails the policy, whatever accounts are missing") {
    const std::string text =
        std::string(with_missing_accounts) + "  - {as: {user: alice}, read: /theirs, expect: refuse}\n";
    std::vector<Diagnostic> told;
    const auto policy = load({"policy.yaml", text}, no_fragments, FakeAccounts(),
                             {.unknown_accounts = UnknownAccounts::match_nobody, .tolerated = &told});
    REQUIRE_FALSE(policy.has_value());
    CHECK(
        policy.error().front().what().starts_with("policy.yaml:17:5: test: read /theirs as alice: allowed"));
}

TEST_CASE(
    "loader: a deny rule holds by the number, with a name or without, and by the name of a missing account") {
    const Source source{"policy.yaml",
                        "version: 1\n"
                        "roles: {barred: {users: [alice, late]}}\n"
                        "rules:\n"
                        "  - {name: all, allow: [read], paths: [\"/a/**\"]}\n"
                        "  - {name: barred, roles: [barred], deny: all, paths: [\"/a/secret/**\"]}\n"
                        "  - {name: theirs, roles: [barred], allow: [read], paths: [\"/theirs/**\"]}\n"};
    const auto policy =
        load(source, no_fragments, FakeAccounts(), {.unknown_accounts = UnknownAccounts::match_nobody});
    REQUIRE(policy.has_value());
    CHECK(policy->role_names().size() == 1);
    const auto allowed = [&](PeerIdentity identity, const char* path) {
        return policy
            ->decide(policy->identify(std::move(identity)), {Operation::read}, *RequestPath::parse(path))
            .has_value();
    };
    const PeerIdentity alice{.uid = 1000, .gid = 1000, .groups = {}, .user = "alice"};
    const PeerIdentity nameless{.uid = 1000, .gid = 1000};
    const PeerIdentity late{.uid = 2000, .gid = 2000, .groups = {}, .user = "late"};
    const PeerIdentity other{.uid = 3000, .gid = 3000};
    for (const PeerIdentity& peer : {alice, nameless, late}) CHECK_FALSE(allowed(peer, "/a/secret/x"));
    CHECK(allowed(other, "/a/secret/x"));
    CHECK(allowed(alice, "/theirs/x"));
    for (const PeerIdentity& peer : {nameless, late, other}) CHECK_FALSE(allowed(peer, "/theirs/x"));
    CHECK(policy->identify(alice).role_names(*policy).size() == 1);
    CHECK(policy->identify(nameless).role_names(*policy).empty());
}

TEST_CASE("loader: a number that is the name of an account with another id is an error") {
    FakeAccounts accounts;
    accounts.users.emplace("1002", 2002);
    accounts.users.emplace("1003", 1003);
    accounts.groups.emplace("1002", 2003);
    const auto error_of = [&](const std::string& role) {
        const auto policy =
            load({"policy.yaml", "version: 1\nroles: {a: " + role +
                                     "}\nrules:\n"
                                     "  - {name: a, roles: [a], allow: [read], paths: [/a]}\n"},
                 no_fragments, accounts);
        return policy ? std::string() : policy.error().front().what();
    };
    CHECK(error_of("{users: [\"1001\", 1003]}") == "");
    CHECK(error_of("{users: [2002]}") == "");
    CHECK(error_of("{users: [1002]}")
              .find("\"1002\" is a number and also the name of the user with the id 2002, "
                    "expected 2002 for that user") != std::string::npos);
    CHECK(error_of("{groups: [1002]}").find("the group with the id 2003") != std::string::npos);
    CHECK(error_of("{users: [4294967295]}").find("4294967295 is no id") != std::string::npos);
}

TEST_CASE("loader: the peer of a test has the name that its uid has, as one that connects would") {
    // Two names of one uid: the database gives the first of them for the number.
    FakeAccounts accounts;
    accounts.users.emplace("zoe", 1000);
    const auto policy = load({"policy.yaml",
                              "version: 1\nrules:\n"
                              "  - {name: own, allow: [read], paths: [\"/h/${user}/**\"]}\n"
                              "tests:\n"
                              "  - {as: {user: zoe}, read: /h/alice/a, expect: allow}\n"
                              "  - {as: {user: zoe}, read: /h/zoe/a, expect: refuse}\n"},
                             no_fragments, accounts);
    CHECK(policy.has_value());
}

TEST_CASE("loader: a policy whose own tests fail loads for who runs them himself, an invalid one never") {
    const Source failing{"policy.yaml",
                         "version: 1\nrules:\n  - {name: one, allow: [read], paths: [/srv/a]}\n"
                         "tests:\n  - {as: {user: \"1000\"}, read: /srv/b, expect: allow}\n"};
    const auto no_fragments = [](const std::string&) { return std::vector<Source>(); };
    CHECK_FALSE(load(failing, no_fragments, FakeAccounts()).has_value());
    const auto policy = load(failing, no_fragments, FakeAccounts(), {.own_tests = OwnTests::left_to_caller});
    REQUIRE(policy.has_value());
    REQUIRE(tests(*policy).size() == 1);
    CHECK_FALSE(run(*policy, tests(*policy)[0]).passed);
    CHECK_FALSE(load({"policy.yaml", "version: 2\n"}, no_fragments, FakeAccounts(),
                     {.own_tests = OwnTests::left_to_caller})
                    .has_value());
}

}  // namespace
}  // namespace fdbroker::policy
