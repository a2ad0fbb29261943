#include "opener/audit_trail.hpp"

namespace fdbroker::opener {

AuditTrail::Recorded AuditTrail::decision(DecisionRecord record) {
    const bool refused = record.errno_value != 0;
    if (ring_ == nullptr || !(refused ? settings_.refused : settings_.allowed)) return {};
    record.sequence = ring_->next_sequence();
    record.generation = generation_;
    record.time = std::chrono::system_clock::now();
    write_line(line_, record);
    if (ring_->append(line_)) return {record.sequence, true};
    return {0, refused || !settings_.refuse_unrecorded};
}

void AuditTrail::event(EventRecord record) {
    if (ring_ == nullptr) return;
    record.sequence = ring_->next_sequence();
    record.generation = generation_;
    record.time = std::chrono::system_clock::now();
    write_line(line_, record);
    // What befell a session is told as well as the disk allows; the session has ended either way.
    static_cast<void>(ring_->append(line_));
}

}  // namespace fdbroker::opener
