// SPDX-License-Identifier: MIT
#include "opener/identity/accounts.hpp"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <expected>
#include <utility>
#include <vector>

namespace fdbroker::opener {

namespace {

constexpr int max_groups = 65536;  // NGROUPS_MAX
// A group with very many members; above it the entry counts as missing.
constexpr std::size_t max_buffer = std::size_t{16} << 20;

// Calls `lookup(entry, buffer, size, result)`, a getXXnam_r(3), with as much room as it needs. Returns what `use` makes of
// the entry, or the error; 0: there is no entry.
template <typename Entry, typename Lookup, typename Use>
auto ask(const Lookup& lookup, const Use& use) -> std::expected<decltype(use(Entry{})), int> {
    for (std::size_t size = 4096; size <= max_buffer; size *= 2) {
        std::vector<char> buffer(size);
        Entry entry{};
        Entry* result = nullptr;
        const int error = lookup(&entry, buffer.data(), buffer.size(), &result);
        if (error == ERANGE) continue;
        if (error != 0 || result == nullptr) return std::unexpected(error);
        return use(entry);
    }
    return std::unexpected(0);
}

// As above; nothing after any error.
template <typename Entry, typename Lookup, typename Use>
auto look_up(const Lookup& lookup, const Use& use) -> std::optional<decltype(use(Entry{}))> {
    auto found = ask<Entry>(lookup, use);
    return found ? std::optional(std::move(*found)) : std::nullopt;
}

template <typename Entry, typename Lookup>
std::optional<std::string> name(const Lookup& lookup, char* Entry::* member) {
    const auto found = ask<Entry>(lookup, [&](const Entry& entry) { return std::string(entry.*member); });
    if (found) return *found;
    // getpwuid_r(3): these, too, say that there is no such entry.
    for (const int none : {0, ENOENT, ESRCH, EBADF, EPERM})
        if (found.error() == none) return std::string();
    return std::nullopt;
}

SystemAccounts::User user_of(const passwd& entry) {
    return {entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir, entry.pw_shell};
}

}  // namespace

std::optional<SystemAccounts::User> SystemAccounts::find_user(const std::string& name) const {
    return look_up<passwd>(
        [&](passwd* entry, char* buffer, std::size_t size, passwd** result) {
            return ::getpwnam_r(name.c_str(), entry, buffer, size, result);
        },
        user_of);
}

std::optional<SystemAccounts::User> SystemAccounts::find_user(uid_t uid) const {
    return look_up<passwd>([&](passwd* entry, char* buffer, std::size_t size,
                               passwd** result) { return ::getpwuid_r(uid, entry, buffer, size, result); },
                           user_of);
}

bool SystemAccounts::has_user(uid_t uid) const {
    return find_user(uid).has_value();
}

bool SystemAccounts::has_group(gid_t gid) const {
    return look_up<::group>([&](::group* entry, char* buffer, std::size_t size,
                                ::group** result) { return ::getgrgid_r(gid, entry, buffer, size, result); },
                            [](const ::group&) { return true; })
        .has_value();
}

std::optional<std::uint32_t> SystemAccounts::uid_of(const std::string& user) const {
    const auto found = find_user(user);
    return found ? std::optional<std::uint32_t>(found->uid) : std::nullopt;
}

std::optional<std::uint32_t> SystemAccounts::gid_of(const std::string& group) const {
    return look_up<::group>(
        [&](::group* entry, char* buffer, std::size_t size, ::group** result) {
            return ::getgrnam_r(group.c_str(), entry, buffer, size, result);
        },
        [](const ::group& entry) { return std::uint32_t{entry.gr_gid}; });
}

std::optional<policy::UserRecord> SystemAccounts::record_of(std::uint32_t uid) const {
    auto record = look_up<passwd>(
        [&](passwd* entry, char* buffer, std::size_t size, passwd** result) {
            return ::getpwuid_r(uid, entry, buffer, size, result);
        },
        [](const passwd& entry) { return policy::UserRecord{.name = entry.pw_name, .gid = entry.pw_gid}; });
    if (!record) return std::nullopt;
    record->group = group_name_of(record->gid).value_or("");
    int count = 64;
    record->groups.resize(static_cast<std::size_t>(count));
    while (::getgrouplist(record->name.c_str(), record->gid, record->groups.data(), &count) < 0) {
        if (static_cast<std::size_t>(count) <= record->groups.size() || count > max_groups) {
            count = 0;
            break;
        }
        record->groups.resize(static_cast<std::size_t>(count));
    }
    record->groups.resize(static_cast<std::size_t>(count));
    return record;
}

std::optional<std::string> SystemAccounts::group_name_of(std::uint32_t gid) const {
    return look_up<::group>([&](::group* entry, char* buffer, std::size_t size,
                                ::group** result) { return ::getgrgid_r(gid, entry, buffer, size, result); },
                            [](const ::group& entry) { return std::string(entry.gr_name); });
}

std::optional<std::string> SystemAccounts::name_of_user(uid_t uid) const {
    return name<passwd>([&](passwd* entry, char* buffer, std::size_t size,
                            passwd** result) { return ::getpwuid_r(uid, entry, buffer, size, result); },
                        &passwd::pw_name);
}

std::optional<std::string> SystemAccounts::name_of_group(gid_t gid) const {
    return name<::group>([&](::group* entry, char* buffer, std::size_t size,
                             ::group** result) { return ::getgrgid_r(gid, entry, buffer, size, result); },
                         &::group::gr_name);
}

}  // namespace fdbroker::opener
