// SPDX-License-Identifier: MIT
// explain(): every outcome of a rule, every kind of near miss, as an administrator reads them.
#include "policy/explain/explain.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

using enum Operation;

std::string text_of(const Policy& policy, OperationSet operations, const char* text,
                    const PeerIdentity& identity = alice()) {
    const auto path = RequestPath::parse(text);
    REQUIRE(path.has_value());
    const Peer peer = policy.identify(identity);
    return to_text(explain(policy, peer, operations, *path), peer, operations, *path);
}

const Policy& site() {
    static const Policy policy = load_text(
        "version: 1\n"
        "roles:\n"
        "  web: {users: [www-data]}\n"
        "  staff: {users: [alice], groups: [adm]}\n"
        "  convert: {sockets: [convert]}\n"
        "rules:\n"
        "  - {name: site, roles: [web], allow: [read, stat], paths: ['/srv/www/**']}\n"
        "  - {name: keys, deny: [read], paths: ['/srv/www/**/*.key'], reveal: ENOENT}\n"
        "  - {name: all-keys, deny: all, paths: ['/srv/**/*.key']}\n"
        "  - {name: edit, roles: [staff], allow: [read, write], paths: ['/srv/www/*']}\n"
        "  - {name: again, roles: [staff], allow: [read], paths: ['/srv/www/**']}\n");
    return policy;
}

TEST_CASE("explain: a grant names the rule, those that came too late, and the roles") {
    CHECK(text_of(site(), {read}, "/srv/www/x") ==
          "read /srv/www/x as user alice (uid 1000): allowed by rule \"edit\"\n"
          "rules that match the path:\n"
          "  policy.yaml:7 rule \"site\", /srv/www/**: is for other peers: read\n"
          "  policy.yaml:10 rule \"edit\", /srv/www/*: allows read\n"
          "  policy.yaml:11 rule \"again\", /srv/www/**: would allow, but an earlier rule does: read\n"
          "roles:\n"
          "  web: not held, is not one of its users\n"
          "  staff: held, is user alice (uid 1000), is in one of its groups\n"
          "  convert: not held, is not on one of its sockets\n");
}

TEST_CASE("explain: a refusal by a deny rule names it, the others, and what it overrides") {
    CHECK(text_of(site(), {read}, "/srv/www/a.key", {.uid = 33, .user = "www-data"}) ==
          "read /srv/www/a.key as user www-data (uid 33): refused by rule \"keys\"\n"
          "rules that match the path:\n"
          "  policy.yaml:7 rule \"site\", /srv/www/**: would allow, but for the deny rule: read\n"
          "  policy.yaml:8 rule \"keys\", /srv/www/**/*.key: denies read\n"
          "  policy.yaml:9 rule \"all-keys\", /srv/**/*.key: denies as well: read\n"
          "  policy.yaml:10 rule \"edit\", /srv/www/*: is for other peers: read\n"
          "  policy.yaml:11 rule \"again\", /srv/www/**: is for other peers: read\n"
          "roles:\n"
          "  web: held, is user www-data (uid 33)\n"
          "  staff: not held, is not one of its users, is not in one of its groups\n"
          "  convert: not held, is not on one of its sockets\n"
          "would have been allowed, but for one thing:\n"
          "  policy.yaml:7 rule \"site\": rule \"keys\" denies read\n");
}

TEST_CASE("explain: near misses name the role, the operation or the pattern") {
    const std::string text = text_of(site(), {read, write}, "/srv/www/a/x");
    CHECK(text.find("refused: no rule allows write\n") != std::string::npos);
    CHECK(text.find("rule \"again\": it does not allow write\n") != std::string::npos);
    CHECK(text.find("rule \"edit\": its pattern /srv/www/* does not match\n") != std::string::npos);
    CHECK(text_of(site(), {stat}, "/srv/www/x")
              .find("rule \"site\": the peer holds none of its roles: web\n") != std::string::npos);
    CHECK(text_of(site(), {read}, "/srv/www")
              .find("rule \"again\": its pattern /srv/www/** takes the directory itself") !=
          std::string::npos);
    // Two things at once are no near miss.
    CHECK(text_of(site(), {stat, write}, "/srv/www/x", {.uid = 5}).find("but for one thing") ==
          std::string::npos);
}

TEST_CASE("explain: without rules and roles there is the verdict alone") {
    CHECK(text_of(load_text("version: 1\n"), {read}, "/x", {.uid = 5}) ==
          "read /x as uid 5 (without a name): refused: no rule allows read\n");
}

TEST_CASE("explain: near misses are bounded") {
    std::vector<std::string> rules;
    for (unsigned rule = 0; rule < 100; ++rule)
        rules.push_back("{name: r" + std::to_string(rule) + ", allow: [stat], paths: ['/a/**']}");
    const Policy policy = load_rules(rules);
    const auto path = RequestPath::parse("/a/b");
    CHECK(explain(policy, policy.identify(alice()), {read}, *path).misses.size() == max_near_misses);
}

}  // namespace
}  // namespace fdbroker::policy
