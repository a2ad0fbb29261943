// SPDX-License-Identifier: MIT
#include "opener/identity/identity.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cstdint>
#include <fstream>
#include <utility>
#include <vector>

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

#ifndef SO_PEERPIDFD
constexpr int SO_PEERPIDFD = 77;  // asm-generic/socket.h since 6.5
#endif

Result<std::vector<std::uint32_t>> peer_groups(BorrowedFd socket) {
    std::vector<gid_t> groups(32);
    for (;;) {
        auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
        if (::getsockopt(socket.number(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) {
            groups.resize(size / sizeof(gid_t));
            return groups;
        }
        // ERANGE tells the size that is needed; 65,536 groups (NGROUPS_MAX) are the most there can be.
        if (errno != ERANGE) return proto::system_error("getsockopt", "SO_PEERGROUPS");
        groups.resize(size / sizeof(gid_t));
    }
}

// False: the kernel says that the process which connected is no more.
bool still_there(BorrowedFd socket) {
    int number = -1;
    socklen_t size = sizeof number;
    if (::getsockopt(socket.number(), SOL_SOCKET, SO_PEERPIDFD, &number, &size) != 0)
        return errno == ENOPROTOOPT;
    const UniqueFd process(number);
    return true;
}

}  // namespace

std::optional<uid_t> find_unmapped_uid(bool own_namespace) {
    // user_namespaces(7): the initial namespace maps everything to itself.
    std::ifstream map("/proc/self/uid_map");
    std::uint64_t inside = 1, outside = 1, count = 0;
    const bool initial =
        (map >> inside >> outside >> count) && inside == 0 && outside == 0 && count == UINT32_MAX;
    if (!own_namespace && initial) return std::nullopt;
    std::ifstream overflow("/proc/sys/kernel/overflowuid");
    uid_t uid = 65534;
    overflow >> uid;
    return uid;
}

Result<IdentifiedPeer> identify(BorrowedFd socket, std::string listener, const PeerNames& names,
                                const RefusedPeers& refused) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket.number(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
        return proto::system_error("getsockopt", "SO_PEERCRED");
    }
    if (refused.unmapped == credentials.uid) {
        return proto::system_error("identify", "the peer's uid has no mapping in the opener's user namespace",
                                   EACCES);
    }
    if (refused.is_broker(credentials.uid)) {
        return proto::system_error(
            "identify",
            fmt::format("the peer runs as uid {}, which is the broker's: such a process could end the broker",
                        credentials.uid),
            EPERM);
    }
    auto groups = peer_groups(socket);
    if (!groups) return std::unexpected(groups.error());

    IdentifiedPeer peer;
    peer.identity.uid = credentials.uid;
    peer.identity.gid = credentials.gid;
    peer.identity.groups = std::move(*groups);
    peer.identity.user = names.user.text();
    peer.identity.group = names.group.text();
    peer.identity.listener = std::move(listener);
    peer.pid = still_there(socket) ? credentials.pid : 0;
    return peer;
}

}  // namespace fdbroker::opener
