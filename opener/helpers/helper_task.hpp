// SPDX-License-Identifier: MIT
// Requests of one session that a helper carries out together.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "opener/link/inflight_log.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

class Session;

struct HelperTask {
    using Clock = std::chrono::steady_clock;

    struct Part {
        proto::Request request{};  // as it lies in the message
        // As the broker has decided.
        policy::OperationSet operations{};
        const policy::Rule* rule = nullptr;
        InflightSlot* slot = nullptr;  // where it is noted
        std::uint64_t record = 0;      // the number of the audit record, once reported
    };

    Session* session = nullptr;      // outlives the task
    ConnectionId connection_id = 0;  // the session's, which outlives it
    std::uint32_t uid = 0;
    std::uint64_t number = 0;
    Clock::time_point received_at{};
    Clock::time_point given_at{};     // when a helper got the task
    Clock::time_point reported_at{};  // when the helper reported
    Clock::time_point deadline{};
    std::vector<std::byte> message{};  // the job for the helper
    std::vector<Part> parts{};         // a part for each request
    proto::Batch batch = proto::Batch::each_for_itself;
    // The only helper it is for, because it concerns the background work of an earlier task there; 0: any.
    std::uint64_t continues = 0;
    bool allows_background = false;  // a place for background work is kept for it
    bool reported = false;           // the outcome is on record
    std::size_t granted = 0;         // descriptors that its reply may carry, once it is reported
};

// `peer`: the session's. Copies the requests, which came in one message.
std::unique_ptr<HelperTask> make_task(std::uint64_t number, const policy::PeerIdentity& peer,
                                      HelperTask::Clock::time_point deadline,
                                      std::span<const proto::Request> requests,
                                      proto::Batch batch = proto::Batch::each_for_itself);

}  // namespace fdbroker::opener
