// SPDX-License-Identifier: MIT
// `openerctl policy suggest`: rules for what was refused, and what of a policy nobody uses.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "opener/ctl/failure.hpp"
#include "policy/advice/suggest.hpp"
#include "policy/advice/usage.hpp"

namespace fdbroker::ctl {

struct SuggestCommandOptions {
    std::vector<std::string> files{};  // logs and files of `worker run --learn`; - is standard input
    std::string policy{};              // that the rules are to be added to; empty: there is none
    std::vector<std::string> include{};
    bool rotated = false;  // and what the logs were rotated to
    bool generalise = false;
    bool unused = false;
    bool json = false;
};
// exit_done, also when there is nothing to suggest; exit_failed: a file cannot be read; exit_policy: the policy is invalid;
// exit_usage: an option means nothing.
Ending policy_suggest(const SuggestCommandOptions& options);

// The result of reading the records.
struct SuggestReport {
    policy::Suggestion suggestion{};
    std::vector<policy::RuleUsage> unused{};
    std::uint64_t records = 0;
    std::uint64_t malformed = 0;  // lines that are no records
    std::uint64_t forgotten = 0;  // refusals beyond as many different ones as are kept apart
};

// Policy text that loads: a whole policy, or with `base` a fragment of it. Everything else is told in comments.
std::string policy_text(const SuggestReport& report, const policy::Policy* base);
nlohmann::json to_json(const SuggestReport& report, const policy::Policy* base);

}  // namespace fdbroker::ctl
