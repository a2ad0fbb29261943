// SPDX-License-Identifier: MIT
// A process that carries out requests which may block: one at a time, each on a duplicate of its peer's connection, which
// it holds no longer than that, or until the job's background work is done. It trusts its broker no further than it must: it
// identifies the peer from the socket and decides again by the policy that it was forked with.
#pragma once

#include "opener/identity/identity.hpp"
#include "opener/resolve/resolver.hpp"
#include "policy/matching/policy.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Services that a helper works with; all loaded before the zygote was forked.
struct HelperServices {
    const policy::Policy& policy;
    const Resolver& resolver;
    const Inspector& inspector;
    const RefusedPeers& refused;
};

// Serves the broker at the other end of `channel` until that is closed.
[[noreturn]] void run_helper(const HelperServices& services, proto::UniqueFd channel);

}  // namespace fdbroker::opener
