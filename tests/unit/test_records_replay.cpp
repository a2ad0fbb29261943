// SPDX-License-Identifier: MIT
// Recorded decisions under another policy.
#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "opener/records/line_reader.hpp"
#include "opener/records/replay.hpp"
#include "policy/language/loader.hpp"

using namespace fdbroker;
using namespace fdbroker::records;

namespace {

class FakeAccounts : public policy::Accounts {
  public:
    std::optional<std::uint32_t> uid_of(const std::string& user) const override {
        static const std::map<std::string, std::uint32_t> users{{"alice", 1000}, {"bob", 1001}};
        const auto found = users.find(user);
        return found == users.end() ? std::nullopt : std::optional(found->second);
    }
    std::optional<std::uint32_t> gid_of(const std::string& group) const override {
        if (group.size() == 2 && group[0] == 'g') return 100 + static_cast<std::uint32_t>(group[1] - '0');
        return std::nullopt;
    }
};

policy::Policy load(const std::string& rules) {
    auto policy = policy::load(
        {"new.yaml", "version: 1\n" + rules},
        [](const std::string&) { return std::vector<policy::Source>{}; }, FakeAccounts());
    if (!policy)
        for (const auto& diagnostic : policy.error()) MESSAGE(diagnostic.what());
    REQUIRE(policy);
    return std::move(*policy);
}

struct Fields {
    std::string decision = "allowed";
    std::string peer =
        R"({"pid":1,"uid":1000,"gid":1000,"user":"alice","group":"alice","groups":[101],"roles":[]})";
    std::string listener = "default";
    std::string call = "open";
    std::string operation = R"(["read"])";
    std::string path = "/srv/a";
    std::string rest{};
};

std::string line_of(const Fields& fields) {
    std::string line =
        R"({"seq":1,"generation":1,"time":"2026-11-29T10:00:00.000001Z","event":"request","decision":")" +
        fields.decision + R"(","listener":")" + fields.listener + R"(","peer":)" + fields.peer +
        R"(,"call":")" + fields.call + R"(","operation":)" + fields.operation + R"(,"path":")" + fields.path +
        "\"" + fields.rest + "}";
    line.reserve(line.size() + line_padding);
    return line;
}

constexpr const char* by_policy = R"(,"step":"decide","errno":13,"reason":"no rule allows read")";
constexpr const char* missing =
    R"(,"rule":"r","at":"old.yaml:1","step":"resolve","errno":2,"reason":"there is no such file")";

// Keeps what the groups borrow.
struct Replayed {
    policy::Policy policy;
    Replay replay{policy};
    RecordParser parser{};

    explicit Replayed(const std::string& rules) : policy(load(rules)) {}
    Replayed& add(const Fields& fields) {
        const std::string line = line_of(fields);
        const Record* const record = parser.parse(line);
        REQUIRE(record != nullptr);
        replay.add(*record);
        return *this;
    }
    // "-" for each that would be refused, "+" for each that would be allowed: group by group.
    std::string flips() const {
        std::string text;
        for (const FlipGroup* group : replay.groups()) {
            text += group->flip == Flip::would_be_allowed ? "+" : "-";
            for (const auto& [path, flipped] : group->paths)
                text += path.first + "*" + std::to_string(flipped.requests);
        }
        return text;
    }
    std::uint64_t unknown(policy::UnknownFact fact) const {
        return replay.totals().unknown[static_cast<std::size_t>(fact)];
    }
};

std::string rules(const std::string& more) {
    return "rules: [" + more + "]\n";
}

constexpr const char* allow_srv = "{name: srv, allow: [read, rename, remove], paths: ['/srv/**']}";

}  // namespace

TEST_CASE("replay: decisions that stay as they were are no flips") {
    Replayed replayed(rules(allow_srv));
    replayed.add({}).add({.decision = "refused", .path = "/etc/shadow", .rest = by_policy});
    CHECK(replayed.flips().empty());
    CHECK(replayed.replay.totals().decisions == 2);
    CHECK(replayed.replay.totals().flips == 0);
}

TEST_CASE(
    "replay: a grant that is refused now and a refusal that is granted now are flips, by rule and path") {
    Replayed replayed(rules(std::string(allow_srv) + ", {name: keys, deny: all, paths: ['/srv/*.key']}"));
    for (int i = 0; i < 3; ++i)
        replayed.add({.path = "/srv/a.key", .rest = R"(,"rule":"old","at":"old.yaml:7")"});
    replayed.add({.path = "/etc/passwd", .rest = R"(,"rule":"old","at":"old.yaml:7")"});
    replayed.add(
        {.decision = "refused", .path = "/srv/b", .rest = std::string(by_policy) + R"(,"count":40)"});
    CHECK(replayed.flips() == "-/srv/a.key*3-/etc/passwd*1+/srv/b*40");
    const auto groups = replayed.replay.groups();
    CHECK(groups[0]->rule_before == "old");
    CHECK(groups[0]->rule_after == "keys");
    CHECK(groups[0]->before == "rule \"old\" allows it (old.yaml:7)");
    CHECK(groups[0]->after == "rule \"keys\" denies it (new.yaml:2)");
    CHECK(groups[1]->after == "no rule allows it");
    CHECK(groups[2]->before == "no rule allows it");
    CHECK(groups[2]->paths.begin()->second.users == std::set<std::string>{"alice"});
    const ReplayTotals& totals = replayed.replay.totals();
    CHECK(totals.flips == 5);
    CHECK(totals.flipped_requests == 44);
    CHECK(totals.collapsed == 1);
}

TEST_CASE("replay: a failure after the grant is no refusal of the policy") {
    Replayed replayed(rules(allow_srv));
    replayed.add({.decision = "refused", .rest = missing});
    CHECK(replayed.flips().empty());
    CHECK(replayed.replay.totals().decisions == 1);
    // The policy had granted it, and would refuse it now.
    replayed.add({.decision = "refused", .path = "/etc/absent", .rest = missing});
    CHECK(replayed.flips() == "-/etc/absent*1");
}

TEST_CASE("replay: malformed and cancelled requests, and events, were never decided") {
    Replayed replayed(rules(allow_srv));
    replayed.add({.decision = "refused",
                  .operation = "[]",
                  .path = "relative",
                  .rest = R"(,"step":"parse","errno":22,"reason":"the path is relative")"});
    replayed.add({.decision = "refused",
                  .path = "/etc/x",
                  .rest = R"(,"step":"deliver","errno":125,"reason":"another one failed")"});
    const std::string stop = R"({"seq":1,"event":"stop"})" + std::string(line_padding, ' ');
    replayed.replay.add(*replayed.parser.parse(stop));
    CHECK(replayed.flips().empty());
    CHECK(replayed.replay.totals().undecided == 2);
    CHECK(replayed.replay.totals().events == 1);
    CHECK(replayed.replay.totals().decisions == 0);
}

TEST_CASE("replay: the recorded peer decides: name, groups and listener") {
    const std::string roles =
        "roles: {a: {users: [alice]}, g: {groups: [g1]}, s: {sockets: [job]}, p: {groups: [g5]}}\n";
    Replayed replayed(roles +
                      rules("{name: a, roles: [a], allow: [read], paths: [/a]}, "
                            "{name: g, roles: [g], allow: [read], paths: [/g]}, "
                            "{name: p, roles: [p], allow: [read], paths: [/p]}, "
                            "{name: s, roles: [s], allow: [read], paths: [/s]}, "
                            "{name: u, allow: [read], paths: ['/u/${user}/${group}/${uid}/${gid}']}"));
    const std::string bob = R"({"uid":1001,"gid":105,"user":"bob","group":null,"groups":[],"roles":[]})";
    for (const char* path : {"/a", "/g", "/p", "/s", "/u/alice/alice/1000/1000"})
        replayed.add({.path = path});
    CHECK(replayed.flips() == "-/p*1/s*1");
    Replayed other(roles + rules("{name: a, roles: [a], allow: [read], paths: [/a]}, "
                                 "{name: p, roles: [p], allow: [read], paths: [/p]}, "
                                 "{name: s, roles: [s], allow: [read], paths: [/s]}"));
    for (const char* path : {"/a", "/p", "/s"}) other.add({.peer = bob, .listener = "job", .path = path});
    CHECK(other.flips() == "-/a*1");
}

TEST_CASE("replay: a fact that the record lacks is counted where the policy asks for it, and never guessed") {
    using policy::UnknownFact;
    const std::string old = R"({"pid":1,"uid":1000,"gid":1000,"user":"alice","roles":[]})";
    Replayed plain(rules(allow_srv));
    plain.add({.peer = old});
    CHECK(plain.replay.totals().decisions == 1);

    const std::string groups = "roles: {g: {groups: [g1, g2]}, h: {groups: [g3]}}\n";
    Replayed grouped(groups + rules("{name: g, roles: [g], allow: [read], paths: ['/srv/**']}, "
                                    "{name: all, allow: [read], paths: ['/pub/**']}"));
    grouped.add({.peer = old}).add({.peer = old, .path = "/pub/a"}).add({.peer = old, .path = "/etc/a"});
    CHECK(grouped.unknown(UnknownFact::groups) == 1);
    CHECK(grouped.replay.totals().decisions == 2);
    CHECK(grouped.flips() == "-/etc/a*1");

    // A rule allows, another denies: with both groups and with neither it is refused.
    Replayed crossed(groups + rules("{name: g, roles: [g], allow: [read], paths: ['/srv/**']}, "
                                    "{name: h, roles: [h], deny: all, paths: ['/srv/**']}"));
    crossed.add({.peer = old});
    CHECK(crossed.unknown(UnknownFact::groups) == 1);

    Replayed many("roles: {g: {groups: [g1, g2, g3, g4, g5]}}\n" +
                  rules("{name: g, roles: [g], allow: [read], paths: ['/srv/**']}"));
    many.add({.peer = old}).add({.path = "/srv/b"});
    CHECK(many.unknown(UnknownFact::groups) == 1);
    CHECK(many.replay.totals().decisions == 1);

    Replayed named(rules("{name: n, allow: [read], paths: ['/srv/${group}']}"));
    named.add({.peer = old});
    CHECK(named.unknown(UnknownFact::group) == 1);

    Replayed socket("roles: {s: {sockets: [job]}}\n" +
                    rules("{name: s, roles: [s], allow: [read], paths: [/srv/a]}"));
    socket.add({.listener = ""});
    CHECK(socket.unknown(UnknownFact::listener) == 1);
    socket.add({.peer = "{}"});
    CHECK(socket.unknown(UnknownFact::uid) == 1);
    Replayed user("roles: {s: {users: [alice]}}\n" +
                  rules("{name: s, roles: [s], allow: [read], paths: [/srv/a]}"));
    user.add({.peer = R"({"uid":1000,"gid":1000,"groups":[]})"});
    CHECK(user.unknown(UnknownFact::user) == 1);
    user.add({.peer = R"({"uid":1000,"gid":1000,"groups":[1],"more_groups":9,"user":"alice"})"});
    CHECK(user.replay.totals().decisions == 1);
    Replayed without_gid("roles: {s: {groups: [g1]}}\n" +
                         rules("{name: s, roles: [s], allow: [read], paths: [/srv/a]}"));
    without_gid.add({.peer = R"({"uid":1000,"groups":[],"user":"alice"})"});
    CHECK(without_gid.unknown(UnknownFact::gid) == 1);
}

TEST_CASE("replay: where links led is decided on as well, and only rules that follow get there") {
    const std::string led = R"(,"final_path":"/data/a")";
    const std::string follow = "{name: f, allow: [read], paths: ['/srv/**'], symlinks: follow}";
    Replayed both(rules(follow + ", {name: d, allow: [read], paths: ['/data/**']}"));
    both.add({.rest = led});
    CHECK(both.flips().empty());
    Replayed only_first(rules(follow));
    only_first.add({.rest = led});
    CHECK(only_first.flips() == "-/srv/a*1");
    Replayed refusing(rules(std::string(allow_srv) + ", {name: d, allow: [read], paths: ['/data/**']}"));
    refusing.add({.rest = led});
    CHECK(refusing.flips() == "-/srv/a*1");
    CHECK(refusing.replay.groups()[0]->after == "rule \"srv\" follows no symbolic link (new.yaml:2)");
    both.add({.decision = "refused", .rest = led + by_policy});
    CHECK(both.flips() == "+/srv/a*1");
}

TEST_CASE("replay: renames are decided as renames") {
    const Fields rename{.call = "rename", .operation = R"(["rename"])", .rest = R"(,"new_path":"/srv/b")"};
    Replayed same(rules(allow_srv));
    same.add(rename);
    CHECK(same.flips().empty());
    Replayed gaining(
        rules("{name: o, allow: [rename], paths: ['/srv/a']}, {name: n, allow: [rename, read], paths: "
              "['/srv/b']}"));
    gaining.add(rename);
    CHECK(gaining.flips() == "-/srv/a to /srv/b*1");
    CHECK(gaining.replay.groups()[0]->after == "the new name would allow what the old one does not");
    same.add({.call = "rename", .operation = R"(["rename"])"});
    CHECK(same.replay.totals().without_path == 1);
}

TEST_CASE("replay: paths and pairs of rules beyond a number are counted, and memory stays as it is") {
    Replayed replayed(rules(allow_srv));
    for (std::size_t i = 0; i < max_flip_paths + 5; ++i)
        replayed.add({.path = "/etc/" + std::to_string(i), .rest = R"(,"rule":"one")"});
    REQUIRE(replayed.replay.groups().size() == 1);
    CHECK(replayed.replay.groups()[0]->paths.size() == max_flip_paths);
    CHECK(replayed.replay.groups()[0]->other_paths == 5);
    CHECK(replayed.replay.groups()[0]->records == max_flip_paths + 5);
    for (std::size_t i = 0; i < max_flip_groups + 5; ++i)
        replayed.add({.path = "/etc/x", .rest = R"(,"rule":"rule)" + std::to_string(i) + "\""});
    CHECK(replayed.replay.groups().size() == max_flip_groups);
    CHECK(replayed.replay.totals().other_groups == 6);
}
