// load(): every key of the language, what it gives and what is wrong with it.
#include <algorithm>

#include "policy/document.hpp"
#include "policy/test.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

using namespace std::chrono_literals;
using Errors = std::vector<std::string>;

// The text of the only error of a policy with this one rule, after the place and the rule.
std::string rule_error(const std::string& rest) {
    const Errors errors = errors_of(rules_text({"{name: r, " + rest + "}"}));
    CAPTURE(rest);
    CAPTURE(errors.size());
    REQUIRE(errors.size() == 1);
    const std::string marker = "rule \"r\": ";
    const std::size_t at = errors.front().find(marker);
    REQUIRE(at != std::string::npos);
    return errors.front().substr(at + marker.size());
}

std::string setting_error(const std::string& setting) {
    return rule_error("allow: [read, write, create, rename, list], paths: [/x], " + setting);
}

Rule rule_with(const std::string& rest) {
    const Policy policy = load_rules({"{name: r, " + rest + "}"});
    return policy.rules().front();
}

Rule setting(const std::string& setting) {
    return rule_with("allow: [write, create, rename], paths: [/x], " + setting);
}

void check_begins(const std::string& text, std::string_view expected) {
    CAPTURE(text);
    CHECK(text.starts_with(expected));
}

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
}

TEST_CASE("loader: a rule that says nothing more has the documented defaults") {
    const Rule rule = rule_with("allow: [read], paths: [/x]");
    CHECK(rule.allows);
    CHECK(rule.symlinks == Symlinks::refuse);
    CHECK(rule.delivery == Delivery::descriptor);
    CHECK(rule.deadline == 5s);
    CHECK(rule.files.allows(FileType::regular));
    CHECK_FALSE(rule.files.allows(FileType::fifo));
    CHECK_FALSE(rule.files.max_links.has_value());
    CHECK_FALSE(rule.files.max_size.has_value());
    CHECK_FALSE(rule.files.same_mount);
    CHECK_FALSE(rule.files.peer_owns);
    CHECK(rule.files.owners.empty());
    CHECK(rule.create.mode == 0640);
    CHECK(rule.create.directory_mode() == 0750);
    CHECK_FALSE(rule.create.owner.has_value());
    CHECK_FALSE(rule.create.group.has_value());
    CHECK_FALSE(rule.create.parents);
    CHECK_FALSE(rule.rename_directories);
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

TEST_CASE("loader: a duplicate key is an error in every mapping") {
    CHECK(errors_of("version: 1\nversion: 1\n") ==
          Errors{"policy.yaml:2:1: duplicate key \"version\", the first is at line 1"});
    CHECK(
        errors_of(rules_text({"{name: r, allow: [read], paths: [/x], files: {max_size: 1, 'max_size': 2}}"}))
            .size() == 1);
}

TEST_CASE("loader: rules have a name, either allow or deny, and paths") {
    CHECK(errors_of(rules_text({"{allow: [read], paths: [/x]}"})) ==
          Errors{"policy.yaml:3:5: rule: the key \"name\" is missing"});
    CHECK(rule_error("paths: [/x]") == "neither allow nor deny");
    // One error, which names the key that was meant.
    check_begins(rule_error("alow: [read], paths: [/x]"), "unknown key \"alow\" (did you mean \"allow\"?)");
    check_begins(rule_error("Deny: [read], paths: [/x]"), "unknown key \"Deny\" (did you mean \"deny\"?)");
    CHECK(rule_error("allow: [read], deny: [read], paths: [/x]") ==
          "both allow and deny, expected two rules");
    CHECK(rule_error("allow: [read]") == "the key \"paths\" is missing");
    check_begins(rule_error("allow: [read], path: [/x]"), "unknown key \"path\" (did you mean \"paths\"?)");
    CHECK(errors_of(rules_text({"read"})) ==
          Errors{"policy.yaml:3:5: a rule: a single value, expected keys with values"});
    CHECK(errors_of("version: 1\nrules: {}\n") ==
          Errors{"policy.yaml:2:8: rules: a mapping, expected a list: [...]"});
    CHECK(errors_of("version: 1\nrules: []\n") ==
          Errors{"policy.yaml:2:8: rules: an empty list, expected at least one entry"});
    CHECK(errors_of("version: 1\nrules:\n") ==
          Errors{"policy.yaml:2:1: rules: nothing, expected a list: [...]"});
}

TEST_CASE("loader: names of rules are unique words that print") {
    CHECK(errors_of(
              rules_text({"{name: a, allow: [read], paths: [/x]}", "{name: a, deny: all, paths: [/x]}"})) ==
          Errors{"policy.yaml:4:12: rule \"a\": this name is taken by the rule at policy.yaml:3"});
    for (const char* name : {"''", "a b", "\"a\\n\"", "a/b", "[a]"})
        CHECK(
            errors_of(rules_text({"{name: " + std::string(name) + ", allow: [read], paths: [/x]}"})).size() ==
            1);
    CHECK(
        errors_of(rules_text({"{name: " + std::string(65, 'a') + ", allow: [read], paths: [/x]}"})).size() ==
        1);
}

TEST_CASE("loader: operations are words of the language") {
    check_begins(rule_error("allow: [raed], paths: [/x]"),
                 "allow: unknown operation \"raed\" (did you mean \"read\"?), expected read, ");
    CHECK(rule_error("allow: [all], paths: [/x]") ==
          "allow: \"all\" in a list, expected operations, or deny: all");
    CHECK(rule_error("allow: [], paths: [/x]") == "allow: an empty list, expected at least one entry");
    CHECK(rule_error("allow: read, paths: [/x]") == "allow: a single value, expected a list: [...]");
    CHECK(rule_error("allow: [read, read], paths: [/x]") == "allow: \"read\" twice");
    CHECK(rule_error("allow: [[read]], paths: [/x]") == "allow: a list, expected a text");
    CHECK(rule_error("deny: read, paths: [/x]") == "deny: \"read\", expected all or a list: [read, ...]");
    CHECK(rule_error("deny: [all], paths: [/x]") ==
          "deny: \"all\" in a list, expected operations, or deny: all");
}

TEST_CASE("loader: a wrong pattern is told with the pattern") {
    check_begins(rule_error("allow: [read], paths: [x]"), "paths: \"x\": a pattern that does not begin");
    CHECK(rule_error("allow: [read], paths: [\"/x\\0\"]") == "paths: \"/x\\x00\": a NUL byte");
    CHECK(rule_error("allow: [read], paths: [/x, /x]") == "paths: \"/x\" twice");
}

TEST_CASE("loader: all alternatives of a policy together are bounded") {
    std::vector<std::string> rules;
    for (unsigned rule = 0; rule < 400; ++rule)
        rules.push_back("{name: r" + std::to_string(rule) + ", deny: all, paths: ['/" + std::to_string(rule) +
                        "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}']}");
    const Errors errors = errors_of(rules_text(rules));
    REQUIRE(errors.size() == 8);
    CHECK(errors.front().find("more than 100000 patterns") != std::string::npos);
    rules.resize(392);
    CHECK(errors_of(rules_text(rules)).empty());
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

TEST_CASE("loader: a rule names roles that exist, wherever they stand") {
    CHECK(errors_of("version: 1\nrules: [{name: r, roles: [w], allow: [read], paths: [/x]}]\nroles: {w: "
                    "{users: [0]}}\n")
              .empty());
    CHECK(errors_of("version: 1\nroles: {web: {users: [0]}}\nrules: [{name: r, roles: [wep], allow: [read], "
                    "paths: [/x]}]\n") ==
          Errors{"policy.yaml:3:27: rule \"r\": roles: there is no role \"wep\" (did you mean \"web\"?)"});
    CHECK(rule_error("roles: [], allow: [read], paths: [/x]") ==
          "roles: an empty list, expected at least one entry");
}

TEST_CASE("loader: symlinks, deliver and reveal are words") {
    CHECK(setting("symlinks: follow").symlinks == Symlinks::follow);
    CHECK(setting("symlinks: refuse").symlinks == Symlinks::refuse);
    check_begins(
        setting_error("symlinks: folow"),
        "symlinks: unknown word \"folow\" (did you mean \"follow\"?), expected one of refuse, follow");
    CHECK(rule_with("allow: [read], paths: [/x], deliver: snapshot").delivery == Delivery::snapshot);
    CHECK(rule_with("allow: [append, create], paths: [/x], deliver: stream").delivery == Delivery::stream);
    CHECK(rule_with("allow: [list], paths: [/x], deliver: directory").delivery == Delivery::directory);
    CHECK(setting("deliver: descriptor").delivery == Delivery::descriptor);
    check_begins(setting_error("deliver: pipe"),
                 "deliver: unknown word \"pipe\", expected one of descriptor");
    CHECK(rule_with("deny: [read], paths: [/x], reveal: ENOENT").reveal == Reveal::enoent);
    CHECK(rule_with("deny: [read], paths: [/x], reveal: EACCES").reveal == Reveal::eacces);
    check_begins(rule_error("deny: [read], paths: [/x], reveal: EPERM"), "reveal: unknown word \"EPERM\"");
    check_begins(setting_error("reveal: ENOENT"), "unknown key \"reveal\"");
    check_begins(rule_error("deny: [read], paths: [/x], deadline: 1s"), "unknown key \"deadline\"");
}

TEST_CASE("loader: a delivery that the rule's operations cannot have is an error") {
    check_begins(setting_error("deliver: snapshot"),
                 "deliver: snapshot in a rule that allows more than reading");
    check_begins(rule_error("allow: [stat], paths: [/x], deliver: snapshot"), "deliver: snapshot");
    check_begins(setting_error("deliver: stream"), "deliver: stream expects");
    for (const std::string delivery : {"stream", "snapshot"}) {
        check_begins(
            rule_error("allow: [read], paths: [/x], files: {types: [regular, fifo]}, deliver: " + delivery),
            "deliver: snapshot and stream are of regular files");
        CHECK(
            rule_with("allow: [read], paths: [/x], files: {types: [regular]}, deliver: " + delivery).allows);
    }
    check_begins(rule_error("allow: [stat], paths: [/x], deliver: stream"), "deliver: stream expects");
    check_begins(rule_error("allow: [read], paths: [/x], deliver: directory"),
                 "deliver: directory in a rule");
}

TEST_CASE("loader: create takes a mode, an owner, a group and parents") {
    const Rule rule = setting("create: {mode: \"0604\", owner: bob, group: adm, parents: true}");
    CHECK(rule.create.mode == 0604);
    CHECK(rule.create.directory_mode() == 0705);
    CHECK(rule.create.owner == 1001);
    CHECK(rule.create.group == 4);
    CHECK(rule.create.parents);
    CHECK_FALSE(setting("create: {owner: '${user}', group: '${group}'}").create.owner.has_value());
    CHECK(setting("create: {owner: 7, group: 8}").create.owner == 7);
    CHECK(setting("create: {mode: 0600}").create.mode == 0600);
    for (const char* mode : {"'4755'", "'644'", "'0800'", "'0o644'", "'00644'", "rw-r--r--", "[0644]", "''"})
        check_begins(setting_error("create: {mode: " + std::string(mode) + "}"),
                     "create: mode: expected a mode in octal");
    check_begins(setting_error("create: {owner: carol}"), "create: owner: \"carol\" does not exist");
    check_begins(setting_error("create: {owner: '${home}'}"), "create: owner: \"${home}\" does not exist");
    check_begins(setting_error("create: {group: carol}"), "create: group: \"carol\" does not exist");
    check_begins(setting_error("create: {parents: yes}"), "create: parents: expected true or false");
    check_begins(rule_error("allow: [read], paths: [/x], create: {mode: '0640'}"),
                 "create: in a rule that allows none of");
}

TEST_CASE("loader: files takes types, links, owners, a size and the mount") {
    const Rule rule = setting(
        "files: {types: [fifo, directory], max_links: 2, owners: ['${user}', bob, 7], max_size: 10MiB, "
        "same_mount: true}");
    CHECK(rule.files.allows(FileType::fifo));
    CHECK(rule.files.allows(FileType::directory));
    CHECK_FALSE(rule.files.allows(FileType::regular));
    CHECK(rule.files.max_links == 2);
    CHECK(rule.files.peer_owns);
    CHECK(rule.files.owners == std::vector<std::uint32_t>{1001, 7});
    CHECK(rule.files.max_size == 10U << 20);
    CHECK(rule.files.same_mount);
    CHECK(setting("files: {max_links: any}").files.max_links == any_links);
    for (const char* type :
         {"regular", "directory", "fifo", "socket", "character_device", "block_device", "symlink"})
        CHECK(std::popcount(setting("files: {types: [" + std::string(type) + "]}").files.types) == 1);
    check_begins(setting_error("files: {types: [dir]}"), "files: types: unknown word \"dir\"");
    check_begins(setting_error("files: {types: []}"), "files: types: an empty list");
    for (const char* links : {"0", "-1", "many", "'1'", "1.5", "01"})
        check_begins(setting_error("files: {max_links: " + std::string(links) + "}"), "files: max_links");
    check_begins(setting_error("files: {owners: [carol]}"), "files: owners: \"carol\" does not exist");
    check_begins(setting_error("files: {same_mount: 1}"), "files: same_mount: expected true or false");
    check_begins(setting_error("files: {}"), "files: an empty mapping");
}

TEST_CASE("loader: sizes and times have units") {
    const auto size = [](const std::string& text) {
        return setting("files: {max_size: " + text + "}").files.max_size;
    };
    CHECK(size("0") == 0);
    CHECK(size("17") == 17);
    CHECK(size("17B") == 17);
    CHECK(size("1KiB") == 1024);
    CHECK(size("2GiB") == 2ULL << 30);
    CHECK(size("3TiB") == 3ULL << 40);
    for (const char* text : {"10MB", "10 MiB", "1.5MiB", "-1", "MiB", "''", "99999999999999999999",
                             "16777216TiB", "0x10", "1e3"})
        check_begins(setting_error("files: {max_size: " + std::string(text) + "}"),
                     "files: max_size: expected a size such as");
    const auto time = [](const std::string& text) { return setting("deadline: " + text).deadline; };
    CHECK(time("500ms") == 500ms);
    CHECK(time("2s") == 2s);
    CHECK(time("1min") == 60s);
    CHECK(time("60min") == 1h);
    for (const char* text : {"2", "0s", "2m", "1h", "61min", "-1s", "2 s", "1.5s", "''", "s", "[2s]"})
        check_begins(setting_error("deadline: " + std::string(text)), "deadline: expected a time such as");
}

TEST_CASE("loader: rename says whether directories move") {
    CHECK(setting("rename: {directories: true}").rename_directories);
    CHECK_FALSE(setting("rename: {directories: false}").rename_directories);
    check_begins(setting_error("rename: {directories: maybe}"),
                 "rename: directories: expected true or false");
    check_begins(setting_error("rename: true"), "rename: a single value, expected keys with values");
    check_begins(rule_error("allow: [read], paths: [/x], rename: {directories: true}"),
                 "rename: in a rule that does not");
}

TEST_CASE("loader: lint silences findings by their names") {
    CHECK(setting("lint: {allow: [shadowed]}").name == "r");
    check_begins(setting_error("lint: {allow: [shadow]}"),
                 "lint: allow: unknown word \"shadow\" (did you mean \"shadowed\"?)");
    check_begins(setting_error("lint: {}"), "lint: an empty mapping");
}

TEST_CASE("loader: defaults hold for allow rules that do not say otherwise, key by key") {
    const Policy policy = load_text(
        "version: 1\n"
        "rules:\n"
        "  - {name: plain, allow: [write, create], paths: [/a]}\n"
        "  - {name: own, allow: [write, create], paths: [/b], files: {max_size: 5}, symlinks: refuse, "
        "create: {parents: true}}\n"
        "  - {name: no, deny: all, paths: [/c]}\n"
        "defaults: {symlinks: follow, deadline: 1s, files: {max_size: 1MiB, same_mount: true}, create: "
        "{mode: '0600'}}\n");
    const Rule& plain = policy.rules()[0];
    CHECK(plain.symlinks == Symlinks::follow);
    CHECK(plain.deadline == 1s);
    CHECK(plain.files.max_size == 1U << 20);
    CHECK(plain.create.mode == 0600);
    const Rule& own = policy.rules()[1];
    CHECK(own.symlinks == Symlinks::refuse);
    CHECK(own.files.max_size == 5);
    CHECK(own.files.same_mount);
    CHECK(own.create.mode == 0600);
    CHECK(own.create.parents);
    check_begins(errors_of("version: 1\ndefaults: {symlink: follow}\n").front(),
                 "policy.yaml:2:12: defaults: unknown key \"symlink\" (did you mean \"symlinks\"?), expected "
                 "one of create");
    CHECK(errors_of("version: 1\ndefaults: {name: x}\n").size() == 1);
    CHECK(errors_of("version: 1\ndefaults: {}\n").size() == 1);
    // A delivery that comes from there is judged with the rule that has it.
    CHECK(errors_of(
              "version: 1\ndefaults: {deliver: snapshot}\nrules: [{name: r, allow: [write], paths: [/x]}]\n")
              .size() == 1);
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

TEST_CASE("loader: fragments bring roles, rules and tests, after those of the policy") {
    const FragmentReader fragments =
        [](const std::string& pattern) -> std::expected<std::vector<Source>, std::string> {
        if (pattern != "policy.d/*.yaml") return std::unexpected("no file matches \"" + pattern + '"');
        return std::vector<Source>{
            {"policy.d/a.yaml",
             "roles: {web: {users: [www-data]}}\nrules: [{name: a, roles: [main], allow: [read], paths: "
             "[/a]}]\n"},
            {"policy.d/b.yaml",
             "rules: [{name: b, roles: [web], allow: [read], paths: [/a]}]\n"
             "tests: [{as: {user: www-data}, read: /a, expect: allow, rule: b}]\n"},
        };
    };
    const std::string main = "version: 1\ninclude: ['policy.d/*.yaml']\nroles: {main: {users: [alice]}}\n";
    const Policy policy = load_text(main + "rules: [{name: first, deny: all, paths: [/no]}]\n", fragments);
    REQUIRE(policy.rules().size() == 3);
    CHECK(policy.rules()[0].name == "first");
    CHECK(policy.rules()[1].name == "a");
    CHECK(policy.rules()[1].location.file == "policy.d/a.yaml");
    CHECK(policy.rules()[2].location.line == 1);
    CHECK(tests(policy).size() == 1);
    CHECK(errors_of(main + "rules: [{name: b, deny: all, paths: [/no]}]\n", fragments) ==
          Errors{"policy.d/b.yaml:1:16: rule \"b\": this name is taken by the rule at policy.yaml:4"});
    CHECK(errors_of("version: 1\ninclude: ['x/*']\n", fragments) ==
          Errors{"policy.yaml:2:11: include: no file matches \"x/*\""});
    CHECK(errors_of("version: 1\ninclude: x\n", fragments).size() == 1);
}

TEST_CASE("loader: what belongs to the policy alone is an error in a fragment") {
    const auto with = [](const std::string& text) {
        return errors_of("version: 1\ninclude: [x]\nroles: {r: {users: [0]}}\n",
                         [&](const std::string&) { return std::vector<Source>{{"x", text}}; });
    };
    for (const char* key : {"version: 1", "include: [y]", "defaults: {symlinks: follow}",
                            "limits: {connections: 1}", "audit: {refused: true}"}) {
        const Errors errors = with(key);
        REQUIRE(errors.size() == 1);
        check_begins(errors.front(), "x:1:1: unknown key");
    }
    CHECK(with("roles: {r: {users: [0]}}\n") ==
          Errors{"x:1:9: role \"r\" is already defined at policy.yaml:3"});
    CHECK(with("") == Errors{"x: a fragment without anything in it"});
}

TEST_CASE("loader: all errors of all files come at once, in the order of files and lines") {
    const Errors errors = errors_of(
        "version: 1\ninclude: [x]\nrules:\n"
        "  - {name: a, roles: [r], allow: [raed], paths: [x]}\n"
        "  - {name: b, alow: [read], paths: [/x]}\n"
        "limits: {connections: x}\n"
        "roles: {s: {users: [carol]}}\n",
        [](const std::string&) {
            return std::vector<Source>{{"x1", "rules: [{name: c, allow: [read]}]\n{"},
                                       {"x2", "rules: [{name: d, allow: [read]}]\n"}};
        });
    std::vector<std::string> places;
    for (const std::string& error : errors) places.push_back(error.substr(0, error.find(' ')));
    CHECK(places == std::vector<std::string>{
                        "policy.yaml:4:23:", "policy.yaml:4:35:", "policy.yaml:4:50:", "policy.yaml:5:15:",
                        "policy.yaml:6:23:", "policy.yaml:7:21:", "x1:2:1:", "x2:1:9:"});
}

TEST_CASE("loader: a file of errors alone is told up to a bound") {
    std::string text = "version: 1\n";
    for (unsigned key = 0; key < 12'000; ++key) text += "k" + std::to_string(key) + ": 1\n";
    const Errors errors = errors_of(text);
    REQUIRE(errors.size() == 10'001);
    CHECK(errors.back() == "policy.yaml: 2000 more errors");
}

TEST_CASE("loader: what YAML offers beyond plain data is an error") {
    const auto one = [](const std::string& text, std::string_view expected) {
        const Errors errors = errors_of(text);
        CAPTURE(text);
        REQUIRE_FALSE(errors.empty());
        check_begins(errors.front(), expected);
    };
    one("version: &a 1", "policy.yaml:1:10: an anchor");
    one("version: 1\nrules: &a []", "policy.yaml:2:8: an anchor");
    one("version: 1\nroles: {a: &x {users: [0]}, b: *x}", "policy.yaml:2:12: an anchor");
    one("version: 1\nroles: {a: &x {users: [0]}, b: *x}", "policy.yaml:2:12: an anchor");
    one("version: !!int 1", "policy.yaml:1:10: a tag");
    one("version: ! 1", "policy.yaml:1:10: a tag");
    one("version: !<x> 1", "policy.yaml:1:10: a tag");
    one("version: 1\nrules: !!seq []", "policy.yaml:2:8: a tag");
    one("!a {version: 1}", "policy.yaml:1:1: a tag");
    one("version: 1\nlimits: !a", "policy.yaml:2:9: a tag");
    one("version: 1\n<<: {rules: []}", "policy.yaml:2:1: unknown key \"<<\"");
    one("version: 1\n? [a]\n: b", "policy.yaml:2:3: a key that is not a word");
    one("version: 1\n~: b", "policy.yaml:2:1: a key that is not a word");
    one("version: 1\n---\nversion: 1", "policy.yaml:2:1: a second document");
    one("version: 1\n...\n---\n", "policy.yaml:3:1: a second document");
    one(",", "policy.yaml:1:1: a");
    one("%YAML 1.2\n---\nversion: 1", "policy.yaml:1:1: a YAML directive");
    one("# x\n %FOO\n---\nversion: 1", "policy.yaml:2:2: a YAML directive");
    one("[version, 1]", "policy.yaml:1:1: a policy: a list, expected keys with values");
    one("version: 1\nrules: [", "policy.yaml:2:1: not valid YAML");
    one("version: 1\nrules: \"x\n", "policy.yaml:2:8: a quote that is not closed");
    one("version: 1\nrules: 'it''s\n\n", "policy.yaml:2:8: a quote that is not closed");
    one("version: 1\nrules: \"a\\\"\n", "policy.yaml:2:8: a quote that is not closed");
}

TEST_CASE("loader: an alias of an anchor that grows without end is refused, not followed") {
    const Errors errors = errors_of("version: 1\nrules: &a [*a]\n");
    REQUIRE(errors.size() >= 2);
    CHECK(errors[1].find("an alias") != std::string::npos);
}

TEST_CASE("loader: bytes that are not text are refused before yaml-cpp sees them") {
    const auto one = [](const std::string& text) { return errors_of(text).at(0); };
    CHECK(one(std::string("version: 1\n\0", 12)) == "policy.yaml:2:1: a NUL byte, expected text");
    CHECK(one("version: \x1b[0m1") == "policy.yaml:1:10: a control character (0x1b), expected text");
    CHECK(one("version: 1\x7f") == "policy.yaml:1:11: a control character (0x7f), expected text");
    for (const char* bytes :
         {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xfe\xff"})
        CHECK(one("# ab" + std::string(bytes)) ==
              "policy.yaml:1:5: bytes that are not valid UTF-8, expected text");
    CHECK(errors_of("# \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf\nversion: 1\n")
              .empty());
    CHECK(errors_of("\xef\xbb\xbfversion: 1\n").empty());
    CHECK(errors_of("version: 1\r\nlimits: {connections: 5}\r\n").empty());
}

TEST_CASE("loader: depth and size are bounded") {
    // 16 levels parse; what they hold is wrong in other ways.
    CHECK(errors_of("version: 1\nlimits: " + std::string(15, '[') + std::string(15, ']'))
              .front()
              .find("deep") == std::string::npos);
    CHECK(errors_of("version: 1\nlimits: " + std::string(16, '[') + std::string(16, ']')) ==
          Errors{"policy.yaml:2:24: nested more than 16 deep"});
    CHECK(errors_of(std::string(100'000, '[')).size() == 1);
    CHECK(errors_of("version: 1\n" + std::string(max_document_bytes, '#')) ==
          Errors{"policy.yaml: more than 32 MiB, with the files before it"});
    CHECK(errors_of("version: 1\ninclude: [a]\n", [](const std::string&) {
              return std::vector<Source>{{"a", std::string(max_document_bytes - 20, '#')},
                                         {"b", "rules: []"}};
          }).size() == 2);
}

TEST_CASE("loader: a policy whose own tests fail loads for who runs them himself, an invalid one never") {
    const Source failing{"policy.yaml",
                         "version: 1\nrules:\n  - {name: one, allow: [read], paths: [/srv/a]}\n"
                         "tests:\n  - {as: {user: \"1000\"}, read: /srv/b, expect: allow}\n"};
    const auto no_fragments = [](const std::string&) { return std::vector<Source>(); };
    CHECK_FALSE(load(failing, no_fragments, FakeAccounts()).has_value());
    const auto policy = load(failing, no_fragments, FakeAccounts(), OwnTests::left_to_caller);
    REQUIRE(policy.has_value());
    REQUIRE(tests(*policy).size() == 1);
    CHECK_FALSE(run(*policy, tests(*policy)[0]).passed);
    CHECK_FALSE(load({"policy.yaml", "version: 2\n"}, no_fragments, FakeAccounts(), OwnTests::left_to_caller)
                    .has_value());
}

TEST_CASE("loader: bytes that do not print are shown escaped in messages") {
    CHECK(errors_of("version: 1\n\"a\\e[31m\\n\": 1\n").front().find("unknown key \"a\\x1b[31m\\x0a\"") !=
          std::string::npos);
}

}  // namespace
}  // namespace fdbroker::policy
