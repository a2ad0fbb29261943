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

inline constexpr std::uint32_t no_group = 0xffffffff;  // (gid_t)-1 is no group's, chown(2)

// What is said of a peer; the account database completes it.
struct PeerDescription {
    std::uint32_t uid = 0;
    std::string user{};                                  // empty: the name of uid, if it has one
    std::optional<std::uint32_t> gid{};                  // none: the user's, else no_group
    std::string group{};                                 // the name of gid, if gid is given
    std::optional<std::vector<std::uint32_t>> groups{};  // none: the user's
    std::string socket{};
};

PeerIdentity complete(const PeerDescription& description, const Accounts& accounts);

}  // namespace fdbroker::policy
