// SPDX-License-Identifier: MIT
// What the broker is held to, derived from its policy, and how the kernel is made to hold it.
//
//   plan_confinement()   pure: the directories that rules name -> what is bound, which capabilities, which
//   calls confine()            makes it so, for the calling process, for good probe_confinement()  what
//   confine() would achieve here, found out in a child process describe()           all of that in words, for
//   `opener --check` and `status`
//
// None of them logs. A failure of confine() leaves the process half confined: it must end.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "opener/identity/broker_account.hpp"
#include "policy/matching/policy.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// The directories that rules name and that one above them is bound for (widen.hpp), sorted; null: rules name the bound
// directory itself, and nothing else is bound for it.
using StandsFor = std::shared_ptr<const std::vector<std::string>>;

// A directory that is bound into the private root.
struct PlannedDirectory {
    std::string path;
    bool writable = false;
    bool executable = false;
    bool devices = false;
    bool silent = false;  // as NamedDirectory
    StandsFor stands_for{};

    bool same_attributes(const PlannedDirectory& other) const noexcept {
        return writable == other.writable && executable == other.executable && devices == other.devices;
    }
};

// A directory that rules name, and what they do there: what Landlock gives rights on.
struct NamedDirectory {
    std::string path;
    policy::OperationSet operations{};
    bool devices = false;
    // The filesystem does not answer (start_directory_watch()): the directory is not touched, and dormant with ETIMEDOUT.
    bool silent = false;
};

// Groups of system calls that helpers may make where a rule needs them, and the broker itself never. seccomp_filter.cpp
// lists them.
struct ModifyingCalls {
    bool truncate = false;
    bool create = false;
    bool give_away = false;  // fchown
    bool set_attributes = false;
    bool make_directories = false;
    bool list = false;      // getdents64
    bool snapshot = false;  // memfd_create, leases, seals
    bool stream = false;    // pipes
    bool remove = false;
    bool rename = false;
    bool symlink = false;
    bool extended_attributes = false;
    bool put = false;    // fsync, copy_file_range, leases
    bool watch = false;  // inotify, pipes
};

struct ConfinementPlan {
    // Sorted by path, each once; one inside another is listed only where its attributes differ. At most
    // max_planned_directories (widen.hpp).
    std::vector<PlannedDirectory> directories{};
    std::vector<NamedDirectory> named{};  // sorted by path, each once; as many at most
    std::uint64_t capabilities = 0;       // bit per CAP_* number; none for who is not root
    ModifyingCalls calls{};
    bool lists_names = false;  // names of any of the directories are listed (name_check.hpp)
    BrokerAccount account{};
};

// Pure. `directories` as Policy::directories() gives them, in any order.
ConfinementPlan plan_confinement(std::span<const policy::Directory> directories,
                                 const BrokerAccount& account);

enum class Layer : std::uint8_t {
    own_account,   // a private uid and gid, no supplementary groups
    capabilities,  // those of the plan, bounding set empty, securebits locked
    private_root,  // nothing but the planned directories is there
    // On top of the private root, against descriptors that are sent in: for what the process forks, and for itself where
    // the kernel lacks SO_PASSRIGHTS. Stands in where a private root is not to be had; the weaker of the two.
    landlock,
    seccomp,       // the allowlist of system calls
    no_new_privs,  // and not dumpable
    limits,        // RLIMIT_NOFILE high, RLIMIT_CORE 0
};
inline constexpr std::size_t layer_count = 7;
std::string_view to_string(Layer layer) noexcept;  // "own account", …

enum class LayerState : std::uint8_t { missing, enforced };

struct LayerReport {
    LayerState state = LayerState::missing;
    std::string detail{};  // missing: why; enforced: what about it is weaker than planned, often empty
};

struct ConfinementReport {
    std::array<LayerReport, layer_count> layers{};

    LayerReport& operator[](Layer layer) noexcept { return layers[static_cast<std::size_t>(layer)]; }
    const LayerReport& operator[](Layer layer) const noexcept {
        return layers[static_cast<std::size_t>(layer)];
    }
    // No layer is missing: what --require-confinement demands.
    bool complete() const noexcept;
    // "private root: unshare: Operation not permitted; …"; empty when complete.
    std::string missing() const;
};

// A planned directory after confinement, as the broker reaches it.
struct BoundDirectory {
    std::string path;
    proto::UniqueFd fd{};  // O_PATH|O_DIRECTORY|O_CLOEXEC; empty when dormant
    // Devices can be opened through `fd`. Then this is the same directory on a mount that opens none; empty:
    // such a mount was not to be had.
    bool opens_devices = false;
    proto::UniqueFd without_devices{};
    // Something may be changed through `fd`. Then `read_only` is this directory on a mount that permits no change and opens
    // no device; empty: such a mount was not to be had.
    bool writable = false;
    proto::UniqueFd read_only{};
    int errno_value =
        0;  // 0: bound; else why it is dormant: ENOENT, ENOTDIR, ELOOP (a symlink on the way), ETIMEDOUT (silent), …
    std::string why{};      // ELOOP, for an administrator: which link, where it leads, what to write instead
    std::string refusal{};  // ELOOP, for peers
    StandsFor stands_for{};
    std::uint64_t mount_id = 0;  // as statx(2), STATX_MNT_ID, tells it inside
    // The directory's own numbers, the same inside and outside: they tell when the name leads elsewhere.
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    uid_t owner = 0;
    bool local = false;  // the filesystem is known not to wait for a network or another process
};

struct Confined {
    std::vector<BoundDirectory> directories{};  // those of the plan, in its order
    ConfinementReport report{};
    // By which each process that is forked from before_filter restricts itself (restrict_by_ruleset()). Empty: it need
    // not, since it inherits the restriction, or cannot, as the report says.
    proto::UniqueFd landlock_of_children{};
    std::size_t max_descriptors =
        0;  // RLIMIT_NOFILE, which the filter does not let the process ask for any more
};

// Confines the calling process, which must have one thread. Irreversible. Every descriptor but those of
// `keep` is closed. The working directory becomes the root. PR_SET_PDEATHSIG is kept; the parent may have ended meanwhile,
// so compare getppid() afterwards. Blocks as long as a rule's directory does that is not silent.
// system: ENOSYS (no openat2), or the errno of a layer that this kernel has and that failed. A layer
// that the kernel or the process's rights do not permit is no error but `missing` in the report.
//
// `before_filter` is called when all is done but the filter of system calls, which forbids fork. Its children are confined
// but for that filter and for landlock_of_children. `before_filter` may move both out of
// the argument. Errors become those of confine().
using BeforeFilter = std::function<proto::Result<void>(Confined&)>;
proto::Result<Confined> confine(const ConfinementPlan& plan, std::span<const proto::BorrowedFd> keep,
                                const BeforeFilter& before_filter = {});

struct DormantDirectory {
    std::string path;
    int errno_value = 0;
    std::string why{};  // in words, for an administrator
};
// Makes the dormant directory of a bound one.
DormantDirectory dormant_directory(const BoundDirectory& directory);

// Confines a child in the same way and tells what came of it; the caller is unchanged. `dormant`, when given,
// gets the directories that would be dormant. Errors as confine().
proto::Result<ConfinementReport> probe_confinement(const ConfinementPlan& plan,
                                                   std::vector<DormantDirectory>* dormant = nullptr);

// Several lines, each ended by a newline: account, capabilities, directories, calls; with a report its
// layers.
std::string describe(const ConfinementPlan& plan, const ConfinementReport* report);

}  // namespace fdbroker::opener
