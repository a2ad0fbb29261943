// SPDX-License-Identifier: MIT
// The account database of the system.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "policy/matching/accounts.hpp"

namespace fdbroker::opener {

// Asks getpwnam_r(3) and its like, and so whatever nsswitch.conf names: it may block, read files and open
// sockets. Not for the confined broker. A database that does not answer counts as one without the entry.
class SystemAccounts final : public policy::Accounts {
  public:
    struct User {
        uid_t uid = 0;
        gid_t gid = 0;  // of its primary group
        std::string name{};
        std::string home{};
        std::string shell{};
    };
    std::optional<User> find_user(const std::string& name) const;
    std::optional<User> find_user(uid_t uid) const;
    bool has_user(uid_t uid) const;
    bool has_group(gid_t gid) const;

    std::optional<std::uint32_t> uid_of(const std::string& user) const override;
    std::optional<std::uint32_t> gid_of(const std::string& group) const override;
    // With the groups of getgrouplist(3).
    std::optional<policy::UserRecord> record_of(std::uint32_t uid) const override;
    std::optional<std::string> group_name_of(std::uint32_t gid) const override;
};

// The names of all uids and gids as they were at one moment: what the confined broker knows of peers that
// come later. Where two names share a number, the first counts, as it does for getpwuid(3).
class AccountNames {
  public:
    // Of a directory service with more entries than these only the first are known.
    static constexpr std::size_t max_entries = 65536;

    AccountNames() = default;
    // Reads the whole database by getpwent(3) and getgrent(3); blocks like them.
    static AccountNames take();

    // Empty: no name. Valid as long as this object.
    const std::string& user(std::uint32_t uid) const noexcept { return name_of(users_, uid); }
    const std::string& group(std::uint32_t gid) const noexcept { return name_of(groups_, gid); }

  private:
    using Names = std::map<std::uint32_t, std::string>;
    static const std::string& name_of(const Names& names, std::uint32_t id) noexcept;

    Names users_{};
    Names groups_{};
};

}  // namespace fdbroker::opener
