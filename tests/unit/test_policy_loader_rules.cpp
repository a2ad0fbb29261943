// SPDX-License-Identifier: MIT
// load(): every key of a rule, what it gives and what is wrong with it.
#include "policy/matching/creation_group.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

using namespace std::chrono_literals;

Rule rule_with(const std::string& rest) {
    const Policy policy = load_rules({"{name: r, " + rest + "}"});
    return policy.rules().front();
}

Rule setting(const std::string& setting) {
    return rule_with("allow: [write, create, rename], paths: [/x], " + setting);
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

TEST_CASE("loader: rules have a name, either allow or deny, and paths") {
    CHECK(errors_of(rules_text({"{allow: [read], paths: [/x]}"})) ==
          Errors{"policy.yaml:3:5: rule: the key \"name\" is missing"});
    CHECK(rule_error("paths: [/x]") == "neither allow nor deny");
    // A single error, which names the key that was meant.
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
    CHECK(rule_error("allow: [list], paths: [/x], deliver: directory") ==
          "deliver: directory is no longer in the language: a directory's descriptor reaches what other "
          "rules deny, expected allow: [list], and each file opened by its own path");
    check_begins(errors_of("version: 1\ndefaults: {deliver: directory}\n").front(),
                 "policy.yaml:2:21: defaults: deliver: directory is no longer in the language");
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
    CHECK(setting("create: {group: directory}").create.group == group_of_directory);
    check_begins(setting_error("create: {group: 4294967294}"), "create: group: 4294967294 is no group");
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

}  // namespace
}  // namespace fdbroker::policy
