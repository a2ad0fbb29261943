// SPDX-License-Identifier: MIT
#include "opener/confinement/landlock.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "opener/confinement/source_directory.hpp"

namespace fdbroker::opener {

namespace {

using policy::Operation;
using policy::OperationSet;
using proto::UniqueFd;

// linux/landlock.h of 6.12: the headers of Debian 12 end with version 3.
constexpr std::uint64_t execute = 1U << 0, write_file = 1U << 1, read_file = 1U << 2, read_dir = 1U << 3,
                        remove_dir = 1U << 4, remove_file = 1U << 5, make_char = 1U << 6, make_dir = 1U << 7,
                        make_reg = 1U << 8, make_sock = 1U << 9, make_fifo = 1U << 10, make_block = 1U << 11,
                        make_sym = 1U << 12, refer = 1U << 13, truncate = 1U << 14, ioctl_dev = 1U << 15;
// Under the name that it gets; only openat2 and symlinkat make what was not there, and devices nothing.
constexpr std::uint64_t make_anything =
    make_char | make_dir | make_reg | make_sock | make_fifo | make_block | make_sym;
constexpr std::uint64_t tcp = 0b11;     // bind, connect; version 4
constexpr std::uint64_t scopes = 0b11;  // abstract sockets, signals; version 6

struct RulesetAttributes {
    std::uint64_t handled_access_fs;
    std::uint64_t handled_access_net;
    std::uint64_t scoped;
};

struct [[gnu::packed]] PathBeneath {
    std::uint64_t allowed_access;
    std::int32_t parent_fd;
};

constexpr unsigned create_ruleset_version = 1U << 0;
constexpr int rule_path_beneath = 1;

std::uint64_t filesystem_rights_of(int version) noexcept {
    if (version >= 5) return (ioctl_dev << 1) - 1;
    if (version >= 3) return (truncate << 1) - 1;
    if (version >= 2) return (refer << 1) - 1;
    return (make_sym << 1) - 1;
}

std::uint64_t rights_for(OperationSet operations, bool devices) noexcept {
    static constexpr struct {
        Operation operation;
        std::uint64_t rights;
    } table[] = {
        {Operation::read, read_file},
        // A descriptor opened without the right to truncate keeps that for whoever gets it.
        {Operation::write, write_file | truncate},
        {Operation::append, write_file},
        // A file without its owner is removed again.
        {Operation::create, make_reg | write_file | truncate | refer | remove_file},
        {Operation::truncate, truncate},
        {Operation::list, read_dir},
        // A directory is made under a temporary name, which it then loses, and opened to be given to its owner.
        {Operation::mkdir, make_dir | remove_dir | read_dir},
        // A removed object gets a temporary name before; unfinished objects in a directory are listed.
        {Operation::remove, remove_dir | remove_file | make_anything | read_dir},
        {Operation::rename, remove_dir | remove_file | make_anything | refer},
        {Operation::symlink, make_sym | remove_file},
        // Attributes are those of an opened object.
        {Operation::setattr, read_file | read_dir},
        {Operation::xattr, read_file | read_dir},
        // Mapping an opened file asks nothing of Landlock; the kernel reads what it executes.
        {Operation::execute, execute | read_file},
    };
    std::uint64_t rights = 0;
    for (const auto& entry : table) {
        if (operations.contains(entry.operation)) rights |= entry.rights;
    }
    // put: the new file replaces another one, is read again by name, and its directory is written to the disk.
    if (operations.contains_all({Operation::write, Operation::create, Operation::truncate}))
        rights |= read_file | read_dir;
    return devices ? rights | ioctl_dev : rights;
}

// All rights on the mount, whichever rule they are for: were rights to differ inside, permitted renames
// would be EXDEV (Landlock's REFER).
std::uint64_t rights_on_mount(const PlannedDirectory& directory) noexcept {
    std::uint64_t rights = read_file | read_dir;
    if (directory.writable)
        rights |= write_file | truncate | remove_dir | remove_file | make_anything | refer;
    if (directory.executable) rights |= execute;
    if (directory.devices) rights |= ioctl_dev;
    return rights;
}

proto::Result<UniqueFd> empty_ruleset(int version) {
    const RulesetAttributes attributes{.handled_access_fs = filesystem_rights_of(version),
                                       .handled_access_net = version >= 4 ? tcp : 0,
                                       .scoped = version >= 6 ? scopes : 0};
    // A kernel refuses what it does not know, but a longer structure only where the rest is not zero.
    UniqueFd ruleset(
        static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
    if (!ruleset) return proto::system_error("landlock_create_ruleset");
    return ruleset;
}

proto::Result<void> allow(int ruleset, proto::BorrowedFd directory, std::uint64_t rights) {
    const PathBeneath rule{rights, directory.number()};
    if (::syscall(SYS_landlock_add_rule, ruleset, rule_path_beneath, &rule, 0) != 0) {
        return proto::system_error("landlock_add_rule");
    }
    return {};
}

}  // namespace

proto::Result<int> landlock_version() {
    const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, create_ruleset_version);
    if (version < 0) return proto::system_error("landlock_create_ruleset");
    return static_cast<int>(version);
}

proto::Result<void> may_restrict_by_landlock() {
    // landlock_restrict_self(2) looks for the ruleset last.
    if (::syscall(SYS_landlock_restrict_self, -1, 0) == 0 || errno == EBADF) return {};
    return proto::system_error("landlock_restrict_self");
}

proto::Result<UniqueFd> make_ruleset(std::span<const PlannedDirectory> planned,
                                     std::span<const BoundDirectory> bound, int version) {
    auto ruleset = empty_ruleset(version);
    if (!ruleset) return ruleset;
    for (std::size_t i = 0; i < bound.size(); ++i) {
        if (!bound[i].fd) continue;
        const std::uint64_t rights = rights_on_mount(planned[i]) & filesystem_rights_of(version);
        if (const auto allowed = allow(ruleset->number(), bound[i].fd.borrow(), rights); !allowed)
            return std::unexpected(allowed.error());
    }
    return ruleset;
}

proto::Result<void> restrict_by_ruleset(proto::BorrowedFd ruleset) {
    if (::syscall(SYS_landlock_restrict_self, ruleset.number(), 0) != 0)
        return proto::system_error("landlock_restrict_self");
    return {};
}

proto::Result<void> restrict_by_landlock(const ConfinementPlan& plan, proto::BorrowedFd root, int version) {
    const auto ruleset = empty_ruleset(version);
    if (!ruleset) return std::unexpected(ruleset.error());
    for (const NamedDirectory& named : plan.named) {
        const std::uint64_t rights =
            (rights_for(named.operations, named.devices) | (plan.lists_names ? read_dir : 0)) &
            filesystem_rights_of(version);
        if (rights == 0 || named.silent) continue;
        const auto directory = open_source_directory(root, named.path);
        if (!directory) return std::unexpected(directory.error());
        if (!directory->fd) continue;
        if (const auto allowed = allow(ruleset->number(), directory->fd.borrow(), rights); !allowed)
            return allowed;
    }
    return restrict_by_ruleset(ruleset->borrow());
}

}  // namespace fdbroker::opener
