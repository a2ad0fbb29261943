// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "opener/confinement/confinement.hpp"
#include "opener/confinement/unused_uid.hpp"
#include "opener/identity/accounts.hpp"

namespace fdbroker::opener {

namespace {

using proto::Result;

constexpr const char* own_account_name = "fdbroker";

Result<BrokerAccount> unassigned_account(const SystemAccounts& accounts) {
    const std::set<std::uint32_t> running = ids_of_processes();
    // From anywhere in the range, so that two openers that start at once do not meet.
    std::uint32_t offset = 0;
    if (::getrandom(&offset, sizeof offset, 0) != sizeof offset) return proto::system_error("getrandom");
    const auto uid = find_unused_uid(offset, [&](uid_t candidate) {
        return running.contains(candidate) || accounts.has_user(candidate) || accounts.has_group(candidate);
    });
    if (!uid) {
        return proto::system_error("account",
                                   fmt::format("every uid from {} to {} is in use: create the user {}",
                                               first_unassigned_uid, last_unassigned_uid, own_account_name),
                                   EAGAIN);
    }
    return BrokerAccount{.uid = *uid, .gid = *uid, .name = {}, .changes = true};
}

}  // namespace

Result<BrokerAccount> choose_account(const std::optional<std::string>& user) {
    const SystemAccounts accounts;
    const auto named = accounts.find_user(user.value_or(own_account_name));
    if (user && !named) return proto::system_error("account", "no user " + *user, ENOENT);
    if (::geteuid() != 0) {
        if (user && named->uid != ::geteuid()) {
            return proto::system_error("account", "only root can run the broker as " + *user, EPERM);
        }
        return BrokerAccount{.uid = ::geteuid(), .gid = ::getegid(), .name = {}, .changes = false};
    }
    if (!named) return unassigned_account(accounts);
    if (named->uid == 0)
        return proto::system_error("account", named->name + " is root: the broker is not", EINVAL);
    return BrokerAccount{.uid = named->uid, .gid = named->gid, .name = named->name, .changes = true};
}

}  // namespace fdbroker::opener
