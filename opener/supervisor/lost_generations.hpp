// SPDX-License-Identifier: MIT
// Generations that have ended with requests unanswered, until another generation has answered these.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "opener/link/inflight_log.hpp"
#include "opener/link/orphaned_requests.hpp"
#include "opener/supervisor/generation.hpp"
#include "opener/supervisor/legacy.hpp"

namespace fdbroker::opener {

class LostGenerations {
  public:
    void add(std::uint32_t number, std::unique_ptr<InflightLog> inflight) {
        all_.push_back({.number = number, .inflight = std::move(inflight)});
    }

    // A generation that is activated is told of all; one that serves, of those that nobody has been told of. The answer to
    // `ping`, which follows, says that their requests are answered.
    void tell_all(Generation& activated, std::uint64_t ping);
    void tell_new(Generation& serving, std::uint64_t ping);
    // The ping has been answered. A generation that starts at this moment has the in-flight logs as well, and must not
    // answer a second time.
    void answered(std::uint64_t ping);

    // For a generation that is started.
    std::vector<EarlierGeneration> inflight_logs() const;
    // For an opener that takes this one's place.
    std::vector<LeftInflightLog> left() const;

  private:
    struct Lost {
        std::uint32_t number;
        std::unique_ptr<InflightLog> inflight;
        std::uint64_t told_with = 0;  // the ping whose answer says so; 0: nobody has been told
    };
    static void tell(Lost& lost, Generation& generation, std::uint64_t ping);

    std::vector<Lost> all_{};
};

}  // namespace fdbroker::opener
