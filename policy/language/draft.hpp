// SPDX-License-Identifier: MIT
// A policy as the loader reads it from its files, before it is compiled.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/language/document.hpp"
#include "policy/matching/pattern.hpp"
#include "policy/matching/policy.hpp"
#include "policy/matching/policy_test.hpp"
#include "policy/matching/role.hpp"

namespace fdbroker::policy {

struct PathDraft {
    std::string text{};
    std::vector<Pattern> patterns{};
};

struct RuleDraft {
    Rule rule{};
    Mark mark{};
    std::vector<std::uint32_t> roles{};  // indices among the policy's; none: every peer
    std::vector<PathDraft> paths{};
    std::vector<std::string> lint_allowed{};
};

struct PolicyDraft {
    std::shared_ptr<const FileNames> file_names{};
    std::deque<Role> roles{};  // stays where it is: role_index and role_names point into it
    std::vector<std::string_view> role_names{};
    std::unordered_map<std::string_view, std::uint32_t> role_index{};
    RuleDraft defaults{};
    std::vector<RuleDraft> rules{};
    std::unordered_map<std::string, Mark> rule_marks{};
    std::size_t alternatives = 0;  // patterns that {a,b} made beyond one for each text
    Limits limits{};
    AuditSettings audit{};
    std::vector<Test> tests{};
};

}  // namespace fdbroker::policy
