// SPDX-License-Identifier: MIT
// What a session has asked for so far, in a few words: who is connected, and what was delivered to them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

class SessionUse {
  public:
    using Clock = std::chrono::steady_clock;
    // Rules that are told apart; descriptors by yet other rules are counted together.
    static constexpr std::size_t max_rules = 16;

    struct Grants {
        const policy::Rule* rule = nullptr;  // null: all that have no entry of their own
        std::uint64_t delivered = 0;
        Clock::time_point last{};
        std::string last_path{};
    };

    // The session as an earlier generation knew it.
    struct Earlier {
        Clock::time_point since{};
        std::uint64_t requests = 0;
        std::uint64_t refused = 0;
    };
    void carry_on(const Earlier& earlier) noexcept {
        since_ = earlier.since;
        requests_ = earlier.requests;
        refused_ = earlier.refused;
    }

    void count(const policy::Rule* rule, bool granted, std::string_view path, Clock::time_point at) {
        ++requests_;
        last_ = at;
        if (!granted) {
            ++refused_;
            return;
        }
        Grants& grants = entry_for(rule);
        ++grants.delivered;
        grants.last = at;
        grants.last_path = path;
    }

    std::uint64_t requests() const noexcept { return requests_; }
    std::uint64_t refused() const noexcept { return refused_; }
    // When it was accepted, and last asked this generation for something; nullopt: never.
    Clock::time_point since() const noexcept { return since_; }
    std::optional<Clock::time_point> last() const noexcept { return last_; }
    // Grants of this generation alone, whose rules they are about.
    const std::vector<Grants>& grants() const noexcept { return grants_; }

  private:
    Grants& entry_for(const policy::Rule* rule) {
        if (last_entry_ < grants_.size() && grants_[last_entry_].rule == rule) return grants_[last_entry_];
        auto found = std::ranges::find(grants_, rule, &Grants::rule);
        if (found == grants_.end()) {
            if (grants_.size() < max_rules) {
                grants_.push_back({.rule = rule});
                found = grants_.end() - 1;
            } else {
                found = std::ranges::find(grants_, nullptr, &Grants::rule);
                if (found == grants_.end()) found = grants_.insert(found, Grants{});
            }
        }
        last_entry_ = static_cast<std::size_t>(found - grants_.begin());
        return *found;
    }

    Clock::time_point since_ = Clock::now();
    std::optional<Clock::time_point> last_{};
    std::uint64_t requests_ = 0;
    std::uint64_t refused_ = 0;
    std::vector<Grants> grants_{};
    std::size_t last_entry_ = 0;
};

}  // namespace fdbroker::opener
