// SPDX-License-Identifier: MIT
#include "opener/operations/execute.hpp"

#include <utility>

#include "opener/operations/links.hpp"
#include "opener/operations/operation.hpp"
#include "opener/request/call_table.hpp"

namespace fdbroker::opener {

namespace {

Outcome carry_out(const OperationContext& context) {
    const CallRow& row = row_of(context.request().call);
    if (row.tried_in == TriedIn::helper && !context.execution.may_block()) return refused(only_in_a_helper);
    if (row.asks == Asks::two_names) return outcome_of(row.handler(context, context.granted.grant));
    return with_links(context, last_link_of(context.request()),
                      [&](const policy::Grant& grant) { return row.handler(context, grant); });
}

}  // namespace

Outcome execute(const RequestServices& services, const policy::Peer& peer, const GrantedRequest& granted,
                const ExecutionContext& execution) {
    Outcome outcome = carry_out({services, peer, granted, execution});
    complete(outcome, granted);
    return outcome;
}

}  // namespace fdbroker::opener
