// SPDX-License-Identifier: MIT
// Requests that earlier generations have left unanswered, as their in-flight logs tell: generations that died, and
// generations that have handed over and live on until their helpers are done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "opener/link/inflight_log.hpp"
#include "opener/link/messages.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// The in-flight log of an earlier generation, mapped by this one.
struct EarlierGeneration {
    std::uint32_t number;
    InflightLog* inflight;
};

class OrphanedRequests {
  public:
    // Requests of a session that nobody answers but the reader of this.
    struct Lost {
        std::vector<std::uint32_t> ids{};
        std::vector<std::byte> message{};  // that was no requests
    };
    using LostRequests = std::unordered_map<ConnectionId, Lost>;

    explicit OrphanedRequests(std::span<const EarlierGeneration> all) {
        for (const auto& [number, inflight] : all) known_.push_back({.number = number, .inflight = inflight});
    }

    // Adds to `lost` what one that lives on (GenerationDraining) had taken and not given to helpers. Nothing is added twice,
    // by this or by take_lost().
    void take_left(std::uint32_t generation, LostRequests& lost);
    // The same of one that has ended (GenerationLost): everything.
    void take_lost(std::uint32_t generation, LostRequests& lost);

    // Whether one that lives on has a request of this connection with a helper.
    bool work_for(ConnectionId connection_id) const noexcept;

  private:
    struct Known {
        std::uint32_t number;
        InflightLog* inflight;
        bool gathered_taken = false;
        bool lives = false;  // as it was last told
    };
    Known* find(std::uint32_t generation) noexcept;
    void take_gathered(Known& one, LostRequests& lost);

    std::vector<Known> known_{};
};

}  // namespace fdbroker::opener
