// SPDX-License-Identifier: MIT
#include "opener/audit/session_audit.hpp"

namespace fdbroker::opener {

RepeatedFailure::RepeatedFailure(const Event& event)
    : example_{.call = event.record.call,
               .operations = event.record.operations,
               .rule = event.record.rule,
               .errno_value = event.record.errno_value,
               .step = event.record.step},
      listener_(event.listener) {}

bool RepeatedFailure::is_like(const Event& event) const noexcept {
    const DecisionRecord& record = event.record;
    return record.errno_value == example_.errno_value && record.step == example_.step &&
           record.rule == example_.rule && record.call == example_.call &&
           record.operations == example_.operations && event.listener == listener_;
}

void RepeatedFailure::keep(const Event& event) {
    example_ = event.record;
    peer_ = event.record.peer;
    path_ = event.record.path;
    new_path_ = event.record.new_path;
    reason_ = event.record.reason;
}

DecisionRecord RepeatedFailure::record(std::uint64_t count) const noexcept {
    DecisionRecord record = example_;
    record.peer = peer_;
    record.path = path_;
    record.new_path = new_path_;
    record.final_path = {};
    record.reason = reason_;
    record.count = count;
    return record;
}

RepeatedEvent::RepeatedEvent(const EventRecord& event)
    : example_{.rule = event.rule}, event_(event.event), cause_(event.cause) {}

bool RepeatedEvent::is_like(const EventRecord& event) const noexcept {
    // The causes of other events have numbers in them.
    const bool by_cause = event.event.starts_with("session-") || event.event == "shadow";
    return event.event == event_ && event.rule == example_.rule && (!by_cause || event.cause == cause_);
}

void RepeatedEvent::keep(const EventRecord& event) {
    example_ = event;
    cause_ = event.cause;
    peer_ = event.peer;
    path_ = event.path;
}

EventRecord RepeatedEvent::record(std::uint64_t count) const noexcept {
    EventRecord record = example_;
    record.event = event_;
    record.cause = cause_;
    record.peer = peer_;
    record.path = path_;
    record.count = count;
    return record;
}

}  // namespace fdbroker::opener
