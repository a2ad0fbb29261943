// The policy that the opener was told to use, from its file to the engine.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "policy/loader.hpp"

namespace fdbroker::opener {

struct LoadedPolicy {
    policy::Policy policy;
    std::string
        digest;  // SHA-256 of its sources one after the other, in hexadecimal: `cat FILE... | sha256sum`
};

// Reads, checks and compiles the policy with its fragments. Asks the account database, so it may block; not for the
// confined broker.
std::expected<LoadedPolicy, std::vector<policy::Diagnostic>> load_policy(const std::string& path);

// One line each on standard error.
void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics);

}  // namespace fdbroker::opener
