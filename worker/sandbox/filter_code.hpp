// SPDX-License-Identifier: MIT
// The rules of a seccomp filter as the program that the kernel runs (seccomp(2), BPF).
//
// libseccomp makes such programs as well, in about a millisecond each, and drops the conditional rules of a call that has an
// unconditional one besides.
#pragma once

#include <linux/filter.h>
#include <seccomp.h>

#include <cstdint>
#include <vector>

namespace fdbroker::worker {

struct FilterRule {
    unsigned number = 0;       // the system call's
    std::uint32_t action = 0;  // SECCOMP_RET_* with its data
    // All must hold; none: the rule holds for whatever call has none with comparisons that hold. Of two such rules the later
    // counts, of two with comparisons the earlier. Operations: SCMP_CMP_EQ, NE and MASKED_EQ.
    std::vector<scmp_arg_cmp> comparisons{};
};

struct FilterRules {
    std::uint32_t otherwise = 0;  // for calls that no rule is for
    std::uint32_t foreign = 0;    // for calls of another architecture, x32 among them
    std::vector<FilterRule> rules{};
};

// A binary search by number, so that a call is told from others by eight comparisons at most where there are 256.
std::vector<sock_filter> filter_code(FilterRules rules);

}  // namespace fdbroker::worker
