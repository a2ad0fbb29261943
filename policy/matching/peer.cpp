// SPDX-License-Identifier: MIT
#include "policy/matching/peer.hpp"

namespace fdbroker::policy {

PeerIdentity complete(const PeerDescription& description, const Accounts& accounts) {
    PeerIdentity peer{.uid = description.uid, .gid = no_group, .listener = description.socket};
    if (const auto record = accounts.record_of(description.uid)) {
        peer.user = record->name;
        peer.gid = record->gid;
        peer.group = record->group;
        peer.groups = record->groups;
    }
    if (description.gid) {
        peer.gid = *description.gid;
        peer.group = accounts.group_name_of(*description.gid).value_or("");
    }
    if (description.groups) peer.groups = *description.groups;
    return peer;
}

}  // namespace fdbroker::policy
