// SPDX-License-Identifier: MIT
#include "worker/sandbox/landlock.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace fdbroker::worker {
namespace {

using proto::Result;
using proto::system_error;
using proto::UniqueFd;

// struct landlock_ruleset_attr of Linux 6.12 (include/uapi/linux/landlock.h). An older kernel takes the larger struct
// as long as what it does not know is zero.
struct RulesetAttributes {
    std::uint64_t handled_access_fs;
    std::uint64_t handled_access_net;
    std::uint64_t scoped;
};

// struct landlock_path_beneath_attr.
struct __attribute__((packed)) PathBeneath {
    std::uint64_t allowed_access;
    std::int32_t parent_fd;
};
constexpr int path_beneath = 1;  // LANDLOCK_RULE_PATH_BENEATH

constexpr unsigned long ask_version = 1;  // LANDLOCK_CREATE_RULESET_VERSION

// All that ABI `abi` can take away, by the tables of landlock(7).
RulesetAttributes everything(int abi) {
    unsigned fs_rights = 13;                       // EXECUTE to MAKE_SYM
    if (abi >= 2) fs_rights = 14;                  // REFER
    if (abi >= 3) fs_rights = 15;                  // TRUNCATE
    if (abi >= 5) fs_rights = 16;                  // IOCTL_DEV
    const unsigned net_rights = abi >= 4 ? 2 : 0;  // BIND_TCP, CONNECT_TCP
    const unsigned scopes = abi >= 6 ? 2 : 0;      // ABSTRACT_UNIX_SOCKET, SIGNAL
    const auto all = [](unsigned bits) { return (std::uint64_t{1} << bits) - 1; };
    return {
        .handled_access_fs = all(fs_rights), .handled_access_net = all(net_rights), .scoped = all(scopes)};
}

}  // namespace

Result<int> landlock_abi() {
    const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, ask_version);
    if (abi < 0) return system_error("Landlock");
    return static_cast<int>(abi);
}

Result<void> restrict_by_landlock(int abi, std::span<const LandlockRule> rules, Network network,
                                  Scopes scopes) {
    RulesetAttributes attributes = everything(abi);
    if (network == Network::unrestricted) attributes.handled_access_net = 0;
    if (scopes == Scopes::none) attributes.scoped = 0;
    const UniqueFd ruleset(
        static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
    if (!ruleset) return system_error("Landlock", "create a ruleset");
    for (const LandlockRule& rule : rules) {
        const PathBeneath beneath{.allowed_access = rule.rights & attributes.handled_access_fs,
                                  .parent_fd = rule.place.number()};
        if (::syscall(SYS_landlock_add_rule, ruleset.number(), path_beneath, &beneath, 0) != 0)
            return system_error("Landlock", "add a rule");
    }
    if (::syscall(SYS_landlock_restrict_self, ruleset.number(), 0) != 0)
        return system_error("Landlock", "restrict this thread");
    return {};
}

}  // namespace fdbroker::worker
