// SPDX-License-Identifier: MIT
// A kernel, or a container, that lacks something: faked by a filter that answers as such a kernel does.
#pragma once

#include <seccomp.h>

#include <optional>
#include <vector>

namespace fdbroker::test {

struct MissingCall {
    int number;  // SCMP_SYS(...)
    int errno_value;
    struct Argument {
        unsigned index;
        int value;
    };
    std::optional<Argument> argument{};  // only with this one
};
// From now on these calls of this process, and of all that it starts, fail with their errno_value.
void take_away(const std::vector<MissingCall>& calls);

}  // namespace fdbroker::test
