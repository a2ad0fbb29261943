// SPDX-License-Identifier: MIT
#include "opener/audit/audit_trail.hpp"

#include <algorithm>
#include <utility>

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
    if (refused && is_counted(session, record, now)) {
        ++counts_.counted;
        return {};
    }
    const Recorded recorded = write(record);
    charge(session.share, line_.size(), now);
    return recorded;
}

AuditTrail::Recorded AuditTrail::grants_together(SessionAudit& session, std::span<DecisionRecord> records,
                                                 Clock::time_point now) {
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
    charge(session.share, lines_.size(), now);
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

// ---- what repeats ---------------------------------------------------------------------------------------

UserRecords& AuditTrail::records_of(UserQuota& share) {
    if (!share.records) share.records = std::make_shared<UserRecords>();
    return *share.records;
}

void AuditTrail::charge(UserQuota& share, std::size_t bytes, Clock::time_point now) noexcept {
    const bool was_slowed = share.is_slowed(now);
    if (!share.use_record_bytes(bytes, now) && !was_slowed) ++counts_.slowed;
}

auto AuditTrail::recorder_of_failures(UserQuota& share, Clock::time_point now) {
    return [this, &share, now](const RepeatedFailure& failure, std::uint64_t count) {
        write(failure.record(count));
        charge(share, line_.size(), now);
    };
}

auto AuditTrail::recorder_of_events(UserQuota& share, Clock::time_point now) {
    return [this, &share, now](const RepeatedEvent& repeated, std::uint64_t count) {
        event(repeated.record(count));
        charge(share, line_.size(), now);
    };
}

auto AuditTrail::recorder_of_refused_sessions() {
    return [this](const RepeatedEvent& repeated, std::uint64_t count) { event(repeated.record(count)); };
}

bool AuditTrail::is_counted(SessionAudit& session, const DecisionRecord& record, Clock::time_point now) {
    UserQuota& share = session.share;
    const RepeatedFailure::Event failure{record, session.listener};
    if (records_of(share).failures.stands_alone(failure, now, recorder_of_failures(share, now))) return false;
    await_settling(share);
    return true;
}

// Something of the user has been counted.
void AuditTrail::await_settling(UserQuota& share) {
    if (!std::exchange(share.has_counted_records, true)) counting_.push_back(&share);
    for (const auto& due : {share.records->failures.due(), share.records->events.due()})
        if (due) settle_at_ = std::min(settle_at_.value_or(*due), *due);
}

void AuditTrail::settle(Clock::time_point now) {
    const auto charged_at = now == Clock::time_point::max() ? Clock::now() : now;
    settle_at_.reset();
    for (UserQuota* const share : std::exchange(counting_, {})) {
        share->has_counted_records = false;
        share->records->failures.settle(now, recorder_of_failures(*share, charged_at));
        share->records->events.settle(now, recorder_of_events(*share, charged_at));
        if (share->records->failures.due() || share->records->events.due()) await_settling(*share);
    }
    refused_sessions_.settle(now, recorder_of_refused_sessions());
    if (const auto due = refused_sessions_.due()) settle_at_ = std::min(settle_at_.value_or(*due), *due);
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
    if (!records_of(share).events.stands_alone(record, now, recorder_of_events(share, now)))
        return await_settling(share);
    event(record);
    charge(share, line_.size(), now);
}

void AuditTrail::session_event(SessionAudit& session, std::string_view name, std::string_view cause,
                               Clock::time_point now) {
    event_of(session.share, {.event = name, .session = session.session, .peer = session.peer, .cause = cause},
             now);
}

void AuditTrail::session_refused(const EventRecord& record, Clock::time_point now) {
    if (ring_ == nullptr) return;
    if (refused_sessions_.stands_alone(record, now, recorder_of_refused_sessions(), record.count))
        return event(record);
    if (const auto due = refused_sessions_.due()) settle_at_ = std::min(settle_at_.value_or(*due), *due);
}

}  // namespace fdbroker::opener
