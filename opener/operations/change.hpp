// SPDX-License-Identifier: MIT
// What changes names and attributes: mkdir, remove, symlink, setattr, writing extended attributes. rename has a file of
// its own.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

Done<Answer> make_directory(const OperationContext& context, const policy::Grant& grant);
Done<Answer> remove_name(const OperationContext& context, const policy::Grant& grant);
Done<Answer> make_link(const OperationContext& context, const policy::Grant& grant);
Done<Answer> set_attributes(const OperationContext& context, const policy::Grant& grant);
Done<Answer> write_attribute(const OperationContext& context, const policy::Grant& grant);
Done<Answer> remove_attribute(const OperationContext& context, const policy::Grant& grant);

}  // namespace fdbroker::opener
