// SPDX-License-Identifier: MIT
// What changes names and attributes: mkdir, remove, symlink, setattr, writing extended attributes. rename has a file of
// its own.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

Attempt<Outcome> make_directory(const OperationContext& context, const policy::Grant& grant);
Attempt<Outcome> remove_name(const OperationContext& context, const policy::Grant& grant);
Attempt<Outcome> make_link(const OperationContext& context, const policy::Grant& grant);
Attempt<Outcome> set_attributes(const OperationContext& context, const policy::Grant& grant);
Attempt<Outcome> write_attribute(const OperationContext& context, const policy::Grant& grant);
Attempt<Outcome> remove_attribute(const OperationContext& context, const policy::Grant& grant);

}  // namespace fdbroker::opener
