// SPDX-License-Identifier: MIT
// For tests from the inside of the confinement: attempts, what to keep open meanwhile, kernels that lack something.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "proto/unique_fd.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::test {

// 0, or the errno of a call that returned -1. A descriptor that the call opened is closed.
int attempt(long result);
int attempt_open(long descriptor);

// open(2) by a call that the broker's filter lets pass.
int openat2_of(int directory, const std::string& path, std::uint64_t flags = 0, std::uint64_t resolve = 0);

// The standard streams and pipes of this process: what run_in_child() needs to report.
std::vector<proto::BorrowedFd> streams_and_pipes();

// A plan for the account of a broker, or for this process's own where that is not root.
opener::ConfinementPlan plan_for(const std::vector<policy::Directory>& directories);
policy::Directory directory_for(const std::string& path, policy::OperationSet operations);

inline constexpr const char* needs_namespaces = "needs root and mount namespaces";

// allowed/ with a file only root may read, spool/ that rules write, outside/ that no rule names.
struct Tree {
    TempDir top{};
    std::string allowed = top / "allowed";
    std::string spool = top / "spool";
    std::string outside = top / "outside";

    Tree() {
        for (const std::string& path : {allowed, spool, outside}) {
            make_directory(path);
            write_file(path + "/secret", "secret", {.mode = 0600});
            write_file(path + "/program", "#!/bin/sh\n", {.mode = 0755});
        }
    }

    opener::ConfinementPlan plan() const {
        using policy::Operation;
        return plan_for({directory_for(allowed, {Operation::read}),
                         directory_for(spool, {Operation::read, Operation::write, Operation::create})});
    }
};

// Confines this process; an exception says why that failed.
opener::Confined confine_here(const opener::ConfinementPlan& plan);

// Runs `inside` in a forked child up to its end, and then `outside` with the child's pid while that waits. What
// fails in either comes back as with run_in_child().
void run_beside(const std::function<void()>& inside, const std::function<void(pid_t)>& outside);

}  // namespace fdbroker::test
