// SPDX-License-Identifier: MIT
// The counters of a generation in words: for Prometheus, and as JSON.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "opener/audit/audit_trail.hpp"
#include "opener/helpers/helper_pool.hpp"
#include "opener/metrics/metrics.hpp"
#include "opener/request/shadow.hpp"

namespace fdbroker::opener {

// Numbers that Metrics does not count, as they are at the moment of the report.
struct Gauges {
    std::uint32_t generation = 0;
    std::chrono::system_clock::time_point opener_started{};
    std::chrono::system_clock::time_point generation_started{};
    std::uint64_t sessions = 0;
    std::uint64_t descriptors_in_flight = 0;
    std::uint64_t slowed_users = 0;
    std::uint64_t generations_started = 0;  // since the opener started, as the next five
    std::uint64_t crashes = 0;
    std::uint64_t reloads = 0;
    std::uint64_t failed_reloads = 0;
    std::optional<std::chrono::system_clock::time_point> last_reload{};  // none: there was none
    bool last_reload_failed = false;
    std::string policy_digest{};
    struct ConfinementLayer {
        std::string_view layer{}, state{};
    };
    std::vector<ConfinementLayer> layers{};
    // The use of resources when processes were last looked at.
    struct Usage {
        std::string_view process{};
        std::uint32_t processes = 0;  // 0: they have not been looked at
        std::uint64_t resident = 0;
        std::uint64_t descriptors = 0;  // 0: not known
    };
    std::vector<Usage> usage{};
    std::uint64_t connections_refused = 0;  // their users had as many as they may have
    std::uint64_t connection_waits = 0;     // times that there was no room for another
    std::size_t helpers = 0;
    std::size_t stuck_helpers = 0;
    std::size_t background_helpers = 0;
    std::size_t waiting_tasks = 0;
    HelperCounters helper_counts{};
    AuditCounts audit_counts{};
    Shadow::Counts shadow{};  // zeros: no candidate decides beside the policy
    bool has_shadow = false;
    std::uint64_t control_clients = 0;
    std::uint64_t watchers = 0;
    std::uint64_t lost_watch_records = 0;
    std::uint64_t next_record = 0;  // the number that the next audit record bears; 0: nothing is recorded
};

// Rules that have been used. Of more than these only the most used are named; the others are added up.
inline constexpr std::size_t max_rules_reported = 1000;

// The text format 0.0.4, whatever may stand in a rule's name escaped.
std::string to_prometheus(const Metrics& metrics, const Gauges& gauges);
nlohmann::json to_json(const Metrics& metrics, const Gauges& gauges);

}  // namespace fdbroker::opener
