// The account database as the loader asks it, so that policy/ itself reads no files and tests bring their own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace fdbroker::policy {

class Accounts {
  public:
    virtual ~Accounts() = default;
    virtual std::optional<std::uint32_t> uid_of(const std::string& user) const = 0;
    virtual std::optional<std::uint32_t> gid_of(const std::string& group) const = 0;
};

}  // namespace fdbroker::policy
