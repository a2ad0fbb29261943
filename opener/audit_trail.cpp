#include "opener/audit_trail.hpp"

namespace fdbroker::opener {

RecordHead AuditTrail::head() const {
    return {.sequence = ring_->next_sequence(),
            .generation = generation_,
            .policy = std::string_view(policy_digest_).substr(0, policy_digest_shown),
            .time = std::chrono::system_clock::now()};
}

AuditTrail::Recorded AuditTrail::decision(DecisionRecord record) {
    const bool refused = record.errno_value != 0;
    if (ring_ == nullptr || !(refused ? settings_.refused : settings_.allowed)) return {};
    record.head = head();
    write_line(line_, record);
    if (ring_->append(line_)) return {record.head.sequence, true};
    return {0, refused || !settings_.refuse_unrecorded};
}

void AuditTrail::start(std::string_view cause) {
    event({.event = "start", .policy_digest = policy_digest_, .cause = cause});
}

void AuditTrail::event(EventRecord record) {
    if (ring_ == nullptr) return;
    record.head = head();
    write_line(line_, record);
    // What befell a session is told as well as the disk allows; the session has ended either way.
    static_cast<void>(ring_->append(line_));
}

}  // namespace fdbroker::opener
