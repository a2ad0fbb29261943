// SPDX-License-Identifier: MIT
// What the shared main of the tests knows beyond doctest: test cases that were skipped, with the reason, and how
// many assertions have failed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fdbroker::test {

// Notes that the running test case cannot be run here. For FDBROKER_SKIP_UNLESS.
void note_skip(const std::string& reason);
// The reason noted since the last call, if any.
std::optional<std::string> take_skip();

unsigned failed_assertions();
void count_failed_assertion();

bool is_root();
// Compares with uname(2), as in kernel_is_at_least(6, 5).
bool kernel_is_at_least(int major, int minor);
// A mount namespace can be made here; false in many containers, and for those without CAP_SYS_ADMIN.
bool can_make_mount_namespace();
// pidfd_open(2) works: run_in_child() and the like need it, and Debian 12's valgrind does not know it.
bool has_pidfds();
// The sanitizer of programs and tests (b_sanitize): "address,undefined", "thread", "none".
std::string_view sanitizer() noexcept;

}  // namespace fdbroker::test

// Leaves the test case, which then counts as skipped, unless `condition` holds:
//     FDBROKER_SKIP_UNLESS(test::is_root(), "needs root");
// A macro because a function cannot return from its caller.
#define FDBROKER_SKIP_UNLESS(condition, reason)  \
    do {                                         \
        if (!(condition)) {                      \
            ::fdbroker::test::note_skip(reason); \
            return;                              \
        }                                        \
    } while (false)
