// SPDX-License-Identifier: MIT
// Patterns of suggested rules that become fewer and wider.
#pragma once

#include <functional>
#include <vector>

#include "policy/advice/suggest.hpp"

namespace fdbroker::policy {

// The rules after one step.
struct GeneralisedRules {
    std::vector<SuggestedRule> rules{};
    std::vector<std::string> from{};
    std::string to{};
};

// The steps that these rules offer, one by one: `${user}` where it joins the rules of several users, `*.ext` for three files
// or more of one directory, `**` for four or more below one directory. The first that `accept` takes, which may
// change it, is returned; empty
// rules: there is none.
GeneralisedRules generalise_once(const std::vector<SuggestedRule>& rules,
                                 const std::function<bool(GeneralisedRules&)>& accept);

}  // namespace fdbroker::policy
