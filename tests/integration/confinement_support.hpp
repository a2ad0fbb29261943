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

// Confines this process; an exception says why that failed.
opener::Confined confine_here(const opener::ConfinementPlan& plan);

// Runs `inside` in a forked child up to its end, and then `outside` with the child's pid while that waits. What
// fails in either comes back as with run_in_child().
void run_beside(const std::function<void()>& inside, const std::function<void(pid_t)>& outside);

}  // namespace fdbroker::test
