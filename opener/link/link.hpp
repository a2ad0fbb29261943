// SPDX-License-Identifier: MIT
// The link between the supervisor and a generation: a SOCK_SEQPACKET pair on which only messages of one
// fixed size travel, so that the supervisor, which is root, parses nothing that a peer could have shaped.
#pragma once

#include <cstdint>
#include <optional>

#include "opener/identity/peer_names.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// A connection as long as it lives, over all generations. Never 0.
using ConnectionId = std::uint64_t;

enum class LinkType : std::uint32_t {
    // supervisor → generation

    activate = 1,  // no other generation serves any more: begin
    // token, value: index of the listener, total: 1 for a new one, since: when it was accepted, note and keep: what an
    // earlier generation noted of it, names: those that the peer had then; with the connection's descriptor
    adopt = 2,
    // read no more, send what is parked; the next generation takes the connections. Then end, or say handed_over
    hand_over = 3,
    // answer what peers have sent, end every session, end; of one that has handed over: end. value: milliseconds after
    // which what is unfinished is given up
    retire = 4,
    ping =
        5,  // answer with pong: the loop is alive, and what was sent before has been seen to; token: its number
    not_reloaded = 6,  // for the record; value: status (waitpid(2)) of the generation that could not start
    // token: a connection of the control socket, note: what an earlier generation noted of it; with its descriptor
    adopt_control = 7,
    // token: the control connection that asked; value: CommandResult; with a sealed file in memory that holds what there
    // is to say about it, when there is anything
    result = 8,
    // value: number of an earlier generation, whose journal the one that gets this has. That has died: answer all that it
    // had not answered. Before `activate`, or after.
    lost = 9,
    // The same, before `activate`, of one that has handed over and lives: answer what it had taken, but not what is with
    // its helpers.
    left = 10,
    finish = 11,  // the answer to handed_over. value: so many records may follow
    // For the record: connections were turned away. value: listener, total: how many, keep: pid, token:
    // uid, note: gid
    turned_away = 13,
    // For the record: connections wait in the backlog. value: why, an errno; 0: there are as many as may be in all
    waiting = 14,
    make_room = 15,  // a newcomer follows, and there are as many connections as may be: end one

    // generation → supervisor

    // policy loaded, confined; value: connections per uid, total: connections in all, and of the audit file: token: bytes
    // after which it is rotated (0: never), keep: files kept besides
    ready = 16,
    release = 17,  // token: its session has ended, let go of the duplicate
    pong = 18,     // token: the ping's
    // What somebody asked for at the control socket, and the broker found that he may. token: his connection, which
    // must be there: a broker that was taken over can ask for nothing while nobody is connected to the control socket.
    // One `result` answers each, to whichever generation serves by then: the next one where a reload succeeded or this
    // one died, after the `adopt_control` of that connection. reload, total: 1 to execute the program anew as well.
    reload =
        19,  // read the policy again. One such start a second at most: those who wait get the same result
    shutdown = 20,     // as SIGTERM, which ends all connections: only a refusal is a result
    set_workers = 21,  // total: how many workers there shall be
    // What the next generation shall know of a connection. token, note: of a control connection ControlNote, else requests
    // so far, and keep: those refused, as far as the number goes
    note = 22,
    // Somebody else runs as the broker's uid: start another generation, as another uid where it is no account's. value: the
    // uid
    uid_taken = 26,
    // A process that makes helpers has ended: start another generation, of the policy in force, beside this one.
    renew = 23,
    // It does no more but what helpers have begun, for which it lives on. value: records that may come of that. None is
    // made between this and `finish`.
    handed_over = 24,
    measure = 25,  // look at what the processes take (SupervisorFacts); at most once a second that is done
};

enum class CommandResult : std::uint32_t {
    done = 0,
    failed = 1,   // the file tells why
    refused = 2,  // the opener stops, looks after no workers, or not after so many
    invalid = 3,  // of a reload: the policy is; the file tells why
};

struct LinkMessage {
    LinkType type = LinkType::adopt;
    std::uint32_t value = 0;
    std::uint32_t total = 0;
    std::uint32_t keep = 0;
    ConnectionId token = 0;
    std::uint64_t note = 0;
    std::int64_t since = 0;  // std::chrono::steady_clock, nanoseconds
    PeerNames names{};       // of adopt
};

// One end. Both ends are non-blocking.
class Link {
  public:
    struct Pair;
    static proto::Result<Pair> make();

    proto::BorrowedFd descriptor() const noexcept { return socket_.borrow(); }

    // Never blocks: EAGAIN while the other end's queue is full. `attached` stays the caller's.
    proto::Result<void> try_send(const LinkMessage& message, proto::BorrowedFd attached = {});
    // Blocks (by poll) while the other end's queue is full. For a generation only: the supervisor always reads, and
    // were it to wait for a generation as well, both might wait for each other.
    proto::Result<void> send(const LinkMessage& message);

    struct Received {
        LinkMessage message;
        proto::UniqueFd attached;
    };
    // nullopt: nothing there now. disconnected: the other end has gone. A descriptor that does not fit this process's
    // table is missing from `attached`.
    proto::Result<std::optional<Received>> receive();

  private:
    explicit Link(proto::UniqueFd socket) : socket_(std::move(socket)) {}
    proto::UniqueFd socket_;
};

struct Link::Pair {
    Link supervisor;
    Link generation;
};

}  // namespace fdbroker::opener
