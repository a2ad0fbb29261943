// SPDX-License-Identifier: MIT
// What the opener would answer to a request that the policy allows: by the opener's own walk, conditions and words, without
// opening, changing or making anything.
#pragma once

#include <functional>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "opener/metrics/metrics.hpp"
#include "opener/operations/operation.hpp"
#include "policy/matching/policy.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::ctl {

// The requests that these operations take: one open for all that open a file, and one for each other.
std::vector<policy::OperationSet> requests_of(policy::OperationSet operations);

// Every name that is about to be looked at, and every object that rules are held against.
struct Onlooker {
    std::function<void(const policy::Grant&)> name{};
    std::function<void(const policy::Grant&, const opener::ObjectStatus&)> object{};
};

class DryRun {
  public:
    // All of these must outlive it.
    DryRun(const policy::Policy& policy, const policy::Peer& peer, const Onlooker& onlooker);

    // The grant is that of one of requests_of(), its path followed by a NUL. Blocks as long as the filesystem does. Opens
    // nothing but O_PATH descriptors. Not foreseen: a write that the filesystem itself refuses, a FIFO that nobody reads.
    opener::Outcome run(const policy::Grant& grant);

  private:
    std::vector<opener::BoundDirectory> directories_above(std::string_view path) const;

    const policy::Policy& policy_;
    const policy::Peer& peer_;
    const Onlooker& onlooker_;
    opener::ConfinementPlan plan_;
    opener::Inspector inspector_;
    opener::Metrics metrics_;
    proto::UniqueFd root_;
};

}  // namespace fdbroker::ctl
