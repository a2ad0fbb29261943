// SPDX-License-Identifier: MIT
// deliver: snapshot. A sealed copy in memory, which nobody can change, the owner of the file included.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// The largest file of which there are snapshots where the rule says no `max_size`: the copy is in the opener's memory until
// the peer has closed it.
inline constexpr std::uint64_t max_snapshot_size = std::uint64_t{16} << 20;

// Told to a user who has had as many bytes of copies as `limits: snapshot_bytes_per_second` gives him (UserQuota). It is the
// broker that knows, once a copy is made: its size is that of the file at this time, and few are being made at once.
inline constexpr const char* too_many_copies =
    "the user has had as many bytes of snapshots as there are for him now";

// Copies while a read lease shows that nobody has the file open for writing (fcntl(2), F_SETLEASE); EAGAIN when somebody had
// each of three times. A write through a mapping that was there before leaves no other trace.
Attempt<Outcome> deliver_snapshot(const InspectedFile& file, const policy::Rule& rule);

}  // namespace fdbroker::opener
