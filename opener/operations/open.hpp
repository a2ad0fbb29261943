// SPDX-License-Identifier: MIT
// open: a descriptor of a file, which may be created or truncated on the way.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

Attempt<Outcome> open_file(const OperationContext& context, const policy::Grant& grant);

}  // namespace fdbroker::opener
