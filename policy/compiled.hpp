// What a Policy is made of. For policy/ only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "policy/matcher.hpp"
#include "policy/policy.hpp"
#include "policy/role.hpp"
#include "policy/test.hpp"

namespace fdbroker::policy {

struct Policy::Compiled {
    std::vector<Rule> rules{};
    std::vector<std::uint32_t> rule_roles{};  // RoleSets: who each rule is for
    std::vector<Role> roles{};
    std::vector<std::string> role_names{};  // of roles, in the same order
    RoleSets role_sets{};
    Matcher matcher{};
    std::vector<std::string> patterns{};         // as written; Entry::pattern counts in them
    std::vector<std::uint32_t> pattern_rules{};  // the rule of each
    std::vector<Directory> directories{};
    Limits limits{};
    AuditSettings audit{};
    std::vector<Test> tests{};
};

}  // namespace fdbroker::policy
