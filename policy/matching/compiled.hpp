// SPDX-License-Identifier: MIT
// What a Policy is made of. For policy/ only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/matching/matcher.hpp"
#include "policy/matching/policy.hpp"
#include "policy/matching/policy_test.hpp"
#include "policy/matching/role.hpp"

namespace fdbroker::policy {

struct Policy::Compiled {
    std::shared_ptr<const std::deque<std::string>> file_names{};  // storage that the locations point into
    std::vector<Rule> rules{};
    std::vector<std::uint32_t> rule_roles{};  // RoleSets: who each rule is for
    std::vector<Role> roles{};              // those of the policy, then what deny rules have in place of some
    std::vector<std::string> role_names{};  // in the order of roles
    std::size_t named_roles = 0;            // those of the policy
    RoleSets role_sets{};
    Matcher matcher{};
    std::string pattern_texts{};                 // as written, one after the other
    std::vector<std::uint32_t> pattern_ends{};   // where each ends; Entry::pattern counts in them
    std::vector<std::uint32_t> pattern_rules{};  // the rule of each
    std::vector<Directory> directories{};
    std::vector<std::string>
        denied_heads{};  // literal heads of the patterns of deny rules; sorted, each once
    std::unordered_map<std::uint32_t, std::vector<std::string>> lint_allowed{};  // by rule
    // Directories that lead to the paths of rules with `ancestors: stat`, and those rules, first to last.
    std::map<std::string, std::vector<std::uint32_t>, std::less<>> ancestors{};
    Limits limits{};
    AuditSettings audit{};
    std::vector<Test> tests{};

    std::string_view pattern(std::uint32_t index) const noexcept {
        const std::uint32_t begin = index == 0 ? 0 : pattern_ends[index - 1];
        return std::string_view(pattern_texts).substr(begin, pattern_ends[index] - begin);
    }
};

}  // namespace fdbroker::policy
