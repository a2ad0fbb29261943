// The private root: a mount namespace in which nothing but the planned directories is there.
#pragma once

#include <vector>

#include "opener/confinement/confinement.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct PrivateRoot {
    std::vector<BoundDirectory> directories{};  // those of the plan, in its order
    proto::UniqueFd own_descriptors{};          // Confined::own_descriptors
};

// Puts the calling process, which must have one thread, into a private root; as someone who is not root by way of
// a user namespace that maps the process's own uid and gid. On an error the process may be anywhere on the
// way and must end. Every descriptor that the caller opened before still leads outside.
proto::Result<PrivateRoot> enter_private_root(const ConfinementPlan& plan);

// A descriptor on this process's /proc/self/fd that no `..` leads out of, made of a detached mount where
// `detached`; empty where procfs is not mounted.
enum class OwnDescriptors { detached, plain };
proto::UniqueFd open_own_descriptors(OwnDescriptors how) noexcept;

}  // namespace fdbroker::opener
