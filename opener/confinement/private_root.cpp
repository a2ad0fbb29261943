// SPDX-License-Identifier: MIT
#include "opener/confinement/private_root.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "opener/confinement/kernel_calls.hpp"
#include "opener/confinement/paths.hpp"
#include "opener/confinement/source_directory.hpp"
#include "opener/confinement/user_namespace.hpp"

namespace fdbroker::opener {

namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

constexpr std::uint64_t no_links = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

// The mount points in the tmpfs get the mode they are made with.
class ZeroUmask {
  public:
    ZeroUmask() noexcept : before_(::umask(0)) {}
    ~ZeroUmask() { ::umask(before_); }
    ZeroUmask(const ZeroUmask&) = delete;
    ZeroUmask& operator=(const ZeroUmask&) = delete;

  private:
    mode_t before_;
};

// Files are made and found as the owner's, so that a root without CAP_DAC_OVERRIDE and CAP_CHOWN can make them.
class OwnersFiles {
  public:
    explicit OwnersFiles(const BrokerAccount& owner) noexcept {
        ::prctl(PR_GET_PDEATHSIG, &death_signal_);
        gid_ = static_cast<gid_t>(::setfsgid(owner.gid));
        uid_ = static_cast<uid_t>(::setfsuid(owner.uid));
    }
    ~OwnersFiles() {
        ::setfsuid(uid_);
        ::setfsgid(gid_);
        // Each change clears it (prctl(2)).
        ::prctl(PR_SET_PDEATHSIG, death_signal_);
    }
    OwnersFiles(const OwnersFiles&) = delete;
    OwnersFiles& operator=(const OwnersFiles&) = delete;

  private:
    int death_signal_ = 0;
    gid_t gid_ = 0;
    uid_t uid_ = 0;
};

std::uint64_t restrictions_of(const PlannedDirectory& directory) noexcept {
    std::uint64_t attributes = MOUNT_ATTR_NOSUID;
    if (!directory.writable) attributes |= MOUNT_ATTR_RDONLY;
    if (!directory.executable) attributes |= MOUNT_ATTR_NOEXEC;
    if (!directory.devices) attributes |= MOUNT_ATTR_NODEV;
    return attributes;
}

// A detached copy of the mounts at and below `source`. Restricted while nobody can reach it; the attributes
// are only ever added, so that a filesystem mounted read-only outside is so inside.
Result<UniqueFd> clone_restricted(BorrowedFd source, std::uint64_t attributes) {
    UniqueFd tree(kernel::open_tree(source.number(), "",
                                    AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    if (!tree) return proto::system_error("open_tree");
    mount_attr wanted{};
    wanted.attr_set = attributes;
    wanted.propagation = MS_PRIVATE;
    if (kernel::mount_setattr(tree.number(), "", AT_EMPTY_PATH | AT_RECURSIVE, wanted) != 0) {
        return proto::system_error("mount_setattr");
    }
    return tree;
}

// The broker's alone, as the directories below it: nobody else who comes to hold a descriptor in it walks through.
Result<UniqueFd> make_empty_root(const BrokerAccount& owner) {
    const UniqueFd context(kernel::fsopen("tmpfs", FSOPEN_CLOEXEC));
    if (!context) return proto::system_error("fsopen", "tmpfs");
    if (kernel::fsconfig(context.number(), FSCONFIG_SET_STRING, "mode", "0700") != 0 ||
        kernel::fsconfig(context.number(), FSCONFIG_SET_STRING, "uid", std::to_string(owner.uid).c_str()) !=
            0 ||
        kernel::fsconfig(context.number(), FSCONFIG_SET_STRING, "gid", std::to_string(owner.gid).c_str()) !=
            0 ||
        kernel::fsconfig(context.number(), FSCONFIG_CMD_CREATE, nullptr, nullptr) != 0) {
        return proto::system_error("fsconfig", "tmpfs");
    }
    UniqueFd root(kernel::fsmount(context.number(), FSMOUNT_CLOEXEC,
                                  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
    if (!root) return proto::system_error("fsmount", "tmpfs");
    return root;
}

// Enters a new mount namespace. The returned descriptor is on the caller's former /. The process's root is
// that of the namespace afterwards, because pivot_root(2) does not work from within a chroot.
Result<UniqueFd> leave_shared_mounts() {
    if (::unshare(CLONE_NEWNS) != 0) return proto::system_error("unshare", "CLONE_NEWNS");
    if (kernel::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE) != 0) {
        // In a chroot, / is no mount and has no propagation to change.
        if (errno != EINVAL) return proto::system_error("mount", "MS_PRIVATE");
    }
    UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return proto::system_error("open", "/");
    const UniqueFd self(kernel::pidfd_open(::getpid(), 0));
    if (!self) return proto::system_error("pidfd_open");
    // EPERM: there is no CAP_SYS_CHROOT, which no service needs outside a chroot. Inside one pivot_root(2) fails.
    if (::setns(self.number(), CLONE_NEWNS) != 0 && errno != EPERM) return proto::system_error("setns");
    if (kernel::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE) != 0) {
        return proto::system_error("mount", "MS_PRIVATE");
    }
    return root;
}

// Makes each directory of `path` that is missing. Only for paths that lead through nothing but the tmpfs.
Result<UniqueFd> make_mount_point(BorrowedFd root, const std::string& path, const BrokerAccount& owner) {
    const OwnersFiles as_owner(owner);
    UniqueFd current(::fcntl(root.number(), F_DUPFD_CLOEXEC, 0));
    if (!current) return proto::system_error("fcntl", "F_DUPFD_CLOEXEC");
    for (std::size_t begin = 1; begin < path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string component = path.substr(begin, end - begin);
        if (::mkdirat(current.number(), component.c_str(), 0700) != 0 && errno != EEXIST)
            return proto::system_error("mkdirat", path);
        current = UniqueFd(
            kernel::openat2(current.number(), component.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC, no_links));
        if (!current) return proto::system_error("openat2", path);
        begin = end + 1;
    }
    return current;
}

// Builds the new root directory by directory, on top of the root of the mount namespace.
class RootBuilder {
  public:
    // `old_root` is what rules mean by /. With a plan that names / itself, that is the new root; else a tmpfs.
    static Result<RootBuilder> begin(UniqueFd old_root, const ConfinementPlan& plan) {
        const bool names_root = !plan.directories.empty() && plan.directories.front().path == "/";
        auto new_root = names_root
                            ? clone_restricted(old_root.borrow(), restrictions_of(plan.directories.front()))
                            : make_empty_root(plan.account);
        if (!new_root) return std::unexpected(new_root.error());
        if (kernel::move_mount(new_root->number(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
            return proto::system_error("move_mount", "/");
        }
        RootBuilder builder(std::move(old_root), std::move(*new_root), !names_root, plan.account);
        if (names_root) builder.bound_.insert("/");
        return builder;
    }

    // In the order of the plan: what encloses comes before what is inside.
    Result<BoundDirectory> bind(const PlannedDirectory& planned) {
        BoundDirectory bound;
        bound.path = planned.path;
        bound.opens_devices = planned.devices;
        bound.writable = planned.writable;
        bound.stands_for = planned.stands_for;
        if (bound_.contains(planned.path)) return bound;
        if (planned.silent) {
            bound.errno_value = ETIMEDOUT;
            return bound;
        }
        auto source = open_source_directory(old_root_.borrow(), planned.path);
        if (!source) return std::unexpected(source.error());
        if (!source->fd) {
            take(bound, std::move(*source));
            return bound;
        }
        auto target = mount_point_for(planned.path);
        if (!target) return std::unexpected(target.error());
        if (!target->fd) {
            take(bound, std::move(*target));
            return bound;
        }
        auto tree = clone_restricted(source->fd.borrow(), restrictions_of(planned));
        if (!tree) {
            tree.error().detail = planned.path;
            return std::unexpected(tree.error());
        }
        if (kernel::move_mount(tree->number(), "", target->fd.number(), "",
                               MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
            return proto::system_error("move_mount", planned.path);
        }
        bound_.insert(planned.path);
        return bound;
    }

    Result<void> pivot() {
        if (::fchdir(new_root_.number()) != 0) return proto::system_error("fchdir");
        // Puts the old root on top of the new one, from where it is taken off: pivot_root(2), NOTES.
        if (kernel::pivot_root(".", ".") != 0) return proto::system_error("pivot_root");
        if (kernel::umount2(".", kernel::detach) != 0) return proto::system_error("umount2");
        if (::chdir("/") != 0) return proto::system_error("chdir", "/");
        if (!is_tmpfs_) return {};
        mount_attr read_only{};
        read_only.attr_set = MOUNT_ATTR_RDONLY;
        if (kernel::mount_setattr(AT_FDCWD, "/", 0, read_only) != 0) {
            return proto::system_error("mount_setattr", "/");
        }
        return {};
    }

  private:
    RootBuilder(UniqueFd old_root, UniqueFd new_root, bool is_tmpfs, const BrokerAccount& owner) noexcept
        : old_root_(std::move(old_root)),
          new_root_(std::move(new_root)),
          is_tmpfs_(is_tmpfs),
          owner_(&owner) {}

    bool is_inside_bound(const std::string& path) const {
        for (std::string_view rest = path; rest.size() > 1;) {
            rest = parent_of(rest);
            if (bound_.contains(rest)) return true;
        }
        return false;
    }

    // Inside a directory that is bound already, the place is there, or the name has gone meanwhile.
    Result<SourceDirectory> mount_point_for(const std::string& path) {
        if (is_inside_bound(path)) return open_source_directory(new_root_.borrow(), path);
        auto made = make_mount_point(new_root_.borrow(), path, *owner_);
        if (!made) return std::unexpected(made.error());
        return SourceDirectory{.fd = std::move(*made), .errno_value = 0};
    }

    UniqueFd old_root_;
    UniqueFd new_root_;
    bool is_tmpfs_;
    const BrokerAccount* owner_;  // owns the directories on the tmpfs
    std::set<std::string, std::less<>> bound_{};
};

// After pivot: the descriptors that the broker works with.
Result<void> open_bound_directories(std::vector<BoundDirectory>& directories) {
    const UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return proto::system_error("open", "/");
    for (BoundDirectory& directory : directories) {
        if (directory.errno_value != 0) continue;
        auto opened = open_source_directory(root.borrow(), directory.path);
        if (!opened) return std::unexpected(opened.error());
        take(directory, std::move(*opened));
        if (!directory.fd) continue;
        if (const auto done = inspect_directory(directory); !done) return done;
        if (directory.opens_devices) {
            auto tree = clone_restricted(directory.fd.borrow(), MOUNT_ATTR_NODEV);
            if (!tree) return std::unexpected(tree.error());
            directory.without_devices = std::move(*tree);
        }
        if (directory.writable) {
            auto tree = clone_restricted(directory.fd.borrow(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV);
            if (!tree) return std::unexpected(tree.error());
            directory.read_only = std::move(*tree);
        }
    }
    return {};
}

}  // namespace

Result<std::vector<BoundDirectory>> enter_private_root(const ConfinementPlan& plan) {
    const ZeroUmask zero_umask;
    if (!plan.account.changes) {
        if (const auto entered = enter_user_namespace(); !entered) return std::unexpected(entered.error());
    }
    auto old_root = leave_shared_mounts();
    if (!old_root) return std::unexpected(old_root.error());
    std::vector<BoundDirectory> directories;
    auto builder = RootBuilder::begin(std::move(*old_root), plan);
    if (!builder) return std::unexpected(builder.error());
    for (const PlannedDirectory& planned : plan.directories) {
        auto bound = builder->bind(planned);
        if (!bound) return std::unexpected(bound.error());
        directories.push_back(std::move(*bound));
    }
    if (const auto pivoted = builder->pivot(); !pivoted) return std::unexpected(pivoted.error());
    if (const auto opened = open_bound_directories(directories); !opened) {
        return std::unexpected(opened.error());
    }
    return directories;
}

}  // namespace fdbroker::opener
