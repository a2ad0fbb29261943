// SPDX-License-Identifier: MIT
// Who is at the other end of a connection, as the kernel vouches for it.
//
// The identity is that of the process that connected (or made the socket pair), taken once. A process that inherits
// or receives the socket later is served as that one.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "opener/identity/peer_names.hpp"
#include "policy/matching/policy.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct IdentifiedPeer {
    policy::PeerIdentity identity;
    // For the record only, never for a decision. 0: the process had ended before it could be identified, so that
    // its number may already be another's.
    pid_t pid = 0;
};

// The uid under which all those appear that have no mapping in the opener's user namespace. None in the initial
// namespace, where every uid is mapped and this one is a user like any other (`nobody`). `own_namespace`: the generation
// will live in a user namespace that it makes itself. Reads /proc.
std::optional<uid_t> find_unmapped_uid(bool own_namespace);

// Peers who are refused, whatever the policy says.
struct RefusedPeers {
    std::optional<uid_t> unmapped{};
    // The broker's own, where that is not its caller's: who has it may signal the broker and set its limits.
    std::optional<uid_t> broker{};

    bool is_broker(uid_t uid) const noexcept { return broker == uid; }
};

// SO_PEERCRED, SO_PEERGROUPS (unix(7), socket(7)) and, where the kernel has it (6.5), SO_PEERPIDFD; `names` belong to
// the peer's uid and gid. Does not block. EACCES: the peer's uid has no mapping in the opener's user namespace, so nobody
// can say who it is. EPERM: the uid is the broker's.
proto::Result<IdentifiedPeer> identify(proto::BorrowedFd socket, std::string listener, const PeerNames& names,
                                       const RefusedPeers& refused);

}  // namespace fdbroker::opener
