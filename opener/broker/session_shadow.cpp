// SPDX-License-Identifier: MIT
// A session's requests as a candidate would decide them. Nothing of it matters to the peer.
#include <cerrno>

#include "opener/broker/session.hpp"
#include "opener/request/call_table.hpp"

namespace fdbroker::opener {

void Session::identify_for_shadow() {
    if (service_.shadow != nullptr) shadow_peer_.emplace(service_.shadow->identify(peer_.identity()));
}

void Session::compare_with_shadow(const DecisionRecord& record, std::chrono::steady_clock::time_point now) {
    // Requests that ended before a decision, also since others did, have none to compare.
    if (record.step == proto::Step::parse || record.errno_value == ECANCELED) return;
    const Shadow::Made made{.granted = record.errno_value == 0 || record.step != proto::Step::decide,
                            .rule = record.rule,
                            .request = {.operations = record.operations,
                                        .path = record.path,
                                        .final_path = record.final_path,
                                        .new_path = record.new_path,
                                        .renames = row_of(record.call).asks == Asks::two_names},
                            .user = peer_.identity().user};
    const auto ruling = service_.shadow->compare(*shadow_peer_, made);
    if (!ruling) return;
    service_.audit.event_of(quota_,
                            {.event = "shadow",
                             .session = connection_id_,
                             .peer = audit_.peer,
                             .path = record.path,
                             .rule = ruling->rule,
                             .cause = shadow_cause(made, *ruling)},
                            now);
}

}  // namespace fdbroker::opener
