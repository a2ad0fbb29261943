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

Recorded AuditTrail::decision(SessionAudit& session, DecisionRecord record, Clock::time_point now) {
    const bool refused = record.errno_value != 0;
    if (ring_ == nullptr || !(refused ? settings_.refused : settings_.allowed)) return {};
    record.session = session.session;
    record.peer = session.peer;
    if (refused && is_counted(session, record, now)) {
        ++counts_.counted;
        return {};
    }
    const Recorded recorded = write(record);
    charge(session.quota, line_.size(), now);
    return recorded;
}

Recorded AuditTrail::grants_together(SessionAudit& session, std::span<DecisionRecord> records,
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
    charge(session.quota, lines_.size(), now);
    if (append(lines_, records.size())) {
        counts_.written += records.size();
        return {first, true};
    }
    counts_.failed += records.size();
    return {0, !settings_.refuse_unrecorded};
}

Recorded AuditTrail::write(const DecisionRecord& record) {
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

UserRecords& AuditTrail::records_of(UserQuota& quota) {
    if (!quota.records) quota.records = std::make_shared<UserRecords>();
    return *quota.records;
}

void AuditTrail::charge(UserQuota& quota, std::size_t bytes, Clock::time_point now) noexcept {
    const bool was_slowed = quota.is_slowed(now);
    if (!quota.use_record_bytes(bytes, now) && !was_slowed) ++counts_.slowed;
}

auto AuditTrail::recorder_of_failures(UserQuota& quota, Clock::time_point now) {
    return [this, &quota, now](const RepeatedFailure& failure, std::uint64_t count) {
        write(failure.record(count));
        charge(quota, line_.size(), now);
    };
}

auto AuditTrail::recorder_of_events(UserQuota& quota, Clock::time_point now) {
    return [this, &quota, now](const RepeatedEvent& repeated, std::uint64_t count) {
        event(repeated.record(count));
        charge(quota, line_.size(), now);
    };
}

auto AuditTrail::recorder_of_refused_sessions() {
    return [this](const RepeatedEvent& repeated, std::uint64_t count) { event(repeated.record(count)); };
}

bool AuditTrail::is_counted(SessionAudit& session, const DecisionRecord& record, Clock::time_point now) {
    UserQuota& quota = session.quota;
    const RepeatedFailure::Event failure{record, session.listener};
    if (records_of(quota).failures.stands_alone(failure, now, recorder_of_failures(quota, now))) return false;
    await_settling(quota);
    return true;
}

// Something of the user has been counted.
void AuditTrail::await_settling(UserQuota& quota) {
    if (!std::exchange(quota.has_counted_records, true)) counting_.push_back(&quota);
    for (const auto& due : {quota.records->failures.due(), quota.records->events.due()})
        if (due) settle_.set_by(*due);
}

void AuditTrail::settle(Clock::time_point now) {
    const auto charged_at = now == Clock::time_point::max() ? Clock::now() : now;
    settle_.stop();
    for (UserQuota* const quota : std::exchange(counting_, {})) {
        quota->has_counted_records = false;
        quota->records->failures.settle(now, recorder_of_failures(*quota, charged_at));
        quota->records->events.settle(now, recorder_of_events(*quota, charged_at));
        if (quota->records->failures.due() || quota->records->events.due()) await_settling(*quota);
    }
    refused_sessions_.settle(now, recorder_of_refused_sessions());
    if (const auto due = refused_sessions_.due()) settle_.set_by(*due);
}

// ---- events --------------------------------------------------------------------------------------------

void AuditTrail::start(std::string_view cause) {
    event({.event = "start", .policy_digest = policy_digest_, .cause = cause});
}

void AuditTrail::event(EventRecord record) {
    if (ring_ == nullptr) return;
    record.head = head(ring_->next_sequence());
    write_line(line_, record);
    // Events of a session are recorded as well as the disk allows; the session has ended either way.
    static_cast<void>(append(line_));
}

void AuditTrail::event_of(UserQuota& quota, const EventRecord& record, Clock::time_point now) {
    if (ring_ == nullptr) return;
    if (!records_of(quota).events.stands_alone(record, now, recorder_of_events(quota, now)))
        return await_settling(quota);
    event(record);
    charge(quota, line_.size(), now);
}

void AuditTrail::session_event(SessionAudit& session, std::string_view name, std::string_view cause,
                               Clock::time_point now) {
    event_of(session.quota, {.event = name, .session = session.session, .peer = session.peer, .cause = cause},
             now);
}

void AuditTrail::session_refused(const EventRecord& record, Clock::time_point now) {
    if (ring_ == nullptr) return;
    if (refused_sessions_.stands_alone(record, now, recorder_of_refused_sessions(), record.count))
        return event(record);
    if (const auto due = refused_sessions_.due()) settle_.set_by(*due);
}

}  // namespace fdbroker::opener
