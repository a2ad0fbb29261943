// SPDX-License-Identifier: MIT
// Recorded decisions, made again under another policy by the engine that made them: which would be others. Nothing on disk
// is looked at, so conditions on objects (`files`) are not tried.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "opener/records/record.hpp"
#include "policy/explain/possible_peers.hpp"
#include "policy/explain/ruling.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::records {

enum class Flip : std::uint8_t { would_be_allowed, would_be_refused };

// A path in a group of flips.
struct FlippedPath {
    std::string operations{};  // "open read"
    std::uint64_t records = 0;
    std::uint64_t requests = 0;     // a record may stand for several
    std::set<std::string> users{};  // names, else uids; at most max_flip_users
    std::uint64_t more_users = 0;   // records of other users than those
    std::string first{};            // file:line
};
inline constexpr std::size_t max_flip_users = 8;

struct FlipGroup {
    Flip flip{};
    std::string before{};                     // in words: `rule "site"`, `no rule`
    std::string after{};                      // in words, with the place of the rule
    std::string rule_before{}, rule_after{};  // names; empty: none
    std::uint64_t records = 0;
    std::uint64_t requests = 0;
    std::map<std::pair<std::string, std::string>, FlippedPath> paths{};  // by path and operations
    std::uint64_t other_paths = 0;  // records of paths beyond max_flip_paths
};
// Both keep memory constant however much would flip.
inline constexpr std::size_t max_flip_paths = 1000;
inline constexpr std::size_t max_flip_groups = 1000;

struct ReplayTotals {
    std::uint64_t records = 0;
    std::uint64_t decisions = 0;  // records that were decided again
    std::uint64_t requests = 0;   // for which these stand
    std::uint64_t flips = 0;      // records
    std::uint64_t flipped_requests = 0;
    std::uint64_t collapsed =
        0;  // decided records that stand for several requests, of which the first one's path is known
    std::uint64_t events = 0;     // records that are no requests'
    std::uint64_t undecided = 0;  // requests that ended before a decision: malformed, or cancelled
    std::array<std::uint64_t, policy::unknown_fact_count> unknown{};  // records that lack what NEW asks for
    std::uint64_t without_path = 0;  // records that lack path, operations or a rename's new name
    std::uint64_t other_groups = 0;  // flips beyond max_flip_groups
};

class Replay {
  public:
    // The policy must outlive it.
    explicit Replay(const policy::Policy& policy) : policy_(policy) {}

    void add(const Record& record);
    const ReplayTotals& totals() const noexcept { return totals_; }
    // Those that the most requests fall into first.
    std::vector<const FlipGroup*> groups() const;

  private:
    using Peers = std::expected<std::vector<policy::Peer>, policy::UnknownFact>;

    const Peers& peers_of(const RecordedPeer& peer);
    policy::Ruling decide(const Record& record, const policy::Peer& peer);
    void note_flip(const Record& record, const policy::Ruling& ruling);
    FlipGroup* group_of(const Record& record, const policy::Ruling& ruling);

    const policy::Policy& policy_;
    ReplayTotals totals_{};
    std::unordered_map<std::uint64_t, Peers> peers_{};  // by RecordedPeer::id
    std::map<std::string, FlipGroup> groups_{};
    policy::Judgement judgement_{};
};

}  // namespace fdbroker::records
