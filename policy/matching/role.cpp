// SPDX-License-Identifier: MIT
#include "policy/matching/role.hpp"

#include <algorithm>

#include "policy/matching/accounts.hpp"

namespace fdbroker::policy {

bool Role::takes_user_of(const PeerIdentity& peer) const noexcept {
    const auto is_user = [&](const RoleUser& user) {
        if (user.uid == no_account) return !user.name.empty() && user.name == peer.user;
        return user.uid == peer.uid && !(user.by_name && peer.user.empty());
    };
    return users.empty() || std::ranges::any_of(users, is_user);
}

bool Role::held_by(const PeerIdentity& peer) const noexcept {
    const auto in_group = [&](std::uint32_t gid) {
        if (gid == no_account) return false;
        return gid == peer.gid || std::ranges::find(peer.groups, gid) != peer.groups.end();
    };
    const auto came_by = [&](const std::string& socket) { return socket == peer.listener; };
    return takes_user_of(peer) && (groups.empty() || std::ranges::any_of(groups, in_group)) &&
           (sockets.empty() || std::ranges::any_of(sockets, came_by));
}

std::uint32_t RoleSets::selector(const std::vector<std::uint32_t>& roles) {
    if (roles.empty()) return every_peer;
    if (roles.size() == 1) return roles.front() + 1;
    const auto place = static_cast<std::uint32_t>(lists_.size());
    lists_.push_back(static_cast<std::uint32_t>(roles.size()));
    // Not insert(): g++ 14 then sees an overflow that is none (-Wstringop-overflow).
    for (const std::uint32_t role : roles) lists_.push_back(role);
    return list_bit | place;
}

bool RoleSets::holds_one_of(const Peer& peer, std::uint32_t selector) const noexcept {
    const std::uint32_t* const list = &lists_[selector & ~list_bit];
    return std::any_of(list + 1, list + 1 + *list, [&](std::uint32_t role) { return peer.holds(role); });
}

std::vector<std::uint32_t> RoleSets::roles(std::uint32_t selector) const {
    if (selector == every_peer) return {};
    if ((selector & list_bit) == 0) return {selector - 1};
    const std::uint32_t* const list = &lists_[selector & ~list_bit];
    return {list + 1, list + 1 + *list};
}

}  // namespace fdbroker::policy
