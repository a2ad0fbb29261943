// SPDX-License-Identifier: MIT
// How the programs of this house complain and end.
#pragma once

#include <fmt/core.h>

#include <string_view>

#include "proto/printable.hpp"

namespace fdbroker::worker {

enum class ExitStatus : int {
    done = 0,
    failed = 1,       // something was refused or failed
    usage = 2,        // wrong usage
    unreachable = 4,  // the opener cannot be reached, or is gone
};

// Writes "worker: what: why" to standard error, in one line whatever names the text holds.
inline void complain(std::string_view text) {
    fmt::print(stderr, FDBROKER_WORKER ": {}\n", proto::printable(text, proto::LineFeeds::escaped));
}

}  // namespace fdbroker::worker
