// SPDX-License-Identifier: MIT
#include "opener/broker/session_helpers.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "opener/operations/snapshot.hpp"
#include "opener/request/call_table.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using proto::Step;

namespace {

// The shortest of what the rules that granted it say.
std::chrono::milliseconds deadline_of(const policy::Grant& grant) {
    const auto rules = grant.rules();
    return (*std::ranges::min_element(rules, {}, [](const policy::Rule* rule) { return rule->deadline; }))
        ->deadline;
}

Outcome refused_after(const HelperTask::Part& part, Step step, int errno_value, std::string_view reason) {
    Outcome outcome = refused(step, errno_value, reason);
    outcome.operations = part.operations;
    outcome.rule = part.rule;
    return outcome;
}

HelperTask::Part part_of(const GrantedRequest& granted) {
    return {.operations = granted.grant.operations(), .rule = &granted.grant.rule()};
}

Outcome refused_for_want_of_room(const HelperTask::Part& part) {
    return refused_after(part, Step::resolve, EAGAIN, "too many requests of this user wait for a filesystem");
}

}  // namespace

std::uint64_t SessionHelpers::continued_by(const proto::Request& request) const {
    if (row_of(request.call).background != Background::continues) return 0;
    const std::uint64_t number = proto::read_number(request.payload).value_or(0);
    return service_.helpers.can_continue(number, connection_.id()) ? number : 0;
}

Outcome SessionHelpers::hand_over(const GrantedRequest& granted, std::uint64_t continues,
                                  Clock::time_point received_at) {
    const HelperTask::Part decided = part_of(granted);
    if (!service_.helpers.has_room(peer_.identity().uid, 1)) return refused_for_want_of_room(decided);
    submit(std::span(&granted.request, 1), proto::Batch::each_for_itself, std::span(&decided, 1),
           deadline_of(granted.grant), continues, received_at);
    return {.completion = Completion::needs_helper};
}

bool SessionHelpers::hand_over_together(std::span<const proto::Request> requests, std::span<Outcome> outcomes,
                                        Clock::time_point received_at) {
    std::vector<HelperTask::Part> decided;
    auto deadline = std::chrono::milliseconds::max();
    for (const proto::Request& request : requests) {
        const auto granted = decide(service_.request_services, peer_, request);
        if (!granted) std::abort();  // pure, and all were granted before
        decided.push_back(part_of(*granted));
        deadline = std::min(deadline, deadline_of(granted->grant));
    }
    if (!service_.helpers.has_room(peer_.identity().uid, requests.size())) {
        std::ranges::transform(decided, outcomes.begin(), refused_for_want_of_room);
        return false;
    }
    submit(requests, proto::Batch::all_or_nothing, decided, deadline, 0, received_at);
    return true;
}

void SessionHelpers::submit(std::span<const proto::Request> requests, proto::Batch batch,
                            std::span<const HelperTask::Part> decided, std::chrono::milliseconds deadline,
                            std::uint64_t continues, Clock::time_point received_at) {
    auto task =
        make_task(service_.helpers.next_number(), peer_.identity(), received_at + deadline, requests, batch);
    task->session = &session_;
    task->connection_id = connection_.id();
    task->uid = peer_.identity().uid;
    task->continues = continues;
    task->received_at = received_at;
    for (std::size_t index = 0; index < decided.size(); ++index) {
        HelperTask::Part& part = task->parts[index];
        part.operations = decided[index].operations;
        part.rule = decided[index].rule;
        part.slot = &service_.inflight.note_apart(connection_.id(), part.request.id);
    }
    ++tasks_;
    service_.helpers.submit(std::move(task));
}

Verdict SessionHelpers::reported(HelperTask& task, const Report& report) {
    std::uint64_t copied = 0;
    for (const Outcome& outcome : report.outcomes) copied += outcome.copied;
    const auto now = Clock::now();
    // For all or none of them: there are several only in a batch of all or nothing.
    Verdict verdict{
        .job = report.job,
        .over_budget = copied != 0 && !service_.quotas.use_copied_bytes(connection_.quota(), copied, now)};
    std::vector<DecisionRecord> records;
    for (std::size_t i = 0; i < task.parts.size(); ++i) {
        const Outcome& outcome = report.outcomes[i];
        DecisionRecord& record = records.emplace_back(
            DecisionRecorder::record_of(task.parts[i].request, outcome, now - task.received_at));
        if (!verdict.over_budget || !outcome.is_done()) continue;
        record.errno_value = EAGAIN;
        record.step = Step::deliver;
        record.reason = too_many_copies;
    }
    verdict.records = recorder_.record_together(records, now);
    for (std::size_t i = 0; i < verdict.records.size(); ++i)
        task.parts[i].record = verdict.records[i].sequence;
    return verdict;
}

void SessionHelpers::failed(const HelperTask& task, int errno_value, std::string_view reason,
                            bool session_has_ended) {
    --tasks_;
    const Step step = errno_value == EIO ? Step::deliver : Step::resolve;
    for (const HelperTask::Part& part : task.parts) {
        Outcome outcome = refused_after(part, step, errno_value, reason);
        // A reported request is on record already; only the reply may not have left.
        const Recorded recorded = task.reported ? Recorded{.sequence = part.record}
                                                : recorder_.record(part.request, outcome, task.received_at);
        if (!session_has_ended) service_.delivery.add(part.request.id, std::move(outcome), recorded);
    }
}

}  // namespace fdbroker::opener
