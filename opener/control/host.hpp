// SPDX-License-Identifier: MIT
// What the control socket tells about a broker, and asks of it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "opener/audit/audit_ring.hpp"
#include "opener/audit/audit_trail.hpp"
#include "opener/confinement/confinement.hpp"
#include "opener/confinement/widen.hpp"
#include "opener/control/metrics_report.hpp"
#include "opener/helpers/helper_pool.hpp"
#include "opener/link/generation_start.hpp"
#include "opener/link/messages.hpp"
#include "opener/metrics/metrics.hpp"
#include "opener/request/session_use.hpp"
#include "opener/request/shadow.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

// A worker's connection.
struct SessionFacts {
    ConnectionId connection_id = 0;
    pid_t pid = 0;  // 0: the process had ended before it could be identified
    const policy::PeerIdentity* identity = nullptr;
    std::vector<std::string_view> roles{};
    const SessionUse* use = nullptr;
    std::size_t unread_descriptors = 0;
};

// A user whose audit records take more bytes than `limits: record_bytes_per_second` allows, and who has to wait.
struct SlowedUser {
    std::uint32_t uid = 0;
    std::string user{};  // empty: the uid has no name
    std::chrono::steady_clock::time_point since{};
};

// Facts that stay the same as long as a generation lives.
struct GenerationFacts {
    const policy::Policy& policy;
    std::string policy_digest{};  // the sources' (load_policy.hpp)
    const GenerationStart& start;
    ConfinementReport confinement{};
    BrokerAccount account{};
    std::string capabilities{};
    std::vector<DormantDirectory> dormant{};
    struct Wide {
        std::string path;
        Width width{};
    };
    std::vector<Wide> wide{};              // the directories that are bound in place of those that rules name
    std::vector<std::string> tolerated{};  // tolerated_lines()
    std::chrono::system_clock::time_point started{};
    const Shadow* shadow = nullptr;  // null: no candidate decides beside the policy
};

class ControlHost {
  public:
    virtual ~ControlHost() = default;
    // As they are now; what they point to is valid until the host serves somebody again.
    virtual std::vector<SessionFacts> sessions() const = 0;
    virtual std::size_t session_count() const = 0;
    virtual std::vector<SlowedUser> slowed_users() const = 0;  // by uid
    virtual std::size_t descriptors_in_flight() const = 0;
    virtual const Metrics& metrics() const = 0;
    virtual const AuditCounts& audit_counts() const = 0;
    virtual const HelperPool& helpers() const = 0;
    // Sends a message to the supervisor; may block while that is slow.
    virtual void tell(const ToSupervisor& message) = 0;
};

}  // namespace fdbroker::opener
