// SPDX-License-Identifier: MIT
// A candidate beside the policy: what it would decide otherwise, and what of that is kept.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "opener/request/shadow.hpp"
#include "policy/language/loader.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;

namespace {

class NoAccounts : public policy::Accounts {
  public:
    std::optional<std::uint32_t> uid_of(const std::string&) const override { return std::nullopt; }
    std::optional<std::uint32_t> gid_of(const std::string&) const override { return std::nullopt; }
};

policy::Policy load(const std::string& rules) {
    auto policy = policy::load(
        {"new.yaml", "version: 1\nrules: [" + rules + "]\n"},
        [](const std::string&) { return std::vector<policy::Source>{}; }, NoAccounts());
    if (!policy)
        for (const auto& diagnostic : policy.error()) MESSAGE(diagnostic.what());
    REQUIRE(policy);
    return std::move(*policy);
}

Shadow shadow_of(const std::string& rules) {
    return Shadow({.policy = load(rules), .digest = "abc"}, "/etc/new.yaml",
                  std::chrono::system_clock::now());
}

policy::Rule rule_named(const std::string& name) {
    policy::Rule rule;
    rule.name = name;
    return rule;
}

Shadow::Made made(bool granted, std::string_view path, const policy::Rule* rule = nullptr) {
    return {.granted = granted,
            .rule = rule,
            .request = {.operations = {policy::Operation::read}, .path = path},
            .user = "alice"};
}

}  // namespace

TEST_CASE("shadow: decisions that agree are counted, and make no difference") {
    Shadow shadow = shadow_of("{name: srv, allow: [read], paths: ['/srv/**']}");
    const policy::Peer peer = shadow.identify({.uid = 1000});
    CHECK(!shadow.compare(peer, made(true, "/srv/a")));
    CHECK(!shadow.compare(peer, made(false, "/etc/a")));
    CHECK(shadow.counts().decisions == 2);
    CHECK(shadow.groups().empty());
    CHECK(!shadow.last_difference());
}

TEST_CASE("shadow: differences are grouped by the rules of both policies, with the paths") {
    const policy::Rule old = rule_named("old");
    Shadow shadow = shadow_of(
        "{name: srv, allow: [read], paths: ['/srv/**']}, {name: keys, deny: all, paths: ['/srv/*.key']}");
    const policy::Peer peer = shadow.identify({.uid = 1000});
    for (int i = 0; i < 3; ++i) CHECK(shadow.compare(peer, made(true, "/srv/a.key", &old)));
    CHECK(shadow.compare(peer, made(true, "/etc/a", &old)));
    const auto granted = shadow.compare(peer, made(false, "/srv/b"));
    REQUIRE(granted);
    CHECK(granted->allowed);
    CHECK(granted->rule->name == "srv");
    CHECK(shadow.counts().would_be_refused == 4);
    CHECK(shadow.counts().would_be_allowed == 1);
    CHECK(shadow.last_difference());
    const auto groups = shadow.groups();
    REQUIRE(groups.size() == 3);
    CHECK(groups[0]->requests == 3);
    CHECK(groups[0]->before == "old");
    CHECK(groups[0]->after.rule->name == "keys");
    CHECK(groups[0]->paths.at("/srv/a.key").requests == 3);
    CHECK(groups[0]->paths.at("/srv/a.key").user == "alice");
    CHECK(shadow_cause(made(true, "/srv/a.key", &old), groups[0]->after) ==
          "would be refused: rule \"keys\" denies it (new.yaml:2); rule \"old\" granted it");
    CHECK(shadow_cause(made(false, "/srv/b"), *granted) ==
          "would be allowed: rule \"srv\" allows it (new.yaml:2); the policy in force refused it");
}

TEST_CASE("shadow: whatever peers ask for, a bounded number of paths is kept, and all are counted") {
    const policy::Rule old = rule_named("old");
    Shadow shadow = shadow_of("{name: srv, allow: [read], paths: ['/srv/**']}");
    const policy::Peer peer = shadow.identify({.uid = 1000});
    for (unsigned i = 0; i < 1000; ++i) shadow.compare(peer, made(true, "/etc/" + std::to_string(i), &old));
    REQUIRE(shadow.groups().size() == 1);
    CHECK(shadow.groups()[0]->paths.size() == Shadow::max_paths);
    CHECK(shadow.groups()[0]->other_paths == 1000 - Shadow::max_paths);
    CHECK(shadow.groups()[0]->requests == 1000);
    std::vector<policy::Rule> rules;
    for (std::size_t i = 0; i < Shadow::max_groups + 9; ++i) rules.push_back(rule_named(std::to_string(i)));
    for (const policy::Rule& rule : rules) shadow.compare(peer, made(true, "/etc/x", &rule));
    CHECK(shadow.groups().size() == Shadow::max_groups);
    CHECK(shadow.requests_of_other_groups() == 10);
    CHECK(shadow.counts().would_be_refused == 1000 + Shadow::max_groups + 9);
}

TEST_CASE("shadow: renames and names that links led to are compared as such") {
    Shadow shadow = shadow_of("{name: srv, allow: [read, rename], paths: ['/srv/**']}");
    const policy::Peer peer = shadow.identify({.uid = 1000});
    Shadow::Made rename = made(true, "/srv/a");
    rename.request.operations = {policy::Operation::rename};
    rename.request.renames = true;
    rename.request.new_path = "/srv/b";
    CHECK(!shadow.compare(peer, rename));
    rename.request.new_path = "/etc/b";
    CHECK(shadow.compare(peer, rename));
    rename.request.new_path = "";
    CHECK(!shadow.compare(peer, rename));
    Shadow::Made link = made(true, "/srv/a");
    link.request.final_path = "/srv/b";
    const auto ruling = shadow.compare(peer, link);
    REQUIRE(ruling);
    CHECK(ruling->basis == policy::Ruling::Basis::links);
}
