// SPDX-License-Identifier: MIT
// The policy in force, its text and what was looked up for it, for the generation that takes the place of one that died:
// else an edit that nobody asked to load would come into force with a crash, or, when it is faulty or an account that it
// names is deleted, nothing would serve any more.
//
// The snapshot lies in a sealed file in memory. The generation that read the policy's files writes it before it is
// confined, and long before it has read anything from a peer. From then on nobody can change it. The supervisor holds the
// file, and never looks inside.
#pragma once

#include "opener/policy_source/load_policy.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class PolicySnapshot {
  public:
    static proto::Result<PolicySnapshot> create();
    // A snapshot that another process has kept.
    static PolicySnapshot of(proto::UniqueFd file) { return PolicySnapshot(std::move(file)); }
    proto::BorrowedFd file() const noexcept { return file_.borrow(); }

    // Once.
    proto::Result<void> keep(const PolicyText& text);
    // The size of the snapshot, in bytes.
    proto::Result<std::uint64_t> size() const;
    // EINVAL: nothing was kept, or what is there is not what keep() writes.
    proto::Result<PolicyText> read() const;

  private:
    explicit PolicySnapshot(proto::UniqueFd file) : file_(std::move(file)) {}
    proto::UniqueFd file_;
};

}  // namespace fdbroker::opener
