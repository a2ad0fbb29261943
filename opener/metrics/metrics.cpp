// SPDX-License-Identifier: MIT
#include "opener/metrics/metrics.hpp"

#include <cerrno>

namespace fdbroker::opener {

using proto::Step;

std::string_view to_string(Reason reason) noexcept {
    switch (reason) {
        case Reason::granted:
            return "granted";
        case Reason::malformed:
            return "malformed";
        case Reason::no_rule:
            return "no_rule";
        case Reason::deny_rule:
            return "deny_rule";
        case Reason::not_opened:
            return "not_opened";
        case Reason::unfit:
            return "unfit";
        case Reason::not_delivered:
            return "not_delivered";
        case Reason::not_recorded:
            return "not_recorded";
        case Reason::deadline:
            return "deadline";
    }
    return "";
}

std::string_view to_string(HelperStep step) noexcept {
    switch (step) {
        case HelperStep::wait:
            return "wait";
        case HelperStep::carry_out:
            return "carry_out";
        case HelperStep::deliver:
            return "deliver";
    }
    return "";
}

Reason reason_of(const DecisionRecord& request) noexcept {
    if (request.errno_value == 0) return Reason::granted;
    if (request.errno_value == ETIMEDOUT) return Reason::deadline;
    switch (request.step) {
        case Step::parse:
            return Reason::malformed;
        case Step::decide:
            return request.rule != nullptr ? Reason::deny_rule : Reason::no_rule;
        case Step::inspect:
            return Reason::unfit;
        case Step::deliver:
            return Reason::not_delivered;
        case Step::record:
            return Reason::not_recorded;
        default:
            return Reason::not_opened;
    }
}

Metrics::ByOperations& Metrics::entry_for(policy::OperationSet operations) noexcept {
    if (requests_[last_set_].operations == operations) return requests_[last_set_];
    for (last_set_ = 0; last_set_ < operation_sets_; ++last_set_) {
        if (requests_[last_set_].operations == operations) return requests_[last_set_];
    }
    if (operation_sets_ < requests_.size()) {
        requests_[operation_sets_++].operations = operations;
    } else {
        last_set_ = 0;
    }
    return requests_[last_set_];
}

void Metrics::count(const DecisionRecord& request, Clock::time_point at) noexcept {
    ++entry_for(request.operations).requests[static_cast<std::size_t>(reason_of(request))];
    whole_.add(request.duration);
    if (request.rule == nullptr) return;
    RuleUse& use = uses_[static_cast<std::size_t>(request.rule - rules_.data())];
    ++use.requests;
    use.last_use = at;
}

}  // namespace fdbroker::opener
