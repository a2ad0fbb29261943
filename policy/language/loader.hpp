// SPDX-License-Identifier: MIT
// From YAML text to a Policy. The only part of fdbroker that sees yaml-cpp, and where its exceptions stop.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/matching/accounts.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// One thing wrong with a policy. what() is "file:line:column: what is wrong, what was expected".
struct Diagnostic {
    std::string file;
    unsigned line = 0;    // from 1; 0: about the file as a whole
    unsigned column = 0;  // from 1, in bytes
    std::string text;
    std::string what() const;
};

struct Source {
    std::string name;  // as messages show it
    std::string text;
};

// Reads the fragments that one pattern of `include:` names, in the order of their names. `pattern` is as
// written; a relative one counts from the directory of the policy file.
using FragmentReader =
    std::function<std::expected<std::vector<Source>, std::string>(const std::string& pattern)>;

// Whether a policy whose own tests fail loads.
enum class OwnTests : std::uint8_t {
    must_pass,      // no: a failed test is an error like any other
    left_to_caller  // who runs them: see test.hpp
};

// All errors of all files at once, in file order. Never throws; time and memory are linear in the text.
std::expected<Policy, std::vector<Diagnostic>> load(const Source& source,
                                                    const FragmentReader& read_fragments,
                                                    const Accounts& accounts,
                                                    OwnTests own_tests = OwnTests::must_pass);

}  // namespace fdbroker::policy
