// SPDX-License-Identifier: MIT
// From a Grant to a descriptor that may be delivered. Each type is made only from the one before:
//
//   policy::Grant ── resolve() ──► ResolvedFile ── inspect() ──► InspectedFile ── deliver() ──► DeliverableFile
//   policy::Grant ── resolve_parent() ──► ResolvedParent: where a name is made, changed or removed
//
// A ResolvedFile cannot be sent, nor anything done with it: nobody has looked yet at what it is.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "opener/confinement/known_mounts.hpp"
#include "opener/resolve/directory_table.hpp"
#include "opener/resolve/execution_context.hpp"
#include "opener/resolve/file_conditions.hpp"
#include "opener/resolve/name_check.hpp"
#include "opener/resolve/open_flags.hpp"
#include "policy/matching/policy.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// The directory that a rule names, as a walk found it.
struct RuleDirectory {
    uid_t owner = 0;
    std::uint64_t device = 0;
    NameCheck name_check = NameCheck::never;
};

// An object, opened with the access that was granted, not yet inspected.
class ResolvedFile {
  public:
    ResolvedFile(ResolvedFile&&) = default;
    ResolvedFile& operator=(ResolvedFile&&) = default;

  private:
    friend class Resolver;
    friend class Inspector;
    ResolvedFile(proto::UniqueFd fd, bool crossed_mount, const RuleDirectory& directory)
        : fd_(std::move(fd)), crossed_mount_(crossed_mount), directory_(directory) {}
    proto::UniqueFd fd_;
    bool crossed_mount_;  // another filesystem, or a bind mount, below the rule's directory
    RuleDirectory directory_;
};

// An object that fulfils the conditions of every rule that granted it.
class InspectedFile {
  public:
    InspectedFile(InspectedFile&&) = default;
    InspectedFile& operator=(InspectedFile&&) = default;
    proto::BorrowedFd descriptor() const noexcept { return fd_.borrow(); }
    const ObjectStatus& status() const noexcept { return status_; }

  private:
    friend class Inspector;
    InspectedFile(proto::UniqueFd fd, const ObjectStatus& status) : fd_(std::move(fd)), status_(status) {}
    proto::UniqueFd fd_;
    ObjectStatus status_;
};

// A file that a reply may carry.
class DeliverableFile {
  public:
    DeliverableFile(DeliverableFile&&) = default;
    DeliverableFile& operator=(DeliverableFile&&) = default;
    proto::BorrowedFd descriptor() const noexcept { return fd_.borrow(); }

    // Wraps an object that the opener has made and that no path leads to: a copy, a pipe.
    static DeliverableFile made_here(proto::UniqueFd fd) { return DeliverableFile(std::move(fd)); }

  private:
    friend class Inspector;
    explicit DeliverableFile(proto::UniqueFd fd) : fd_(std::move(fd)) {}
    proto::UniqueFd fd_;
};

// The directory that the last name of a grant's path is in. It stays that directory wherever it is moved.
class ResolvedParent {
  public:
    ResolvedParent(ResolvedParent&&) = default;
    ResolvedParent& operator=(ResolvedParent&&) = default;
    proto::BorrowedFd descriptor() const noexcept { return fd_.borrow(); }  // O_PATH
    const char* name() const noexcept { return name_.c_str(); }
    const RuleDirectory& directory() const noexcept { return directory_; }
    bool crossed_mount() const noexcept { return crossed_mount_; }

  private:
    friend class Resolver;
    ResolvedParent(proto::UniqueFd fd, std::string name, bool crossed_mount, const RuleDirectory& directory)
        : fd_(std::move(fd)), name_(std::move(name)), crossed_mount_(crossed_mount), directory_(directory) {}
    proto::UniqueFd fd_;
    std::string name_;
    bool crossed_mount_;
    RuleDirectory directory_;
};

// A symbolic link that stands on a path.
struct FoundLink {
    std::string path{};
    std::string target{};
    bool magic = false;  // procfs: the target is not what the link says
};

class Resolver {
  public:
    // Finds out which of the bound directories fold names, and so blocks as their filesystems do. `mounts`: those that the
    // directories are copies of, which must outlive this; null: they are no copies.
    Resolver(std::vector<BoundDirectory> directories, const policy::Policy& policy,
             const KnownMounts* mounts = nullptr);

    // Opens what the grant names, by openat2 from the deepest bound directory on its way, with flags of open(2) to which
    // O_NOFOLLOW and O_CLOEXEC come. No symbolic or magic link is followed anywhere; with O_PATH a link in the last place
    // is opened itself. In a helper, what changes something is EAGAIN where a mount on its way is not what it was when the
    // directory was bound. Where nothing may block, it opens only what the dentry cache of a known local filesystem
    // (BoundDirectory::local) has; for all else it says only_in_a_helper. A device is opened only where the types of every
    // rule have it (EACCES), which is looked at before.
    Attempt<ResolvedFile> resolve(const policy::Grant& grant, std::uint64_t flags,
                                  const ExecutionContext& execution) const;

    // EBUSY where the path is a bound directory itself, which has no parent here. May block.
    Attempt<ResolvedParent> resolve_parent(const policy::Grant& grant) const;
    // Opens the object that has the parent's name now; as resolve().
    Attempt<ResolvedFile> resolve_in(const ResolvedParent& parent, std::uint64_t flags) const;

    // The first symbolic link on the way of the grant's path, the last name included. nullopt: there is none now, or it
    // cannot be told where nothing may block.
    std::optional<FoundLink> find_link(const policy::Grant& grant, const ExecutionContext& execution) const;

    const std::vector<BoundDirectory>& directories() const noexcept { return table_.directories(); }

  private:
    Attempt<DirectoryTable::Found> start_of(const policy::Grant& grant) const;
    Attempt<ResolvedFile> open_found(const DirectoryTable::Found& found, std::uint64_t flags,
                                     const ExecutionContext& execution, proto::BorrowedFd start) const;
    Attempt<ResolvedFile> open_past_devices(const DirectoryTable::Found& found, const policy::Grant& grant,
                                            std::uint64_t flags, const ExecutionContext& execution) const;
    NameCheck name_check_of(const BoundDirectory& directory) const noexcept {
        return name_checks_[static_cast<std::size_t>(&directory - table_.directories().data())];
    }
    std::optional<Obstacle> refuse_other_mounts(const policy::Grant& grant) const;
    DirectoryTable table_;
    std::vector<NameCheck> name_checks_;  // in the order of the table's directories
    const KnownMounts* mounts_;
};

class Inspector {
  public:
    explicit Inspector(LinkProtection protection) noexcept : protection_(protection) {}

    // Holds the object against `files:` of every rule of the grant, as far as its operations ask (demand_of); `peer_uid` is
    // the ${user} of owners. Never blocks on a local filesystem.
    Attempt<InspectedFile> inspect(ResolvedFile file, const policy::Grant& grant,
                                   std::uint32_t peer_uid) const {
        return inspect(std::move(file), grant, peer_uid, demand_of(grant.operations()));
    }
    Attempt<InspectedFile> inspect(ResolvedFile file, const policy::Grant& grant, std::uint32_t peer_uid,
                                   Demand demand) const;
    // The same of something that is not there yet.
    std::optional<Obstacle> refuse(const ObjectStatus& object, const policy::Grant& grant,
                                   std::uint32_t peer_uid) const {
        return refuse(object, grant, peer_uid, demand_of(grant.operations()));
    }
    std::optional<Obstacle> refuse(const ObjectStatus& object, const policy::Grant& grant,
                                   std::uint32_t peer_uid, Demand demand) const;

    // The status that answers report.
    static Attempt<ObjectStatus> status_of(const ResolvedFile& file);
    LinkProtection protection() const noexcept { return protection_; }

    // Takes the O_NONBLOCK away that `flags` do not ask for.
    static Attempt<DeliverableFile> deliver(InspectedFile file, OpenFlags flags);

  private:
    LinkProtection protection_;
};

}  // namespace fdbroker::opener
