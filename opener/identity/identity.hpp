// SPDX-License-Identifier: MIT
// Who is at the other end of a connection, as the kernel vouches for it.
//
// It is the identity of the process that connected (or made the socket pair), taken once. A process that inherits
// or receives the socket later is served as that one.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "opener/identity/accounts.hpp"
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

// What a generation needs to tell who somebody is; gathered before it confines itself.
struct IdentitySource {
    AccountNames names{};
    // The uid under which all those appear that have no mapping in the opener's user namespace. None in the initial
    // namespace, where every uid is mapped and this one is a user like any other (`nobody`).
    std::optional<uid_t> unmapped{};

    // `own_namespace`: the generation will live in a user namespace that it makes itself.
    static IdentitySource take(bool own_namespace);
};

// SO_PEERCRED, SO_PEERGROUPS (unix(7), socket(7)) and, where the kernel has it (6.5), SO_PEERPIDFD. Does not
// block. EACCES: the peer's uid has no mapping in the opener's user namespace, so nobody can say who it is.
proto::Result<IdentifiedPeer> identify(proto::BorrowedFd socket, std::string listener,
                                       const IdentitySource& source);

}  // namespace fdbroker::opener
