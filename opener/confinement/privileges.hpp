// SPDX-License-Identifier: MIT
// Identity, capabilities and limits of the calling process.
#pragma once

#include <cstdint>
#include <string>

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

// Descriptors that a broker may hold, and have in flight (they are counted per uid of the sender).
inline constexpr std::uint64_t wanted_descriptors = std::uint64_t{1} << 18;

// RLIMIT_NOFILE as high as wanted_descriptors where that is permitted, else as the hard limit is; RLIMIT_CORE 0:
// a core would hold what peers' files do. Returns what falls short, in words; empty: nothing.
proto::Result<std::string> set_limits();

// What the calling process may use, a bit per CAP_* number.
proto::Result<std::uint64_t> permitted_capabilities();

// Ends with the uid and gid of `account` (where it changes), no supplementary groups, `capabilities` permitted
// and effective, none inheritable or ambient, an empty bounding set, every securebit locked, not
// dumpable. PR_SET_PDEATHSIG, which a change of uid clears, is as before. Returns what could not be
// taken away for lack of CAP_SETPCAP, in words.
proto::Result<std::string> drop_privileges(const BrokerAccount& account, std::uint64_t capabilities);

}  // namespace fdbroker::opener
