// SPDX-License-Identifier: MIT
// A candidate that decides beside the policy in force, without effect: what it would decide otherwise is counted.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "opener/policy_source/load_policy.hpp"
#include "policy/explain/ruling.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

class Shadow {
  public:
    // A decision of the policy in force.
    struct Made {
        bool granted = false;
        const policy::Rule* rule = nullptr;  // the policy in force has decided by this one; null: by none
        policy::DecidedRequest request{};
        std::string_view user{};
    };
    struct Path {
        std::uint64_t requests = 0;
        std::string user{};  // asked first
    };
    // Differences that are alike.
    struct Group {
        bool granted = false;  // by the policy in force
        std::string before{};  // name of the rule in force; empty: none
        policy::Ruling after{};
        std::uint64_t requests = 0;
        std::map<std::string, Path> paths{};  // at most max_paths
        std::uint64_t other_paths = 0;        // requests
    };
    struct Counts {
        std::uint64_t decisions = 0;  // that both made
        std::uint64_t would_be_allowed = 0;
        std::uint64_t would_be_refused = 0;
    };
    using Time = std::chrono::system_clock::time_point;
    // Peers cannot make the broker keep more than this.
    static constexpr std::size_t max_groups = 256;
    static constexpr std::size_t max_paths = 16;

    // `file` is the one that the candidate was read from.
    Shadow(LoadedPolicy candidate, std::string file, Time since)
        : candidate_(std::move(candidate)), file_(std::move(file)), since_(since) {}

    const std::string& file() const noexcept { return file_; }
    const std::string& digest() const noexcept { return candidate_.digest; }
    Time since() const noexcept { return since_; }
    const Counts& counts() const noexcept { return counts_; }
    std::optional<Time> last_difference() const noexcept { return last_difference_; }
    std::vector<const Group*> groups() const;  // the most frequent first
    std::uint64_t requests_of_other_groups() const noexcept { return other_groups_; }

    policy::Peer identify(policy::PeerIdentity identity) const {
        return candidate_.policy.identify(std::move(identity));
    }
    // The candidate decides. What it says where that is something else; else nullopt.
    std::optional<policy::Ruling> compare(const policy::Peer& peer, const Made& made);

  private:
    void count(const Made& made, const policy::Ruling& ruling);

    using Key = std::tuple<bool, std::string_view, const policy::Rule*, policy::Ruling::Basis>;
    LoadedPolicy candidate_;
    std::string file_;
    Time since_;
    policy::Judgement judgement_{};
    Counts counts_{};
    std::optional<Time> last_difference_{};
    std::map<Key, Group> groups_{};
    std::uint64_t other_groups_ = 0;
};

// For the record: would be refused: no rule allows it; granted by rule "site".
std::string shadow_cause(const Shadow::Made& made, const policy::Ruling& ruling);

}  // namespace fdbroker::opener
