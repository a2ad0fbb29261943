// SPDX-License-Identifier: MIT
// The account database as the loader asks it, so that policy/ itself reads no files and tests bring their own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fdbroker::policy {

// A user with the groups that a login would give it.
struct UserRecord {
    std::string name{};
    std::uint32_t gid = 0;
    std::string group{};  // of gid; empty: it has no name
    std::vector<std::uint32_t> groups{};
};

class Accounts {
  public:
    virtual ~Accounts() = default;
    virtual std::optional<std::uint32_t> uid_of(const std::string& user) const = 0;
    virtual std::optional<std::uint32_t> gid_of(const std::string& group) const = 0;
    // Completes the peers of a policy's tests and of explanations; nothing: the uid has no name.
    virtual std::optional<UserRecord> record_of(std::uint32_t) const { return std::nullopt; }
};

}  // namespace fdbroker::policy
