// SPDX-License-Identifier: MIT
#include "policy/explain/possible_peers.hpp"

#include <algorithm>
#include <utility>

#include "policy/matching/accounts.hpp"
#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {

namespace {

template <typename Holds>
bool any_role(const Policy& policy, const Holds& holds) {
    return std::ranges::any_of(policy.compiled().roles, holds);
}

// Also where the variable is escaped, which is rare, and then only keeps a decision from counting.
bool names_variable(const Policy& policy, std::string_view variable) {
    return policy.compiled().pattern_texts.find(variable) != std::string::npos;
}

std::vector<std::uint32_t> groups_of_roles(const Policy& policy) {
    std::vector<std::uint32_t> groups;
    for (const Role& role : policy.compiled().roles)
        for (const std::uint32_t gid : role.groups)
            if (gid != no_account) groups.push_back(gid);
    std::ranges::sort(groups);
    const auto again = std::ranges::unique(groups);
    groups.erase(again.begin(), again.end());
    return groups;
}

std::optional<UnknownFact> needed(const Policy& policy, const KnownPeer& known) {
    const auto by_users = [](const Role& role) { return !role.users.empty(); };
    const auto by_groups = [](const Role& role) { return !role.groups.empty(); };
    const auto by_sockets = [](const Role& role) { return !role.sockets.empty(); };
    if (!known.uid) return UnknownFact::uid;
    if (!known.user && (any_role(policy, by_users) || names_variable(policy, "${user}")))
        return UnknownFact::user;
    if (!known.gid && (any_role(policy, by_groups) || names_variable(policy, "${gid}")))
        return UnknownFact::gid;
    if (!known.group && names_variable(policy, "${group}")) return UnknownFact::group;
    if (!known.listener && any_role(policy, by_sockets)) return UnknownFact::listener;
    return std::nullopt;
}

}  // namespace

const char* to_string(UnknownFact fact) noexcept {
    switch (fact) {
        case UnknownFact::uid:
            return "uid";
        case UnknownFact::gid:
            return "gid";
        case UnknownFact::groups:
            return "groups";
        case UnknownFact::user:
            return "user";
        case UnknownFact::group:
            return "group";
        case UnknownFact::listener:
            return "listener";
    }
    return "";
}

std::expected<std::vector<Peer>, UnknownFact> possible_peers(const Policy& policy, const KnownPeer& known) {
    if (const auto fact = needed(policy, known)) return std::unexpected(*fact);
    PeerIdentity identity{.uid = *known.uid,
                          .gid = known.gid.value_or(no_account),
                          .groups = known.groups.value_or(std::vector<std::uint32_t>()),
                          .user = known.user.value_or(""),
                          .group = known.group.value_or(""),
                          .listener = known.listener.value_or("")};
    std::vector<Peer> peers;
    if (known.groups) {
        peers.push_back(policy.identify(std::move(identity)));
        return peers;
    }
    std::vector<std::uint32_t> open = groups_of_roles(policy);
    std::erase(open, identity.gid);
    if (open.size() > max_unknown_groups) return std::unexpected(UnknownFact::groups);
    for (unsigned in = 0; in < 1U << open.size(); ++in) {
        identity.groups.clear();
        for (std::size_t i = 0; i < open.size(); ++i)
            if ((in >> i & 1U) != 0) identity.groups.push_back(open[i]);
        peers.push_back(policy.identify(identity));
    }
    return peers;
}

}  // namespace fdbroker::policy
