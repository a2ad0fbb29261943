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

// Of uids that nobody has, so many are found at once: what runs under them is looked at again before each use.
inline constexpr std::size_t spare_accounts = 16;

// --user NAME (`user`), else the account `fdbroker`, else spare uids from 61184 to 65519 (and gids of the same
// number) that no account, no group and no running process has: a process of the same uid could signal the
// broker and set its limits. Not for root: the caller's own. At least one. Reads the account database and /proc, so it may
// block.
// system: ENOENT (no such account), EINVAL (the account is root), EPERM (not root, and `user` is someone else), EAGAIN
// (every uid of the range is in use).
proto::Result<std::vector<BrokerAccount>> find_accounts(const std::optional<std::string>& user);

// The first of `accounts` that is no spare uid, or one that no running process has and `avoided` does not hold. Two calls
// choose two uids while a process runs under the first. Reads /proc alone; where all are in use, asks as find_accounts().
proto::Result<BrokerAccount> choose_account(std::span<const BrokerAccount> accounts,
                                            const std::set<uid_t>& avoided = {});

// A uid of the range, and the gid of its number, that no running process has, without asking the account database.
proto::Result<BrokerAccount> unassigned_account();

// find_accounts() and choose_account().
proto::Result<BrokerAccount> choose_account(const std::optional<std::string>& user);

}  // namespace fdbroker::opener
