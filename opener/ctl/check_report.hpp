// SPDX-License-Identifier: MIT
// What `policy check` has found in each file, and the forms in which it is told.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "opener/ctl/policy_commands.hpp"

namespace fdbroker::ctl {

enum class Severity { error, warning };

struct CheckFinding {
    std::string_view code{};  // a DiagnosticCode's word, or the name of one of lint's findings
    Severity severity = Severity::error;
    std::string file{};
    unsigned line = 0;       // from 1; 0: the file as a whole
    unsigned column = 0;     // from 1, in bytes
    unsigned character = 0;  // the column, in characters
    std::string rule{};      // lint's
    std::string message{};
};

struct CheckedFile {
    std::string file{};
    // Counts of a valid policy.
    struct Counts {
        std::size_t rules = 0;
        std::size_t tests = 0;
    };
    std::optional<Counts> valid{};
    std::vector<CheckFinding> findings{};
};

// All but CheckFormat::text, which is told file by file.
void print_report(const std::vector<CheckedFile>& files, CheckFormat format, bool with_lint);

}  // namespace fdbroker::ctl
