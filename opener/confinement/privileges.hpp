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

// The capabilities that the calling process may use, a bit per CAP_* number.
proto::Result<std::uint64_t> permitted_capabilities();

// Fails where root lacks a capability without which no broker can be started or ended, as in a container. The error names
// those that are missing. Other users need none.
proto::Result<void> require_root_capabilities();

// Ends with the uid and gid of `account` (where it changes), no supplementary groups, and not dumpable. `capabilities` are
// permitted and effective, none inheritable or ambient. The bounding set is empty and every securebit locked.
// PR_SET_PDEATHSIG, which a change of uid clears, is as before. Returns in words what stays for lack of CAP_SETPCAP.
proto::Result<std::string> drop_privileges(const BrokerAccount& account, std::uint64_t capabilities);

}  // namespace fdbroker::opener
