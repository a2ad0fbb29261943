// SPDX-License-Identifier: MIT
#include "opener/audit/session_audit.hpp"

#include <utility>

namespace fdbroker::opener {

bool RepeatedRefusal::is_like(const DecisionRecord& record) const noexcept {
    return record.errno_value == last_.errno_value && record.step == last_.step &&
           record.rule == last_.rule && record.call == last_.call && record.operations == last_.operations &&
           record.path == path_ && record.new_path == new_path_ && record.reason == reason_;
}

void RepeatedRefusal::begin(const DecisionRecord& record, Clock::time_point now) {
    path_ = record.path;
    new_path_ = record.new_path;
    reason_ = record.reason;
    last_ = record;
    last_.path = path_;
    last_.new_path = new_path_;
    last_.final_path = {};
    last_.reason = reason_;
    since_ = now;
    recorded_ = 1;
    counted_ = 0;
}

bool RepeatedRefusal::one_by_one(const DecisionRecord& record) noexcept {
    if (recorded_ < refusals_one_by_one) {
        ++recorded_;
        return true;
    }
    ++counted_;
    last_.request = record.request;
    last_.duration = record.duration;
    return false;
}

DecisionRecord RepeatedRefusal::take_counted() noexcept {
    DecisionRecord record = last_;
    record.count = std::exchange(counted_, 0);
    return record;
}

}  // namespace fdbroker::opener
