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

// The kind of an error. Its word is stable: programs that read `openerctl policy check` rely on it.
enum class DiagnosticCode : std::uint8_t {
    unreadable_file,  // the policy file is not there, or is no regular file, or may not be read
    untrusted_file,   // somebody else could change it
    syntax,           // not the YAML that the language takes
    include,
    unknown_key,
    missing_key,
    wrong_type,  // a value that is not of the form that its key takes
    unknown_word,
    unknown_name,  // a role, rule or account that does not exist
    name_taken,
    duplicate,  // a key or an entry that stands there twice
    invalid_value,
    contradiction,  // settings that exclude each other, or have no effect
    test_failed,
    further,  // more errors than are told
};
std::string_view to_string(DiagnosticCode code) noexcept;  // "unknown-key"

// A single fault of a policy. what() is "file:line:column: what is wrong, what was expected".
struct Diagnostic {
    std::string file;
    unsigned line = 0;    // from 1; 0: about the file as a whole
    unsigned column = 0;  // from 1, in bytes
    std::string text;
    DiagnosticCode code = DiagnosticCode::invalid_value;
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
    left_to_caller  // the caller runs them: see test.hpp
};

// The treatment of a user or group that a policy names and that does not exist.
enum class UnknownAccounts : std::uint8_t {
    are_errors,
    // Tolerated: no peer and no file is theirs, a rule whose `create:` names one creates nothing, and a test that names
    // one does not run. Other tests then fail the policy only where it allows what they expect to be refused.
    match_nobody,
};

struct LoadOptions {
    OwnTests own_tests = OwnTests::must_pass;
    UnknownAccounts unknown_accounts = UnknownAccounts::are_errors;
    std::vector<Diagnostic>* tolerated = nullptr;  // gets what was tolerated, in file order
};

// All errors of all files at once, in file order. Never throws; time and memory are linear in the text.
std::expected<Policy, std::vector<Diagnostic>> load(const Source& source,
                                                    const FragmentReader& read_fragments,
                                                    const Accounts& accounts,
                                                    const LoadOptions& options = {});

}  // namespace fdbroker::policy
