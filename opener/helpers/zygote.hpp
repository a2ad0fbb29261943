// SPDX-License-Identifier: MIT
// The process that makes helpers. The broker forks it when it has loaded its policy and confined itself but for its
// filter of system calls; it has one thread, holds nothing but the directories of the rules, and does nothing but fork
// when it is told to.
//
// Whoever dies takes along what it has made: the broker its zygotes, a zygote its helpers (PR_SET_PDEATHSIG).
#pragma once

#include <span>

#include "opener/confinement/confinement.hpp"
#include "opener/helpers/helper.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// The restrictions of a zygote and the helpers beside those they inherit.
struct ZygoteConfinement {
    const ModifyingCalls& calls;   // as the broker's own filter has them
    proto::BorrowedFd landlock{};  // Confined::landlock_of_children
};

// Forks a zygote. `keep`: descriptors that helpers need besides those of the resolver's directories. The result is the
// broker's end of the channel to it. A byte asks for a helper; the answer is an int: 0 with the broker's end of a channel to
// the new helper, or the errno of the failure. Call before entering the broker's own filter, which lets nothing fork.
proto::Result<proto::UniqueFd> start_zygote(const HelperServices& services, const ZygoteConfinement& held_to,
                                            std::span<const proto::BorrowedFd> keep);

}  // namespace fdbroker::opener
