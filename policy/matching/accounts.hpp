// SPDX-License-Identifier: MIT
// The account database as the loader asks it, so that policy/ itself reads no files and tests bring their own.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

namespace fdbroker::policy {

// (uid_t)-1 and (gid_t)-1 belong to nobody, chown(2): the id of an account that does not exist.
inline constexpr std::uint32_t no_account = 0xffffffff;

// A user with the groups that a login would give it.
struct UserRecord {
    std::string name{};
    std::uint32_t gid = 0;
    std::string group{};  // the name of gid; empty: none
    std::vector<std::uint32_t> groups{};
};

class Accounts {
  public:
    virtual ~Accounts() = default;
    virtual std::optional<std::uint32_t> uid_of(const std::string& user) const = 0;
    virtual std::optional<std::uint32_t> gid_of(const std::string& group) const = 0;
    // Completes the peers of a policy's tests and of explanations; nothing: the uid has no name.
    virtual std::optional<UserRecord> record_of(std::uint32_t) const { return std::nullopt; }
    // Nothing: the gid has no name.
    virtual std::optional<std::string> group_name_of(std::uint32_t) const { return std::nullopt; }
};

// A user or group as somebody wrote it: by name, or by decimal number.
struct AccountId {
    std::uint32_t id = no_account;
    bool by_name = false;
};

// Why a text names no account; `text` quotes it and says what to do.
struct AccountError {
    enum class Kind : std::uint8_t {
        no_id,       // a number that no account can have
        missing,     // no account has this name
        two_senses,  // a number that is also the name of an account with another id
    };
    Kind kind = Kind::missing;
    std::string text{};
};

// A decimal number without a sign or a leading zero is an id, anything else a name.
std::expected<AccountId, AccountError> find_user(const Accounts& accounts, const std::string& text);
std::expected<AccountId, AccountError> find_group(const Accounts& accounts, const std::string& text);

}  // namespace fdbroker::policy
