// SPDX-License-Identifier: MIT
// What earlier generations have left unanswered, as their journals tell: those that died, and those that have handed over
// and live on until their helpers are done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "opener/link/inflight_log.hpp"
#include "opener/link/link.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// The journal of an earlier generation, mapped by this one.
struct EarlierGeneration {
    std::uint32_t number;
    InflightLog* inflight;
};

class OrphanedRequests {
  public:
    // What a session had asked for and nobody is going to answer but who reads this.
    struct Lost {
        std::vector<std::uint32_t> ids{};
        std::vector<std::byte> message{};  // that was no requests
    };
    using LostRequests = std::unordered_map<ConnectionId, Lost>;

    explicit OrphanedRequests(std::span<const EarlierGeneration> all) {
        for (const auto& [number, inflight] : all) known_.push_back({.number = number, .inflight = inflight});
    }

    // Adds to `lost` what one that lives on (LinkType::left) had taken and not given to helpers. Nothing is added twice,
    // by this or by take_lost().
    void take_left(std::uint32_t generation, LostRequests& lost);
    // The same of one that has ended (LinkType::lost): everything.
    void take_lost(std::uint32_t generation, LostRequests& lost);

    // Whether one that lives on has a request of this connection with a helper.
    bool work_for(ConnectionId token) const noexcept;

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
