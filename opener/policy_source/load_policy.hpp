// SPDX-License-Identifier: MIT
// The policy that the opener was told to use, from its file to the engine.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "opener/identity/account_memory.hpp"
#include "opener/identity/broker_account.hpp"
#include "policy/language/loader.hpp"

namespace fdbroker::opener {

// All that was read and looked up for a policy. It can be loaded again as it was, although its files and the accounts
// that it names have changed.
struct PolicyText {
    struct Fragments {
        std::string pattern;  // as `include:` has it
        std::vector<policy::Source> sources{};
    };
    policy::Source main{};
    std::vector<Fragments> fragments{};  // each pattern once
    AccountAnswers accounts{};
    std::vector<BrokerAccount> broker_accounts{};  // as find_accounts() gives them
};

struct LoadedPolicy {
    policy::Policy policy;
    std::string
        digest;  // SHA-256 of the sources one after the other, in hexadecimal: `cat FILE... | sha256sum`
    std::vector<policy::Diagnostic> tolerated{};  // accounts that do not exist, and what comes of that
};

// Reads, checks and compiles the policy with its fragments; `text`, when given, gets what was read and looked up. Asks the
// account database, so it may block; not for the confined broker.
std::expected<LoadedPolicy, std::vector<policy::Diagnostic>> load_policy(
    const std::string& path, policy::UnknownAccounts unknown = policy::UnknownAccounts::are_errors,
    PolicyText* text = nullptr);
// The same without reading a file or asking for an account, and without the policy's tests, which have passed. A pattern
// that `text` does not have is an error; an account that it does not have matches nobody.
std::expected<LoadedPolicy, std::vector<policy::Diagnostic>> load_policy(const PolicyText& text);

// A line each on standard error.
void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics);
// A line for each, and one for those beyond the first 20.
std::vector<std::string> tolerated_lines(const LoadedPolicy& loaded);

}  // namespace fdbroker::opener
