// SPDX-License-Identifier: MIT
#include "opener/identity/accounts.hpp"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <vector>

namespace fdbroker::opener {

namespace {

constexpr int max_groups = 65536;  // NGROUPS_MAX
// A group with very many members; above it the entry counts as missing.
constexpr std::size_t max_buffer = std::size_t{16} << 20;

// Calls `lookup(entry, buffer, size, result)`, a getXXnam_r(3), with as much room as it needs, and returns what
// `use` makes of the entry.
template <typename Entry, typename Lookup, typename Use>
auto look_up(const Lookup& lookup, const Use& use) -> std::optional<decltype(use(Entry{}))> {
    for (std::size_t size = 4096; size <= max_buffer; size *= 2) {
        std::vector<char> buffer(size);
        Entry entry{};
        Entry* result = nullptr;
        const int error = lookup(&entry, buffer.data(), buffer.size(), &result);
        if (error == ERANGE) continue;
        if (error != 0 || result == nullptr) return std::nullopt;
        return use(entry);
    }
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

AccountNames AccountNames::take() {
    AccountNames names;
    ::setpwent();
    while (names.users_.size() < max_entries) {
        const passwd* const entry = ::getpwent();
        if (entry == nullptr) break;
        names.users_.try_emplace(entry->pw_uid, entry->pw_name);
    }
    ::endpwent();
    ::setgrent();
    while (names.groups_.size() < max_entries) {
        const ::group* const entry = ::getgrent();
        if (entry == nullptr) break;
        names.groups_.try_emplace(entry->gr_gid, entry->gr_name);
    }
    ::endgrent();
    return names;
}

const std::string& AccountNames::name_of(const Names& names, std::uint32_t id) noexcept {
    static const std::string none;
    const auto found = names.find(id);
    return found == names.end() ? none : found->second;
}

}  // namespace fdbroker::opener
