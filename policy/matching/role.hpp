// SPDX-License-Identifier: MIT
// Roles: named sets of peers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

struct RoleUser {
    std::uint32_t uid = 0;  // no_account is nobody's
    bool by_name = false;   // then a peer whose uid has no name is not it
    std::string name{};     // an account that does not exist: a peer with this name is it; empty: nobody is
};

// A key that is left out holds for every peer; a key has at least one entry, of which one must hold.
struct Role {
    std::string name{};
    Location location{};
    std::vector<RoleUser> users{};
    std::vector<std::uint32_t> groups{};  // no_account is nobody's
    std::vector<std::string> sockets{};

    bool held_by(const PeerIdentity& peer) const noexcept;
    // `users` alone.
    bool takes_user_of(const PeerIdentity& peer) const noexcept;
};

// The sets of roles that rules name. A selector is a number that stands for one set.
class RoleSets {
  public:
    static constexpr std::uint32_t every_peer = 0;

    // `roles` as indices among the policy's roles; none: every peer.
    std::uint32_t selector(const std::vector<std::uint32_t>& roles);
    bool holds(const Peer& peer, std::uint32_t selector) const noexcept {
        if (selector == every_peer) return true;
        if ((selector & list_bit) == 0) return peer.holds(selector - 1);
        return holds_one_of(peer, selector);
    }
    std::vector<std::uint32_t> roles(std::uint32_t selector) const;

  private:
    // A set of one role is its index + 1; a larger one is this bit and its place in lists_.
    static constexpr std::uint32_t list_bit = 1U << 31;
    bool holds_one_of(const Peer& peer, std::uint32_t selector) const noexcept;

    std::vector<std::uint32_t> lists_{};  // each: its length, then the roles
};

}  // namespace fdbroker::policy
