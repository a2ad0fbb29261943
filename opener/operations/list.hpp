// SPDX-License-Identifier: MIT
// list: what is in a directory, page by page.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

Attempt<Outcome> list_directory(const OperationContext& context, const policy::Grant& grant);

}  // namespace fdbroker::opener
