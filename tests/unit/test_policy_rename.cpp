// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <string>

#include "policy/matching/rename.hpp"
#include "policy/matching/request_path.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

RequestPath path(const std::string& text) {
    return RequestPath::parse(text).value();
}

struct Judged {
    Policy policy;
    Peer peer;
    explicit Judged(const std::string& rules) : policy(load_text(rules)), peer(policy.identify(alice())) {}

    // "yes", with +replace and +directories; else what is missing.
    std::string rename(const std::string& from, const std::string& to) const {
        const auto decision = decide_rename(policy, peer, path(from), path(to));
        if (decision)
            return std::string("yes") + (decision->may_replace ? "+replace" : "") +
                   (decision->directories ? "+directories" : "");
        const RenameRefusal& refusal = decision.error();
        if (!refusal.gains.empty()) {
            std::string gains = "gains";
            for (unsigned bit = 0; bit < operation_count; ++bit)
                if (refusal.gains.contains(static_cast<Operation>(bit)))
                    gains += " " + std::string(to_string(static_cast<Operation>(bit)));
            return gains;
        }
        return refusal.at_new_name ? "not to there" : "not from here";
    }
    bool same_below(const std::string& one, const std::string& other) const {
        const bool same = same_rules_below(policy, peer, path(one), path(other));
        CHECK(same_rules_below(policy, peer, path(other), path(one)) == same);
        return same;
    }
};

}  // namespace

TEST_CASE("rename: the table of what may be called what") {
    const Judged judged(R"(version: 1
rules:
  - {name: box, allow: [read, manage], paths: ["/box/**"]}
  - {name: readable, allow: [read, rename], paths: ["/readable/**"]}
  - {name: blind, allow: [rename], paths: ["/blind/**"]}
  - {name: dirs, allow: [rename, mkdir], paths: ["/dirs/**"], rename: {directories: true}}
  - {name: other-dirs, allow: [rename, mkdir], paths: ["/others/**"], rename: {directories: true}}
  - {name: looks, allow: [read], paths: ["/looks/**"]}
  - {name: keys, deny: [write], paths: ["/box/**/*.key"]}
  - {name: secret, deny: [read], paths: ["/box/secret"]}
)");
    struct Row {
        const char* from;
        const char* to;
        const char* expected;
    };
    const Row rows[] = {
        {"/box/a", "/box/b", "yes+replace"},
        {"/box/a", "/box/sub/b", "yes+replace"},
        {"/box/a", "/boxes/b", "not to there"},
        {"/bo/a", "/box/b", "not from here"},
        // A denied write denies rename and remove as well, at either name.
        {"/box/a.key", "/box/b", "not from here"},
        {"/box/a", "/box/a.key", "not to there"},
        {"/box/below.key/a", "/box/b", "not from here"},
        // Losing a right is no harm, gaining one is.
        {"/box/a", "/readable/a", "yes"},
        {"/readable/a", "/box/a", "gains write create truncate mkdir remove"},
        {"/readable/a", "/blind/a", "yes"},
        {"/blind/a", "/readable/a", "gains read"},
        {"/box/secret", "/box/b", "gains read"},
        {"/box/a", "/box/secret", "yes+replace"},
        {"/looks/a", "/looks/b", "not from here"},
        {"/readable/a", "/looks/b", "not to there"},
        // Directories: both rules say so, and the same rules reach below.
        {"/dirs/a", "/dirs/b", "yes+directories"},
        {"/dirs/a", "/dirs/deep/down/b", "yes+directories"},
        {"/dirs/a", "/others/b", "yes"},
        {"/box/a", "/box/deep/b", "yes+replace"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.from);
        CAPTURE(row.to);
        CHECK(judged.rename(row.from, row.to) == row.expected);
    }
}

TEST_CASE(
    "rename: the same rules reach below two directories only when every pattern is equally far in both") {
    const Judged judged(R"(version: 1
rules:
  - {name: all, allow: [read, rename], paths: ["/d/**"], rename: {directories: true}}
  - {name: literal, allow: [write], paths: ["/d/a/further/inside"]}
  - {name: wild, allow: [write], paths: ["/d/b*/x"]}
  - {name: any-depth, deny: [read], paths: ["/d/**/tmp/*.key"]}
  - {name: own, allow: [write], paths: ["/d/${user}/**"]}
  - {name: file, allow: [write], paths: ["/d/file"]}
  - {name: denied, deny: [read], paths: ["/d/denied"]}
)");
    CHECK(judged.same_below("/d/x", "/d/y"));
    CHECK(judged.same_below("/d/x/z", "/d/y"));
    CHECK(judged.same_below("/d/b1", "/d/b2"));
    CHECK(judged.same_below("/d/x/tmp", "/d/y/deeper/tmp"));
    CHECK(judged.same_below("/d/alice/x", "/d/alice/y/z"));
    // An exact path says nothing of what is below it.
    CHECK(judged.same_below("/d/file", "/d/x"));
    CHECK(judged.same_below("/d/a/further/inside", "/d/x"));
    CHECK(judged.same_below("/d/a/furthe", "/d/x"));
    CHECK(judged.same_below("/d/a/further/insid", "/d/x"));
    CHECK_FALSE(judged.same_below("/d/a", "/d/x"));
    CHECK_FALSE(judged.same_below("/d/a/further", "/d/x"));
    CHECK_FALSE(judged.same_below("/d/a/further", "/d/a"));
    CHECK_FALSE(judged.same_below("/d/b1", "/d/x"));
    CHECK_FALSE(judged.same_below("/d/x/tmp", "/d/x/y"));
    CHECK_FALSE(judged.same_below("/d/alice", "/d/x"));
    // A deny reaches below what it matches.
    CHECK_FALSE(judged.same_below("/d/denied", "/d/x"));
    CHECK_FALSE(judged.same_below("/d/denied/x", "/d/x"));
    CHECK_FALSE(judged.same_below("/d", "/d/x"));
}

}  // namespace fdbroker::policy
