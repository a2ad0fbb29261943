// SPDX-License-Identifier: MIT
// The allowlist of system calls.
#pragma once

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

enum class FilterFor {
    broker,
    zygote,  // may fork, make socket pairs, and install the filter of what it forks
    helper,
};

// Installs the filter for the calling process, which must have one thread and no_new_privs. What is not listed
// fails with EPERM; a call of another architecture, x32 among them, kills the process.
// system: EINVAL, ENOSYS (a kernel without seccomp filters), EPERM, EACCES (they are forbidden here).
proto::Result<void> install_seccomp_filter(FilterFor whom, const ModifyingCalls& calls);

// Whether an error of the above says that this kernel has no filters, which is for the report.
bool is_missing_seccomp(const proto::Error& error) noexcept;

}  // namespace fdbroker::opener
