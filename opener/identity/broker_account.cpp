// SPDX-License-Identifier: MIT
#include "opener/identity/broker_account.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

#include "opener/identity/accounts.hpp"
#include "opener/identity/unused_uid.hpp"

namespace fdbroker::opener {

namespace {

using proto::Result;

constexpr const char* own_account_name = "fdbroker";

bool is_spare(const BrokerAccount& account) noexcept {
    return account.changes && account.name.empty();
}

// At most `most` uids that `taken` does not hold and `is_taken` says no to.
Result<std::vector<BrokerAccount>> find_spare(std::set<std::uint32_t> taken, std::size_t max_count,
                                              const std::function<bool(uid_t)>& is_taken) {
    std::vector<BrokerAccount> found;
    // From anywhere in the range, so that two openers that start at once do not meet.
    std::uint32_t offset = 0;
    if (::getrandom(&offset, sizeof offset, 0) != sizeof offset) return proto::system_error("getrandom");
    while (found.size() < max_count) {
        const auto uid = find_unused_uid(
            offset, [&](uid_t candidate) { return taken.contains(candidate) || is_taken(candidate); });
        if (!uid) break;
        found.push_back({.uid = *uid, .gid = *uid, .name = {}, .changes = true});
        taken.insert(*uid);
        offset = *uid - first_unassigned_uid + 1;
    }
    if (!found.empty()) return found;
    return proto::system_error("account",
                               fmt::format("every uid from {} to {} is in use: create the user {}",
                                           first_unassigned_uid, last_unassigned_uid, own_account_name),
                               EAGAIN);
}

bool is_assigned(uid_t uid) {
    const SystemAccounts database;
    return database.has_user(uid) || database.has_group(uid);
}

}  // namespace

Result<std::vector<BrokerAccount>> find_accounts(const std::optional<std::string>& user) {
    const auto named = SystemAccounts().find_user(user.value_or(own_account_name));
    if (user && !named) return proto::system_error("account", "no user " + *user, ENOENT);
    if (::geteuid() != 0) {
        if (user && named->uid != ::geteuid()) {
            return proto::system_error("account", "only root can run the broker as " + *user, EPERM);
        }
        return std::vector{
            BrokerAccount{.uid = ::geteuid(), .gid = ::getegid(), .name = {}, .changes = false}};
    }
    if (!named) return find_spare(ids_of_processes(), spare_accounts, is_assigned);
    if (named->uid == 0)
        return proto::system_error("account", named->name + " is root: the broker is not", EINVAL);
    return std::vector{
        BrokerAccount{.uid = named->uid, .gid = named->gid, .name = named->name, .changes = true}};
}

Result<BrokerAccount> choose_account(std::span<const BrokerAccount> accounts,
                                     const std::set<uid_t>& avoided) {
    std::set<std::uint32_t> running;
    for (const BrokerAccount& account : accounts) {
        if (!is_spare(account)) return account;
        if (running.empty()) running = ids_of_processes();
        if (!running.contains(account.uid) && !avoided.contains(account.uid)) return account;
    }
    running.insert(avoided.begin(), avoided.end());
    auto more = find_spare(std::move(running), 1, is_assigned);
    if (!more) return std::unexpected(more.error());
    return more->front();
}

Result<BrokerAccount> unassigned_account() {
    auto found = find_spare(ids_of_processes(), 1, [](uid_t) { return false; });
    if (!found) return std::unexpected(found.error());
    return found->front();
}

Result<BrokerAccount> choose_account(const std::optional<std::string>& user) {
    const auto accounts = find_accounts(user);
    if (!accounts) return std::unexpected(accounts.error());
    return choose_account(*accounts);
}

}  // namespace fdbroker::opener
