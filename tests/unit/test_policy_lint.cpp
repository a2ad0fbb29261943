// SPDX-License-Identifier: MIT
// lint(): each finding beside a policy that lacks it by one thing; and the coverage it rests on.
#include <algorithm>

#include "policy/language/lint_names.hpp"
#include "policy/lint/lint.hpp"
#include "policy/matching/cover.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

class FakeDisk : public Disk {
  public:
    std::expected<Facts, Missing> directory(const std::string& path) const override {
        const auto found = directories.find(path);
        if (path.starts_with("/link")) return std::unexpected(Missing{.link = "/link is a symbolic link"});
        if (path.starts_with("/locked")) return std::unexpected(Missing{.other = "Permission denied"});
        if (found == directories.end()) return std::unexpected(Missing{});
        return found->second;
    }
    std::map<std::string, Facts> directories{{"/", {0, 0755}},
                                             {"/srv", {0, 0755}},
                                             {"/tmp", {0, 01777}},
                                             {"/alice", {1000, 0755}},
                                             {"/vfat", {0, 0755, "it folds"}}};
};

std::string findings_of(const std::string& text, const Disk* disk = nullptr) {
    const Policy policy = load_text(text);
    std::string names;
    for (const Finding& finding : lint(policy, FakeAccounts(), disk)) {
        CHECK(std::ranges::find(lint_names, finding.name) != lint_names.end());
        CHECK(finding.what().find(finding.rule->name) != std::string::npos);
        names += finding.rule->name + ":" + std::string(finding.name) + " ";
    }
    return names;
}
std::string rule_findings(const std::vector<std::string>& rules, const Disk* disk = nullptr) {
    return findings_of(rules_text(rules), disk);
}

bool covers(std::string_view wide, Reach reach, std::string_view narrow) {
    return policy::covers(parse_pattern(wide).value().front(), reach, parse_pattern(narrow).value().front());
}

TEST_CASE("cover: a pattern covers what it matches everywhere, and nothing it might miss") {
    using enum Reach;
    CHECK(covers("/a", itself, "/a"));
    CHECK_FALSE(covers("/a", itself, "/a/b"));
    CHECK(covers("/a", and_below, "/a/b"));
    CHECK(covers("/a", and_below, "/a/**"));
    CHECK_FALSE(covers("/a/b", and_below, "/a/**"));
    CHECK(covers("/a/**", itself, "/a/b/c"));
    CHECK(covers("/a/**", itself, "/a/**"));
    CHECK_FALSE(covers("/a/**", itself, "/a"));
    CHECK_FALSE(covers("/a/*", itself, "/a/**"));
    CHECK(covers("/a/*", and_below, "/a/*/c"));
    CHECK(covers("/*/b", itself, "/${user}/b"));
    CHECK_FALSE(covers("/${user}/b", itself, "/*/b"));
    CHECK_FALSE(covers("/${user}", itself, "/alice"));
    CHECK(covers("/a*", itself, "/ab"));
    CHECK_FALSE(covers("/a*", itself, "/*b"));
    CHECK(covers("/**/x", itself, "/a/b/x"));
    CHECK(covers("/**/x", itself, "/**/x"));
    CHECK(covers("/**/x", and_below, "/a/**/x/*"));
    CHECK_FALSE(covers("/**/x", itself, "/a/**"));
    CHECK(covers("/", and_below, "/a"));
    CHECK(covers("/**/a/**/b/**/c/**/d", itself, "/a/b/c/d") == false);
}

TEST_CASE("lint: a rule that deny rules take away wholly") {
    const std::string allow = "{name: a, allow: [stat, list], paths: ['/srv/x/**', /srv/y]}";
    CHECK(rule_findings({allow, "{name: no, deny: all, paths: [/srv]}"}) == "a:denied-everywhere ");
    CHECK(rule_findings({allow, "{name: s, deny: [stat], paths: [/srv]}",
                         "{name: l, deny: [list], paths: ['/**']}"}) == "a:denied-everywhere ");
    CHECK(rule_findings({allow, "{name: no, deny: [stat], paths: [/srv]}"}).empty());
    CHECK(rule_findings({allow, "{name: no, deny: all, paths: [/srv/x]}"}).empty());
    CHECK(findings_of("version: 1\nroles: {b: {users: [bob]}}\nrules: [" + allow +
                      ", {name: no, roles: [b], deny: all, paths: [/srv]}]\n")
              .empty());
}

TEST_CASE("lint: a rule that an earlier one shadows") {
    const std::string wide = "{name: w, allow: [stat, list], paths: ['/srv/**']}";
    const std::string narrow = "{name: n, allow: [stat], paths: ['/srv/a/*', /srv/b]}";
    CHECK(rule_findings({wide, narrow}) == "n:shadowed ");
    CHECK(rule_findings({narrow, wide}).empty());
    CHECK(rule_findings({wide, "{name: n, allow: [stat, xattr], paths: ['/srv/a/*']}"}).empty());
    CHECK(rule_findings({wide, "{name: n, allow: [stat], paths: ['/srv/a/*', /x]}"}).empty());
    const std::string roles = "version: 1\nroles: {a: {users: [alice]}, b: {users: [bob]}}\nrules:\n";
    CHECK(findings_of(roles + "  - {name: w, roles: [a, b], allow: [stat], paths: ['/srv/**']}\n"
                              "  - {name: n, roles: [b], allow: [stat], paths: [/srv/x]}\n") ==
          "n:shadowed ");
    CHECK(findings_of(roles + "  - {name: w, roles: [a], allow: [stat], paths: ['/srv/**']}\n"
                              "  - {name: n, roles: [a, b], allow: [stat], paths: [/srv/x]}\n")
              .empty());
}

TEST_CASE("lint: rules that deliver the same path differently") {
    const std::string one = "{name: one, allow: [read], paths: ['/srv/**'], deliver: snapshot}";
    CHECK(rule_findings({one, "{name: two, allow: [read, stat], paths: [/srv/x]}"}) == "two:mixed-delivery ");
    CHECK(
        rule_findings({one, "{name: two, allow: [read, stat], paths: [/srv/x], deliver: snapshot}"}).empty());
    CHECK(rule_findings({one, "{name: two, allow: [stat], paths: [/srv/x]}"}).empty());
}

TEST_CASE("lint: append by descriptor") {
    CHECK(rule_findings({"{name: a, allow: [append], paths: [/srv/x]}"}) == "a:append-by-descriptor ");
    CHECK(rule_findings({"{name: a, allow: [append], paths: [/srv/x], deliver: stream}"}).empty());
}

TEST_CASE("lint: a rename follows nothing, whatever its rule says") {
    CHECK(rule_findings({"{name: a, allow: [stat, rename], paths: [/srv/x], symlinks: follow}"}) ==
          "a:rename-follows-nothing ");
    CHECK(rule_findings({"{name: a, allow: [stat, rename], paths: [/srv/x]}"}).empty());
    CHECK(rule_findings({"{name: a, allow: [stat], paths: [/srv/x], symlinks: follow}"}).empty());
}

TEST_CASE("lint: reading what is rarely meant") {
    const auto findings = [](const std::string& path) {
        return rule_findings({"{name: a, allow: [read], paths: ['" + path + "']}"});
    };
    for (const char* path : {"/etc/shadow",
                             "/etc/shadow-",
                             "/etc/gshadow",
                             "/etc/*-",
                             "/etc/sudoers",
                             "/etc/sudoers.d/web",
                             "/etc/sudo*",
                             "/etc/**",
                             "/**/id_ed25519",
                             "/etc/ssh/*",
                             "/etc/ssh/ssh_host_rsa_key",
                             "/etc/ssh/*_ecdsa_key",
                             "/etc/ssl/private/server.key",
                             "/root/.ssh/id_rsa",
                             "/root/.ssh/*",
                             "/root/**",
                             "/root/data/*",
                             "/home/alice/.ssh/id_rsa",
                             "/home/*/.ssh/*",
                             "/home/**",
                             "/home/x/**",
                             "/home/alice/*.txt",
                             "/proc/**",
                             "/proc/1/environ",
                             "/proc/1/*",
                             "/proc/self/maps",
                             "/proc/*/status",
                             "/proc/sys/**",
                             "/dev/*",
                             "/dev/mem",
                             "/dev/sda",
                             "/dev/sd*",
                             "/dev/input/*"}) {
        CAPTURE(path);
        CHECK(findings(path).starts_with("a:sensitive-read "));
    }
    for (const char* path : {"/home/${user}/**", "/home/alice/report.txt", "/etc/motd", "/etc/ssh/ssh_config",
                             "/srv/**", "/proc/meminfo", "/dev/null", "/var/log/*", "/rooted/**"}) {
        CAPTURE(path);
        CHECK(findings(path).empty());
    }
    // Once for each sort of thing.
    CHECK(findings("/root/**") == "a:sensitive-read a:sensitive-read ");
    CHECK(rule_findings({"{name: a, allow: [stat, list], paths: ['/etc/**']}"}).empty());
    CHECK(rule_findings({"{name: a, allow: [read], paths: ['/etc/*']}",
                         "{name: no, deny: [read], paths: ['/etc/*shadow*', '/etc/sudoers']}"})
              .empty());
    CHECK(rule_findings({"{name: a, allow: [read], paths: ['/home/alice/*']}",
                         "{name: no, deny: [read], paths: ['/home/alice/*']}"}) == "a:denied-everywhere ");
}

TEST_CASE("lint: readable paths that are rarely meant are named") {
    const Policy policy = load_rules({"{name: a, allow: [read], paths: ['/etc/g*']}"});
    const auto findings = lint(policy, FakeAccounts(), nullptr);
    REQUIRE(findings.size() == 1);
    CHECK(findings.front().what() ==
          "policy.yaml:3:5: rule \"a\": lets password hashes be read (/etc/gshadow) [sensitive-read]");
}

TEST_CASE("lint: a directory that one rule needs writable and another only to read") {
    CHECK(rule_findings({"{name: r, allow: [read], paths: ['/srv/*.txt']}",
                         "{name: w, allow: [write], paths: [/srv/log]}"}) == "w:mixed-access ");
    CHECK(rule_findings({"{name: w, allow: [write], paths: [/srv/log]}",
                         "{name: r, allow: [read], paths: ['/srv/*.txt']}"}) == "r:mixed-access ");
    CHECK(rule_findings({"{name: r, allow: [read], paths: ['/srv/a/*']}",
                         "{name: w, allow: [write], paths: ['/srv/b/*']}"})
              .empty());
}

TEST_CASE("lint: roles that nobody holds, and denials that rest on groups") {
    const std::string roles =
        "version: 1\nroles: {none: {users: [alice], groups: [adm]}, own: {users: [alice], groups: [alice]}, "
        "unknown: {users: [7], groups: [adm]}, group: {groups: [adm]}}\nrules:\n";
    const auto with = [&](const std::string& rule) { return findings_of(roles + "  - " + rule + "\n"); };
    CHECK(with("{name: a, roles: [none], allow: [stat], paths: [/x]}") == "a:role-without-peers ");
    CHECK(with("{name: a, roles: [own, unknown, group], allow: [stat], paths: [/x]}").empty());
    CHECK(with("{name: d, roles: [group], deny: all, paths: [/x]}") == "d:deny-by-groups ");
    CHECK(with("{name: d, roles: [own], deny: all, paths: [/x]}").empty());
}

TEST_CASE("lint: directories that are missing or not root's alone") {
    const FakeDisk disk;
    CHECK(rule_findings({"{name: a, allow: [stat], paths: ['/nowhere/*']}"}, &disk) ==
          "a:missing-directory ");
    CHECK(rule_findings({"{name: a, allow: [stat], paths: ['/nowhere/*']}"}).empty());
    CHECK(rule_findings({"{name: a, allow: [stat], paths: ['/locked/*']}"}, &disk) == "a:missing-directory ");
    CHECK(rule_findings({"{name: a, allow: [stat], paths: ['/link/*']}"}, &disk) == "a:linked-directory ");
    CHECK(rule_findings({"{name: a, allow: [write], paths: ['/alice/*']}"}, &disk) ==
          "a:unprivileged-directory ");
    CHECK(rule_findings({"{name: a, allow: [mkdir], paths: ['/tmp/*']}"}, &disk) ==
          "a:unprivileged-directory ");
    CHECK(rule_findings({"{name: a, allow: [write], paths: ['/srv/*']}"}, &disk).empty());
    CHECK(rule_findings({"{name: a, allow: [read], paths: ['/tmp/*'], symlinks: follow}"}, &disk) ==
          "a:follow-writable ");
    CHECK(rule_findings({"{name: a, allow: [read], paths: ['/srv/*'], symlinks: follow}"}, &disk).empty());
}

TEST_CASE("lint: a directory that is bound for others is told of once, by the first rule below it") {
    const Policy policy = load_text(rules_text(
        {"{name: a, allow: [stat], paths: ['/x/*']}", "{name: b, allow: [stat], paths: ['/t/1/*']}",
         "{name: c, allow: [stat], paths: ['/t/2/*']}", "{name: d, allow: [stat], paths: ['/tt/*']}"}));
    const std::vector<WideDirectory> wide{{"/t", "bound for 2"}};
    const auto findings = lint(policy, FakeAccounts(), nullptr, wide);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0].rule->name == "b");
    CHECK(findings[0].name == "wide-directory");
    CHECK(findings[0].text == "/t is bound, wider than the rules: bound for 2");
}

TEST_CASE("lint: a deny rule that reaches where names are folded") {
    const FakeDisk disk;
    const std::string allowed = "{name: a, allow: [read], paths: ['/vfat/**']}";
    const auto with = [&](const char* denied) {
        return rule_findings({allowed, "{name: d, deny: all, paths: ['" + std::string(denied) + "']}"},
                             &disk);
    };
    CHECK(rule_findings({allowed}, &disk).empty());
    CHECK(with("/vfat/**/*.key") == "a:folded-names ");
    CHECK(with("/vfat/sub/x") == "a:folded-names ");
    CHECK(with("/**/*.key") == "a:folded-names ");
    CHECK(with("/vfat2/x").empty());
    CHECK(with("/srv/**").empty());
}

TEST_CASE("lint: a rule silences a finding by its name, and no other") {
    CHECK(rule_findings({"{name: a, allow: [append, read], paths: [/etc/shadow], lint: {allow: "
                         "[append-by-descriptor]}}"}) == "a:sensitive-read ");
    CHECK(rule_findings({"{name: a, allow: [append, read], paths: [/etc/shadow],"
                         " lint: {allow: [append-by-descriptor, sensitive-read]}}"})
              .empty());
}

TEST_CASE("lint: a finding is told with its place, its rule and its name") {
    const Policy policy = load_rules({"{name: a, allow: [append], paths: [/srv/x]}"});
    const auto findings = lint(policy, FakeAccounts(), nullptr);
    REQUIRE(findings.size() == 1);
    CHECK(
        findings.front().what() ==
        "policy.yaml:3:5: rule \"a\": append with a descriptor lets its holder truncate; deliver: stream is "
        "append-only [append-by-descriptor]");
}

}  // namespace
}  // namespace fdbroker::policy
