// SPDX-License-Identifier: MIT
#include "policy/advice/guarded.hpp"

#include "policy/advice/edit.hpp"
#include "policy/diff/diff.hpp"
#include "policy/language/compile.hpp"
#include "policy/lint/sensitive.hpp"

namespace fdbroker::policy {
namespace {

constexpr std::string_view guarded_places[] = {
    "/etc/{shadow,shadow-,gshadow,gshadow-}",
    "/etc/sudoers",
    "/etc/sudoers.d/**",
    "/etc/ssl/private/**",
    "/etc/ssh/ssh_host_*_key",
    "/etc/krb5.keytab",
    "/root",
    "/root/**",
    "/proc",
    "/proc/**",
    "/sys",
    "/sys/**",
    "/dev",
    "/dev/**",
};

// Below any directory.
constexpr std::string_view guarded_names[] = {
    "/**/*.{key,pem,p12,pfx,jks,keytab}",
    "/**/id_{rsa,dsa,ecdsa,ed25519,ecdsa_sk,ed25519_sk}",
    "/**/.{ssh,gnupg,aws,kube}",
    "/**/.{ssh,gnupg,aws,kube}/**",
};

const OperationSet any_operation{Operation::read};

class UnaskedAccounts : public Accounts {
  public:
    std::optional<std::uint32_t> uid_of(const std::string&) const override { return std::nullopt; }
    std::optional<std::uint32_t> gid_of(const std::string&) const override { return std::nullopt; }
};

void add_rule(PolicyDraft& draft, bool allows, const std::vector<std::string>& patterns) {
    if (patterns.empty()) return;
    RuleDraft& rule = draft.rules.emplace_back();
    rule.rule.name = allows ? "allowed" : "denied";
    rule.rule.allows = allows;
    rule.rule.operations = any_operation;
    for (const std::string& pattern : patterns) rule.paths.push_back(path_draft(pattern));
}

}  // namespace

std::vector<std::string> guarded_patterns() {
    std::vector<std::string> all(std::begin(guarded_places), std::end(guarded_places));
    all.insert(all.end(), std::begin(guarded_names), std::end(guarded_names));
    return all;
}

Policy Guard::policy_of(const std::vector<std::string>& allowed, const std::vector<std::string>& denied) {
    PolicyDraft draft;
    add_rule(draft, true, allowed);
    add_rule(draft, false, denied);
    return compile(std::move(draft));
}

Guard::Guard(const std::vector<std::string>& include)
    : include_(include), guarded_(policy_of(guarded_patterns(), {})), included_(policy_of(include, {})) {}

bool Guard::holds_back(RequestPath path) const {
    const auto matches = [&](const Policy& policy) {
        return policy.decide(policy.identify({}), any_operation, path).has_value();
    };
    return matches(guarded_) && !matches(included_);
}

std::vector<std::string> Guard::names_below(const std::string& directory) {
    std::vector<std::string> names;
    for (const std::string_view name : guarded_names) names.push_back(directory + std::string(name));
    return names;
}

// Compares the pattern with and without what is held back; included patterns count on neither side.
bool Guard::reaches(const std::string& pattern, const std::vector<std::string>& held_back) const {
    std::vector<std::string> all = include_;
    all.insert(all.end(), held_back.begin(), held_back.end());
    const PolicyDiff found =
        diff(policy_of({pattern}, include_), policy_of({pattern}, all), UnaskedAccounts());
    return !found.differences.empty() || !found.proof.all_paths;
}

Guard::Reached Guard::reached_by(const std::string& pattern) const {
    std::string plain = pattern;
    constexpr std::string_view variable = "${user}";
    for (std::size_t at = 0; (at = plain.find(variable, at)) != std::string::npos;)
        plain.replace(at, variable.size(), "user");
    if (reaches(plain, {std::begin(guarded_places), std::end(guarded_places)})) return Reached::places;
    return reaches(plain, {std::begin(guarded_names), std::end(guarded_names)}) ? Reached::names
                                                                                : Reached::nothing;
}

}  // namespace fdbroker::policy
