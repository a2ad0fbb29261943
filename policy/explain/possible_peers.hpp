// SPDX-License-Identifier: MIT
// Peers that have gone, of which not everything is known any more: a decision about them counts only when it is the same
// whatever the rest was.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// nullopt: not known. An empty name is known: there is none.
struct KnownPeer {
    std::optional<std::uint32_t> uid{};
    std::optional<std::uint32_t> gid{};
    std::optional<std::vector<std::uint32_t>> groups{};
    std::optional<std::string> user{};
    std::optional<std::string> group{};
    std::optional<std::string> listener{};
};

// The fact that is missing.
enum class UnknownFact : std::uint8_t { uid, gid, groups, user, group, listener };
inline constexpr unsigned unknown_fact_count = 6;
const char* to_string(UnknownFact fact) noexcept;

// Groups that roles name and that the peer may have been in: more of them make too many peers.
inline constexpr std::size_t max_unknown_groups = 4;

// Every peer that it may have been, as far as this policy tells peers apart: one where the policy asks for nothing that is
// not known. The error: the policy asks for a fact of which too many values are possible.
std::expected<std::vector<Peer>, UnknownFact> possible_peers(const Policy& policy, const KnownPeer& known);

}  // namespace fdbroker::policy
