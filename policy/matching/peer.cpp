// SPDX-License-Identifier: MIT
#include "policy/matching/peer.hpp"

namespace fdbroker::policy {

PeerIdentity complete(const PeerDescription& description, const Accounts& accounts) {
    PeerIdentity peer{
        .uid = description.uid, .gid = no_group, .user = description.user, .listener = description.socket};
    if (const auto record = accounts.record_of(description.uid)) {
        if (peer.user.empty()) peer.user = record->name;
        peer.gid = record->gid;
        peer.group = record->group;
        peer.groups = record->groups;
    }
    if (description.gid) {
        peer.gid = *description.gid;
        peer.group = description.group;
    }
    if (description.groups) peer.groups = *description.groups;
    return peer;
}

}  // namespace fdbroker::policy
