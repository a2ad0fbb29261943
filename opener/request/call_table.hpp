// SPDX-License-Identifier: MIT
// The table of calls: a row has all traits of a call. decide(), execute(), batches, sessions and `openerctl policy explain` go
// by them and name no call.
//
// The rows are in operations/call_table.cpp, beside the functions that carry calls out. Names and payloads are the
// protocol's: proto/call_forms.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "opener/resolve/obstacle.hpp"
#include "policy/matching/operation.hpp"
#include "proto/message.hpp"

namespace fdbroker::policy {
class Grant;
}

namespace fdbroker::opener {

struct OperationContext;
struct Outcome;

// How the policy is asked.
enum class Asks : std::uint8_t {
    path,        // for the row's operations on the path
    open_flags,  // for the operations that flags of open(2) mean on the path (OpenFlags)
    two_names,   // for a rename of the path to the payload's text; no link on the way of either is followed
};

enum class Mode : std::uint8_t { none, taken };

// Whether a link in the last place of the path is followed as well.
enum class LastLink : std::uint8_t { follow, keep };

// Whether a message of all or nothing may have the call: done and then not delivered, it is as if it had not been.
enum class InBatch : std::uint8_t { refused, allowed };

// Where the call is tried first.
enum class TriedIn : std::uint8_t {
    helper,  // the call may always block
    loop,    // the call gives up before it has any effect where it might block
};

// The part of a call in background work (request/background_work.hpp). A stream, which a rule makes of an open, has none of
// these.
enum class Background : std::uint8_t {
    none,
    begins,     // leaves work that ends with its generation at the latest: a put, a watch
    continues,  // the number in the payload is that of work which the session has under way
};

// The object that the call needs at its path: `openerctl policy explain` looks for it.
enum class Subject : std::uint8_t {
    opened,         // anything that can be opened
    file,           // a file, which is made where that is asked for
    status,         // anything; a link only where the last one is kept
    directory,      // a directory, whose entries are read
    link,           // a symbolic link, which is read
    new_directory,  // nothing: a directory is made
    new_link,       // nothing: a symbolic link is made
    name,           // anything, and its parent, where the name goes
};

struct CallRow {
    // Carries out a granted request. `grant` is the request's, or that of a link's target.
    using Handler = Attempt<Outcome> (&)(const OperationContext&, const policy::Grant& grant);
    // A fault besides flags and mode, as a literal for the peer; null: there is none. Pure.
    using FaultFinder = const char* (*)(const proto::Request&);

    proto::Call call{};
    Handler handler;  // a reference: no row compiles without it
    Asks asks = Asks::path;
    policy::OperationSet operations{};  // Asks::open_flags: empty, as `flags`
    policy::OperationSet otherwise{};   // asked for where those are not granted; empty: nothing is
    std::uint32_t flags = 0;            // all that the call takes
    Mode mode = Mode::none;
    FaultFinder find_fault = nullptr;  // null: there can be none
    LastLink last_link = LastLink::follow;
    std::uint32_t keep_link_flag = 0;  // keeps a last link that is followed without it
    InBatch in_batch = InBatch::refused;
    std::uint32_t changing_flags = 0;  // with any of them, the call is refused in a batch nevertheless
    TriedIn tried_in = TriedIn::helper;
    Background background = Background::none;
    Subject subject = Subject::opened;
};

// By proto::Call.
extern const std::array<CallRow, proto::call_count> call_table;

// `call` is one of the protocol's, as the codec sees to.
inline const CallRow& row_of(proto::Call call) noexcept {
    return call_table[static_cast<std::size_t>(call)];
}

inline LastLink last_link_of(const proto::Request& request) noexcept {
    const CallRow& row = row_of(request.call);
    return (request.flags & row.keep_link_flag) != 0 ? LastLink::keep : row.last_link;
}

}  // namespace fdbroker::opener
