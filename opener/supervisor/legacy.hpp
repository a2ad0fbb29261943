// SPDX-License-Identifier: MIT
// What an opener leaves to the one that takes its place: its sockets, and what is known of them, so that no client
// notices more than a delay.
//
// The descriptors travel by way of the service manager's store (FDSTORE=1, sd_pid_notify_with_fds(3)), or stay open over
// an execve(2). A sealed file in memory tells what they are. Identities are not in it: the successor reads them from the
// sockets.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "opener/audit/audit_log.hpp"
#include "opener/base/passed_sockets.hpp"
#include "opener/config/options.hpp"
#include "opener/link/messages.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// The inode of a socket, by which it is known whatever its number. It is the kernel's, and unique while the socket lives.
using SocketInode = std::uint64_t;
SocketInode inode_of(proto::BorrowedFd socket) noexcept;  // 0: it cannot be told

struct LeftListener {
    SocketInode socket = 0;
    std::string name{};
    std::string address{};
    ListenerKind kind = ListenerKind::workers;
    std::string path{};  // that it has bound, with the device and inode there; empty: none
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
};

struct LeftConnection {
    SocketInode socket = 0;
    ConnectionId connection_id = 0;
    std::string listener{};
    bool controls = false;
    std::chrono::steady_clock::time_point since{};
    std::uint64_t requests = 0;
    std::uint64_t refused = 0;
    std::uint64_t control_note = 0;
};

// The in-flight log of a generation that has ended: the requests that it had not answered (inflight_log.hpp).
struct LeftInflightLog {
    std::uint32_t generation = 0;
    std::string bytes{};
};

// A worker that the opener has started, which stays a child of the process.
struct LeftWorker {
    pid_t pid = 0;            // 0: to be started again
    SocketInode channel = 0;  // 0: none
    ConnectionId connection_id = 0;
    std::uint32_t starts = 0;
    std::chrono::steady_clock::time_point started{};
};

// For whoever waits at the control socket.
struct LeftAnswer {
    ConnectionId asker = 0;
    CommandResult result = CommandResult::done;
};

// A descriptor that stays open over execve(2).
struct LeftDescriptor {
    std::string name{};
    int number = -1;
};

struct Legacy {
    std::uint32_t last_generation = 0;
    AuditLog::Position records{};
    ConnectionId next_connection = 1;
    std::vector<LeftListener> listeners{};
    std::vector<LeftConnection> connections{};
    std::vector<LeftInflightLog> inflight_logs{};
    std::vector<LeftAnswer> answers{};
    unsigned worker_count = 0;
    std::vector<LeftWorker> workers{};
    std::vector<LeftDescriptor> descriptors{};  // empty: the service manager passes them

    std::string packed() const;
    proto::Result<proto::UniqueFd> in_sealed_file() const;
    // EINVAL: no legacy, or one that another version has written in another form.
    static proto::Result<Legacy> unpack(std::string_view bytes);
};

// Names of descriptors. Short: the names of all of them are one environment variable of at most 128 KiB.
inline constexpr std::string_view legacy_name = "fdb.s";  // the file that tells what the others are
inline constexpr std::string_view policy_name = "fdb.p";  // the policy snapshot
inline constexpr std::string_view listener_name =
    "fdb.l";  // a listening socket that no service manager passes
inline constexpr std::string_view connection_name = "fdb.c";
inline constexpr std::string_view worker_output_name = "fdb.w";  // the reading end of the workers' pipe

// Everything that this process has been given.
struct Inheritance {
    std::vector<PassedSocket> sockets{};  // the service manager's own, by their names
    std::optional<Legacy> legacy{};       // nullopt: this opener succeeds nobody
    std::unordered_map<SocketInode, proto::UniqueFd> kept{};
    proto::UniqueFd policy{};
    proto::UniqueFd worker_output{};

    // nullopt: it is not there (any more).
    std::optional<proto::UniqueFd> take(SocketInode socket);
};

// Takes what a service manager has passed, or an opener that this process was before. Of a legacy that cannot be read,
// which is said on standard error, all connections end.
proto::Result<Inheritance> take_inheritance();

// In the environment of a process that was an opener before: the number of the file.
inline constexpr const char* legacy_variable = "FDBROKER_LEGACY";

}  // namespace fdbroker::opener
