// SPDX-License-Identifier: MIT
// Peers that nobody connected as: those of a policy's tests and of explanations.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/matching/accounts.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

inline constexpr std::uint32_t no_group = no_account;

// A peer as described; the account database completes it, asked by number as it is of a peer that connects.
struct PeerDescription {
    std::uint32_t uid = 0;
    std::optional<std::uint32_t> gid{};                  // none: the user's, else no_group
    std::optional<std::vector<std::uint32_t>> groups{};  // none: the user's
    std::string socket{};
};

PeerIdentity complete(const PeerDescription& description, const Accounts& accounts);

}  // namespace fdbroker::policy
