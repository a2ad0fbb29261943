// SPDX-License-Identifier: MIT
// The requests of a session that helpers carry out: from where the loop gives them away to what came of them.
#include <poll.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "opener/broker/session.hpp"
#include "opener/operations/batch.hpp"
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

bool has_hung_up(proto::BorrowedFd socket) noexcept {
    pollfd event{socket.number(), 0, 0};
    return ::poll(&event, 1, 0) == 1 && (event.revents & POLLHUP) != 0;
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

std::uint64_t Session::continued_by(const proto::Request& request) const {
    if (row_of(request.call).background != Background::continues) return 0;
    const std::uint64_t number = proto::read_number(request.payload).value_or(0);
    return service_.helpers.can_continue(number, connection_id_) ? number : 0;
}

Outcome Session::hand_to_helper(const GrantedRequest& granted, std::uint64_t continues) {
    const HelperTask::Part decided = part_of(granted);
    if (!service_.helpers.has_room(peer_.identity().uid, 1)) return refused_for_want_of_room(decided);
    submit(std::span(&granted.request, 1), proto::Batch::each_for_itself, std::span(&decided, 1),
           deadline_of(granted.grant), continues);
    return {.completion = Completion::needs_helper};
}

bool Session::hand_to_helper_together(std::span<const proto::Request> requests, std::span<Outcome> outcomes) {
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
    submit(requests, proto::Batch::all_or_nothing, decided, deadline, 0);
    return true;
}

void Session::submit(std::span<const proto::Request> requests, proto::Batch batch,
                     std::span<const HelperTask::Part> decided, std::chrono::milliseconds deadline,
                     std::uint64_t continues) {
    auto task =
        make_task(service_.helpers.next_number(), peer_.identity(), received_at_ + deadline, requests, batch);
    task->session = this;
    task->connection_id = connection_id_;
    task->uid = peer_.identity().uid;
    task->continues = continues;
    task->received_at = received_at_;
    for (std::size_t index = 0; index < decided.size(); ++index) {
        HelperTask::Part& part = task->parts[index];
        part.operations = decided[index].operations;
        part.rule = decided[index].rule;
        part.slot = &service_.inflight.note_apart(connection_id_, part.request.id);
    }
    ++tasks_;
    service_.helpers.submit(std::move(task));
}

Verdict Session::task_reported(HelperTask& task, const Report& report) {
    std::uint64_t copied = 0;
    for (const Outcome& outcome : report.outcomes) copied += outcome.copied;
    const auto now = std::chrono::steady_clock::now();
    // For all or none of them: there are several only in a batch of all or nothing.
    Verdict verdict{.job = report.job,
                    .over_budget = copied != 0 && !service_.quotas.use_copied_bytes(quota_, copied, now)};
    std::vector<DecisionRecord> records;
    for (std::size_t i = 0; i < task.parts.size(); ++i) {
        const Outcome& outcome = report.outcomes[i];
        DecisionRecord& record =
            records.emplace_back(record_of(task.parts[i].request, outcome, now - task.received_at));
        if (!verdict.over_budget || !outcome.is_done()) continue;
        record.errno_value = EAGAIN;
        record.step = Step::deliver;
        record.reason = too_many_copies;
    }
    verdict.records = record_together(records, now);
    for (std::size_t i = 0; i < verdict.records.size(); ++i)
        task.parts[i].record = verdict.records[i].sequence;
    return verdict;
}

Session::State Session::task_delivered(const Sent& sent) {
    --tasks_;
    count_unread(sent.descriptors);
    if (state_ == State::ended) return state_;
    if (sent.errno_value == EPIPE || sent.errno_value == ECONNRESET) {
        finish("the peer closed the connection");
    } else if (sent.errno_value != 0) {
        end(ETIMEDOUT, "the peer does not read its replies");
    }
    finish_if_drained();
    return state_;
}

Session::State Session::task_failed(const HelperTask& task, int errno_value, std::string_view reason) {
    --tasks_;
    const Step step = errno_value == EIO ? Step::deliver : Step::resolve;
    for (const HelperTask::Part& part : task.parts) {
        Outcome outcome = refused_after(part, step, errno_value, reason);
        // A reported request is on record already; only the reply may not have left.
        const Recorded recorded = task.reported ? Recorded{.sequence = part.record}
                                                : record(part.request, outcome, task.received_at);
        if (state_ != State::ended) service_.delivery.add(part.request.id, std::move(outcome), recorded);
    }
    if (state_ == State::writable) {
        // Behind what waits there already, which keeps the entry.
        parked_.push_back(service_.delivery.park(nullptr));
    } else if (state_ != State::ended) {
        send_replies();
    }
    finish_if_drained();
    return state_;
}

// The peer sends nothing more. One that has only shut down its sending waits for what helpers still answer.
void Session::drain_or_finish(std::string_view cause) {
    if (!has_tasks_anywhere() || has_hung_up(socket_.borrow())) return finish(cause);
    end_cause_ = cause;
    state_ = State::draining;
}

bool Session::has_tasks_anywhere() const noexcept {
    return tasks_ != 0 || service_.orphaned_requests.work_for(connection_id_);
}

void Session::finish_if_drained() {
    if (state_ == State::draining && !has_tasks_anywhere()) finish(end_cause_);
}

Session::State Session::drain() {
    finish_if_drained();
    return state_;
}

}  // namespace fdbroker::opener
