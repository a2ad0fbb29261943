// SPDX-License-Identifier: MIT
#include "opener/audit/audit_trail.hpp"

#include <algorithm>

namespace fdbroker::opener {

RecordHead AuditTrail::head(std::uint64_t sequence) const {
    return {.sequence = sequence,
            .generation = generation_,
            .policy = std::string_view(policy_digest_).substr(0, policy_digest_shown),
            .time = std::chrono::system_clock::now()};
}

// ---- decisions -----------------------------------------------------------------------------------------

AuditTrail::Recorded AuditTrail::decision(SessionAudit& session, DecisionRecord record,
                                          Clock::time_point now) {
    const bool refused = record.errno_value != 0;
    if (ring_ == nullptr || !(refused ? settings_.refused : settings_.allowed)) return {};
    record.session = session.session;
    record.peer = session.peer;
    if (!refused) return write(record);
    if (is_counted(session, record, now)) {
        ++counts_.counted;
        return {};
    }
    const Recorded recorded = write(record);
    session.share.use_record_bytes(line_.size(), now);
    return recorded;
}

AuditTrail::Recorded AuditTrail::grants_together(SessionAudit& session, std::span<DecisionRecord> records) {
    if (ring_ == nullptr || !settings_.allowed) return {};
    const std::uint64_t first = ring_->next_sequence();
    lines_.clear();
    for (std::size_t index = 0; index < records.size(); ++index) {
        records[index].session = session.session;
        records[index].peer = session.peer;
        records[index].head = head(first + index);
        write_line(line_, records[index]);
        lines_ += line_;
    }
    if (append(lines_, records.size())) {
        counts_.written += records.size();
        return {first, true};
    }
    counts_.failed += records.size();
    return {0, !settings_.refuse_unrecorded};
}

AuditTrail::Recorded AuditTrail::write(const DecisionRecord& record) {
    DecisionRecord whole = record;
    whole.head = head(ring_->next_sequence());
    write_line(line_, whole);
    if (append(line_)) {
        ++counts_.written;
        return {whole.head.sequence, true};
    }
    ++counts_.failed;
    return {0, record.errno_value != 0 || !settings_.refuse_unrecorded};
}

// ---- refusals that repeat ------------------------------------------------------------------------------

bool AuditTrail::is_counted(SessionAudit& session, const DecisionRecord& record, Clock::time_point now) {
    auto* const known =
        std::ranges::find_if(session.repeated, [&](const auto& refusal) { return refusal.is_like(record); });
    if (known != session.repeated.end() && !known->is_over(now)) {
        if (known->one_by_one(record)) return false;
        if (!session.is_counting) {
            session.is_counting = true;
            counting_.push_back(&session);
        }
        const auto over = known->since() + refusals_counted_for;
        if (!settle_at_ || over < *settle_at_) settle_at_ = over;
        return true;
    }
    // In its own place, or in that of the one that began longest ago.
    RepeatedRefusal& place = known != session.repeated.end()
                                 ? *known
                                 : *std::ranges::min_element(session.repeated, {}, &RepeatedRefusal::since);
    record_counted(session, place, now);
    place.begin(record, now);
    return false;
}

void AuditTrail::record_counted(SessionAudit& session, RepeatedRefusal& refusal, Clock::time_point now) {
    if (refusal.counted() == 0) return;
    write(refusal.take_counted());
    session.share.use_record_bytes(line_.size(), now);
}

void AuditTrail::settle(Clock::time_point now) {
    settle_at_.reset();
    std::erase_if(counting_, [&](SessionAudit* session) {
        session->is_counting = false;
        for (RepeatedRefusal& refusal : session->repeated) {
            if (refusal.counted() == 0) continue;
            if (refusal.is_over(now)) {
                record_counted(*session, refusal, now);
                continue;
            }
            session->is_counting = true;
            const auto over = refusal.since() + refusals_counted_for;
            if (!settle_at_ || over < *settle_at_) settle_at_ = over;
        }
        return !session->is_counting;
    });
}

void AuditTrail::settle(SessionAudit& session, Clock::time_point now) {
    if (!session.is_counting) return;
    session.is_counting = false;
    std::erase(counting_, &session);
    for (RepeatedRefusal& refusal : session.repeated) record_counted(session, refusal, now);
}

// ---- events --------------------------------------------------------------------------------------------

void AuditTrail::start(std::string_view cause) {
    event({.event = "start", .policy_digest = policy_digest_, .cause = cause});
}

void AuditTrail::event(EventRecord record) {
    if (ring_ == nullptr) return;
    record.head = head(ring_->next_sequence());
    write_line(line_, record);
    // What befell a session is told as well as the disk allows; the session has ended either way.
    static_cast<void>(append(line_));
}

void AuditTrail::event_of(UserQuota& share, const EventRecord& record, Clock::time_point now) {
    if (ring_ == nullptr) return;
    event(record);
    share.use_record_bytes(line_.size(), now);
}

void AuditTrail::session_event(SessionAudit& session, std::string_view name, std::string_view cause,
                               Clock::time_point now) {
    if (ring_ == nullptr) return;
    settle(session, now);
    event_of(session.share, {.event = name, .session = session.session, .peer = session.peer, .cause = cause},
             now);
}

void AuditTrail::session_refused(const EventRecord& record, Clock::time_point now) {
    if (ring_ == nullptr || refused_sessions_.usable_at() > now) return;
    event(record);
    refused_sessions_.use(line_.size(), now);
}

}  // namespace fdbroker::opener
