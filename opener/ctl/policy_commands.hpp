// SPDX-License-Identifier: MIT
// `openerctl policy …`: what each command does once its arguments are read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "opener/ctl/failure.hpp"

namespace fdbroker::ctl {

struct CheckOptions {
    std::string file{};
    bool lint = false;  // tell what is legal but unwise, too
    bool json = false;
};
// exit_done: valid, its own tests pass; exit_failed: and unwise in something (lint); exit_policy: invalid, and every error
// has been told.
ExitStatus policy_check(const CheckOptions& options);

struct TestOptions {
    std::string file{};
    bool json = false;
};
// exit_done: all of its tests pass; exit_failed: one does not; exit_policy: it is invalid for another reason.
ExitStatus policy_test(const TestOptions& options);

struct ExplainOptions {
    std::string policy{};                 // a file; empty: the policy that the running opener serves
    std::string control{};                // its control socket
    std::string user{};                   // a name or a uid
    std::optional<std::string> groups{};  // names or gids between commas; none: those of the account
    std::string socket{};                 // the listener's name
    std::string operations{};             // words between commas
    std::string path{};
    bool on_disk = false;  // what is on disk counts, too
    bool json = false;
};
// exit_done: the policy allows it, and with `on_disk` nothing on disk is in the way; exit_failed: refused, or the disk counts
// and cannot be looked at; exit_usage: an argument means nothing; exit_policy: the policy is invalid.
Done policy_explain(const ExplainOptions& options);

}  // namespace fdbroker::ctl
