// SPDX-License-Identifier: MIT
#include "opener/broker/request_processor.hpp"

#include <utility>
#include <vector>

#include "opener/operations/batch.hpp"
#include "opener/operations/execute.hpp"
#include "opener/request/decide.hpp"

namespace fdbroker::opener {

void RequestProcessor::process(std::span<const std::byte> message, std::span<const proto::Request> requests,
                               Clock::time_point received_at) {
    if (batch_of(message) == proto::Batch::all_or_nothing) return process_together(requests, received_at);
    for (std::size_t left = requests.size(); const proto::Request& request : requests)
        process(request, --left, received_at);
}

void RequestProcessor::process(const proto::Request& request, std::size_t others,
                               Clock::time_point received_at) {
    Metrics& metrics = service_.request_services.metrics;
    metrics.begin();
    Outcome outcome = carry_out(request, others, received_at);
    if (outcome.needs_helper()) return metrics.end();
    const Recorded recorded = recorder_.record(request, outcome, received_at);
    metrics.done(proto::Step::record);
    service_.delivery.add(request.id, std::move(outcome), recorded);
}

Outcome RequestProcessor::carry_out(const proto::Request& request, std::size_t others,
                                    Clock::time_point received_at) {
    auto granted = decide(service_.request_services, peer_, request);
    if (!granted) return std::move(granted.error());
    granted->payload_room = service_.delivery.payload_room(others);
    if (const std::uint64_t continued = helpers_.continued_by(request); continued != 0)
        return helpers_.hand_over(*granted, continued, received_at);
    Outcome outcome = execute(service_.request_services, peer_, *granted, ExecutionContext::loop());
    if (outcome.needs_helper()) outcome = helpers_.hand_over(*granted, 0, received_at);
    return outcome;
}

void RequestProcessor::process_together(std::span<const proto::Request> requests,
                                        Clock::time_point received_at) {
    service_.request_services.metrics.begin();
    auto outcomes =
        carry_out_together(service_.request_services, peer_, requests,
                           service_.delivery.payload_room(requests.size() - 1), ExecutionContext::loop());
    if (need_helper(outcomes) && helpers_.hand_over_together(requests, outcomes, received_at))
        return service_.request_services.metrics.end();
    const auto now = Clock::now();
    std::vector<DecisionRecord> records;
    for (std::size_t index = 0; index < requests.size(); ++index)
        records.push_back(DecisionRecorder::record_of(requests[index], outcomes[index], now - received_at));
    const std::vector<Recorded> recorded = recorder_.record_together(records, now);
    for (std::size_t index = 0; index < requests.size(); ++index)
        service_.delivery.add(requests[index].id, std::move(outcomes[index]), recorded[index]);
}

}  // namespace fdbroker::opener
