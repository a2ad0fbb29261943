// SPDX-License-Identifier: MIT
// What the account database said while a policy was loaded, so that the same policy can be loaded again without it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "opener/identity/accounts.hpp"

namespace fdbroker::opener {

// By name; nothing: there is no such account.
struct AccountAnswers {
    std::map<std::string, std::optional<std::uint32_t>> users{};
    std::map<std::string, std::optional<std::uint32_t>> groups{};
};

// Answers from `answers`; asks `source` for what is not there, and notes what that says. Without a source an account that
// was never asked for does not exist, and no number has a name.
class AccountMemory final : public policy::Accounts {
  public:
    explicit AccountMemory(AccountAnswers& answers, const SystemAccounts* source = nullptr) noexcept
        : answers_(answers), source_(source) {}

    std::optional<std::uint32_t> uid_of(const std::string& user) const override;
    std::optional<std::uint32_t> gid_of(const std::string& group) const override;
    // Not noted: only the tests of a policy ask, which have run when it is loaded again.
    std::optional<policy::UserRecord> record_of(std::uint32_t uid) const override {
        return source_ == nullptr ? std::nullopt : source_->record_of(uid);
    }
    std::optional<std::string> group_name_of(std::uint32_t gid) const override {
        return source_ == nullptr ? std::nullopt : source_->group_name_of(gid);
    }

  private:
    AccountAnswers& answers_;
    const SystemAccounts* source_;
};

}  // namespace fdbroker::opener
