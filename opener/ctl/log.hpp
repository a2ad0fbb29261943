// SPDX-License-Identifier: MIT
// `openerctl log`, and `why` for what the opener no longer remembers: records from the audit log.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "opener/ctl/failure.hpp"

namespace fdbroker::ctl {

struct LogOptions {
    std::string control{};  // the socket of the opener, which says where its log is
    std::string file{};     // the log; empty: the opener's
    std::string user{};     // a name or a uid
    std::string path{};     // a glob, as in policies
    std::string rule{};     // which granted or denied
    std::string since{};
    bool refused = false;
    bool json = false;
};
// Prints the records that are wanted, the oldest first; json: as they stand in the log. exit_done, also when there are none;
// exit_usage: an option means nothing.
Ending print_log(const LogOptions& options);

// The last record with that number in the log and what it was rotated to. Empty: there is none.
std::expected<std::optional<nlohmann::json>, Failure> recorded(const std::string& file,
                                                               std::uint64_t sequence);

}  // namespace fdbroker::ctl
