// SPDX-License-Identifier: MIT
#include "opener/identity/account_memory.hpp"

namespace fdbroker::opener {

std::optional<std::uint32_t> AccountMemory::uid_of(const std::string& user) const {
    if (const auto known = answers_.users.find(user); known != answers_.users.end()) return known->second;
    if (source_ == nullptr) return std::nullopt;
    return answers_.users[user] = source_->uid_of(user);
}

std::optional<std::uint32_t> AccountMemory::gid_of(const std::string& group) const {
    if (const auto known = answers_.groups.find(group); known != answers_.groups.end()) return known->second;
    if (source_ == nullptr) return std::nullopt;
    return answers_.groups[group] = source_->gid_of(group);
}

}  // namespace fdbroker::opener
