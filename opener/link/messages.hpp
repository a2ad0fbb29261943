// SPDX-License-Identifier: MIT
// The messages between the supervisor and a generation, each a struct of its own.
//
// Every message is a few numbers of fixed size, so that the supervisor, which is root, parses nothing that a peer could have
// shaped. `reserved` members stand where the compiler would leave padding: no byte of a sender's stack travels.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <variant>

#include "opener/identity/peer_names.hpp"

namespace fdbroker::opener {

// A connection as long as it lives, over all generations. Never 0.
using ConnectionId = std::uint64_t;

enum class CommandResult : std::uint32_t {
    done = 0,
    failed = 1,   // the attached file tells why
    refused = 2,  // the opener stops, looks after no workers, or not after so many
    invalid = 3,  // the policy of a reload is invalid; the attached file tells why
};

enum class Adoption : std::uint32_t {
    known = 0,  // an earlier generation had the connection
    first = 1,  // no generation had it
};

// From the supervisor to a generation. Messages with a descriptor say so.
namespace to_generation {

// No other generation serves any more: begin.
struct Activate {};

// A connection for requests; its socket is attached.
struct Adopt {
    ConnectionId connection_id = 0;
    std::int64_t since = 0;      // when it was accepted: std::chrono::steady_clock, nanoseconds
    std::uint64_t requests = 0;  // answered by earlier generations, refusals included
    std::uint64_t refused = 0;
    std::uint32_t listener = 0;  // index
    Adoption adoption = Adoption::known;
    PeerNames names{};  // the peer's when it connected
};

// A connection of the control socket; its socket is attached.
struct AdoptControl {
    ConnectionId connection_id = 0;
    std::uint64_t note = 0;  // ControlNote of an earlier generation
};

// Read no more and send what is parked; the next generation takes the connections. Then end, or send HandedOver.
struct HandOver {};

// The answer to HandedOver.
struct Finish {
    std::uint32_t records = 0;  // that may follow
};

// Answer what peers have sent, end every session, and end; a generation that has handed over ends what it has begun.
struct Retire {
    std::uint32_t timeout = 0;  // milliseconds after which unfinished work is given up
};

// Answer with Pong: the loop is alive, and has seen to every message before this one.
struct Ping {
    std::uint64_t number = 0;
};

// For the record: the generation of a reload could not start.
struct ReloadFailed {
    std::int32_t wait_status = 0;  // waitpid(2)
};

// The supervisor's answer to Reload, TakeOver, Shutdown or SetWorkers. A sealed file in memory with an explanation is
// attached where there is one.
struct CommandAnswer {
    ConnectionId connection_id = 0;  // that asked
    CommandResult result = CommandResult::done;
    std::uint32_t reserved = 0;
};

// An earlier generation, whose in-flight log the receiver has, is dead: answer all that it left unanswered.
struct GenerationLost {
    std::uint32_t number = 0;
};

// An earlier generation, whose in-flight log the receiver has, has handed over and drains: answer what it had taken, but
// not what its helpers have.
struct GenerationDraining {
    std::uint32_t number = 0;
};

// For the record: connections were rejected, since their user had too many.
struct ConnectionsRejected {
    std::uint32_t listener = 0;  // index
    uid_t uid = 0;
    gid_t gid = 0;
    pid_t pid = 0;  // the last peer's
    std::uint32_t count = 0;
};

// For the record: connections wait in the backlog.
struct ConnectionsWait {
    std::int32_t errno_value = 0;  // the cause; 0: there are as many connections as may be in all
    std::uint32_t count = 0;
};

// A newcomer follows, and there are as many connections as may be: end one.
struct MakeRoom {};

}  // namespace to_generation

using ToGeneration =
    std::variant<to_generation::Activate, to_generation::Adopt, to_generation::AdoptControl,
                 to_generation::HandOver, to_generation::Finish, to_generation::Retire, to_generation::Ping,
                 to_generation::ReloadFailed, to_generation::CommandAnswer, to_generation::GenerationLost,
                 to_generation::GenerationDraining, to_generation::ConnectionsRejected,
                 to_generation::ConnectionsWait, to_generation::MakeRoom>;

// From a generation to the supervisor. No descriptor is ever attached.
//
// A command of the control socket names the connection that asked, which must be there: a broker that was taken over can
// ask for nothing while nobody is connected to the control socket. One CommandAnswer goes to whichever generation serves
// by then: the next one where a reload succeeded or this one died, after the AdoptControl of that connection.
namespace to_supervisor {

// The policy is loaded, and the generation is confined.
struct Ready {
    std::uint32_t connections_per_uid = 0;
    std::uint32_t connections_total = 0;
    std::uint64_t audit_max_size = 0;  // bytes after which the audit file is rotated; 0: never
    std::uint32_t audit_keep = 0;      // rotated files that are kept
    std::uint32_t reserved = 0;
};

// The session has ended: close the duplicate of the connection.
struct Release {
    ConnectionId connection_id = 0;
};

struct Pong {
    std::uint64_t number = 0;  // the Ping's
};

// A command: read the policy again. One such start a second at most: those who wait get the same answer.
struct Reload {
    ConnectionId connection_id = 0;
};

// A command: execute the opener's program anew.
struct TakeOver {
    ConnectionId connection_id = 0;
};

// A command: end as on SIGTERM, which ends all connections: only a refusal is answered.
struct Shutdown {
    ConnectionId connection_id = 0;
};

// A command: look after this many workers.
struct SetWorkers {
    ConnectionId connection_id = 0;
    std::uint32_t count = 0;
    std::uint32_t reserved = 0;
};

// A command: have a candidate decide beside the policy in force, which stays the one that was loaded. For root alone.
struct Shadow {
    ConnectionId connection_id = 0;
    std::array<char, 4096>
        file{};  // absolute path, which NUL ends; empty: no candidate shall decide any more
};

// For the next generation: the use of a connection for requests.
struct NoteUse {
    ConnectionId connection_id = 0;
    std::uint64_t requests = 0;
    std::uint64_t refused = 0;
};

// For the next generation: the state of a control connection.
struct NoteControl {
    ConnectionId connection_id = 0;
    std::uint64_t note = 0;  // ControlNote
};

// A peer runs as the broker's uid: start another generation, as another uid where it is no account's.
struct UidTaken {
    uid_t uid = 0;
};

// A process that makes helpers has ended: start another generation, of the policy in force, beside this one.
struct Renew {};

// The generation lives on for what its helpers have begun. It makes no record between this and Finish.
struct HandedOver {
    std::uint32_t records = 0;  // that may come of that
};

// Look at what the processes take (SupervisorFacts); done once a second at most.
struct Measure {};

}  // namespace to_supervisor

using ToSupervisor = std::variant<to_supervisor::Ready, to_supervisor::Release, to_supervisor::Pong,
                                  to_supervisor::Reload, to_supervisor::TakeOver, to_supervisor::Shutdown,
                                  to_supervisor::SetWorkers, to_supervisor::Shadow, to_supervisor::NoteUse,
                                  to_supervisor::NoteControl, to_supervisor::UidTaken, to_supervisor::Renew,
                                  to_supervisor::HandedOver, to_supervisor::Measure>;

}  // namespace fdbroker::opener
