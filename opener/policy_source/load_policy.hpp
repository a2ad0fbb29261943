// SPDX-License-Identifier: MIT
// The policy that the opener was told to use, from its file to the engine.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "policy/language/loader.hpp"

namespace fdbroker::opener {

// All that was read of a policy, so that it can be loaded again as it was although its files have changed.
struct PolicyText {
    struct Fragments {
        std::string pattern;  // as `include:` has it
        std::vector<policy::Source> sources{};
    };
    policy::Source main{};
    std::vector<Fragments> fragments{};  // each pattern once
};

struct LoadedPolicy {
    policy::Policy policy;
    std::string
        digest;  // SHA-256 of its sources one after the other, in hexadecimal: `cat FILE... | sha256sum`
};

// Reads, checks and compiles the policy with its fragments; `text`, when given, gets what was read. Asks the account
// database, so it may block; not for the confined broker.
std::expected<LoadedPolicy, std::vector<policy::Diagnostic>> load_policy(const std::string& path,
                                                                         PolicyText* text = nullptr);
// The same without reading a file. A pattern that `text` does not have is an error.
std::expected<LoadedPolicy, std::vector<policy::Diagnostic>> load_policy(const PolicyText& text);

// One line each on standard error.
void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics);

}  // namespace fdbroker::opener
