// SPDX-License-Identifier: MIT
#include "opener/operations/batch.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "opener/operations/execute.hpp"
#include "opener/request/decide.hpp"

namespace fdbroker::opener {

using proto::Batch;
using proto::Step;

namespace {

// What may be done and then not delivered, as if it had not been.
bool changes_nothing(const proto::Request& request) noexcept {
    switch (request.call) {
        case proto::Call::open:
            return (request.flags & (O_CREAT | O_TRUNC)) == 0;
        case proto::Call::stat:
        case proto::Call::readlink:
            return true;
        default:
            return false;
    }
}

std::expected<GrantedRequest, Outcome> decide_in_batch(const RequestServices& tools, const policy::Peer& peer,
                                                       const proto::Request& request) {
    if (!changes_nothing(request))
        return std::unexpected(
            refused(Step::parse, EINVAL, "all or nothing is for open without changes, stat and readlink"));
    auto granted = decide(tools, peer, request);
    if (granted && request.call == proto::Call::open &&
        granted->grant.rule().delivery == policy::Delivery::stream) {
        Outcome outcome = refused(Step::deliver, EINVAL, "all or nothing has no streams");
        outcome.operations = granted->grant.operations();
        outcome.rule = &granted->grant.rule();
        return std::unexpected(std::move(outcome));
    }
    return granted;
}

void cancel(Outcome& outcome) {
    outcome.file.reset();
    outcome.payload.clear();
    outcome.lasting.reset();
    outcome.errno_value = ECANCELED;
    outcome.step = outcome.recorded_step = Step::deliver;
    outcome.reason = "another request of the batch was refused";
}

void cancel_unless_all_done(std::span<Outcome> outcomes) {
    const auto done = [](const Outcome& one) { return one.errno_value == 0; };
    if (std::ranges::all_of(outcomes, done)) return;
    for (Outcome& outcome : outcomes)
        if (done(outcome)) cancel(outcome);
}

}  // namespace

Batch batch_of(std::span<const std::byte> message) noexcept {
    const auto header = proto::read_header(message);
    return header && header->flags == static_cast<std::uint16_t>(Batch::all_or_nothing)
               ? Batch::all_or_nothing
               : Batch::each_for_itself;
}

std::optional<std::vector<Outcome>> carry_out_together(const RequestServices& tools, const policy::Peer& peer,
                                                       std::span<const proto::Request> requests,
                                                       std::size_t payload_room,
                                                       const ExecutionContext& place) {
    std::vector<GrantedRequest> granted;
    std::vector<Outcome> outcomes;
    for (const proto::Request& request : requests) {
        auto one = decide_in_batch(tools, peer, request);
        if (one) {
            outcomes.push_back({.operations = one->grant.operations(), .rule = &one->grant.rule()});
            granted.push_back(*one);
        } else {
            outcomes.push_back(std::move(one.error()));
        }
    }
    if (granted.size() == requests.size()) {
        bool needs_helper = false;
        for (std::size_t index = 0; index < granted.size(); ++index) {
            granted[index].payload_room = payload_room;
            auto outcome = execute(tools, peer, granted[index], place);
            needs_helper = needs_helper || !outcome;
            if (!outcome) continue;
            outcomes[index] = std::move(*outcome);
            payload_room -= std::min(payload_room, (outcomes[index].payload.size() + 3) / 4 * 4);
        }
        const bool failed =
            std::ranges::any_of(outcomes, [](const Outcome& one) { return one.errno_value != 0; });
        if (needs_helper && !failed) return std::nullopt;
    }
    cancel_unless_all_done(outcomes);
    return outcomes;
}

}  // namespace fdbroker::opener
