// SPDX-License-Identifier: MIT
// What the tests of policy/ share: accounts that exist everywhere, and short ways to a policy and a decision.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "policy/language/loader.hpp"
#include "policy/matching/accounts.hpp"
#include "policy/matching/policy.hpp"
#include "tests/unit/schema_check.hpp"

template <>
struct doctest::StringMaker<std::vector<std::string>> {
    static doctest::String convert(const std::vector<std::string>& lines) {
        std::string text;
        for (const std::string& line : lines) text += "\n    " + line;
        return text.c_str();
    }
};

namespace fdbroker::policy {

class FakeAccounts : public Accounts {
  public:
    std::optional<std::uint32_t> uid_of(const std::string& user) const override { return find(users, user); }
    std::optional<std::uint32_t> gid_of(const std::string& group) const override {
        return find(groups, group);
    }
    std::optional<UserRecord> record_of(std::uint32_t uid) const override {
        for (const auto& [name, number] : users)
            if (number == uid) return UserRecord{.name = name, .gid = uid, .group = name, .groups = {}};
        return std::nullopt;
    }

    std::optional<std::string> group_name_of(std::uint32_t gid) const override {
        for (const auto& [name, number] : groups)
            if (number == gid) return name;
        return std::nullopt;
    }

    std::map<std::string, std::uint32_t> users{{"root", 0},     {"www-data", 33}, {"backup", 34},
                                               {"alice", 1000}, {"bob", 1001},    {"nobody", 65534}};
    std::map<std::string, std::uint32_t> groups{{"root", 0},       {"adm", 4},      {"www-data", 33},
                                                {"backup", 34},    {"alice", 1000}, {"bob", 1001},
                                                {"nogroup", 65534}};

  private:
    static std::optional<std::uint32_t> find(const std::map<std::string, std::uint32_t>& ids,
                                             const std::string& name) {
        const auto found = ids.find(name);
        return found == ids.end() ? std::nullopt : std::optional(found->second);
    }
};

inline std::expected<std::vector<Source>, std::string> no_fragments(const std::string& pattern) {
    return std::unexpected("no file matches \"" + pattern + '"');
}

using Errors = std::vector<std::string>;

// load(), and the JSON Schema agrees.
inline std::expected<Policy, std::vector<Diagnostic>> load_checked(const std::string& text,
                                                                   const FragmentReader& fragments) {
    const Source source{"policy.yaml", text};
    std::vector<Source> read;
    const auto noted = [&](const std::string& pattern) {
        auto found = fragments(pattern);
        if (found) read.insert(read.end(), found->begin(), found->end());
        return found;
    };
    auto policy = load(source, noted, FakeAccounts());
    check_schema(source, Document::policy, policy);
    for (const Source& fragment : read) check_schema(fragment, Document::fragment, policy);
    return policy;
}

inline Errors errors_of(const std::string& text, const FragmentReader& fragments = no_fragments) {
    const auto policy = load_checked(text, fragments);
    Errors errors;
    if (!policy)
        for (const Diagnostic& diagnostic : policy.error()) errors.push_back(diagnostic.what());
    return errors;
}

inline Policy load_text(const std::string& text, const FragmentReader& fragments = no_fragments) {
    auto policy = load_checked(text, fragments);
    if (!policy)
        for (const Diagnostic& diagnostic : policy.error()) MESSAGE(diagnostic.what());
    REQUIRE(policy.has_value());
    return std::move(*policy);
}

// A policy of these rules, one flow mapping each.
inline std::string rules_text(const std::vector<std::string>& rules) {
    std::string text = "version: 1\nrules:\n";
    for (const std::string& rule : rules) text += "  - " + rule + "\n";
    return text;
}
inline Policy load_rules(const std::vector<std::string>& rules) {
    return load_text(rules_text(rules));
}

// The text of the only error of a policy with this one rule, after the place and the rule.
inline std::string rule_error(const std::string& rest) {
    const Errors errors = errors_of(rules_text({"{name: r, " + rest + "}"}));
    CAPTURE(rest);
    CAPTURE(errors.size());
    REQUIRE(errors.size() == 1);
    const std::string marker = "rule \"r\": ";
    const std::size_t at = errors.front().find(marker);
    REQUIRE(at != std::string::npos);
    return errors.front().substr(at + marker.size());
}

inline std::string setting_error(const std::string& setting) {
    return rule_error("allow: [read, write, create, rename, list], paths: [/x], " + setting);
}

inline void check_begins(const std::string& text, std::string_view expected) {
    CAPTURE(text);
    CHECK(text.starts_with(expected));
}

inline PeerIdentity alice() {
    return {.uid = 1000, .gid = 1000, .groups = {4}, .user = "alice", .group = "alice", .listener = "opener"};
}

inline Decision decide(const Policy& policy, OperationSet operations, const char* text,
                       const PeerIdentity& peer) {
    const auto path = RequestPath::parse(text);
    REQUIRE(path.has_value());
    return policy.decide(policy.identify(peer), operations, *path);
}

// "allow RULE", "deny RULE" or "refuse".
inline std::string verdict(const Policy& policy, OperationSet operations, const char* path,
                           const PeerIdentity& peer = alice()) {
    const Decision decision = decide(policy, operations, path, peer);
    if (decision) return "allow " + decision->rule().name;
    if (decision.error().denied_by != nullptr) return "deny " + decision.error().denied_by->name;
    return "refuse";
}

}  // namespace fdbroker::policy
