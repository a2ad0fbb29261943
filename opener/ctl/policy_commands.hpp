// SPDX-License-Identifier: MIT
// `openerctl policy …`: what each command does once its arguments are read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "opener/ctl/failure.hpp"
#include "policy/language/shape.hpp"

namespace fdbroker::ctl {

enum class CheckFormat { text, json, sarif, github };

struct CheckOptions {
    std::vector<std::string> files{};  // "-": standard input
    bool lint = false;                 // tell what is legal but unwise, too
    CheckFormat format = CheckFormat::text;
};
// exit_done: all are valid, their own tests pass; exit_failed: one is not there or cannot be read, or is unwise in something
// (lint); exit_policy: one is invalid. Every error of all has been told.
Ending policy_check(const CheckOptions& options);

ExitStatus policy_schema(policy::Document document);

struct TestOptions {
    std::string file{};
    bool json = false;
};
// exit_done: all tests pass; exit_failed: a test does not; exit_policy: the policy is invalid for another reason.
ExitStatus policy_test(const TestOptions& options);

struct ExplainOptions {
    std::string policy{};                 // a file; empty: the policy that the running opener serves
    std::string control{};                // control socket of the opener
    std::string user{};                   // a name or a uid
    std::optional<std::string> groups{};  // names or gids between commas; none: those of the account
    std::string socket{};                 // the listener's name
    std::string operations{};             // words between commas
    std::string path{};
    bool on_disk = false;  // the disk counts, too
    bool why_not = false;  // with the edits that would allow a refused request
    bool json = false;
};
// exit_done: the policy allows it, and with `on_disk` nothing on disk is in the way; exit_failed: refused, or the disk counts
// and cannot be looked at; exit_usage: an argument means nothing; exit_policy: the policy is invalid.
Ending policy_explain(const ExplainOptions& options);

}  // namespace fdbroker::ctl
