// From a Grant to a descriptor that may be delivered. Three types, each made only from the one before:
//
//   policy::Grant ── resolve() ──► ResolvedFile ── inspect() ──► DeliverableFile
//
// A ResolvedFile cannot be sent: nobody has looked yet at what it is.
#pragma once

#include <vector>

#include "opener/confinement/confinement.hpp"
#include "opener/directory_table.hpp"
#include "opener/file_conditions.hpp"
#include "opener/open_flags.hpp"
#include "opener/place.hpp"
#include "policy/policy.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// An object, opened with the access that was granted, not yet inspected.
class ResolvedFile {
  public:
    ResolvedFile(ResolvedFile&&) = default;
    ResolvedFile& operator=(ResolvedFile&&) = default;

  private:
    friend class Resolver;
    friend class Inspector;
    ResolvedFile(proto::UniqueFd fd, bool crossed_mount, const BoundDirectory& directory)
        : fd_(std::move(fd)), crossed_mount_(crossed_mount), directory_(&directory) {}
    proto::UniqueFd fd_;
    bool crossed_mount_;  // another filesystem, or a bind mount, below the bound directory
    const BoundDirectory* directory_;
};

// A file that fulfils the conditions of every rule that granted it: what a reply may carry.
class DeliverableFile {
  public:
    DeliverableFile(DeliverableFile&&) = default;
    DeliverableFile& operator=(DeliverableFile&&) = default;
    proto::BorrowedFd descriptor() const noexcept { return fd_.borrow(); }

  private:
    friend class Inspector;
    explicit DeliverableFile(proto::UniqueFd fd) : fd_(std::move(fd)) {}
    proto::UniqueFd fd_;
};

template <typename T>
using Attempt = std::expected<T, Obstacle>;

class Resolver {
  public:
    explicit Resolver(std::vector<BoundDirectory> directories) : table_(std::move(directories)) {}

    // Opens what the grant names, by openat2 from the deepest bound directory on its way. No symbolic or magic link
    // is followed anywhere. Where nothing may block, it opens only what the dentry cache of a known local filesystem
    // (BoundDirectory::local) has; for all else it says only_in_a_helper.
    Attempt<ResolvedFile> resolve(const policy::Grant& grant, OpenFlags flags, const Place& place) const;

    const std::vector<BoundDirectory>& directories() const noexcept { return table_.directories(); }

  private:
    DirectoryTable table_;
};

class Inspector {
  public:
    explicit Inspector(LinkProtection protection) noexcept : protection_(protection) {}

    // Holds the object against `files:` of every rule of the grant; `peer_uid` is the ${user} of owners. Never blocks on
    // a local filesystem.
    Attempt<DeliverableFile> inspect(ResolvedFile file, const policy::Grant& grant, OpenFlags flags,
                                     std::uint32_t peer_uid) const;

  private:
    LinkProtection protection_;
};

}  // namespace fdbroker::opener
