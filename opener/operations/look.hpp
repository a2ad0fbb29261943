// SPDX-License-Identifier: MIT
// What only looks: stat, list, readlink, and reading extended attributes.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

Done<Answer> stat_object(const OperationContext& work, const policy::Grant& grant);
Done<Answer> read_link(const OperationContext& work, const policy::Grant& grant);
Done<Answer> read_attribute_value(const OperationContext& work, const policy::Grant& grant);
Done<Answer> list_attributes(const OperationContext& work, const policy::Grant& grant);

}  // namespace fdbroker::opener
