// SPDX-License-Identifier: MIT
// The account database of the system.
#pragma once

#include <sys/types.h>

#include <cstdint>
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
        gid_t gid = 0;  // the primary group's
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

    // "": the database says that it has no name; nothing: the database does not answer.
    std::optional<std::string> name_of_user(uid_t uid) const;
    std::optional<std::string> name_of_group(gid_t gid) const;
};

}  // namespace fdbroker::opener
