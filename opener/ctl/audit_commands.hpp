// SPDX-License-Identifier: MIT
// `openerctl audit …`: what each command does once its arguments are read.
#pragma once

#include <string>
#include <vector>

#include "opener/ctl/failure.hpp"

namespace fdbroker::ctl {

struct VerifyOptions {
    std::vector<std::string> files{};  // - is standard input
    bool rotated = false;              // and what each was rotated to
    std::vector<std::string> heads{};  // published ones; "running": that of the running opener
    std::string control{};
    bool json = false;
};
// exit_done: the chain of hashes holds; exit_failed: it does not, or a file cannot be read; exit_usage: a head is none.
Ending audit_verify(const VerifyOptions& options);

struct ReportOptions {
    std::vector<std::string> files{};  // - is standard input
    bool rotated = false;
    std::string policy{};  // unused rules are told of this one; empty: of none
    bool json = false;
};
// Writes the page, or the same as JSON, to standard output. exit_failed: a file cannot be read; exit_policy: the policy is
// invalid.
Ending audit_report(const ReportOptions& options);

// The files, and with `rotated` what they were rotated to, the oldest first.
std::expected<std::vector<std::string>, Failure> with_rotated(const std::vector<std::string>& files,
                                                              bool rotated, std::string_view command);

}  // namespace fdbroker::ctl
