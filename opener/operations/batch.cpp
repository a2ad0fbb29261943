// SPDX-License-Identifier: MIT
#include "opener/operations/batch.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "opener/operations/execute.hpp"
#include "opener/request/call_table.hpp"
#include "opener/request/decide.hpp"

namespace fdbroker::opener {

using proto::Batch;
using proto::Step;

namespace {

bool is_allowed(const CallRow& row, const proto::Request& request) noexcept {
    return row.in_batch == InBatch::allowed && (request.flags & row.changing_flags) == 0;
}

// "all or nothing is for open without changes, stat and readlink"
std::string calls_of_batches() {
    std::vector<std::string> calls;
    for (const CallRow& row : call_table) {
        if (row.in_batch != InBatch::allowed) continue;
        calls.emplace_back(proto::to_string(row.call));
        if (row.changing_flags != 0) calls.back() += " without changes";
    }
    const std::string last = calls.back();
    calls.pop_back();
    return fmt::format("all or nothing is for {} and {}", fmt::join(calls, ", "), last);
}

std::expected<GrantedRequest, Outcome> decide_in_batch(const RequestServices& services,
                                                       const policy::Peer& peer,
                                                       const proto::Request& request) {
    const CallRow& row = row_of(request.call);
    if (!is_allowed(row, request)) return std::unexpected(refused(Step::parse, EINVAL, calls_of_batches()));
    auto granted = decide(services, peer, request);
    if (granted && row.subject == Subject::file &&
        granted->grant.rule().delivery == policy::Delivery::stream) {
        Outcome outcome = refused(Step::deliver, EINVAL, "all or nothing has no streams");
        outcome.operations = granted->grant.operations();
        outcome.rule = &granted->grant.rule();
        return std::unexpected(std::move(outcome));
    }
    return granted;
}

void cancel(Outcome& outcome) {
    Outcome canceled = refused(Step::deliver, ECANCELED, "another request of the batch was refused");
    canceled.operations = outcome.operations;
    canceled.rule = outcome.rule;
    canceled.final_path = std::move(outcome.final_path);
    outcome = std::move(canceled);
}

bool is_refused(const Outcome& outcome) noexcept {
    return outcome.completion == Completion::refused;
}

}  // namespace

Batch batch_of(std::span<const std::byte> message) noexcept {
    const auto header = proto::read_header(message);
    return header && header->flags == static_cast<std::uint16_t>(Batch::all_or_nothing)
               ? Batch::all_or_nothing
               : Batch::each_for_itself;
}

bool need_helper(std::span<const Outcome> outcomes) noexcept {
    return std::ranges::any_of(outcomes, &Outcome::needs_helper);
}

std::vector<Outcome> carry_out_together(const RequestServices& services, const policy::Peer& peer,
                                        std::span<const proto::Request> requests, std::size_t payload_room,
                                        const ExecutionContext& execution) {
    std::vector<GrantedRequest> granted;
    std::vector<Outcome> outcomes;
    for (const proto::Request& request : requests) {
        auto one = decide_in_batch(services, peer, request);
        if (one) {
            outcomes.push_back({.operations = one->grant.operations(), .rule = &one->grant.rule()});
            granted.push_back(*one);
        } else {
            outcomes.push_back(std::move(one.error()));
        }
    }
    if (granted.size() == requests.size()) {
        for (std::size_t index = 0; index < granted.size(); ++index) {
            granted[index].payload_room = payload_room;
            outcomes[index] = execute(services, peer, granted[index], execution);
            payload_room -= std::min(payload_room, (outcomes[index].payload.size() + 3) / 4 * 4);
        }
    }
    if (std::ranges::any_of(outcomes, is_refused)) {
        for (Outcome& outcome : outcomes)
            if (!is_refused(outcome)) cancel(outcome);
    }
    return outcomes;
}

}  // namespace fdbroker::opener
