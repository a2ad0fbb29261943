// SPDX-License-Identifier: MIT
// The process that looks up names for the supervisor.
#pragma once

#include "opener/config/options.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Forks the service. The result is the supervisor's end of a channel. On it a NameAnswer answers each NameQuestion, in
// any order; none comes where the database does not answer. The service has no privileges, holds nothing of the
// supervisor's, and ends with it.
proto::Result<proto::UniqueFd> start_name_service(const Options& options);

}  // namespace fdbroker::opener
