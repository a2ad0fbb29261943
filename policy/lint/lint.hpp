// SPDX-License-Identifier: MIT
// What is legal in a policy but unwise. The findings and their names: fdbroker-policy(5), "Findings".
#pragma once

#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/matching/accounts.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

struct Finding {
    std::string_view name{};  // by which the rule can silence it
    const Rule* rule = nullptr;
    std::string text{};
    std::string what() const;  // "file:line:column: rule "a": text [name]"
};

// The directories of this machine, as lint asks for them.
class Disk {
  public:
    struct Facts {
        std::uint32_t uid = 0;
        std::uint32_t mode = 0;  // permission bits
        // Why a name in it may lead to an object that bears another; empty: it takes names byte by byte.
        std::string_view folds{};
    };
    // Why a directory is not there; empty texts: it does not exist.
    struct Missing {
        std::string link{};  // a link keeps it from being found: which, where it leads, what to write instead
        std::string other{};  // cannot be reached: why
    };
    virtual ~Disk() = default;
    virtual std::expected<Facts, Missing> directory(const std::string& path) const = 0;
};

// A directory that is bound for those below it that rules name, since they are too many.
struct WideDirectory {
    std::string path;
    std::string text;  // by how much it is wider than the rules
};

// In file order. Borrows the policy. Without a disk the findings that need one are left out. Takes time that grows
// with the square of the number of wildcard patterns in a directory. May block as the accounts and the disk do.
std::vector<Finding> lint(const Policy& policy, const Accounts& accounts, const Disk* disk,
                          std::span<const WideDirectory> wide = {});

}  // namespace fdbroker::policy
