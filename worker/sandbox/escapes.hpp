// SPDX-License-Identifier: MIT
// What a process tries that has been taken over: attempts to get out of the sandbox, for children that are not confined,
// confined in part, or confined as a worker is.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"
#include "worker/sandbox/sandbox.hpp"
#include "worker/sandbox/scratch_directory.hpp"

namespace fdbroker::worker {

// Files, sockets and descriptors of the parent's for the children to try. A child gets copies of the descriptors.
struct EscapeScene {
    std::unique_ptr<ScratchDirectory> scratch{};
    std::string path{};
    std::string file_path{};
    std::string new_path{};  // names nothing yet
    std::string abstract_name{};
    std::string program_bytes{};  // `program`'s content
    sockaddr_in tcp_address{};    // tcp_listener's
    proto::UniqueFd file{};
    proto::UniqueFd directory{};
    proto::UniqueFd program{};
    proto::UniqueFd listener{};  // at path/stream
    proto::UniqueFd abstract_listener{};
    proto::UniqueFd tcp_listener{};
    proto::UniqueFd mailbox{};  // at path/datagram
    proto::UniqueFd stream_socket{};
    proto::UniqueFd datagram_socket{};
    proto::UniqueFd tcp_socket{};
    proto::UniqueFd connected{};  // the parent has the other end
    proto::UniqueFd other_end{};
    proto::UniqueFd terminal{};  // -1 where there are none
    proto::UniqueFd network_namespace{};
    proto::UniqueFd parent_pidfd{};
    pid_t parent = -1;
    std::uint64_t mount = 0;  // that the directory is on; 0 where the kernel does not tell

    // Fails where something cannot be made that every system has.
    static proto::Result<EscapeScene> make();
};

enum class EscapeGroup { paths, descriptors, sockets, programs, processes, kernel };
const char* to_string(EscapeGroup group) noexcept;

// The filter's own answer to an attempt.
enum class FilterSays {
    refuse,
    // The address lies in memory, which a filter does not read: what a socket reaches that was left open, it reaches.
    nothing,
};

struct Escape {
    const char* what;  // "open a file"
    // Returns what a system call would: negative with errno set where it failed. To be run in a fresh child, since
    // it may change the process for good, or run another program.
    long (*attempt)(const EscapeScene& scene);
    FilterSays filter = FilterSays::refuse;
};

std::span<const Escape> escapes(EscapeGroup group);

// The outcome of enter_as_worker().
struct WorkerSandbox {
    std::string no_pid_namespace{};  // why it has none; empty: it has one
    SandboxReport layers{};
};
// Confines this process as `worker` does: in a namespace of processes, where it may have one, and by every layer of
// confine() that this kernel has. Of the descriptors but the standard ones only `kept` stay open. Goes on in a child, see
// go_on_in_pid_namespace().
proto::Result<WorkerSandbox> enter_as_worker(std::vector<proto::BorrowedFd> kept = {});

inline constexpr std::size_t escape_group_count = 6;

}  // namespace fdbroker::worker
