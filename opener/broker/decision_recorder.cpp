// SPDX-License-Identifier: MIT
#include "opener/broker/decision_recorder.hpp"

#include <algorithm>
#include <cerrno>

#include "opener/request/call_table.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using proto::Step;

namespace {

// As it was asked for; a path that no request could have is none.
std::string_view new_path_of(const proto::Request& request) noexcept {
    if (row_of(request.call).asks != Asks::two_names) return {};
    const std::string_view path = proto::read_text(request.payload);
    return path.size() <= proto::max_path_length ? path : std::string_view();
}

}  // namespace

DecisionRecorder::DecisionRecorder(Service& service, const PeerConnection& connection,
                                   const policy::Peer& peer, pid_t pid)
    : service_(service),
      peer_(peer),
      pid_(pid),
      audit_(connection.id(),
             audit_peer(peer.identity(), pid, peer.role_names(service.request_services.policy)),
             connection.quota()) {
    if (service.shadow != nullptr) shadow_peer_.emplace(service.shadow->identify(peer.identity()));
}

DecisionRecord DecisionRecorder::record_of(const proto::Request& request, const Outcome& outcome,
                                           std::chrono::nanoseconds duration) {
    return {
        .duration = duration,
        .request = request.id,
        .call = request.call,
        .operations = outcome.operations,
        .path = request.path,
        .final_path = outcome.final_path,
        .new_path = new_path_of(request),
        .rule = outcome.rule,
        .errno_value = outcome.errno_value,
        .step = outcome.recorded_step,
        .reason = outcome.recorded_reason(),
    };
}

Recorded DecisionRecorder::record(const proto::Request& request, const Outcome& outcome,
                                  Clock::time_point received_at) {
    const auto now = Clock::now();
    DecisionRecord record = record_of(request, outcome, now - received_at);
    const Recorded recorded = service_.audit.decision(audit_, record, now);
    tell(record, recorded, now);
    return recorded;
}

std::vector<Recorded> DecisionRecorder::record_together(std::span<DecisionRecord> records,
                                                        Clock::time_point now) {
    const bool granted =
        std::ranges::all_of(records, [](const DecisionRecord& record) { return record.errno_value == 0; });
    Recorded recorded;
    if (granted) recorded = service_.audit.grants_together(audit_, records, now);
    std::vector<Recorded> all;
    for (DecisionRecord& record : records) {
        if (!granted) recorded = service_.audit.decision(audit_, record, now);
        tell(record, recorded, now);
        all.push_back(recorded);
        if (granted && recorded.sequence != 0) ++recorded.sequence;
    }
    return all;
}

void DecisionRecorder::record_event(std::string_view name, std::string_view cause) {
    service_.audit.session_event(audit_, name, cause, Clock::now());
}

void DecisionRecorder::tell(DecisionRecord& record, const Recorded& recorded, Clock::time_point now) {
    if (!recorded.may_leave) {
        record.errno_value = EIO;
        record.step = Step::record;
        record.reason = "the decision could not be put on record";
    }
    service_.request_services.metrics.count(record, now);
    use_.count(record.rule, record.errno_value == 0, record.path, now);
    if (shadow_peer_) compare_with_shadow(record, now);
    if (!service_.control.is_watched()) return;
    record.head = service_.audit.head(recorded.sequence);
    record.session = audit_.session;
    record.peer = audit_.peer;
    service_.control.publish(record, pid_, peer_.identity());
}

void DecisionRecorder::compare_with_shadow(const DecisionRecord& record, Clock::time_point now) {
    // Requests that ended before a decision, also since others did, have none to compare.
    if (record.step == Step::parse || record.errno_value == ECANCELED) return;
    const Shadow::Made made{.granted = record.errno_value == 0 || record.step != Step::decide,
                            .rule = record.rule,
                            .request = {.operations = record.operations,
                                        .path = record.path,
                                        .final_path = record.final_path,
                                        .new_path = record.new_path,
                                        .renames = row_of(record.call).asks == Asks::two_names},
                            .user = peer_.identity().user};
    const auto ruling = service_.shadow->compare(*shadow_peer_, made);
    if (!ruling) return;
    service_.audit.event_of(audit_.quota,
                            {.event = "shadow",
                             .session = audit_.session,
                             .peer = audit_.peer,
                             .path = record.path,
                             .rule = ruling->rule,
                             .cause = shadow_cause(made, *ruling)},
                            now);
}

}  // namespace fdbroker::opener
