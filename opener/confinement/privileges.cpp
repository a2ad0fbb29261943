// SPDX-License-Identifier: MIT
#include "opener/confinement/privileges.hpp"

#include <cap-ng.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>

#include "opener/confinement/capability_names.hpp"

namespace fdbroker::opener {

namespace {

using proto::Result;

constexpr unsigned long locked_securebits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                            SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                            SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

// The broker's own account, nothing that leads back, an end of the broker, and a walk to what rules name.
constexpr std::array needed_by_root{CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_KILL, CAP_DAC_READ_SEARCH};

Result<void> become(const BrokerAccount& account) {
    if (::setgroups(0, nullptr) != 0) return proto::system_error("setgroups");
    if (::setresgid(account.gid, account.gid, account.gid) != 0) return proto::system_error("setresgid");
    if (::setresuid(account.uid, account.uid, account.uid) != 0) return proto::system_error("setresuid");
    return {};
}

Result<void> keep_capabilities(std::uint64_t capabilities) {
    capng_clear(CAPNG_SELECT_ALL);
    for (int capability = 0; capability <= CAP_LAST_CAP; ++capability) {
        if ((capabilities & capability_bit(capability)) == 0) continue;
        const auto kind = static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED);
        if (capng_update(CAPNG_ADD, kind, static_cast<unsigned>(capability)) != 0) {
            return proto::system_error("capng_update", {}, EINVAL);
        }
    }
    // With none inheritable, the kernel keeps none ambient.
    if (capng_apply(CAPNG_SELECT_CAPS) != 0) return proto::system_error("capng_apply");
    return {};
}

// Both ask for CAP_SETPCAP.
Result<void> close_ways_back() {
    if (::prctl(PR_SET_SECUREBITS, locked_securebits) != 0)
        return proto::system_error("prctl", "PR_SET_SECUREBITS");
    capng_clear(CAPNG_SELECT_BOUNDS);
    if (capng_apply(CAPNG_SELECT_BOUNDS) != 0) return proto::system_error("capng_apply", "bounding set");
    return {};
}

}  // namespace

Result<std::string> set_limits() {
    const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
    if (::setrlimit(RLIMIT_CORE, &no_core) != 0) return proto::system_error("setrlimit", "RLIMIT_CORE");
    rlimit descriptors{};
    if (::getrlimit(RLIMIT_NOFILE, &descriptors) != 0)
        return proto::system_error("getrlimit", "RLIMIT_NOFILE");
    const rlim_t hard = descriptors.rlim_max;
    descriptors.rlim_max = descriptors.rlim_cur = std::max<rlim_t>(hard, wanted_descriptors);
    if (::setrlimit(RLIMIT_NOFILE, &descriptors) == 0) return std::string();
    if (errno != EPERM) return proto::system_error("setrlimit", "RLIMIT_NOFILE");
    descriptors.rlim_max = descriptors.rlim_cur = hard;
    if (::setrlimit(RLIMIT_NOFILE, &descriptors) != 0)
        return proto::system_error("setrlimit", "RLIMIT_NOFILE");
    return fmt::format("at most {} descriptors, {} were wanted", hard, wanted_descriptors);
}

Result<std::uint64_t> permitted_capabilities() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, 2> data{};
    if (::syscall(SYS_capget, &header, data.data()) != 0) return proto::system_error("capget");
    return std::uint64_t{data[1].permitted} << 32 | data[0].permitted;
}

Result<void> require_root_capabilities() {
    if (::geteuid() != 0) return {};
    const auto permitted = permitted_capabilities();
    if (!permitted) return std::unexpected(permitted.error());
    std::string lacking, options;
    for (const int capability : needed_by_root) {
        if ((*permitted & capability_bit(capability)) != 0) continue;
        std::string name = capability_names(capability_bit(capability));
        std::ranges::transform(name, name.begin(),
                               [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
        lacking += (lacking.empty() ? "CAP_" : ", CAP_") + name;
        options += " --cap-add " + name;
    }
    if (lacking.empty()) return {};
    return proto::system_error(
        "capabilities",
        fmt::format(
            "{} missing, which an opener of root's needs (docker run{}; systemd: CapabilityBoundingSet=)",
            lacking.contains(',') ? lacking + " are" : lacking + " is", options),
        0);
}

Result<std::string> drop_privileges(const BrokerAccount& account, std::uint64_t capabilities) {
    int death_signal = 0;
    if (::prctl(PR_GET_PDEATHSIG, &death_signal) != 0)
        return proto::system_error("prctl", "PR_GET_PDEATHSIG");
    const auto permitted = permitted_capabilities();
    if (!permitted) return std::unexpected(permitted.error());
    std::string shortcoming;
    if ((*permitted & capability_bit(CAP_SETPCAP)) != 0) {
        if (const auto closed = close_ways_back(); !closed) return std::unexpected(closed.error());
    } else {
        shortcoming = "bounding set and securebits stay: no CAP_SETPCAP";
    }
    if (account.changes) {
        if (const auto became = become(account); !became) return std::unexpected(became.error());
    }
    if (const auto kept = keep_capabilities(capabilities); !kept) return std::unexpected(kept.error());
    if (::prctl(PR_SET_DUMPABLE, 0) != 0) return proto::system_error("prctl", "PR_SET_DUMPABLE");
    if (::prctl(PR_SET_PDEATHSIG, death_signal) != 0) return proto::system_error("prctl", "PR_SET_PDEATHSIG");
    return shortcoming;
}

}  // namespace fdbroker::opener
