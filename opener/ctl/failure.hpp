// SPDX-License-Identifier: MIT
// Why a command could not do what it was asked to; run() tells it, as text or as JSON.
#pragma once

#include <expected>
#include <string>

#include "opener/config/options.hpp"

namespace fdbroker::ctl {

using opener::ExitStatus;

struct Failure {
    ExitStatus status = opener::exit_failed;
    std::string what{};  // "what: why"
};

// The status of a command that has said everything itself, or its failure, which nobody has told yet.
using Ending = std::expected<ExitStatus, Failure>;

inline std::unexpected<Failure> failed(ExitStatus status, std::string what) {
    return std::unexpected(Failure{status, std::move(what)});
}

}  // namespace fdbroker::ctl
