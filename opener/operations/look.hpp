// SPDX-License-Identifier: MIT
// What only looks: stat, list, readlink, and reading extended attributes.
#pragma once

#include "opener/operations/operation.hpp"
#include "opener/request/call_table.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

// The answer to a stat under `ancestors: stat`: a directory, and nothing else.
proto::Status ancestor_status() noexcept;
// The status of the object at the grant's path. ELOOP, step resolve: a link in the last place that is to be followed.
Attempt<proto::Status> look_at(const OperationContext& context, const policy::Grant& grant, LastLink last);

Attempt<Outcome> stat_object(const OperationContext& context, const policy::Grant& grant);
Attempt<Outcome> read_link(const OperationContext& context, const policy::Grant& grant);
Attempt<Outcome> read_attribute_value(const OperationContext& context, const policy::Grant& grant);
Attempt<Outcome> list_attributes(const OperationContext& context, const policy::Grant& grant);

}  // namespace fdbroker::opener
