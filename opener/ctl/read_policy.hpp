// SPDX-License-Identifier: MIT
// A policy as openerctl's commands read it: with the text of its files, to show what is wrong where it stands.
#pragma once

#include <expected>
#include <map>
#include <string>
#include <vector>

#include "opener/config/options.hpp"
#include "policy/language/loader.hpp"

namespace fdbroker::ctl {

struct PolicyFiles {
    std::expected<policy::Policy, std::vector<policy::Diagnostic>> policy;
    std::map<std::string, std::string> texts{};  // by the name that diagnostics give
};

// As the opener reads it (opener/policy_source/policy_file.hpp), and so under the same conditions. Blocks like that. "-" is
// standard input, whose fragments count from the working directory.
PolicyFiles read_policy(const std::string& path, policy::OwnTests own_tests);

// With which a command ends whose policy did not load: exit_failed when the file could not be read, else exit_policy.
opener::ExitStatus status_of(const PolicyFiles& files);

// Tells what is wrong with a policy that did not load, as lines on standard error; on a terminal with the source and a
// caret.
void print_diagnostics(const PolicyFiles& files);
// So, or as JSON, {"valid": false, "diagnostics": […]}, on standard output; status_of().
opener::ExitStatus report_diagnostics(const PolicyFiles& files, bool as_json);

// The line of `text` with that number (from 1), and below it a caret under the byte `column` (from 1). Each line begins
// with `indent`; of a long line only what surrounds the caret is shown. Columns count as the locale of the process
// (LC_CTYPE) shows them; what it cannot show is a question mark. Empty: there is no such line.
std::string source_excerpt(const std::string& text, unsigned line, unsigned column);

// The column in characters (UTF-8) of a column in bytes; both from 1.
unsigned character_column(const std::string& text, unsigned line, unsigned column);

}  // namespace fdbroker::ctl
