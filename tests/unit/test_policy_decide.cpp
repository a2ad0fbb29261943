// SPDX-License-Identifier: MIT
// decide(), identify() and directories().
#include <cerrno>

#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

using enum Operation;

constexpr Operation every_operation[] = {read,  write,  append, create,  truncate, stat,  list,   readlink,
                                         mkdir, remove, rename, symlink, setattr,  xattr, execute};

TEST_CASE("decide: a request that no rule allows is refused with EACCES and the missing operations") {
    const Policy policy = load_rules({"{name: a, allow: [read, stat], paths: ['/srv/**']}"});
    const Decision decision = decide(policy, {read, write, create}, "/srv/x", alice());
    REQUIRE_FALSE(decision.has_value());
    CHECK(decision.error().denied_by == nullptr);
    CHECK(decision.error().operations == OperationSet{write, create});
    CHECK(decision.error().errno_value == EACCES);
    CHECK(verdict(load_text("version: 1\n"), {read}, "/") == "refuse");
}

TEST_CASE("decide: a request for nothing is refused") {
    CHECK(verdict(load_rules({"{name: a, allow: [read], paths: ['/**']}"}), {}, "/x") == "refuse");
}

TEST_CASE("decide: an allow rule gives its own operations and no other") {
    for (const Operation allowed : every_operation) {
        const Policy policy =
            load_rules({"{name: a, allow: [" + std::string(to_string(allowed)) + "], paths: [/x]}"});
        for (const Operation asked : every_operation)
            CHECK(verdict(policy, {asked}, "/x") == (asked == allowed ? "allow a" : "refuse"));
    }
}

TEST_CASE("decide: modify and manage stand for the operations that the manual lists") {
    const OperationSet modify{write, create, truncate};
    const OperationSet manage{write, create, truncate, mkdir, remove, rename};
    const Policy policy = load_rules(
        {"{name: a, allow: [modify], paths: [/modify]}", "{name: b, allow: [manage], paths: [/manage]}"});
    for (const Operation asked : every_operation) {
        CHECK((verdict(policy, {asked}, "/modify") == "allow a") == modify.contains(asked));
        CHECK((verdict(policy, {asked}, "/manage") == "allow b") == manage.contains(asked));
    }
}

TEST_CASE("decide: deny beats allow, whatever the order, and covers everything below") {
    const std::string allow = "{name: all, allow: [read, list], paths: ['/srv/**']}";
    const std::string deny = "{name: no, deny: [read], paths: [/srv/a]}";
    for (const Policy& policy : {load_rules({allow, deny}), load_rules({deny, allow})}) {
        CHECK(verdict(policy, {read}, "/srv/b") == "allow all");
        CHECK(verdict(policy, {read}, "/srv/a") == "deny no");
        CHECK(verdict(policy, {read}, "/srv/a/b/c") == "deny no");
        CHECK(verdict(policy, {read}, "/srv/ab") == "allow all");
        CHECK(verdict(policy, {list}, "/srv/a") == "allow all");
        CHECK(verdict(policy, {list, read}, "/srv/a/b") == "deny no");
        CHECK(decide(policy, {list, read}, "/srv/a/b", alice()).error().operations == OperationSet{read});
    }
}

TEST_CASE("decide: a deny pattern with wildcards covers everything below what it matches") {
    const Policy policy = load_rules({"{name: all, allow: [read, stat], paths: ['/**']}",
                                      "{name: git, deny: all, paths: ['/srv/**/.git', '/srv/**/*.key']}",
                                      "{name: tmp, deny: [stat], paths: ['/tmp/**']}"});
    CHECK(verdict(policy, {read}, "/srv/.git") == "deny git");
    CHECK(verdict(policy, {read}, "/srv/a/.git/config/x") == "deny git");
    CHECK(verdict(policy, {read}, "/srv/a.key/x") == "deny git");
    CHECK(verdict(policy, {read}, "/srv/x/y/a.key") == "deny git");
    CHECK(verdict(policy, {read}, "/srv/x/.gitignore") == "allow all");
    CHECK(verdict(policy, {read}, "/.git") == "allow all");
    // `/dir/**` holds the directory itself for stat and list.
    CHECK(verdict(policy, {stat}, "/tmp") == "deny tmp");
    CHECK(verdict(policy, {stat}, "/tmp/x") == "deny tmp");
    CHECK(verdict(policy, {read}, "/tmp") == "allow all");
}

TEST_CASE("decide: deny [write] implies whatever else would change the file") {
    const OperationSet implied{write, append, create, truncate, remove, rename, setattr, symlink, mkdir};
    const Policy policy =
        load_rules({"{name: all, allow: [read, write, append, create, truncate, stat, list, readlink, "
                    "mkdir, remove, rename, symlink, setattr, xattr, execute], paths: [/x]}",
                    "{name: no, deny: [write], paths: [/x]}"});
    for (const Operation asked : every_operation)
        CHECK(verdict(policy, {asked}, "/x") == (implied.contains(asked) ? "deny no" : "allow all"));
}

TEST_CASE("decide: any other denied operation implies nothing") {
    for (const Operation denied : every_operation) {
        if (denied == write) continue;
        const Policy policy = load_rules(
            {"{name: all, allow: [read, write, append, create, truncate, stat, list, readlink, mkdir, "
             "remove, rename, symlink, setattr, xattr, execute], paths: [/x]}",
             "{name: no, deny: [" + std::string(to_string(denied)) + "], paths: [/x]}"});
        for (const Operation asked : every_operation)
            CHECK(verdict(policy, {asked}, "/x") == (asked == denied ? "deny no" : "allow all"));
    }
}

TEST_CASE("decide: deny all is every operation") {
    const Policy policy = load_rules({"{name: no, deny: all, paths: [/x]}"});
    for (const Operation asked : every_operation) CHECK(verdict(policy, {asked}, "/x") == "deny no");
}

TEST_CASE("decide: the first deny rule in file order answers, with the reveal it states") {
    const std::string one = "{name: one, deny: [read], paths: ['/a/**'], reveal: ENOENT}";
    const std::string two = "{name: two, deny: all, paths: [/a/b]}";
    const Policy policy = load_rules({one, two});
    const Decision decision = decide(policy, {read, stat}, "/a/b", alice());
    REQUIRE_FALSE(decision.has_value());
    CHECK(decision.error().denied_by->name == "one");
    CHECK(decision.error().errno_value == ENOENT);
    CHECK(decide(policy, {stat}, "/a/b/c", alice()).error().errno_value == EACCES);
    CHECK(verdict(load_rules({two, one}), {read}, "/a/b/c") == "deny two");
}

TEST_CASE("decide: each operation is granted by the first rule in file order that matches it") {
    const Policy policy = load_rules({"{name: reader, allow: [read], paths: ['/d/**']}",
                                      "{name: both, allow: [read, write], paths: [/d/x]}",
                                      "{name: maker, allow: [write, create], paths: ['/**']}"});
    const Decision decision = decide(policy, {read, write, create}, "/d/x", alice());
    REQUIRE(decision.has_value());
    std::vector<std::string> names;
    for (const Rule* rule : decision->rules()) names.push_back(rule->name);
    CHECK(names == std::vector<std::string>{"reader", "both", "maker"});
    CHECK(decision->operations() == OperationSet{read, write, create});
    CHECK(decision->rule().name == "maker");
    CHECK(decision->path().text() == "/d/x");
    CHECK(verdict(policy, {read, write}, "/d/x") == "allow both");
    CHECK(verdict(policy, {read}, "/d/x") == "allow reader");
    CHECK(verdict(policy, {write}, "/x") == "allow maker");
    CHECK(decide(policy, {write, create}, "/x", alice())->rules().size() == 1);
}

TEST_CASE("decide: create, write, append and read lead, in that order; else the first rule does") {
    const Policy policy = load_rules(
        {"{name: s, allow: [stat], paths: [/x]}", "{name: r, allow: [read], paths: [/x]}",
         "{name: a, allow: [append], paths: [/x]}", "{name: w, allow: [write], paths: [/x]}",
         "{name: c, allow: [create], paths: [/x]}", "{name: t, allow: [truncate, list], paths: [/x]}"});
    CHECK(verdict(policy, {stat, read, append, write, create, truncate}, "/x") == "allow c");
    CHECK(verdict(policy, {stat, read, append, write, truncate}, "/x") == "allow w");
    CHECK(verdict(policy, {stat, read, append, truncate}, "/x") == "allow a");
    CHECK(verdict(policy, {stat, read, truncate}, "/x") == "allow r");
    CHECK(verdict(policy, {truncate, stat}, "/x") == "allow t");
    CHECK(verdict(policy, {stat}, "/x") == "allow s");
}

TEST_CASE("identify: keys of a role must all hold, entries of one key are alternatives") {
    const Policy policy = load_text(
        "version: 1\n"
        "roles:\n"
        "  user: {users: [alice, www-data]}\n"
        "  number: {users: [4711]}\n"
        "  group: {groups: [adm, 77]}\n"
        "  both: {users: [alice], groups: [backup]}\n"
        "  all: {users: [alice], groups: [adm], sockets: [opener, other]}\n"
        "  socket: {sockets: [convert]}\n");
    const auto roles = [&](PeerIdentity peer) {
        std::string names;
        for (const std::string_view name : policy.identify(std::move(peer)).role_names(policy))
            names += std::string(name) + ' ';
        return names;
    };
    CHECK(roles(alice()) == "user group all ");
    CHECK(roles({.uid = 33, .gid = 33, .user = "www-data"}) == "user ");
    CHECK(roles({.uid = 4711, .gid = 1}) == "number ");
    CHECK(roles({.uid = 1000, .gid = 34, .user = "alice"}) == "user both ");
    CHECK(roles({.uid = 5, .gid = 5, .groups = {1, 77}, .user = "x"}) == "group ");
    CHECK(roles({.uid = 5, .gid = 4, .user = "x", .listener = "convert"}) == "group socket ");
    CHECK(roles({.uid = 5, .gid = 5, .user = "x", .listener = "converter"}).empty());
    CHECK(policy.identify(alice()).identity().user == "alice");
}

TEST_CASE("identify: a uid without a name holds no role that names its users") {
    const Policy policy = load_text("version: 1\nroles: {name: {users: [alice]}, number: {users: [1000]}}\n");
    PeerIdentity peer = alice();
    peer.user.clear();
    const Peer nameless = policy.identify(peer);
    CHECK_FALSE(nameless.holds(0));
    CHECK(nameless.holds(1));
}

TEST_CASE("decide: a rule is for peers that hold one of the roles it names") {
    const Policy policy = load_text(
        "version: 1\n"
        "roles: {alice: {users: [alice]}, bob: {users: [bob]}, www: {users: [www-data]}}\n"
        "rules:\n"
        "  - {name: one, roles: [alice], allow: [read], paths: [/a]}\n"
        "  - {name: two, roles: [bob, alice], allow: [read], paths: [/b]}\n"
        "  - {name: three, roles: [bob, www], allow: [read], paths: [/a, /c]}\n"
        "  - {name: deny, roles: [bob], deny: [read], paths: [/b]}\n");
    const PeerIdentity bob{.uid = 1001, .user = "bob"};
    CHECK(verdict(policy, {read}, "/a") == "allow one");
    CHECK(verdict(policy, {read}, "/b") == "allow two");
    CHECK(verdict(policy, {read}, "/c") == "refuse");
    CHECK(verdict(policy, {read}, "/a", bob) == "allow three");
    CHECK(verdict(policy, {read}, "/b", bob) == "deny deny");
    CHECK(verdict(policy, {read}, "/c", bob) == "allow three");
    CHECK(verdict(policy, {read}, "/a", {.uid = 5}) == "refuse");
}

TEST_CASE("identify: roles beyond the 64th are kept apart") {
    std::string text = "version: 1\nroles:\n";
    for (unsigned role = 0; role < 130; ++role)
        text += "  r" + std::to_string(role) + ": {users: [" + std::to_string(role) + "]}\n";
    text += "rules: [{name: last, roles: [r129, r70], allow: [read], paths: [/x]}]\n";
    const Policy policy = load_text(text);
    for (std::uint32_t uid = 0; uid < 131; ++uid)
        CHECK(verdict(policy, {read}, "/x", {.uid = uid}) ==
              (uid == 129 || uid == 70 ? "allow last" : "refuse"));
}

TEST_CASE("decide: a path of 2,047 names is decided on like any other") {
    std::string deepest;
    for (unsigned level = 0; level < 2047; ++level) deepest += "/a";
    const Policy policy = load_rules({"{name: deep, allow: [read], paths: ['/**/a/**/a/*/a']}",
                                      "{name: no, deny: [read], paths: ['/**/a/**/b/**']}"});
    CHECK(verdict(policy, {read}, deepest.c_str()) == "allow deep");
    deepest.back() = 'b';
    CHECK(verdict(policy, {read}, deepest.c_str()) == "refuse");
    deepest[deepest.size() - 3] = 'b';
    CHECK(verdict(policy, {read}, deepest.c_str()) == "deny no");
}

TEST_CASE("decide: several names without a wildcard match one by one, from their beginning to their end") {
    const Policy policy = load_rules({"{name: deep, allow: [read], paths: [/a/b/c/d]}",
                                      "{name: all, allow: [read], paths: ['/d/**']}",
                                      "{name: no, deny: [read], paths: [/d/e/f]}",
                                      "{name: below, allow: [read], paths: ['/x/**/a/b/c', '/x/**/a/a/b']}"});
    const std::pair<const char*, const char*> cases[] = {
        {"/a", "refuse"},
        {"/a/b", "refuse"},
        {"/a/b/c", "refuse"},
        {"/a/b/c/d", "allow deep"},
        {"/a/b/c/dd", "refuse"},
        {"/a/b/c/d/e", "refuse"},
        {"/a/b/cc/d", "refuse"},
        {"/a/b/c/e", "refuse"},
        {"/a/bb/c/d", "refuse"},
        {"/aa/b/c/d", "refuse"},
        {"/d/e", "allow all"},
        {"/d/e/f", "deny no"},
        {"/d/e/f/g", "deny no"},
        {"/d/e/ff", "allow all"},
        {"/d/ee/f", "allow all"},
        {"/x/a/b/c", "allow below"},
        {"/x/a/b/a/b/c", "allow below"},
        {"/x/b/a/a/b", "allow below"},
        {"/x/a/b/c/a/b", "refuse"},
        {"/x/a/b", "refuse"},
        {"/x/a/b/cc", "refuse"},
        {"/x/a/a/b/c", "allow below"},
        {"/x/a/a/a/b", "allow below"},
        {"/x/a/a/b/b", "refuse"},
    };
    for (const auto& [path, expected] : cases) {
        CAPTURE(path);
        CHECK(verdict(policy, {read}, path) == expected);
    }
}

TEST_CASE("decide: names that share a hash bucket or a prefix are kept apart") {
    std::vector<std::string> rules;
    for (unsigned number = 0; number < 3000; ++number) {
        const std::string text = std::to_string(number);
        rules.push_back("{name: r" + text + ", allow: [read], paths: ['/d/" + text + "/**', '/e/" + text +
                        "']}");
    }
    const Policy policy = load_rules(rules);
    for (unsigned number = 0; number < 3000; ++number) {
        const std::string text = std::to_string(number);
        CHECK(verdict(policy, {read}, ("/d/" + text + "/x/y").c_str()) == "allow r" + text);
        CHECK(verdict(policy, {read}, ("/e/" + text).c_str()) == "allow r" + text);
        CHECK(verdict(policy, {read}, ("/e/" + text + "/x").c_str()) == "refuse");
        CHECK(verdict(policy, {read}, ("/" + text).c_str()) == "refuse");
    }
    CHECK(verdict(policy, {read}, "/d/3000/x") == "refuse");
}

TEST_CASE("directories: each that allow rules name literally, once, sorted, with all that is done there") {
    const Policy policy = load_rules({"{name: a, allow: [read], paths: ['/srv/www/**', /etc/app/x.toml]}",
                                      "{name: b, allow: [create, write], paths: ['/srv/www/*.tmp']}",
                                      "{name: c, allow: [read], paths: ['/{dev,opt}/*'],"
                                      " files: {types: [regular, character_device]}}",
                                      "{name: d, allow: [mkdir], paths: ['/home/${user}/**']}",
                                      "{name: e, allow: [read], paths: ['/etc/app/y.toml']}",
                                      "{name: no, deny: all, paths: ['/srv/secret/**']}"});
    struct Row {
        const char* path;
        OperationSet operations;
        bool devices;
        bool create_owners;
    };
    const Row rows[] = {{"/dev", {read}, true, false},
                        {"/etc/app", {read}, false, false},
                        {"/home", {mkdir}, false, true},
                        {"/opt", {read}, true, false},
                        {"/srv/www", {read, create, write}, false, true}};
    const auto& directories = policy.directories();
    REQUIRE(directories.size() == std::size(rows));
    for (std::size_t index = 0; index < std::size(rows); ++index) {
        CHECK(directories[index].path == rows[index].path);
        CHECK(directories[index].operations == rows[index].operations);
        CHECK(directories[index].devices == rows[index].devices);
        CHECK(directories[index].create_owners == rows[index].create_owners);
    }
}

TEST_CASE("policy: a moved policy decides as before") {
    Policy first = load_rules({"{name: a, allow: [read], paths: [/x]}"});
    Policy second = std::move(first);
    CHECK(verdict(second, {read}, "/x") == "allow a");
    first = std::move(second);
    CHECK(verdict(first, {read}, "/x") == "allow a");
    REQUIRE(first.rules().size() == 1);
    CHECK(first.rules().front().name == "a");
    CHECK(first.rules().front().location.file == "policy.yaml");
    CHECK(first.rules().front().location.line == 3);
    CHECK(first.rules().front().location.column == 5);
}

TEST_CASE(
    "decide: with ancestors the directories that lead to a rule's paths may be looked at, and nothing else") {
    const std::string rule =
        "{name: a, allow: [read], paths: ['/srv/www/**/x', /etc/one/two, '/home/${user}/*'], ancestors: "
        "stat}";
    const Policy policy = load_rules({rule});
    for (const char* path : {"/", "/srv", "/srv/www", "/etc", "/etc/one", "/home"}) {
        CAPTURE(path);
        CHECK(verdict(policy, {stat}, path) == "allow a");
        CHECK(decide(policy, {stat}, path, alice())->is_ancestor());
        CHECK(verdict(policy, {list}, path) == "refuse");
        CHECK(verdict(policy, {read}, path) == "refuse");
        CHECK(verdict(policy, {stat, read}, path) == "refuse");
    }
    for (const char* path : {"/srv/www/d", "/srv/www/x", "/srv/w", "/etc/one/two", "/home/alice", "/usr"}) {
        CAPTURE(path);
        CHECK(verdict(policy, {stat}, path) == "refuse");
    }
    CHECK(policy.directories().size() == load_rules({"{name: a, allow: [read], paths: ['/srv/www/**/x', "
                                                     "/etc/one/two, '/home/${user}/*']}"})
                                             .directories()
                                             .size());
}

TEST_CASE("decide: a deny rule and a rule that allows stat come before ancestors, and roles hold") {
    const std::string leads = "{name: a, roles: [r], allow: [read], paths: ['/srv/www/*'], ancestors: stat}";
    const std::string stats = "{name: b, allow: [stat], paths: [/srv]}";
    const std::string denies = "{name: c, deny: [stat], paths: [/srv/www]}";
    const auto policy_of = [](const std::string& users, const std::vector<std::string>& rules) {
        std::string text = "version: 1\nroles:\n  r: {users: [" + users + "]}\nrules:\n";
        for (const std::string& rule : rules) text += "  - " + rule + "\n";
        return load_text(text);
    };
    const std::string user = std::to_string(alice().uid);
    const Policy policy = policy_of(user, {leads, stats, denies});
    CHECK(verdict(policy, {stat}, "/srv") == "allow b");
    CHECK_FALSE(decide(policy, {stat}, "/srv", alice())->is_ancestor());
    CHECK(verdict(policy, {stat}, "/srv/www") == "deny c");
    CHECK(verdict(policy, {stat}, "/") == "allow a");
    CHECK(verdict(policy_of("4711", {leads}), {stat}, "/srv") == "refuse");
    const std::string defaults =
        "version: 1\ndefaults: {ancestors: stat}\nrules:\n"
        "  - {name: a, allow: [read], paths: ['/srv/*']}\n";
    CHECK(verdict(load_text(defaults), {stat}, "/srv") == "allow a");
}

}  // namespace
}  // namespace fdbroker::policy
