// SPDX-License-Identifier: MIT
// rename: an object gets another name, and no rule more than it had.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// Does not follow links, of neither name; so there is no other grant than the request's two.
Attempt<Outcome> rename_object(const OperationContext& context, const policy::Grant& grant);

}  // namespace fdbroker::opener
