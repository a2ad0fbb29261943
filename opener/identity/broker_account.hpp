// SPDX-License-Identifier: MIT
// Whom the broker runs as.
#pragma once

#include <sys/types.h>

#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "proto/error.hpp"

namespace fdbroker::opener {

struct BrokerAccount {
    uid_t uid = 0;
    gid_t gid = 0;
    std::string name{};  // empty: the uid has no account
    // False: the process is not root's and stays what it is; uid and gid are its own.
    bool changes = true;
};

// Uids that nobody has, found at once: processes under them are looked for again before each use.
inline constexpr std::size_t spare_accounts = 16;

// The accounts that the broker may have, at least one: --user NAME (`user`), else the account `fdbroker`, else spare ones.
// Spare uids, from 61184 to 65519, and gids of the same number, are nobody's: no account, group or running process has
// them. A process of the same uid could signal the broker and set its limits. Without root: the caller's own account.
// Reads the account database and /proc, so it may block.
// system: ENOENT (no such account), EINVAL (the account is root), EPERM (no root, and another user), EAGAIN (every uid of
// the range is in use).
proto::Result<std::vector<BrokerAccount>> find_accounts(const std::optional<std::string>& user);

// The first of `accounts` that is no spare uid, or one that no running process has and `avoided` does not hold. Two calls
// choose two uids while a process runs under the first. Reads /proc alone; where all are in use, asks as find_accounts().
proto::Result<BrokerAccount> choose_account(std::span<const BrokerAccount> accounts,
                                            const std::set<uid_t>& avoided = {});

// A uid of the range that no running process has, and the gid of that number, without asking the account database.
proto::Result<BrokerAccount> unassigned_account();

// find_accounts() and choose_account().
proto::Result<BrokerAccount> choose_account(const std::optional<std::string>& user);

}  // namespace fdbroker::opener
