// SPDX-License-Identifier: MIT
// The process that looks up names for the supervisor.
#pragma once

#include "opener/config/options.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Forks it. The result is the supervisor's end of a channel on which a NameQuestion is answered by a NameAnswer, in any
// order, or not at all where the database does not answer. It has no privileges, holds nothing of the supervisor's, and
// ends with it.
proto::Result<proto::UniqueFd> start_name_service(const Options& options);

}  // namespace fdbroker::opener
